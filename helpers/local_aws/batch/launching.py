"""The container of one attempt of a job: what it runs, as whom, and what keeps it from starting."""

import json
from collections.abc import Mapping
from typing import Any

from helpers.local_aws.batch.around import Around
from helpers.local_aws.batch.attempts import Outcome, not_started
from helpers.local_aws.batch.definitions import LOG_GROUP
from helpers.local_aws.batch.jobs import CannotStart
from helpers.local_aws.batch.records import Job
from helpers.local_aws.batch.sizes import size_of
from helpers.local_aws.containers import Container, Image, Log
from helpers.local_aws.ecr import CannotPull, pull
from helpers.local_aws.wire import AwsError, Site

GRACE = 30.0  # seconds between SIGTERM and SIGKILL, as Batch documents
_LONGEST_OVERRIDES = 8192  # characters, as ECS has it


def container_of(site: Site, around: Around, job: Job) -> Container:
    """Return the container of the attempt ``job.task``. Raises CannotStart, in ECS's words."""
    order, task = job.order["container"], job.task
    if len(json.dumps(job.order["overrides"], separators=(",", ":"))) > _LONGEST_OVERRIDES:
        raise CannotStart(Outcome(False, f"Container Overrides length must be at most {_LONGEST_OVERRIDES}"))
    role, execution = order.get("jobRoleArn", ""), order["executionRoleArn"]
    for each in filter(None, (execution, role)):
        _assume(around, each, task)
    public = order["networkConfiguration"].get("assignPublicIp") == "ENABLED"
    try:
        image = pull(around.images, around.require, order["image"], execution, public=public)
    except CannotPull as problem:
        raise CannotStart(not_started(str(problem))) from problem
    argv = [*image.entrypoint, *(substituted(job.order) or image.command)]
    if not argv:
        said = "CannotCreateContainerError: Error response from daemon: No command specified"
        raise CannotStart(not_started(said))
    log = _log(site, around, job)
    return Container(
        run_id=run_id(task),
        image=image,
        argv=argv,
        environment={each["name"]: each["value"] for each in order["environment"]} | _variables(job),
        credentials=(lambda: around.assume(role, task)) if role else None,
        role_arn=role,
        log=log,
        timeout=job.order["timeout"].get("attemptDurationSeconds"),
        grace=GRACE,
        metadata=_metadata(job, image, log),
    )


def run_id(task: str) -> str:
    """Return the name that the attempt ``task`` has as a container."""
    return f"batch-{task}"


def substituted(order: Mapping[str, Any]) -> list[str]:
    """Return a command with each ``Ref::name`` replaced by its parameter, which SubmitJob has looked for."""
    parameters = order["parameters"]
    return [
        parameters[word.removeprefix("Ref::")] if word.startswith("Ref::") else word
        for word in order["container"]["command"]
    ]


def log_stream(job: Job) -> str:
    """Return the name of the log stream of the attempt that is under way."""
    prefix = _log_options(job).get("awslogs-stream-prefix", _definition(job)[0])
    return f"{prefix}/default/{job.task}"


def _variables(job: Job) -> dict[str, str]:
    variables = {
        "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
        "AWS_BATCH_JOB_ID": job.job_id,
        "AWS_BATCH_JOB_ATTEMPT": str(len(job.attempts) + 1),
        "AWS_BATCH_CE_NAME": job.environment.rpartition("/")[2],
        "AWS_BATCH_JQ_NAME": job.queue.rpartition("/")[2],
    }
    if job.index >= 0:
        variables |= {
            "AWS_BATCH_JOB_ARRAY_INDEX": str(job.index),
            "AWS_BATCH_JOB_ARRAY_SIZE": str(job.order["arraySize"]),
        }
    return variables


def _assume(around: Around, role: str, session: str) -> dict[str, str]:
    try:
        return around.assume(role, session)
    except AwsError as error:
        said = (
            f"ECS was unable to assume the role '{role}' that was provided for this task. Please verify that the role "
            "being passed has the proper trust relationship and permissions and that your IAM user has permissions "
            "to pass this role."
        )
        raise CannotStart(Outcome(False, said)) from error


def _log(site: Site, around: Around, job: Job) -> Log:
    """Return where the attempt's output goes. Batch itself makes its own log group, and no other."""
    options = _log_options(job)
    group = options.get("awslogs-group", LOG_GROUP)
    if options.get("awslogs-region", site.region) != site.region:
        raise CannotStart(Outcome(False, f"the embedded AWS has no logs in {options['awslogs-region']:.30}"))
    if group == LOG_GROUP:
        around.make_log_group(group)
    create = options.get("awslogs-create-group") == "true" and group != LOG_GROUP
    credentials = _assume(around, job.order["container"]["executionRoleArn"], job.task)
    return Log(group, log_stream(job), credentials, create_group=create)


def _log_options(job: Job) -> Mapping[str, str]:
    return job.order["container"].get("logConfiguration", {}).get("options", {})


def _definition(job: Job) -> tuple[str, str]:
    """Return name and revision of a job's definition."""
    name, _, revision = job.definition.rpartition("/")[2].rpartition(":")
    return name, revision


def _metadata(job: Job, image: Image, log: Log) -> dict[str, Any]:
    """Return the documents of the task metadata endpoint: without ARNs of a task and a cluster, which are not there."""
    name, revision = _definition(job)
    size = size_of(job.order["container"]["resourceRequirements"])
    document = {
        "DockerId": job.task,
        "Name": "default",
        "DockerName": "default",
        "Image": job.order["container"]["image"],
        "ImageID": image.digest,
        "Labels": {},
        "DesiredStatus": "RUNNING",
        "KnownStatus": "RUNNING",
        "Limits": {"CPU": int(size.vcpus * 1024), "Memory": size.memory},
        "Type": "NORMAL",
        "LogDriver": "awslogs",
        "LogOptions": {"awslogs-group": log.group, "awslogs-stream": log.stream},
    }
    whole = {
        "Family": name,
        "Revision": revision,
        "DesiredStatus": "RUNNING",
        "KnownStatus": "RUNNING",
        "Limits": {"CPU": float(size.vcpus), "Memory": size.memory},
        "LaunchType": "FARGATE",
        "Containers": [document],
    }
    return {"": document, "task": whole}
