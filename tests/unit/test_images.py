"""An image's folder: its zip, its tag, and the build that makes the image."""

import io
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from answers import Aws, in_turn, refuse

from helpers import images
from helpers.local_aws.control import PROJECT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "training").mkdir()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_bytes(b"x")
    (tmp_path / "Dockerfile").write_text("FROM python:3.12\n")
    (tmp_path / "training" / "train.py").write_text("print(1)\n")
    return tmp_path


def test_the_same_files_are_the_same_zip_and_tag(folder: Path) -> None:
    first, tag = images.archive(folder), images.image_tag(folder)
    os.utime(folder / "Dockerfile", (0, 0))
    assert (images.archive(folder), images.image_tag(folder)) == (first, tag)
    assert zipfile.ZipFile(io.BytesIO(first)).namelist() == ["Dockerfile", "training/train.py"]
    assert re.fullmatch("[0-9a-f]{12}", tag)


def test_a_changed_moved_or_split_file_is_another_tag(folder: Path) -> None:
    tags = {images.image_tag(folder)}
    (folder / "Dockerfile").write_text("FROM python:3.13\n")
    tags.add(images.image_tag(folder))
    (folder / "training" / "train.py").rename(folder / "train.py")
    tags.add(images.image_tag(folder))
    (folder / "train.py").write_text("print(1")
    (folder / "train.py2").write_text(")\n")
    tags.add(images.image_tag(folder))
    assert len(tags) == 4


def pinned(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9-]+)==(\S+)$", path.read_text(), re.MULTILINE))


def test_the_image_has_the_versions_of_the_project() -> None:
    """So that on this machine building it installs nothing."""
    ours = pinned(images.FOLDER / "requirements.txt")
    assert set(ours) == {"boto3", "pandas", "scikit-learn"}
    assert ours.items() <= pinned(PROJECT / "requirements.txt").items()


def test_the_requirements_are_not_in_the_folder_that_sagemaker_takes() -> None:
    """Its script mode installs a requirements.txt that it finds, and these versions need a newer Python than its."""
    assert [path.name for path in (images.FOLDER / "training").glob("*") if path.is_file()] == ["train.py"]


def test_the_dockerfile_copies_what_there_is() -> None:
    lines = [line for line in (images.FOLDER / "Dockerfile").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "FROM public.ecr.aws/docker/library/python:3.12-slim"
    (copied,) = [line.split()[1:-1] for line in lines if line.startswith("COPY *")]
    files = {path.name for pattern in copied for path in images.FOLDER.glob(pattern)}
    assert files == {"summarize.py", "train.py"}


def test_a_build_that_cannot_make_the_image_pushes_none() -> None:
    spec = yaml.safe_load((images.FOLDER / "buildspec.yml").read_text())
    assert list(spec["phases"]) == ["pre_build", "build"]  # post_build runs after a failed build, too
    assert [command.split()[:2] for command in spec["phases"]["build"]["commands"]] == [
        ["docker", "build"], ["docker", "push"],
    ]  # fmt: skip


def test_a_pushed_image_is_found_by_its_tag() -> None:
    aws = Aws({"ecr:DescribeImages": in_turn({"imageDetails": [{}]}, refuse("ImageNotFoundException"))})
    assert images.is_pushed(aws.client("ecr"), "demo", "t")
    assert not images.is_pushed(aws.client("ecr"), "demo", "t")


def build(status: str, *phases: tuple[str, str], message: str = "") -> dict[str, Any]:
    found = [
        {"phaseType": name, **({"phaseStatus": state} if state else {}),
         "contexts": [{"message": message}] if state == "FAILED" else []}
        for name, state in phases
    ]  # fmt: skip
    logs = {"groupName": "/aws/codebuild/p", "streamName": "s"}
    return {"builds": [{"id": "p:1", "buildStatus": status, "phases": found, "logs": logs}]}


def test_a_build_is_waited_for_and_its_phases_stay() -> None:
    answers = in_turn(
        build("IN_PROGRESS", ("BUILD", "")), build("SUCCEEDED", ("BUILD", "SUCCEEDED"), ("COMPLETED", ""))
    )
    aws, pauses = Aws({"codebuild:BatchGetBuilds": answers}), []
    found = images.wait_for_build(aws.client("codebuild"), "p:1", sleep=pauses.append)
    assert found == "| phase | status |\n| --- | --- |\n| BUILD | ✔ SUCCEEDED |"
    assert len(pauses) == 1


def test_a_failed_build_says_where_and_why() -> None:
    failed = build("FAILED", ("BUILD", "FAILED"), message="Error while executing command: docker build")
    events = {"events": [{"message": "Dockerfile:7: USER is not supported\n", "timestamp": 0}]}
    aws = Aws({"codebuild:BatchGetBuilds": failed, "logs:GetLogEvents": events})
    with pytest.raises(images.BuildFailed) as caught:
        images.wait_for_build(aws.client("codebuild"), "p:1", logs=aws.client("logs"), sleep=lambda _: None)
    assert str(caught.value).splitlines() == [
        "the build is FAILED",
        "BUILD: Error while executing command: docker build",
        "the last lines of its log:",
        "Dockerfile:7: USER is not supported",
    ]


def test_a_build_that_does_not_end_is_given_up() -> None:
    aws = Aws({"codebuild:BatchGetBuilds": build("IN_PROGRESS", ("QUEUED", ""))})
    with pytest.raises(TimeoutError, match="not ended after 5 seconds"):
        images.wait_for_build(aws.client("codebuild"), "p:1", seconds=5, sleep=lambda _: None)
