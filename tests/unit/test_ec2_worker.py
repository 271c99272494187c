"""The EC2 worker's functions: what is refused, what is launched, how long is waited, and that everything is ended."""

import gzip
import io
import json
import re
from base64 import b64decode, b64encode
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from answers import Aws, in_turn, refuse
from ec2_worker import (
    EXECUTION,
    FOLDER,
    MACHINE,
    NOON,
    TOPIC,
    MemoryTable,
    at,
    definition,
    finish,
    launch,
    metainfo,
    outcome,
    poll,
    reap,
    record,
    template,
    units,
    workers,
)

NAME = EXECUTION.rpartition(":")[2]
UNIT = units.Unit("d", "u")
GOOD = {"device": "d", "unit": "u", "data": ["data.csv"], "target": "income"}
EVENT = {"unit": "d/u", "bucket": "bucket", "key": "d/u/metainfo.json", "execution": EXECUTION}
SETTINGS = {
    "STACK": "demo-exp-ec2-worker",
    "WORKSHOP": "demo-exp",
    "IMAGE": "ami-1",
    "INSTANCE_TYPE": "t3.micro",
    "SUBNET": "subnet-1",
    "SECURITY_GROUP": "sg-1",
    "PROFILE": "profile",
    "HEARTBEAT_SECONDS": "20",
    "POLL_SECONDS": "5",
}
LIMITS = poll.Limits(heartbeat=20, start=300, total=900)


def instance(number: int = 1, state: str = "running", execution: str = NAME, unit: str = "d/u", age: int = 0) -> dict:
    tags = {"stack": SETTINGS["STACK"], "unit": unit, "execution": execution}
    return {
        "InstanceId": f"i-{number}",
        "State": {"Name": state},
        "LaunchTime": NOON - timedelta(seconds=age),
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }


def listed(*instances: dict) -> dict:
    return {"Reservations": [{"Instances": [one]} for one in instances]}


# Checking and launching


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "metainfo.json is not JSON"),
        (b"\xff", "metainfo.json is not JSON"),
        (b"[" * 10_000, "metainfo.json is not JSON"),
        (b"[]", "holds no object"),
        (b" " * 20_000, "has more than 16,384 bytes"),
        ({"target": None}, "target is not the name of a column"),
        ({"device": ...}, "device is missing"),
        ({"unit": "v"}, "unit is not 'u', as in the key"),
        ({"data": ["../other/data.csv"]}, "'../other/data.csv': not the name of a file beside metainfo.json"),
        ({"data": ["metainfo.json"]}, "'metainfo.json': not the name of a file"),
        ({"data": [{}]}, "'{}': not the name of a file"),
        ({"data": []}, "data is not a list of 1 to 16 file names"),
        ({"data": ["a.csv", "a.csv"]}, "data names a file twice"),
        ({"stall_seconds": True}, "stall_seconds is not a whole number"),
        ({"stall_seconds": 1e9}, "stall_seconds is not a whole number"),
        ({"tagret": "x"}, "unknown fields: tagret"),
    ],
)
def test_a_bad_metainfo_is_refused_and_the_reason_says_what_is_wrong(body: Any, problem: str) -> None:
    if isinstance(body, dict):
        body = json.dumps({name: value for name, value in (GOOD | body).items() if value is not ...}).encode()
    with pytest.raises(metainfo.UnitRefused) as refused:
        metainfo.read(body, UNIT)
    assert problem in str(refused.value)
    assert len(str(refused.value)) < units.LONGEST_REASON


def prepare(aws: Aws, body: dict[str, Any] | None = None, found: bool = True) -> None:
    content = json.dumps(body or GOOD).encode()
    files = {"Contents": [{"Key": "d/u/data.csv", "Size": 9}]} if found else {"Contents": [{"Key": "d/u/data.csv2"}]}
    aws.answers |= {
        "s3:GetObject": lambda _: {"Body": io.BytesIO(content), "ETag": '"e2"'},
        "s3:ListObjectsV2": files,
        "ec2:RunInstances": {"Instances": [{"InstanceId": "i-1"}]},
    }


def run_launch(aws: Aws, table: MemoryTable) -> dict[str, Any]:
    return launch.launch(EVENT, table, aws.client("s3"), aws.client("ec2"), SETTINGS)


