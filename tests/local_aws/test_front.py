"""The front of the embedded AWS: what is not signed, or not for a service that is here, reaches nothing."""

import base64
import datetime as dt
import os
import socket
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from clients import ACCOUNT, Answer, arn, family, refused, send, signed, sockets

MINISTACK_PATHS = [
    "/_ministack/health", "/_ministack/ready", "/_ministack/config", "/_ministack/lambda-code/f",
    "/_ministack/lambda-layers/l/1/content", "/_ministack/rds/iam-auth", "/_localstack/health", "/_localstack/x",
    "/_aws/sqs/messages", "/_aws/execute-api/a/b/c", "/health", "/iceberg/v1/config", "/oauth2/authorize", "/logout",
    "/v20180820/mrap/instances", "/v2/_catalog", "/v2/email/identities", "/WriteGetObjectResponse", "/BeginTransaction",
]  # fmt: skip


@pytest.fixture(scope="module")
def host(embedded: Any) -> str:
    return urllib.parse.urlsplit(embedded.endpoint_url).netloc


@pytest.fixture(scope="module")
def bucket(embedded: Any) -> str:
    name = f"front-{uuid.uuid4().hex[:8]}"
    embedded.client("s3").create_bucket(Bucket=name)
    embedded.client("s3").put_object(Bucket=name, Key="precious", Body=b"still here")
    return name


@pytest.fixture(autouse=True)
def untouched(embedded: Any, bucket: str) -> Iterator[None]:
    """Whatever a test sends, nothing is lost."""
    yield
    assert embedded.client("s3").get_object(Bucket=bucket, Key="precious")["Body"].read() == b"still here"


def identity(embedded: Any, *key: str) -> Any:
    session = boto3.session.Session(*key, region_name="us-east-1")
    return session.client("sts", endpoint_url=embedded.endpoint_url, config=Config(retries={"max_attempts": 1}))


# --- who is calling ---


def test_parameters_come_in_the_body_alone(embedded: Any, host: str) -> None:
    """Else IAM could be asked about the ones, and the others be served."""
    form = {"Host": host, "Content-Type": "application/x-www-form-urlencoded"}
    for service, body in (("sns", b"Action=ListTopics"), ("ec2", b"Action=DescribeVpcs"), ("iam", b"Action=ListUsers")):
        headers = signed(embedded, "POST", "/?TopicArn=x", service=service, headers=form, body=body)
        answer = send(embedded, "POST", "/?TopicArn=x", headers, body)
        assert (answer.status, "UnknownOperationException" in answer.body) == (404, True)


def test_an_unsigned_request_is_refused(embedded: Any, host: str, bucket: str) -> None:
    for target in ("/", "/?Action=ListUsers", f"/{bucket}/precious", "/2015-03-31/functions/"):
        answer = send(embedded, "GET", target, {"Host": host})
        assert (answer.status, "MissingAuthenticationToken" in answer.body) == (403, True)


def test_a_wrong_signature_is_refused_by_every_service(embedded: Any) -> None:
    variables = embedded.environment()
    wrong = {**variables, "AWS_SECRET_ACCESS_KEY": "wrong" * 8}
    calls = {
        "sts": "get_caller_identity", "iam": "list_users", "lambda": "list_functions", "logs": "describe_log_groups",
        "stepfunctions": "list_state_machines", "events": "list_rules", "codecommit": "list_repositories",
        "sagemaker": "list_processing_jobs", "s3": "list_buckets",
    }  # fmt: skip
    for service, call in calls.items():
        getattr(embedded.client(service, variables), call)()
        code, _ = refused(getattr(embedded.client(service, wrong), call))
        assert code in ("SignatureDoesNotMatch", "InvalidSignatureException"), service


