"""Register: which upload of a metainfo.json starts a state machine, and which does not."""

import json
import urllib.parse
from typing import Any

import pytest
from answers import Aws, in_turn, refuse
from ec2_worker import ACCOUNT, EXECUTION, MACHINE, NOON, MemoryTable, at, record, register, units

STARTED = {"executionArn": EXECUTION, "startDate": NOON}


def s3_event(*keys: str, sequencer: str = "0A", etag: str = "e1") -> dict[str, Any]:
    thing = {"size": 10, "eTag": etag, "sequencer": sequencer}
    return {
        "Records": [
            {
                "eventName": "ObjectCreated:Put",
                "s3": {
                    "bucket": {"name": "bucket"},
                    "object": {"key": urllib.parse.quote_plus(key, safe="/"), **thing},
                },
            }
            for key in keys
        ]
    }


def deliver(table: MemoryTable, event: dict[str, Any], answer: Any = STARTED) -> tuple[dict[str, str], list[Any]]:
    """Return the decisions, and the inputs of the executions that were started."""
    aws = Aws({"stepfunctions:StartExecution": answer})
    decisions = register.register(event, table, aws.client("stepfunctions"), MACHINE)["decisions"]
    return decisions, [json.loads(asked["input"]) for asked in aws.asked("stepfunctions:StartExecution")]


def test_the_first_upload_records_the_unit_and_starts_its_execution() -> None:
    table = MemoryTable()
    decisions, started = deliver(table, s3_event("d/u/metainfo.json"))
    assert decisions == {"d/u/metainfo.json": "start"}
    assert started == [{"unit": "d/u", "bucket": "bucket", "key": "d/u/metainfo.json"}]
    made = table.records["d/u"]
    name = register.Upload("bucket", "d/u/metainfo.json", "e1", "0A").execution
    assert made == {
        "Unit": "d/u",
        "Bucket": "bucket",
        "MetainfoKey": "d/u/metainfo.json",
        "ETag": "e1",
        "Sequencer": "0A",
        "CreatedAt": at(0),
        "UpdatedAt": at(0),
        "JobStatus": "Received",
        "StatusHistory": [{"status": "Received", "at": at(0)}],
        "Execution": f"arn:aws:states:{ACCOUNT}:execution:demo-exp-ec2-worker:{name}",
    }


def test_the_same_event_starts_one_execution_only_whatever_became_of_it() -> None:
    table = MemoryTable()
    deliver(table, s3_event("d/u/metainfo.json"))
    for status in ("WorkerStarting", "WorkerRunning", "WorkerFinished", "WorkerFailed"):
        table.records["d/u"]["JobStatus"] = status
        assert deliver(table, s3_event("d/u/metainfo.json")) == ({"d/u/metainfo.json": "delivered before"}, [])


def test_a_start_that_failed_is_done_when_lambda_tries_again() -> None:
    table = MemoryTable()
    with pytest.raises(register.UnitsLost, match="AccessDeniedException"):
        deliver(table, s3_event("d/u/metainfo.json"), refuse("AccessDeniedException", "not authorized"))
    assert table.records["d/u"]["JobStatus"] == "Received"
    decisions, started = deliver(table, s3_event("d/u/metainfo.json"))
    assert decisions == {"d/u/metainfo.json": "start again"}
    assert len(started) == 1


def test_an_execution_of_that_name_that_has_ended_is_no_error() -> None:
    decisions, _ = deliver(MemoryTable(), s3_event("d/u/metainfo.json"), refuse("ExecutionAlreadyExists"))
    assert decisions == {"d/u/metainfo.json": "start"}


@pytest.mark.parametrize("status", ["Received", "WorkerStarting", "WorkerRunning"])
def test_a_second_upload_while_the_unit_is_in_progress_starts_nothing_then_and_later(status: str) -> None:
    table = MemoryTable(record(status))
    event = s3_event("d/u/metainfo.json", etag="e2")
    assert deliver(table, event) == ({"d/u/metainfo.json": "the unit is in progress"}, [])
    table.records["d/u"]["JobStatus"] = "WorkerFailed"
    older = {"d/u/metainfo.json": "older than the upload that was registered"}
    assert deliver(table, event) == (older, [])  # the same event once more


def test_an_upload_after_a_failure_starts_the_unit_again_and_its_history_goes_on() -> None:
    table = MemoryTable(record("WorkerFailed", Reason="it broke", InstanceId="i-1"), seconds=60)
    decisions, started = deliver(table, s3_event("d/u/metainfo.json"))
    assert (decisions, len(started)) == ({"d/u/metainfo.json": "start"}, 1)
    made = table.records["d/u"]
    assert [entry["status"] for entry in made["StatusHistory"]] == ["WorkerFailed", "Received"]
    assert (made["CreatedAt"], made["UpdatedAt"]) == (at(0), at(60))
    assert "Reason" not in made
    assert "InstanceId" not in made


@pytest.mark.parametrize(("etag", "decision"), [("e1", "finished with the same content"), ("e2", "start")])
def test_after_success_only_another_content_starts_the_unit_again(etag: str, decision: str) -> None:
    table = MemoryTable(record("WorkerFinished"))
    decisions, started = deliver(table, s3_event("d/u/metainfo.json", etag=etag))
    assert decisions == {"d/u/metainfo.json": decision}
    assert len(started) == (decision == "start")


