"""The stack of notebook 07, deployed by CloudFormation with the notebook's service role, and units for it."""

import csv
import hashlib
import io
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clients import ACCOUNT, REGION, eventually

from helpers import deployer, functions, roles, stacks, storage, units
from helpers.connection import Connection
from helpers.local_aws import control, credentials

FOLDER = functions.SOURCES / "ec2_worker"
SAMPLE = control.PROJECT / "dataset" / "sample.csv"
COLUMNS = ["age", "wage per hour", "capital gains", "weeks worked in year", "income"]
# The reaper runs when a test says so.
PATIENT = {
    "HeartbeatSeconds": "600",
    "PollSeconds": "5",
    "StartSeconds": "900",
    "LimitSeconds": "3600",
    "ReaperRate": "rate(600 minutes)",
}


def sample(rows: int = 1000) -> bytes:
    """Return numeric columns of the committed sample, with the income as the target."""
    with open(SAMPLE, newline="") as file:
        found = [[row[name].strip() for name in COLUMNS] for row in csv.DictReader(file)][:rows]
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS, *found])
    return text.getvalue().encode()


DATA = sample()
STALL = {"stall_seconds": 600}  # longer than any test waits


class WorkerStack:
    """A deployed stack, and what its users do: upload units, look at records, take permissions away."""

    def __init__(self, embedded: Any, prefix: str) -> None:
        self.embedded, self.client = embedded, embedded.client
        self.connection = Connection("local", REGION, ACCOUNT, credentials.NOTEBOOK_ROLE_ARN, prefix=prefix)
        self.name = self.connection.name("ec2-worker")
        self.bucket = f"{self.connection.name('units')}-{ACCOUNT}"
        self.told: dict[str, dict[str, Any]] = {}  # messages by unit

    def deploy(self) -> "WorkerStack":
        """Create the stack as the notebook does. Raises stacks.StackFailed."""
        cloudformation, code_key = self.client("cloudformation"), self._upload_code()
        role = roles.ensure_role(
            self.client("iam"),
            self.connection.name("deployer"),
            trusted="cloudformation.amazonaws.com",
            statements=deployer.deployer_statements(
                self.connection, self.name, bucket=self.bucket, code_key="functions/*"
            ),
            tags=self.connection.tag_list,
        )
        subnet = self.client("ec2").describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])
        self.parameters = PATIENT | {
            "BucketName": self.bucket,
            "SubnetId": subnet["Subnets"][0]["SubnetId"],
            "VpcId": subnet["Subnets"][0]["VpcId"],
            "CodeBucket": self.connection.bucket,
            "CodeKey": code_key,
            "Workshop": self.connection.prefix,
        }
        cloudformation.create_stack(
            StackName=self.name,
            TemplateBody=(FOLDER / "template.yaml").read_text(),
            Parameters=_pairs(self.parameters),
            Capabilities=["CAPABILITY_IAM"],
            RoleARN=role.arn,
            Tags=self.connection.tag_list,
        )
        stacks.follow(cloudformation, self.name)
        self.outputs = stacks.outputs(cloudformation, self.name)
        self._subscribe()
        return self

    @contextmanager
    def impatient(self, **seconds: str) -> Iterator[None]:
        """Give the stack other limits, and its own back.

        Only for units that will exceed them: a worker that is well may need seconds to begin while other tests run.
        """
        try:
            self._update(seconds)
            yield
        finally:
            self._update({})

    def _update(self, parameters: dict[str, str]) -> None:
        cloudformation = self.client("cloudformation")
        cloudformation.update_stack(
            StackName=self.name,
            UsePreviousTemplate=True,
            Parameters=_pairs(self.parameters | parameters),
            Capabilities=["CAPABILITY_IAM"],
        )
        stacks.follow(cloudformation, self.name)

    def _upload_code(self) -> str:
        s3 = self.client("s3")
        storage.ensure_bucket(s3, self.connection.bucket, region=REGION, tags=self.connection.tag_list)
        code = functions.package(FOLDER)
        key = f"functions/ec2_worker-{hashlib.sha256(code).hexdigest()[:16]}.zip"
        s3.put_object(Bucket=self.connection.bucket, Key=key, Body=code)
        return key

    def _subscribe(self) -> None:
        sqs, topic = self.client("sqs"), self.outputs["Topic"]
        self.queue = sqs.create_queue(QueueName=self.connection.name("units"))["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
        }
        sqs.set_queue_attributes(QueueUrl=self.queue, Attributes={"Policy": roles.policy_json([statement])})
        self.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

    def upload(self, unit: str = "", *, data: bytes = DATA, **metainfo: Any) -> str:
        """Upload a unit, metainfo.json last. Returns its id, a new one unless it is given."""
        unit = unit or f"device/{uuid.uuid4().hex[:12]}"
        device, _, name = unit.partition("/")
        body = {"device": device, "unit": name, "data": ["data.csv"], "target": "income", **metainfo}
        s3 = self.client("s3")
        s3.put_object(Bucket=self.bucket, Key=f"{unit}/data.csv", Body=data)
        s3.put_object(Bucket=self.bucket, Key=f"{unit}/metainfo.json", Body=json.dumps(body).encode())
        return unit

    def record(self, unit: str) -> dict[str, Any]:
        """Return a unit's record, {} where there is none."""
        return units.find(self.client("dynamodb"), self.outputs["Table"], unit) or {}

    def wait(self, unit: str, *statuses: str) -> dict[str, Any]:
        """Return a unit's record once it has one of ``statuses``; a final one unless told."""
        wanted = statuses or units.FINAL
        return eventually(lambda: (found := self.record(unit)).get("JobStatus") in wanted and found)

    def ended(self, unit: str) -> dict[str, Any]:
        """Return the description of a unit's execution once it has ended."""
        return self.execution_ended(eventually(lambda: self.record(unit).get("Execution")))

    def execution_ended(self, arn: str) -> dict[str, Any]:
        """Return an execution's description once it has ended."""
        states = self.client("stepfunctions")

        def look() -> Any:
            found = states.describe_execution(executionArn=arn)
            return found["status"] != "RUNNING" and found

        return eventually(look)

    def left(self, unit: str) -> list[str]:
        """Return the ids of a unit's instances that are not ended."""
        filters = [{"Name": "tag:unit", "Values": [unit]}, {"Name": "tag:stack", "Values": [self.name]}]
        filters.append({"Name": "instance-state-name", "Values": list(units.LIVE)})
        found = self.client("ec2").describe_instances(Filters=filters)["Reservations"]
        return [one["InstanceId"] for group in found for one in group["Instances"]]

    def messages(self, unit: str) -> dict[str, Any]:
        """Return the message that told of a unit's end; those of other units are kept for later."""
        sqs = self.client("sqs")

        def look() -> Any:
            for each in sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages", ()):
                body = json.loads(json.loads(each["Body"])["Message"])
                self.told[body["unit"]] = body
                sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=each["ReceiptHandle"])
            return self.told.pop(unit, None)

        return eventually(look)

    def reap(self) -> dict[str, Any]:
        """Run the reaper now. Returns its answer, or its error."""
        answer = self.client("lambda").invoke(FunctionName=self.outputs["Reaper"])
        return json.load(answer["Payload"])

    @contextmanager
    def without(self, role: str, action: str) -> Iterator[None]:
        """Take one permission out of a role of the stack, by its logical name, and give it back."""
        iam = self.client("iam")
        found = self.client("cloudformation").describe_stack_resource(StackName=self.name, LogicalResourceId=role)
        name = found["StackResourceDetail"]["PhysicalResourceId"]
        [policy] = iam.list_role_policies(RoleName=name)["PolicyNames"]
        document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
        less = [_without(statement, action) for statement in document["Statement"]]
        assert less != document["Statement"], f"{role} has no {action}"
        # A policy has at least one statement: what nobody uses stands for none.
        kept = [each for each in less if each["Action"]] or [less[0] | {"Action": "lambda:ListFunctions"}]
        iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=roles.policy_json(kept))
        try:
            yield
        finally:
            iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(document))


def _pairs(parameters: dict[str, str]) -> list[dict[str, str]]:
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]


def _without(statement: dict[str, Any], action: str) -> dict[str, Any]:
    actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
    return statement | {"Action": [each for each in actions if each != action]}
