"""The workshop's bucket and what is uploaded to it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from helpers.roles import Ensured


class BucketTaken(Exception):
    """Another account owns a bucket of this name."""


class NotEmptied(Exception):
    """S3 refused to delete an object; the message says which, and why."""


def ensure_bucket(s3: Any, name: str, *, region: str, tags: Sequence[dict[str, str]]) -> Ensured:
    """Create the bucket ``name``, or find that it is already ours. It is private and tagged.

    us-east-1 takes no LocationConstraint; every other region requires one. Raises
    BucketTaken when another account owns the name.
    """
    created = not _is_seen(s3, name) and _create(s3, name, region)
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


def empty_bucket(s3: Any, name: str) -> int:
    """Delete every version of every object in a bucket. Returns how many versions there were.

    Raises NotEmptied when an object cannot be deleted.
    """
    deleted = 0
    try:
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
            found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            objects = [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in found]
            if objects:
                refused = s3.delete_objects(Bucket=name, Delete={"Objects": objects, "Quiet": True}).get("Errors", ())
                for error in refused:  # the call itself succeeds all the same
                    raise NotEmptied(f"{error['Key']}: {error['Code']}: {error['Message']}")
            deleted += len(objects)
    except s3.exceptions.NoSuchBucket:
        return deleted
    return deleted


def delete_bucket(s3: Any, name: str) -> int:
    """Delete a bucket with every version of every object, as ``empty_bucket`` does; one that is gone is no error."""
    deleted = empty_bucket(s3, name)
    try:
        s3.delete_bucket(Bucket=name)
    except s3.exceptions.NoSuchBucket:
        return deleted
    return deleted


def _is_seen(s3: Any, name: str) -> bool:
    try:
        s3.head_bucket(Bucket=name)
    except ClientError as error:
        # 403 is another account's bucket, or a permission that S3 has not heard of yet; an answer to HEAD
        # says no more. Creating the bucket tells the two apart.
        if error.response["Error"]["Code"] in ("404", "403"):
            return False
        raise
    return True


def _create(s3: Any, name: str, region: str) -> bool:
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        s3.create_bucket(Bucket=name, **where)
    except s3.exceptions.BucketAlreadyOwnedByYou:
        return False
    except s3.exceptions.BucketAlreadyExists as error:
        raise BucketTaken(f"another account owns the bucket {name}: choose another WORKSHOP_PREFIX") from error
    s3.get_waiter("bucket_exists").wait(Bucket=name)
    return True
