"""S3 buckets and their policies, DynamoDB tables."""

from collections.abc import Mapping
from typing import Any, ClassVar

from helpers.local_aws.cloudformation.resources.base import (
    Calls,
    Made,
    Properties,
    ResourceType,
    changed,
    listed,
    pairs,
    present,
    refuse_taken,
    retag,
    tagged,
)
from helpers.local_aws.cloudformation.schema import FLAG, POLICY, TAGS, TEXT, WHOLE, text

_RULES = {"S3Key": {"Rules": [{"Name": TEXT, "Value": TEXT}]}}
_NO_BUCKET = ("NoSuchBucket", "404")
_NO_TABLE = ("ResourceNotFoundException",)


class Bucket(ResourceType):
    """AWS::S3::Bucket."""

    type = "AWS::S3::Bucket"
    properties: ClassVar = {
        "BucketName": TEXT,
        "PublicAccessBlockConfiguration": {
            "BlockPublicAcls": FLAG, "BlockPublicPolicy": FLAG, "IgnorePublicAcls": FLAG, "RestrictPublicBuckets": FLAG,
        },
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [
                {
                    "BucketKeyEnabled": FLAG,
                    "ServerSideEncryptionByDefault": {"SSEAlgorithm": TEXT, "KMSMasterKeyID": TEXT},
                }
            ]
        },
        "OwnershipControls": {"Rules": [{"ObjectOwnership": TEXT}]},
        "VersioningConfiguration": {"Status": TEXT},
        "NotificationConfiguration": {
            "LambdaConfigurations": [{"Event": TEXT, "Filter": _RULES, "Function": TEXT}],
            "QueueConfigurations": [{"Event": TEXT, "Filter": _RULES, "Queue": TEXT}],
            "TopicConfigurations": [{"Event": TEXT, "Filter": _RULES, "Topic": TEXT}],
        },
        "Tags": TAGS,
    }  # fmt: skip
    replaced = frozenset({"BucketName"})
    attributes = frozenset({"Arn", "DomainName", "RegionalDomainName"})
    name, name_limit, lower_case, tags = "BucketName", 63, True, "list"

    def create(self, call: Calls, name: str, wanted: Properties) -> Made:
        """Make the bucket, then its settings; notifications last, for S3 asks the functions' policies."""
        refuse_taken(call, self.type, name, _NO_BUCKET, "s3", "head_bucket", Bucket=name)
        place = {} if call.site.region == "us-east-1" else {
            "CreateBucketConfiguration": {"LocationConstraint": call.site.region}
        }  # fmt: skip
        call("s3", "create_bucket", Bucket=name, **place)
        call.exists(name)
        self._set(call, name, {}, wanted)
        return Made(name, {
            "Arn": f"arn:aws:s3:::{name}",
            "DomainName": f"{name}.s3.amazonaws.com",
            "RegionalDomainName": f"{name}.s3.{call.site.region}.amazonaws.com",
        })  # fmt: skip

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Put or take away the settings that differ."""
        self._set(call, physical, old, new)
        return {}

    def delete(self, call: Calls, physical: str, old: Properties) -> None:
        """Delete the bucket, which must be empty."""
        call.tolerant(_NO_BUCKET, "s3", "delete_bucket", Bucket=physical)

    def _set(self, call: Calls, bucket: str, old: Properties, new: Properties) -> None:
        for name, put, remove, member in (
            ("PublicAccessBlockConfiguration", "put_public_access_block", "delete_public_access_block", None),
            ("BucketEncryption", "put_bucket_encryption", "delete_bucket_encryption",
             "ServerSideEncryptionConfiguration"),
            ("OwnershipControls", "put_bucket_ownership_controls", "delete_bucket_ownership_controls", None),
        ):  # fmt: skip
            if not changed(old, new, name):
                continue
            if name not in new:
                call("s3", remove, Bucket=bucket)
            else:
                value = {"Rules": new[name][member]} if member else new[name]
                call("s3", put, Bucket=bucket, **{member or name: value})
        if changed(old, new, "VersioningConfiguration"):
            wanted = new.get("VersioningConfiguration", {"Status": "Suspended"})
            call("s3", "put_bucket_versioning", Bucket=bucket, VersioningConfiguration=wanted)
        if changed(old, new, "Tags"):
            if pairs(new):
                call("s3", "put_bucket_tagging", Bucket=bucket, Tagging={"TagSet": listed(pairs(new))})
            else:
                call("s3", "delete_bucket_tagging", Bucket=bucket)
        if changed(old, new, "NotificationConfiguration"):
            wanted = _notifications(new.get("NotificationConfiguration", {}))
            call("s3", "put_bucket_notification_configuration", Bucket=bucket, NotificationConfiguration=wanted)


def _notifications(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return S3's form of a template's NotificationConfiguration."""
    found = {}
    for name, target, member, arn in (
        ("LambdaConfigurations", "Function", "LambdaFunctionConfigurations", "LambdaFunctionArn"),
        ("QueueConfigurations", "Queue", "QueueConfigurations", "QueueArn"),
        ("TopicConfigurations", "Topic", "TopicConfigurations", "TopicArn"),
    ):
        if wanted.get(name):
            found[member] = [_notification(item, item[target], arn) for item in wanted[name]]
    return found


def _notification(item: Mapping[str, Any], target: str, arn: str) -> dict[str, Any]:
    rules = item.get("Filter", {}).get("S3Key", {}).get("Rules")
    filtered = {"Filter": {"Key": {"FilterRules": rules}}} if rules else {}
    return {arn: target, "Events": [item["Event"]], **filtered}


