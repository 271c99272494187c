"""State machines for tests: roles, a bucket, and short ways to run a definition."""

import json
import uuid
from collections.abc import Callable
from typing import Any

from clients import IMAGE, allow, arn, eventually

SYNC = "arn:aws:states:::sagemaker:createProcessingJob.sync"
RULE = "StepFunctionsGetEventsForSageMakerProcessingJobsRule"
FINAL = ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")
PASS = {"Type": "Pass", "End": True}
SLEEP = "import time; time.sleep(3000)"


def job_of(execution: str, suffix: str = "job", retry: int = 0) -> str:
    """Return the name of the job that ``Lab.job`` gives a task of ``execution``."""
    return f"{execution.rpartition(':')[2]}-{suffix}-{retry}"


class Lab:
    """Roles, a bucket for the jobs' outputs, and short ways to run a definition."""

    def __init__(self, embedded: Any) -> None:
        self.embedded = embedded
        self.states, self.sagemaker, self.s3 = (embedded.client(n) for n in ("stepfunctions", "sagemaker", "s3"))
        self.bucket = f"states-{uuid.uuid4().hex[:8]}"
        self.s3.create_bucket(Bucket=self.bucket)
        pull = "ecr:GetAuthorizationToken ecr:BatchCheckLayerAvailability ecr:BatchGetImage ecr:GetDownloadUrlForLayer"
        s3 = f"arn:aws:s3:::{self.bucket}"
        self.job_role = embedded.make_role(
            [allow("s3:GetObject s3:PutObject s3:ListBucket", s3, f"{s3}/*"), allow(pull)]
        )
        passing = {"condition": {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}}
        jobs = arn("sagemaker", "processing-job/*")
        self.statements = {
            "create": allow("sagemaker:CreateProcessingJob", jobs),
            "describe": allow("sagemaker:DescribeProcessingJob", jobs),
            "stop": allow("sagemaker:StopProcessingJob", jobs),
            "tags": allow("sagemaker:AddTags", jobs),
            "pass": allow("iam:PassRole", self.job_role, **passing),
            "events": allow("events:PutTargets events:PutRule events:DescribeRule", arn("events", f"rule/{RULE}")),
        }
        self.role = self.make_role()

    def make_role(self, *, without: str = "") -> str:
        statements = [statement for name, statement in self.statements.items() if name != without]
        return self.embedded.make_role(statements, service="states.amazonaws.com")

    def job(self, script: str = "pass", **more: Any) -> dict[str, Any]:
        """Return a Task state that runs ``script`` as a job, named after the execution and the retry."""
        cluster = {"InstanceCount": 1, "InstanceType": "ml.t3.medium", "VolumeSizeInGB": 1}
        suffix = more.pop("suffix", "job")
        parameters = {
            "ProcessingJobName.$": f"States.Format('{{}}-{suffix}-{{}}', $$.Execution.Name, $$.State.RetryCount)",
            "RoleArn": self.job_role,
            "AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": ["python3", "-c", script]},
            "ProcessingResources": {"ClusterConfig": cluster},
            **more.pop("parameters", {}),
        }
        following = {} if "Next" in more else {"End": True}
        return {"Type": "Task", "Resource": SYNC, "Parameters": parameters, **following, **more}

    def machine(self, states: dict[str, Any], *, role: str | None = None, **more: Any) -> str:
        definition = json.dumps({"StartAt": next(iter(states)), "States": states, **more})
        made = self.states.create_state_machine(
            name=f"states-{uuid.uuid4().hex[:8]}", definition=definition, roleArn=role or self.role
        )
        return made["stateMachineArn"]

    def start(self, machine: str, document: Any = None) -> str:
        name = f"run-{uuid.uuid4().hex[:8]}"
        text = json.dumps({} if document is None else document)
        return self.states.start_execution(stateMachineArn=machine, name=name, input=text)["executionArn"]

    def ended(self, execution: str) -> dict[str, Any]:
        def final() -> dict[str, Any] | None:
            found = self.states.describe_execution(executionArn=execution)
            return found if found["status"] in FINAL else None

        return eventually(final, 600)

    def run(self, states: dict[str, Any], document: Any = None, **more: Any) -> dict[str, Any]:
        return self.ended(self.start(self.machine(states, **more), document))

    def timed_out(self, states: dict[str, Any], document: Any = None, *, began: Callable[[str], bool]) -> str:
        """Return an execution of which its machine's limit was the end, after it ``began`` (is given its name).

        How long that takes is not known on a busy machine: the limit grows until it was long enough.
        """
        for seconds in (2, 10, 50, 250):
            execution = self.start(self.machine(states, TimeoutSeconds=seconds), document)
            assert self.ended(execution)["status"] == "TIMED_OUT"
            if began(execution.rpartition(":")[2]):
                return execution
        raise AssertionError("it did not begin in time")

    def known(self, job: str) -> bool:
        """Whether there is such a job."""
        return bool(self.sagemaker.list_processing_jobs(NameContains=job)["ProcessingJobSummaries"])

    def status(self, job: str) -> str:
        return self.sagemaker.describe_processing_job(ProcessingJobName=job)["ProcessingJobStatus"]

    def running(self, job: str) -> Callable[[], bool]:
        """Return a check that a job has got as far as its script."""

        def check() -> bool:
            return self.known(job) and self.status(job) == "InProgress"

        return check
