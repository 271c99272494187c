"""What notebooks 08a to 08d made besides: APIs, schedules, activities, Batch, ECS, builds, images, training jobs."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import boto3

from helpers.cleanup.found import Kind, Resource, as_mapping, has_tag, pages, unless_ended, unless_gone
from helpers.cleanup.pipeline import delete_rule
from helpers.connection import Connection

_PATIENCE = 600.0  # seconds for Batch to take down what it keeps on ECS


def _find_apis(workshop: Connection) -> Iterator[Resource]:
    for api in pages(boto3.client("apigatewayv2"), "get_apis", "Items"):
        if api["Name"].startswith(f"{workshop.prefix}-"):
            yield Resource("API", api["Name"], has_tag(workshop, api.get("Tags", {})))


def _delete_api(workshop: Connection, name: str) -> None:
    client = boto3.client("apigatewayv2")
    # A name is no key: two APIs may have it. Those of others lack the tag.
    for api in pages(client, "get_apis", "Items"):
        if api["Name"] == name and has_tag(workshop, api.get("Tags", {})):
            client.delete_api(ApiId=api["ApiId"])


def _find_schedules(workshop: Connection) -> Iterator[Resource]:
    events = boto3.client("events")
    for rule in pages(events, "list_rules", "Rules", NamePrefix=f"{workshop.prefix}-"):
        with unless_gone():
            tags = events.list_tags_for_resource(ResourceARN=rule["Arn"])["Tags"]
            yield Resource("schedule", rule["Name"], has_tag(workshop, as_mapping(tags)))


def _delete_schedule(workshop: Connection, name: str) -> None:
    delete_rule(name)


def _find_activities(workshop: Connection) -> Iterator[Resource]:
    states = boto3.client("stepfunctions")
    for activity in pages(states, "list_activities", "activities"):
        if activity["name"].startswith(f"{workshop.prefix}-"):
            with unless_gone():
                tags = states.list_tags_for_resource(resourceArn=activity["activityArn"])["tags"]
                yield Resource("activity", activity["name"], has_tag(workshop, as_mapping(tags, "key", "value")))


def _delete_activity(workshop: Connection, name: str) -> None:
    arn = f"arn:aws:states:{workshop.region}:{workshop.account_id}:activity:{name}"
    boto3.client("stepfunctions").delete_activity(activityArn=arn)


def _find_training_jobs(workshop: Connection) -> Iterator[Resource]:
    # A stopped execution stops its job with the state machine's role, which is about to go: ours is the second try.
    sagemaker = boto3.client("sagemaker")
    running = {"NameContains": f"{workshop.short_name}-", "StatusEquals": "InProgress"}
    for job in pages(sagemaker, "list_training_jobs", "TrainingJobSummaries", **running):
        # Others' names may contain ours, and about their tags this role may not ask.
        if not job["TrainingJobName"].startswith(f"{workshop.short_name}-"):
            continue
        tags = sagemaker.list_tags(ResourceArn=job["TrainingJobArn"])["Tags"]
        if has_tag(workshop, as_mapping(tags)):
            yield Resource("running training job", job["TrainingJobName"])


def _stop_training_job(workshop: Connection, name: str) -> None:
    with unless_ended():
        boto3.client("sagemaker").stop_training_job(TrainingJobName=name)


def _find_batch(kind: str, operation: str, result: str, name: str) -> Callable[[Connection], Iterator[Resource]]:
    def find(workshop: Connection) -> Iterator[Resource]:
        for one in pages(boto3.client("batch"), operation, result):
            if one[name].startswith(f"{workshop.prefix}-") and one["status"] not in ("DELETED", "DELETING"):
                yield Resource(kind, one[name], has_tag(workshop, one.get("tags", {})))

    return find


def _delete_job_queue(workshop: Connection, name: str) -> None:
    """Disable a queue, end its jobs, delete it, and wait: its compute environment cannot go before."""
    batch = boto3.client("batch")
    if not batch.describe_job_queues(jobQueues=[name])["jobQueues"]:
        return  # Batch has no code of its own for what is not there
    batch.update_job_queue(jobQueue=name, state="DISABLED")
    for status in ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING"):
        for job in pages(batch, "list_jobs", "jobSummaryList", jobQueue=name, jobStatus=status):
            with unless_gone():
                batch.terminate_job(jobId=job["jobId"], reason="workshop clean-up")
    _delete_when_valid(
        lambda: batch.describe_job_queues(jobQueues=[name])["jobQueues"],
        lambda: batch.delete_job_queue(jobQueue=name),
    )


def _delete_compute_environment(workshop: Connection, name: str) -> None:
    batch = boto3.client("batch")
    if not batch.describe_compute_environments(computeEnvironments=[name])["computeEnvironments"]:
        return
    batch.update_compute_environment(computeEnvironment=name, state="DISABLED")
    _delete_when_valid(
        lambda: batch.describe_compute_environments(computeEnvironments=[name])["computeEnvironments"],
        lambda: batch.delete_compute_environment(computeEnvironment=name),
    )


def _delete_when_valid(describe: Callable[[], list[Mapping[str, Any]]], delete: Callable[[], Any]) -> None:
    """Delete what Batch has finished changing, and wait until it is gone. Raises TimeoutError."""
    deadline, asked = time.monotonic() + _PATIENCE, False
    while found := [one for one in describe() if one["status"] != "DELETED"]:
        if not asked and found[0]["status"] in ("VALID", "INVALID"):
            delete()
            asked = True
        if time.monotonic() > deadline:
            raise TimeoutError(f"Batch says after {_PATIENCE:g} seconds: {found[0].get('statusReason', found[0])}")
        time.sleep(0.2 if asked else 1)


def _find_job_definitions(workshop: Connection) -> Iterator[Resource]:
    for one in pages(boto3.client("batch"), "describe_job_definitions", "jobDefinitions", status="ACTIVE"):
        name = one["jobDefinitionName"]
        if name.startswith(f"{workshop.prefix}-"):
            yield Resource("job definition", f"{name}:{one['revision']}", has_tag(workshop, one.get("tags", {})))


def _find_clusters(workshop: Connection) -> Iterator[Resource]:
    ecs = boto3.client("ecs")
    arns = [arn for arn in pages(ecs, "list_clusters", "clusterArns") if _named(arn, workshop)]
    for cluster in ecs.describe_clusters(clusters=arns, include=["TAGS"])["clusters"] if arns else ():
        if cluster["status"] != "INACTIVE":
            tags = as_mapping(cluster.get("tags", []), "key", "value")
            yield Resource("cluster", cluster["clusterName"], has_tag(workshop, tags))


def _delete_cluster(workshop: Connection, name: str) -> None:
    """Stop a cluster's tasks and delete it."""
    ecs = boto3.client("ecs")
    tasks = list(pages(ecs, "list_tasks", "taskArns", cluster=name))
    for task in tasks:
        ecs.stop_task(cluster=name, task=task, reason="workshop clean-up")
    for first in range(0, len(tasks), 100):  # as many as one call describes
        ecs.get_waiter("tasks_stopped").wait(cluster=name, tasks=tasks[first : first + 100])
    ecs.delete_cluster(cluster=name)


