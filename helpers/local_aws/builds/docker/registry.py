"""ECR's registry, as `docker` talks to it: the embedded AWS answers for it."""

import base64
import http.client
import json
import urllib.parse
from collections.abc import Callable

from helpers.local_aws.builds.docker.bases import ECR_HOST
from helpers.local_aws.builds.docker.layers import digest_of
from helpers.local_aws.builds.docker.problems import DockerProblem
from helpers.local_aws.builds.docker.store import MANIFEST, Built, Images

HOST_HEADER = "X-Registry-Host"  # the name of the registry that is meant: connections go to 127.0.0.1
_PART = 8 << 20  # bytes of a layer in one request
_SECONDS = 300


def split(reference: str) -> tuple[str, str, str]:
    """Return host, repository and tag (or digest) of ``host/name:tag``; the host is "" where there is none."""
    name, _, digest = reference.partition("@")
    head, slash, tail = name.rpartition("/")
    tail, _, tag = tail.partition(":")
    host, _, rest = f"{head}{slash}{tail}".partition("/")
    if not rest or not ({".", ":"} & set(host) or host == "localhost"):
        return "", f"{head}{slash}{tail}", digest or tag or "latest"
    return host, rest, digest or tag or "latest"


class Registry:
    """One registry: ``host`` is the name that images carry, ``endpoint_url`` where it is answered."""

    def __init__(self, host: str, endpoint_url: str, authorization: str) -> None:
        """``authorization``: what follows Basic. Raises DockerProblem for a registry that is not ECR."""
        if not ECR_HOST.fullmatch(host):
            raise DockerProblem(
                f"the registry {host or 'docker.io'} is out of reach of the embedded AWS: it has ECR only"
            )
        self._host, self._authorization = host, authorization
        self._address = urllib.parse.urlsplit(endpoint_url).netloc

    def sign_in(self) -> None:
        """Ask whether the registry takes the credentials. Raises DockerProblem."""
        self._ask("GET", "/v2/", {200})

    def push(self, image: Built, images: Images, repository: str, tag: str, say: Callable[[str], None]) -> str:
        """Send an image's layers, configuration and manifest; return its digest. Raises DockerProblem."""
        config = json.loads(image.manifest)["config"]["digest"]
        for digest in [*image.layers, config]:
            short = digest.removeprefix("sha256:")[:12]
            status, _, _ = self._ask("HEAD", f"/v2/{repository}/blobs/{digest}", {200, 404}, repository)
            if status == 404:
                self._send(repository, digest, images.get(digest))
            if digest != config:
                say(f"{short}: {'Pushed' if status == 404 else 'Layer already exists'}")
        path = f"/v2/{repository}/manifests/{tag}"
        self._ask("PUT", path, {201}, repository, image.manifest, {"Content-Type": MANIFEST})
        say(f"{tag}: digest: {image.digest} size: {len(image.manifest)}")
        return image.digest

    def pull(self, images: Images, repository: str, reference: str) -> Built:
        """Fetch an image. Raises DockerProblem."""
        _, _, manifest = self._ask("GET", f"/v2/{repository}/manifests/{reference}", {200}, repository)
        content = json.loads(manifest)
        for digest in [content["config"]["digest"], *(layer["digest"] for layer in content["layers"])]:
            if not images.holds(digest):
                _, _, data = self._ask("GET", f"/v2/{repository}/blobs/{digest}", {200}, repository)
                if digest_of(data) != digest:
                    raise DockerProblem(f"{self._host}/{repository}: the content of {digest} is another one")
                images.put(data)
        images.put(manifest)
        return Built(manifest, json.loads(images.get(content["config"]["digest"])))

    def _send(self, repository: str, digest: str, data: bytes) -> None:
        _, headers, _ = self._ask("POST", f"/v2/{repository}/blobs/uploads/", {202}, repository)
        place = headers["location"]
        for start in range(0, len(data), _PART):
            part = data[start : start + _PART]
            span = {"Content-Range": f"{start}-{start + len(part) - 1}", "Content-Type": "application/octet-stream"}
            self._ask("PATCH", place, {202}, repository, part, span)
        self._ask("PUT", f"{place}?digest={digest}", {201}, repository)

    def _ask(
        self,
        method: str,
        path: str,
        expected: set[int],
        repository: str = "",
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        sent = {**(headers or {}), HOST_HEADER: self._host}
        if self._authorization:
            sent["Authorization"] = f"Basic {self._authorization}"
        connection = http.client.HTTPConnection(self._address, timeout=_SECONDS)
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            data = answer.read()
        except OSError as error:
            raise DockerProblem(f"{self._host} cannot be reached: {error}") from None
        finally:
            connection.close()
        if answer.status not in expected:
            raise self._problem(answer.status, data, repository, answer.headers.get("X-Registry-Problem", ""))
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, data

    def _problem(self, status: int, data: bytes, repository: str, said: str) -> DockerProblem:
        if status == 401:
            what = "no basic auth credentials" if not self._authorization else "Your authorization token has expired."
            return DockerProblem(f"{what} Reauthenticate and try again: docker login {self._host}")
        try:
            error = json.loads(data)["errors"][0]
            code, message = error["code"].lower().replace("_", " "), error["message"]
        except (ValueError, LookupError, TypeError):
            code, message = ("denied" if status == 403 else f"{self._host}/{repository}"), said or f"status {status}"
        return DockerProblem(f"{code}: {message}")


def basic(user: str, password: str) -> str:
    """Return what follows ``Basic`` in an Authorization header."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()
