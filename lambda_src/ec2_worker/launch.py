"""Check a unit and launch the instance that works on it; the state machine's first step.

A unit that cannot be worked on is refused before anything is launched. All of
it can be done again: the same execution always names the same instance, by
RunInstances' ClientToken.

Environment: TABLE, STACK, WORKSHOP (values of tags), IMAGE, INSTANCE_TYPE,
SUBNET, SECURITY_GROUP, PROFILE (name), HEARTBEAT_SECONDS, POLL_SECONDS.

IAM actions, and nothing else:
    dynamodb:GetItem, UpdateItem    on the table
    s3:GetObject                    on BUCKET/*/metainfo.json
    s3:ListBucket                   on BUCKET
    ec2:RunInstances, CreateTags    one instance of the stack's kind, with the stack's tag
    iam:PassRole                    on the worker's role, to EC2
    logs                            of the function itself
"""

import base64
import gzip
import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import metainfo
from botocore.exceptions import ClientError
from units import RECEIVED, RESULTS, STARTING, RecordChanged, RecordGone, Table, Unit, unit_of

FOLDER = Path(__file__).parent
VOLUME_GB = 20
MAX_USER_DATA = 16_384  # bytes: EC2's limit
# A new account may run 5 virtual processors: two units of a t3.micro. The others wait for those to end.
NO_CAPACITY = ("VcpuLimitExceeded", "InstanceLimitExceeded", "InsufficientInstanceCapacity", "RequestLimitExceeded")


class NoCapacity(Exception):
    """There is no room for an instance now; the state machine tries again."""


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Launch the worker of ``event``: unit, bucket, key, execution (ARN)."""
    dynamodb, s3, ec2 = clients()
    return launch(event, Table(dynamodb, os.environ["TABLE"]), s3, ec2, os.environ)


@cache
def clients() -> tuple[Any, Any, Any]:
    """Return the DynamoDB, S3 and EC2 clients, made once in the life of the worker."""
    return boto3.client("dynamodb"), boto3.client("s3"), boto3.client("ec2")


def launch(event: dict[str, Any], table: Table, s3: Any, ec2: Any, settings: Mapping[str, str]) -> dict[str, Any]:
    """Return the instance's id, and how many seconds the state machine is to wait between two looks.

    Raises UnitRefused, NoCapacity, RecordGone, or RecordChanged when the record is not this execution's to start.
    """
    unit, execution = unit_of(event["key"]), event["execution"]
    if unit is None or unit.id != event["unit"]:
        raise metainfo.UnitRefused("the execution's input is not that of an upload")
    record = table.find(unit.id)
    if record is None:
        raise RecordGone(f"{unit.id} is not in the table")
    if record["Execution"] != execution or record["JobStatus"] not in (RECEIVED, STARTING):
        raise RecordChanged("the unit is not waiting for a worker of this execution")
    etag, wanted = _read(s3, event["bucket"], event["key"], unit)
    if record["JobStatus"] == RECEIVED:
        # With the tag of what is worked on, which may be newer than what the event told of.
        table.change(unit.id, execution=execution, expected=[RECEIVED], status=STARTING, ETag=etag)
    job = _job(event, wanted, unit, table.name, settings)
    instance = _run(ec2, settings, user_data(job), unit, execution)
    table.change(unit.id, execution=execution, expected=[STARTING], InstanceId=instance)
    return {"instance": instance, "poll_seconds": int(settings["POLL_SECONDS"])}


def user_data(job: Mapping[str, Any], folder: Path = FOLDER) -> str:
    """Return the script that the instance runs: user_data.sh with worker.py, both of ``folder``, and its job in it.

    What a user has chosen is in there in base64 only: no shell reads it. Raises UnitRefused if it is too long.
    """
    text = (folder / "user_data.sh").read_text()
    packed = gzip.compress((folder / "worker.py").read_bytes(), mtime=0)  # the same bytes for the same ClientToken
    told = json.dumps(job, ensure_ascii=False, separators=(",", ":")).encode()
    for place, content in (("@JOB@", told), ("@WORKER@", packed)):
        text = text.replace(place, base64.b64encode(content).decode())
    if len(text.encode()) > MAX_USER_DATA:
        raise metainfo.UnitRefused(
            f"the user data would have {len(text.encode()):,} bytes: EC2 takes {MAX_USER_DATA:,}"
        )
    return text


def _read(s3: Any, bucket: str, key: str, unit: Unit) -> tuple[str, dict[str, Any]]:
    """Return metainfo.json's ETag and content, once its data have been found too."""
    try:
        answer = s3.get_object(Bucket=bucket, Key=key)
    except s3.exceptions.NoSuchKey as error:
        raise metainfo.UnitRefused(f"{key} was deleted") from error
    wanted = metainfo.read(answer["Body"].read(metainfo.MAX_BYTES + 1), unit)
    sizes: dict[str, int] = {}
    for name in wanted["data"]:
        path = f"{unit.id}/{name}"
        # Of the keys with a prefix, the prefix itself sorts first
        for entry in s3.list_objects_v2(Bucket=bucket, Prefix=path, MaxKeys=1).get("Contents", ()):
            if entry["Key"] == path:
                sizes[name] = entry["Size"]
    metainfo.check_files(wanted["data"], sizes)
    return answer["ETag"].strip('"'), wanted


def _job(
    event: Mapping[str, Any], wanted: Mapping[str, Any], unit: Unit, table: str, settings: Mapping[str, str]
) -> dict[str, Any]:
    """Return what the worker is told."""
    return {
        "bucket": event["bucket"],
        "source": f"{unit.id}/",
        "results": f"{RESULTS}/{unit.id}/",
        "data": wanted["data"],
        "target": wanted["target"],
        "stall_seconds": wanted.get("stall_seconds", 0),
        "table": table,
        "unit": unit.id,
        "execution": event["execution"],
        # Four to a limit: a late one is not yet a lost one.
        "heartbeat_seconds": int(settings["HEARTBEAT_SECONDS"]) / 4,
    }


def _run(ec2: Any, settings: Mapping[str, str], script: str, unit: Unit, execution: str) -> str:
    name = execution.rpartition(":")[2]
    tags = {
        "Name": "Worker Instance",
        "workshop": settings["WORKSHOP"],
        "stack": settings["STACK"],
        "unit": unit.id,
        "execution": name,
    }
    tag_list = [{"Key": key, "Value": value} for key, value in tags.items()]
    volume = {"VolumeSize": VOLUME_GB, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    try:
        answer = ec2.run_instances(
            ClientToken=name,
            MinCount=1,
            MaxCount=1,
            ImageId=settings["IMAGE"],
            InstanceType=settings["INSTANCE_TYPE"],
            SubnetId=settings["SUBNET"],
            SecurityGroupIds=[settings["SECURITY_GROUP"]],
            IamInstanceProfile={"Name": settings["PROFILE"]},
            InstanceInitiatedShutdownBehavior="terminate",
            MetadataOptions={"HttpTokens": "required", "HttpEndpoint": "enabled"},
            BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": volume}],
            TagSpecifications=[{"ResourceType": kind, "Tags": tag_list} for kind in ("instance", "volume")],
            UserData=script,
        )
    except ClientError as error:
        if error.response["Error"]["Code"] in NO_CAPACITY:
            raise NoCapacity(str(error)) from error
        raise
    return answer["Instances"][0]["InstanceId"]
