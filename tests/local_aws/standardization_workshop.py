"""The system of notebook 06 on the embedded AWS, built as the notebook's role, with the notebook's own statements."""

import json
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clients import ACCOUNT, IMAGE, REGION, allow, arn, eventually

from helpers import functions, permissions, roles, standardization, storage
from helpers.connection import Connection
from helpers.local_aws import credentials
from helpers.permissions import MANAGED_RULE

EVENTS = ["s3:ObjectCreated:Put", "s3:ObjectCreated:CompleteMultipartUpload"]
FINAL = ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")
LOGS = "logs:CreateLogGroup logs:CreateLogStream logs:PutLogEvents"


class StandardizationWorkshop:
    """Names, clients of the notebook's role, and everything that notebook 06 makes."""

    def __init__(self, embedded: Any, prefix: str) -> None:
        self.embedded = embedded
        self.connection = Connection("local", REGION, ACCOUNT, credentials.NOTEBOOK_ROLE_ARN, prefix=prefix)
        self.variables = credentials.environment(embedded.server)
        self.bucket = f"{prefix}-partitions-{ACCOUNT}"
        self.trigger, self.batch_id = (self.connection.name(name) for name in ("standardize-trigger", "batch-id"))
        self.machine_arn = arn("states", f"stateMachine:{self.connection.name('standardize')}")
        self.s3, self.functions, self.states = (self.client(name) for name in ("s3", "lambda", "stepfunctions"))

    def client(self, service: str) -> Any:
        """Return a client of the notebook's role."""
        return self.embedded.client(service, self.variables)

    def statements(self, kind: str) -> list[dict[str, Any]]:
        """Return what a role may do: trigger, batch-id, machine or job."""
        bucket, prefix = f"arn:aws:s3:::{self.bucket}", self.connection.prefix
        log_group = arn("logs", f"log-group:/aws/lambda/{prefix}-")
        job_role = f"arn:aws:iam::{ACCOUNT}:role/{self.connection.name('standardize-job')}"
        passing = {"condition": {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}}
        jobs = "sagemaker:CreateProcessingJob sagemaker:DescribeProcessingJob sagemaker:StopProcessingJob"
        return {
            "trigger": [
                allow("states:StartExecution", self.machine_arn),
                allow(LOGS, f"{log_group}standardize-trigger:*"),
            ],
            "batch-id": [allow(LOGS, f"{log_group}batch-id:*")],
            "machine": [
                allow("lambda:InvokeFunction", arn("lambda", f"function:{self.batch_id}")),
                allow(f"{jobs} sagemaker:AddTags", arn("sagemaker", f"processing-job/{self.connection.project}-*")),
                allow("iam:PassRole", job_role, **passing),
                allow("events:PutTargets events:PutRule events:DescribeRule", arn("events", f"rule/{MANAGED_RULE}")),
            ],
            "job": [
                allow("s3:GetObject", f"{bucket}/meta-data/*", f"{bucket}/{standardization.SCRIPT_KEY}"),
                allow("s3:PutObject", f"{bucket}/prediction-data/*"),
                allow("s3:ListBucket", bucket),
                allow(f"{LOGS} logs:DescribeLogStreams", arn("logs", "log-group:/aws/sagemaker/ProcessingJobs:*")),
                allow("ecr:GetAuthorizationToken"),
                allow(
                    "ecr:BatchCheckLayerAvailability ecr:BatchGetImage ecr:GetDownloadUrlForLayer",
                    f"arn:aws:ecr:{REGION}:*:repository/sagemaker-scikit-learn",
                ),
            ],
        }[kind]

    def role(self, suffix: str, kind: str, service: str) -> str:
        """Make one of the roles, or bring it up to date. Returns its ARN."""
        return roles.ensure_role(
            self.client("iam"),
            self.connection.name(suffix),
            trusted=f"{service}.amazonaws.com",
            statements=self.statements(kind),
            tags=self.connection.tag_list,
        ).arn

    def build(self) -> "StandardizationWorkshop":
        """Do what the notebook does, in its order."""
        for policy, statements in permissions.POLICIES.items():
            self.client("iam").put_role_policy(
                RoleName=self.connection.role_arn.rpartition("/")[2],
                PolicyName=self.connection.name(policy),
                PolicyDocument=roles.policy_json(statements(self.connection)),
            )
        storage.ensure_bucket(self.s3, self.bucket, region=REGION, tags=self.connection.tag_list)
        self.s3.upload_file(str(standardization.SCRIPT), self.bucket, standardization.SCRIPT_KEY)
        job_role = self.role("standardize-job", "job", "sagemaker")
        batch_id = self._function("batch_id", self.role("batch-id", "batch-id", "lambda"), {})
        definition = standardization.state_machine(
            project=self.connection.project,
            bucket=self.bucket,
            image=IMAGE,
            batch_id_arn=batch_id,
            job_role_arn=job_role,
            tags=self.connection.tags,
        )
        self.states.create_state_machine(
            name=self.machine_arn.rpartition(":")[2],
            definition=json.dumps(definition),
            roleArn=self.role("standardize-machine", "machine", "states"),
            tags=self.connection.state_tags,
        )
        trigger_role = self.role("standardize-trigger", "trigger", "lambda")
        variables = {"state_machine_name": self.machine_arn.rpartition(":")[2]}
        self.trigger_arn = self._function("standardize_trigger", trigger_role, variables)
        return self

    def notify(self) -> None:
        """Let uploads invoke the trigger."""
        functions.allow_invoke(
            self.functions,
            self.trigger,
            principal="s3.amazonaws.com",
            source_arn=f"arn:aws:s3:::{self.bucket}",
            account_id=ACCOUNT,
        )
        rules = [{"Name": "prefix", "Value": "meta-data/"}, {"Name": "suffix", "Value": ".csv"}]
        configuration = {
            "Id": "standardize",
            "LambdaFunctionArn": self.trigger_arn,
            "Events": EVENTS,
            "Filter": {"Key": {"FilterRules": rules}},
        }
        self.s3.put_bucket_notification_configuration(
            Bucket=self.bucket, NotificationConfiguration={"LambdaFunctionConfigurations": [configuration]}
        )

    def put(self, name: str, body: bytes) -> str:
        """Upload an object below meta-data/. Returns its key."""
        key = f"meta-data/{name}"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        return key

    def executions(self, keys: Iterable[str], count: int | None = None) -> list[dict[str, Any]]:
        """Return the executions of these keys, one each unless ``count`` is told, once they have ended."""
        wanted = set(keys)
        count = len(wanted) if count is None else count

        def ended() -> list[dict[str, Any]] | None:
            arns = standardization.known_executions(self.states, self.machine_arn)
            found = [self.states.describe_execution(executionArn=one) for one in arns]
            of_these = [one for one in found if json.loads(one["input"])["object"]["key"] in wanted]
            return of_these if sum(one["status"] in FINAL for one in of_these) >= count else None

        return eventually(ended, 600)

    def _function(self, folder: str, role: str, variables: dict[str, str]) -> str:
        return functions.ensure_function(
            self.functions,
            self.connection.name(folder.replace("_", "-")),
            role_arn=role,
            code=functions.package(functions.SOURCES / folder),
            timeout=300,  # for a busy machine, too
            memory=256,
            variables=variables,
            tags=self.connection.tags,
        ).arn


def event_of(bucket: str, key_as_in_url: str, *, etag: str = "0" * 32) -> dict[str, Any]:
    """Return an S3 event of one Put, of an unrepeatable sequencer."""
    template = json.loads((Path(__file__).parents[1] / "unit" / "events" / "s3_put.json").read_text())
    record = template["Records"][0]
    record["s3"]["bucket"] |= {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"}
    record["s3"]["object"] |= {"key": key_as_in_url, "eTag": etag, "sequencer": uuid.uuid4().hex[:16].upper()}
    return template
