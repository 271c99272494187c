"""A bucket whose uploads go to a function, and a bucket in which that function writes down what it got."""

import json
import uuid
from collections import Counter
from typing import Any

from clients import ACCOUNT, allow, arn, eventually, function_settings

WRITE_DOWN = """
import json, os, time, uuid, boto3
s3 = boto3.client("s3")
def handler(event, context):
    time.sleep(float(os.environ.get("SLEEP", "0")))
    for record in event["Records"]:
        key = f"{context.aws_request_id}/{uuid.uuid4()}"
        s3.put_object(Bucket=os.environ["NOTES"], Key=key, Body=json.dumps(record).encode())
"""
CREATED = ("s3:ObjectCreated:*",)


class Uploads:
    """``bucket`` is the one to upload to, ``notes`` the one that shows what ``function`` (an ARN) got."""

    def __init__(self, embedded: Any, source: str = WRITE_DOWN, **environment: str) -> None:
        self.s3, self.lambdas, self.logs = (embedded.client(name) for name in ("s3", "lambda", "logs"))
        self.name = f"uploads-{uuid.uuid4().hex[:8]}"
        self.bucket, self.notes = self.name, f"{self.name}-notes"
        for bucket in (self.bucket, self.notes):
            self.s3.create_bucket(Bucket=bucket)
        group = f"/aws/lambda/{self.name}"
        statements = [
            allow("s3:PutObject", f"arn:aws:s3:::{self.notes}/*"),
            allow("logs:CreateLogGroup logs:CreateLogStream logs:PutLogEvents", arn("logs", f"log-group:{group}:*")),
        ]
        variables = {"Variables": {"NOTES": self.notes, **environment}}
        role = embedded.make_role(statements, service="lambda.amazonaws.com")
        settings = function_settings(self.name, role, source, Environment=variables)
        self.function = self.lambdas.create_function(**settings)["FunctionArn"]

    def permit(self, **source: str) -> None:
        """Let S3 invoke the function for this bucket, or for another ``SourceArn`` or ``SourceAccount``."""
        named = {"SourceArn": f"arn:aws:s3:::{self.bucket}", "SourceAccount": ACCOUNT, **source}
        self.lambdas.add_permission(
            FunctionName=self.name, StatementId="s3", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com",
            **named,
        )  # fmt: skip

    def notify(self, *events: str, id: str = "one", **rules: str) -> dict[str, Any]:
        """Send events to the function; return the configuration that was put."""
        one = {"Id": id, "LambdaFunctionArn": self.function, "Events": list(events or CREATED)}
        if rules:
            one["Filter"] = {"Key": {"FilterRules": [{"Name": name, "Value": value} for name, value in rules.items()]}}
        made = {"LambdaFunctionConfigurations": [one]}
        self.s3.put_bucket_notification_configuration(Bucket=self.bucket, NotificationConfiguration=made)
        return made

    def put(self, key: str, body: bytes = b"body") -> dict[str, Any]:
        return self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def deliveries(self) -> Counter[str]:
        """Return how often each event, by its request id, was delivered to the end."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.notes)
        return Counter(item["Key"].partition("/")[0] for page in pages for item in page.get("Contents", []))

    def records(self, count: int) -> list[dict[str, Any]]:
        """Wait for ``count`` records and return them in the order of their sequencers."""
        eventually(lambda: self.deliveries().total() >= count, 600)
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.notes)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        found = [json.loads(self.s3.get_object(Bucket=self.notes, Key=key)["Body"].read()) for key in keys]
        assert len(found) == count, f"{len(found)} records, not {count}"
        return sorted(found, key=lambda record: record["s3"]["object"]["sequencer"])

    def keys(self, count: int) -> list[str]:
        """Return the keys of ``count`` records, as events write them."""
        return [record["s3"]["object"]["key"] for record in self.records(count)]

    def starts(self) -> list[str]:
        """Return the request id of each attempt that the function's log shows."""
        try:
            found = self.logs.filter_log_events(logGroupName=f"/aws/lambda/{self.name}")["events"]
        except self.logs.exceptions.ResourceNotFoundException:
            return []
        return [event["message"].split()[2] for event in found if event["message"].startswith("START")]
