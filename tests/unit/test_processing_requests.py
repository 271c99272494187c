"""A host's requests are signed as botocore signs them, and its large bodies travel as files."""

import datetime as dt
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from helpers.local_aws.sagemaker.hosts import Hosts
from helpers.local_aws.workers.channel import Channel
from helpers.local_aws.workers.requests import INLINE, S3, Client, Logs, Refusal, Signer

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token"}
SIGNER = Signer("http://127.0.0.1:4566", "us-east-1", CREDENTIALS)

Answer = Callable[[str, str, dict[str, str], bytes], tuple[int, bytes]]


@pytest.mark.parametrize(
    ("service", "method", "target", "headers"),
    [
        ("s3", "GET", "/bucket?encoding-type=url&list-type=2&prefix=a%20b%2Fc~", {}),
        ("s3", "PUT", "/bucket/a%20b%2B%C3%BC/x~y", {"x-amz-checksum-crc32": "AAAAAA=="}),
        ("logs", "POST", "/", {"content-type": "application/x-amz-json-1.1", "x-amz-target": "Logs_20140328.X"}),
    ],
)
def test_a_signature_is_botocore_s(
    service: str, method: str, target: str, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = dt.datetime(2026, 5, 1, 12, 30, 1, tzinfo=dt.UTC)
    body = b"content"
    request = AWSRequest(method, f"http://127.0.0.1:4566{target}", headers=dict(headers), data=body)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: now.replace(tzinfo=None))
    kind = S3SigV4Auth if service == "s3" else SigV4Auth
    kind(Credentials("AKIA", "secret", "token"), service, "us-east-1").add_auth(request)
    signed = SIGNER.sign(service, method, target, headers, hashlib.sha256(body).hexdigest(), now)
    assert signed["authorization"] == request.headers["Authorization"]


@pytest.fixture
def connect() -> Iterator[Callable[[Answer], Client]]:
    """Return a way to make a client whose requests a function answers, through the server's end of the channel."""
    used: list[tuple[Hosts, socket.socket, threading.Thread]] = []

    def make(answer: Answer) -> Client:
        ours, theirs = socket.socketpair()
        hosts = Hosts("job", answer, lambda: None)
        hosts.add(Channel(ours))
        thread = threading.Thread(target=hosts.follow)
        thread.start()
        used.append((hosts, theirs, thread))
        return Client(Channel(theirs), SIGNER)

    yield make
    for hosts, theirs, thread in used:
        theirs.close()
        thread.join(180)
        hosts.close()
        assert not thread.is_alive()


@pytest.mark.parametrize("size", [0, 10, INLINE, INLINE + 1, 3 << 20])
def test_an_object_goes_and_comes_whole_whatever_its_size(
    connect: Callable[[Answer], Client], tmp_path: Path, size: int
) -> None:
    stored: dict[str, bytes] = {}

    def answer(method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if method == "PUT":
            assert hashlib.sha256(body).hexdigest() == headers["x-amz-content-sha256"]
            stored[target] = body
            return 200, b""
        return 200, stored[target]

    s3, content = S3(connect(answer)), os.urandom(size)
    (tmp_path / "source").write_bytes(content)
    with (tmp_path / "source").open("rb") as source:
        s3.put("bucket", "a key/ü", source.fileno())
    assert stored == {"/bucket/a%20key/%C3%BC": content}
    with (tmp_path / "target").open("wb") as target:
        s3.fetch("bucket", "a key/ü", target.fileno())
    assert (tmp_path / "target").read_bytes() == content
    assert s3.read("bucket", "a key/ü") == content


def test_a_listing_is_read_page_by_page(connect: Callable[[Answer], Client]) -> None:
    asked: list[str] = []

    def answer(method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        asked.append(target)
        more = "" if "continuation-token" in target else "<NextContinuationToken>t+/=</NextContinuationToken>"
        key = "d/b+ü.csv" if more == "" else "d/a b.csv"
        return 200, (
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}"
            f"<Contents><Key>{key.replace(' ', '%20').replace('+', '%2B').replace('ü', '%C3%BC')}</Key></Contents>"
            "</ListBucketResult>"
        ).encode()

    assert list(S3(connect(answer)).keys("bucket", "d/")) == ["d/a b.csv", "d/b+ü.csv"]
    assert "continuation-token=t%2B%2F%3D" in asked[1]


def test_a_refusal_has_its_code_and_leaves_the_file_empty(connect: Callable[[Answer], Client], tmp_path: Path) -> None:
    s3 = S3(connect(lambda *_: (403, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")))
    with (tmp_path / "target").open("wb") as target, pytest.raises(Refusal) as refused:
        s3.fetch("bucket", "key", target.fileno())
    assert (refused.value.code, refused.value.message, refused.value.status) == ("AccessDenied", "no", 403)
    assert (tmp_path / "target").read_bytes() == b""


def test_a_refusal_of_logs_has_its_code(connect: Callable[[Answer], Client]) -> None:
    answer = b'{"__type": "com.amazonaws#ResourceNotFoundException", "message": "no group"}'
    with pytest.raises(Refusal, match="ResourceNotFoundException: no group"):
        Logs(connect(lambda *_: (400, answer))).call("PutLogEvents", {})


def test_messages_that_come_before_an_answer_are_not_lost() -> None:
    ours, theirs = socket.socketpair()
    host, server = Channel(ours), Channel(theirs)
    for content in ({"event": "stop"}, {"event": "answer", "status": 200}):
        server.send(content)
    answer: Any = host.ask({})
    assert answer.content["status"] == 200
    assert host.buffered()
    stop: Any = host.receive()
    assert stop.content == {"event": "stop"}
    host.close()
    server.close()
