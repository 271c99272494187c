"""Which image a URI names, and what it is as a container."""

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from helpers.local_aws.builds.docker import bases
from helpers.local_aws.builds.docker.layers import digest_of
from helpers.local_aws.builds.docker.unpack import unpack
from helpers.local_aws.containers.model import Image
from helpers.local_aws.ecr import manifests
from helpers.local_aws.ecr.store import Repository, Store
from helpers.local_aws.wire import Permission, Site

_URI = re.compile(
    bases.ECR_HOST.pattern + r"/(?P<repository>[a-z0-9][a-z0-9._/-]*)(?::(?P<tag>[\w.-]{1,128}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_PULLING = ("BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer")


class ImageProblem(Exception):
    """Why an image cannot be had, in the words of ECS: ``CannotPullContainerError: …``."""


class Images:
    """The images that containers can be started from."""

    def __init__(self, site: Site, store: Store) -> None:
        self._site, self._store = site, store

    def resolve(self, uri: str) -> Image:
        """Return the image that a URI names, with its files unpacked (once for each digest). Raises ImageProblem.

        The folder is a cache for everybody: who runs the image copies it.
        """
        standing = bases.find(uri, self._site.account_id)
        if standing:
            environment = {**standing.environment, "PATH": bases.with_this_python(standing.environment["PATH"])}
            named = digest_of(repr((uri, standing)).encode())
            return Image(uri, named, None, (), standing.command, environment)
        found = _URI.fullmatch(uri)
        if found is None:
            raise ImageProblem(
                f"CannotPullContainerError: the embedded AWS cannot run the image {uri}: it has the images of its ECR,"
                " python:3.x and SageMaker's scikit-learn"
            )
        repository = self._store.find(found["repository"]) if self._is_ours(found) else None
        digest = repository.digest_of(found["digest"] or found["tag"] or "latest") if repository else None
        if repository is None or digest is None:
            raise ImageProblem(
                "CannotPullContainerError: pull image manifest has been retried 7 time(s): failed to resolve ref"
                f" {uri}: {uri}: not found"
            )
        try:
            return self._image(uri, repository, digest)
        except (ValueError, OSError) as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else error  # no path of this machine
            raise ImageProblem(f"CannotPullContainerError: failed to unpack {uri}: {said}") from None

    def pull_permissions(self, uri: str) -> list[Permission]:
        """Return what a role needs to pull an image; nothing for a public one."""
        found = _URI.fullmatch(uri)
        if found is None:
            return []
        arn = f"arn:aws:ecr:{found['region']}:{found['account']}:repository/{found['repository']}"
        return [Permission("ecr:GetAuthorizationToken"), *(Permission(f"ecr:{action}", arn) for action in _PULLING)]

    def _is_ours(self, found: re.Match[str]) -> bool:
        return (found["account"], found["region"]) == (self._site.account_id, self._site.region)

    def _image(self, uri: str, repository: Repository, digest: str) -> Image:
        with self._store.lock:  # what is deleted meanwhile is deleted afterwards
            manifest = manifests.read(self._store.blob(digest).read_bytes(), repository.images[digest].media_type)
            settings = _settings(json.loads(self._store.blob(manifest.config).read_bytes()))
            folder = self._unpacked(digest, manifest) if manifest.layers else None
        environment = dict(text.split("=", 1) for text in settings.get("Env") or [])
        if "PATH" in environment:
            environment["PATH"] = bases.with_this_python(environment["PATH"])
        return Image(
            uri,
            digest,
            folder,
            tuple(settings.get("Entrypoint") or ()),
            tuple(settings.get("Cmd") or ()),
            environment,
            settings.get("WorkingDir") or "/",
        )

    def _unpacked(self, digest: str, manifest: manifests.Manifest) -> Path:
        folder = self._store.unpacked / digest.replace(":", "-", 1)
        if folder.is_dir():
            return folder
        self._store.unpacked.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix="new-", dir=self._store.unpacked))
        try:
            new.chmod(0o755)
            unpack(new, [self._store.blob(layer) for layer in manifest.layers])
            new.rename(folder)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        return folder


def _settings(config: Any) -> dict[str, Any]:
    """Return what a configuration says of how the image is run. Raises ValueError where it is malformed."""
    settings = (config.get("config") or {}) if isinstance(config, dict) else None
    if not isinstance(settings, dict):
        raise ValueError("its configuration is not one of an image")
    for name in ("Env", "Entrypoint", "Cmd"):
        texts = settings.get(name) or []
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{name} of its configuration is no list of texts")
    if not all("=" in text for text in settings.get("Env") or []):
        raise ValueError("Env of its configuration has a variable without a value")
    if not str(settings.get("WorkingDir") or "/").startswith("/"):
        raise ValueError("WorkingDir of its configuration is not absolute")
    return settings
