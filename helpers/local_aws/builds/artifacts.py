"""What a build leaves in S3."""

import posixpath
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers.local_aws.builds.buildspec import Artifacts
from helpers.local_aws.builds.problems import PhaseProblem


def upload(source: Path, artifacts: Artifacts, settings: Mapping[str, Any], name: str) -> str:
    """Upload the files that a buildspec names; return ``bucket/key`` of the artifact. Raises PhaseProblem.

    ``settings``: ``location`` (the bucket), ``path``, ``namespace`` (a folder for each build, or ""), ``packaging``.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    files = find(source, artifacts)
    parts = (settings.get("path") or "", settings.get("namespace") or "", name)
    key = posixpath.normpath("/".join(part.strip("/") for part in parts if part.strip("/")) or ".")
    bucket = settings["location"]
    try:
        s3 = boto3.client("s3")
        if settings.get("packaging") == "ZIP":
            archive = source.parent / "artifacts.zip"
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
                for path, place in files.items():
                    packed.write(place, path)
            s3.upload_file(str(archive), bucket, key)
        else:
            for path, place in files.items():
                s3.upload_file(str(place), bucket, posixpath.normpath(f"{key}/{path}"))
    except (ClientError, BotoCoreError, boto3.exceptions.Boto3Error) as error:
        raise PhaseProblem("CLIENT_ERROR", str(error)) from None
    return f"{bucket}/{key}"


def find(source: Path, artifacts: Artifacts) -> dict[str, Path]:
    """Return the files that a buildspec names, by the path under which they are kept. Raises PhaseProblem."""
    base = (source / artifacts.base_directory).resolve()
    if not base.is_dir() or not base.is_relative_to(source.resolve()):
        raise PhaseProblem("CLIENT_ERROR", f"no matching base directory path found for {artifacts.base_directory}")
    left_out = {path for pattern in artifacts.exclude for path in _below(base, pattern)}
    found: dict[str, Path] = {}
    for pattern in artifacts.files:
        for path in _below(base, pattern):
            if path.is_file() and path not in left_out:
                found[path.name if artifacts.discard_paths else path.relative_to(base).as_posix()] = path
    if not found:
        raise PhaseProblem("CLIENT_ERROR", "no matching artifact paths found")
    return dict(sorted(found.items()))


def _below(base: Path, pattern: str) -> list[Path]:
    if pattern.startswith("/") or ".." in pattern.split("/"):
        raise PhaseProblem("CLIENT_ERROR", f"the artifact path {pattern} is not below the base directory")
    try:
        return sorted(base.glob(pattern.removeprefix("./")))
    except (ValueError, NotImplementedError) as error:
        raise PhaseProblem("CLIENT_ERROR", f"the artifact path {pattern}: {error}") from None
