"""The experiment as a Kedro project."""

__version__ = "0.1"
