"""Fargate tasks that really run: exit codes, logs, roles, permissions, stops, and nothing left behind."""

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clients import REGION, allow, arn, eventually, refused
from embedded_aws import Embedded

from helpers.local_aws import control

PYTHON = "public.ecr.aws/docker/library/python:3.12"
# Seconds: the argument by which this test, and no other that runs now, finds what a task leaves in the background.
MARK = f"4711.{os.getpid()}"
HANGS = f"""
import signal, subprocess, time
signal.signal(signal.SIGTERM, lambda *_: None)
subprocess.Popen(["sleep", "{MARK}"])
print("ready", flush=True)
time.sleep(300)
"""
ASKS = """
import json, os, urllib.request, boto3
base = os.environ["ECS_CONTAINER_METADATA_URI_V4"]
task = json.load(urllib.request.urlopen(base + "/task"))
print(task["Family"], task["Containers"][0]["Name"], "AWS_ACCESS_KEY_ID" in os.environ)
print(boto3.client("sts").get_caller_identity()["Arn"].split("/")[-1] == task["TaskARN"].split("/")[-1])
s3 = boto3.client("s3")
s3.put_object(Bucket=os.environ["BUCKET"], Key="allowed/x", Body=b"1")
try:
    s3.put_object(Bucket=os.environ["BUCKET"], Key="denied/x", Body=b"1")
except s3.exceptions.ClientError as error:
    print(error.response["Error"]["Code"])
"""


