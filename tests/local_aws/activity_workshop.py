"""The system of notebook 08a on the embedded AWS, built as the notebook's role."""

import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import boto3
import pandas as pd
from clients import ACCOUNT, REGION, allow, arn, eventually

from helpers import activities, apis, functions, machines, permissions, roles, storage
from helpers.connection import Connection
from helpers.local_aws import credentials

ROUTE = "POST /start"
FINAL = ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")
SUMMARIZE = functions.SOURCES / "processing_image" / "summarize.py"
LOGS = "logs:CreateLogGroup logs:CreateLogStream logs:PutLogEvents"
PATIENT = {"timeout_seconds": 600, "heartbeat_seconds": 300, "machine_seconds": 1800}
STALL = {"stall_seconds": 300}  # far longer than any limit: Lambda ends the worker
TABLE = b"age, wage, job\n41, 7.5, clerk\n43, ?, none\n"


class ActivityWorkshop:
    """Names, clients of the notebook's role, and everything that notebook 08a makes."""

    def __init__(self, embedded: Any, prefix: str) -> None:
        self.embedded = embedded
        self.connection = Connection("local", REGION, ACCOUNT, credentials.NOTEBOOK_ROLE_ARN, prefix=prefix)
        self.variables = credentials.environment(embedded.server)
        self.bucket = self.connection.bucket_for("processing")
        name = self.connection.name
        self.machine_arn = arn("states", f"stateMachine:{name('activity')}")
        self.activity_arn = arn("states", f"activity:{name('summarize')}")
        self.start, self.checker, self.worker = (name(f"activity-{each}") for each in ("start", "checker", "worker"))
        self.s3, self.functions, self.states = (self.client(each) for each in ("s3", "lambda", "stepfunctions"))

    def client(self, service: str) -> Any:
        """Return a client of the notebook's role."""
        return self.embedded.client(service, self.variables)

    def statements(self, kind: str) -> list[dict[str, Any]]:
        """Return what the role of a function may do: start, checker or worker."""
        bucket = f"arn:aws:s3:::{self.bucket}"
        of_machine = self.machine_arn.replace(":stateMachine:", ":execution:") + ":*"
        log = allow(LOGS, arn("logs", f"log-group:/aws/lambda/{self.connection.name(f'activity-{kind}')}:*"))
        return {
            "start": [allow("states:StartExecution", self.machine_arn), log],
            "checker": [
                allow("states:ListExecutions", self.machine_arn),
                allow("states:GetExecutionHistory", of_machine),
                allow("states:GetActivityTask states:SendTaskFailure", self.activity_arn),
                allow("lambda:InvokeFunction", arn("lambda", f"function:{self.worker}")),
                log,
            ],
            "worker": [
                allow("s3:GetObject", f"{bucket}/parts/*"),
                allow("s3:ListBucket", bucket),  # to be told that a part is not there
                allow("s3:PutObject", f"{bucket}/summaries/*"),
                allow("states:SendTaskSuccess states:SendTaskFailure states:SendTaskHeartbeat", self.activity_arn),
                log,
            ],
        }[kind]

    def build(self) -> "ActivityWorkshop":
        """Do what the notebook does, in its order; the schedule is made by ``schedule``."""
        iam = self.client("iam")
        for policy in permissions.POLICIES:
            permissions.ensure_policy(iam, self.connection, policy)
        storage.ensure_bucket(self.s3, self.bucket, region=REGION, tags=self.connection.tag_list)
        made = self.states.create_activity(name=self.connection.name("summarize"), tags=self.connection.state_tags)
        assert made["activityArn"] == self.activity_arn
        self.machine()
        machine = {"STATE_MACHINE_ARN": self.machine_arn}
        start_arn = self.function("start", 60, {**machine, "BUCKET": self.bucket})
        self.checker_arn = self.function(
            "checker",
            300,
            {"STATE_MACHINE_ARNS": self.machine_arn, "ACTIVITY_ARN": self.activity_arn, "WORKER": self.worker},
        )
        self.function("worker", 300, {"HEARTBEAT_SECONDS": "1"}, SUMMARIZE)
        self.api = apis.ensure_api(
            self.client("apigatewayv2"),
            self.start,
            route_key=ROUTE,
            function_arn=start_arn,
            tags=self.connection.tags,
        )
        source = apis.source_arn(self.api.api_id, ROUTE, region=REGION, account_id=ACCOUNT)
        self.let(self.start, "apigateway.amazonaws.com", source)
        return self

    def role(self, suffix: str, service: str, statements: list[dict[str, Any]]) -> str:
        """Make one of the roles. Returns its ARN."""
        return roles.ensure_role(
            self.client("iam"),
            self.connection.name(f"activity-{suffix}"),
            trusted=f"{service}.amazonaws.com",
            statements=statements,
            tags=self.connection.tag_list,
        ).arn

    def machine(self, **limits: int) -> None:
        """Make the state machine, or give it other limits: patient ones unless told."""
        machines.ensure_state_machine(
            self.states,
            self.connection.name("activity"),
            activities.definition(self.activity_arn, **(PATIENT | limits)),
            role_arn=self.role("machine", "states", []),
            tags=self.connection.state_tags,
        )

    @contextmanager
    def impatient(self, *, timeout: int, heartbeat: int) -> Iterator[None]:
        """Give executions that are started now these limits, in seconds.

        Only for workers that will exceed them: one that is well may need seconds to begin while other tests run.
        """
        try:
            self.machine(timeout_seconds=timeout, heartbeat_seconds=heartbeat)
            yield
        finally:
            self.machine()

    def function(self, kind: str, timeout: int, variables: dict[str, str], *shared: Any) -> str:
        """Make one of the functions, with its role. Returns its ARN."""
        return functions.ensure_function(
            self.functions,
            self.connection.name(f"activity-{kind}"),
            role_arn=self.role(kind, "lambda", self.statements(kind)),
            code=functions.package(functions.SOURCES / f"activity_{kind}", *shared),
            timeout=timeout,
            memory=256,
            variables=variables,
            tags=self.connection.tags,
        ).arn

    def let(self, function: str, principal: str, source: str) -> None:
        """Let a service invoke a function."""
        functions.allow_invoke(self.functions, function, principal=principal, source_arn=source, account_id=ACCOUNT)

    def schedule(self, expression: str) -> None:
        """Have EventBridge invoke the checker."""
        events = self.client("events")
        rule = events.put_rule(Name=self.checker, ScheduleExpression=expression, Tags=self.connection.tag_list)
        self.let(self.checker, "events.amazonaws.com", rule["RuleArn"])
        done = events.put_targets(Rule=self.checker, Targets=[{"Id": "checker", "Arn": self.checker_arn}])
        assert done["FailedEntryCount"] == 0

    def unschedule(self) -> None:
        """Take the schedule away."""
        events = self.client("events")
        events.remove_targets(Rule=self.checker, Ids=["checker"])
        events.delete_rule(Name=self.checker)

    def put(self, number: int, body: bytes = TABLE) -> str:
        """Upload a part. Returns its key."""
        key = f"parts/part-{number}.csv"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        return key

    def call(self, document: dict[str, Any]) -> apis.Answer:
        """Ask the API, signed as the notebook's role."""
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        session = boto3.session.Session(*(self.variables[name] for name in names))
        return apis.call(session, f"{self.api.endpoint}/start", document, region=REGION)

    def begin(self, key: str, **more: Any) -> str:
        """Start the work on a part in a run of its own, or ``run``. Returns the execution's ARN."""
        answer = self.call({"key": key, "run": f"run-{uuid.uuid4().hex[:8]}", **more})
        assert answer.status == 202, answer
        return answer.document["execution"]

    def check(self) -> dict[str, Any]:
        """Run the checker as the schedule does. Returns its counts, or Lambda's description of an error."""
        event = {"detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}
        return json.loads(self.functions.invoke(FunctionName=self.checker, Payload=json.dumps(event))["Payload"].read())

    def hand_over(self, *executions: str) -> dict[str, Any]:
        """Run the checker once each of these executions waits for a worker. Returns its counts."""
        for execution in executions:
            eventually(lambda execution=execution: "ActivityScheduled" in self.history(execution))
        return self.check()

    def history(self, execution: str) -> list[str]:
        """Return the types of an execution's events."""
        events = self.states.get_execution_history(executionArn=execution)["events"]
        return [event["type"] for event in events]

    def ended(self, *executions: str, seconds: float = 180) -> pd.DataFrame:
        """Return ``overview`` of executions once they have ended."""
        return activities.wait(self.states, executions, seconds=seconds, sleep=time.sleep)

    def log(self, kind: str) -> str:
        """Return what a function has logged."""
        group = f"/aws/lambda/{self.connection.name(f'activity-{kind}')}"
        pages = self.embedded.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
        return "".join(event["message"] for page in pages for event in page["events"])

    @contextmanager
    def without(self, kind: str, action: str) -> Iterator[None]:
        """Take one action from a function's role, and give it back."""
        kept = [
            {**statement, "Action": [one for one in statement["Action"] if one != action]}
            for statement in self.statements(kind)
        ]
        assert kept != self.statements(kind)
        try:
            self.role(kind, "lambda", [statement for statement in kept if statement["Action"]])
            yield
        finally:
            self.role(kind, "lambda", self.statements(kind))


def at_once(count: int, call: Any) -> list[Any]:
    """Return what ``call`` gives for each number below ``count``, all at the same time."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))