def test_a_unit_is_launched_as_one_instance_of_the_stack() -> None:
    aws, table = Aws({}), MemoryTable(record("Received"))
    prepare(aws)
    assert run_launch(aws, table) == {"instance": "i-1", "poll_seconds": 5}
    [asked] = aws.asked("ec2:RunInstances")
    assert (asked["MinCount"], asked["MaxCount"], asked["ClientToken"]) == (1, 1, NAME)
    assert asked["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert asked["MetadataOptions"]["HttpTokens"] == "required"
    [volume] = asked["BlockDeviceMappings"]
    assert volume["Ebs"] == {"VolumeSize": 20, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    tags = {tag["Key"]: tag["Value"] for tag in asked["TagSpecifications"][0]["Tags"]}
    assert tags == {
        "Name": "Worker Instance",
        "workshop": "demo-exp",
        "stack": "demo-exp-ec2-worker",
        "unit": "d/u",
        "execution": NAME,
    }
    made = table.records["d/u"]
    assert (made["JobStatus"], made["InstanceId"], made["ETag"]) == ("WorkerStarting", "i-1", "e2")
    assert [entry["status"] for entry in made["StatusHistory"]] == ["Received", "WorkerStarting"]


def test_a_launch_that_is_tried_again_asks_for_the_same_instance() -> None:
    aws, table = Aws({}), MemoryTable(record("Received"))
    prepare(aws)
    aws.answers["ec2:RunInstances"] = in_turn(refuse("RequestTimeout"), aws.answers["ec2:RunInstances"])
    with pytest.raises(Exception, match="RequestTimeout"):
        run_launch(aws, table)
    assert run_launch(aws, table)["instance"] == "i-1"
    first, second = aws.asked("ec2:RunInstances")
    assert first == second
    assert [entry["status"] for entry in table.records["d/u"]["StatusHistory"]] == ["Received", "WorkerStarting"]


@pytest.mark.parametrize("code", launch.NO_CAPACITY)
def test_no_room_for_an_instance_is_an_error_of_its_own_that_is_waited_out(code: str) -> None:
    aws, table = Aws({}), MemoryTable(record("Received"))
    prepare(aws)
    aws.answers["ec2:RunInstances"] = refuse(code)
    with pytest.raises(launch.NoCapacity, match=code):
        run_launch(aws, table)
    [retry] = [one for one in definition()["States"]["launch"]["Retry"] if "NoCapacity" in one["ErrorEquals"]]
    pauses = [min(retry["IntervalSeconds"] * 2**n, retry["MaxDelaySeconds"]) for n in range(retry["MaxAttempts"])]
    assert 240 < sum(pauses) < template()["Parameters"]["StartSeconds"]["Default"] / 2, "an instance still has to start"


@pytest.mark.parametrize("case", ["data", "metainfo", "record", "status", "execution", "key"])
def test_nothing_is_launched_for_a_unit_that_cannot_be_worked_on(case: str) -> None:
    aws, table = Aws({}), MemoryTable(record("Received"))
    prepare(aws, GOOD | {"data": ["/etc/passwd"]} if case == "metainfo" else None, found=case != "data")
    event = EVENT | ({"key": "d/v/metainfo.json"} if case == "key" else {})
    if case == "record":
        table.records.clear()
    elif case == "status":
        table.records["d/u"]["JobStatus"] = "WorkerFinished"
    elif case == "execution":
        table.records["d/u"]["Execution"] += "1"
    with pytest.raises((metainfo.UnitRefused, units.RecordGone, units.RecordChanged)):
        launch.launch(event, table, aws.client("s3"), aws.client("ec2"), SETTINGS)
    assert not aws.asked("ec2:RunInstances")
    assert all(one["JobStatus"] != "WorkerStarting" for one in table.records.values())


def test_the_longest_job_fits_into_the_user_data() -> None:
    long = "n" * 63
    body = {"device": long, "unit": long, "target": "ß" * metainfo.MAX_TARGET, "stall_seconds": metainfo.MAX_STALL}
    body["data"] = [f"{number:02}".ljust(64, "x") for number in range(metainfo.MAX_FILES)]
    unit = units.Unit(long, long)
    read = metainfo.read(json.dumps(body).encode(), unit)
    event = {"bucket": "b" * 63, "execution": f"arn:aws:states:{'x' * 150}:{'e' * 80}"}
    text = launch.user_data(launch._job(event, read, unit, "t" * 100, SETTINGS))
    assert len(text.encode()) <= 16_384
    assert "@JOB@" not in text
    assert text.startswith("#!/bin/bash\n")


def test_what_a_user_chose_is_in_the_user_data_as_base64_only() -> None:
    nasty = "$(reboot)`'\"\nWORKER\n@WORKER@"
    text = launch.user_data({"target": nasty})
    assert "reboot" not in text
    job, worker = re.findall(r"^([A-Za-z0-9+/=]{20,})$", text, re.M)
    assert json.loads(b64decode(job)) == {"target": nasty}
    assert gzip.decompress(b64decode(worker)) == (FOLDER / "worker.py").read_bytes()


# Waiting


def judge(status: str, seconds: float, **more: Any) -> bool:
    return poll.judge(record(status, **more), EXECUTION, at(0), LIMITS, NOON + timedelta(seconds=seconds))


@pytest.mark.parametrize("status", ["WorkerFinished", "WorkerFailed"])
def test_a_final_status_ends_the_wait_even_after_the_limit(status: str) -> None:
    assert judge(status, 10_000) is True


def test_a_worker_that_sends_heartbeats_is_waited_for() -> None:
    assert judge("WorkerRunning", 320, HeartbeatAt=at(300)) is False
    assert judge("WorkerStarting", 300) is False


@pytest.mark.parametrize(
    ("status", "seconds", "error"),
    [
        ("WorkerRunning", 321, poll.HeartbeatLost("no heartbeat for more than 20 seconds")),
        ("WorkerStarting", 301, poll.WorkerLate("did not begin within 300 seconds")),
        ("WorkerRunning", 901, poll.LimitReached("not finished in 900 seconds")),
        ("Finished?", 1, units.RecordChanged("'Finished?', which is none")),
    ],
)
def test_a_wait_that_is_too_long_is_an_error_of_its_own(status: str, seconds: int, error: Exception) -> None:
    with pytest.raises(type(error), match=re.escape(str(error))):
        judge(status, seconds, HeartbeatAt=at(300))


def test_a_record_that_is_gone_or_anothers_is_an_error() -> None:
    with pytest.raises(units.RecordGone):
        poll.judge(None, EXECUTION, at(0), LIMITS, NOON)
    with pytest.raises(units.RecordChanged, match="another execution"):
        judge("WorkerRunning", 1, Execution="another")


# Finishing


def run_finish(aws: Aws, table: MemoryTable, *, error: Any = None, launched: bool = True) -> dict[str, Any]:
    state: dict[str, Any] = {"unit": "d/u"}
    state |= {"launched": {"instance": "i-1", "poll_seconds": 5}} if launched else {}
    state |= {"error": error} if error else {}
    event = {"state": state, "execution": EXECUTION}
    return finish.finish(event, table, aws.client("ec2"), aws.client("sns"), SETTINGS["STACK"], TOPIC)


def finish_answers() -> Aws:
    return Aws(
        {
            "ec2:TerminateInstances": {"TerminatingInstances": []},
            "ec2:DescribeInstances": listed(instance()),
            "sns:Publish": {"MessageId": "1"},
        }
    )


LOST = {"Error": "HeartbeatLost", "Cause": json.dumps({"errorMessage": "no heartbeat", "errorType": "HeartbeatLost"})}


def test_a_finished_unit_ends_its_instance_and_tells_its_results() -> None:
    aws = finish_answers()
    table = MemoryTable(record("WorkerFinished", Results="s3://bucket/r/", Metrics={"accuracy": Decimal("0.8")}))
    assert run_finish(aws, table) == {"status": "WorkerFinished", "reason": ""}
    assert aws.asked("ec2:TerminateInstances") == [{"InstanceIds": ["i-1"]}]
    [told] = aws.asked("sns:Publish")
    assert told["TopicArn"] == TOPIC
    assert told["Subject"] == "WorkerFinished: d/u"
    assert json.loads(told["Message"]) == {
        "unit": "d/u",
        "status": "WorkerFinished",
        "reason": "",
        "results": "s3://bucket/r/",
        "metrics": {"accuracy": 0.8},
        "execution": EXECUTION,
    }


def test_a_caught_error_fails_the_unit_with_its_reason() -> None:
    aws, table = finish_answers(), MemoryTable(record("WorkerRunning"))
    assert run_finish(aws, table, error=LOST) == {"status": "WorkerFailed", "reason": "HeartbeatLost: no heartbeat"}
    made = table.records["d/u"]
    assert (made["JobStatus"], made["Reason"]) == ("WorkerFailed", "HeartbeatLost: no heartbeat")
    assert json.loads(aws.asked("sns:Publish")[0]["Message"])["reason"] == "HeartbeatLost: no heartbeat"


def test_a_launch_that_was_not_answered_still_has_its_instance_ended() -> None:
    aws, table = finish_answers(), MemoryTable(record("WorkerStarting"))
    run_finish(aws, table, error={"Error": "States.Timeout", "Cause": ""}, launched=False)
    assert aws.asked("ec2:TerminateInstances") == [{"InstanceIds": ["i-1"]}]
    filters = {each["Name"]: each["Values"] for each in aws.asked("ec2:DescribeInstances")[0]["Filters"]}
    assert (filters["tag:stack"], filters["tag:execution"]) == ([SETTINGS["STACK"]], [NAME])
    assert table.records["d/u"]["Reason"] == "States.Timeout"


def test_a_worker_that_finished_before_its_error_was_handled_has_finished() -> None:
    aws, table = finish_answers(), MemoryTable(record("WorkerFinished"))
    assert run_finish(aws, table, error=LOST)["status"] == "WorkerFinished"


def test_a_record_that_is_gone_or_anothers_is_left_alone_and_the_instance_ended() -> None:
    for table in (MemoryTable(), MemoryTable(record("WorkerRunning", Execution="another"))):
        aws, before = finish_answers(), dict(table.records)
        assert run_finish(aws, table, error=LOST)["status"] == "WorkerFailed"
        assert table.records == before
        assert aws.asked("ec2:TerminateInstances")


@pytest.mark.parametrize("name", ["ec2:TerminateInstances", "ec2:DescribeInstances", "sns:Publish"])
def test_one_call_that_fails_does_not_keep_the_others_from_being_made(name: str) -> None:
    aws, table = finish_answers(), MemoryTable(record("WorkerRunning"))
    aws.answers[name] = refuse("UnauthorizedOperation", "not authorized to perform: it")
    with pytest.raises(finish.FinishFailed, match=f"{name.partition(':')[2]} operation: not authorized"):
        run_finish(aws, table, error=LOST)
    assert table.records["d/u"]["JobStatus"] == "WorkerFailed"
    assert {"ec2:TerminateInstances", "ec2:DescribeInstances", "sns:Publish"} == set(aws.names())


def test_who_cannot_read_how_the_unit_ended_says_so_to_the_topic() -> None:
    class Unreadable(MemoryTable):
        def find(self, unit: str) -> dict[str, Any] | None:
            raise PermissionError("not authorized to perform: dynamodb:GetItem")

    aws = finish_answers()
    with pytest.raises(finish.FinishFailed, match="dynamodb:GetItem"):
        run_finish(aws, Unreadable(record("WorkerFinished")))
    told = json.loads(aws.asked("sns:Publish")[0]["Message"])
    expected = "how the unit ended could not be read: PermissionError: not authorized to perform: dynamodb:GetItem"
    assert (told["status"], told["reason"]) == ("WorkerFailed", expected)


LATE = {"Error": "WorkerLate", "Cause": json.dumps({"errorMessage": "its instance's console says more"})}
DENIED = "the instance's script failed while the worker was at work: exit code 1: dynamodb:UpdateItem"
CONSOLE = {"InstanceId": "i-1", "Output": b64encode(f"[ 9.1] cloud-init[2]: {DENIED}\nlogin:\n".encode()).decode()}


@pytest.mark.parametrize(
    ("console", "reason"),
    [
        (CONSOLE, f": {DENIED}"),
        ({"InstanceId": "i-1", "Output": b64encode(b"still starting\n").decode()}, ""),
        ({"InstanceId": "i-1"}, ""),
    ],
)
def test_a_worker_that_never_spoke_has_its_console_read_before_its_end(console: dict[str, Any], reason: str) -> None:
    aws, table = finish_answers(), MemoryTable(record("WorkerStarting"))
    aws.answers["ec2:GetConsoleOutput"] = console
    run_finish(aws, table, error=LATE)
    assert table.records["d/u"]["Reason"] == f"WorkerLate: its instance's console says more{reason}"
    assert aws.names().index("ec2:GetConsoleOutput") < aws.names().index("ec2:TerminateInstances")


def test_an_instance_without_the_latest_console_gives_its_older_one() -> None:
    def console(params: dict[str, Any]) -> dict[str, Any]:
        return refuse("UnsupportedOperation")(params) if params.get("Latest") else CONSOLE

    assert workers.last_words(Aws({"ec2:GetConsoleOutput": console}).client("ec2"), "i-1") == DENIED


def test_a_console_that_may_not_be_read_is_no_reason_to_fail() -> None:
    aws, table = finish_answers(), MemoryTable(record("WorkerStarting"))
    aws.answers["ec2:GetConsoleOutput"] = refuse("UnauthorizedOperation", "not authorized: ec2:GetConsoleOutput")
    assert run_finish(aws, table, error=LATE)["reason"].endswith("not authorized: ec2:GetConsoleOutput")
    assert aws.asked("ec2:TerminateInstances")


def test_an_instance_that_is_forgotten_already_is_no_error() -> None:
    aws = Aws({"ec2:TerminateInstances": refuse("InvalidInstanceID.NotFound")})
    workers.end(aws.client("ec2"), ["i-1"])
    assert aws.names() == ["ec2:TerminateInstances"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"Error": "States.Timeout", "Cause": ""}, "States.Timeout"),
        ({"Error": "A", "Cause": "plain text"}, "A: plain text"),
        ({"Error": "A", "Cause": "[1]"}, "A: [1]"),
        ({"Error": "A", "Cause": json.dumps({"errorMessage": "m"})}, "A: m"),
    ],
)
def test_a_reason_is_one_line_of_the_error(error: dict[str, str], reason: str) -> None:
    assert outcome.reason_of(error) == reason