@pytest.mark.parametrize("key", ["AKIAIOSFODNN7EXAMPLE", "test", "123456789012", "000000000000"])
def test_unknown_keys_and_root_keys_of_emulators_are_refused(embedded: Any, key: str) -> None:
    code, _ = refused(identity(embedded, key, key).get_caller_identity)
    assert code == "InvalidClientTokenId"
    assert refused(
        lambda: embedded.client("s3", {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": key}).list_buckets()
    )[0] in ("InvalidAccessKeyId", "InvalidClientTokenId")


def test_a_session_key_needs_its_own_token(embedded: Any) -> None:
    mine, other = (embedded.environment(admin=False) for _ in range(2))
    key = mine["AWS_ACCESS_KEY_ID"], mine["AWS_SECRET_ACCESS_KEY"]
    assert identity(embedded, *key, mine["AWS_SESSION_TOKEN"]).get_caller_identity()["Account"] == ACCOUNT
    refused(identity(embedded, *key).get_caller_identity)
    refused(identity(embedded, *key, other["AWS_SESSION_TOKEN"]).get_caller_identity)
    refused(identity(embedded, *key, "made-up").get_caller_identity)


def test_an_old_signature_is_refused(embedded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    fresh = signed(embedded, "POST", "/", service="sts", headers=form, body=body)
    assert send(embedded, "POST", "/", fresh, body).status == 200
    hour_ago = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda remove_tzinfo=True: hour_ago.replace(tzinfo=None))
    answer = send(embedded, "POST", "/", signed(embedded, "POST", "/", service="sts", headers=form, body=body), body)
    assert answer.status == 403
    assert "Signature expired" in answer.body


def test_a_signed_body_cannot_be_exchanged(embedded: Any) -> None:
    for service, target, first, second in (
        ("codecommit", "CodeCommit_20150413.ListRepositories", b"{}", b'{"sortBy": "repositoryName"}'),
        ("states", "AWSStepFunctions.ListStateMachines", b"{}", b'{"maxResults": 1}'),
    ):
        headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
        headers = signed(embedded, "POST", "/", service=service, headers=headers, body=first)
        assert send(embedded, "POST", "/", headers, first).status == 200
        assert send(embedded, "POST", "/", headers, second).status in (400, 403)


# --- what is reached ---


def test_no_path_of_the_base_is_reached_signed_or_forged(embedded: Any, host: str) -> None:
    for target in MINISTACK_PATHS:
        for method in ("GET", "POST", "PUT", "OPTIONS"):
            for service in ("s3", "lambda", "states", "iam"):
                forged = f"AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host"
                answer = send(embedded, method, target, {"Host": host, "Authorization": f"{forged}, Signature=0"})
                assert (answer.status, "has no operation at" in answer.body) == (404, True), (method, target, service)


def test_a_reset_is_not_reached_however_it_is_written(embedded: Any, host: str) -> None:
    key = embedded.environment()
    key = (key["AWS_ACCESS_KEY_ID"], key["AWS_SECRET_ACCESS_KEY"])
    for target in (
        "/_ministack/reset", "//_ministack/reset", "/%5Fministack/reset", "/./_ministack/reset",
        "/x/../_ministack/reset", "/_ministack%2Freset", "/_ministack/reset/", "/_ministack/reset?init=1", f"http://{host}/_ministack/reset",
        "/_ministack/reset%00", "*", "_ministack/reset", "/\\_ministack/reset", "/;/_ministack/reset",
    ):  # fmt: skip
        for service in ("s3", "states", "sts"):
            headers = signed(embedded, "POST", "/_ministack/reset", service=service, key=key)
            answer = send(embedded, "POST", target, headers)
            assert answer.status >= 400, (target, answer)


def test_a_signature_opens_its_own_service_only(embedded: Any) -> None:
    targets = {
        "states": "AWSStepFunctions.ListStateMachines", "logs": "Logs_20140328.DescribeLogGroups",
        "codecommit": "CodeCommit_20150413.ListRepositories", "sagemaker": "SageMaker.ListProcessingJobs",
        "dynamodb": "DynamoDB_20120810.ListTables", "secretsmanager": "secretsmanager.ListSecrets",
        "events": "AWSEvents.ListRules",
    }  # fmt: skip
    for service in ("states", "logs", "events", "s3", "iam", "lambda", "codecommit", "sagemaker"):
        for owner, target in targets.items():
            headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
            headers = signed(embedded, "POST", "/", service=service, headers=headers, body=b"{}")
            answer = send(embedded, "POST", "/", headers, b"{}")
            assert (answer.status == 200) == (service == owner), (service, target, answer)


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("ecs", "list_clusters"),
        ("batch", "describe_job_queues"),
        ("ecr", "describe_repositories"),
        ("codebuild", "list_projects"),
        ("apigatewayv2", "get_apis"),
        ("sagemaker", "list_training_jobs"),
        ("ec2", "describe_subnets"),
    ],
)
def test_a_signature_of_another_region_is_refused(embedded: Any, service: str, operation: str) -> None:
    variables = embedded.environment()
    client = boto3.client(
        service, region_name="us-west-2", endpoint_url=embedded.endpoint_url,
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"], aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
    said = "Credential should be scoped to a valid region."
    assert refused(getattr(client, operation)) == ("InvalidSignatureException", said)
    getattr(embedded.client(service), operation)()


def test_a_second_authorization_header_is_refused(embedded: Any, host: str) -> None:
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    good = signed(embedded, "POST", "/", service="sts", body=body)
    for name in ("Authorization", "Host", "X-Amz-Target"):
        twice = [*good.items(), (name, "x"), (name, "x")]
        assert send(embedded, "POST", "/", twice, body).status in (400, 403)
        assert send(embedded, "POST", "/", twice[::-1], body).status in (400, 403)


@pytest.mark.parametrize(
    "name",
    [
        "evil.example",
        "abc.execute-api.localhost",
        "abc.lambda-url.us-east-1.localhost",
        "bucket.s3.localhost",
        "",
        "LOCALHOST",
    ],
)
def test_a_foreign_host_is_refused(embedded: Any, host: str, name: str) -> None:
    for foreign in (name, f"{name}:{host.rpartition(':')[2]}"):
        if foreign.lower() == f"localhost:{host.rpartition(':')[2]}":
            continue  # the same machine in capitals: either answer is right
        answer = send(embedded, "GET", "/", {**signed(embedded, "GET", "/", service="s3"), "Host": foreign})
        assert answer.status == 403, foreign


def test_localhost_is_served(embedded: Any, host: str) -> None:
    port = host.rpartition(":")[2]
    url = f"http://localhost:{port}/_embedded_aws/health"
    assert urllib.request.urlopen(url).status == 200


def test_a_browser_page_of_another_site_is_given_nothing(embedded: Any, host: str, bucket: str) -> None:
    headers = {"Host": host, "Origin": "http://evil.example", "Access-Control-Request-Method": "PUT"}
    for target in ("/", f"/{bucket}/precious", "/_embedded_aws/health"):
        answer = send(embedded, "OPTIONS", target, headers)
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("service", ["glue", "kms", "cognito-idp", "secretsmanager", "kinesis", "athena"])
def test_a_service_that_is_not_here_is_named(embedded: Any, service: str) -> None:
    client = embedded.client(service)
    call = {
        "glue": "list_jobs", "kms": "list_keys", "secretsmanager": "list_secrets", "kinesis": "list_streams",
        "athena": "list_data_catalogs",
    }.get(service)  # fmt: skip
    run = getattr(client, call) if call else lambda: client.list_user_pools(MaxResults=1)
    code, message = refused(run)
    assert service in message or service in code
    assert "NotImplemented" in f"{code} {message}" or "does not have" in message


def test_what_would_act_without_asking_is_refused_by_name(embedded: Any) -> None:
    events, functions, logs = (embedded.client(name) for name in ("events", "lambda", "logs"))
    machine = arn("states", "stateMachine:m")
    destination = {"Name": "d", "ConnectionArn": arn("events", "connection/c/11111111-1111-1111-1111-111111111111")}
    for action, call in {
        "events:PutTargets with a target of the service 'states', only of 'lambda'": lambda: events.put_targets(
            Rule="r", Targets=[{"Id": "1", "Arn": machine}]
        ),
        "events:CreateApiDestination": lambda: events.create_api_destination(
            **destination, InvocationEndpoint="https://example.com/", HttpMethod="POST"
        ),
        "lambda:CreateEventSourceMapping": lambda: functions.create_event_source_mapping(FunctionName="f"),
        "lambda:CreateFunctionUrlConfig": lambda: functions.create_function_url_config(
            FunctionName="f", AuthType="NONE"
        ),
        "lambda:PutFunctionEventInvokeConfig": lambda: functions.put_function_event_invoke_config(FunctionName="f"),
        "logs:PutSubscriptionFilter": lambda: logs.put_subscription_filter(
            logGroupName="g", filterName="f", filterPattern="", destinationArn=machine
        ),
    }.items():
        assert refused(call) == ("NotImplemented", f"the embedded AWS does not support {action}")


def test_a_websocket_is_refused(embedded: Any, host: str) -> None:
    with socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2])), timeout=180) as connection:
        key = base64.b64encode(os.urandom(16)).decode()
        lines = ["GET /_aws/execute-api/a/b HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]
        connection.sendall("\r\n".join(lines).encode())
        assert connection.recv(100).split()[1] == b"403"


# --- presigned addresses ---


def presigning(embedded: Any, version: str) -> Any:
    variables = embedded.environment()
    session = boto3.session.Session(variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"])
    config = Config(signature_version=version)
    return session.client("s3", "us-east-1", endpoint_url=embedded.endpoint_url, config=config)


def fetch(url: str) -> Answer:
    try:
        with urllib.request.urlopen(url) as answer:  # noqa: S310 (our own server)
            return Answer(answer.status, {}, answer.read().decode())
    except urllib.error.HTTPError as error:
        return Answer(error.code, {}, error.read().decode())


def test_a_presigned_address_opens_one_object(embedded: Any, bucket: str) -> None:
    s3 = presigning(embedded, "s3v4")
    url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "precious"}, ExpiresIn=600)
    assert fetch(url) == Answer(200, {}, "still here")
    for tampered in (
        url.replace("/precious", "/other"),
        url.replace("Expires=600", "Expires=601"),
        url[:-1] + ("0" if url[-1] != "0" else "1"),
    ):
        assert fetch(tampered).status == 403, tampered


def test_signature_version_2_is_refused_with_the_way_out(embedded: Any, bucket: str) -> None:
    url = presigning(embedded, "s3").generate_presigned_url("get_object", {"Bucket": bucket, "Key": "precious"})
    answer = fetch(url)
    assert (answer.status, "AWS4-HMAC-SHA256" in answer.body) == (400, True)


def test_a_presigned_address_of_another_service_is_refused(embedded: Any) -> None:
    client = embedded.client("sts")
    url = client.generate_presigned_url("get_caller_identity", ExpiresIn=60)
    assert fetch(url).status == 403


# --- the process ---


def test_nothing_listens_beyond_this_machine(embedded: Any) -> None:
    inodes = {inode for pid in family(embedded.server.pid) for inode in sockets(pid)}
    listening = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{embedded.server.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and (fields[3] == "0A" or table.startswith("udp")):
                listening.append((table, fields[1].partition(":")[0]))
    assert listening == [("tcp", "0100007F")]
