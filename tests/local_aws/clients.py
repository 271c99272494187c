"""What the tests of the embedded AWS as a whole use to talk to it: raw requests, packages, and the words of errors."""

import contextlib
import http.client
import io
import os
import time
import urllib.parse
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

ACCOUNT = "123456789012"
REGION = "us-east-1"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"


def allow(actions: str, *resources: str, **condition: Any) -> dict[str, Any]:
    """Return an Allow statement: actions in one string, on ``resources`` or on everything."""
    extra = {"Condition": condition["condition"]} if condition else {}
    return {"Effect": "Allow", "Action": actions.split(), "Resource": list(resources) or "*", **extra}


def arn(service: str, resource: str) -> str:
    """Return an ARN of the embedded AWS's account and region."""
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


def refused(call: Callable[[], Any]) -> tuple[str, str]:
    """Return the code and the message with which AWS refuses ``call``."""
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def eventually(check: Callable[[], Any], seconds: float = 180) -> Any:
    """Return the first truthy answer of ``check``. The time is for a busy machine: no test is to measure it."""
    deadline = time.monotonic() + seconds
    while not (answer := check()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.03)
    return answer


def settle(embedded: Any) -> None:
    """Wait until no event waits for a function any more: what was asked for asynchronously has been done."""
    events = embedded.state_dir / "lambda" / "events"
    eventually(lambda: not any(events.iterdir()), 600)


def family(pid: int) -> set[int]:
    """Return the processes that ``pid`` started, and theirs."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def sockets(pid: int) -> set[str]:
    """Return the inodes of a process's sockets: all that it had open while it was looked at."""
    found = set()
    with contextlib.suppress(OSError):  # it has ended
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # it was closed meanwhile
                found.add(os.readlink(entry))
    return {link[8:-1] for link in found if link.startswith("socket:[")}


def package(source: str) -> bytes:
    """Return a deployment package whose ``lambda_function.py`` is ``source``."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("lambda_function.py", source)
    return archive.getvalue()


def function_settings(name: str, role: str, source: str, **more: Any) -> dict[str, Any]:
    """Return the parameters of CreateFunction for a Python function.

    Its time is for a busy machine, too: Lambda's own 3 seconds are not.
    """
    return {
        "FunctionName": name,
        "Role": role,
        "Timeout": 300,
        "Runtime": "python3.12",
        "Handler": "lambda_function.handler",
        "Code": {"ZipFile": package(source)},
        **more,
    }


@dataclass(frozen=True)
class Answer:
    """An answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: str


def signed(
    embedded: Any,
    method: str,
    target: str,
    *,
    service: str,
    key: tuple[str, ...] | None = None,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
) -> dict[str, str]:
    """Return the headers of a request signed with ``key`` (id, secret, token), else the administrator's."""
    variables = embedded.environment()
    key = key or (variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"])
    url = embedded.endpoint_url + urllib.parse.quote(target, safe="/%?=&+:,-_.~")
    request = AWSRequest(method, url, headers=dict(headers or {}), data=body)
    signer = S3SigV4Auth if service == "s3" else SigV4Auth
    signer(Credentials(*key), service, REGION).add_auth(request)
    return {**dict(request.headers.items()), "Host": urllib.parse.urlsplit(embedded.endpoint_url).netloc}


def send(
    embedded: Any, method: str, target: str, headers: dict[str, str] | list[tuple[str, str]], body: bytes = b""
) -> Answer:
    """Send just this, byte for byte: no header, no normalisation is added."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(embedded.endpoint_url).netloc, timeout=180)
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    pairs = list(headers.items()) if isinstance(headers, dict) else headers
    for name, value in [*pairs, ("Content-Length", str(len(body)))]:
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    done = Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode(errors="replace"))
    connection.close()
    return done
