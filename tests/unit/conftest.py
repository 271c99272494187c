"""Who runs what is isolated: root, and an ordinary user."""

import os
from typing import TYPE_CHECKING

import pytest
from users import NOBODY, why_not

if TYPE_CHECKING:
    from machine_room import Inside


@pytest.fixture(params=["root", "ordinary user"])
def user(request: pytest.FixtureRequest) -> int:
    """Each kind of user that this machine can isolate processes for."""
    if request.param == "root" and os.getuid() != 0:
        pytest.skip("not root")
    number = 0 if request.param == "root" else os.getuid() or NOBODY
    if reason := why_not(number):
        pytest.skip(f"no namespaces for {request.param}: {reason}")
    return number


@pytest.fixture
def inside(user: int) -> "Inside":
    """Act in a room of each user's own."""
    from machine_room import enter  # all that runs instances and containers, which most tests have no use for

    return lambda act: enter(user, act)


@pytest.fixture
def at_home() -> "Inside":
    """Act in a room of whoever runs the tests, whose Python can be read."""
    from machine_room import enter

    if reason := why_not(os.getuid()):
        pytest.skip(reason)
    return lambda act: enter(os.getuid(), act)