def _find_task_definitions(workshop: Connection) -> Iterator[Resource]:
    ecs = boto3.client("ecs")
    families = pages(
        ecs, "list_task_definition_families", "families", familyPrefix=f"{workshop.prefix}-", status="ACTIVE"
    )
    for family in families:
        for arn in pages(ecs, "list_task_definitions", "taskDefinitionArns", familyPrefix=family):
            tags = ecs.describe_task_definition(taskDefinition=arn, include=["TAGS"]).get("tags", [])
            tagged = has_tag(workshop, as_mapping(tags, "key", "value"))
            yield Resource("task definition", arn.rpartition("/")[2], tagged)


def _delete_task_definition(workshop: Connection, name: str) -> None:
    ecs = boto3.client("ecs")
    active = pages(ecs, "list_task_definitions", "taskDefinitionArns", familyPrefix=name.rpartition(":")[0])
    if name in [arn.rpartition("/")[2] for arn in active]:
        ecs.deregister_task_definition(taskDefinition=name)
        ecs.delete_task_definitions(taskDefinitions=[name])


def _find_build_projects(workshop: Connection) -> Iterator[Resource]:
    codebuild = boto3.client("codebuild")
    names = [name for name in pages(codebuild, "list_projects", "projects") if _named(name, workshop)]
    for project in codebuild.batch_get_projects(names=names)["projects"] if names else ():
        tags = as_mapping(project.get("tags", []), "key", "value")
        yield Resource("build project", project["name"], has_tag(workshop, tags))


