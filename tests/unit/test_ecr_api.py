"""The ECR API: repositories, images, layers, tokens, and what IAM is asked."""

import base64
import hashlib
import json

import pytest
from ecr_api import ARN, HOST, Api, manifest

from helpers.local_aws.wire import AwsError


@pytest.fixture
def api(tmp_path):
    api = Api(tmp_path)
    api("CreateRepository", repositoryName="images")
    return api


def test_a_repository_is_described_as_ecr_does(api):
    (found,) = api("DescribeRepositories")["repositories"]
    assert found["repositoryArn"] == f"{ARN}images"
    assert found["repositoryUri"] == f"{HOST}/images"
    assert (found["imageTagMutability"], found["registryId"]) == ("MUTABLE", "123456789012")


def test_a_name_is_taken_once(api):
    code, message = api.refused("CreateRepository", repositoryName="images")
    assert code == "RepositoryAlreadyExistsException"
    assert message == "The repository with name 'images' already exists in the registry with id '123456789012'"


def test_a_name_may_be_as_long_as_ecr_says(tmp_path):
    names = ["b" * 255 + end for end in "xy"]
    for name in names:
        Api(tmp_path)("CreateRepository", repositoryName=name)
    assert [found["repositoryName"] for found in Api(tmp_path)("DescribeRepositories")["repositories"]] == names
    Api(tmp_path)("DeleteRepository", repositoryName=names[0])
    assert [found["repositoryName"] for found in Api(tmp_path)("DescribeRepositories")["repositories"]] == names[1:]


@pytest.mark.parametrize("operation", ["DescribeImages", "ListImages", "DeleteRepository", "InitiateLayerUpload"])
def test_a_repository_that_is_not_there_is_named(api, operation):
    code, message = api.refused(operation, repositoryName="other")
    assert code == "RepositoryNotFoundException"
    assert message == "The repository with name 'other' does not exist in the registry with id '123456789012'"


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"encryptionConfiguration": {"encryptionType": "KMS"}}, "KMS"),
        ({"imageScanningConfiguration": {"scanOnPush": True}}, "scanOnPush"),
        ({"imageTagMutability": "IMMUTABLE_WITH_EXCLUSION"}, "IMMUTABLE_WITH_EXCLUSION"),
        ({"registryId": "999999999999"}, "999999999999"),
    ],
)
def test_what_is_not_here_is_refused_by_name(api, params, named):
    code, message = api.refused("CreateRepository", repositoryName="more", **params)
    assert code == "NotImplemented"
    assert named in message


def test_operations_that_are_not_here_are_refused(api):
    text = {"repositoryName": "images", "policyText": "{}"}
    assert api.refused("SetRepositoryPolicy", **text)[0] == "NotImplemented"
    assert (
        api.refused("PutLifecyclePolicy", repositoryName="images", lifecyclePolicyText="x" * 100)[0] == "NotImplemented"
    )


def test_names_break_as_they_do_on_aws(api):
    assert api.refused("CreateRepository", repositoryName="Images")[0] == "InvalidParameterException"


def test_a_pushed_image_is_described_with_its_tags(api):
    digest = api.push()
    (found,) = api("DescribeImages", repositoryName="images")["imageDetails"]
    assert (found["imageDigest"], found["imageTags"]) == (digest, ["v1"])
    assert found["imageSizeInBytes"] > 0
    assert api("ListImages", repositoryName="images")["imageIds"] == [{"imageDigest": digest, "imageTag": "v1"}]
    (image,) = api("BatchGetImage", repositoryName="images", imageIds=[{"imageTag": "v1"}])["images"]
    assert hashlib.sha256(image["imageManifest"].encode()).hexdigest() == digest.removeprefix("sha256:")


def test_a_tag_moves_to_the_image_that_was_pushed_last(api):
    first, second = api.push("one"), api.push("two")
    assert first != second
    entries = api("ListImages", repositoryName="images")["imageIds"]
    assert entries == [{"imageDigest": first}, {"imageDigest": second, "imageTag": "v1"}]
    tagged = api("ListImages", repositoryName="images", filter={"tagStatus": "UNTAGGED"})["imageIds"]
    assert tagged == [{"imageDigest": first}]


