"""Fixtures of the tests: an embedded AWS of their own, never the one that a user has running."""

from collections.abc import Iterator

import pytest
from embedded_aws import Embedded

from helpers.local_aws import control


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """Start an embedded AWS with a state folder and a port of its own, and stop it after the last test."""
    state_dir = tmp_path_factory.mktemp("embedded-aws")
    server, _ = control.start(state_dir)
    yield Embedded(server)
    control.stop(state_dir)
