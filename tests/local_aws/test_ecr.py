"""The registry over HTTP: what `docker` and boto3 say to it."""

import base64
import hashlib
import json
import urllib.error
import urllib.request
import uuid
from typing import Any

import pytest
from clients import allow

LAYER = b"a layer"
CONFIG = b'{"config": {}}'
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    """One repository, asked over HTTP with a token."""

    def __init__(self, embedded: Any, name: str, statements: list[dict] | None = None) -> None:
        self.embedded, self.name = embedded, name
        self.ecr = embedded.client("ecr", embedded.variables_of(statements) if statements else None)
        self.token = self.ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]

    def ask(self, method: str, path: str, body: bytes = b"", *, token: str | None = None, **headers: str) -> Any:
        """Return status, headers and body of an answer."""
        token = self.token if token is None else token
        headers |= {"Authorization": f"Basic {token}"} if token else {}
        url = path if path.startswith("http") else f"{self.embedded.endpoint_url}{path}"
        request = urllib.request.Request(url, body or None, headers, method=method)  # noqa: S310 - http://127.0.0.1
        try:
            answer = urllib.request.urlopen(request)  # noqa: S310
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.headers, answer.read()

    def upload(self, data: bytes) -> Any:
        status, headers, body = self.ask("POST", f"/v2/{self.name}/blobs/uploads/")
        if status != 202:
            return status, headers, body
        status, headers, _ = self.ask("PATCH", headers["location"], data)
        assert (status, headers["range"]) == (202, f"0-{len(data) - 1}")
        return self.ask("PUT", f"{headers['location']}?digest={digest_of(data)}")

    def put(self, tag: str, layer_of: bytes = LAYER) -> Any:
        config = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(CONFIG)}
        layer = {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": len(layer_of)}
        content = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {**config, "digest": digest_of(CONFIG)},
            "layers": [{**layer, "digest": digest_of(layer_of)}],
        }
        body = json.dumps(content).encode()
        return self.ask("PUT", f"/v2/{self.name}/manifests/{tag}", body, **{"Content-Type": MANIFEST})


@pytest.fixture(scope="module")
def registry(embedded: Any) -> Registry:
    name = f"team/images-{uuid.uuid4().hex[:8]}"
    embedded.client("ecr").create_repository(repositoryName=name)
    registry = Registry(embedded, name)
    assert [registry.upload(data)[0] for data in (LAYER, CONFIG)] == [201, 201]
    assert registry.put("v1")[0] == 201
    return registry


def test_a_registry_asks_who_it_is(registry):
    for token in ("", "nonsense", base64.b64encode(b"AWS:guessed").decode(), base64.b64encode(b"me:x").decode()):
        status, headers, body = registry.ask("GET", "/v2/", token=token)
        assert (status, json.loads(body)["errors"][0]["code"]) == (401, "UNAUTHORIZED")
        assert headers["www-authenticate"].startswith("Basic realm=")
    assert registry.ask("GET", "/v2/")[0] == 200


def test_what_was_pushed_is_pulled(registry):
    status, headers, body = registry.ask("GET", f"/v2/{registry.name}/manifests/v1")
    assert (status, headers["docker-content-digest"], headers["content-type"]) == (200, digest_of(body), MANIFEST)
    assert registry.ask("GET", f"/v2/{registry.name}/blobs/{digest_of(LAYER)}")[2] == LAYER
    status, headers, body = registry.ask("HEAD", f"/v2/{registry.name}/blobs/{digest_of(LAYER)}")
    assert (status, headers["content-length"], body) == (200, str(len(LAYER)), b"")
    assert registry.ask("HEAD", f"/v2/{registry.name}/blobs/{digest_of(b'none')}")[0] == 404


def test_pushing_again_is_no_error_but_an_immutable_tag_stays(registry):
    assert registry.put("v1")[0] == 201
    assert registry.upload(LAYER)[0] == 201
    assert registry.upload(b"another")[0] == 201
    registry.ecr.put_image_tag_mutability(repositoryName=registry.name, imageTagMutability="IMMUTABLE")
    status, _, body = registry.put("v1", b"another")
    registry.ecr.put_image_tag_mutability(repositoryName=registry.name, imageTagMutability="MUTABLE")
    assert (status, json.loads(body)["errors"][0]["code"]) == (400, "TAG_INVALID")


def test_a_download_url_needs_no_token(registry):
    answer = registry.ecr.get_download_url_for_layer(repositoryName=registry.name, layerDigest=digest_of(LAYER))
    assert registry.ask("GET", answer["downloadUrl"], token="")[2] == LAYER
    assert registry.ask("GET", answer["downloadUrl"][:-3], token="")[0] == 403


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/none/manifests/v1", 404),
        ("GET", "/v2/{name}/manifests/none", 404),
        ("DELETE", "/v2/{name}/manifests/v1", 405),
        ("GET", "/v2/_catalog", 405),
        ("GET", "/v2/{name}/tags/list", 405),
        ("PUT", "/v2/{name}/blobs/uploads/0e2b9f5c-6b57-4f0c-9d34-000000000000?digest=sha256:0", 404),
        ("GET", "/v2/../../etc/passwd", 405),
    ],
)
def test_what_is_not_there_or_not_supported(registry, method, path, status):
    found, _, body = registry.ask(method, path.format(name=registry.name))
    assert found == status
    assert json.loads(body)["errors"][0]["message"]


def test_another_registry_is_not_here(registry):
    host = {"X-Registry-Host": "999999999999.dkr.ecr.us-east-1.amazonaws.com"}
    assert registry.ask("GET", "/v2/", **host)[0] == 404


@pytest.mark.parametrize(
    ("lacking", "ask"),
    [
        ("InitiateLayerUpload", lambda it: it.upload(b"another")),
        ("PutImage", lambda it: it.put("v2")),
        ("BatchGetImage", lambda it: it.ask("GET", f"/v2/{it.name}/manifests/v1")),
        ("GetDownloadUrlForLayer", lambda it: it.ask("GET", f"/v2/{it.name}/blobs/{digest_of(LAYER)}")),
        ("BatchCheckLayerAvailability", lambda it: it.ask("HEAD", f"/v2/{it.name}/blobs/{digest_of(LAYER)}")),
    ],
)
def test_whoever_got_the_token_needs_the_permission(embedded, registry, lacking, ask):
    denied = {"Effect": "Deny", "Action": f"ecr:{lacking}", "Resource": "*"}
    status, headers, body = ask(Registry(embedded, registry.name, [allow("ecr:*"), denied]))
    assert status == 403
    said = json.loads(body)["errors"][0]["message"] if body else headers["x-registry-problem"]
    assert (
        f"is not authorized to perform: ecr:{lacking} on resource: arn:aws:ecr:us-east-1:123456789012:repository/"
        in said
    )