def _delete_build_project(workshop: Connection, name: str) -> None:
    """Stop a project's builds and delete it with their records."""
    codebuild = boto3.client("codebuild")
    builds = list(pages(codebuild, "list_builds_for_project", "ids", projectName=name))
    for first in range(0, len(builds), 100):  # as many as one call describes
        some = builds[first : first + 100]
        for build in _running_builds(codebuild, some):
            codebuild.stop_build(id=build)
        # One that still stops would not be deleted, and would write its log once more.
        deadline = time.monotonic() + _PATIENCE
        while running := _running_builds(codebuild, some):
            if time.monotonic() > deadline:
                raise TimeoutError(f"CodeBuild did not stop {running[0]} within {_PATIENCE:g} seconds")
            time.sleep(1)
        codebuild.batch_delete_builds(ids=some)
    codebuild.delete_project(name=name)


def _running_builds(codebuild: Any, builds: list[str]) -> list[str]:
    found = codebuild.batch_get_builds(ids=builds)["builds"]
    return [build["id"] for build in found if build["buildStatus"] == "IN_PROGRESS"]


def _find_image_repositories(workshop: Connection) -> Iterator[Resource]:
    ecr = boto3.client("ecr")
    for repository in pages(ecr, "describe_repositories", "repositories"):
        if _named(repository["repositoryName"], workshop):
            with unless_gone():
                tags = ecr.list_tags_for_resource(resourceArn=repository["repositoryArn"])["tags"]
                ours = has_tag(workshop, as_mapping(tags))
                yield Resource("image repository", repository["repositoryName"], ours)


def _named(name: str, workshop: Connection) -> bool:
    """Tell whether a name, or an ARN's last part, is one of this workshop's: its prefix alone, or what begins so."""
    last = name.rpartition("/")[2]
    return last == workshop.prefix or last.startswith(f"{workshop.prefix}-")


API = Kind(_find_apis, _delete_api)
SCHEDULE = Kind(_find_schedules, _delete_schedule)
ACTIVITY = Kind(_find_activities, _delete_activity)
TRAINING_JOB = Kind(_find_training_jobs, _stop_training_job)
JOB_QUEUE = Kind(_find_batch("job queue", "describe_job_queues", "jobQueues", "jobQueueName"), _delete_job_queue)
COMPUTE_ENVIRONMENT = Kind(
    _find_batch(
        "compute environment", "describe_compute_environments", "computeEnvironments", "computeEnvironmentName"
    ),
    _delete_compute_environment,
)
JOB_DEFINITION = Kind(
    _find_job_definitions,
    lambda workshop, name: boto3.client("batch").deregister_job_definition(jobDefinition=name),
)
CLUSTER = Kind(_find_clusters, _delete_cluster)
TASK_DEFINITION = Kind(_find_task_definitions, _delete_task_definition)
BUILD_PROJECT = Kind(_find_build_projects, _delete_build_project)
IMAGE_REPOSITORY = Kind(
    _find_image_repositories,
    lambda workshop, name: boto3.client("ecr").delete_repository(repositoryName=name, force=True),
)
