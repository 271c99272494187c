"""Compute environments, job queues and job definitions of Batch: what they may be, and how they come and go."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_api import GROUP, SUBNET, Api, arn, eventually, properties_of, refused, role, sized


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path)
    yield made
    made.service.close()


def environments(api: Api) -> list[str]:
    return [each["computeEnvironmentName"] for each in api.describe_compute_environments()["computeEnvironments"]]


def queues(api: Api) -> list[str]:
    return [each["jobQueueName"] for each in api.describe_job_queues()["jobQueues"]]


# -- compute environments


def test_a_compute_environment_is_described_as_it_was_made(api: Api) -> None:
    made = api.environment(tags={"a": "1"})
    assert made == arn("compute-environment/spot")
    found = api.described(made)
    assert (found["status"], found["statusReason"], found["state"]) == (
        "VALID",
        "ComputeEnvironment Healthy",
        "ENABLED",
    )
    assert found["computeResources"] == {
        "type": "FARGATE_SPOT", "maxvCpus": 2, "subnets": [SUBNET], "securityGroupIds": [GROUP],
    }  # fmt: skip
    assert found["serviceRole"].endswith(":role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch")
    assert (found["containerOrchestrationType"], found["tags"]) == ("ECS", {"a": "1"})
    assert "ecsClusterArn" not in found  # there is no cluster behind it


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        ({"subnets": ["subnet-2"]}, "CLIENT_ERROR - The subnet ID 'subnet-2' does not exist"),
        ({"securityGroupIds": ["sg-2"]}, "CLIENT_ERROR - The security group 'sg-2' does not exist"),
    ],
)
def test_a_compute_environment_in_no_network_is_invalid(api: Api, compute: dict[str, Any], said: str) -> None:
    api.environment(compute=compute)
    assert (api.described("spot")["status"], api.described("spot")["statusReason"]) == ("INVALID", said)
    order = [{"order": 1, "computeEnvironment": "spot"}]
    code, message = refused(api.create_job_queue, jobQueueName="q", priority=1, computeEnvironmentOrder=order)
    assert (code, "must be created and valid before attaching" in message) == ("ClientException", True)


def test_a_service_role_that_does_not_trust_batch_makes_it_invalid_until_it_does(api: Api) -> None:
    api.untrusting.add(role("service"))
    api.environment(serviceRole="service")
    assert api.described("spot")["status"] == "INVALID"
    assert api.described("spot")["serviceRole"] == role("service")
    api.untrusting.clear()
    api.update_compute_environment(computeEnvironment="spot", serviceRole="service")
    eventually(lambda: api.described("spot")["status"] == "VALID")


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        ({"minvCpus": 0}, "minvCpus is not applicable for Fargate."),
        ({"desiredvCpus": 1}, "desiredvCpus is not applicable for Fargate."),
        ({"tags": {"a": "b"}}, "tags is not applicable for Fargate."),
        ({"subnets": []}, "subnets are required"),
        ({"subnets": ["subnet-1"] * 17}, "Fargate supports a maximum of 16 subnets."),
        ({"securityGroupIds": []}, "Security group ids are required."),
        ({"securityGroupIds": ["sg-1"] * 6}, "Fargate supports a maximum of 5 security groups."),
        ({"maxvCpus": 0}, "maxvCpus must be greater than 0"),
    ],
)
def test_a_compute_environment_that_fargate_cannot_be_is_refused(api: Api, compute: dict[str, Any], said: str) -> None:
    code, message = refused(api.environment, compute=compute)
    assert (code, said in message) == ("ClientException", True)
    assert environments(api) == []


@pytest.mark.parametrize(
    "more",
    [
        {"computeResources": {"type": "EC2", "maxvCpus": 2, "subnets": [SUBNET]}},
        {"computeResources": {"type": "SPOT", "maxvCpus": 2, "subnets": [SUBNET]}},
        {"type": "UNMANAGED", "serviceRole": "service"},
        {"ecsSettings": {"containerInsights": "ENABLED"}},
        {"eksConfiguration": {"eksClusterArn": "a", "kubernetesNamespace": "b"}},
    ],
)
def test_what_is_not_fargate_is_refused_by_name(api: Api, more: dict[str, Any]) -> None:
    compute = {"type": "FARGATE", "maxvCpus": 2, "subnets": [SUBNET], "securityGroupIds": [GROUP]}
    params = {"computeEnvironmentName": "e", "type": "MANAGED", "computeResources": compute, **more}
    assert refused(api.create_compute_environment, **params)[0] == "NotImplemented"


def test_names_are_unique_and_bounded(api: Api) -> None:
    api.environment()
    assert refused(api.environment) == ("ClientException", "Object already exists")
    assert refused(api.environment, name="x" * 129)[0] == "ClientException"
    assert refused(api.environment, name="a b")[0] == "ClientException"
    api.queue()
    assert refused(api.queue) == ("ClientException", "Object already exists")


def test_a_compute_environment_goes_when_it_is_disabled_and_no_queue_names_it(api: Api) -> None:
    api.environment()
    api.queue()
    code, message = refused(api.delete_compute_environment, computeEnvironment="spot")
    assert (code, "DISABLED" in message) == ("ClientException", True)
    api.update_compute_environment(computeEnvironment="spot", state="DISABLED")
    eventually(lambda: api.described("spot")["status"] == "VALID")
    said = refused(api.delete_compute_environment, computeEnvironment="spot")
    assert said == ("ClientException", "Cannot delete, found existing JobQueue relationship")
    api.update_job_queue(jobQueue="normal", state="DISABLED")
    eventually(lambda: api.queue_of("normal")["status"] == "VALID")
    api.delete_job_queue(jobQueue="normal")
    eventually(lambda: queues(api) == [])
    api.delete_compute_environment(computeEnvironment="spot")
    eventually(lambda: environments(api) == [])
    api.delete_compute_environment(computeEnvironment="spot")  # gone is no error


def test_a_compute_environment_in_which_jobs_run_cannot_be_deleted(api: Api) -> None:
    api.ready()
    api.environment("other")
    job_id = api.submit()
    api.becomes(job_id, "RUNNING")
    order = [{"order": 1, "computeEnvironment": "other"}]
    api.update_job_queue(jobQueue="normal", computeEnvironmentOrder=order)
    api.update_compute_environment(computeEnvironment="spot", state="DISABLED")
    eventually(lambda: api.described("spot")["status"] == "VALID")
    api.delete_compute_environment(computeEnvironment="spot")
    eventually(lambda: api.described("spot")["status"] == "INVALID")
    api.end(job_id)
    api.becomes(job_id, "SUCCEEDED")
    api.delete_compute_environment(computeEnvironment="spot")
    eventually(lambda: environments(api) == ["other"])


# -- job queues


def test_a_queue_is_described_as_it_was_made_and_changed(api: Api) -> None:
    api.environment()
    made = api.queue(priority=7)
    found = api.queue_of(made)
    expected = [{"order": 0, "computeEnvironment": arn("compute-environment/spot")}]
    assert (found["priority"], found["computeEnvironmentOrder"]) == (7, expected)
    assert (found["state"], found["statusReason"]) == ("ENABLED", "JobQueue Healthy")
    api.update_job_queue(jobQueue=made, priority=9)
    eventually(lambda: api.queue_of("normal")["status"] == "VALID")
    assert api.queue_of("normal")["priority"] == 9


def test_a_queue_goes_with_its_jobs(api: Api) -> None:
    api.ready(vcpus=1)
    first, second = api.submit(), api.submit()
    array = api.submit(arrayProperties={"size": 3})
    api.becomes(first, "RUNNING")
    assert "DISABLED" in refused(api.delete_job_queue, jobQueue="normal")[1]
    api.update_job_queue(jobQueue="normal", state="DISABLED")
    eventually(lambda: api.queue_of("normal")["status"] == "VALID")
    assert "not ENABLED" in refused(api.submit)[1]
    api.delete_job_queue(jobQueue="normal")
    for job_id in (first, second, array):
        assert api.becomes(job_id, "FAILED")["statusReason"] == "JobQueue deleted"
    eventually(lambda: queues(api) == [])
    assert refused(api.submit) == ("ClientException", "JobQueue normal not found.")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"schedulingPolicyArn": "arn:aws:batch:us-east-1:123456789012:scheduling-policy/p"}, "NotImplemented"),
        ({"jobQueueType": "SAGEMAKER_TRAINING"}, "NotImplemented"),
        ({"serviceEnvironmentOrder": [{"order": 1, "serviceEnvironment": "s"}]}, "NotImplemented"),
        (
            {"jobStateTimeLimitActions": [
                {"reason": "r", "state": "RUNNABLE", "maxTimeSeconds": 600, "action": "CANCEL"}
            ]},
            "NotImplemented",
        ),
        ({"computeEnvironmentOrder": []}, "ClientException"),
        ({"computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "nobody"}]}, "ClientException"),
        ({"computeEnvironmentOrder": [{"order": n, "computeEnvironment": "e"} for n in range(4)]}, "ClientException"),
        ({"priority": -1}, "ClientException"),
    ],
)  # fmt: skip
def test_a_queue_that_cannot_be_is_refused(api: Api, more: dict[str, Any], code: str) -> None:
    api.environment()
    order = [{"order": 1, "computeEnvironment": "spot"}]
    params = {"jobQueueName": "q", "priority": 1, "computeEnvironmentOrder": order, **more}
    assert refused(api.create_job_queue, **params)[0] == code
    assert queues(api) == []


# -- job definitions


def test_job_definitions_have_revisions_of_which_the_latest_active_one_counts(api: Api) -> None:
    api.ready()
    assert api.definition() == arn("job-definition/work:2")
    api.deregister_job_definition(jobDefinition="work:2")
    assert api.job(api.submit())["jobDefinition"] == arn("job-definition/work:1")
    assert refused(api.submit, definition="work:2")[0] == "ClientException"
    assert api.definition() == arn("job-definition/work:3")
    found = api.describe_job_definitions(jobDefinitionName="work")["jobDefinitions"]
    assert [(each["revision"], each["status"]) for each in found] == [(3, "ACTIVE"), (2, "INACTIVE"), (1, "ACTIVE")]
    active = api.describe_job_definitions(status="ACTIVE")["jobDefinitions"]
    assert [each["revision"] for each in active] == [3, 1]
    named = api.describe_job_definitions(jobDefinitions=["work:1", arn("job-definition/work:3")])["jobDefinitions"]
    assert [each["revision"] for each in named] == [1, 3]
    assert refused(api.deregister_job_definition, jobDefinition="work")[0] == "ClientException"


def test_a_definition_says_what_it_was_told_and_the_defaults(api: Api) -> None:
    strategy = {"attempts": 3, "evaluateOnExit": [{"onReason": "Cannot*", "action": "RETRY"}]}
    name = api.definition(retryStrategy=strategy, timeout={"attemptDurationSeconds": 60}, tags={"a": "1"})
    found = api.describe_job_definitions(jobDefinitions=[name])["jobDefinitions"][0]
    assert found["retryStrategy"] == strategy
    assert found["containerProperties"]["fargatePlatformConfiguration"] == {"platformVersion": "LATEST"}
    assert (found["platformCapabilities"], found["type"], found["tags"]) == (["FARGATE"], "container", {"a": "1"})


@pytest.mark.parametrize(
    ("vcpus", "memory", "valid"),
    [
        ("0.25", "512", True), ("0.25", "2048", True), ("0.25", "3072", False), ("0.5", "1024", True),
        ("1", "2048", True), ("1.0", "8192", True), ("1", "1024", False), ("2", "16384", True), ("4", "30720", True),
        ("8", "16384", True), ("8", "17408", False), ("16", "122880", True), ("32", "249856", True),
        ("3", "8192", False),
    ],
)  # fmt: skip
def test_sizes_are_those_of_fargate(api: Api, vcpus: str, memory: str, valid: bool) -> None:
    container = {"resourceRequirements": sized(vcpus, memory)}
    if valid:
        api.definition(container=container)
    else:
        code, message = refused(api.definition, container=container)
        assert code == "ClientException"
        assert f"Fargate resource requirements ({float(vcpus):.2f} vCPU, {memory} MiB) not valid." in message


@pytest.mark.parametrize(
    ("container", "said"),
    [
        ({"vcpus": 1}, "vcpus is not applicable for Fargate. Use resource requirements instead."),
        ({"resourceRequirements": None}, "vCPU is required."),
        ({"resourceRequirements": [{"type": "VCPU", "value": "1"}]}, "Memory is not provided."),
        ({"resourceRequirements": [*sized("1", "2048"), {"type": "GPU", "value": "1"}]}, "GPU is not applicable"),
        ({"executionRoleArn": None}, "executionRoleArn is required for Fargate jobs."),
        ({"jobRoleArn": "worker"}, "not the ARN of a role"),
        ({"privileged": True}, "setting be \u2018false\u2019 at the container level."),
        ({"image": None}, "image"),
        ({"logConfiguration": {"logDriver": "syslog"}}, "Log driver for Fargate is not valid: syslog"),
        ({"environment": [{"name": "AWS_BATCH_JOB_ID", "value": "1"}]}, "cannot start with AWS_BATCH"),
        ({"ephemeralStorage": {"sizeInGiB": 20}}, "only between range 21 GiB to 200 GiB"),
    ],
)
def test_a_container_that_fargate_does_not_run_is_refused(api: Api, container: dict[str, Any], said: str) -> None:
    code, message = refused(api.definition, container=container)
    assert (code, said in message) == ("ClientException", True)


@pytest.mark.parametrize(
    "container",
    [
        {"volumes": [{"name": "v"}]},
        {"mountPoints": [{"containerPath": "/x"}]},
        {"readonlyRootFilesystem": True},
        {"user": "nobody"},
        {"ulimits": [{"name": "nofile", "hardLimit": 1, "softLimit": 1}]},
        {"secrets": [{"name": "s", "valueFrom": "arn"}]},
        {"linuxParameters": {"initProcessEnabled": True}},
        {"enableExecuteCommand": True},
        {"repositoryCredentials": {"credentialsParameter": "p"}},
        {"logConfiguration": {"logDriver": "splunk"}},
        {"logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-datetime-format": "x"}}},
        {"fargatePlatformConfiguration": {"platformVersion": "1.3.0"}},
        {"runtimePlatform": {"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"}},
    ],
)
def test_what_a_container_here_does_not_have_is_refused_by_name(api: Api, container: dict[str, Any]) -> None:
    assert refused(api.definition, container=container)[0] == "NotImplemented"


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ({"type": "multinode"}, "NotImplemented", "multinode"),
        ({"platformCapabilities": ["EC2"]}, "NotImplemented", "EC2"),
        ({"ecsProperties": {"taskProperties": [{"containers": []}]}}, "NotImplemented", "ecsProperties"),
        ({"eksProperties": {}}, "NotImplemented", "eksProperties"),
        (
            {"nodeProperties": {"numNodes": 1, "mainNode": 0, "nodeRangeProperties": []}},
            "NotImplemented",
            "nodeProperties",
        ),
        ({"timeout": {"attemptDurationSeconds": 59}}, "ClientException", "at least 60 seconds"),
        ({"retryStrategy": {"attempts": 0}}, "ClientException", "between 1 and 10"),
        (
            {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "EXIT"}]}},
            "ClientException",
            "should contain at least one of onExitCode, onReason or onStatusReason",
        ),
        (
            {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "EXIT", "onExitCode": "1*2"}]}},
            "ClientException",
            "Evaluate on exit condition contains restricted characters.",
        ),
        (
            {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "EXIT", "onReason": "a" * 513}]}},
            "ClientException",
            "Evaluate on exit condition cannot exceed 512 characters.",
        ),
        (
            {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "EXIT", "onExitCode": "1"}] * 6}},
            "ClientException",
            "Up to 5 evaluateOnExit condition can be specified.",
        ),
        ({"jobDefinitionName": "a b"}, "ClientException", "jobDefinitionName"),
    ],
)
def test_a_definition_that_cannot_be_is_refused(api: Api, more: dict[str, Any], code: str, said: str) -> None:
    params = {
        "jobDefinitionName": "work",
        "type": "container",
        "platformCapabilities": ["FARGATE"],
        "containerProperties": properties_of(),
        **more,
    }
    answered, message = refused(api.register_job_definition, **params)
    assert (answered, said in message) == (code, True)
    assert api.describe_job_definitions()["jobDefinitions"] == []


def test_everything_is_there_after_a_start(api: Api) -> None:
    api.ready()
    api.tag_resource(resourceArn=arn("job-definition/work:1"), tags={"a": "1"})
    api.reopen()
    assert (environments(api), queues(api)) == (["spot"], ["normal"])
    assert api.list_tags_for_resource(resourceArn=arn("job-definition/work:1"))["tags"] == {"a": "1"}
    assert refused(api.list_tags_for_resource, resourceArn=arn("job-queue/other"))[0] == "ClientException"


def test_lists_come_in_pages(api: Api) -> None:
    for name in ("a", "b", "c"):
        api.definition(name)
    first = api.describe_job_definitions(maxResults=2)
    second = api.describe_job_definitions(maxResults=2, nextToken=first["nextToken"])
    found = [each["jobDefinitionName"] for page in (first, second) for each in page["jobDefinitions"]]
    assert found == ["a", "b", "c"]
    assert "nextToken" not in second
    assert refused(api.describe_job_definitions, nextToken="x")[0] == "ClientException"


def test_operations_that_are_not_built_are_refused_by_name(api: Api) -> None:
    code, message = refused(api.create_scheduling_policy, name="p")
    assert (code, "batch:CreateSchedulingPolicy" in message) == ("NotImplemented", True)
