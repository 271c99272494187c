"""Work of every kind that tasks start, each as the same script: a Fargate task, a Batch job, a training job."""

import json
import uuid
from collections.abc import Callable
from typing import Any

from clients import IMAGE, allow, arn, eventually
from lab import Lab

PYTHON = "public.ecr.aws/docker/library/python:3.12"
KINDS = ("ecs", "batch", "training")
RESOURCES = {
    "ecs": "arn:aws:states:::ecs:runTask",
    "batch": "arn:aws:states:::batch:submitJob",
    "training": "arn:aws:states:::sagemaker:createTrainingJob",
}
RULES = {
    "ecs": "StepFunctionsGetEventsForECSTaskRule",
    "batch": "StepFunctionsGetEventsForBatchJobsRule",
    "training": "StepFunctionsGetEventsForSageMakerTrainingJobsRule",
}


class ContainerLab(Lab):
    """What the work of each kind needs, and short ways to put it into a state machine."""

    def __init__(self, embedded: Any) -> None:
        super().__init__(embedded)
        self.name = f"work-{uuid.uuid4().hex[:8]}"
        self.ecs, self.batch = embedded.client("ecs"), embedded.client("batch")
        self.subnet = embedded.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
        group = embedded.client("ec2").describe_security_groups()["SecurityGroups"][0]["GroupId"]
        self.network = {"Subnets": [self.subnet], "SecurityGroups": [group], "AssignPublicIp": "ENABLED"}
        writing = [allow("logs:CreateLogGroup logs:CreateLogStream logs:PutLogEvents")]
        self.execution = embedded.make_role(writing, service="ecs-tasks.amazonaws.com")
        own = [allow("s3:PutObject", f"arn:aws:s3:::{self.bucket}/*"), allow("states:SendTaskSuccess")]
        self.task_role = embedded.make_role(own, service="ecs-tasks.amazonaws.com")
        self._make_cluster()
        self._make_queue(group)
        self.allowed = self._statements()
        self.work_role = self.role_of()

    def _make_cluster(self) -> None:
        self.ecs.create_cluster(clusterName=self.name, capacityProviders=["FARGATE", "FARGATE_SPOT"])
        container = {"name": "main", "image": PYTHON, "command": ["python", "-c", "pass"]}
        made = self.ecs.register_task_definition(
            family=self.name, networkMode="awsvpc", requiresCompatibilities=["FARGATE"], cpu="256", memory="512",
            containerDefinitions=[container], executionRoleArn=self.execution, taskRoleArn=self.task_role,
        )  # fmt: skip
        self.definition = made["taskDefinition"]["taskDefinitionArn"]

    def _make_queue(self, group: str) -> None:
        self.batch.create_compute_environment(
            computeEnvironmentName=self.name, type="MANAGED", state="ENABLED",
            computeResources={
                "type": "FARGATE", "maxvCpus": 4, "subnets": [self.subnet], "securityGroupIds": [group],
            },
        )  # fmt: skip
        eventually(lambda: self._status_of_environment() == "VALID")
        self.batch.create_job_queue(
            jobQueueName=self.name, state="ENABLED", priority=1,
            computeEnvironmentOrder=[{"order": 1, "computeEnvironment": self.name}],
        )  # fmt: skip
        resources = [{"type": "VCPU", "value": "0.25"}, {"type": "MEMORY", "value": "512"}]
        self.batch.register_job_definition(
            jobDefinitionName=self.name, type="container", platformCapabilities=["FARGATE"],
            containerProperties={
                "image": PYTHON, "command": ["python", "-c", "pass"], "resourceRequirements": resources,
                "executionRoleArn": self.execution, "jobRoleArn": self.task_role,
                "networkConfiguration": {"assignPublicIp": "ENABLED"},
            },
        )  # fmt: skip

    def _status_of_environment(self) -> str:
        found = self.batch.describe_compute_environments(computeEnvironments=[self.name])["computeEnvironments"]
        return found[0]["status"]

    def _statements(self) -> dict[str, dict[str, Any]]:
        def passing(service: str, *roles: str) -> dict[str, Any]:
            return allow("iam:PassRole", *roles, condition={"StringEquals": {"iam:PassedToService": service}})

        jobs = arn("sagemaker", "training-job/*")
        rules = [arn("events", f"rule/{rule}") for rule in RULES.values()]
        return {
            "ecs:RunTask": allow("ecs:RunTask", arn("ecs", f"task-definition/{self.name}:*")),
            "ecs:DescribeTasks": allow("ecs:DescribeTasks"),
            "ecs:StopTask": allow("ecs:StopTask"),
            "ecs:PassRole": passing("ecs-tasks.amazonaws.com", self.execution, self.task_role),
            "batch:SubmitJob": allow("batch:SubmitJob"),
            "batch:DescribeJobs": allow("batch:DescribeJobs"),
            "batch:TerminateJob": allow("batch:TerminateJob"),
            "sagemaker:CreateTrainingJob": allow("sagemaker:CreateTrainingJob", jobs),
            "sagemaker:DescribeTrainingJob": allow("sagemaker:DescribeTrainingJob", jobs),
            "sagemaker:StopTrainingJob": allow("sagemaker:StopTrainingJob", jobs),
            "sagemaker:AddTags": allow("sagemaker:AddTags", jobs),
            "sagemaker:PassRole": passing("sagemaker.amazonaws.com", self.job_role),
            "events": allow("events:PutTargets events:PutRule events:DescribeRule", *rules),
        }

    def role_of(self, *, without: str = "") -> str:
        """Return a machine's role that may do all of it but one thing."""
        kept = [statement for name, statement in self.allowed.items() if name != without]
        return self.embedded.make_role(kept, service="states.amazonaws.com")

    def work(self, kind: str, script: str, *, pattern: str = ".sync", **more: Any) -> dict[str, Any]:
        """Return a Task state that runs a Python script as work of a kind."""
        suffix = more.pop("suffix", "job")
        parameters: dict[str, Any] = {
            "ecs": {
                "LaunchType": "FARGATE",
                "Cluster": self.name,
                "TaskDefinition": self.name,
                "NetworkConfiguration": {"AwsvpcConfiguration": self.network},
                "Overrides": {"ContainerOverrides": [{"Name": "main", "Command": ["python", "-c", script]}]},
            },
            "batch": {
                "JobName": "script",
                "JobQueue": self.name,
                "JobDefinition": self.name,
                "ContainerOverrides": {"Command": ["python", "-c", script]},
            },
            "training": {
                "TrainingJobName.$": f"States.Format('{{}}-{suffix}-{{}}', $$.Execution.Name, $$.State.RetryCount)",
                "RoleArn": self.job_role,
                "AlgorithmSpecification": {
                    "TrainingImage": IMAGE,
                    "TrainingInputMode": "File",
                    "ContainerEntrypoint": ["python3", "-c", script],
                },
                "OutputDataConfig": {"S3OutputPath": f"s3://{self.bucket}/models"},
                "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
                "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            },
        }[kind]
        following = {} if "Next" in more else {"End": True}
        resource = f"{RESOURCES[kind]}{pattern}"
        return {"Type": "Task", "Resource": resource, "Parameters": parameters, **following, **more}

    def begin(self, states: dict[str, Any], document: Any = None, *, role: str = "", **more: Any) -> str:
        """Start an execution of a machine of these states."""
        return self.start(self.machine(states, role=role or self.work_role, **more), document)

    def events(self, execution: str) -> list[dict[str, Any]]:
        return self.states.get_execution_history(executionArn=execution, maxResults=1000)["events"]

    def submitted(self, execution: str) -> list[dict[str, Any]]:
        """Return what the services answered when they started work."""
        details = [event.get("taskSubmittedEventDetails") for event in self.events(execution)]
        return [json.loads(detail["output"]) for detail in details if detail]

    def state_of(self, kind: str, answer: dict[str, Any]) -> str:
        """Return how work stands that was started with an answer."""
        if kind == "ecs":
            task = answer["Tasks"][0]["TaskArn"]
            return self.ecs.describe_tasks(cluster=self.name, tasks=[task])["tasks"][0]["lastStatus"]
        if kind == "batch":
            return self.batch.describe_jobs(jobs=[answer["JobId"]])["jobs"][0]["status"]
        name = answer["TrainingJobArn"].rpartition("/")[2]
        return self.sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"]

    def running(self, execution: str, count: int = 1) -> Callable[[], bool]:
        """Return a check that the scripts of an execution have said, in S3, that they run."""
        prefix = f"running/{execution.rpartition(':')[2]}"
        return lambda: self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix)["KeyCount"] >= count
