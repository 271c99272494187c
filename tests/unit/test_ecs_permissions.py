"""What each ECS operation asks of IAM, as the Service Authorization Reference says."""

from pathlib import Path

import pytest
from ecs_api import EXECUTION_ROLE, IMAGE, NETWORK, TASK_ROLE, Api

ECS = "arn:aws:ecs:us-east-1:123456789012:"
RUN = {"taskDefinition": "work", "launchType": "FARGATE", "networkConfiguration": NETWORK}
TAGS = [{"key": "team", "value": "a"}]


@pytest.fixture
def api(tmp_path: Path) -> Api:
    api = Api(tmp_path)
    api("CreateCluster")
    api.register(container={"image": IMAGE}, executionRoleArn=EXECUTION_ROLE, taskRoleArn=TASK_ROLE, tags=TAGS)
    return api


def asked(api: Api) -> list[tuple[str, str]]:
    return [(each.action, each.resource) for each in api.asked]


def test_run_task_asks_for_the_definition_in_a_cluster_its_tags_and_its_roles(api: Api) -> None:
    api("RunTask", **RUN, tags=TAGS, overrides={"taskRoleArn": "other"})
    assert asked(api)[:4] == [
        ("ecs:RunTask", f"{ECS}task-definition/work:1"),
        ("ecs:TagResource", f"{ECS}task/default/*"),
        ("iam:PassRole", EXECUTION_ROLE),
        ("iam:PassRole", "arn:aws:iam::123456789012:role/other"),
    ]
    run, tag, passing = (api.asked[number].context for number in (0, 1, 2))
    assert run["ecs:cluster"] == f"{ECS}cluster/default"
    assert (run["aws:ResourceTag/team"], run["aws:RequestTag/team"], run["aws:TagKeys"]) == ("a", "a", ["team"])
    assert tag["ecs:CreateAction"] == "RunTask"
    assert passing == {"iam:PassedToService": "ecs-tasks.amazonaws.com"}


def test_what_is_registered_is_asked_for_with_its_roles(api: Api) -> None:
    api.register("new", executionRoleArn=EXECUTION_ROLE, tags=TAGS)
    assert asked(api) == [
        ("ecs:RegisterTaskDefinition", f"{ECS}task-definition/new:*"),
        ("ecs:TagResource", f"{ECS}task-definition/new:*"),
        ("iam:PassRole", EXECUTION_ROLE),
    ]
    assert api.asked[0].context["ecs:task-cpu"] == "256"
    assert api.asked[1].context["ecs:CreateAction"] == "RegisterTaskDefinition"


def test_tasks_are_asked_for_by_cluster_and_id(api: Api) -> None:
    arn = api.run()["taskArn"]
    for operation, parameters in (("DescribeTasks", {"tasks": [arn]}), ("StopTask", {"task": arn})):
        api(operation, **parameters)
        assert asked(api) == [(f"ecs:{operation}", arn)]
        assert api.asked[0].context["ecs:cluster"] == f"{ECS}cluster/default"
    api("ListTasks")
    assert asked(api) == [("ecs:ListTasks", f"{ECS}container-instance/default/*")]
    assert api.asked[0].context == {"ecs:cluster": f"{ECS}cluster/default"}


def test_clusters_are_asked_for_one_by_one(api: Api) -> None:
    api("DescribeClusters", clusters=["default", "other"])
    assert [resource for _, resource in asked(api)] == [f"{ECS}cluster/default", f"{ECS}cluster/other"]
    api("CreateCluster", clusterName="spot", capacityProviders=["FARGATE_SPOT"], tags=TAGS)
    assert asked(api)[:2] == [("ecs:CreateCluster", f"{ECS}cluster/spot"), ("ecs:TagResource", f"{ECS}cluster/spot")]
    assert api.asked[0].context["ecs:capacity-provider"] == [f"{ECS}capacity-provider/FARGATE_SPOT"]
    api("DeleteCluster", cluster="spot")
    assert asked(api) == [("ecs:DeleteCluster", f"{ECS}cluster/spot")]
    assert api.asked[0].context == {"aws:ResourceTag/team": "a", "ecs:ResourceTag/team": "a"}


@pytest.mark.parametrize(
    ("operation", "parameters", "resource"),
    [
        ("ListClusters", {}, "*"),
        ("DescribeTaskDefinition", {"taskDefinition": "work"}, "*"),
        ("ListTaskDefinitions", {}, "*"),
        ("ListTaskDefinitionFamilies", {}, "*"),
        ("DeregisterTaskDefinition", {"taskDefinition": "work:1"}, "*"),
        ("DeleteTaskDefinitions", {"taskDefinitions": ["work:1"]}, f"{ECS}task-definition/work:1"),
        ("TagResource", {"resourceArn": f"{ECS}cluster/default", "tags": TAGS}, f"{ECS}cluster/default"),
        ("UntagResource", {"resourceArn": f"{ECS}cluster/default", "tagKeys": ["a"]}, f"{ECS}cluster/default"),
        ("ListTagsForResource", {"resourceArn": f"{ECS}cluster/default"}, f"{ECS}cluster/default"),
    ],
)
def test_the_others_ask_for_their_resource_where_they_know_one(
    api: Api, operation: str, parameters: dict, resource: str
) -> None:
    api(operation, **parameters)
    assert asked(api) == [(f"ecs:{operation}", resource)]


@pytest.mark.parametrize("action", ["ecs:RunTask", "ecs:TagResource", "iam:PassRole"])
def test_a_missing_permission_starts_nothing(api: Api, action: str) -> None:
    api.denied.add(action)
    assert api.refused("RunTask", **RUN, tags=TAGS)[0] == "AccessDeniedException"
    assert api("ListTasks")["taskArns"] == []
