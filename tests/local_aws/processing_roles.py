"""What each role of notebooks 08b to 08d may do, in the form in which the notebooks write it."""

import json
from typing import Any

from clients import ACCOUNT, REGION

from helpers import containers, permissions
from helpers.connection import Connection

ECS_RULE, BATCH_RULE, TRAINING_RULE = permissions.MANAGED_RULES[1:]


class ProcessingRoles:
    """The names of the systems' resources, and the statements of their roles."""

    repository = "demo-exp-processing"  # of all prefixes: an image takes seconds to build

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.bucket = connection.bucket_for("processing")
        self.group = f"/ecs/{self.name('summarize')}"

    def name(self, suffix: str) -> str:
        """Return the name of one of the system's resources."""
        return self.connection.name(suffix)

    def statements(self, kind: str) -> list[dict[str, Any]]:
        """Return what a role may do, as a copy that may be changed."""
        return json.loads(json.dumps(getattr(self, f"_{kind.replace('-', '_')}")()))

    @property
    def account(self) -> str:
        """Region and account, as ARNs have them."""
        return f"{REGION}:{ACCOUNT}"

    @property
    def bucket_arn(self) -> str:
        """The ARN of the bucket."""
        return f"arn:aws:s3:::{self.bucket}"

    @property
    def repository_arn(self) -> str:
        """The ARN of the image's repository."""
        return f"arn:aws:ecr:{self.account}:repository/{self.repository}"

    def role_arn(self, suffix: str) -> str:
        """Return the ARN of one of the roles."""
        return f"arn:aws:iam::{ACCOUNT}:role/{self.name(suffix)}"

    def _log(self, group: str) -> dict[str, Any]:
        return {"Effect": "Allow", "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
                "Resource": f"arn:aws:logs:{self.account}:log-group:{group}:*"}  # fmt: skip

    def _pull(self) -> list[dict[str, Any]]:
        return [
            {"Effect": "Allow", "Action": ["ecr:GetAuthorizationToken"], "Resource": "*"},
            {"Effect": "Allow",
             "Action": ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
             "Resource": self.repository_arn},
        ]  # fmt: skip

    def _build(self) -> list[dict[str, Any]]:
        """The build: reads its source, pushes the image, writes its log."""
        return [
            {"Effect": "Allow", "Action": ["s3:GetObject", "s3:GetObjectVersion"],
             "Resource": f"{self.bucket_arn}/images/*"},
            {"Effect": "Allow", "Action": ["ecr:GetAuthorizationToken"], "Resource": "*"},
            {"Effect": "Allow",
             "Action": ["ecr:BatchCheckLayerAvailability", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart",
                        "ecr:CompleteLayerUpload", "ecr:PutImage", "ecr:BatchGetImage"],
             "Resource": self.repository_arn},
            self._log(f"/aws/codebuild/{self.name('image')}"),
        ]  # fmt: skip

    def _execution(self) -> list[dict[str, Any]]:
        """ECS itself, for tasks and for Batch's jobs: pulls the image, writes the log. The groups are made before."""
        groups = [f"arn:aws:logs:{self.account}:log-group:{group}:*" for group in (self.group, containers.JOB_LOGS)]
        return [
            *self._pull(),
            {"Effect": "Allow", "Action": ["logs:CreateLogStream", "logs:PutLogEvents"], "Resource": groups},
        ]

    def _task(self) -> list[dict[str, Any]]:
        """The program that summarizes: reads a part, writes a summary, reports with its token."""
        machine = f"arn:aws:states:{self.account}:stateMachine:{self.name('fargate-token')}"
        return [
            {"Effect": "Allow", "Action": ["s3:GetObject"],
             "Resource": [f"{self.bucket_arn}/parts/*", f"{self.bucket_arn}/sets/*"]},
            {"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": f"{self.bucket_arn}/summaries/*"},
            {"Effect": "Allow",
             "Action": ["states:SendTaskSuccess", "states:SendTaskFailure", "states:SendTaskHeartbeat"],
             "Resource": machine},
        ]  # fmt: skip

    def _train(self) -> list[dict[str, Any]]:
        """The program that trains a model as a Batch job: reads all parts, writes a model and its metrics."""
        return [
            {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": self.bucket_arn,
             "Condition": {"StringLike": {"s3:prefix": "parts/*"}}},
            {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": f"{self.bucket_arn}/parts/*"},
            {"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": f"{self.bucket_arn}/models/*"},
        ]  # fmt: skip

    def _list_parts(self) -> list[dict[str, Any]]:
        return [
            {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": self.bucket_arn,
             "Condition": {"StringLike": {"s3:prefix": "parts/*"}}},
            self._log(f"/aws/lambda/{self.name('list-parts')}"),
        ]  # fmt: skip

    def _combine(self) -> list[dict[str, Any]]:
        return [
            {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": f"{self.bucket_arn}/summaries/*"},
            {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": self.bucket_arn},
            {"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": f"{self.bucket_arn}/results/*"},
            self._log(f"/aws/lambda/{self.name('combine')}"),
        ]

    def _best_set(self) -> list[dict[str, Any]]:
        return [
            {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": f"{self.bucket_arn}/models/*/metrics.json"},
            {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": self.bucket_arn},
            {"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": f"{self.bucket_arn}/results/*"},
            self._log(f"/aws/lambda/{self.name('best-set')}"),
        ]

    def _prepare_training(self) -> list[dict[str, Any]]:
        return [self._log(f"/aws/lambda/{self.name('prepare-training')}")]

    def _finish_training(self) -> list[dict[str, Any]]:
        return [
            {"Effect": "Allow", "Action": ["sagemaker:DescribeTrainingJob"], "Resource": self.training_jobs},
            {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": f"{self.bucket_arn}/models/*"},
            {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": self.bucket_arn},
            self._log(f"/aws/lambda/{self.name('finish-training')}"),
        ]

    def _rule(self, name: str) -> dict[str, Any]:
        """The rule through which Step Functions learns that what it waits for has ended."""
        return {"Effect": "Allow", "Action": ["events:PutTargets", "events:PutRule", "events:DescribeRule"],
                "Resource": f"arn:aws:events:{self.account}:rule/{name}"}  # fmt: skip

    def _invoke(self, *names: str) -> dict[str, Any]:
        arns = [f"arn:aws:lambda:{self.account}:function:{self.name(name)}" for name in names]
        return {"Effect": "Allow", "Action": ["lambda:InvokeFunction"], "Resource": arns}

    def _pass(self, service: str, *suffixes: str) -> dict[str, Any]:
        return {"Effect": "Allow", "Action": ["iam:PassRole"], "Resource": [self.role_arn(each) for each in suffixes],
                "Condition": {"StringEquals": {"iam:PassedToService": service}}}  # fmt: skip

    def _fargate_machine(self) -> list[dict[str, Any]]:
        """The machine that waits for tasks: it also describes and stops them."""
        definition = f"arn:aws:ecs:{self.account}:task-definition/{self.name('summarize')}"
        return [
            self._invoke("list-parts", "combine"),
            {"Effect": "Allow", "Action": ["ecs:RunTask"], "Resource": [definition, f"{definition}:*"],
             "Condition": {"ArnEquals": {"ecs:cluster": self.cluster_arn}}},
            {"Effect": "Allow", "Action": ["ecs:DescribeTasks", "ecs:StopTask"],
             "Resource": f"arn:aws:ecs:{self.account}:task/{self.connection.prefix}/*"},
            self._pass("ecs-tasks.amazonaws.com", "containers", "summarize"),
            self._rule(ECS_RULE),
        ]  # fmt: skip

    def _token_machine(self) -> list[dict[str, Any]]:
        """The machine that hands out tokens: it starts tasks and hears of them by their reports alone."""
        definition = f"arn:aws:ecs:{self.account}:task-definition/{self.name('summarize')}"
        return [
            self._invoke("list-parts", "combine"),
            {"Effect": "Allow", "Action": ["ecs:RunTask"], "Resource": [definition, f"{definition}:*"],
             "Condition": {"ArnEquals": {"ecs:cluster": self.cluster_arn}}},
            self._pass("ecs-tasks.amazonaws.com", "containers", "summarize"),
        ]  # fmt: skip

    def _batch_machine(self) -> list[dict[str, Any]]:
        """The machines that submit jobs. Batch knows no resource for looking at jobs."""
        machine = f"arn:aws:states:{self.account}:stateMachine:{self.name('batch-sets')}"
        children = f"arn:aws:states:{self.account}:execution:{self.name('batch-sets')}"
        jobs = f"arn:aws:batch:{self.account}"
        return [
            self._invoke("list-parts", "combine", "best-set"),
            {"Effect": "Allow", "Action": ["batch:SubmitJob"],
             "Resource": [f"{jobs}:job-queue/{self.connection.prefix}-*",
                          f"{jobs}:job-definition/{self.connection.prefix}-*"]},
            {"Effect": "Allow", "Action": ["batch:DescribeJobs"], "Resource": "*"},
            {"Effect": "Allow", "Action": ["batch:TerminateJob"], "Resource": f"{jobs}:job/*"},
            self._rule(BATCH_RULE),
            {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": f"{self.bucket_arn}/sets/*"},
            {"Effect": "Allow", "Action": ["states:StartExecution"], "Resource": machine},
            {"Effect": "Allow", "Action": ["states:DescribeExecution", "states:StopExecution"],
             "Resource": [f"{children}:*", f"{children}/*"]},
        ]  # fmt: skip

    def _training_machine(self) -> list[dict[str, Any]]:
        """The machine that trains: as for processing jobs."""
        return [
            self._invoke("prepare-training", "finish-training"),
            {"Effect": "Allow",
             "Action": ["sagemaker:CreateTrainingJob", "sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob",
                        "sagemaker:AddTags"],
             "Resource": self.training_jobs},
            self._pass("sagemaker.amazonaws.com", "training-job"),
            self._rule(TRAINING_RULE),
        ]  # fmt: skip

    def _training_job(self) -> list[dict[str, Any]]:
        """The training job: reads parts and its code, writes the model, pulls SageMaker's image, writes its log."""
        return [
            {"Effect": "Allow", "Action": ["s3:GetObject"],
             "Resource": [f"{self.bucket_arn}/parts/*", f"{self.bucket_arn}/code/*"]},
            {"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": f"{self.bucket_arn}/models/*"},
            {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": self.bucket_arn},
            {"Effect": "Allow",
             "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
             "Resource": f"arn:aws:logs:{self.account}:log-group:/aws/sagemaker/TrainingJobs:*"},
            {"Effect": "Allow", "Action": ["ecr:GetAuthorizationToken"], "Resource": "*"},
            {"Effect": "Allow",
             "Action": ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
             "Resource": f"arn:aws:ecr:{REGION}:*:repository/sagemaker-scikit-learn"},
        ]  # fmt: skip

    @property
    def training_jobs(self) -> str:
        """The ARNs of the system's training jobs."""
        return f"arn:aws:sagemaker:{self.account}:training-job/{self.connection.short_name}-training-*"

    @property
    def cluster_arn(self) -> str:
        """The ARN of the cluster."""
        return f"arn:aws:ecs:{self.account}:cluster/{self.connection.prefix}"
