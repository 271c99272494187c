"""Manifests: what an image is made of."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LAYERS = (
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.oci.image.layer.v1.tar+gzip",
)


@dataclass(frozen=True)
class Manifest:
    """A manifest of one image: its kind, the digest of its configuration, and those of its layers."""

    media_type: str
    config: str
    layers: tuple[str, ...]
    size: int  # bytes of the layers, as ECR counts an image

    @property
    def contents(self) -> list[str]:
        """The digests of everything that the manifest names."""
        return [self.config, *self.layers]


def read(data: bytes, media_type: str = "") -> Manifest:
    """Return what a manifest says. Raises ValueError for one that is not of a single image."""
    try:
        content = json.loads(data)
    except ValueError as error:
        raise ValueError(f"Invalid JSON syntax: {error}") from None
    if not isinstance(content, dict) or content.get("schemaVersion") != 2:
        raise ValueError("the manifest's schemaVersion is not 2")
    kind = content.get("mediaType") or media_type
    if kind not in (DOCKER, OCI) or (media_type and media_type != kind):
        raise ValueError(
            f"the manifest type {kind or 'unknown'} is not supported by the embedded AWS: one image, no list"
        )
    layers = list(_descriptors(content.get("layers")))
    for layer in layers:
        if layer.get("mediaType") not in _LAYERS:
            raise ValueError(f"the layer type {layer.get('mediaType')} is not supported by the embedded AWS")
    (config,) = _descriptors([content.get("config")])
    size = sum(layer["size"] for layer in layers)
    return Manifest(kind, config["digest"], tuple(layer["digest"] for layer in layers), size)


def is_digest(text: str) -> bool:
    """Tell whether a text is ``sha256:…``."""
    return _DIGEST.fullmatch(text) is not None


def _descriptors(items: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(items, list):
        raise ValueError("the manifest has no layers")
    for item in items:
        fits = isinstance(item, dict) and isinstance(item.get("size"), int) and isinstance(item.get("digest"), str)
        if not fits or not is_digest(item["digest"]):
            raise ValueError("the manifest names a content without its digest and size")
        yield item