def test_an_older_upload_that_arrives_late_starts_nothing() -> None:
    table = MemoryTable(record("WorkerFailed", Sequencer="0B"))
    decisions, started = deliver(table, s3_event("d/u/metainfo.json", sequencer="0A", etag="e0"))
    assert (decisions, started) == ({"d/u/metainfo.json": "older than the upload that was registered"}, [])


@pytest.mark.parametrize(("one", "other", "later"), [("0B", "0A", True), ("0A", "0A", False), ("0A1", "0A", True)])
def test_sequencers_are_compared_from_the_left(one: str, other: str, later: bool) -> None:
    assert register.is_later(one, other) is later


@pytest.mark.parametrize(
    "key",
    [
        "metainfo.json",
        "u/metainfo.json",
        "a/d/u/metainfo.json",
        "results/u/metainfo.json",
        "d/../metainfo.json",
        "d/u v/metainfo.json",
        "d/ü/metainfo.json",
        f"{'d' * 64}/u/metainfo.json",
    ],
)
def test_a_key_that_names_no_unit_is_refused_and_recorded_nowhere(key: str) -> None:
    table = MemoryTable()
    decisions, started = deliver(table, s3_event(key))
    assert decisions[key].startswith("refused: ")
    assert (table.records, started) == ({}, [])


def test_one_unit_that_cannot_be_registered_does_not_lose_the_others() -> None:
    table = MemoryTable()
    answer = in_turn(refuse("ThrottlingException"), STARTED)
    with pytest.raises(register.UnitsLost, match="ThrottlingException"):
        deliver(table, s3_event("d/u1/metainfo.json", "d/u2/metainfo.json"), answer)
    assert set(table.records) == {"d/u1", "d/u2"}


@pytest.mark.parametrize("event", [{}, {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "bucket"}])
def test_an_event_without_records_starts_nothing(event: dict[str, Any]) -> None:
    assert deliver(MemoryTable(), event) == ({}, [])


def test_of_two_that_register_at_once_the_second_decides_again() -> None:
    class Contended(MemoryTable):
        def find(self, unit: str) -> dict[str, Any] | None:
            found = super().find(unit)
            if not found:  # somebody else writes between our reading and our writing
                self.records[unit] = record("WorkerStarting", Sequencer="0B")
            return found

    assert deliver(Contended(), s3_event("d/u/metainfo.json")) == (
        {"d/u/metainfo.json": "older than the upload that was registered"},
        [],
    )


def test_a_record_changes_only_on_its_conditions() -> None:
    aws = Aws({"dynamodb:UpdateItem": {}})
    table = units.Table(aws.client("dynamodb"), "table", lambda: NOON)
    table.change("d/u", execution=EXECUTION, expected=["Received"], status="WorkerFailed", reason="it broke")
    [asked] = aws.asked("dynamodb:UpdateItem")
    assert asked["ConditionExpression"] == "Execution = :execution AND JobStatus IN (:expected0)"
    assert asked["UpdateExpression"] == (
        "SET UpdatedAt = :UpdatedAt, JobStatus = :JobStatus, StatusHistory = list_append(StatusHistory, :entry),"
        " Reason = :Reason"
    )
    entry = {"status": {"S": "WorkerFailed"}, "at": {"S": at(0)}, "reason": {"S": "it broke"}}
    assert asked["ExpressionAttributeValues"] == {
        ":execution": {"S": EXECUTION},
        ":UpdatedAt": {"S": at(0)},
        ":JobStatus": {"S": "WorkerFailed"},
        ":entry": {"L": [{"M": entry}]},
        ":Reason": {"S": "it broke"},
        ":expected0": {"S": "Received"},
    }


def test_a_refused_condition_is_told_from_other_errors() -> None:
    aws = Aws({"dynamodb:UpdateItem": in_turn(refuse("ConditionalCheckFailedException"), refuse("AccessDenied"))})
    table = units.Table(aws.client("dynamodb"), "table")
    with pytest.raises(units.RecordChanged):
        table.change("d/u", execution=EXECUTION, expected=["Received"], InstanceId="i-1")
    with pytest.raises(Exception, match="AccessDenied"):
        table.change("d/u", execution=EXECUTION, expected=["Received"], InstanceId="i-1")


def test_a_record_is_written_only_where_none_is_or_instead_of_the_known_one() -> None:
    aws = Aws({"dynamodb:PutItem": {}})
    table = units.Table(aws.client("dynamodb"), "table")
    table.put(record("Received"), instead_of=None)
    table.put(record("Received"), instead_of=record("WorkerFailed", Sequencer="07"))
    first, second = aws.asked("dynamodb:PutItem")
    assert first["ConditionExpression"] == "attribute_not_exists(#unit)"
    assert second["ConditionExpression"] == "JobStatus = :status AND Sequencer = :sequencer"
    assert second["ExpressionAttributeValues"] == {":status": {"S": "WorkerFailed"}, ":sequencer": {"S": "07"}}
