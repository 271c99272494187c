"""What notebooks 02 to 06 made: the repository, machines, jobs, functions, roles, logs, buckets."""

import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import boto3
from botocore.exceptions import ClientError

from helpers import permissions, roles, storage
from helpers.cleanup.found import Kind, Resource, as_mapping, has_tag, ignore_absent, pages, unless_ended, unless_gone
from helpers.connection import PURPOSES, Connection
from helpers.executions import STREAMS

TRAINING_STREAMS = "/aws/sagemaker/TrainingJobs"


def _find_state_machines(workshop: Connection) -> Iterator[Resource]:
    states = boto3.client("stepfunctions")
    for machine in pages(states, "list_state_machines", "stateMachines"):
        if machine["name"].startswith(f"{workshop.prefix}-"):
            with unless_gone():
                tags = states.list_tags_for_resource(resourceArn=machine["stateMachineArn"])["tags"]
                yield Resource("state machine", machine["name"], has_tag(workshop, as_mapping(tags, "key", "value")))


def _delete_state_machine(workshop: Connection, name: str) -> None:
    arn = f"arn:aws:states:{workshop.region}:{workshop.account_id}:stateMachine:{name}"
    stop_executions(arn)
    boto3.client("stepfunctions").delete_state_machine(stateMachineArn=arn)


def stop_executions(machine_arn: str) -> None:
    states = boto3.client("stepfunctions")
    running = {"stateMachineArn": machine_arn, "statusFilter": "RUNNING"}
    for execution in pages(states, "list_executions", "executions", **running):
        states.stop_execution(executionArn=execution["executionArn"], cause="workshop clean-up")


def _find_rules(workshop: Connection) -> Iterator[Resource]:
    # The rules are the account's: they go only when the workshop's state machines are the last that could use them.
    states, events = boto3.client("stepfunctions"), boto3.client("events")
    machines = {machine["name"] for machine in pages(states, "list_state_machines", "stateMachines")}
    if machines - {machine.name for machine in _find_state_machines(workshop) if machine.ours}:
        return  # also another workshop's, whose prefix begins with ours
    for rule in permissions.MANAGED_RULES:
        with unless_gone():
            yield Resource("managed rule", events.describe_rule(Name=rule)["Name"])


def _delete_managed_rule(workshop: Connection, name: str) -> None:
    delete_rule(name, Force=True)  # without Force EventBridge keeps the rules that AWS made


def delete_rule(name: str, **force: bool) -> None:
    events = boto3.client("events")
    targets = [target["Id"] for target in events.list_targets_by_rule(Rule=name)["Targets"]]
    if targets:
        events.remove_targets(Rule=name, Ids=targets, **force)
    events.delete_rule(Name=name, **force)


def _find_jobs(workshop: Connection) -> Iterator[Resource]:
    # A stopped execution stops its job with the state machine's role, which is about to go: ours is the second try.
    running = {"NameContains": f"{workshop.short_name}-", "StatusEquals": "InProgress"}
    for job in pages(boto3.client("sagemaker"), "list_processing_jobs", "ProcessingJobSummaries", **running):
        if _is_own_job(workshop, job["ProcessingJobName"]):
            yield Resource("running job", job["ProcessingJobName"])


def _stop_job(workshop: Connection, name: str) -> None:
    with unless_ended():
        boto3.client("sagemaker").stop_processing_job(ProcessingJobName=name)


def _find_functions(workshop: Connection) -> Iterator[Resource]:
    client = boto3.client("lambda")
    for function in pages(client, "list_functions", "Functions"):
        if function["FunctionName"].startswith(f"{workshop.prefix}-"):
            with unless_gone():
                tags = client.list_tags(Resource=function["FunctionArn"])["Tags"]
                yield Resource("function", function["FunctionName"], has_tag(workshop, tags))


def _find_repositories(workshop: Connection) -> Iterator[Resource]:
    codecommit = boto3.client("codecommit")
    for repository in pages(codecommit, "list_repositories", "repositories"):
        name = repository["repositoryName"]
        if name.startswith(f"{workshop.prefix}-"):
            arn = f"arn:aws:codecommit:{workshop.region}:{workshop.account_id}:{name}"
            with unless_gone():
                tags = codecommit.list_tags_for_resource(resourceArn=arn)["tags"]
                yield Resource("repository", name, has_tag(workshop, tags))


def _find_roles(workshop: Connection) -> Iterator[Resource]:
    iam = boto3.client("iam")
    for role in pages(iam, "list_roles", "Roles"):
        if role["RoleName"].startswith(f"{workshop.prefix}-"):
            with unless_gone():
                tags = iam.list_role_tags(RoleName=role["RoleName"])["Tags"]
                yield Resource("role", role["RoleName"], has_tag(workshop, as_mapping(tags)))


