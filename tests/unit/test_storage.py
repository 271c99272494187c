"""The bucket: whose it is, where it is made, what goes into it, and how it goes."""

import pytest
from answers import ACCOUNT, Aws, refuse
from botocore.exceptions import ClientError

from helpers import storage

NAME = f"demo-exp-project1-{ACCOUNT}"
TAGS = [{"Key": "workshop", "Value": "demo-exp"}]
ABSENT, CLOSED = refuse("404", "Not Found", 404), refuse("403", "Forbidden", 403)
SETTINGS = {"s3:PutPublicAccessBlock": {}, "s3:PutBucketTagging": {}}


def ensure(aws, region="us-east-1"):
    return storage.ensure_bucket(aws.client("s3"), NAME, region=region, tags=TAGS)


def appearing():
    """HeadBucket of a bucket that is there from the second look on."""
    looks = iter([ABSENT])
    return lambda params: next(looks, lambda _: {})(params)


@pytest.mark.parametrize(
    ("region", "where"),
    [("us-east-1", {}), ("eu-central-1", {"CreateBucketConfiguration": {"LocationConstraint": "eu-central-1"}})],
)
def test_only_us_east_1_takes_no_location(region, where):
    aws = Aws({"s3:HeadBucket": appearing(), "s3:CreateBucket": {}, **SETTINGS})
    assert str(ensure(aws, region)) == f"{NAME}: created"
    assert aws.asked("s3:CreateBucket") == [{"Bucket": NAME, **where}]


def test_the_bucket_is_private_and_tagged_also_when_it_was_there():
    aws = Aws({"s3:HeadBucket": {}, **SETTINGS})
    assert not ensure(aws).created
    (closed,) = aws.asked("s3:PutPublicAccessBlock")
    assert set(closed["PublicAccessBlockConfiguration"].values()) == {True}
    assert aws.asked("s3:PutBucketTagging")[0]["Tagging"] == {"TagSet": TAGS}


def test_a_bucket_of_another_account_is_said_to_be_taken():
    aws = Aws({"s3:HeadBucket": CLOSED, "s3:CreateBucket": refuse("BucketAlreadyExists", status=409)})
    with pytest.raises(storage.BucketTaken, match="WORKSHOP_PREFIX"):
        ensure(aws)


def test_a_bucket_of_ours_that_may_not_be_looked_at_is_found_all_the_same():
    answers = {"s3:HeadBucket": CLOSED, "s3:CreateBucket": refuse("BucketAlreadyOwnedByYou", status=409), **SETTINGS}
    assert not ensure(Aws(answers)).created


def test_a_permission_that_s3_does_not_know_yet_is_not_taken_for_another_account():
    denied = refuse("AccessDenied", "User: x is not authorized to perform: s3:CreateBucket", 403)
    aws = Aws({"s3:HeadBucket": CLOSED, "s3:CreateBucket": denied})
    with pytest.raises(ClientError, match="not authorized to perform"):
        ensure(aws)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,b\n1,2\n")
    return path


def upload(aws, file):
    return storage.ensure_upload(aws.client("s3"), file, NAME, "dataset/data.csv")


def test_a_file_of_the_same_size_is_not_uploaded_again(file):
    assert not upload(Aws({"s3:HeadObject": {"ContentLength": 8}}), file)


@pytest.mark.parametrize("there", [ABSENT, {"ContentLength": 7}])
def test_a_file_that_is_absent_or_of_another_size_is_uploaded(file, there):
    aws = Aws({"s3:HeadObject": there, "s3:PutObject": {}})
    assert upload(aws, file)
    assert [(params["Bucket"], params["Key"]) for params in aws.asked("s3:PutObject")] == [(NAME, "dataset/data.csv")]


def test_without_permission_to_look_nothing_is_uploaded(file):
    aws = Aws({"s3:HeadObject": CLOSED})
    with pytest.raises(ClientError, match="403"):
        upload(aws, file)


def item(key, version):
    return {"Key": key, "VersionId": version}


def test_a_bucket_goes_with_every_version_and_every_delete_marker():
    pages = {
        None: {"Versions": [item("a", "1"), item("a", "2")], "IsTruncated": True, "NextKeyMarker": "a"},
        "a": {"DeleteMarkers": [item("b", "3")], "IsTruncated": False},
    }
    aws = Aws(
        {
            "s3:ListObjectVersions": lambda params: pages[params.get("KeyMarker")],
            "s3:DeleteObjects": {},
            "s3:DeleteBucket": {},
        }
    )
    assert storage.delete_bucket(aws.client("s3"), NAME) == 3
    deleted = [entry for params in aws.asked("s3:DeleteObjects") for entry in params["Delete"]["Objects"]]
    assert deleted == [item("a", "1"), item("a", "2"), item("b", "3")]
    assert aws.names()[-1] == "s3:DeleteBucket"


def test_an_object_that_cannot_be_deleted_is_named():
    locked = {"Errors": [{"Key": "a", "Code": "AccessDenied", "Message": "Access Denied"}]}
    aws = Aws({"s3:ListObjectVersions": {"Versions": [item("a", "1")]}, "s3:DeleteObjects": locked})
    with pytest.raises(storage.NotEmptied, match="a: AccessDenied"):
        storage.delete_bucket(aws.client("s3"), NAME)


def test_deleting_a_bucket_that_is_gone_is_no_error():
    gone = refuse("NoSuchBucket", status=404)
    aws = Aws({"s3:ListObjectVersions": gone, "s3:DeleteBucket": gone})
    assert storage.delete_bucket(aws.client("s3"), NAME) == 0
