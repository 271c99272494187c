"""A task as a container: its command, environment, log, credentials and metadata."""

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from helpers.local_aws import ecr
from helpers.local_aws.containers import Container, Image, Log
from helpers.local_aws.ecs.errors import unassumable
from helpers.local_aws.ecs.orders import roles
from helpers.local_aws.ecs.store import Record
from helpers.local_aws.wire import AwsError

Assume = Callable[[str, str], dict[str, str]]
_STOP_SECONDS = 30


class NotStarted(Exception):
    """Why a task could not start, as its ``stoppedReason`` says it."""


def run_id(task: Record) -> str:
    """Return the name of a task's run."""
    return f"ecs-{task['taskId']}"


def effective_roles(task: Record) -> dict[str, str]:
    """Return the roles of a task, those that there are."""
    return roles(task["definition"], task["overrides"])


def pull(task: Record, images: ecr.Source, require: ecr.Require) -> Image:
    """Return the task's image, as its execution role gets it. Raises NotStarted."""
    uri, role = task["containers"][0]["image"], effective_roles(task).get("executionRoleArn", "")
    try:
        return ecr.pull(images, require, uri, role, public=task["public"])
    except ecr.CannotPull as problem:
        raise NotStarted(str(problem)) from problem


def container(task: Record, image: Image, assume: Assume) -> Container:
    """Return the container that a task runs. Raises NotStarted where its execution role cannot be assumed."""
    wanted, override = task["definition"]["containerDefinitions"][0], _override(task)
    environment = {pair["name"]: pair.get("value", "") for pair in wanted.get("environment", [])}
    environment |= {pair["name"]: pair.get("value", "") for pair in override.get("environment", [])}
    role = effective_roles(task).get("taskRoleArn")
    return Container(
        run_id=run_id(task),
        image=image,
        argv=_argv(wanted, override, image),
        environment={**environment, "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"},
        working_directory=wanted.get("workingDirectory", ""),
        credentials=(lambda: assume(role, task["taskId"])) if role else None,
        role_arn=role or "",
        log=_log(task, wanted, assume),
        grace=float(wanted.get("stopTimeout", _STOP_SECONDS)),
        metadata=metadata(task, wanted, image),
    )


def metadata(task: Record, wanted: Mapping[str, Any], image: Image) -> dict[str, Any]:
    """Return the documents of the task metadata endpoint, version 4, by their path: "" and "task"."""
    shown = task["containers"][0]
    definition = task["definition"]
    labels = {
        "com.amazonaws.ecs.cluster": task["clusterArn"],
        "com.amazonaws.ecs.container-name": shown["name"],
        "com.amazonaws.ecs.task-arn": task["taskArn"],
        "com.amazonaws.ecs.task-definition-family": definition["family"],
        "com.amazonaws.ecs.task-definition-version": str(definition["revision"]),
    }
    document: dict[str, Any] = {
        "DockerId": shown["runtimeId"],
        "Name": shown["name"],
        "DockerName": shown["name"],
        "Image": shown["image"],
        "ImageID": image.digest,
        "Labels": {**wanted.get("dockerLabels", {}), **labels},
        "DesiredStatus": "RUNNING",
        "KnownStatus": "RUNNING",
        "Limits": {"CPU": wanted.get("cpu", 0)},
        "CreatedAt": _moment(task["pullStoppedAt"]),
        "Type": "NORMAL",
        "ContainerARN": shown["containerArn"],
    }
    if "logConfiguration" in wanted:
        document |= {
            "LogDriver": "awslogs",
            "LogOptions": {**wanted["logConfiguration"]["options"], "awslogs-stream": log_stream(task)},
        }
    whole = {
        "Cluster": task["clusterArn"],
        "TaskARN": task["taskArn"],
        "Family": definition["family"],
        "Revision": str(definition["revision"]),
        "DesiredStatus": "RUNNING",
        "KnownStatus": "RUNNING",
        "Limits": {"CPU": int(task["cpu"]) / 1024, "Memory": int(task["memory"])},
        "PullStartedAt": _moment(task["pullStartedAt"]),
        "PullStoppedAt": _moment(task["pullStoppedAt"]),
        "AvailabilityZone": task["availabilityZone"],
        "LaunchType": "FARGATE",
        "Containers": [document],
    }
    return {"": document, "task": whole}


def log_stream(task: Record) -> str:
    """Return the name of a task's log stream: prefix/container/task id."""
    wanted = task["definition"]["containerDefinitions"][0]
    prefix = wanted["logConfiguration"]["options"]["awslogs-stream-prefix"]
    return f"{prefix}/{wanted['name']}/{task['taskId']}"


def _argv(wanted: Mapping[str, Any], override: Mapping[str, Any], image: Image) -> list[str]:
    """Return what runs, as Docker puts it together: an entry point of the task's own drops the image's command."""
    entrypoint = wanted.get("entryPoint") or []
    command = override.get("command") or wanted.get("command") or ([] if entrypoint else image.command)
    argv = [*(entrypoint or image.entrypoint), *command]
    if not argv:
        raise NotStarted("CannotCreateContainerError: Error response from daemon: No command specified")
    return argv


def _log(task: Record, wanted: Mapping[str, Any], assume: Assume) -> Log | None:
    if "logConfiguration" not in wanted:
        return None
    options, role = wanted["logConfiguration"]["options"], effective_roles(task)["executionRoleArn"]
    try:
        credentials = assume(role, task["taskId"])
    except AwsError as error:
        raise NotStarted(f"ResourceInitializationError: {unassumable(role).message}") from error
    create = options.get("awslogs-create-group") == "true"
    return Log(options["awslogs-group"], log_stream(task), credentials, create_group=create)


def _override(task: Record) -> Mapping[str, Any]:
    return next(iter(task["overrides"]["containerOverrides"]), {})


def _moment(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
