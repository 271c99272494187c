"""The CodeBuild API, with containers that do what a test says."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from helpers.local_aws.codebuild import REPORT_PATH, CodeBuild
from helpers.local_aws.codebuild.builds import inherited
from helpers.local_aws.containers import Container, End
from helpers.local_aws.wire import AwsError, Caller, Permission, Site

ROLE = "arn:aws:iam::123456789012:role/builder"
PROJECT = "arn:aws:codebuild:us-east-1:123456789012:project/images"
SPEC = "version: 0.2\nphases: {build: {commands: [true]}}\n"
ENVIRONMENT = {"type": "LINUX_CONTAINER", "image": "aws/codebuild/standard:7.0", "computeType": "BUILD_GENERAL1_SMALL"}
SETTINGS: dict[str, Any] = {
    "name": "images",
    "source": {"type": "NO_SOURCE", "buildspec": SPEC},
    "artifacts": {"type": "NO_ARTIFACTS"},
    "environment": ENVIRONMENT,
    "serviceRole": ROLE,
}


class Containers:
    """Holds containers, which a test starts and ends."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[Container, Callable[[], None], Callable[[End], None]]] = {}
        self.stopped = threading.Event()

    def start(self, container: Container, *, started: Callable[[], None], ended: Callable[[End], None]) -> None:
        self.held[container.run_id] = container, started, ended

    def stop(self, run_id: str) -> None:
        _, _, ended = self.held.pop(run_id)
        ended(End("stopped", None))
        self.stopped.set()

    @property
    def last(self) -> tuple[Container, Callable[[], None], Callable[[End], None]]:
        return list(self.held.values())[-1]


class Api:
    """CodeBuild, called by somebody who may do everything; what IAM was asked is written down."""

    def __init__(self, folder: Any, minute: float = 60.0) -> None:
        self.asked: list[Permission] = []
        self.containers = Containers()
        site = Site(folder, "http://127.0.0.1:1", "us-east-1", "123456789012")
        self.codebuild = CodeBuild(site, self._assume, self.containers, minute)  # type: ignore[arg-type]
        self.caller = Caller("arn:aws:sts::123456789012:assumed-role/Notebook/SageMaker", self.asked.append)

    def _assume(self, role: str, session: str) -> dict[str, str]:
        if role != ROLE:
            raise AwsError("AccessDenied", "no")
        return {"AWS_ACCESS_KEY_ID": session}

    def __call__(self, operation: str, **params: Any) -> dict:
        self.asked.clear()
        return self.codebuild.call(operation, params, self.caller)

    def refused(self, operation: str, **params: Any) -> tuple[str, str]:
        with pytest.raises(AwsError) as caught:
            self(operation, **params)
        return caught.value.code, caught.value.message

    def start(self, **params: Any) -> dict:
        return self("StartBuild", projectName="images", **params)["build"]

    def build(self, build_id: str) -> dict:
        return self("BatchGetBuilds", ids=[build_id])["builds"][0]

    def report(self, *phases: tuple[str, str], **more: Any) -> None:
        content = {"phases": [phase(name, status) for name, status in phases], **more}
        self.codebuild.report(self.address, "POST", json.dumps(content).encode())

    @property
    def address(self) -> str:
        return self.containers.last[0].environment["EMBEDDED_AWS_BUILD"].removeprefix("http://127.0.0.1:1")


def phase(name: str, status: str) -> dict:
    if not status:
        return {"type": name, "started": 1.0}
    return {"type": name, "started": 1.0, "ended": 2.5, "status": status, "contexts": []}


@pytest.fixture
def api(tmp_path):
    api = Api(tmp_path)
    api("CreateProject", **SETTINGS)
    return api


