"""Asynchronous events reach their functions: after failures, in bursts, over a stop and over a kill."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from clients import eventually, refused
from embedded_aws import Embedded
from uploads import WRITE_DOWN, Uploads

from helpers.local_aws import control

BURST = 200
# Fails until the notes of its event say that it has been tried often enough.
UNSTEADY = """
import os, boto3
s3 = boto3.client("s3")
attempts = {}
def handler(event, context):
    n = attempts[context.aws_request_id] = attempts.get(context.aws_request_id, 0) + 1
    if n < int(os.environ["SUCCEEDS_AT"]):
        raise RuntimeError(f"attempt {n}")
    s3.put_object(Bucket=os.environ["NOTES"], Key=f"{context.aws_request_id}/{n}", Body=b"{}")
"""


def made(embedded: Any, source: str = WRITE_DOWN, **environment: str) -> Uploads:
    uploads = Uploads(embedded, source, **environment)
    uploads.permit()
    uploads.notify()
    return uploads


def burst(uploads: Uploads, count: int = BURST) -> None:
    with ThreadPoolExecutor(20) as senders:
        list(senders.map(lambda n: uploads.put(f"{n}"), range(count)))


def waiting(embedded: Embedded) -> list[Path]:
    return list((embedded.state_dir / "lambda" / "events").iterdir())


def test_a_function_that_fails_twice_is_tried_until_it_succeeds(embedded: Any) -> None:
    uploads = made(embedded, UNSTEADY, SUCCEEDS_AT="3")
    uploads.put("k")
    eventually(uploads.deliveries)
    eventually(lambda: len(uploads.starts()) == 3)
    assert {*uploads.starts()} == {*uploads.deliveries()}  # one event, one id


def test_a_function_that_always_fails_is_given_up(embedded: Any) -> None:
    uploads = made(embedded, UNSTEADY, SUCCEEDS_AT="9")
    uploads.put("k")
    eventually(lambda: len(uploads.starts()) == 3)
    [request_id] = {*uploads.starts()}
    eventually(lambda: request_id in (embedded.state_dir / "server.log").read_text())
    eventually(lambda: not [file for file in waiting(embedded) if request_id in file.name])
    assert uploads.deliveries().total() == 0


def test_a_burst_loses_and_doubles_nothing(embedded: Any) -> None:
    uploads = made(embedded)
    burst(uploads)
    keys = [record["s3"]["object"]["key"] for record in uploads.records(BURST)]
    assert sorted(keys, key=int) == [str(n) for n in range(BURST)]
    assert {*uploads.deliveries().values()} == {1}


def test_an_invocation_has_one_id_for_all_who_see_it(embedded: Any) -> None:
    uploads = Uploads(embedded)
    event = json.dumps({"Records": [{}]}).encode()
    answers = [
        uploads.lambdas.invoke(FunctionName=uploads.name, InvocationType=kind, Payload=event)
        for kind in ("Event", "RequestResponse")
    ]
    eventually(lambda: uploads.deliveries().total() == 2)
    assert {*uploads.deliveries()} == {answer["ResponseMetadata"]["RequestId"] for answer in answers}


def test_an_event_has_its_largest_size(embedded: Any) -> None:
    uploads = Uploads(embedded)
    large = {"FunctionName": uploads.name, "InvocationType": "Event", "Payload": b'"%s"' % (b"x" * 2**20)}
    code, message = refused(lambda: uploads.lambdas.invoke(**large))
    assert (code, "1048578 byte payload" in message) == ("RequestTooLargeException", True)


def test_reserved_concurrency_holds_for_events(embedded: Any) -> None:
    uploads = made(embedded, SLEEP="0.3")
    uploads.lambdas.put_function_concurrency(FunctionName=uploads.name, ReservedConcurrentExecutions=1)
    started = time.monotonic()
    burst(uploads, 4)
    assert len(uploads.records(4)) == 4
    assert time.monotonic() - started >= 1.2
    uploads.lambdas.put_function_concurrency(FunctionName=uploads.name, ReservedConcurrentExecutions=0)
    uploads.put("never")
    log = embedded.state_dir / "server.log"
    eventually(lambda: f"{uploads.function} may not run at all" in log.read_text())
    uploads.lambdas.delete_function_concurrency(FunctionName=uploads.name)
    uploads.put("again")
    assert uploads.keys(5)[-1] == "again"


def test_a_dead_letter_queue_is_refused_rather_than_forgotten(embedded: Any) -> None:
    uploads = Uploads(embedded)
    config = {"TargetArn": "arn:aws:sqs:us-east-1:123456789012:q"}
    code, message = refused(
        lambda: uploads.lambdas.update_function_configuration(FunctionName=uploads.name, DeadLetterConfig=config)
    )
    assert (code, "DeadLetterConfig" in message) == ("NotImplemented", True)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """Return the state folder of an embedded AWS that the test starts, stops and kills."""
    yield tmp_path / "state"
    control.stop(tmp_path / "state")


def start(folder: Path) -> Embedded:
    return Embedded(control.start(folder)[0])


def again(uploads: Uploads, embedded: Embedded) -> Uploads:
    uploads.s3, uploads.lambdas, uploads.logs = (embedded.client(name) for name in ("s3", "lambda", "logs"))
    return uploads


def slow(embedded: Embedded, at_once: int = 4) -> Uploads:
    """Make a function for which the events of a burst wait long enough to be found waiting."""
    uploads = made(embedded, SLEEP="2")
    uploads.lambdas.put_function_concurrency(FunctionName=uploads.name, ReservedConcurrentExecutions=at_once)
    return uploads


def hurry(uploads: Uploads) -> None:
    """Let the function take no time for what is left."""
    variables = {"Variables": {"NOTES": uploads.notes}}
    uploads.lambdas.update_function_configuration(FunctionName=uploads.name, Environment=variables)


def test_a_stop_halfway_through_a_burst_loses_nothing(own: Path) -> None:
    embedded = start(own)
    uploads = slow(embedded)
    burst(uploads, 60)
    eventually(lambda: uploads.deliveries().total() >= 8)
    control.stop(own)
    left = waiting(embedded)
    assert left, "the stop came too late to show anything"
    uploads = again(uploads, start(own))
    hurry(uploads)
    records = {record["s3"]["object"]["key"] for record in at_least(uploads, 60)}
    assert records == {str(n) for n in range(60)}
    eventually(lambda: not waiting(embedded))
    # Only what was running at the stop can have come twice.
    doubled = [request for request, count in uploads.deliveries().items() if count > 1]
    assert not [request for request in doubled if not any(request in file.name for file in left)]


def test_a_kill_halfway_through_a_burst_loses_nothing(own: Path) -> None:
    uploads = slow(start(own))
    control.stop(own)  # functions and roles are saved by a stop; events and objects need none
    embedded = start(own)
    uploads = again(uploads, embedded)
    burst(uploads, 60)
    eventually(lambda: uploads.deliveries().total() >= 8)
    os.kill(embedded.server.pid, signal.SIGKILL)
    eventually(lambda: control.find(own) is None)
    assert waiting(embedded), "the kill came too late to show anything"
    uploads = again(uploads, start(own))
    hurry(uploads)
    records = {record["s3"]["object"]["key"] for record in at_least(uploads, 60)}
    assert records == {str(n) for n in range(60)}
    eventually(lambda: not waiting(embedded))


def test_sequencers_grow_over_a_restart(own: Path) -> None:
    uploads = made(start(own))
    uploads.put("k", b"first")
    uploads.records(1)
    control.stop(own)
    uploads = again(uploads, start(own))
    made_last = uploads.put("k", b"second")
    assert uploads.records(2)[-1]["s3"]["object"]["eTag"] == made_last["ETag"].strip('"')


def test_events_of_a_function_that_is_gone_are_dropped(embedded: Any) -> None:
    uploads = slow(embedded, at_once=1)
    burst(uploads, 20)
    eventually(uploads.starts)
    uploads.lambdas.delete_function(FunctionName=uploads.name)
    log = embedded.state_dir / "server.log"
    eventually(lambda: f"there is no {uploads.function}" in log.read_text())


def at_least(uploads: Uploads, count: int) -> list[dict[str, Any]]:
    eventually(lambda: len(uploads.deliveries()) >= count)
    return uploads.records(uploads.deliveries().total())
