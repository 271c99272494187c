"""AWS Batch, with jobs that really run: environment, roles and logs, priorities, ends of all kinds, permissions."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clients import allow, arn, eventually, family, refused
from embedded_aws import Embedded

from helpers.local_aws import control

IMAGE = "public.ecr.aws/docker/library/python:3.12-slim"
FINAL = ("SUCCEEDED", "FAILED")
SLEEP = ["python", "-c", "import time; time.sleep(300)"]


class Shop:
    """A compute environment, roles, and short ways to queues, definitions and jobs."""

    def __init__(self, embedded: Embedded, vcpus: int = 2) -> None:
        self.embedded = embedded
        self.batch, self.logs = embedded.client("batch"), embedded.client("logs")
        self.prefix = f"shop-{uuid.uuid4().hex[:6]}"
        tasks = {"service": "ecs-tasks.amazonaws.com"}
        self.execution_role = embedded.make_role([allow("logs:CreateLogStream logs:PutLogEvents")], **tasks)
        self.job_role = embedded.make_role([allow("s3:ListAllMyBuckets")], **tasks)
        ec2 = embedded.client("ec2")
        self.subnets = [each["SubnetId"] for each in ec2.describe_subnets()["Subnets"]]
        self.groups = [
            each["GroupId"] for each in ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"]
        ]
        self.environment = self.name("spot")
        self.batch.create_compute_environment(
            computeEnvironmentName=self.environment, type="MANAGED", computeResources=self.compute(vcpus)
        )
        self.settled(self.environment)
        self.queue("normal", 1)
        self.define("work")

    def name(self, suffix: str) -> str:
        return f"{self.prefix}-{suffix}"

    def compute(self, vcpus: int) -> dict[str, Any]:
        network = {"subnets": self.subnets, "securityGroupIds": self.groups}
        return {"type": "FARGATE_SPOT", "maxvCpus": vcpus, **network}

    def settled(self, environment: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            named = {"computeEnvironments": [environment]}
            record = self.batch.describe_compute_environments(**named)["computeEnvironments"][0]
            return None if record["status"] in ("CREATING", "UPDATING") else record

        return eventually(found)

    def switch(self, state: str) -> None:
        self.batch.update_compute_environment(computeEnvironment=self.environment, state=state)
        self.settled(self.environment)

    def queue(self, suffix: str, priority: int) -> str:
        name = self.name(suffix)
        order = [{"order": 1, "computeEnvironment": self.environment}]
        self.batch.create_job_queue(jobQueueName=name, priority=priority, computeEnvironmentOrder=order)
        eventually(lambda: self.batch.describe_job_queues(jobQueues=[name])["jobQueues"][0]["status"] == "VALID")
        return name

    def define(self, suffix: str, **container: Any) -> str:
        properties = {
            "image": IMAGE,
            "command": ["true"],
            "executionRoleArn": self.execution_role,
            "jobRoleArn": self.job_role,
            "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "2048"}],
            "networkConfiguration": {"assignPublicIp": "ENABLED"},
            **container,
        }
        self.batch.register_job_definition(
            jobDefinitionName=self.name(suffix),
            type="container",
            platformCapabilities=["FARGATE"],
            containerProperties=properties,
        )
        return self.name(suffix)

    def submit(
        self, command: list[str] | None = None, *, queue: str = "normal", work: str = "work", **more: Any
    ) -> str:
        overrides = {"containerOverrides": {"command": command}} if command else {}
        named = {"jobName": "job", "jobQueue": self.name(queue), "jobDefinition": self.name(work)}
        return self.batch.submit_job(**named, **overrides, **more)["jobId"]

    def python(self, source: str, **more: Any) -> str:
        return self.submit(["python", "-c", source], **more)

    def job(self, job_id: str) -> dict[str, Any]:
        found = self.batch.describe_jobs(jobs=[job_id])["jobs"]
        return found[0] if found else {"status": ""}

    def becomes(self, job_id: str, *statuses: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if job["status"] in statuses else None

        return eventually(found)

    def ended(self, job_id: str) -> dict[str, Any]:
        return self.becomes(job_id, *FINAL)

    def log(self, job: dict[str, Any], group: str = "/aws/batch/job") -> list[str]:
        place = {"logGroupName": group, "logStreamName": job["container"]["logStreamName"]}
        return [
            each["message"].rstrip("\n") for each in self.logs.get_log_events(**place, startFromHead=True)["events"]
        ]


@pytest.fixture(scope="module")
def shop(embedded: Embedded) -> Shop:
    return Shop(embedded)


TELL = """
import boto3, json, os
told = {name: value for name, value in os.environ.items() if name.startswith(('AWS_BATCH', 'ALPHA', 'BETA'))}
told['identity'] = boto3.client('sts').get_caller_identity()['Arn']
try:
    boto3.client('s3').create_bucket(Bucket='not-allowed')