def test_a_project_has_codebuilds_defaults(api):
    (found,) = api("BatchGetProjects", names=["images", "none"])["projects"]
    assert (found["arn"], found["timeoutInMinutes"], found["queuedTimeoutInMinutes"]) == (PROJECT, 60, 480)
    assert found["environment"]["privilegedMode"] is False
    assert api("BatchGetProjects", names=[PROJECT, "none"])["projectsNotFound"] == ["none"]
    assert api("ListProjects")["projects"] == ["images"]


def test_a_name_is_taken_once_and_can_be_given_back(api):
    assert api.refused("CreateProject", **SETTINGS) == (
        "ResourceAlreadyExistsException",
        f"Project already exists: {PROJECT}",
    )
    api("DeleteProject", name="images")
    api("DeleteProject", name="images")
    api("CreateProject", **SETTINGS)


def test_a_role_that_codebuild_cannot_assume_is_refused(api):
    other = {**SETTINGS, "name": "other", "serviceRole": "arn:aws:iam::123456789012:role/other"}
    code, message = api.refused("CreateProject", **other)
    assert code == "InvalidInputException"
    assert message == (
        "CodeBuild is not authorized to perform: sts:AssumeRole on service role. Please verify that: 1) The provided "
        "service role exists, 2) The role name is case-sensitive and matches exactly, and 3) The role has the "
        "necessary trust policy configured."
    )


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"source": {"type": "GITHUB", "location": "https://x"}}, "NotImplemented", "source.type GITHUB"),
        ({"source": {"type": "NO_SOURCE"}}, "InvalidInputException", "requires a buildspec"),
        ({"source": {"type": "S3", "location": "bucket"}}, "InvalidInputException", "valid S3 source"),
        ({"source": {"type": "S3", "location": "bucket/folder/"}}, "NotImplemented", "a folder of S3"),
        ({"source": {"type": "S3"}}, "InvalidInputException", "Project source location is required"),
        ({"artifacts": {"type": "S3"}}, "InvalidInputException", "Invalid artifacts: location is required"),
        (
            {"artifacts": {"type": "NO_ARTIFACTS", "location": "bucket"}},
            "InvalidInputException",
            "artifact type NO_ARTIFACTS should have null location",
        ),
        ({"artifacts": {"type": "CODEPIPELINE"}}, "NotImplemented", "artifacts.type CODEPIPELINE"),
        ({"environment": {**ENVIRONMENT, "type": "ARM_CONTAINER"}}, "NotImplemented", "environment.type ARM_CONTAINER"),
        ({"environment": {**ENVIRONMENT, "image": "ubuntu"}}, "NotImplemented", "environment.image ubuntu"),
        ({"environment": {**ENVIRONMENT, "computeType": "BUILD_LAMBDA_1GB"}}, "NotImplemented", "BUILD_LAMBDA_1GB"),
        ({"environment": {**ENVIRONMENT, "fleet": {"fleetArn": "x"}}}, "NotImplemented", "environment.fleet"),
        ({"vpcConfig": {"vpcId": "v"}}, "NotImplemented", "vpcConfig"),
        ({"cache": {"type": "LOCAL", "modes": ["LOCAL_SOURCE_CACHE"]}}, "NotImplemented", "cache.type LOCAL"),
        ({"logsConfig": {"s3Logs": {"status": "ENABLED"}}}, "NotImplemented", "logsConfig.s3Logs"),
        ({"concurrentBuildLimit": 1}, "NotImplemented", "concurrentBuildLimit"),
        ({"timeoutInMinutes": 4}, "InvalidInputException", "greater than or equal to 5"),
        ({"timeoutInMinutes": 2161}, "InvalidInputException", "less than or equal to 2160"),
        (
            {
                "environment": {
                    **ENVIRONMENT,
                    "environmentVariables": [{"name": "A", "value": "s", "type": "SECRETS_MANAGER"}],
                }
            },
            "NotImplemented",
            "SECRETS_MANAGER",
        ),
        (
            {
                "environment": {
                    **ENVIRONMENT,
                    "environmentVariables": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
                }
            },
            "InvalidInputException",
            "EnvironmentVariable name cannot be duplicated",
        ),
        (
            {"environment": {**ENVIRONMENT, "environmentVariables": [{"name": "CODEBUILD_A", "value": "1"}]}},
            "InvalidInputException",
            "No user environment variables can start with CODEBUILD_",
        ),
        ({"name": "-"}, "InvalidInputException", "name"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(api, change, code, said):
    found, message = api.refused("CreateProject", **{**SETTINGS, "name": "other", **change})
    assert (found, said in message) == (code, True), message


def test_an_update_changes_what_it_names(api):
    api("UpdateProject", name="images", timeoutInMinutes=10)
    (found,) = api("BatchGetProjects", names=["images"])["projects"]
    assert (found["timeoutInMinutes"], found["serviceRole"]) == (10, ROLE)
    assert api.refused("UpdateProject", name="none", timeoutInMinutes=10)[0] == "ResourceNotFoundException"


@pytest.mark.parametrize("name", [PROJECT, "../../x:project/images"])
def test_an_update_through_another_form_of_the_name_keeps_the_name(api, name):
    assert api("UpdateProject", name=name, timeoutInMinutes=10)["project"]["name"] == "images"
    assert api("ListProjects")["projects"] == ["images"]


def test_a_build_goes_through_its_phases(api):
    build = api.start()
    assert build["id"].startswith("images:")
    assert build["arn"] == f"arn:aws:codebuild:us-east-1:123456789012:build/{build['id']}"
    assert (build["currentPhase"], build["buildNumber"], build["initiator"]) == ("QUEUED", 1, "Notebook/SageMaker")
    container, started, ended = api.containers.last
    assert container.own_network is False
    assert container.timeout == 3600
    assert container.log.group == "/aws/codebuild/images"
    assert container.log.stream == build["id"].partition(":")[2]
    assert container.credentials()["AWS_ACCESS_KEY_ID"] == f"AWSCodeBuild-{container.log.stream}"
    started()
    assert api.build(build["id"])["currentPhase"] == "PROVISIONING"
    task = json.loads(api.codebuild.report(api.address, "GET", b""))
    assert (task["id"], task["source"]["buildspec"]) == (build["id"], SPEC)
    api.report(("DOWNLOAD_SOURCE", "SUCCEEDED"), ("INSTALL", ""))
    assert api.build(build["id"])["currentPhase"] == "INSTALL"
    exported = [{"name": "A", "value": "1"}]
    api.report(("DOWNLOAD_SOURCE", "SUCCEEDED"), ("COMPLETED", ""), status="SUCCEEDED", exported=exported)
    assert not api.codebuild.wait(build["id"], 0)
    ended(End("exited", 0))
    assert api.codebuild.wait(build["id"], 0)
    found = api.build(build["id"])
    assert (found["buildStatus"], found["buildComplete"], found["currentPhase"]) == ("SUCCEEDED", True, "COMPLETED")
    assert found["exportedEnvironmentVariables"] == exported
    names = [phase["phaseType"] for phase in found["phases"]]
    assert names == ["SUBMITTED", "QUEUED", "PROVISIONING", "DOWNLOAD_SOURCE", "COMPLETED"]
    assert found["phases"][3]["durationInSeconds"] == 1


@pytest.mark.parametrize(
    ("end", "phase", "status", "code", "said"),
    [
        (End("timeout", 143), "PROVISIONING", "TIMED_OUT", "BUILD_TIMED_OUT", "Build has timed out"),
        (End("lost", None), "PROVISIONING", "FAULT", "INTERNAL_ERROR", "was stopped while the build was running"),
        (End("exited", 1), "PROVISIONING", "FAULT", "INTERNAL_ERROR", "exit code 1"),
        (End("exited", 0), "PROVISIONING", "FAULT", "INTERNAL_ERROR", "exit code 0"),
        (End("failed", None, "no room"), "PROVISIONING", "FAILED", "CLIENT_ERROR", "no room"),
        (
            End("failed", None, "no log", "AccessDeniedException: User: x is not authorized"),
            "QUEUED",
            "FAILED",
            "ACCESS_DENIED",
            f"Service role {ROLE} does not allow AWS CodeBuild to create Amazon CloudWatch Logs log streams for build",
        ),
    ],
)
def test_a_build_that_does_not_end_by_itself(api, end, phase, status, code, said):
    build = api.start()
    _, started, ended = api.containers.last
    if end.reason != "failed":  # which happens before it starts
        started()
    ended(end)
    found = api.build(build["id"])
    assert [each["phaseType"] for each in found["phases"]][-2:] == [phase, "COMPLETED"]
    (context,) = found["phases"][-2]["contexts"]
    assert (found["buildStatus"], context["statusCode"]) == (status, code)
    assert said in context["message"]


def test_a_build_is_stopped(api):
    build = api.start()
    found = api("StopBuild", id=build["id"])["build"]
    assert (found["buildStatus"], found["currentPhase"]) == ("STOPPED", "COMPLETED")
    assert found["phases"][1]["phaseStatus"] == "STOPPED"
    assert api("StopBuild", id=build["arn"])["build"]["buildStatus"] == "STOPPED"


def test_a_build_that_waits_too_long_for_its_turn_times_out(tmp_path):
    api = Api(tmp_path, minute=0.002)
    api("CreateProject", **SETTINGS, queuedTimeoutInMinutes=5)
    build = api.start()
    assert api.containers.stopped.wait(180)
    assert api.build(build["id"])["buildStatus"] == "TIMED_OUT"


def test_builds_that_ran_when_the_server_stopped_have_faulted(api, tmp_path):
    build = api.start()
    again = Api(tmp_path)
    assert again.build(build["id"])["buildStatus"] == "FAULT"
    assert again.start()["buildNumber"] == 2


def test_a_build_may_be_asked_for_otherwise_than_its_project(api):
    variables = [{"name": "A", "value": "1"}]
    build = api.start(
        environmentVariablesOverride=variables,
        buildspecOverride="version: 0.2\nphases: {}\n",
        timeoutInMinutesOverride=7,
        privilegedModeOverride=True,
    )
    assert build["environment"]["environmentVariables"] == [{"name": "A", "value": "1", "type": "PLAINTEXT"}]
    assert (build["timeoutInMinutes"], build["environment"]["privilegedMode"]) == (7, True)
    (project,) = api("BatchGetProjects", names=["images"])["projects"]
    assert (project["timeoutInMinutes"], project["environment"]["environmentVariables"]) == (60, [])
    assert api.refused("StartBuild", projectName="images", idempotencyToken="x")[0] == "NotImplemented"
    assert api.refused("StartBuild", projectName="none") == (
        "ResourceNotFoundException",
        "Project cannot be found: arn:aws:codebuild:us-east-1:123456789012:project/none",
    )


def test_logs_go_where_the_project_says(api):
    config = {"cloudWatchLogs": {"status": "ENABLED", "groupName": "own", "streamName": "prefix"}}
    build = api.start(logsConfigOverride=config)
    uuid = build["id"].partition(":")[2]
    assert (build["logs"]["groupName"], build["logs"]["streamName"]) == ("own", f"prefix/{uuid}")
    api.start(logsConfigOverride={"cloudWatchLogs": {"status": "DISABLED"}})
    assert api.containers.last[0].log is None


def test_lists_and_deletions(api):
    builds = [api.start()["id"] for _ in range(3)]
    assert api("ListBuilds")["ids"] == builds[::-1]
    assert api("ListBuildsForProject", projectName="images", sortOrder="ASCENDING")["ids"] == builds
    api("StopBuild", id=builds[0])
    answer = api("BatchDeleteBuilds", ids=[builds[0], builds[1], "images:none"])
    assert [arn.rpartition("/")[2] for arn in answer["buildsDeleted"]] == [builds[0]]
    assert [one["statusCode"] for one in answer["buildsNotDeleted"]] == ["BUILD_IN_PROGRESS", "BUILD_NOT_FOUND"]
    assert api("BatchGetBuilds", ids=builds[:2])["buildsNotFound"] == [builds[0]]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"phases": [1]}',
        b'{"phases": [{"type": "SUBMITTED", "started": 1}]}',
        b'{"phases": [{"type": "BUILD", "started": "x"}]}',
        b'{"phases": [{"type": "BUILD", "started": 1, "ended": 2}]}',
    ],
)
def test_a_report_that_is_none_changes_nothing(api, body):
    build = api.start()
    with pytest.raises(AwsError):
        api.codebuild.report(api.address, "POST", body)
    assert api.build(build["id"])["currentPhase"] == "QUEUED"


