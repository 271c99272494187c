"""Clusters, their tags, and the service-linked role that they need."""

from pathlib import Path

import pytest
from ecs_api import NETWORK, Api

from helpers.local_aws.containers import End

ARN = "arn:aws:ecs:us-east-1:123456789012:cluster/"


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


def test_a_cluster_is_made_once_and_kept(api: Api) -> None:
    made = api("CreateCluster", clusterName="work", tags=[{"key": "k", "value": "v"}])["cluster"]
    assert (made["clusterArn"], made["status"], made["runningTasksCount"]) == (f"{ARN}work", "ACTIVE", 0)
    assert api("CreateCluster", clusterName="work", tags=[{"key": "k", "value": "v"}])["cluster"] == made
    code, message = api.refused("CreateCluster", clusterName="work", tags=[])
    assert (code, message[:36]) == ("InvalidParameterException", "Arguments on this idempotent request")
    api.open()
    described = api("DescribeClusters", clusters=["work", f"{ARN}other"], include=["TAGS"])
    assert described["clusters"][0]["tags"] == [{"key": "k", "value": "v"}]
    assert described["failures"] == [{"arn": f"{ARN}other", "reason": "MISSING"}]
    assert api("ListClusters") == {"clusterArns": [f"{ARN}work"]}


def test_a_deleted_cluster_is_inactive_and_can_be_made_anew(api: Api) -> None:
    api("CreateCluster")
    assert api("DeleteCluster", cluster="default")["cluster"]["status"] == "INACTIVE"
    assert api("DescribeClusters")["clusters"][0]["status"] == "INACTIVE"
    assert api("ListClusters")["clusterArns"] == []
    api.register()
    wanted = {"taskDefinition": "work", "launchType": "FARGATE", "networkConfiguration": NETWORK}
    assert api.refused("RunTask", **wanted) == ("ClusterNotFoundException", "The referenced cluster was inactive.")
    assert api("CreateCluster")["cluster"]["status"] == "ACTIVE"
    assert api.refused("DeleteCluster", cluster="other") == ("ClusterNotFoundException", "Cluster not found.")


def test_a_cluster_with_tasks_is_not_deleted(api: Api) -> None:
    api.register()
    arn = api.run()["taskArn"]
    assert api.refused("DeleteCluster", cluster="default")[0] == "ClusterContainsTasksException"
    api.running.begin()
    counted = api("DescribeClusters", include=["STATISTICS"])["clusters"][0]
    assert (counted["runningTasksCount"], counted["pendingTasksCount"]) == (1, 0)
    assert {"name": "runningFargateTasksCount", "value": "1"} in counted["statistics"]
    api.running.end(End("exited", 0))
    api.ended(arn)
    assert api("DeleteCluster", cluster="default")["cluster"]["status"] == "INACTIVE"


def test_who_may_not_make_the_linked_role_gets_a_cluster_in_which_nothing_runs(api: Api) -> None:
    api.register()
    api.denied.add("iam:CreateServiceLinkedRole")
    api("CreateCluster")
    asked = next(each for each in api.asked if each.action == "iam:CreateServiceLinkedRole")
    assert asked.context == {"iam:AWSServiceName": "ecs.amazonaws.com"}
    wanted = {"taskDefinition": "work", "launchType": "FARGATE", "networkConfiguration": NETWORK}
    code, message = api.refused("RunTask", **wanted)
    assert (code, message[:41]) == ("InvalidParameterException", "Unable to assume the service linked role.")
    assert api.refused("CreateCluster", clusterName="fargate", capacityProviders=["FARGATE"])[1] == message
    api.denied.clear()
    api("CreateCluster")
    assert api("RunTask", **wanted)["failures"] == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"clusterName": "a b"}, "ClientException"),
        ({"capacityProviders": ["OTHER"]}, "InvalidParameterException"),
        ({"defaultCapacityProviderStrategy": [{"capacityProvider": "FARGATE"}]}, "InvalidParameterException"),
        ({"settings": [{"name": "containerInsights", "value": "enabled"}]}, "NotImplemented"),
        ({"serviceConnectDefaults": {"namespace": "n"}}, "NotImplemented"),
        ({"tags": [{"key": "aws:x", "value": ""}]}, "InvalidParameterException"),
    ],
)
def test_what_a_cluster_cannot_be_is_refused(api: Api, changes: dict, code: str) -> None:
    assert api.refused("CreateCluster", **changes)[0] == code


def test_tags_of_every_resource_are_listed_added_and_removed(api: Api) -> None:
    cluster, definition = api("CreateCluster")["cluster"]["clusterArn"], api.register()["taskDefinitionArn"]
    for arn in (cluster, definition, api.run()["taskArn"]):
        api("TagResource", resourceArn=arn, tags=[{"key": "a", "value": "1"}, {"key": "b", "value": "2"}])
        api("TagResource", resourceArn=arn, tags=[{"key": "a", "value": "3"}])
        api("UntagResource", resourceArn=arn, tagKeys=["b", "c"])
        assert api("ListTagsForResource", resourceArn=arn) == {"tags": [{"key": "a", "value": "3"}]}
    assert api.refused("ListTagsForResource", resourceArn=f"{ARN}other")[0] == "ClientException"
    assert api.refused("ListTagsForResource", resourceArn="other")[0] == "InvalidParameterException"


def test_other_operations_are_refused_by_name(api: Api) -> None:
    code, message = api.refused("CreateService", serviceName="s")
    assert (code, "ecs:CreateService" in message) == ("NotImplemented", True)
