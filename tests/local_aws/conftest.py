"""The tests in this folder use the session fixture ``embedded`` of tests/conftest.py (class Embedded)."""
