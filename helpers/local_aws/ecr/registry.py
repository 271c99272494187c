"""The registry's HTTP API, below /v2/: what `docker login`, `push` and `pull` talk to.

A request is one of ECR's API in another form: the principal that got the token needs the same permissions.
"""

import asyncio
import base64
import binascii
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

from helpers.local_aws.asgi import Receive, Scope, Send
from helpers.local_aws.builds.docker.layers import digest_of
from helpers.local_aws.ecr.manifests import is_digest
from helpers.local_aws.ecr.requests import host
from helpers.local_aws.ecr.service import Ecr
from helpers.local_aws.wire import AwsError, Caller, Params

PATH = "/v2/"
_NAME = r"(?P<name>[a-z0-9][a-z0-9._/-]*)"
_UPLOAD = re.compile(rf"/v2/{_NAME}/blobs/uploads/(?P<upload>[0-9a-f-]*)")
_BLOB = re.compile(rf"/v2/{_NAME}/blobs/(?P<digest>sha256:[0-9a-f]{{64}})")
_MANIFEST = re.compile(rf"/v2/{_NAME}/manifests/(?P<reference>[\w.:-]+)")
_LAYER = re.compile(r"/v2/_layers/(?P<secret>[\w-]+)")
_PART = 8 << 20  # bytes that are held in memory of a layer
_MANIFEST_BYTES = 4 << 20
# The registry's code and status for ECR's errors.
_CODES = {
    "AccessDeniedException": ("DENIED", 403),
    "RepositoryNotFoundException": ("NAME_UNKNOWN", 404),
    "ImageNotFoundException": ("MANIFEST_UNKNOWN", 404),
    "LayersNotFoundException": ("MANIFEST_BLOB_UNKNOWN", 400),
    "ImageTagAlreadyExistsException": ("TAG_INVALID", 400),
    "InvalidLayerException": ("DIGEST_INVALID", 400),
    "UploadNotFoundException": ("BLOB_UPLOAD_UNKNOWN", 404),
    "NotImplemented": ("UNSUPPORTED", 405),
}


