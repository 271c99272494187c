"""EventBridge: rules of the default bus fire on time, and only where they may."""

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clients import ACCOUNT, REGION, allow, arn, eventually, function_settings, refused, settle
from embedded_aws import Embedded

from helpers.local_aws import control

REPORTS = """
import json, os, boto3
def handler(event, context):
    boto3.client("sqs").send_message(QueueUrl=os.environ["QUEUE"], MessageBody=json.dumps(event))
"""


def name(kind: str) -> str:
    return f"sched-{kind}-{uuid.uuid4().hex[:8]}"


class Clock:
    """A function that reports the events it gets, and rules that fire it."""

    def __init__(self, embedded: Any) -> None:
        self.embedded = embedded
        self.events, self.sqs, self.functions = (embedded.client(it) for it in ("events", "sqs", "lambda"))
        queue = name("queue")
        self.queue = self.sqs.create_queue(QueueName=queue)["QueueUrl"]
        role = embedded.make_role([allow("sqs:SendMessage", arn("sqs", queue))], service="lambda.amazonaws.com")
        settings = function_settings(name("f"), role, REPORTS, Environment={"Variables": {"QUEUE": self.queue}})
        self.function = self.functions.create_function(**settings)["FunctionArn"]

    def rule(self, schedule: str, *, let_in: bool = True, state: str = "ENABLED", **target: Any) -> str:
        """Make a rule with the function as its target. Returns its name."""
        rule = name("rule")
        made = self.events.put_rule(Name=rule, ScheduleExpression=schedule, State=state)["RuleArn"]
        if let_in:
            self.functions.add_permission(
                FunctionName=self.function, StatementId=rule, Action="lambda:InvokeFunction",
                Principal="events.amazonaws.com", SourceArn=made,
            )  # fmt: skip
        answer = self.events.put_targets(Rule=rule, Targets=[{"Id": "f", "Arn": self.function, **target}])
        assert answer["FailedEntryCount"] == 0
        return rule

    def received(self) -> list[dict[str, Any]]:
        answer = self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in answer.get("Messages", [])]

    def delete(self, rule: str) -> None:
        self.events.remove_targets(Rule=rule, Ids=["f"])
        self.events.delete_rule(Name=rule)


@pytest.fixture(scope="module")
def clock(embedded: Any) -> Clock:
    return Clock(embedded)


class Restarted:
    """An embedded AWS that was stopped and started with a rule that is due each minute."""

    def __init__(self, state_dir: Path) -> None:
        embedded = Embedded(control.start(state_dir)[0])
        self.clock = Clock(embedded)
        self.sns, self.ssm, self.tables = (embedded.client(service) for service in ("sns", "ssm", "dynamodb"))
        self.topic = self.sns.create_topic(Name="kept")["TopicArn"]
        self.sns.subscribe(TopicArn=self.topic, Protocol="lambda", Endpoint=self.clock.function)
        self.clock.sqs.send_message(QueueUrl=self.clock.queue, MessageBody='"sent before"')
        self.ssm.put_parameter(Name="/kept", Value="1", Type="String")
        self.tables.create_table(
            TableName="kept",
            KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self.tables.put_item(TableName="kept", Item={"k": {"S": "a"}, "n": {"N": "1.5"}})
        self.rule = self.clock.rule("cron(* * * * ? *)")
        control.stop(state_dir)
        control.start(state_dir)
        self.since = f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


@pytest.fixture(scope="module", autouse=True)
def restarted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restarted]:
    """Begin before the first test: what is due comes while the others wait for theirs."""
    state_dir = tmp_path_factory.mktemp("own") / "state"
    try:
        yield Restarted(state_dir)
    finally:
        control.stop(state_dir)


def test_schedules_fire_when_they_are_due_and_nothing_else_does(clock: Clock) -> None:
    silent = [
        clock.rule("rate(999999999999999 days)", Input='"never"'),  # which no date can say
        clock.rule("rate(1 day)", Input='"not due"'),
        clock.rule("cron(* * * * ? *)", state="DISABLED", Input='"disabled"'),
        clock.rule("cron(* * * * ? *)", let_in=False, Input='"not let in"'),
    ]
    made = [dt.datetime.now(dt.UTC)]
    rate = clock.rule("rate(1 minute)")
    made.append(dt.datetime.now(dt.UTC))
    cron = clock.rule("cron(* * * * ? *)")
    given = clock.rule("cron(* * * * ? *)", Input=json.dumps({"what": "mine"}))  # looked at after all others
    got: list[Any] = []
    sources = [[arn("events", f"rule/{rule}")] for rule in (rate, cron)]

    def all_fired() -> bool:
        got.extend(clock.received())
        found = [event.get("resources") for event in got if isinstance(event, dict)]
        return all(source in found for source in sources) and {"what": "mine"} in got

    eventually(all_fired)
    for rule in (rate, cron, given, *silent):
        clock.delete(rule)
    settle(clock.embedded)
    while more := clock.received():
        got += more
    assert [event for event in got if isinstance(event, str)] == []
    by_rate, by_cron = (next(e for e in got if e.get("resources") == source) for source in sources)
    assert by_rate == {
        "version": "0",
        "id": by_rate["id"],
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": by_rate["time"],
        "region": REGION,
        "resources": sources[0],
        "detail": {},
    }
    assert uuid.UUID(by_rate["id"])
    since = dt.datetime.fromisoformat(by_rate["time"]) - dt.timedelta(minutes=1)
    assert made[0].replace(microsecond=0) <= since <= made[1]
    assert by_cron["time"].endswith(":00Z")