# Reaping


def run_reap(table: MemoryTable, instances: list[dict], execution: Any) -> tuple[dict[str, Any], Aws]:
    aws = Aws(
        {
            "ec2:DescribeInstances": listed(*instances),
            "ec2:TerminateInstances": {"TerminatingInstances": []},
            "stepfunctions:DescribeExecution": {"status": execution} if isinstance(execution, str) else execution,
            "sns:Publish": {"MessageId": "1"},
        }
    )
    services = reap.Services(
        aws.client("ec2"), aws.client("stepfunctions"), aws.client("sns"), SETTINGS["STACK"], TOPIC, MACHINE
    )
    return reap.reap(table, services, timedelta(seconds=900)), aws


NOTHING: dict[str, Any] = {"ended": {}, "failed": {}}
UNKNOWN = refuse("ExecutionDoesNotExist")


def test_a_worker_that_is_needed_is_left_alone() -> None:
    done, aws = run_reap(MemoryTable(record("WorkerRunning", InstanceId="i-1")), [instance()], "RUNNING")
    assert done == NOTHING
    assert not aws.asked("ec2:TerminateInstances")


def test_an_execution_that_was_stopped_ends_its_worker_fails_its_unit_and_is_told() -> None:
    table = MemoryTable(record("WorkerRunning", InstanceId="i-1"))
    done, aws = run_reap(table, [instance()], "ABORTED")
    reason = "its execution ended before it: ABORTED"
    assert done == {"ended": {"i-1": "its execution does not run"}, "failed": {"d/u": reason}}
    assert table.records["d/u"]["Reason"] == reason
    assert json.loads(aws.asked("sns:Publish")[0]["Message"])["status"] == "WorkerFailed"