def test_only_the_build_itself_reports(api):
    build = api.start()
    uuid = build["id"].partition(":")[2]
    for path in (
        f"{REPORT_PATH}{uuid}/guessed",
        f"{REPORT_PATH}{uuid}/guéssed",
        f"{REPORT_PATH}{uuid}/",
        f"{REPORT_PATH}{uuid}",
        f"{REPORT_PATH}x/y",
    ):
        for method in ("GET", "POST"):
            with pytest.raises(AwsError, match="no build reports here"):
                api.codebuild.report(path, method, b'{"phases": []}')
    address = api.address
    api("StopBuild", id=build["id"])
    with pytest.raises(AwsError, match="no build reports here"):
        api.codebuild.report(address, "GET", b"")


@pytest.mark.parametrize(
    ("operation", "params", "expected"),
    [
        ("CreateProject", {**SETTINGS, "name": "new"}, [PROJECT.replace("images", "new"), ROLE]),
        ("UpdateProject", {"name": "images", "serviceRole": ROLE}, [PROJECT, ROLE]),
        ("UpdateProject", {"name": "images"}, [PROJECT]),
        ("StartBuild", {"projectName": "images"}, [PROJECT]),
        ("StartBuild", {"projectName": PROJECT, "serviceRoleOverride": ROLE}, [PROJECT, ROLE]),
        ("BatchGetBuilds", {"ids": ["images:1", "images:2"]}, [PROJECT]),
        ("BatchGetProjects", {"names": ["images", PROJECT]}, [PROJECT]),
        ("ListBuilds", {}, ["*"]),
        ("ListProjects", {}, ["*"]),
        ("ListBuildsForProject", {"projectName": "images"}, [PROJECT]),
        ("BatchDeleteBuilds", {"ids": ["arn:aws:codebuild:us-east-1:123456789012:build/images:1"]}, [PROJECT]),
    ],
)
def test_what_iam_is_asked(api, operation, params, expected):
    api(operation, **params)
    assert [permission.resource for permission in api.asked] == expected
    assert api.asked[0].action == f"codebuild:{operation}"
    if ROLE in expected:
        assert api.asked[1].action == "iam:PassRole"
        assert api.asked[1].context == {"iam:PassedToService": "codebuild.amazonaws.com"}


def test_other_operations_are_refused_by_name(api):
    assert api.refused("StartBuildBatch", projectName="images")[0] == "NotImplemented"
    assert api.refused("RetryBuild", id="images:1")[0] == "NotImplemented"


def test_a_build_has_the_settings_of_pip_and_the_network(tmp_path):
    settings = tmp_path / ".config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text("")
    found = inherited(
        {"HOME": str(tmp_path), "PIP_INDEX_URL": "x", "https_proxy": "p", "AWS_PROFILE": "me", "no_proxy": "n"}
    )
    assert found == {
        "PIP_INDEX_URL": "x",
        "PIP_CONFIG_FILE": str(settings),
        "https_proxy": "p",
        "no_proxy": "n,127.0.0.1,localhost,169.254.170.2",
        "NO_PROXY": "n,127.0.0.1,localhost,169.254.170.2",
    }