def test_an_immutable_tag_stays(api):
    api("PutImageTagMutability", repositoryName="images", imageTagMutability="IMMUTABLE")
    digest = api.push("one")
    with pytest.raises(AwsError) as caught:
        api.push("two")
    assert caught.value.code == "ImageTagAlreadyExistsException"
    assert "'v1' already exists in the 'images' repository and cannot be overwritten" in caught.value.message
    assert (
        api("DescribeImages", repositoryName="images", imageIds=[{"imageTag": "v1"}])["imageDetails"][0]["imageDigest"]
        == digest
    )


def test_the_same_image_under_the_same_tag_is_already_there(api):
    api.push()
    with pytest.raises(AwsError) as caught:
        api.push()
    assert caught.value.code == "ImageAlreadyExistsException"


def test_an_image_needs_its_layers(api):
    code, message = api.refused("PutImage", repositoryName="images", imageManifest=manifest(b"c", b"l"))
    assert code == "LayersNotFoundException"
    assert hashlib.sha256(b"l").hexdigest() in message


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"schemaVersion": 1}',
        '{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}',
        '{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [{"digest": "x"}]}',
    ],
)
def test_a_manifest_that_is_none_is_refused(api, text):
    assert api.refused("PutImage", repositoryName="images", imageManifest=text)[0] == "InvalidParameterException"


def test_a_layer_whose_digest_is_another_is_refused(api):
    upload = api("InitiateLayerUpload", repositoryName="images")["uploadId"]
    where = {"repositoryName": "images", "uploadId": upload}
    assert api.refused("CompleteLayerUpload", **where, layerDigests=["sha256:" + "0" * 64])[0] == "EmptyUploadException"
    api("UploadLayerPart", **where, partFirstByte=0, partLastByte=2, layerPartBlob=b"abc")
    part = {"partFirstByte": 9, "partLastByte": 11, "layerPartBlob": b"abc"}
    assert api.refused("UploadLayerPart", **where, **part)[0] == "InvalidLayerPartException"
    assert (
        api.refused("CompleteLayerUpload", **where, layerDigests=["sha256:" + "0" * 64])[0] == "InvalidLayerException"
    )


@pytest.mark.parametrize("upload", ["../../x", "0e2b9f5c-6b57-4f0c-9d34-000000000000", "none"])
def test_an_upload_that_is_not_there(api, upload):
    where = {"repositoryName": "images", "uploadId": upload}
    part = {"partFirstByte": 0, "partLastByte": 0, "layerPartBlob": b"a"}
    assert api.refused("UploadLayerPart", **where, **part)[0] in (
        "UploadNotFoundException",
        "InvalidParameterException",
    )


def test_deleting_the_last_tag_deletes_the_image_and_its_layers(api, tmp_path):
    digest = api.push()
    assert len(list((tmp_path / "ecr" / "blobs").iterdir())) == 3
    api.ecr.store.find("images").layers.update(dict.fromkeys(api.ecr.store.find("images").layers, 0.0))
    answer = api("BatchDeleteImage", repositoryName="images", imageIds=[{"imageTag": "v1"}, {"imageTag": "v2"}])
    assert answer["imageIds"] == [{"imageTag": "v1", "imageDigest": digest}]
    assert answer["failures"][0]["failureCode"] == "ImageNotFound"
    assert api("ListImages", repositoryName="images")["imageIds"] == []
    assert list((tmp_path / "ecr" / "blobs").iterdir()) == []


def test_a_layer_that_waits_for_its_manifest_is_not_tidied_away(api):
    api.push("one", "v1")
    waiting = api.upload(b"of a push that is under way")
    api("BatchDeleteImage", repositoryName="images", imageIds=[{"imageTag": "v1"}])
    has = api("BatchCheckLayerAvailability", repositoryName="images", layerDigests=[waiting, "sha256:1"])
    assert has["layers"][0]["layerAvailability"] == "AVAILABLE"
    assert has["failures"][0]["failureCode"] == "InvalidLayerDigest"


def test_layers_that_another_repository_has_stay(api):
    api("CreateRepository", repositoryName="other")
    api.push(repository="images")
    api.push(repository="other")
    api("DeleteRepository", repositoryName="images", force=True)
    (image,) = api("BatchGetImage", repositoryName="other", imageIds=[{"imageTag": "v1"}])["images"]
    layer = json.loads(image["imageManifest"])["layers"][0]["digest"]
    assert api.ecr.store.blob(layer).read_bytes() == b"layer one"