def _find_log_groups(workshop: Connection) -> Iterator[Resource]:
    # Lambda makes these and does not tag them: one belongs to whom its function belongs to. The group of a
    # function that is gone is ours, since whoever deletes a function with its clean-up takes the group along.
    logs = boto3.client("logs")
    others = {f"/aws/lambda/{function.name}" for function in _find_functions(workshop) if not function.ours}
    prefix = f"/aws/lambda/{workshop.prefix}-"
    for group in pages(logs, "describe_log_groups", "logGroups", logGroupNamePrefix=prefix):
        if group["logGroupName"] not in others:
            yield Resource("log group", group["logGroupName"])
    for name in workshop.log_groups:
        for group in pages(logs, "describe_log_groups", "logGroups", logGroupNamePrefix=name):
            if group["logGroupName"] == name:
                yield Resource("log group", name)


def delete_log_group(workshop: Connection, name: str) -> None:
    ignore_absent(lambda: boto3.client("logs").delete_log_group(logGroupName=name))


def _log_streams(group: str, kind: str, is_own: Callable[[Connection, str], bool]) -> Kind:
    """Return a kind of stream in a group that all jobs of an account share: only those of own jobs are found."""

    def find(workshop: Connection) -> Iterator[Resource]:
        logs = boto3.client("logs")
        arguments = {"logGroupName": group, "logStreamNamePrefix": f"{workshop.short_name}-"}
        with unless_gone():
            for stream in pages(logs, "describe_log_streams", "logStreams", **arguments):
                if is_own(workshop, stream["logStreamName"].partition("/")[0]):
                    yield Resource(kind, stream["logStreamName"])

    def delete(workshop: Connection, name: str) -> None:
        logs = boto3.client("logs")
        ignore_absent(lambda: logs.delete_log_stream(logGroupName=group, logStreamName=name))
        with unless_gone():
            if not logs.describe_log_streams(logGroupName=group, limit=1)["logStreams"]:
                delete_log_group(workshop, group)

    return Kind(find, delete)


def _find_buckets(workshop: Connection) -> Iterator[Resource]:
    # By their full names, those of a stack too: one that was kept when its stack went is found here.
    for name in (workshop.bucket, *map(workshop.bucket_for, PURPOSES)):
        tags = _bucket_tags(boto3.client("s3"), name)
        if tags is not None:
            yield Resource("bucket", name, has_tag(workshop, as_mapping(tags)))


def _bucket_tags(s3: Any, name: str) -> list[dict[str, str]] | None:
    """Return a bucket's tags, None where there is no bucket."""
    try:
        return s3.get_bucket_tagging(Bucket=name)["TagSet"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchBucket":
            return None
        if error.response["Error"]["Code"] == "NoSuchTagSet":
            return []
        raise


def _find_clones(workshop: Connection) -> Iterator[Resource]:
    repository = workshop.name(workshop.project)
    if (workshop.work_dir / repository).exists():
        yield Resource("clone", repository)


def _run_name(workshop: Connection) -> str:
    """Return how the names of this project's executions and jobs begin; a commit's first characters follow."""
    return f"{workshop.name(workshop.project)[:32].rstrip('-')}-"


def _is_own_job(workshop: Connection, name: str) -> bool:
    """Tell whether a run started it, or an upload of notebook 06: name, batch, execution and retry."""
    on_upload = rf"{workshop.short_name}-\d+-[0-9a-f]{{24}}(-\d+)?"
    return name.startswith(_run_name(workshop)) or bool(re.fullmatch(on_upload, name))


def _is_own_training_job(workshop: Connection, name: str) -> bool:
    """Tell whether notebook 08d started it: name, purpose, and what makes it unique."""
    return bool(re.fullmatch(rf"{workshop.short_name}-training-[0-9a-f]+", name))


def _delete_clone(workshop: Connection, name: str) -> None:
    if (workshop.work_dir / name).exists():
        shutil.rmtree(workshop.work_dir / name)


REPOSITORY = Kind(
    _find_repositories,
    lambda workshop, name: boto3.client("codecommit").delete_repository(repositoryName=name),
)
CLONE = Kind(_find_clones, _delete_clone)
STATE_MACHINE = Kind(_find_state_machines, _delete_state_machine)
RUNNING_JOB = Kind(_find_jobs, _stop_job)
MANAGED_RULE = Kind(_find_rules, _delete_managed_rule)
FUNCTION = Kind(
    _find_functions,
    lambda workshop, name: ignore_absent(lambda: boto3.client("lambda").delete_function(FunctionName=name)),
)
ROLE = Kind(_find_roles, lambda workshop, name: roles.delete_role(boto3.client("iam"), name))
LOG_GROUP = Kind(_find_log_groups, delete_log_group)
LOG_STREAM = _log_streams(STREAMS, "log stream", _is_own_job)
TRAINING_LOG = _log_streams(TRAINING_STREAMS, "training log", _is_own_training_job)
BUCKET = Kind(_find_buckets, lambda workshop, name: storage.delete_bucket(boto3.client("s3"), name))
