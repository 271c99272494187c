"""The systems of notebooks 08b to 08d on the embedded AWS."""

import json
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from clients import ACCOUNT, IMAGE, REGION, eventually
from processing_roles import ProcessingRoles

from helpers import (
    containers,
    functions,
    images,
    machines,
    processing,
    processing_machines,
    roles,
    storage,
)
from helpers.connection import Connection
from helpers.local_aws import control, credentials

FINAL = ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")
SAMPLE = control.PROJECT / "dataset" / "sample.csv"
BUILD_IMAGE = "aws/codebuild/amazonlinux-x86_64-standard:5.0"
# A build takes seconds: the test files that one embedded AWS serves share the image. By its state folder.
_BUILT: dict[str, str] = {}


class ProcessingWorkshop(ProcessingRoles):
    """Names, clients of an administrator, and what the notebooks make: an image, functions, tasks, jobs, machines."""

    def __init__(self, embedded: Any, prefix: str, *, parts: int = 4) -> None:
        self.embedded, self.client = embedded, embedded.client
        super().__init__(Connection("local", REGION, ACCOUNT, credentials.NOTEBOOK_ROLE_ARN, prefix=prefix))
        self.s3, self.states, self.logs = (self.client(each) for each in ("s3", "stepfunctions", "logs"))
        self.network = processing.find_default_network(self.client("ec2"))
        self._impatient: set[str] = set()
        self._given_to_fargate: dict[str, Any] = {}
        storage.ensure_bucket(self.s3, self.bucket, region=REGION, tags=self.connection.tag_list)
        self.parts = processing.upload_parts(self.s3, self.bucket, SAMPLE, parts)

    # What the notebooks make.

    def role(self, suffix: str, kind: str, service: str, statements: list[dict[str, Any]] | None = None) -> str:
        """Make one of the roles, or bring it up to date. Returns its ARN."""
        return roles.ensure_role(
            self.client("iam"),
            self.name(suffix),
            trusted=f"{service}.amazonaws.com",
            statements=self.statements(kind) if statements is None else statements,
            tags=self.connection.tag_list,
        ).arn

    def function(self, folder: str, variables: Mapping[str, str] | None = None) -> str:
        """Make one of the functions with its role. Returns its ARN."""
        name = folder.replace("_", "-")
        return functions.ensure_function(
            self.client("lambda"),
            self.name(name),
            role_arn=self.role(name, name, "lambda"),
            code=functions.package(functions.SOURCES / folder),
            timeout=600,  # for a busy machine, too
            memory=256,
            variables=variables or {},
            tags=self.connection.tags,
        ).arn

    @cached_property
    def image(self) -> str:
        """The URI of the image, built by CodeBuild as the notebook does it."""
        key = str(self.embedded.state_dir)
        if key not in _BUILT:
            _BUILT[key] = self._build_image()
        return _BUILT[key]

    def _build_image(self) -> str:
        ecr, codebuild = self.client("ecr"), self.client("codebuild")
        made = ecr.create_repository(repositoryName=self.repository, tags=self.connection.tag_list)
        uri, tag = made["repository"]["repositoryUri"], images.image_tag()
        source = f"images/{tag}.zip"
        self.s3.put_object(Bucket=self.bucket, Key=source, Body=images.archive())
        codebuild.create_project(
            name=self.name("image"),
            source={"type": "S3", "location": f"{self.bucket}/{source}"},
            artifacts={"type": "NO_ARTIFACTS"},
            environment={
                "type": "LINUX_CONTAINER",
                "image": BUILD_IMAGE,
                "computeType": "BUILD_GENERAL1_SMALL",
                "privilegedMode": True,
                "environmentVariables": [
                    {"name": "REPOSITORY_URI", "value": uri},
                    {"name": "IMAGE_TAG", "value": tag},
                ],
            },
            serviceRole=self.role("image", "build", "codebuild"),
            timeoutInMinutes=30,
            tags=[{"key": key, "value": value} for key, value in self.connection.tags.items()],
        )
        build = codebuild.start_build(projectName=self.name("image"))["build"]["id"]
        images.wait_for_build(codebuild, build, logs=self.logs, seconds=600)
        assert images.is_pushed(ecr, self.repository, tag)
        return f"{uri}:{tag}"

    def build_fargate(self) -> "ProcessingWorkshop":
        """Make notebook 08b's cluster, task definition and machines."""
        ecs = self.client("ecs")
        ecs.create_cluster(clusterName=self.connection.prefix, tags=self.connection.state_tags)
        self.logs.create_log_group(logGroupName=self.group)
        options = {"awslogs-group": self.group, "awslogs-region": REGION, "awslogs-stream-prefix": "summarize"}
        ecs.register_task_definition(
            family=self.name("summarize"),
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="256",
            memory="512",
            executionRoleArn=self.role("containers", "execution", "ecs-tasks"),
            taskRoleArn=self.role("summarize", "task", "ecs-tasks"),
            containerDefinitions=[
                {
                    "name": processing_machines.CONTAINER,
                    "image": self.image,
                    "essential": True,
                    "logConfiguration": {"logDriver": "awslogs", "options": options},
                }
            ],
            tags=self.connection.state_tags,
        )
        self._given_to_fargate = {
            **self._map_and_reduce(),
            "cluster": self.cluster_arn,
            "task_definition": f"arn:aws:ecs:{self.account}:task-definition/{self.name('summarize')}",
            "subnets": self.network.subnets,
            "security_groups": [self.network.security_group],
        }
        self.machine("fargate", processing_machines.fargate(**self._given_to_fargate), "fargate-machine")
        self._fargate_with_token(processing_machines.HEARTBEAT_SECONDS)
        return self

    def _fargate_with_token(self, heartbeat_seconds: int) -> None:
        definition = processing_machines.fargate_with_token(
            **self._given_to_fargate, heartbeat_seconds=heartbeat_seconds
        )
        self.machine("fargate-token", definition, "token-machine")

    @contextmanager
    def silent_after(self, seconds: int) -> Iterator[None]:
        """Give tasks with a token up after so many seconds without a heartbeat.

        Only for those that will send none: a container may need seconds to begin while other tests run. Whatever
        runs at the end is stopped: nobody else ends a task that was given up.
        """
        ecs, cluster = self.client("ecs"), self.connection.prefix
        try:
            self._fargate_with_token(seconds)
            yield
        finally:
            self._fargate_with_token(processing_machines.HEARTBEAT_SECONDS)
            for task in ecs.list_tasks(cluster=cluster, desiredStatus="RUNNING")["taskArns"]:
                ecs.stop_task(cluster=cluster, task=task)

    def build_batch(self, *, max_vcpus: int = 2) -> "ProcessingWorkshop":
        """Make notebook 08c's compute environment, queues, job definitions and machines."""
        batch = self.client("batch")
        spot = self.name("spot")
        batch.create_compute_environment(
            computeEnvironmentName=spot,
            type="MANAGED",
            computeResources={
                "type": "FARGATE_SPOT",
                "maxvCpus": max_vcpus,
                "subnets": list(self.network.subnets),
                "securityGroupIds": [self.network.security_group],
            },
            tags=self.connection.tags,
        )
        eventually(lambda: batch.describe_compute_environments(computeEnvironments=[spot])
                   ["computeEnvironments"][0]["status"] == "VALID")  # fmt: skip
        for queue, priority in (("urgent", 10), ("normal", 1)):
            batch.create_job_queue(
                jobQueueName=self.name(queue),
                priority=priority,
                computeEnvironmentOrder=[{"order": 1, "computeEnvironment": spot}],
                tags=self.connection.tags,
            )
            eventually(lambda queue=queue: batch.describe_job_queues(jobQueues=[self.name(queue)])
                       ["jobQueues"][0]["status"] == "VALID")  # fmt: skip
        execution = self.role("containers", "execution", "ecs-tasks")
        self.logs.create_log_group(logGroupName=containers.JOB_LOGS) if not self._has_job_logs() else None
        for suffix, kind, command in (("summarize", "task", ["summarize.py"]), ("train", "train", ["train.py"])):
            batch.register_job_definition(
                jobDefinitionName=self.name(suffix),
                type="container",
                platformCapabilities=["FARGATE"],
                containerProperties={
                    "image": self.image,
                    "command": command,
                    "executionRoleArn": execution,
                    "jobRoleArn": self.role(suffix, kind, "ecs-tasks"),
                    "resourceRequirements": [{"type": "VCPU", "value": "0.5"}, {"type": "MEMORY", "value": "1024"}],
                    "networkConfiguration": {"assignPublicIp": "ENABLED"},
                },
                # What the container asked for is tried again, and what spot capacity did; a wrong input is not.
                retryStrategy={
                    "attempts": 2,
                    "evaluateOnExit": [
                        {"onExitCode": "75", "action": "RETRY"},
                        {"onStatusReason": "Host EC2*", "action": "RETRY"},
                        {"onReason": "*", "action": "EXIT"},
                    ],
                },
                timeout={"attemptDurationSeconds": 600},
                tags=self.connection.tags,
            )
        queue, definition = f"arn:aws:batch:{self.account}:job-queue/", f"arn:aws:batch:{self.account}:job-definition/"
        given = {**self._map_and_reduce(), "queue": f"{queue}{self.name('normal')}"}
        summarize = processing_machines.batch(**given, job_definition=f"{definition}{self.name('summarize')}")
        self.machine("batch", summarize, "batch-machine")
        sets = processing_machines.batch_sets(
            bucket=self.bucket,
            best_arn=self.function("best_set"),
            queue=f"{queue}{self.name('normal')}",
            job_definition=f"{definition}{self.name('train')}",
        )
        self.machine("batch-sets", sets, "batch-machine")
        return self

    def build_training(self) -> "ProcessingWorkshop":
        """Make notebook 08d's functions and its machine, which the Data Science SDK writes."""
        self.function("prepare_training", {"JOB_PREFIX": f"{self.connection.short_name}-training"})
        self.function("finish_training")
        role = self.role("training-job", "training-job", "sagemaker")
        workflow = self._workflow(role, self.role("training-machine", "training-machine", "states"))
        workflow.create()
        return self

    def _workflow(self, job_role: str, machine_role: str) -> Any:
        import boto3
        import sagemaker
        from sagemaker.sklearn import SKLearn

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the SDK's own: it was last released in 2022
            from stepfunctions import steps
            from stepfunctions.inputs import ExecutionInput
            from stepfunctions.workflow import Workflow
        estimator = SKLearn(
            entry_point="train.py",
            source_dir=processing.upload_source(self.s3, self.bucket),
            role=job_role,
            instance_type="ml.m5.large",
            instance_count=1,
            image_uri=IMAGE,
            metric_definitions=[
                {"Name": name, "Regex": f"{name}=([0-9.]+);"} for name in ("roc_auc", "accuracy", "rows")
            ],
            use_spot_instances=True,
            max_run=600,
            max_wait=1200,
            output_path=f"s3://{self.bucket}/models",
            sagemaker_session=sagemaker.Session(boto3.Session(), default_bucket=self.bucket),
        )
        given = ExecutionInput(schema={"hyper_parameters": dict})
        prepare = steps.LambdaStep(
            "prepare",
            parameters={
                "FunctionName": self.name("prepare-training"),
                "Payload": {"input.$": "$$.Execution.Input", "execution.$": "$$.Execution.Id"},
            },
        )
        prepared = prepare.output()["Payload"]
        names = ("C", "class-weight", "max-iter", "test-size", "seed")
        train = steps.TrainingStep(
            "train",
            estimator,
            job_name=prepared["job_name"],
            data={"train": sagemaker.inputs.TrainingInput(f"s3://{self.bucket}/parts/", content_type="text/csv")},
            hyperparameters={name: prepared["hyper_parameters"][name] for name in names},
            tags=self.connection.tags,
        )
        finish = steps.LambdaStep(
            "finish",
            parameters={
                "FunctionName": self.name("finish-training"),
                "Payload": {"job_name.$": "$.TrainingJobName"},
            },
            output_path="$.Payload",
        )
        return Workflow(
            self.name("training"),
            steps.Chain([prepare, train, finish]),
            machine_role,
            execution_input=given,
            client=self.states,
            tags=self.connection.state_tags,
        )

    def _has_job_logs(self) -> bool:
        found = self.logs.describe_log_groups(logGroupNamePrefix=containers.JOB_LOGS)["logGroups"]
        return any(group["logGroupName"] == containers.JOB_LOGS for group in found)

    def _map_and_reduce(self) -> dict[str, Any]:
        return {
            "bucket": self.bucket,
            "list_arn": self.function("list_parts"),
            "combine_arn": self.function("combine"),
        }

    def machine(self, suffix: str, definition: Mapping[str, Any], kind: str) -> str:
        """Make a state machine, with its role. Returns its ARN."""
        return machines.ensure_state_machine(
            self.states,
            self.name(suffix),
            definition,
            role_arn=self.role(kind, kind, "states"),
            tags=self.connection.state_tags,
        ).arn

    # What the tests do with it.

    def start(self, suffix: str, given: Mapping[str, Any] | None = None) -> str:
        """Start an execution of a machine. Returns its ARN."""
        arn = f"arn:aws:states:{self.account}:stateMachine:{self.name(suffix)}"
        name = f"run-{uuid.uuid4().hex[:8]}"
        text = json.dumps(given or {})
        return self.states.start_execution(stateMachineArn=arn, name=name, input=text)["executionArn"]

    def impatient(self, suffix: str) -> str:
        """Return the suffix of a machine like another one, but without Retry: a refusal is known at once."""
        if suffix not in self._impatient:
            arn = f"arn:aws:states:{self.account}:stateMachine:{self.name(suffix)}"
            found = self.states.describe_state_machine(stateMachineArn=arn)
            definition = json.loads(
                found["definition"], object_hook=lambda state: {k: v for k, v in state.items() if k != "Retry"}
            )
            machines.ensure_state_machine(
                self.states, self.name(f"{suffix}-once"), definition, role_arn=found["roleArn"]
            )
            self._impatient.add(suffix)
        return f"{suffix}-once"

    def ended(self, execution: str) -> dict[str, Any]:
        """Return an execution's description once it has ended."""

        def final() -> dict[str, Any] | None:
            found = self.states.describe_execution(executionArn=execution)
            return found if found["status"] in FINAL else None

        return eventually(final, 600)

    def run(self, suffix: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run a machine to its end. Returns the execution's description."""
        return self.ended(self.start(suffix, given))

    def events(self, execution: str) -> list[str]:
        """Return the types of an execution's events."""
        pages = self.states.get_paginator("get_execution_history").paginate(executionArn=execution)
        return [event["type"] for page in pages for event in page["events"]]

    @contextmanager
    def without(self, suffix: str, kind: str, service: str, action: str) -> Iterator[None]:
        """Take one action from a role, and give it back."""
        kept = [
            {**statement, "Action": [one for one in statement["Action"] if one != action]}
            for statement in self.statements(kind)
        ]
        assert kept != self.statements(kind), f"{kind} has no {action}"
        try:
            self.role(suffix, kind, service, [statement for statement in kept if statement["Action"]])
            yield
        finally:
            self.role(suffix, kind, service)
