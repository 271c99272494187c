"""The instance metadata service (IMDS) of one instance, over connections that the instance has opened."""

import base64
import binascii
import datetime as dt
import hmac
import json
import re
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from helpers.local_aws.containers import endpoint
from helpers.local_aws.containers.endpoint import Answer, refusal
from helpers.local_aws.wire import AwsError

TOKEN_PATH = "/latest/api/token"  # noqa: S105 - a path
_TTL, _TOKEN = "x-aws-ec2-metadata-token-ttl-seconds", "x-aws-ec2-metadata-token"
_LONGEST_TTL = 21600  # seconds
_PROMISED = dt.timedelta(hours=6)  # how long credentials are good at least: sessions of roles live longer
_NO_ACCESS = "AssumeRoleUnauthorizedAccess"


@dataclass(frozen=True)
class Facts:
    """What the service knows of its instance; see ``Launch``, whose members these are."""

    metadata: Mapping[str, str]
    identity: Mapping[str, Any]
    user_data: bytes
    profile_arn: str
    profile_id: str
    role_arn: str
    tokens_required: bool


class MetadataService:
    """Answer the requests of one instance. Thread safe."""

    def __init__(
        self, facts: Facts, assume: Callable[[], dict[str, str]], clock: Callable[[], float] = time.time
    ) -> None:
        """``assume`` returns credentials of the instance's role as AWS_* variables, or raises AwsError."""
        self._facts, self._assume, self._clock = facts, assume, clock
        self._key = secrets.token_bytes(32)

    def serve(self, connection: socket.socket, below: str = "") -> None:
        """Answer the one request of a connection, and close it. Raises OSError when the client is gone.

        ``below``: where the paths begin, when this is a secret of the instance.
        """
        endpoint.serve(connection, self.answer, below, name="EC2ws")

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> Answer:
        """Answer one request; the names of ``headers`` are in lower case."""
        path = path.partition("?")[0]
        if path.rstrip("/") == TOKEN_PATH:
            return self._new_token(method, headers)
        if method not in ("GET", "HEAD"):
            return refusal(405, "Method Not Allowed")
        token = headers.get(_TOKEN)
        if not self._valid(token) if token else self._facts.tokens_required:
            return refusal(401, "Unauthorized")
        return self._find(path)

    def _new_token(self, method: str, headers: Mapping[str, str]) -> Answer:
        if method != "PUT":
            return Answer(405, b"", {"Allow": "OPTIONS, PUT"})
        if "x-forwarded-for" in headers:  # a request that came through a proxy is not the instance's own
            return refusal(403, "Forbidden")
        seconds = headers.get(_TTL, "")
        if not re.fullmatch(r"[0-9]{1,5}", seconds) or not 1 <= int(seconds) <= _LONGEST_TTL:
            return refusal(400, "Bad Request")
        until = b"%d" % (int(self._clock()) + int(seconds))
        token = base64.urlsafe_b64encode(self._sign(until) + until)
        return Answer(200, token, {"Content-Type": "text/plain", _TTL: seconds})

    def _valid(self, token: str) -> bool:
        try:
            data = base64.b64decode(token, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return False
        signature, until = data[:32], data[32:]
        return hmac.compare_digest(signature, self._sign(until)) and int(until) > self._clock()

    def _sign(self, text: bytes) -> bytes:
        return hmac.digest(self._key, text, "sha256")

    def _find(self, path: str) -> Answer:
        wanted = [part for part in path.split("/") if part]
        tree = self._tree()
        found: Any = tree
        for part in wanted:
            if not isinstance(found, dict) or part not in found:
                return refusal(404, "Not Found")
            found = found[part]
        if isinstance(found, dict):
            return Answer(200, _listing(found).encode())
        if isinstance(found, str):
            return Answer(200, found.encode())
        return found()

    def _tree(self) -> dict[str, Any]:
        """Return folders as dictionaries, items as texts or as functions that give the answer."""
        facts = self._facts
        root: dict[str, Any] = {"meta-data": {}}
        for path, text in facts.metadata.items():
            _plant(root["meta-data"], path, text)
        if facts.profile_arn:
            _plant(root["meta-data"], "iam/info", self._profile)
        if facts.profile_arn and facts.role_arn:
            name = facts.role_arn.rpartition("/")[2]
            _plant(root["meta-data"], f"iam/security-credentials/{name}", self._credentials)
        if facts.identity:
            _plant(root, "dynamic/instance-identity/document", json.dumps(dict(facts.identity), indent=2))
        if facts.user_data:
            root["user-data"] = lambda: Answer(200, facts.user_data, {"Content-Type": "application/octet-stream"})
        return {"latest": root}

    def _profile(self) -> Answer:
        facts = self._facts
        return _document(
            Code="Success",
            LastUpdated=_text(dt.datetime.now(dt.UTC)),
            InstanceProfileArn=facts.profile_arn,
            InstanceProfileId=facts.profile_id,
        )

    def _credentials(self) -> Answer:
        now = dt.datetime.now(dt.UTC)
        try:
            found = self._assume()
        except AwsError:
            role = self._facts.role_arn.rpartition("/")[2]
            message = f"EC2 cannot assume the role {role}: does it exist, and does it trust ec2.amazonaws.com?"
            return _document(Code=_NO_ACCESS, Message=message, LastUpdated=_text(now))
        return _document(
            Code="Success",
            LastUpdated=_text(now),
            Type="AWS-HMAC",
            AccessKeyId=found["AWS_ACCESS_KEY_ID"],
            SecretAccessKey=found["AWS_SECRET_ACCESS_KEY"],
            Token=found["AWS_SESSION_TOKEN"],
            Expiration=_text(now + _PROMISED),
        )


def _plant(tree: dict[str, Any], path: str, what: Any) -> None:
    *folders, name = path.strip("/").split("/")
    for folder in folders:
        tree = tree.setdefault(folder, {})
    tree[name] = what


def _listing(folder: Mapping[str, Any]) -> str:
    return "\n".join(f"{name}/" if isinstance(folder[name], dict) else name for name in sorted(folder))


def _document(**members: str) -> Answer:
    text = json.dumps({name: value for name, value in members.items() if value}, indent=2)
    return Answer(200, text.encode())


def _text(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
