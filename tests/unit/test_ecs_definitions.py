"""Task definitions: what is taken, what is refused and how, revisions, and what becomes of them."""

from pathlib import Path
from typing import Any

import pytest
from ecs_api import EXECUTION_ROLE, IMAGE, LOGS, TASK_ROLE, Api


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


def test_a_family_counts_its_revisions_and_never_uses_one_again(api: Api) -> None:
    assert [api.register()["revision"] for _ in range(2)] == [1, 2]
    assert api("DescribeTaskDefinition", taskDefinition="work")["taskDefinition"]["revision"] == 2
    api("DeregisterTaskDefinition", taskDefinition="work:2")
    assert api("DescribeTaskDefinition", taskDefinition="work")["taskDefinition"]["revision"] == 1
    deleted = api("DeleteTaskDefinitions", taskDefinitions=["work:2"])["taskDefinitions"]
    assert deleted[0]["status"] == "DELETE_IN_PROGRESS"
    api.open()
    assert api.register()["revision"] == 3
    assert api.refused("DescribeTaskDefinition", taskDefinition="work:2") == (
        "ClientException",
        "Unable to describe task definition.",
    )


def test_a_definition_is_described_with_the_defaults_of_ecs(api: Api) -> None:
    made = api.register(taskRoleArn="task", cpu="1 vCPU", memory="2 GB", tags=[{"key": "k", "value": "v"}])
    arn = "arn:aws:ecs:us-east-1:123456789012:task-definition/work:1"
    described = api("DescribeTaskDefinition", taskDefinition=arn, include=["TAGS"])
    assert described == {"taskDefinition": made, "tags": [{"key": "k", "value": "v"}]}
    assert made["taskDefinitionArn"] == arn
    assert (made["cpu"], made["memory"], made["taskRoleArn"]) == ("1024", "2048", TASK_ROLE)
    assert (made["status"], made["compatibilities"], made["volumes"]) == ("ACTIVE", ["EC2", "FARGATE"], [])
    container = made["containerDefinitions"][0]
    assert (container["essential"], container["cpu"], container["environment"]) == (True, 0, [])


@pytest.mark.parametrize(
    ("cpu", "memory"),
    [
        ("256", "512"),
        (".25 vCPU", "0.5 GB"),
        ("512", "4096"),
        ("4096", "30720"),
        ("8 vcpu", "16GB"),
        ("16384", "32768"),
    ],
)
def test_a_size_of_fargate_is_taken(api: Api, cpu: str, memory: str) -> None:
    assert api.register(cpu=cpu, memory=memory)["revision"] == 1


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ({"cpu": "256", "memory": "4096"}, "No Fargate configuration exists for given values: 256 CPU, 4096 memory."),
        ({"cpu": "300", "memory": "512"}, "No Fargate configuration exists for given values: 300 CPU, 512 memory."),
        ({"cpu": "8192", "memory": "17408"}, "No Fargate configuration exists"),
        ({"cpu": "a lot"}, "Invalid 'cpu' setting for task."),
        ({"memory": "0.5"}, "Invalid 'memory' setting for task."),
    ],
)
def test_another_size_is_refused_as_ecs_does(api: Api, size: dict[str, str], said: str) -> None:
    code, message = api.refused("RegisterTaskDefinition", **_request(**size))
    assert (code, message[: len(said)]) == ("ClientException", said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"networkMode": "bridge"}, "Fargate only supports network mode \u2018awsvpc\u2019."),
        ({"cpu": None}, "Fargate requires that 'cpu' be defined at the task level."),
        ({"family": "a b"}, "Family contains invalid characters."),
        ({"containerDefinitions": []}, "Container list cannot be empty."),
        ({"container": {"name": ""}}, "Container.name should not be null or empty."),
        ({"container": {"memory": 1024}}, "The 'memory' setting for container 'main' is greater than for the task."),
        ({"container": {"essential": False}}, "Task definition doesn't have any essential container"),
        ({"container": {"stopTimeout": 121}}, "Invalid setting for container 'main'. The 'stopTimeout' value is"),
        ({"container": {"environment": [{"name": "A=B"}]}}, "Invalid environment variable name: 'A=B'"),
        ({"container": {"image": IMAGE}}, "Fargate requires task definition to have execution role ARN to support ECR"),
        ({"container": {"logConfiguration": LOGS}}, "Fargate requires task definition to have execution role ARN to"),
        ({"container": {"logConfiguration": {"logDriver": "awslogs"}}}, "Log driver awslogs requires options: "),
        ({"taskRoleArn": "arn:aws:iam::1:role/x"}, "Role is not valid"),
    ],
)
def test_what_ecs_refuses_is_refused_in_its_words(api: Api, changes: dict[str, Any], said: str) -> None:
    code, message = api.refused("RegisterTaskDefinition", **_request(**changes))
    assert (code, message[: len(said)]) == ("ClientException", said)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"requiresCompatibilities": ["EC2"]}, "requiresCompatibilities"),
        ({"volumes": [{"name": "v"}]}, "volumes"),
        ({"ephemeralStorage": {"sizeInGiB": 30}}, "ephemeralStorage"),
        ({"runtimePlatform": {"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"}}, "runtimePlatform.operatingSys"),
        (
            {"containerDefinitions": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]},
            "2 containerDefinitions",
        ),
        ({"container": {"user": "1000"}}, "containerDefinitions.user"),
        ({"container": {"readonlyRootFilesystem": True}}, "containerDefinitions.readonlyRootFilesystem"),
        ({"container": {"secrets": [{"name": "n", "valueFrom": "v"}]}}, "containerDefinitions.secrets"),
        ({"container": {"portMappings": [{"containerPort": 80}]}}, "containerDefinitions.portMappings"),
        ({"container": {"healthCheck": {"command": ["CMD", "true"]}}}, "containerDefinitions.healthCheck"),
        ({"container": {"logConfiguration": {"logDriver": "splunk"}}}, "logConfiguration.logDriver splunk"),
    ],
)
def test_what_is_not_carried_out_is_refused_by_name(api: Api, changes: dict[str, Any], named: str) -> None:
    code, message = api.refused("RegisterTaskDefinition", **_request(**changes))
    assert code == "NotImplemented"
    assert f"ecs:RegisterTaskDefinition with {named}" in message