class BucketPolicy(ResourceType):
    """AWS::S3::BucketPolicy."""

    type = "AWS::S3::BucketPolicy"
    properties: ClassVar = {"Bucket": TEXT, "PolicyDocument": POLICY}
    required = ("Bucket", "PolicyDocument")
    replaced = frozenset({"Bucket"})

    def create(self, call: Calls, name: str, wanted: Properties) -> Made:
        """Put the bucket's policy."""
        call("s3", "put_bucket_policy", Bucket=wanted["Bucket"], Policy=text(wanted["PolicyDocument"]))
        call.exists(wanted["Bucket"])
        return Made(wanted["Bucket"])

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Put the new policy."""
        call("s3", "put_bucket_policy", Bucket=physical, Policy=text(new["PolicyDocument"]))
        return {}

    def delete(self, call: Calls, physical: str, old: Properties) -> None:
        """Take the policy away."""
        call.tolerant((*_NO_BUCKET, "NoSuchBucketPolicy"), "s3", "delete_bucket_policy", Bucket=physical)


_KEYS = [{"AttributeName": TEXT, "KeyType": TEXT}]
_THROUGHPUT = {"ReadCapacityUnits": WHOLE, "WriteCapacityUnits": WHOLE}
_INDEX = {
    "IndexName": TEXT,
    "KeySchema": _KEYS,
    "Projection": {"ProjectionType": TEXT, "NonKeyAttributes": [TEXT]},
}


class Table(ResourceType):
    """AWS::DynamoDB::Table."""

    type = "AWS::DynamoDB::Table"
    properties: ClassVar = {
        "TableName": TEXT,
        "AttributeDefinitions": [{"AttributeName": TEXT, "AttributeType": TEXT}],
        "KeySchema": _KEYS,
        "BillingMode": TEXT,
        "ProvisionedThroughput": _THROUGHPUT,
        "GlobalSecondaryIndexes": [{**_INDEX, "ProvisionedThroughput": _THROUGHPUT}],
        "LocalSecondaryIndexes": [_INDEX],
        "DeletionProtectionEnabled": FLAG,
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": FLAG},
        "SSESpecification": {"SSEEnabled": FLAG},
        "TimeToLiveSpecification": {"AttributeName": TEXT, "Enabled": FLAG},
        "Tags": TAGS,
    }
    required = ("KeySchema",)
    replaced = frozenset({"TableName", "KeySchema", "LocalSecondaryIndexes"})
    fixed = frozenset({"AttributeDefinitions", "GlobalSecondaryIndexes", "SSESpecification"})
    attributes = frozenset({"Arn"})
    name, name_limit, tags = "TableName", 255, "list"

    def create(self, call: Calls, name: str, wanted: Properties) -> Made:
        """Make the table and wait until it is active."""
        request = present(
            wanted, "AttributeDefinitions", "KeySchema", "BillingMode", "ProvisionedThroughput",
            "GlobalSecondaryIndexes", "LocalSecondaryIndexes", "DeletionProtectionEnabled",
        )  # fmt: skip
        if "SSESpecification" in wanted:
            request["SSESpecification"] = {"Enabled": wanted["SSESpecification"]["SSEEnabled"]}
        answer = call("dynamodb", "create_table", TableName=name, **request, **tagged(wanted))
        call.exists(name)
        self._active(call, name)
        self._set(call, name, {}, wanted)
        return Made(name, {"Arn": answer["TableDescription"]["TableArn"]})

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Change capacity, protection and settings."""
        if changed(old, new, "BillingMode", "ProvisionedThroughput"):
            request = {"BillingMode": new.get("BillingMode", "PROVISIONED"), **present(new, "ProvisionedThroughput")}
            call("dynamodb", "update_table", TableName=physical, **request)
            self._active(call, physical)
        if changed(old, new, "DeletionProtectionEnabled"):
            protected = new.get("DeletionProtectionEnabled", False)
            call("dynamodb", "update_table", TableName=physical, DeletionProtectionEnabled=protected)
            self._active(call, physical)
        self._set(call, physical, old, new)
        retag(call, old, new, "dynamodb", ResourceArn=call.site.arn("dynamodb", f"table/{physical}"))
        return {}

    def delete(self, call: Calls, physical: str, old: Properties) -> None:
        """Delete the table and wait until it is gone."""
        if call.tolerant(_NO_TABLE, "dynamodb", "delete_table", TableName=physical) is not None:
            call.until(
                lambda: call.tolerant(_NO_TABLE, "dynamodb", "describe_table", TableName=physical) is None,
                f"the deletion of table {physical}",
            )

    def _active(self, call: Calls, name: str) -> None:
        call.until(
            lambda: call("dynamodb", "describe_table", TableName=name)["Table"]["TableStatus"] == "ACTIVE",
            f"table {name}",
        )

    def _set(self, call: Calls, table: str, old: Properties, new: Properties) -> None:
        if changed(old, new, "TimeToLiveSpecification"):
            wanted = new.get("TimeToLiveSpecification") or {**old["TimeToLiveSpecification"], "Enabled": False}
            call("dynamodb", "update_time_to_live", TableName=table, TimeToLiveSpecification=wanted)
        if changed(old, new, "PointInTimeRecoverySpecification"):
            wanted = new.get("PointInTimeRecoverySpecification", {"PointInTimeRecoveryEnabled": False})
            call("dynamodb", "update_continuous_backups", TableName=table, PointInTimeRecoverySpecification=wanted)


TYPES = (Bucket(), BucketPolicy(), Table())