def test_rules_are_kept_as_they_were_put(clock: Clock) -> None:
    rule = clock.rule("rate(5 minutes)", Input="{}")
    events = clock.events
    found = events.describe_rule(Name=rule)
    assert (found["ScheduleExpression"], found["State"]) == ("rate(5 minutes)", "ENABLED")
    assert found["Arn"] == arn("events", f"rule/{rule}")
    assert events.list_targets_by_rule(Rule=rule)["Targets"] == [{"Id": "f", "Arn": clock.function, "Input": "{}"}]
    assert rule in events.list_rule_names_by_target(TargetArn=clock.function)["RuleNames"]
    events.disable_rule(Name=rule)
    assert events.describe_rule(Name=rule)["State"] == "DISABLED"
    events.enable_rule(Name=rule)
    assert [one["State"] for one in events.list_rules(NamePrefix=rule)["Rules"]] == ["ENABLED"]
    events.tag_resource(ResourceARN=found["Arn"], Tags=[{"Key": "workshop", "Value": "x"}])
    assert events.list_tags_for_resource(ResourceARN=found["Arn"])["Tags"] == [{"Key": "workshop", "Value": "x"}]
    clock.delete(rule)
    with pytest.raises(events.exceptions.ResourceNotFoundException):
        events.describe_rule(Name=rule)


def test_what_eventbridge_refuses(clock: Clock) -> None:
    events, rule = clock.events, clock.rule("rate(5 minutes)")
    target = {"Id": "t", "Arn": clock.function}
    for call, expected in (
        (lambda: events.put_rule(Name=rule, ScheduleExpression="rate(5 minute)"), "ValidationException"),
        (lambda: events.put_rule(Name=rule), "ValidationException"),
        (lambda: events.delete_rule(Name=rule), "ValidationException"),
        (lambda: events.put_targets(Rule=rule, Targets=[{**target, "Input": "{"}]), "ValidationException"),
        (
            lambda: events.put_targets(Rule=rule, Targets=[{**target, "Id": str(n)} for n in range(5)]),
            "LimitExceededException",
        ),
        (lambda: events.put_targets(Rule=name("none"), Targets=[target]), "ResourceNotFoundException"),
        (lambda: events.enable_rule(Name=name("none")), "ResourceNotFoundException"),
        (lambda: events.put_rule(Name=rule, EventPattern='{"source": ["x"]}'), "NotImplemented"),
        (lambda: events.put_targets(Rule=rule, Targets=[{**target, "InputPath": "$.x"}]), "NotImplemented"),
        (
            lambda: events.put_targets(Rule=rule, Targets=[{"Id": "q", "Arn": arn("sqs", "q")}]),
            "NotImplemented",
        ),
        (lambda: events.put_events(Entries=[{"Source": "x", "DetailType": "x", "Detail": "{}"}]), "NotImplemented"),
    ):
        assert refused(call)[0] == expected
    clock.delete(rule)
    events.delete_rule(Name=rule)  # is no error


def test_all_of_it_is_there_after_a_restart(restarted: Restarted) -> None:
    assert restarted.ssm.get_parameter(Name="/kept")["Parameter"]["Value"] == "1"
    found = restarted.tables.get_item(TableName="kept", Key={"k": {"S": "a"}})["Item"]
    assert found == {"k": {"S": "a"}, "n": {"N": "1.5"}}
    (subscription,) = restarted.sns.list_subscriptions_by_topic(TopicArn=restarted.topic)["Subscriptions"]
    assert subscription["Endpoint"] == restarted.clock.function
    got: list[Any] = []

    def due() -> list[dict[str, Any]]:
        got.extend(restarted.clock.received())
        found = [each for each in got if each != "sent before" and each["time"] > restarted.since]
        return found if "sent before" in got else []

    events = eventually(due)
    assert {event["resources"][0] for event in events} == {arn("events", f"rule/{restarted.rule}")}
    assert len({event["time"] for event in events}) == len(events)