def test_a_worker_that_is_over_age_is_ended() -> None:
    done, _ = run_reap(MemoryTable(record("WorkerRunning", InstanceId="i-1")), [instance(age=901)], "RUNNING")
    assert done["ended"] == {"i-1": "older than the limit"}


def test_a_worker_whose_unit_is_final_is_ended() -> None:
    done, _ = run_reap(MemoryTable(record("WorkerFinished", InstanceId="i-1")), [instance()], "RUNNING")
    assert done == {"ended": {"i-1": "its unit is final"}, "failed": {}}


def test_a_worker_of_the_stack_without_an_execution_is_ended() -> None:
    done, _ = run_reap(MemoryTable(), [instance(execution="", unit="")], UNKNOWN)
    assert done["ended"] == {"i-1": "its execution does not run"}


@pytest.mark.parametrize("found", [[instance(state="terminated")], [instance(state="shutting-down")], []])
def test_a_unit_whose_instance_is_gone_fails_and_its_execution_tells_it(found: list[dict]) -> None:
    table = MemoryTable(record("WorkerRunning", InstanceId="i-1"), seconds=400)
    done, aws = run_reap(table, found, "RUNNING")
    assert done == {"ended": {}, "failed": {"d/u": "its instance is gone"}}
    assert not aws.asked("sns:Publish")