def test_members_that_ask_for_nothing_are_no_obstacle(api: Api) -> None:
    empty = {
        "mountPoints": [],
        "portMappings": [],
        "privileged": False,
        "linuxParameters": {"initProcessEnabled": False},
    }
    assert api.register(container=empty, volumes=[])["containerDefinitions"][0]["mountPoints"] == []


def test_roles_make_ecr_images_and_logs_possible(api: Api) -> None:
    made = api.register(container={"image": IMAGE, "logConfiguration": LOGS}, executionRoleArn=EXECUTION_ROLE)
    assert made["executionRoleArn"] == EXECUTION_ROLE


def test_definitions_and_families_are_listed_by_status(api: Api) -> None:
    for family in ("b", "a", "a"):
        api.register(family)
    api("DeregisterTaskDefinition", taskDefinition="b:1")
    names = [arn.rpartition("/")[2] for arn in api("ListTaskDefinitions")["taskDefinitionArns"]]
    assert names == ["a:1", "a:2"]
    descending = api("ListTaskDefinitions", sort="DESC", familyPrefix="a", maxResults=1)
    assert descending["taskDefinitionArns"][0].endswith("a:2")
    rest = api("ListTaskDefinitions", sort="DESC", familyPrefix="a", nextToken=descending["nextToken"])
    assert rest["taskDefinitionArns"][0].endswith("a:1")
    assert "nextToken" not in rest
    inactive = api("ListTaskDefinitions", status="INACTIVE")["taskDefinitionArns"]
    assert [arn.rpartition("/")[2] for arn in inactive] == ["b:1"]
    assert api("ListTaskDefinitionFamilies")["families"] == ["a", "b"]
    assert api("ListTaskDefinitionFamilies", status="ACTIVE")["families"] == ["a"]
    assert api("ListTaskDefinitionFamilies", status="INACTIVE", familyPrefix="b")["families"] == ["b"]


def test_only_inactive_definitions_are_deleted(api: Api) -> None:
    api.register()
    answer = api("DeleteTaskDefinitions", taskDefinitions=["work:1", "work:9"])
    assert [failure["reason"].partition(".")[0] for failure in answer["failures"]] == [
        "The specified task definition is still in ACTIVE status",
        "The specified task definition does not exist",
    ]
    assert answer["taskDefinitions"] == []


def _request(container: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    wanted = {
        "family": "work",
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "containerDefinitions": [{"name": "main", "image": "python:3.12", **(container or {})}],
        **changes,
    }
    return {name: value for name, value in wanted.items() if value is not None}
