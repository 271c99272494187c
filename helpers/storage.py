"""The workshop's bucket and what is uploaded to it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from helpers.roles import Ensured


class BucketTaken(Exception):
    """Another account owns a bucket of this name."""


def ensure_bucket(s3: Any, name: str, *, region: str, tags: Sequence[dict[str, str]]) -> Ensured:
    """Create the bucket ``name``, or find that it is already ours. It is private and tagged.

    us-east-1 takes no LocationConstraint; every other region requires one. Raises
    BucketTaken when another account owns the name (S3 answers 403).
    """
    created = not _is_ours(s3, name)
    if created:
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=name, **where)
        s3.get_waiter("bucket_exists").wait(Bucket=name)
    closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=dict.fromkeys(closed, True))
    s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": list(tags)})
    return Ensured(name, f"arn:aws:s3:::{name}", created)


def ensure_upload(s3: Any, file: Path, bucket: str, key: str) -> bool:
    """Upload a file in parts, streamed from disk. Returns False when the bucket has one of that name and size."""
    try:
        if s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == file.stat().st_size:
            return False
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchKey"):
            raise
    s3.upload_file(str(file), bucket, key)
    return True


def delete_bucket(s3: Any, name: str) -> int:
    """Delete a bucket with every version of every object. Returns how many objects there were."""
    deleted = 0
    try:
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
            found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            objects = [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in found]
            if objects:
                s3.delete_objects(Bucket=name, Delete={"Objects": objects, "Quiet": True})
            deleted += len(objects)
        s3.delete_bucket(Bucket=name)
    except s3.exceptions.NoSuchBucket:
        return deleted
    return deleted


def _is_ours(s3: Any, name: str) -> bool:
    try:
        s3.head_bucket(Bucket=name)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "404":
            return False
        if code == "403":
            raise BucketTaken(
                f"the bucket {name} exists and this role may not see it: "
                "another account owns it, or s3:ListBucket is missing"
            ) from error
        raise
    return True
