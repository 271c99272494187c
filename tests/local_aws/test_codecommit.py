"""CodeCommit of the embedded AWS, driven by boto3 and the AWS CLI, with IAM enforced."""

import io
import json
import subprocess
import uuid
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from clients import eventually

# It keeps the event that it was sent where the test can read it.
KEEP_EVENT = """
import json, os, boto3
def handler(event, context):
    key = f"{context.aws_request_id}.json"
    boto3.client("s3").put_object(Bucket=os.environ["BUCKET"], Key=key, Body=json.dumps(event))
"""


@pytest.fixture
def repository(embedded: Any) -> Iterator[dict[str, Any]]:
    """Make a repository with a name of its own; return its metadata."""
    client, name = embedded.client("codecommit"), f"test-{uuid.uuid4().hex[:12]}"
    yield client.create_repository(repositoryName=name)["repositoryMetadata"]
    client.delete_repository(repositoryName=name)


def allow(resource: str, *actions: str) -> list[dict[str, Any]]:
    return [{"Effect": "Allow", "Action": list(actions), "Resource": resource}]


def code_of(call: Callable[..., Any], **params: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**params)
    return caught.value.response["Error"]["Code"]


def test_boto3_commits_reads_compares_and_comments(embedded: Any, repository: dict[str, Any]) -> None:
    client, name = embedded.client("codecommit"), {"repositoryName": repository["repositoryName"]}
    files = [{"filePath": f"d/{n}.txt", "fileContent": f"{n}".encode()} for n in range(5)]
    first = client.create_commit(**name, branchName="main", putFiles=files)["commitId"]
    second = client.put_file(
        **name, branchName="main", filePath="new", fileContent=bytes(range(256)), parentCommitId=first
    )["commitId"]
    assert client.get_file(**name, filePath="new")["fileContent"] == bytes(range(256))
    pages = client.get_paginator("get_differences").paginate(
        **name, afterCommitSpecifier="main", PaginationConfig={"PageSize": 2}
    )
    assert [len(page["differences"]) for page in pages] == [2, 2, 2]
    with pytest.raises(client.exceptions.ParentCommitIdOutdatedException):
        client.put_file(**name, branchName="main", filePath="x", fileContent=b"x", parentCommitId=first)
    client.post_comment_for_compared_commit(**name, beforeCommitId=first, afterCommitId=second, content="accepted")
    found = client.get_comments_for_compared_commit(**name, beforeCommitId=first, afterCommitId=second)
    assert found["commentsForComparedCommitData"][0]["comments"][0]["content"] == "accepted"
    described = client.get_repository(**name)["repositoryMetadata"]
    assert described["defaultBranch"] == "main"
    assert described["lastModifiedDate"] >= repository["creationDate"]


def test_the_aws_cli_puts_and_gets_a_file(embedded: Any, repository: dict[str, Any]) -> None:
    def aws(*arguments: str) -> dict[str, Any]:
        command = ["aws", "codecommit", *arguments, "--repository-name", repository["repositoryName"]]
        done = subprocess.run(command, env=embedded.environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    content = ("--file-path", "a.txt", "--file-content", "hello")  # the CLI encodes it
    commit = aws("put-file", "--branch-name", "main", *content)["commitId"]
    assert aws("get-file", "--file-path", "a.txt")["fileContent"] == "aGVsbG8="
    assert aws("get-branch", "--branch-name", "main")["branch"]["commitId"] == commit


def test_permissions_are_scoped_to_the_repository_and_the_branch(embedded: Any, repository: dict[str, Any]) -> None:
    name = repository["repositoryName"]
    embedded.client("codecommit").put_file(repositoryName=name, branchName="main", filePath="a", fileContent=b"1")
    statements = allow(repository["Arn"], "codecommit:Get*", "codecommit:CreateBranch")
    condition = {"StringEquals": {"codecommit:References": "refs/heads/locked"}}
    statements.append({"Effect": "Deny", "Action": "codecommit:CreateBranch", "Resource": "*", "Condition": condition})
    client = embedded.client("codecommit", embedded.variables_of(statements))
    tip = client.get_branch(repositoryName=name, branchName="main")["branch"]["commitId"]
    client.create_branch(repositoryName=name, branchName="open", commitId=tip)
    locked = {"repositoryName": name, "branchName": "locked", "commitId": tip}
    assert code_of(client.create_branch, **locked) == "AccessDeniedException"
    assert code_of(client.get_repository, repositoryName="another") == "AccessDeniedException"
    assert code_of(client.delete_repository, repositoryName=name) == "AccessDeniedException"
    assert code_of(client.list_repositories) == "AccessDeniedException"


def test_a_trigger_runs_its_function_once_the_function_allows_it(embedded: Any, repository: dict[str, Any]) -> None:
    client, name = embedded.client("codecommit"), {"repositoryName": repository["repositoryName"]}
    bucket = repository["repositoryName"]
    embedded.client("s3").create_bucket(Bucket=bucket)
    function = _make_function(embedded, bucket)
    trigger = {"name": "push", "destinationArn": function, "branches": ["main"], "events": ["all"]}
    report = client.test_repository_triggers(**name, triggers=[trigger])
    assert "not authorized" in report["failedExecutions"][0]["failureMessage"]
    embedded.client("lambda").add_permission(
        FunctionName=function,
        StatementId="codecommit",
        Action="lambda:InvokeFunction",
        Principal="codecommit.amazonaws.com",
        SourceArn=repository["Arn"],
        SourceAccount=repository["accountId"],
    )
    client.put_repository_triggers(**name, triggers=[trigger])
    commit = client.put_file(**name, branchName="main", filePath="a", fileContent=b"1")["commitId"]
    [record] = _event_in(embedded, bucket)["Records"]
    assert record["codecommit"] == {"references": [{"commit": commit, "ref": "refs/heads/main", "created": True}]}
    assert record["eventSourceARN"] == repository["Arn"]
    assert record["userIdentityARN"] == embedded.client("sts").get_caller_identity()["Arn"]


def _make_function(embedded: Any, bucket: str) -> str:
    statements = allow(f"arn:aws:s3:::{bucket}/*", "s3:PutObject")
    role = embedded.make_role(statements, service="lambda.amazonaws.com")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr("lambda_function.py", KEEP_EVENT)
    made = embedded.client("lambda").create_function(
        FunctionName=bucket,
        Runtime="python3.12",
        Handler="lambda_function.handler",
        Role=role,
        Code={"ZipFile": archive.getvalue()},
        Environment={"Variables": {"BUCKET": bucket}},
        Timeout=60,
    )
    return made["FunctionArn"]


def _event_in(embedded: Any, bucket: str) -> dict[str, Any]:
    s3 = embedded.client("s3")
    (item,) = eventually(lambda: s3.list_objects_v2(Bucket=bucket).get("Contents"))
    return json.loads(s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read())
