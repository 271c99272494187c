"""Uploads while the embedded AWS is stopped and started: each has its one execution, and a result or a reason."""

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from clients import eventually, settle
from embedded_aws import Embedded
from standardization_workshop import FINAL, StandardizationWorkshop

from helpers import standardization
from helpers.local_aws import control

COUNT = 60


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """Start an embedded AWS that this test may stop and start again."""
    state_dir = tmp_path_factory.mktemp("standardize")
    server, _ = control.start(state_dir)
    yield Embedded(server)
    control.stop(state_dir)


def test_a_stop_and_start_halfway_through_a_burst_loses_nothing_and_doubles_nothing(own: Embedded) -> None:
    workshop = StandardizationWorkshop(own, "burst").build()
    workshop.notify()
    stored: list[str] = []
    enough = threading.Event()

    def upload(number: int) -> None:
        try:
            stored.append(workshop.put(f"partition_{number}.csv", b"a,b\n1,2\n3,5\n"))
        except (BotoCoreError, ClientError):
            return  # the server had gone: this one was never taken
        if len(stored) >= COUNT // 2:
            enough.set()

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(upload, number) for number in range(COUNT)]
        enough.wait(180)
        control.stop(own.state_dir)
        [future.result() for future in done]
    assert len(stored) >= COUNT // 2
    server, _ = control.start(own.state_dir)
    again = StandardizationWorkshop(Embedded(server), "burst")

    settle(again.embedded)

    def ended() -> list[dict] | None:
        arns = standardization.known_executions(again.states, again.machine_arn)
        found = [again.states.describe_execution(executionArn=arn) for arn in arns]
        return found if all(one["status"] in FINAL for one in found) else None

    executions = eventually(ended)
    keys = Counter(json.loads(one["input"])["object"]["key"] for one in executions)
    assert set(keys) >= set(stored), "an upload without an execution"
    assert set(keys.values()) == {1}, "an upload with two executions"
    failed = [one["cause"] for one in executions if one["status"] != "SUCCEEDED"]
    # Only jobs that ran at that moment, and one processor has one.
    assert len(failed) <= 2 * (os.cpu_count() or 1)
    assert all("The embedded AWS was stopped while the job was running" in cause for cause in failed), failed
