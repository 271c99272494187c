"""The instance metadata service, asked as SDKs ask it and as nobody should."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from botocore.utils import InstanceMetadataFetcher

from helpers.local_aws.ec2.metadata import Answer, Facts, MetadataService
from helpers.local_aws.wire import AwsError

ROLE = "arn:aws:iam::123456789012:role/service/worker"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "ASIA1", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "session"}
FACTS = {
    "metadata": {"instance-id": "i-1", "placement/region": "us-east-1", "tags/instance/Name": "Worker Instance"},
    "identity": {"instanceId": "i-1", "kernelId": None},
    "user_data": b"#!/bin/sh\n\xff",
    "profile_arn": "arn:aws:iam::123456789012:instance-profile/worker",
    "profile_id": "AIPA1",
    "role_arn": ROLE,
    "tokens_required": True,
}


def make(**changes: Any) -> MetadataService:
    return MetadataService(Facts(**{**FACTS, **changes}), lambda: CREDENTIALS)


def token(service: MetadataService, seconds: str = "60") -> Answer:
    return service.answer("PUT", "/latest/api/token", {"x-aws-ec2-metadata-token-ttl-seconds": seconds})


def get(service: MetadataService, path: str, **more: str) -> Answer:
    headers = {"x-aws-ec2-metadata-token": token(service).body.decode(), **more}
    return service.answer("GET", path, headers)


def test_folders_are_listed_and_items_read() -> None:
    service = make()
    assert get(service, "/").body == b"latest/"
    assert get(service, "/latest/meta-data/").body == b"iam/\ninstance-id\nplacement/\ntags/"
    assert get(service, "/latest/meta-data").body == b"iam/\ninstance-id\nplacement/\ntags/"
    assert get(service, "/latest/meta-data/placement/region").body == b"us-east-1"
    assert get(service, "/latest/meta-data/placement/region/").body == b"us-east-1", "botocore asks with the slash"
    assert get(service, "/latest/meta-data/tags/instance/Name").body == b"Worker Instance"
    assert get(service, "/latest/meta-data/iam/security-credentials/").body == b"worker"
    assert json.loads(get(service, "/latest/dynamic/instance-identity/document").body) == FACTS["identity"]


def test_user_data_comes_back_byte_for_byte() -> None:
    answer = get(make(), "/latest/user-data")
    assert (answer.body, answer.headers["Content-Type"]) == (FACTS["user_data"], "application/octet-stream")


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("/latest/meta-data/nothing", {}),
        ("/latest/meta-data/instance-id/more", {}),
        ("/latest/meta-data/iam/security-credentials/other", {}),
        ("/latest/meta-data/iam/", {"profile_arn": "", "role_arn": ""}),
        ("/latest/meta-data/iam/security-credentials/worker", {"role_arn": ""}),
        ("/latest/user-data", {"user_data": b""}),
        ("/latest/../latest/user-data", {}),
        ("/other", {}),
    ],
)
def test_what_is_not_there_is_not_found(path: str, changes: Mapping[str, Any]) -> None:
    assert get(make(**changes), path).status == 404


def test_without_a_valid_token_nothing_is_told() -> None:
    service = make()
    for headers in ({}, {"x-aws-ec2-metadata-token": "made-up"}, {"x-aws-ec2-metadata-token": "A" * 60}):
        assert service.answer("GET", "/latest/meta-data/instance-id", headers).status == 401
    theirs = token(make()).body.decode()
    answer = service.answer("GET", "/latest/user-data", {"x-aws-ec2-metadata-token": theirs})
    assert answer.status == 401, "the token of another instance"


def test_where_tokens_are_optional_the_first_version_answers_too() -> None:
    service = make(tokens_required=False)
    assert service.answer("GET", "/latest/meta-data/instance-id", {}).body == b"i-1"
    assert service.answer("GET", "/latest/user-data", {"x-aws-ec2-metadata-token": "made-up"}).status == 401


def test_a_token_ends_with_its_time() -> None:
    now = [1000.0]
    service = MetadataService(Facts(**FACTS), lambda: CREDENTIALS, lambda: now[0])
    headers = {"x-aws-ec2-metadata-token": token(service, "1").body.decode()}
    assert service.answer("GET", "/latest/user-data", headers).status == 200
    now[0] += 2
    assert service.answer("GET", "/latest/user-data", headers).status == 401


@pytest.mark.parametrize("seconds", ["", "0", "21601", "-1", "1.5", "x", "٣", "9" * 5000])
def test_a_token_needs_a_time_to_live(seconds: str) -> None:
    assert token(make(), seconds).status == 400


def test_a_token_lives_for_six_hours_at_most() -> None:
    answer = token(make(), "21600")
    assert (answer.status, answer.headers["x-aws-ec2-metadata-token-ttl-seconds"]) == (200, "21600")


def test_a_token_is_not_given_through_a_proxy() -> None:
    headers = {"x-aws-ec2-metadata-token-ttl-seconds": "60", "x-forwarded-for": "10.0.0.1"}
    assert make().answer("PUT", "/latest/api/token", headers).status == 403


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/latest/api/token"), ("PUT", "/latest/user-data"), ("POST", "/")]
)
def test_other_methods_are_refused(method: str, path: str) -> None:
    assert make().answer(method, path, {"x-aws-ec2-metadata-token-ttl-seconds": "60"}).status == 405


def test_credentials_are_asked_for_anew_each_time() -> None:
    given = iter([CREDENTIALS, {**CREDENTIALS, "AWS_ACCESS_KEY_ID": "ASIA2"}])
    service = MetadataService(Facts(**FACTS), lambda: next(given))
    path = "/latest/meta-data/iam/security-credentials/worker"
    first, second = (json.loads(get(service, path).body) for _ in range(2))
    assert (first["AccessKeyId"], second["AccessKeyId"]) == ("ASIA1", "ASIA2")
    assert set(first) == {
        "Code", "LastUpdated", "Type", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"
    }  # fmt: skip
    assert first["Code"] == "Success"
    assert first["Expiration"] > first["LastUpdated"]


def test_a_role_that_ec2_may_not_assume_gives_no_credentials() -> None:
    def refuse() -> dict[str, str]:
        raise AwsError("AccessDenied", "no", 403)

    service = MetadataService(Facts(**FACTS), refuse)
    answer = get(service, "/latest/meta-data/iam/security-credentials/worker")
    told = json.loads(answer.body)
    assert (answer.status, told["Code"]) == (200, "AssumeRoleUnauthorizedAccess")
    assert "SecretAccessKey" not in told


def test_the_profile_is_told() -> None:
    told = json.loads(get(make(), "/latest/meta-data/iam/info").body)
    assert told["InstanceProfileArn"] == FACTS["profile_arn"]
    assert (told["Code"], told["InstanceProfileId"]) == ("Success", "AIPA1")


# --- over connections ---


@pytest.fixture
def address() -> Iterator[str]:
    service = make()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                try:
                    service.serve(connection)
                except OSError:  # this client has gone
                    continue

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def ask(address: str, request: bytes) -> bytes:
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), 180) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as answer:
            return answer.read()


def test_where_paths_begin_with_a_secret_nothing_else_is_answered() -> None:
    for path, status in (("/secret/latest/user-data", b" 401 "), ("/latest/user-data", b" 404 "), ("/", b" 404 ")):
        ours, theirs = socket.socketpair()
        with ours:
            ours.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
            make().serve(theirs, "/secret")
            assert status in ours.recv(1000)


def test_boto_finds_the_credentials(address: str) -> None:
    fetcher = InstanceMetadataFetcher(timeout=180, base_url=f"http://{address}/", env={})
    found = fetcher.retrieve_iam_role_credentials()
    assert (found["role_name"], found["access_key"], found["token"]) == ("worker", "ASIA1", "session")


def test_raw_http(address: str) -> None:
    assert ask(address, b"GET /latest/meta-data/ HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 401 ")
    answer = ask(address, b"PUT /latest/api/token HTTP/1.1\r\nX-AWS-EC2-metadata-token-TTL-seconds: 9\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    given = answer.rpartition(b"\r\n\r\n")[2]
    lines = b"%s /latest/meta-data/instance-id HTTP/1.1\r\nx-aws-ec2-metadata-token: %s\r\n\r\n"
    assert ask(address, lines % (b"GET", given)).endswith(b"\r\n\r\ni-1")
    head = ask(address, lines % (b"HEAD", given))
    assert b"Content-Length: 3" in head
    assert head.endswith(b"\r\n\r\n")
    assert b" 400 " in ask(address, b"GET / HTTP/9x\r\n\r\n")


def test_a_client_that_hangs_up_does_no_harm(address: str) -> None:
    host, port = address.split(":")
    socket.create_connection((host, int(port)), 180).close()
    assert ask(address, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 401 ")
