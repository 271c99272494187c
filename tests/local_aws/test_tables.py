"""DynamoDB as the EC2 worker uses it: conditional writes, histories in lists, numbers, and what it refuses."""

import uuid
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import boto3
import pytest
from boto3.dynamodb.conditions import Attr, Key
from clients import refused

from helpers.local_aws import credentials, seam
from helpers.local_aws.seam import hooks


@pytest.fixture(scope="module")
def table(embedded: Any) -> Any:
    variables = credentials.environment(embedded.server, admin=True)
    session = boto3.session.Session(
        variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1"
    )
    resource = session.resource("dynamodb", endpoint_url=embedded.endpoint_url)
    made = resource.create_table(
        TableName=f"units-{uuid.uuid4().hex[:8]}",
        KeySchema=[{"AttributeName": "Unit", "KeyType": "HASH"}],
        AttributeDefinitions=[
            {"AttributeName": "Unit", "AttributeType": "S"},
            {"AttributeName": "JobStatus", "AttributeType": "S"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by-status",
                "KeySchema": [{"AttributeName": "JobStatus", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    made.wait_until_exists()
    return made


@pytest.fixture
def unit(table: Any) -> str:
    key = f"d/{uuid.uuid4().hex[:8]}"
    table.put_item(Item={"Unit": key, "JobStatus": "Received", "InstanceId": "i-1", "Runs": 0})
    return key


def update(table: Any, unit: str, expression: str, **more: Any) -> dict[str, Any]:
    values = {f":{name}": value for name, value in more.pop("values", {}).items()}
    given = {"ExpressionAttributeValues": values} if values else {}
    return table.update_item(
        Key={"Unit": unit}, UpdateExpression=expression, ReturnValues="ALL_NEW", **given, **more
    ).get("Attributes", {})  # fmt: skip


def says(call: Callable[[], Any], text: str) -> bool:
    code, message = refused(call)
    return code == "ValidationException" and text in message


def test_only_the_first_of_two_may_create_a_unit(table: Any, unit: str) -> None:
    with pytest.raises(table.meta.client.exceptions.ConditionalCheckFailedException) as caught:
        table.put_item(
            Item={"Unit": unit},
            ConditionExpression="attribute_not_exists(#u)",
            ExpressionAttributeNames={"#u": "Unit"},
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    assert caught.value.response["Item"]["JobStatus"] == {"S": "Received"}
    assert table.get_item(Key={"Unit": unit}, ConsistentRead=True)["Item"]["JobStatus"] == "Received"


def test_a_worker_changes_the_record_only_while_it_is_its_own(table: Any, unit: str) -> None:
    mine = Attr("InstanceId").eq("i-1") & ~Attr("JobStatus").is_in(["WorkerFinished", "WorkerFailed"])
    table.update_item(
        Key={"Unit": unit}, UpdateExpression="SET HeartbeatAt = :at", ConditionExpression=mine,
        ExpressionAttributeValues={":at": "now"},
    )  # fmt: skip
    update(table, unit, "SET JobStatus = :s", values={"s": "WorkerFailed"})
    code, _ = refused(
        lambda: table.update_item(
            Key={"Unit": unit}, UpdateExpression="SET HeartbeatAt = :at", ConditionExpression=mine,
            ExpressionAttributeValues={":at": "later"},
        )
    )  # fmt: skip
    assert code == "ConditionalCheckFailedException"


def test_a_history_grows_from_nothing(table: Any, unit: str) -> None:
    grow = "SET #h = list_append(if_not_exists(#h, :none), :more) ADD Runs :one"
    for number in (1, 2):
        found = update(
            table, unit, grow, values={"none": [], "more": [{"status": f"s{number}"}], "one": 1},
            ExpressionAttributeNames={"#h": "StatusHistory"},
        )  # fmt: skip
    assert found["StatusHistory"] == [{"status": "s1"}, {"status": "s2"}]
    assert found["Runs"] == 2
    assert "StatusHistory" not in update(table, unit, "REMOVE StatusHistory")


def test_numbers_keep_38_digits(embedded: Any, table: Any, unit: str) -> None:
    exact = Decimal("3.1415926535897932384626433832795028841")
    assert update(table, unit, "SET Metric = :n", values={"n": exact})["Metric"] == exact
    client = embedded.client("dynamodb")  # one that sends numbers as they are given
    for number, text in (("1" * 39, "38 significant digits"), ("abc", "numeric value")):
        item = {"Unit": {"S": "x"}, "n": {"N": number}}
        assert says(partial(client.put_item, TableName=table.name, Item=item), text)


def test_wrong_expressions_are_refused(table: Any, unit: str) -> None:
    for expression, values, text in (
        ("SET Status = :s", {"s": 1}, "reserved keyword"),
        ("SET a = :s", {"s": 1, "t": 1}, "unused in expressions"),
        ("SET a = :s", {}, "not defined"),
        ("SET Unit = :s", {"s": "x"}, "reserved keyword"),
        ("SET a = :s, a = :s", {"s": 1}, "paths overlap"),
        ("SET a.b = :s REMOVE a", {"s": 1}, "paths overlap"),
        ("SET a = :s SET b = :s", {"s": 1}, "can only be used once"),
        ("SET JobStatus = JobStatus + :s", {"s": 1}, "incorrect data type"),
        ("SET JobStatus = list_append(JobStatus, :s)", {"s": ["x"]}, "incorrect data type"),
        ("SET nothing.here = :s", {"s": 1}, "document path"),
        ("SET a = nothing", {}, "does not exist in the item"),
        ("ADD JobStatus :s", {"s": 1}, "incorrect data type"),
    ):
        assert says(partial(update, table, unit, expression, values=values), text), expression
    on_key = partial(update, table, unit, "SET #u = :s", values={"s": "x"})
    assert says(partial(on_key, ExpressionAttributeNames={"#u": "Unit"}), "part of the key")
    assert "a" not in table.get_item(Key={"Unit": unit})["Item"]


def test_paths_beside_each_other_do_not_overlap(table: Any, unit: str) -> None:
    update(table, unit, "SET m = :m", values={"m": {"a": 1, "b": [1, 2]}})
    found = update(table, unit, "SET m.a = m.a + :one, m.c = :one REMOVE m.b[0]", values={"one": 1})
    assert found["m"] == {"a": 2, "b": [2], "c": 1}


def test_keys_and_sizes_are_checked(table: Any) -> None:
    assert says(lambda: table.get_item(Key={"Unit": 1}), "does not match the schema")
    assert says(lambda: table.get_item(Key={"Other": "x"}), "does not match the schema")
    assert says(lambda: table.put_item(Item={"Unit": ""}), "empty string")
    assert says(lambda: table.put_item(Item={"Unit": "big", "x": "y" * 410_000}), "Item size")
    table.put_item(Item={"Unit": "big", "x": "y" * 400_000})
    table.delete_item(Key={"Unit": "big"})


def test_an_index_and_pages(table: Any) -> None:
    status = uuid.uuid4().hex
    with table.batch_writer() as batch:
        for number in range(30):
            batch.put_item(Item={"Unit": f"{status}/{number}", "JobStatus": status, "x": "y" * 60_000})
    query = {"IndexName": "by-status", "KeyConditionExpression": Key("JobStatus").eq(status)}
    first = table.query(**query)
    assert first["Count"] < 30  # a page is 1 MB
    second = table.query(**query, ExclusiveStartKey=first["LastEvaluatedKey"])
    assert first["Count"] + second["Count"] == 30
    counted = table.scan(FilterExpression=Attr("JobStatus").eq(status), Select="COUNT")
    assert counted["ScannedCount"] >= counted["Count"]
    with table.batch_writer() as batch:
        for number in range(30):
            batch.delete_item(Key={"Unit": f"{status}/{number}"})
    assert table.query(**query)["Count"] == 0


def test_what_is_not_here_is_refused_by_name(table: Any) -> None:
    client = table.meta.client
    ttl = {"Enabled": True, "AttributeName": "t"}
    stream = {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
    for call, text in (
        (lambda: client.update_time_to_live(TableName=table.name, TimeToLiveSpecification=ttl), "UpdateTimeToLive"),
        (lambda: client.update_table(TableName=table.name, StreamSpecification=stream), "with a stream"),
        (lambda: client.execute_statement(Statement="SELECT * FROM x"), "ExecuteStatement"),
        (lambda: client.transact_write_items(TransactItems=[{"Delete": {"TableName": "t", "Key": {}}}]), "Transact"),
    ):
        code, message = refused(call)
        assert code == "NotImplemented"
        assert text in message


def test_a_table_that_is_gone_is_gone(embedded: Any) -> None:
    client, name = embedded.client("dynamodb"), f"gone-{uuid.uuid4().hex[:8]}"
    made = {
        "TableName": name,
        "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}],
        "BillingMode": "PAY_PER_REQUEST",
    }
    client.create_table(**made)
    client.get_waiter("table_exists").wait(TableName=name)
    with pytest.raises(client.exceptions.ResourceInUseException):
        client.create_table(**made)
    client.delete_table(TableName=name)
    client.get_waiter("table_not_exists").wait(TableName=name)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.describe_table(TableName=name)


def test_the_pinned_version_has_the_hooks_that_are_looked_at_later() -> None:
    seam.check_hooks(hooks.LATER_HOOKS)
