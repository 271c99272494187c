"""Poll an activity for as many tasks as wait, and hand each to the worker function. Runs on a schedule.

An activity has no queue length to ask for. What waits is found in the executions
themselves: of each that runs, the newest events of its history. So a tick at which
nothing runs makes one call, and none sits 60 seconds in a poll that nobody answers.

Environment: ACTIVITY_ARN, STATE_MACHINE_ARNS (of all that use the activity, separated by blanks), WORKER (name of
the function).

IAM actions, and nothing else:
    states:ListExecutions           on the state machines
    states:GetExecutionHistory      on their executions
    states:GetActivityTask          on the activity
    states:SendTaskFailure          on the activity
    lambda:InvokeFunction           on the worker
    logs                            of the function itself
"""

import itertools
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

AT_ONCE = 10  # polls, and looks at histories
MOST_EXECUTIONS = 500  # that one tick looks at: the next one sees those that are left
POLL_SECONDS = 60  # that Step Functions holds a poll which finds nothing
READ_SECONDS = POLL_SECONDS + 10  # a client that hangs up earlier may lose the task that is being given to it
MARGIN_SECONDS = 5  # for handing over the task of a poll that ends late
LOOK_BACK = 20  # events of a history: more than there are between an activity's being scheduled and started
MOST_CAUSE = 32_768  # characters
# What a token cannot be used for any more: the task has ended, or its time is over.
TOO_LATE = ("TaskDoesNotExist", "TaskTimedOut", "InvalidToken")


@dataclass(frozen=True)
class Place:
    """What is polled, for whom: ARNs of the activity and of the state machines that use it, and the worker's name."""

    activity: str
    machines: Sequence[str]
    worker: str


@dataclass
class Tick:
    """What came of one tick."""

    running: int = 0
    waiting: int = 0
    handed: int = 0
    empty: int = 0
    failed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, name: str) -> None:
        """Count one more; polls run in parallel."""
        with self.lock:
            setattr(self, name, getattr(self, name) + 1)

    def counts(self) -> dict[str, int]:
        """Return all counts."""
        return {name: getattr(self, name) for name in ("running", "waiting", "handed", "empty", "failed")}


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, int]:
    """Hand over what waits. The event, EventBridge's, says just who woke the function."""
    place = Place(os.environ["ACTIVITY_ARN"], os.environ["STATE_MACHINE_ARNS"].split(), os.environ["WORKER"])
    states, functions = clients()
    counts = check(place, states, functions, lambda: context.get_remaining_time_in_millis() / 1000)
    print(json.dumps({"outcome": "checked", "by": event.get("source", "hand"), **counts}))
    return counts


@cache
def clients() -> tuple[Any, Any]:
    """Return the Step Functions and the Lambda client, made once in the life of the worker."""
    # Of many executions the histories are asked for in a burst, which Step Functions slows down.
    patient = {"mode": "standard", "max_attempts": 8}
    settings = Config(read_timeout=READ_SECONDS, max_pool_connections=AT_ONCE, retries=patient)
    return boto3.client("stepfunctions", config=settings), boto3.client("lambda", config=settings)


def waits(events: Sequence[Mapping[str, Any]]) -> bool:
    """Tell from the events of a history, newest first, whether a task waits for somebody to take it."""
    newest = next((event["type"] for event in events if event["type"].startswith("Activity")), "")
    return newest == "ActivityScheduled"


def check(place: Place, states: Any, functions: Any, remaining: Callable[[], float]) -> dict[str, int]:
    """Poll once for each task that waits, some at a time, and hand over what comes. Returns counts.

    ``remaining()``: the seconds that this invocation has left. An error of a poll is raised when
    the others have ended: what they were given has been handed over by then.
    """
    tick = Tick()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = [arn for machine in place.machines for arn in _running(states, machine)]
        tick.running = len(running)
        tick.waiting = sum(pool.map(lambda arn: _waits(states, arn), running))
        turns = iter(range(tick.waiting))
        pollers = [
            pool.submit(_poll, place, states, functions, remaining, turns, tick)
            for _ in range(min(AT_ONCE, tick.waiting))
        ]
    for poller in pollers:
        poller.result()
    return tick.counts()


def hand_over(task: Mapping[str, Any], place: Place, states: Any, functions: Any) -> bool:
    """Give a task to the worker; if that fails, fail the task, so that nobody waits for its timeout."""
    event = {"token": task["taskToken"], "input": json.loads(task["input"])}
    try:
        functions.invoke(FunctionName=place.worker, InvocationType="Event", Payload=json.dumps(event))
    except (ClientError, BotoCoreError) as error:
        reason = f"{place.worker} was not invoked: {error}"
        print(json.dumps({"outcome": "not handed over", "reason": reason}))
        _fail(states, task["taskToken"], reason)
        return False
    return True


def _running(states: Any, machine: str) -> list[str]:
    pages = states.get_paginator("list_executions").paginate(stateMachineArn=machine, statusFilter="RUNNING")
    found = (execution["executionArn"] for page in pages for execution in page["executions"])
    return list(itertools.islice(found, MOST_EXECUTIONS))


def _waits(states: Any, execution: str) -> bool:
    try:
        history = states.get_execution_history(executionArn=execution, reverseOrder=True, maxResults=LOOK_BACK)
    except states.exceptions.ExecutionDoesNotExist:
        return False  # its state machine was deleted
    return waits(history["events"])


def _poll(place: Place, states: Any, functions: Any, remaining: Callable[[], float], turns: Any, tick: Tick) -> None:
    """Take turns at polling until there are none left, or nothing comes any more, or the time gets short."""
    while remaining() > READ_SECONDS + MARGIN_SECONDS:
        with tick.lock:
            if next(turns, None) is None:
                return
        task = states.get_activity_task(activityArn=place.activity, workerName="activity-checker")
        if not task.get("taskToken"):
            tick.count("empty")  # somebody else was faster, such as an earlier tick
            return
        tick.count("handed" if hand_over(task, place, states, functions) else "failed")


def _fail(states: Any, token: str, reason: str) -> None:
    try:
        states.send_task_failure(taskToken=token, error="NotHandedOver", cause=reason[:MOST_CAUSE])
    except ClientError as error:
        if error.response["Error"]["Code"] not in TOO_LATE:
            raise


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    clients()  # while the worker starts