def test_a_repository_with_images_is_deleted_by_force_only(api):
    api.push()
    assert api.refused("DeleteRepository", repositoryName="images")[0] == "RepositoryNotEmptyException"
    api("DeleteRepository", repositoryName="images", force=True)
    assert api("DescribeRepositories")["repositories"] == []


def test_repositories_outlive_a_restart(api, tmp_path):
    digest = api.push()
    api("TagResource", resourceArn=f"{ARN}images", tags=[{"Key": "a", "Value": "1"}])
    again = Api(tmp_path)
    assert again("DescribeImages", repositoryName="images")["imageDetails"][0]["imageDigest"] == digest
    assert again("ListTagsForResource", resourceArn=f"{ARN}images")["tags"] == [{"Key": "a", "Value": "1"}]


def test_tags_of_a_repository(api):
    arn = f"{ARN}images"
    api("TagResource", resourceArn=arn, tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    api("UntagResource", resourceArn=arn, tagKeys=["a", "none"])
    assert api("ListTagsForResource", resourceArn=arn)["tags"] == [{"Key": "b", "Value": "2"}]
    bad = [{"Key": "aws:x", "Value": "1"}]
    assert api.refused("TagResource", resourceArn=arn, tags=bad)[0] == "InvalidTagParameterException"


def test_lists_come_in_pages(api):
    for number in range(3):
        api("CreateRepository", repositoryName=f"r{number}")
    first = api("DescribeRepositories", maxResults=3)
    rest = api("DescribeRepositories", maxResults=3, nextToken=first["nextToken"])
    names = [found["repositoryName"] for found in first["repositories"] + rest["repositories"]]
    assert names == ["images", "r0", "r1", "r2"]
    assert "nextToken" not in rest
    assert api.refused("DescribeRepositories", nextToken="%")[0] == "InvalidParameterException"


def test_a_token_belongs_to_who_got_it_for_twelve_hours(api):
    (data,) = api("GetAuthorizationToken")["authorizationData"]
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    assert (user, data["proxyEndpoint"]) == ("AWS", f"https://{HOST}")
    assert api.ecr.token_owner(password) is api.caller
    assert api.ecr.token_owner("another") is None
    api.now += 12 * 3600 + 1
    assert api.ecr.token_owner(password) is None


def test_a_download_address_gives_one_layer_for_an_hour(api):
    digest = api.upload(b"abc")
    found = api("GetDownloadUrlForLayer", repositoryName="images", layerDigest=digest)
    secret = found["downloadUrl"].rpartition("/")[2]
    assert api.ecr.linked_layer(secret) == digest
    api.now += 3601
    assert api.ecr.linked_layer(secret) is None
    code, _ = api.refused("GetDownloadUrlForLayer", repositoryName="images", layerDigest="sha256:" + "0" * 64)
    assert code == "LayersNotFoundException"


@pytest.mark.parametrize(
    ("operation", "params", "expected"),
    [
        ("GetAuthorizationToken", {}, [("ecr:GetAuthorizationToken", "*")]),
        ("DescribeRepositories", {}, [("ecr:DescribeRepositories", f"{ARN}*")]),
        ("DescribeRepositories", {"repositoryNames": ["images"]}, [("ecr:DescribeRepositories", f"{ARN}images")]),
        ("ListImages", {"repositoryName": "images"}, [("ecr:ListImages", f"{ARN}images")]),
        ("ListTagsForResource", {"resourceArn": f"{ARN}images"}, [("ecr:ListTagsForResource", f"{ARN}images")]),
        (
            "CreateRepository",
            {"repositoryName": "new", "tags": [{"Key": "a", "Value": "1"}]},
            [("ecr:CreateRepository", f"{ARN}new"), ("ecr:TagResource", f"{ARN}new")],
        ),
    ],
)
def test_what_iam_is_asked(api, operation, params, expected):
    api(operation, **params)
    assert [(permission.action, permission.resource) for permission in api.asked] == expected


def test_iam_is_told_the_tags(api):
    api("TagResource", resourceArn=f"{ARN}images", tags=[{"Key": "team", "Value": "a"}])
    api("ListImages", repositoryName="images")
    assert api.asked[0].context == {"aws:ResourceTag/team": "a", "ecr:ResourceTag/team": "a"}
    api("CreateRepository", repositoryName="new", tags=[{"Key": "team", "Value": "b"}])
    assert api.asked[0].context == {"aws:RequestTag/team": "b", "aws:TagKeys": ["team"]}