@dataclass(frozen=True)
class Answer:
    """Status, headers and content; ``file`` in its place for a large one."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: Path | None = None


class Registry:
    """Serve requests below /v2/."""

    def __init__(self, ecr: Ecr) -> None:
        self._ecr = ecr

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            answer = await self._answer(scope, headers, receive)
        except AwsError as error:
            code, status = _CODES.get(error.code, ("UNKNOWN", error.status))
            body = json.dumps({"errors": [{"code": code, "message": error.message}]}).encode()
            said = " ".join(error.message.encode("ascii", "replace").decode().split())
            answer = Answer(status, {"content-type": "application/json", "x-registry-problem": said}, body)
        await _send(send, answer, with_body=scope["method"] != "HEAD")

    async def _answer(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> Answer:
        path, method = scope["path"], scope["method"]
        if link := _LAYER.fullmatch(path):
            return self._linked(link["secret"])
        caller = self._caller(headers)
        if caller is None:
            said = json.dumps({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]})
            challenge = f'Basic realm="{self._ecr.site.endpoint_url}/",service="ecr.amazonaws.com"'
            return Answer(401, {"www-authenticate": challenge, "content-type": "application/json"}, said.encode())
        meant = headers.get("x-registry-host", host(self._ecr.site))
        if meant != host(self._ecr.site):
            raise AwsError("RepositoryNotFoundException", f"the embedded AWS does not have the registry {meant}")
        if path == PATH and method in ("GET", "HEAD"):
            return Answer(200, {"content-type": "application/json"}, b"{}")
        asked = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        if found := _UPLOAD.fullmatch(path):
            return await self._upload(method, found["name"], found["upload"], asked, receive, caller)
        if (found := _MANIFEST.fullmatch(path)) and method == "PUT":
            body = b"".join([part async for part in _parts(receive, _MANIFEST_BYTES, _MANIFEST_BYTES)])
            kind = headers.get("content-type", "")
            return await asyncio.to_thread(self._put_manifest, found["name"], found["reference"], body, kind, caller)
        if method in ("GET", "HEAD"):
            return await asyncio.to_thread(self._read, path, method, caller)
        raise AwsError("NotImplemented", f"the embedded AWS's registry does not support {method} {path}", 501)

    def _caller(self, headers: Mapping[str, str]) -> Caller | None:
        kind, _, text = headers.get("authorization", "").partition(" ")
        try:
            user, _, password = base64.b64decode(text, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return self._ecr.token_owner(password) if kind.lower() == "basic" and user == "AWS" else None

    def _linked(self, secret: str) -> Answer:
        digest = self._ecr.linked_layer(secret)
        path = self._ecr.store.blob(digest) if digest else None
        if path is None or not path.is_file():
            raise AwsError("AccessDeniedException", "the address of the layer has expired")
        return Answer(200, {"content-type": "application/octet-stream"}, file=path)

    async def _upload(
        self, method: str, name: str, upload: str, asked: Mapping[str, str], receive: Receive, caller: Caller
    ) -> Answer:
        repository = {"repositoryName": name}
        if method == "POST" and not upload:
            upload = (await self._call("InitiateLayerUpload", repository, caller))["uploadId"]
            return Answer(202, {"location": f"/v2/{name}/blobs/uploads/{upload}", "docker-upload-uuid": upload})
        if method not in ("PATCH", "PUT") or not upload:
            raise AwsError("NotImplemented", f"the embedded AWS's registry does not support {method} of an upload", 501)
        last = (self._ecr.store.uploaded(name, upload) or 0) - 1
        async for part in _parts(receive, _PART):
            span = {"partFirstByte": last + 1, "partLastByte": last + len(part), "layerPartBlob": part}
            last = (await self._call("UploadLayerPart", {**repository, "uploadId": upload, **span}, caller))[
                "lastByteReceived"
            ]
        place = {"location": f"/v2/{name}/blobs/uploads/{upload}", "docker-upload-uuid": upload}
        if method == "PATCH":
            return Answer(202, {**place, "range": f"0-{max(last, 0)}"})
        digest = asked.get("digest", "")
        try:
            ending = {**repository, "uploadId": upload, "layerDigests": [digest]}
            await self._call("CompleteLayerUpload", ending, caller)
        except AwsError as error:
            if error.code != "LayerAlreadyExistsException":
                raise
        return Answer(201, {"location": f"/v2/{name}/blobs/{digest}", "docker-content-digest": digest})

    def _put_manifest(self, name: str, reference: str, body: bytes, kind: str, caller: Caller) -> Answer:
        try:
            params: Params = {"repositoryName": name, "imageManifest": body.decode(), "imageManifestMediaType": kind}
        except UnicodeDecodeError:
            raise AwsError("InvalidParameterException", "the manifest is not text") from None
        params |= {"imageDigest": reference} if is_digest(reference) else {"imageTag": reference}
        try:
            self._ecr.call("PutImage", params, caller)
        except AwsError as error:
            if error.code != "ImageAlreadyExistsException":  # pushing again is no error
                raise
        digest = digest_of(body)
        return Answer(201, {"location": f"/v2/{name}/manifests/{digest}", "docker-content-digest": digest})

    def _manifest(self, name: str, reference: str, caller: Caller) -> Params:
        key = "imageDigest" if is_digest(reference) else "imageTag"
        found = self._ecr.call("BatchGetImage", {"repositoryName": name, "imageIds": [{key: reference}]}, caller)
        if not found["images"]:
            raise AwsError("ImageNotFoundException", "Requested image not found")
        return found["images"][0]

    def _read(self, path: str, method: str, caller: Caller) -> Answer:
        if found := _MANIFEST.fullmatch(path):
            image = self._manifest(found["name"], found["reference"], caller)
            headers = {"docker-content-digest": image["imageId"]["imageDigest"]}
            kind = {"content-type": image["imageManifestMediaType"]}
            return Answer(200, headers | kind, image["imageManifest"].encode())
        found = _BLOB.fullmatch(path)
        if found is None:
            raise AwsError("NotImplemented", f"the embedded AWS's registry does not support {method} {path}", 501)
        digest, repository = found["digest"], {"repositoryName": found["name"]}
        if method == "HEAD":
            wanted = {**repository, "layerDigests": [digest]}
            layer = self._ecr.call("BatchCheckLayerAvailability", wanted, caller)["layers"][0]
            if layer["layerAvailability"] != "AVAILABLE":
                return Answer(404)
        else:
            self._ecr.call("GetDownloadUrlForLayer", {**repository, "layerDigest": digest}, caller)
        kind = {"content-type": "application/octet-stream", "docker-content-digest": digest}
        return Answer(200, kind, file=self._ecr.store.blob(digest))

    async def _call(self, operation: str, params: Params, caller: Caller) -> Params:
        return await asyncio.to_thread(self._ecr.call, operation, params, caller)


async def _parts(receive: Receive, size: int, most: int = 0) -> AsyncIterator[bytes]:
    """Yield a request's body in parts of about ``size`` bytes; ``most``: how long it may be."""
    chunks: list[bytes] = []
    held = total = 0
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise AwsError("IncompleteBody", "the client left before its request was complete")
        more, chunk = message.get("more_body", False), message.get("body", b"")
        chunks.append(chunk)
        held, total = held + len(chunk), total + len(chunk)
        if most and total > most:
            raise AwsError("RequestEntityTooLarge", f"a manifest is at most {most} bytes", 413)
        if held >= size or (held and not more):
            yield b"".join(chunks)
            chunks, held = [], 0


async def _send(send: Send, answer: Answer, *, with_body: bool) -> None:
    length = answer.file.stat().st_size if answer.file else len(answer.body)
    headers = {"docker-distribution-api-version": "registry/2.0", **answer.headers, "content-length": str(length)}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": pairs})
    if answer.file and with_body:
        with answer.file.open("rb") as file:
            while block := await asyncio.to_thread(file.read, _PART):
                await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send({"type": "http.response.body", "body": answer.body if with_body else b""})
