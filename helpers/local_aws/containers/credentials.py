"""What answers a container at 169.254.170.2: the credentials of its role, and what ECS tells of the task."""

import datetime as dt
import hmac
import json
import logging
import secrets
import socket
import uuid
from collections.abc import Mapping

from helpers.local_aws.containers import endpoint
from helpers.local_aws.containers.endpoint import Answer
from helpers.local_aws.containers.model import Container
from helpers.local_aws.wire import AwsError

_PROMISED = dt.timedelta(hours=6)  # how long credentials are good at least: sessions of roles live longer
_JSON = {"Content-Type": "application/json"}
_log = logging.getLogger(__name__)


class Credentials:
    """Answer the requests of one container. Thread safe.

    Whoever knows ``credentials_path`` gets the credentials, as on AWS; where the
    container has no network of its own, the request must carry ``token``, too, and
    all paths begin with ``below``.
    """

    def __init__(self, container: Container) -> None:
        self._container = container
        self._documents = {path.strip("/"): document for path, document in container.metadata.items()}
        self._metadata = f"/v4/{uuid.uuid4()}"
        self.credentials_path = f"/v2/credentials/{uuid.uuid4()}" if container.credentials else ""
        self.metadata_path = self._metadata if self._documents else ""
        self.token, self.below = secrets.token_urlsafe(32), f"/{secrets.token_hex(16)}"

    def serve(self, connection: socket.socket, below: str) -> None:
        """Answer the one request of a connection, and close it. Raises OSError when the client is gone.

        ``below``: where the paths begin when anybody on this machine could have opened it, a secret.
        """

        def answer(method: str, path: str, headers: Mapping[str, str]) -> Answer:
            return self.answer(method, path, headers, shared=bool(below))

        endpoint.serve(connection, answer, below, name="ECS")

    def answer(self, method: str, path: str, headers: Mapping[str, str], *, shared: bool = False) -> Answer:
        """Answer one request; the names of ``headers`` are in lower case."""
        path = path.partition("?")[0].rstrip("/")
        if method not in ("GET", "HEAD"):
            return endpoint.refusal(405, "Method Not Allowed")
        if path.startswith("/v2/credentials"):
            return self._give(path, headers.get("authorization", "") if shared else self.token)
        base, _, rest = path.removeprefix("/v4/").partition("/")
        if f"/v4/{base}" == self._metadata and rest in self._documents:
            return Answer(200, json.dumps(self._documents[rest]).encode(), _JSON)
        return endpoint.refusal(404, "Not Found")

    def _give(self, path: str, token: str) -> Answer:
        known = self.credentials_path and hmac.compare_digest(path.encode(), self.credentials_path.encode())
        if not known or self._container.credentials is None:
            return _problem(400, "InvalidIdInRequest", "CredentialsV2Request: ID not found")
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            return _problem(403, "AccessDenied", "the authorization token is not this container's")
        try:
            found = self._container.credentials()
        except AwsError as error:
            _log.warning("%s: %s", self._container.run_id, error)
            return _problem(500, "InternalServerError", "CredentialsV2Request: unable to assume the role")
        document = {
            "RoleArn": self._container.role_arn,
            "AccessKeyId": found["AWS_ACCESS_KEY_ID"],
            "SecretAccessKey": found["AWS_SECRET_ACCESS_KEY"],
            "Token": found["AWS_SESSION_TOKEN"],
            "Expiration": f"{dt.datetime.now(dt.UTC) + _PROMISED:%Y-%m-%dT%H:%M:%SZ}",
        }
        return Answer(200, json.dumps(document).encode(), _JSON)


def _problem(status: int, code: str, message: str) -> Answer:
    """Return an error as ECS's agent words it."""
    document = {"code": code, "message": message, "HTTPErrorCode": status}
    return Answer(status, json.dumps(document).encode(), _JSON)