except Exception as error:
    told['denied'] = error.response['Error']['Code']
print(json.dumps(told))
"""


def test_a_job_has_its_variables_its_role_and_its_log(shop: Shop) -> None:
    overrides = {
        "command": ["python", "-c", TELL],
        "environment": [{"name": "ALPHA", "value": "1"}, {"name": "BETA", "value": "Ref::x"}],
    }
    job_id = shop.submit(parameters={"x": "2"}, containerOverrides=overrides)
    job = shop.ended(job_id)
    assert (job["status"], job["container"]["exitCode"]) == ("SUCCEEDED", 0), shop.log(job)
    assert job["statusReason"] == "Essential container in task exited"
    told = json.loads(shop.log(job)[-1])
    role = shop.job_role.rpartition("/")[2]
    assert told.pop("identity").startswith(arn("sts", f"assumed-role/{role}/").replace("us-east-1", ""))
    assert told == {
        "ALPHA": "1", "BETA": "Ref::x", "denied": "AccessDenied", "AWS_BATCH_JOB_ID": job_id,
        "AWS_BATCH_JOB_ATTEMPT": "1", "AWS_BATCH_CE_NAME": shop.environment, "AWS_BATCH_JQ_NAME": shop.name("normal"),
    }  # fmt: skip
    assert job["createdAt"] <= job["startedAt"] <= job["stoppedAt"]


def test_100_jobs_on_two_slots_end_in_the_order_of_their_queues_priority(shop: Shop) -> None:
    for suffix, priority in (("urgent", 30), ("middle", 20), ("late", 10)):
        shop.queue(suffix, priority)
    shop.switch("DISABLED")
    submitted = [shop.submit(queue=("late", "middle", "urgent")[number % 3]) for number in range(100)]
    assert {shop.job(job_id)["status"] for job_id in submitted} <= {"SUBMITTED", "RUNNABLE"}
    shop.switch("ENABLED")
    jobs = [shop.ended(job_id) for job_id in submitted]
    assert {job["status"] for job in jobs} == {"SUCCEEDED"}
    started = {
        suffix: [job["startedAt"] for job in jobs if job["jobQueue"].endswith(f"-{suffix}")]
        for suffix in ("urgent", "middle", "late")
    }
    # Two run at a time: the last job of a queue may be slow to start in its place, while the other goes on with others.
    for earlier, later in (("urgent", "middle"), ("middle", "late")):
        assert sum(at > min(started[later]) for at in started[earlier]) <= 1
    begun = [job["startedAt"] for job in jobs]
    assert all(sum(other["startedAt"] < at < other["stoppedAt"] for other in jobs) <= 2 for at in begun)


def test_a_failing_job_is_tried_again_and_its_logs_are_kept(shop: Shop) -> None:
    source = (
        "import os, sys; n = int(os.environ['AWS_BATCH_JOB_ATTEMPT']); print('attempt', n); sys.exit(3 if n < 3 else 0)"
    )
    job = shop.ended(shop.python(source, retryStrategy={"attempts": 3}))
    assert job["status"] == "SUCCEEDED"
    assert [each["container"]["exitCode"] for each in job["attempts"]] == [3, 3, 0]
    assert [shop.log(each) for each in job["attempts"]] == [["attempt 1"], ["attempt 2"], ["attempt 3"]]


def test_an_array_gives_each_child_its_index_and_a_job_that_waits_for_it_sees_all(shop: Shop) -> None:
    source = "import os; print(os.environ['AWS_BATCH_JOB_ARRAY_INDEX'], 'of', os.environ['AWS_BATCH_JOB_ARRAY_SIZE'])"
    array = shop.python(source, arrayProperties={"size": 3})
    after = shop.submit(dependsOn=[{"jobId": array}])
    assert shop.ended(after)["status"] == "SUCCEEDED"
    assert shop.job(array)["arrayProperties"]["statusSummary"]["SUCCEEDED"] == 3
    assert [shop.log(shop.job(f"{array}:{index}")) for index in range(3)] == [["0 of 3"], ["1 of 3"], ["2 of 3"]]
    children = shop.batch.list_jobs(arrayJobId=array, jobStatus="SUCCEEDED")["jobSummaryList"]
    assert [each["jobId"] for each in children] == [f"{array}:{index}" for index in range(3)]


def test_a_hanging_job_is_terminated_with_all_that_it_started(shop: Shop) -> None:
    source = (
        "import signal, subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('told to end', flush=True), sys.exit(7)))\n"
        "print('ready', flush=True)\n"
        "time.sleep(300)"
    )
    before = family(shop.embedded.server.pid)
    job_id = shop.python(source, retryStrategy={"attempts": 5})
    shop.becomes(job_id, "RUNNING")
    eventually(lambda: has_log(shop, shop.job(job_id), "ready"))
    shop.batch.terminate_job(jobId=job_id, reason="it hangs")
    job = shop.ended(job_id)
    assert (job["status"], job["statusReason"], len(job["attempts"])) == ("FAILED", "it hangs", 1)
    assert shop.log(job) == ["ready", "told to end"]
    eventually(lambda: family(shop.embedded.server.pid) <= before)


def has_log(shop: Shop, job: dict[str, Any], text: str) -> bool:
    try:
        return text in shop.log(job)
    except shop.logs.exceptions.ResourceNotFoundException:
        return False


def test_a_killed_job_has_failed_with_its_code(shop: Shop) -> None:
    job = shop.ended(shop.python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert (job["status"], job["container"]["exitCode"]) == ("FAILED", 137)


@pytest.mark.parametrize(
    ("container", "said"),
    [
        ({"image": f"{control.ACCOUNT_ID}.dkr.ecr.us-east-1.amazonaws.com/nothing:latest"}, "CannotPullContainerError"),
        ({"networkConfiguration": {"assignPublicIp": "DISABLED"}}, "Check your task network configuration"),
        (
            {"logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/not/there"}}},
            "ResourceInitializationError: failed to validate logger args",
        ),
    ],
)
def test_what_cannot_start_says_why(shop: Shop, container: dict[str, Any], said: str) -> None:
    allowed = shop.embedded.make_role(
        [allow("logs:CreateLogStream logs:PutLogEvents"), allow("ecr:*")], service="ecs-tasks.amazonaws.com"
    )
    shop.define("broken", executionRoleArn=allowed, **container)
    job = shop.ended(shop.submit(work="broken"))
    assert job["status"] == "FAILED"
    assert said in job["statusReason"] + job["container"].get("reason", "")
    assert "exitCode" not in job["container"]


def test_a_command_that_is_not_there_does_not_start(shop: Shop) -> None:
    job = shop.ended(shop.submit(["no-such-program"]))
    assert (job["status"], job["statusReason"]) == ("FAILED", "Task failed to start")
    assert job["container"]["reason"].startswith("CannotStartContainerError: ")
    assert 'exec: "no-such-program": executable file not found in $PATH' in job["container"]["reason"]
    assert "exitCode" not in job["container"]


def test_an_execution_role_that_may_not_make_the_log_fails_the_job(shop: Shop) -> None:
    role = shop.embedded.make_role([allow("logs:PutLogEvents")], service="ecs-tasks.amazonaws.com")
    shop.define("mute", executionRoleArn=role)
    job = shop.ended(shop.submit(work="mute"))
    assert job["status"] == "FAILED"
    assert "ResourceInitializationError" in job["statusReason"]


def test_tags_travel_in_arns_within_paths(shop: Shop) -> None:
    job_id = shop.submit(tags={"team": "ml"})
    name = arn("batch", f"job/{job_id}")
    shop.batch.tag_resource(resourceArn=name, tags={"owner": "dana", "x": "y"})
    shop.batch.untag_resource(resourceArn=name, tagKeys=["x"])
    assert shop.batch.list_tags_for_resource(resourceArn=name)["tags"] == {"team": "ml", "owner": "dana"}


def calls(shop: Shop, client: Any) -> dict[str, Callable[[], Any]]:
    """Return calls by the statement that each needs."""
    properties = shop.batch.describe_job_definitions(jobDefinitionName=shop.name("work"))["jobDefinitions"][0]
    wanted = ("image", "command", "executionRoleArn", "jobRoleArn", "resourceRequirements", "networkConfiguration")
    container = {name: properties["containerProperties"][name] for name in wanted}

    def register() -> None:
        client.register_job_definition(
            jobDefinitionName=shop.name("mine"), type="container", platformCapabilities=["FARGATE"],
            containerProperties=container,
        )  # fmt: skip

    def submit() -> None:
        client.submit_job(jobName="job", jobQueue=shop.name("normal"), jobDefinition=shop.name("work"))

    return {"register": register, "pass": register, "queue": submit, "definition": submit}


@pytest.mark.parametrize("missing", ["", "register", "pass", "queue", "definition"])
def test_each_permission_is_needed_and_together_they_are_enough(shop: Shop, missing: str) -> None:
    passing = {"condition": {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}}
    statements = {
        "register": allow("batch:RegisterJobDefinition", arn("batch", f"job-definition/{shop.name('mine')}")),
        "pass": allow("iam:PassRole", shop.job_role, shop.execution_role, **passing),
        "queue": allow("batch:SubmitJob", arn("batch", f"job-queue/{shop.name('normal')}")),
        "definition": allow("batch:SubmitJob", arn("batch", f"job-definition/{shop.name('work')}:*")),
    }
    given = [statement for name, statement in statements.items() if name != missing]
    client = shop.embedded.client("batch", shop.embedded.variables_of(given))
    for name, call in calls(shop, client).items():
        if name == missing:
            code, message = refused(call)
            assert (code, statements[name]["Action"][0] in message) == ("AccessDeniedException", True)
    if not missing:
        for call in calls(shop, client).values():
            call()


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_jobs_that_wait_go_on_after_a_restart_and_what_ran_is_tried_again(tmp_path: Path) -> None:
    server, _ = control.start(tmp_path / "state")
    try:
        shop = Shop(Embedded(server), vcpus=1)
        hanging = shop.submit(SLEEP, retryStrategy={"attempts": 2})
        waiting = shop.submit()
        shop.becomes(hanging, "RUNNING")
        before = family(server.pid)
        control.stop(tmp_path / "state")
        eventually(lambda: not any(map(runs, before)))
        server, _ = control.start(tmp_path / "state")
        shop.embedded = Embedded(server)
        shop.batch = shop.embedded.client("batch")
        job = shop.becomes(hanging, "RUNNING")
        reason = "The embedded AWS was stopped while the job was running."
        assert [each["statusReason"] for each in job["attempts"]] == [reason]
        shop.batch.terminate_job(jobId=hanging, reason="enough")
        assert shop.ended(waiting)["status"] == "SUCCEEDED"
    finally:
        control.stop(tmp_path / "state")


@pytest.fixture(scope="module", autouse=True)
def nothing_left(shop: Shop) -> Iterator[None]:
    """End what a failed test has left running."""
    yield
    for suffix in ("normal",):
        for status in ("RUNNABLE", "RUNNING"):
            for job in shop.batch.list_jobs(jobQueue=shop.name(suffix), jobStatus=status)["jobSummaryList"]:
                shop.batch.terminate_job(jobId=job["jobId"], reason="the tests are over")
