"""The images that a build has made or pulled, and where it has signed in."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.local_aws.builds.docker.layers import digest_of

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclass(frozen=True)
class Built:
    """An image: its configuration, its manifest and the digests of both."""

    manifest: bytes
    config: dict[str, Any] = field(repr=False)

    @property
    def image_id(self) -> str:
        """The digest of the configuration, by which docker names an image."""
        return json.loads(self.manifest)["config"]["digest"]

    @property
    def digest(self) -> str:
        """The digest of the manifest, by which registries name it."""
        return digest_of(self.manifest)

    @property
    def layers(self) -> list[str]:
        """The digests of its layers, the lowest first."""
        return [layer["digest"] for layer in json.loads(self.manifest)["layers"]]


class Images:
    """Images in a folder: their contents by digest, and the references that name them."""

    def __init__(self, folder: Path) -> None:
        self._blobs, self._tags, self._logins = folder / "blobs", folder / "tags.json", folder / "logins.json"
        self._blobs.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, data: bytes) -> str:
        """Keep a content; return its digest."""
        digest = digest_of(data)
        self._path(digest).write_bytes(data)
        return digest

    def get(self, digest: str) -> bytes:
        """Return a content. Raises FileNotFoundError."""
        return self._path(digest).read_bytes()

    def holds(self, digest: str) -> bool:
        """Tell whether a content is here."""
        return self._path(digest).is_file()

    def make(self, config: dict[str, Any], layers: list[str]) -> Built:
        """Make an image of a configuration and layers that are here."""
        data = json.dumps(config, sort_keys=True, separators=(",", ":")).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "size": len(data), "digest": self.put(data)},
            "layers": [
                {"mediaType": LAYER, "size": self._path(digest).stat().st_size, "digest": digest} for digest in layers
            ],
        }
        text = json.dumps(manifest, indent=3).encode()
        self.put(text)
        return Built(text, config)

    def tag(self, image: Built, reference: str) -> None:
        """Let ``name:tag`` name an image."""
        self._write(self._tags, {**self._read(self._tags), reference: image.digest})

    def find(self, reference: str) -> Built | None:
        """Return the image that ``name:tag`` or an image id names."""
        for name, digest in self._read(self._tags).items():
            manifest = self.get(digest)
            image_id = json.loads(manifest)["config"]["digest"]
            short = image_id.removeprefix("sha256:")
            given = reference.removeprefix("sha256:").removesuffix(":latest")
            if name == reference or (len(given) >= 12 and short.startswith(given)):
                return Built(manifest, json.loads(self.get(image_id)))
        return None

    def references(self) -> dict[str, Built]:
        """Return every ``name:tag`` with its image."""
        return {name: image for name in self._read(self._tags) if (image := self.find(name))}

    def sign_in(self, host: str, authorization: str) -> None:
        """Keep what a registry takes as the proof of who asks."""
        self._write(self._logins, {**self._read(self._logins), host: authorization})
        self._logins.chmod(0o600)

    def authorization(self, host: str) -> str:
        """Return the proof for a registry, or "" where nobody signed in."""
        return self._read(self._logins).get(host, "")

    def _path(self, digest: str) -> Path:
        return self._blobs / digest.replace(":", "-")

    def _read(self, path: Path) -> dict[str, str]:
        return json.loads(path.read_text()) if path.exists() else {}

    def _write(self, path: Path, content: dict[str, str]) -> None:
        path.write_text(json.dumps(content))
