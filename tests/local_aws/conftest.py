"""The tests in this folder use the session fixture ``embedded`` of tests/conftest.py (class Embedded)."""

from typing import Any

import pytest
from workshop import Workshop


@pytest.fixture(scope="session")
def workshop(embedded: Any) -> Workshop:
    """Build notebook 02's pipeline once."""
    return Workshop(embedded, "demo-exp").build()