def test_an_instance_that_ec2_does_not_list_yet_is_not_gone() -> None:
    done, _ = run_reap(MemoryTable(record("WorkerStarting", InstanceId="i-1"), seconds=30), [], "RUNNING")
    assert done == NOTHING


@pytest.mark.parametrize(("seconds", "failed"), [(60, {}), (700, {"d/u": "its execution was never started"})])
def test_a_unit_whose_execution_was_never_started_fails_after_a_while(seconds: int, failed: dict[str, str]) -> None:
    done, _ = run_reap(MemoryTable(record("Received"), seconds=seconds), [], UNKNOWN)
    assert done["failed"] == failed


def test_a_worker_that_cannot_be_ended_does_not_keep_others_and_units_from_their_end() -> None:
    table = MemoryTable(record("WorkerRunning", InstanceId="i-1"))
    asked = []

    def terminate(params: dict[str, Any]) -> dict[str, Any]:
        asked.extend(params["InstanceIds"])
        return refuse("UnauthorizedOperation", "not authorized to perform: ec2:TerminateInstances")({})

    aws = Aws(
        {
            "ec2:DescribeInstances": listed(instance(1), instance(2)),
            "ec2:TerminateInstances": terminate,
            "stepfunctions:DescribeExecution": {"status": "ABORTED"},
            "sns:Publish": {"MessageId": "1"},
        }
    )
    clients = (aws.client(name) for name in ("ec2", "stepfunctions", "sns"))
    with pytest.raises(reap.ReapFailed, match="not authorized to perform: ec2:TerminateInstances"):
        reap.reap(table, reap.Services(*clients, SETTINGS["STACK"], TOPIC, MACHINE), timedelta(seconds=900))
    assert asked == ["i-1", "i-2"]
    assert table.records["d/u"]["JobStatus"] == "WorkerFailed"


