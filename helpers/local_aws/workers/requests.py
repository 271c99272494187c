"""The requests of a job's host to S3 and CloudWatch Logs: signed HTTP requests, carried by the host's channel.

They are what any AWS client sends, and the server authenticates and authorizes
them as it does those that come over TCP. What differs is the way there: a
message instead of a connection, and a large body as an open file, which the
server fills or reads instead of sending it through a socket. boto3 would do,
but its first request in a fork costs more than most jobs.
"""

import datetime as dt
import hashlib
import hmac
import json
import os
import zlib
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from helpers.local_aws.workers.channel import Channel

INLINE = 1 << 16  # bytes; a larger body travels as an open file
_EMPTY = hashlib.sha256(b"").hexdigest()
_ALGORITHM = "AWS4-HMAC-SHA256"


class Refusal(Exception):
    """A service's refusal, with its ``code``, ``message`` and HTTP ``status``."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


class Signer:
    """Signature version 4 with one set of credentials, keyed like the AWS_* environment variables."""

    def __init__(self, endpoint_url: str, region: str, credentials: Mapping[str, str]) -> None:
        self.host = endpoint_url.partition("://")[2]
        self.region = region
        self._key = credentials.get("AWS_ACCESS_KEY_ID", "none")
        self._secret = credentials.get("AWS_SECRET_ACCESS_KEY", "none")
        self._token = credentials.get("AWS_SESSION_TOKEN")

    def sign(
        self, service: str, method: str, target: str, headers: Mapping[str, str], digest: str, now: dt.datetime
    ) -> dict[str, str]:
        """Return the request's headers with those that sign it; ``digest`` is the body's SHA-256 in hex."""
        path, _, query = target.partition("?")
        signed = {**headers, "host": self.host, "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ")}
        if service == "s3":
            signed["x-amz-content-sha256"] = digest
        if self._token:
            signed["x-amz-security-token"] = self._token
        names = ";".join(sorted(signed))
        lines = "".join(f"{name}:{signed[name].strip()}\n" for name in sorted(signed))
        canonical = "\n".join([method, path, query, lines, names, digest])
        scope = f"{now:%Y%m%d}/{self.region}/{service}/aws4_request"
        text = "\n".join([_ALGORITHM, signed["x-amz-date"], scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{self._secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        credential = f"{self._key}/{scope}"
        signed["authorization"] = f"{_ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
        return signed


class Client:
    """Send requests over a host's channel. Raises OSError when the server is gone."""

    def __init__(self, channel: Channel, signer: Signer) -> None:
        self._channel, self._signer = channel, signer

    def send(
        self,
        service: str,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        source: int | None = None,
        length: int = 0,
        digest: str | None = None,
        into: int | None = None,
    ) -> tuple[int, bytes]:
        """Return status and body of the answer.

        ``source``: a file whose first ``length`` bytes are the body, their SHA-256 being ``digest``.
        ``into``: a file that takes the body of a 200 instead.
        """
        digest = digest or (hashlib.sha256(body).hexdigest() if body else _EMPTY)
        signed = self._signer.sign(service, method, target, headers, digest, dt.datetime.now(dt.UTC))
        request: dict[str, Any] = {"method": method, "target": target, "headers": signed, "length": length}
        files = [file for file in (source, into) if file is not None]
        request |= {"source": source is not None, "into": into is not None}
        answer = self._channel.ask(request, body, files)
        if answer is None:
            raise ConnectionAbortedError("the embedded AWS is gone")
        return answer.content["status"], answer.body


class S3:
    """The three calls of S3 that bring a job's inputs and take its outputs."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def keys(self, bucket: str, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with ``prefix``. Raises Refusal."""
        more = ""
        while True:
            query = f"encoding-type=url&list-type=2&prefix={quote(prefix, safe='-_.~')}"
            query = f"continuation-token={quote(more, safe='-_.~')}&{query}" if more else query
            status, body = self._client.send("s3", "GET", f"/{bucket}?{query}", {})
            root = _xml(status, body)
            space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
            for item in root.iterfind(f"{space}Contents/{space}Key"):
                yield unquote(item.text or "")
            more = root.findtext(f"{space}NextContinuationToken") or ""
            if root.findtext(f"{space}IsTruncated") != "true" or not more:
                return

    def read(self, bucket: str, key: str) -> bytes:
        """Return a small object. Raises Refusal."""
        status, body = self._client.send("s3", "GET", _path(bucket, key), {})
        return body if status == 200 else _refuse(status, body)

    def fetch(self, bucket: str, key: str, into: int) -> None:
        """Write an object into the open file ``into``. Raises Refusal."""
        status, body = self._client.send("s3", "GET", _path(bucket, key), {}, into=into)
        if status != 200:
            _refuse(status, body)

    def put(self, bucket: str, key: str, source: int) -> None:
        """Store the content of the open file ``source``, with the checksum that AWS's own clients send."""
        sha, crc, length, data = hashlib.sha256(), 0, 0, b""
        while block := os.read(source, 1 << 20):
            sha.update(block)
            crc = zlib.crc32(block, crc)
            length += len(block)
            data = data + block if length <= INLINE else b""
        os.lseek(source, 0, os.SEEK_SET)
        checksum = b64encode(crc.to_bytes(4, "big")).decode()
        headers = {"x-amz-checksum-crc32": checksum, "x-amz-sdk-checksum-algorithm": "CRC32"}
        path, large, digest = _path(bucket, key), source if length > INLINE else None, sha.hexdigest()
        status, body = self._client.send("s3", "PUT", path, headers, data, source=large, length=length, digest=digest)
        if status != 200:
            _refuse(status, body)


class Logs:
    """The calls of CloudWatch Logs that a job's log needs."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def call(self, operation: str, members: Mapping[str, Any]) -> dict[str, Any]:
        """Make one call and return its answer. Raises Refusal."""
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": f"Logs_20140328.{operation}"}
        status, body = self._client.send("logs", "POST", "/", headers, json.dumps(members).encode())
        answer = json.loads(body or b"{}")
        if status != 200:
            code = str(answer.get("__type", status)).rpartition("#")[2]
            raise Refusal(code, answer.get("message") or answer.get("Message") or "", status)
        return answer


def _path(bucket: str, key: str) -> str:
    return f"/{bucket}/{quote(key, safe='/-_.~')}"


def _xml(status: int, body: bytes) -> ElementTree.Element:
    return ElementTree.fromstring(body) if status == 200 else _refuse(status, body)  # noqa: S314 - our server's


def _refuse(status: int, body: bytes) -> Any:
    """Raise Refusal with what S3's error says."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - our server's
        code, message = root.findtext("Code") or str(status), root.findtext("Message") or ""
    except ElementTree.ParseError:
        code, message = str(status), body.decode(errors="replace")[:200]
    raise Refusal(code, message, status)
