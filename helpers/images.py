"""An image from a folder with a Dockerfile: built by CodeBuild, since Studio often has no Docker, and kept in ECR."""

import hashlib
import io
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from helpers import functions, live, loggroups

FOLDER = functions.SOURCES / "processing_image"
DIGITS = 12  # of the content's hash
LOG_LINES = 20
BUILD_SECONDS = 1800
_LEFT_OUT = ("__pycache__", ".mypy_cache", ".ruff_cache", ".DS_Store")
_MARKS = {"SUCCEEDED": "✔", "FAILED": "✘", "FAULT": "✘", "TIMED_OUT": "✘", "STOPPED": "✘", "CLIENT_ERROR": "✘"}


class BuildFailed(Exception):
    """A build has failed; the message says in which phase, why, and what its log says last."""


def archive(folder: Path = FOLDER) -> bytes:
    """Return a zip of an image's folder, the same bytes for the same files: the source of a CodeBuild project."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in _files(folder).items():
            entry = zipfile.ZipInfo(name, functions.EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, content)
    return buffer.getvalue()


def image_tag(folder: Path = FOLDER) -> str:
    """Return a tag that follows from the files of an image's folder: a changed file makes another image."""
    digest = hashlib.sha256()
    for name, content in _files(folder).items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:DIGITS]


def is_pushed(ecr: Any, repository: str, tag: str) -> bool:
    """Tell whether a repository has an image with this tag. ``ecr``: a client."""
    try:
        ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
    except ecr.exceptions.ImageNotFoundException:
        return False
    return True


def wait_for_build(
    codebuild: Any,
    build_id: str,
    *,
    logs: Any = None,
    seconds: float = BUILD_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Show the phases of a build as it goes on, and return its phases as Markdown once it has succeeded.

    ``logs``: a CloudWatch Logs client; with it, the error of a failed build has the log's last lines. Raises
    BuildFailed, and TimeoutError after ``seconds``.
    """

    def look() -> Mapping[str, Any]:
        return codebuild.batch_get_builds(ids=[build_id])["builds"][0]

    build = live.follow(
        "Phases of the build:",
        look,
        lambda build: build["buildStatus"] != "IN_PROGRESS",
        phases,
        seconds=seconds,
        sleep=sleep,
    )
    if build["buildStatus"] != "SUCCEEDED":
        raise BuildFailed("\n".join([f"the build is {build['buildStatus']}", *_reasons(build), *_log(logs, build)]))
    return phases(build)


def phases(build: Mapping[str, Any]) -> str:
    """Return the phases of a build as a table in Markdown, without times."""
    rows = [
        (phase["phaseType"], phase.get("phaseStatus", ""))
        for phase in build.get("phases", ())
        if phase["phaseType"] != "COMPLETED"
    ]
    lines = [f"| {name} | {_MARKS.get(status, '▶')} {status} |" for name, status in rows]
    return "\n".join(["| phase | status |", "| --- | --- |", *lines])


def _reasons(build: Mapping[str, Any]) -> list[str]:
    return [
        f"{phase['phaseType']}: {context['message']}"
        for phase in build.get("phases", ())
        if phase.get("phaseStatus", "SUCCEEDED") != "SUCCEEDED"
        for context in phase.get("contexts", ())
        if context.get("message")
    ]


def _log(logs: Any, build: Mapping[str, Any]) -> list[str]:
    where = build.get("logs", {})
    if logs is None or not where.get("groupName") or not where.get("streamName"):
        return []
    lines = loggroups.tail(logs, where["groupName"], where["streamName"], lines=LOG_LINES)
    return ["the last lines of its log:", *(line.rstrip() for line in lines)] if lines else []


def _files(folder: Path) -> dict[str, bytes]:
    """Return a folder's files by their paths in it, sorted."""
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    kept = {name.as_posix(): path for name, path in found.items() if not set(name.parts) & set(_LEFT_OUT)}
    return {name: kept[name].read_bytes() for name in sorted(kept)}