def test_a_reaper_that_may_not_look_at_all_still_ends_what_it_can() -> None:
    class Unreadable(MemoryTable):
        def find(self, unit: str) -> dict[str, Any] | None:
            raise PermissionError("not authorized to perform: dynamodb:GetItem")

    no_record = Unreadable(record("WorkerRunning", InstanceId="i-1"))
    denied = refuse("AccessDeniedException", "not authorized to perform: states:DescribeExecution")
    for table, execution, missing, age in (
        (no_record, {"status": "ABORTED"}, "dynamodb:GetItem", 0),
        (MemoryTable(record("WorkerFinished", InstanceId="i-1")), denied, "states:DescribeExecution", 0),
        (MemoryTable(record("WorkerRunning", InstanceId="i-1")), denied, "states:DescribeExecution", 901),
    ):
        aws = Aws(
            {
                "ec2:DescribeInstances": listed(instance(age=age)),
                "ec2:TerminateInstances": {"TerminatingInstances": []},
                "stepfunctions:DescribeExecution": execution,
                "sns:Publish": {"MessageId": "1"},
            }
        )
        clients = (aws.client(name) for name in ("ec2", "stepfunctions", "sns"))
        with pytest.raises(reap.ReapFailed, match=f"not authorized to perform: {missing}"):
            reap.reap(table, reap.Services(*clients, SETTINGS["STACK"], TOPIC, MACHINE), timedelta(seconds=900))
        assert aws.asked("ec2:TerminateInstances") == [{"InstanceIds": ["i-1"]}]
