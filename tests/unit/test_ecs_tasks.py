"""The life of a task: what it runs, how it ends, and what it says of itself."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ecs_api import DIGEST, EXECUTION_ROLE, IMAGE, LOGS, NETWORK, PUBLIC, TASK_ROLE, Api

from helpers.local_aws.containers import End

TIMES = ("createdAt", "pullStartedAt", "pullStoppedAt", "startedAt", "stoppingAt", "executionStoppedAt", "stoppedAt")


@pytest.fixture
def api(tmp_path: Path) -> Api:
    api = Api(tmp_path)
    api.register()
    return api


def private(api: Api, **container: Any) -> None:
    """Register a definition of an image of ECR, with a log."""
    wanted = {"image": IMAGE, "logConfiguration": LOGS, **container}
    api.register("private", wanted, executionRoleArn=EXECUTION_ROLE, taskRoleArn=TASK_ROLE)


def test_a_task_goes_from_provisioning_over_running_to_stopped(api: Api) -> None:
    made = api.run(startedBy="me", group="g")
    arn = made["taskArn"]
    assert (made["lastStatus"], made["desiredStatus"], made["launchType"]) == ("PROVISIONING", "RUNNING", "FARGATE")
    api.running.container()
    pending = api.task(arn)
    assert (pending["lastStatus"], pending["attachments"][0]["status"]) == ("PENDING", "ATTACHED")
    api.running.begin()
    running = api.task(arn)
    assert (running["lastStatus"], running["containers"][0]["lastStatus"]) == ("RUNNING", "RUNNING")
    assert running["containers"][0]["imageDigest"] == DIGEST
    assert not api.ecs.wait(arn, 0)
    api.running.end(End("exited", 3))
    task = api.ended(arn)
    assert (task["lastStatus"], task["desiredStatus"], task["containers"][0]["exitCode"]) == ("STOPPED", "STOPPED", 3)
    assert (task["stopCode"], task["stoppedReason"]) == (
        "EssentialContainerExited",
        "Essential container in task exited",
    )
    assert [task[name] for name in TIMES] == sorted(task[name] for name in TIMES)
    assert task["version"] > running["version"] > made["version"]
    assert (task["startedBy"], task["group"], task["cpu"], task["memory"]) == ("me", "g", "256", "512")
    assert (task["availabilityZone"], task["attachments"][0]["status"]) == ("us-east-1a", "DELETED")


def test_a_container_gets_what_definition_and_overrides_say(api: Api) -> None:
    private(api, environment=[{"name": "B", "value": "definition"}, {"name": "C", "value": "1"}], stopTimeout=7)
    override = {"name": "main", "command": ["x.py", "1"], "environment": [{"name": "B", "value": "override"}]}
    arn = api.run("private", overrides={"containerOverrides": [override], "taskRoleArn": "other"})["taskArn"]
    container, task_id = api.running.container(), arn.rpartition("/")[2]
    assert list(container.argv) == ["python", "x.py", "1"]
    assert {"B": "override", "C": "1"}.items() <= dict(container.environment).items()
    assert container.grace == 7
    assert container.credentials is not None
    assert container.credentials() == {"AWS_ACCESS_KEY_ID": f"other {task_id}"}
    assert container.log is not None
    assert (container.log.group, container.log.stream) == ("/ecs/x", f"work/main/{task_id}")
    assert (container.log.create_group, container.log.credentials) == (
        False,
        {"AWS_ACCESS_KEY_ID": f"execution {task_id}"},
    )
    assert container.metadata["task"]["TaskARN"] == arn
    assert container.metadata["task"]["Limits"] == {"CPU": 0.25, "Memory": 512}
    assert container.metadata[""]["LogOptions"]["awslogs-stream"] == container.log.stream
    assert api.task(arn)["overrides"]["containerOverrides"] == [override]


@pytest.mark.parametrize(
    ("container", "argv"),
    [
        ({}, ["python", "main.py"]),
        ({"command": ["a"]}, ["python", "a"]),
        ({"entryPoint": ["sh"]}, ["sh"]),
        ({"entryPoint": ["sh"], "command": ["-c", "b"]}, ["sh", "-c", "b"]),
    ],
)
def test_a_command_is_put_together_as_docker_does(api: Api, container: dict[str, Any], argv: list[str]) -> None:
    api.register("command", container)
    api.run("command")
    assert list(api.running.container().argv) == argv


def test_a_task_without_a_role_has_no_credentials_and_no_log(api: Api) -> None:
    api.run()
    container = api.running.container()
    assert (container.credentials, container.log, container.grace) == (None, None, 30.0)


def test_a_stopped_task_says_who_stopped_it_and_why(api: Api) -> None:
    arn = api.run(tags=[{"key": "k", "value": "v"}])["taskArn"]
    api.running.begin()
    stopping = api("StopTask", task=arn, reason="enough")["task"]
    assert (stopping["lastStatus"], stopping["desiredStatus"]) == ("STOPPING", "STOPPED")
    assert api.running.stopped == [api.running.container().run_id]
    api.running.end(End("stopped", 143))
    task = api.ended(arn)
    assert (task["stopCode"], task["stoppedReason"]) == ("UserInitiated", "enough")
    assert (task["containers"][0]["exitCode"], task["lastStatus"], task["tags"]) == (143, "STOPPED", [])
    again = api("StopTask", task=arn.rpartition("/")[2], reason="too late")["task"]
    assert again["stoppedReason"] == "enough"
    assert api.refused("StopTask", task="0" * 32) == (
        "InvalidParameterException",
        "The referenced task was not found.",
    )


def test_a_task_stopped_while_its_image_is_pulled_never_starts(api: Api) -> None:
    pulling, go_on, resolve = threading.Event(), threading.Event(), api.images.resolve

    def slowly(uri: str) -> Any:
        pulling.set()
        assert go_on.wait(180)
        return resolve(uri)

    api.images.resolve = slowly  # type: ignore[method-assign]
    arn = api.run()["taskArn"]
    assert pulling.wait(180)
    api("StopTask", task=arn)
    go_on.set()
    task = api.ended(arn)
    assert (task["stopCode"], task["stoppedReason"]) == ("UserInitiated", "Task stopped by user")
    assert (api.running.started, "exitCode" in task["containers"][0], "startedAt" in task) == ([], False, False)


def test_an_image_that_is_not_there_fails_the_task_and_not_the_call(api: Api) -> None:
    api.images.missing = "CannotPullContainerError: pull image manifest has been retried 1 time(s): not found"
    task = api.ended(api.run()["taskArn"])
    assert (task["stopCode"], task["stoppedReason"]) == ("TaskFailedToStart", api.images.missing)
    assert task["containers"][0]["reason"] == api.images.missing
    assert ("exitCode" in task["containers"][0], "startedAt" in task) == (False, False)


@pytest.mark.parametrize(
    ("action", "said", "end"),
    [
        (
            "ecr:GetAuthorizationToken",
            "ResourceInitializationError: unable to pull secrets or registry auth",
            "ecr:GetAuthorizationToken",
        ),
        (
            "ecr:BatchGetImage",
            "CannotPullContainerError: pull image manifest has been retried 1 time(s)",
            "403 Forbidden",
        ),
    ],
)
def test_an_execution_role_that_may_not_pull_fails_the_task(api: Api, action: str, said: str, end: str) -> None:
    private(api)
    api.denied.add(action)
    task = api.ended(api.run("private")["taskArn"])
    assert (task["stopCode"], task["stoppedReason"][: len(said)]) == ("TaskFailedToStart", said)
    assert end in task["stoppedReason"]


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ("private", "ResourceInitializationError: unable to pull secrets or registry auth: The task cannot pull"),
        ("work", f"CannotPullContainerError: The task cannot pull {PUBLIC} from the registry public.ecr.aws."),
    ],
)
def test_a_task_without_a_public_address_reaches_no_registry(api: Api, definition: str, said: str) -> None:
    private(api)
    arn = api.run(definition, networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-1"]}})["taskArn"]
    task = api.ended(arn)
    assert (task["stopCode"], task["stoppedReason"][: len(said)]) == ("TaskFailedToStart", said)
    assert "Check your task network configuration" in task["stoppedReason"]


def test_a_container_that_cannot_start_fails_the_task(api: Api) -> None:
    arn = api.run()["taskArn"]
    said = "ResourceInitializationError: failed to validate logger args: The specified log group does not exist."
    api.running.end(End("failed", None, said))
    assert api.ended(arn)["stoppedReason"] == said


@pytest.mark.parametrize("role", [TASK_ROLE, EXECUTION_ROLE])
def test_a_role_that_ecs_cannot_assume_refuses_the_call(api: Api, role: str) -> None:
    private(api)
    api.unassumable.add(role)
    api("CreateCluster")
    code, message = api.refused("RunTask", taskDefinition="private", launchType="FARGATE", networkConfiguration=NETWORK)
    assert (code, message.startswith(f"ECS was unable to assume the role '{role}'")) == ("ClientException", True)
    assert api("ListTasks")["taskArns"] == []


def test_tasks_survive_a_stop_of_the_server_as_what_they_were(api: Api) -> None:
    ran, waited, ended = (api.run()["taskArn"] for _ in range(3))
    for number in range(3):
        api.running.container(number)
    numbers = {item[0].run_id.partition("-")[2]: number for number, item in enumerate(api.running.started)}
    of = {arn: numbers[arn.rpartition("/")[2]] for arn in (ran, waited, ended)}
    api.running.begin(of[ran])
    api.running.end(End("exited", 0), of[ended])
    api.ecs.close()
    api.running.end(End("lost", None), of[ran])
    api.running.end(End("lost", None), of[waited])
    lost = api.task(ran)
    assert (lost["stopCode"], lost["stoppedReason"]) == (
        "TerminationNotice",
        "The embedded AWS was stopped while the task was running.",
    )
    assert api.task(waited)["lastStatus"] == "PENDING"
    api.open()
    assert api.task(ended)["containers"][0]["exitCode"] == 0
    api.ecs.resume()
    api.running.begin()
    assert api.task(waited)["lastStatus"] == "RUNNING"
    assert len(api.running.started) == 1


def test_a_task_that_ran_when_the_server_was_killed_has_stopped(api: Api) -> None:
    arn = api.run()["taskArn"]
    api.running.begin()
    api.open()
    assert api.ended(arn)["stoppedReason"] == "The embedded AWS was stopped while the task was running."


def test_a_stopped_task_is_forgotten_after_an_hour(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = api.run()["taskArn"]
    api.running.end(End("exited", 0))
    api.ended(arn)
    later = time.time() + 3601
    monkeypatch.setattr(time, "time", lambda: later)
    answer = api("DescribeTasks", tasks=[arn])
    assert answer == {"tasks": [], "failures": [{"arn": arn, "reason": "MISSING"}]}
    assert not list((api.site.state_dir / "ecs" / "tasks").iterdir())


def test_the_same_client_token_starts_nothing_new(api: Api) -> None:
    first = api.run(clientToken="t")["taskArn"]
    assert api.run(clientToken="t")["taskArn"] == first
    wanted = {"taskDefinition": "work", "launchType": "FARGATE", "networkConfiguration": NETWORK, "count": 2}
    assert api.refused("RunTask", **wanted, clientToken="t")[0] == "ConflictException"
    assert len(api("RunTask", **wanted)["tasks"]) == 2


def test_capacity_providers_are_spread_by_base_and_weight(api: Api) -> None:
    api("CreateCluster", clusterName="spot", capacityProviders=["FARGATE", "FARGATE_SPOT"])
    strategy = [
        {"capacityProvider": "FARGATE", "base": 1, "weight": 1},
        {"capacityProvider": "FARGATE_SPOT", "weight": 3},
    ]
    wanted = {"taskDefinition": "work", "networkConfiguration": NETWORK, "cluster": "spot", "count": 9}
    tasks = api("RunTask", capacityProviderStrategy=strategy, **wanted)["tasks"]
    names = [task["capacityProviderName"] for task in tasks]
    assert (names.count("FARGATE"), names.count("FARGATE_SPOT")) == (3, 6)
    refused = api.refused(
        "RunTask", taskDefinition="work", networkConfiguration=NETWORK, capacityProviderStrategy=strategy
    )
    assert refused[0] == "ClusterNotFoundException"
    api("CreateCluster")
    refused = api.refused(
        "RunTask", taskDefinition="work", networkConfiguration=NETWORK, capacityProviderStrategy=strategy
    )
    assert (refused[0], "not associated with the cluster" in refused[1]) == ("InvalidParameterException", True)


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"launchType": "EC2"}, "InvalidParameterException", "No Container Instances were found in your cluster."),
        ({"networkConfiguration": {}}, "InvalidParameterException", "Network Configuration must be provided when"),
        (
            {"networkConfiguration": {"awsvpcConfiguration": {"subnets": []}}},
            "InvalidParameterException",
            "subnets can not be empty.",
        ),
        (
            {"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-2"]}}},
            "InvalidParameterException",
            "Error retrieving subnet information for [subnet-2]: The subnet ID 'subnet-2' does not exist (ErrorCode: "
            "InvalidSubnetID.NotFound)",
        ),
        (
            {"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-2"]}}},
            "InvalidParameterException",
            "Error retrieving security group information for [sg-2]: The security group 'sg-2' does not exist",
        ),
        ({"taskDefinition": "other"}, "InvalidParameterException", "TaskDefinition not found."),
        ({"taskDefinition": "old:1"}, "InvalidParameterException", "TaskDefinition is inactive"),
        ({"count": 11}, "InvalidParameterException", "count must be between 1 and 10."),
        ({"platformVersion": "9"}, "PlatformUnknownException", "The specified platform does not exist."),
        ({"enableExecuteCommand": True}, "NotImplemented", "the embedded AWS does not support ecs:RunTask with enable"),
        (
            {"overrides": {"containerOverrides": [{"name": "x"}]}},
            "InvalidParameterException",
            "Override for container named x is not a container in the TaskDefinition.",
        ),
        ({"overrides": {"cpu": "512"}}, "ClientException", "No Fargate configuration exists for given values: 512 CPU"),
        ({"overrides": {"ephemeralStorage": {"sizeInGiB": 30}}}, "NotImplemented", "the embedded AWS does not support"),
        ({"placementStrategy": [{"type": "random"}]}, "InvalidParameterException", "Placement strategies are not"),
        ({"propagateTags": "SERVICE"}, "InvalidParameterException", "Tags can be propagated from a service only"),
        ({"startedBy": "a b"}, "ClientException", "startedBy has at most 128 letters"),
    ],
)
def test_what_cannot_be_run_is_refused(api: Api, changes: dict[str, Any], code: str, said: str) -> None:
    api.register("old")
    api("DeregisterTaskDefinition", taskDefinition="old:1")
    api("CreateCluster")
    wanted = {"taskDefinition": "work", "launchType": "FARGATE", "networkConfiguration": NETWORK}
    refused = api.refused("RunTask", **{**wanted, **changes})
    assert (refused[0], refused[1][: len(said)]) == (code, said)
    assert api("ListTasks")["taskArns"] == []


def test_tasks_are_listed_by_what_they_are(api: Api) -> None:
    api.register("other")
    mine, other = api.run(startedBy="me")["taskArn"], api.run("other")["taskArn"]
    assert api("ListTasks")["taskArns"] == [mine, other]
    assert api("ListTasks", family="other")["taskArns"] == [other]
    assert api("ListTasks", startedBy="me")["taskArns"] == [mine]
    assert api("ListTasks", desiredStatus="STOPPED")["taskArns"] == []
    api("StopTask", task=other)
    assert api("ListTasks", desiredStatus="STOPPED")["taskArns"] == [other]
    assert api.refused("ListTasks", cluster="nowhere") == ("ClusterNotFoundException", "Cluster not found.")
    assert api.refused("ListTasks", serviceName="s")[0] == "ServiceNotFoundException"


def test_a_task_of_another_cluster_is_refused(api: Api) -> None:
    arn = api.run()["taskArn"]
    api("CreateCluster", clusterName="two")
    assert api.refused("DescribeTasks", cluster="two", tasks=[arn]) == (
        "InvalidParameterException",
        "Invalid identifier: Identifier is for cluster default. Your cluster is two",
    )
    assert api.refused("DescribeTasks", tasks=["short"])[1] == "taskId length should be one of [32,36]"
    assert api.refused("DescribeTasks", tasks=[])[1] == "Tasks cannot be empty."


def test_tags_come_from_the_request_and_when_asked_from_the_definition(api: Api) -> None:
    api.register("tagged", tags=[{"key": "a", "value": "definition"}, {"key": "b", "value": "definition"}])
    arn = api.run(
        "tagged", propagateTags="TASK_DEFINITION", enableECSManagedTags=True, tags=[{"key": "a", "value": "own"}]
    )["taskArn"]
    found = {tag["key"]: tag["value"] for tag in api.task(arn, include=["TAGS"])["tags"]}
    assert found == {"a": "own", "b": "definition", "aws:ecs:clusterName": "default"}
    assert api.task(arn)["tags"] == []


def test_a_deleted_definition_is_there_until_its_tasks_have_ended(api: Api) -> None:
    arn = api.run()["taskArn"]
    api.running.begin()
    api("DeregisterTaskDefinition", taskDefinition="work:1")
    api("DeleteTaskDefinitions", taskDefinitions=["work:1"])
    assert len(api("ListTaskDefinitions", status="DELETE_IN_PROGRESS")["taskDefinitionArns"]) == 1
    api.running.end(End("killed", 137))
    assert api.ended(arn)["containers"][0]["exitCode"] == 137
    assert api("ListTaskDefinitions", status="DELETE_IN_PROGRESS")["taskDefinitionArns"] == []