def sleepers() -> list[str]:
    """Return the processes that a hanging task started in the background."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        found += [entry.name] if MARK.encode() in words else []
    return found


class Fargate:
    """A cluster, roles, and short ways to run a task in it."""

    def __init__(self, embedded: Any) -> None:
        self.embedded, self.name = embedded, f"fargate-{uuid.uuid4().hex[:8]}"
        self.ecs, self.logs, self.s3 = (embedded.client(name) for name in ("ecs", "logs", "s3"))
        self.subnet = embedded.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
        self.group, self.bucket = f"/ecs/{self.name}", self.name
        self.logs.create_log_group(logGroupName=self.group)
        self.s3.create_bucket(Bucket=self.bucket)
        self.statements = {
            "log": allow("logs:CreateLogStream logs:PutLogEvents", arn("logs", f"log-group:{self.group}:*")),
        }
        self.execution = self.role(*self.statements.values())
        self.task_role = self.role(allow("s3:PutObject", f"arn:aws:s3:::{self.bucket}/allowed/*"))
        self.ecs.create_cluster(clusterName=self.name, capacityProviders=["FARGATE", "FARGATE_SPOT"])

    def role(self, *statements: dict[str, Any], service: str = "ecs-tasks.amazonaws.com") -> str:
        return self.embedded.make_role(list(statements), service=service)

    def register(self, script: str, **more: Any) -> str:
        """Register a definition that runs a Python script, and return its ARN."""
        container = {
            "name": "main",
            "image": PYTHON,
            "command": ["python", "-c", script],
            "environment": [{"name": "BUCKET", "value": self.bucket}],
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {
                    "awslogs-group": self.group,
                    "awslogs-region": REGION,
                    "awslogs-stream-prefix": "task",
                },
            },
            **more.pop("container", {}),
        }
        settings = {"executionRoleArn": self.execution, "taskRoleArn": self.task_role, **more}
        made = self.ecs.register_task_definition(
            family=self.name,
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            cpu="256",
            memory="512",
            containerDefinitions=[container],
            **settings,
        )
        return made["taskDefinition"]["taskDefinitionArn"]

    def network(self, public: str = "ENABLED") -> dict[str, Any]:
        return {"awsvpcConfiguration": {"subnets": [self.subnet], "assignPublicIp": public}}

    def run(self, definition: str, **more: Any) -> str:
        """Run one task of a definition, and return its ARN."""
        settings = {"launchType": "FARGATE", "networkConfiguration": self.network(), **more}
        answer = (settings.pop("client", None) or self.ecs).run_task(
            cluster=self.name, taskDefinition=definition, **settings
        )
        assert answer["failures"] == []
        return answer["tasks"][0]["taskArn"]

    def task(self, task_arn: str) -> dict[str, Any]:
        return self.ecs.describe_tasks(cluster=self.name, tasks=[task_arn])["tasks"][0]

    def ended(self, task_arn: str) -> dict[str, Any]:
        def stopped() -> dict[str, Any] | None:
            task = self.task(task_arn)
            return task if task["lastStatus"] == "STOPPED" else None

        return eventually(stopped)

    def output(self, task_arn: str) -> list[str]:
        stream = f"task/main/{task_arn.rpartition('/')[2]}"
        try:
            events = self.logs.get_log_events(logGroupName=self.group, logStreamName=stream, startFromHead=True)
        except self.logs.exceptions.ResourceNotFoundException:
            return []
        return [event["message"] for event in events["events"]]


@pytest.fixture(scope="module")
def fargate(embedded: Any) -> Fargate:
    return Fargate(embedded)


@pytest.fixture(autouse=True)
def nothing_left(fargate: Fargate) -> Iterator[None]:
    """Every test ends its tasks, and their processes end with them."""
    yield
    for task in fargate.ecs.list_tasks(cluster=fargate.name)["taskArns"]:
        fargate.ecs.stop_task(cluster=fargate.name, task=task)
        fargate.ended(task)
    eventually(lambda: not sleepers())


@pytest.mark.parametrize("code", [0, 3])
def test_a_task_ends_with_the_exit_code_of_its_command(fargate: Fargate, code: int) -> None:
    task_arn = fargate.run(fargate.register(f"print('hello'); raise SystemExit({code})"))
    task = fargate.ended(task_arn)
    assert (task["stopCode"], task["stoppedReason"]) == (
        "EssentialContainerExited",
        "Essential container in task exited",
    )
    assert (task["containers"][0]["exitCode"], task["containers"][0]["lastStatus"]) == (code, "STOPPED")
    assert task["createdAt"] <= task["pullStartedAt"] <= task["startedAt"] <= task["stoppedAt"]
    assert fargate.output(task_arn) == ["hello"]


def test_a_task_acts_in_its_role_and_knows_itself(fargate: Fargate) -> None:
    task_arn = fargate.run(fargate.register(ASKS))
    assert fargate.ended(task_arn)["containers"][0]["exitCode"] == 0, fargate.output(task_arn)
    assert fargate.output(task_arn) == [f"{fargate.name} main False", "True", "AccessDenied"]
    assert fargate.s3.get_object(Bucket=fargate.bucket, Key="allowed/x")["Body"].read() == b"1"


def test_a_task_takes_command_and_environment_from_its_overrides(fargate: Fargate) -> None:
    override = {
        "name": "main",
        "command": ["python", "-c", "import os; print(os.environ['WORD'], os.environ['BUCKET'])"],
        "environment": [{"name": "WORD", "value": "override"}],
    }
    task_arn = fargate.run(fargate.register("pass"), overrides={"containerOverrides": [override]})
    fargate.ended(task_arn)
    assert fargate.output(task_arn) == [f"override {fargate.bucket}"]


def test_a_task_that_ignores_sigterm_is_killed(fargate: Fargate) -> None:
    task_arn = fargate.run(fargate.register(HANGS, container={"stopTimeout": 2}))
    eventually(lambda: fargate.output(task_arn) == ["ready"])
    eventually(lambda: fargate.task(task_arn)["lastStatus"] == "RUNNING")
    assert len(sleepers()) == 1
    stopping = fargate.ecs.stop_task(cluster=fargate.name, task=task_arn, reason="enough")["task"]
    assert stopping["desiredStatus"] == "STOPPED"
    task = fargate.ended(task_arn)
    assert (task["stopCode"], task["stoppedReason"]) == ("UserInitiated", "enough")
    assert task["containers"][0]["exitCode"] == 137


def test_a_task_that_obeys_sigterm_ends_as_it_likes(fargate: Fargate) -> None:
    script = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(5)); print('ready', flush=True)"
    task_arn = fargate.run(fargate.register(f"{script}; time.sleep(300)"))
    eventually(lambda: fargate.output(task_arn) == ["ready"])
    fargate.ecs.stop_task(cluster=fargate.name, task=task_arn)
    assert fargate.ended(task_arn)["containers"][0]["exitCode"] == 5


def test_a_task_that_is_killed_says_so(fargate: Fargate) -> None:
    task = fargate.ended(fargate.run(fargate.register("import os; os.kill(os.getpid(), 9)")))
    assert (task["stopCode"], task["containers"][0]["exitCode"]) == ("EssentialContainerExited", 137)


def test_a_task_on_spot_runs_too(fargate: Fargate) -> None:
    definition = fargate.register("pass")
    answer = fargate.ecs.run_task(
        cluster=fargate.name,
        taskDefinition=definition,
        networkConfiguration=fargate.network(),
        capacityProviderStrategy=[{"capacityProvider": "FARGATE_SPOT"}],
        count=2,
    )
    ended = [fargate.ended(task["taskArn"]) for task in answer["tasks"]]
    assert [(task["capacityProviderName"], task["containers"][0]["exitCode"]) for task in ended] == [
        ("FARGATE_SPOT", 0)
    ] * 2
    waiter = fargate.ecs.get_waiter("tasks_stopped")
    waiter.wait(cluster=fargate.name, tasks=[task["taskArn"] for task in ended])


def test_an_image_that_is_not_in_the_registry_cannot_be_pulled(fargate: Fargate) -> None:
    image = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/nowhere:1"
    pull = "ecr:GetAuthorizationToken ecr:BatchCheckLayerAvailability ecr:BatchGetImage ecr:GetDownloadUrlForLayer"
    execution = fargate.role(*fargate.statements.values(), allow(pull))
    definition = fargate.register("pass", container={"image": image}, executionRoleArn=execution)
    task = fargate.ended(fargate.run(definition))
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"].startswith("CannotPullContainerError: pull image manifest has been retried")
    assert "exitCode" not in task["containers"][0]


@pytest.mark.parametrize(
    ("missing", "said", "end"),
    [
        (
            "ecr:GetAuthorizationToken",
            "ResourceInitializationError: unable to pull secrets or registry auth",
            "ecr:GetAuthorizationToken",
        ),
        ("ecr:BatchGetImage", "CannotPullContainerError: pull image manifest has been retried", "403 Forbidden"),
    ],
)
def test_an_execution_role_without_a_permission_cannot_pull(
    fargate: Fargate, missing: str, said: str, end: str
) -> None:
    pull = {"ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage"} - {missing}
    execution = fargate.role(*fargate.statements.values(), allow(" ".join(sorted(pull))))
    image = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/nowhere:1"
    task = fargate.ended(fargate.run(fargate.register("pass", container={"image": image}, executionRoleArn=execution)))
    assert task["stoppedReason"].startswith(said)
    assert end in task["stoppedReason"]


@pytest.mark.parametrize(
    ("statements", "group", "said"),
    [
        ([], "", "AccessDeniedException"),
        ([allow("logs:*")], "/ecs/nowhere", "ResourceNotFoundException"),
    ],
)
def test_a_task_whose_log_cannot_be_written_does_not_start(
    fargate: Fargate, statements: list[dict[str, Any]], group: str, said: str
) -> None:
    options = {
        "awslogs-group": group or fargate.group,
        "awslogs-region": REGION,
        "awslogs-stream-prefix": "task",
    }
    log = {"logDriver": "awslogs", "options": options}
    execution = fargate.role(*statements)
    task = fargate.ended(
        fargate.run(fargate.register("pass", container={"logConfiguration": log}, executionRoleArn=execution))
    )
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"].startswith("ResourceInitializationError: failed to validate logger args")
    assert said in task["stoppedReason"]


def test_a_group_is_made_when_the_definition_says_so(fargate: Fargate) -> None:
    group = f"{fargate.group}-made"
    options = {
        "awslogs-group": group,
        "awslogs-region": REGION,
        "awslogs-stream-prefix": "task",
        "awslogs-create-group": "true",
    }
    log = {"logDriver": "awslogs", "options": options}
    execution = fargate.role(allow("logs:CreateLogGroup logs:CreateLogStream logs:PutLogEvents"))
    definition = fargate.register("print(1)", container={"logConfiguration": log}, executionRoleArn=execution)
    assert fargate.ended(fargate.run(definition))["containers"][0]["exitCode"] == 0
    assert fargate.logs.describe_log_streams(logGroupName=group)["logStreams"][0]["logStreamName"].startswith(
        "task/main/"
    )


def test_a_task_without_a_way_out_of_its_subnet_does_not_start(fargate: Fargate) -> None:
    task = fargate.ended(fargate.run(fargate.register("pass"), networkConfiguration=fargate.network("DISABLED")))
    assert task["stopCode"] == "TaskFailedToStart"
    assert "Check your task network configuration" in task["stoppedReason"]


def test_a_role_that_does_not_trust_tasks_is_refused(fargate: Fargate) -> None:
    other = fargate.role(service="lambda.amazonaws.com")
    definition = fargate.register("pass", taskRoleArn=other)
    code, message = refused(lambda: fargate.run(definition))
    assert (code, message.startswith(f"ECS was unable to assume the role '{other}'")) == ("ClientException", True)


def test_permissions_taken_away_one_by_one_refuse_the_call(fargate: Fargate) -> None:
    definition = fargate.register("pass")
    inside = {"condition": {"ArnEquals": {"ecs:cluster": arn("ecs", f"cluster/{fargate.name}")}}}
    passing = {"condition": {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}}
    creating = {"condition": {"StringEquals": {"ecs:CreateAction": "RunTask"}}}
    statements = {
        "ecs:RunTask": allow("ecs:RunTask", definition, **inside),
        "ecs:TagResource": allow("ecs:TagResource", arn("ecs", f"task/{fargate.name}/*"), **creating),
        "iam:PassRole": allow("iam:PassRole", fargate.execution, fargate.task_role, **passing),
    }
    tags = [{"key": "k", "value": "v"}]

    def run(*allowed: dict[str, Any]) -> str:
        variables = fargate.embedded.variables_of(list(allowed))
        return fargate.run(definition, client=fargate.embedded.client("ecs", variables), tags=tags)

    for missing in statements:
        rest = [statement for action, statement in statements.items() if action != missing]
        code, message = refused(lambda rest=rest: run(*rest))
        assert (code, missing in message) == ("AccessDeniedException", True)
    assert fargate.ended(run(*statements.values()))["containers"][0]["exitCode"] == 0


def test_a_task_ends_with_the_embedded_aws(tmp_path: Path) -> None:
    own = Fargate(Embedded(control.start(tmp_path)[0]))
    try:
        task_arn = own.run(own.register(HANGS))
        eventually(lambda: own.output(task_arn) == ["ready"])
        control.stop(tmp_path)
        assert not sleepers()
        again = Embedded(control.start(tmp_path)[0]).client("ecs")
        task = again.describe_tasks(cluster=own.name, tasks=[task_arn])["tasks"][0]
        assert (task["lastStatus"], task["stopCode"]) == ("STOPPED", "TerminationNotice")
        assert task["stoppedReason"] == "The embedded AWS was stopped while the task was running."
    finally:
        control.stop(tmp_path)


def test_the_linked_role_is_iam_s_and_made_with_the_first_cluster(fargate: Fargate) -> None:
    iam = fargate.embedded.client("iam")
    role = iam.get_role(RoleName="AWSServiceRoleForECS")["Role"]
    assert role["Path"] == "/aws-service-role/ecs.amazonaws.com/"
    assert refused(lambda: iam.create_service_linked_role(AWSServiceName="ecs.amazonaws.com"))[0] == "InvalidInput"


def test_a_definition_that_was_described_can_be_registered_again(fargate: Fargate) -> None:
    made = fargate.register("pass", tags=[{"key": "k", "value": "v"}])
    described = fargate.ecs.describe_task_definition(taskDefinition=made, include=["TAGS"])
    assert described["tags"] == [{"key": "k", "value": "v"}]
    again = {
        name: value
        for name, value in described["taskDefinition"].items()
        if name
        in ("family", "networkMode", "requiresCompatibilities", "cpu", "memory", "containerDefinitions", "volumes")
    }
    roles = {"executionRoleArn": fargate.execution}
    revision = fargate.ecs.register_task_definition(**json.loads(json.dumps(again)), **roles)["taskDefinition"][
        "revision"
    ]
    assert revision == described["taskDefinition"]["revision"] + 1
