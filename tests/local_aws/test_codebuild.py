"""Builds that really run: sources, images, artifacts, permissions, stopping."""

import json
from typing import Any

import pytest
from building import DOCKERFILE, LOGIN, PUSH, Yard, context, spec
from clients import allow, eventually, refused
from wheels import wheel


@pytest.fixture(scope="module")
def yard(embedded: Any) -> Yard:
    return Yard(embedded)


def test_a_build_pushes_an_image(yard):
    build = yard.run()
    assert build["buildStatus"] == "SUCCEEDED", yard.log(build)
    (image,) = yard.ecr.describe_images(repositoryName=yard.name)["imageDetails"]
    assert image["imageTags"] == ["v1"]
    assert any(line.startswith(f"v1: digest: {image['imageDigest']}") for line in yard.log(build))
    (found,) = yard.ecr.batch_get_image(repositoryName=yard.name, imageIds=[{"imageTag": "v1"}])["images"]
    assert len(json.loads(found["imageManifest"])["layers"]) == 2
    again = yard.run()
    assert again["buildStatus"] == "SUCCEEDED"
    assert len(yard.ecr.describe_images(repositoryName=yard.name)["imageDetails"]) == 1


def test_phases_are_told_with_their_times(yard):
    build = yard.run("true")
    kinds = [phase["phaseType"] for phase in build["phases"]]
    assert kinds == [
        "SUBMITTED", "QUEUED", "PROVISIONING", "DOWNLOAD_SOURCE", "INSTALL", "PRE_BUILD", "BUILD", "POST_BUILD",
        "UPLOAD_ARTIFACTS", "FINALIZING", "COMPLETED",
    ]  # fmt: skip
    assert all(phase["phaseStatus"] == "SUCCEEDED" for phase in build["phases"][:-1])
    assert all(phase["startTime"] <= phase["endTime"] for phase in build["phases"][:-1])


def test_a_build_acts_as_its_role_in_its_own_source(yard):
    build = yard.run("pwd", "ls", "aws sts get-caller-identity --query Arn --output text", "echo $AWS_REGION")
    uuid = build["id"].partition(":")[2]
    place, *files, who, region = yard.printed(build)
    assert place.startswith("/codebuild/output/src")
    assert (sorted(files), region) == (["Dockerfile", "buildspec.yml", "main.py"], "us-east-1")
    assert who.startswith("arn:aws:sts::123456789012:assumed-role/test-")
    assert who.endswith(f"/AWSCodeBuild-{uuid}")


def test_a_failing_command_is_named(yard):
    build = yard.run("echo before; exit 3", more={"env": {"exported-variables": ["CODEBUILD_BUILD_NUMBER"]}})
    assert build["buildStatus"] == "FAILED"
    assert context(build, "BUILD") == {
        "statusCode": "COMMAND_EXECUTION_ERROR",
        "message": "Error while executing command: echo before; exit 3. Reason: exit status 3",
    }
    number = {"name": "CODEBUILD_BUILD_NUMBER", "value": str(build["buildNumber"])}
    assert build["exportedEnvironmentVariables"] == [number]


def test_an_instruction_that_is_not_supported_is_refused_by_name_and_line(yard):
    text = DOCKERFILE.replace("COPY main.py .", "USER nobody")
    build = yard.run(f"printf '%s' '{text}' > Dockerfile", "docker build .")
    assert build["buildStatus"] == "FAILED"
    assert any(line.startswith("Dockerfile:3: USER is not supported by the embedded AWS") for line in yard.log(build))


@pytest.mark.parametrize("command", ["docker run x", "docker build --squash .", "docker login -u AWS -p x y", "docker"])
def test_what_docker_cannot_do_here_is_refused_by_name(yard, command):
    build = yard.run(f"{command} 2>&1")
    assert build["buildStatus"] == "FAILED"
    assert any("is not supported by the embedded AWS" in line for line in yard.printed(build))


def test_without_privileged_mode_there_is_no_docker_daemon(yard):
    build = yard.run("docker build .", privilegedModeOverride=False)
    assert build["buildStatus"] == "FAILED"
    assert any(line.startswith("Cannot connect to the Docker daemon") for line in yard.log(build))


def test_a_stopped_build_is_gone(yard):
    build_id = yard.start("echo started", "sleep 600")
    eventually(lambda: yard.found(build_id)["currentPhase"] == "BUILD")
    build = yard.codebuild.stop_build(id=build_id)["build"]
    assert (build["buildStatus"], build["buildComplete"]) == ("STOPPED", True)
    statuses = {phase["phaseType"]: phase.get("phaseStatus") for phase in build["phases"]}
    assert statuses["BUILD"] == "STOPPED"
    assert yard.codebuild.batch_delete_builds(ids=[build_id])["buildsDeleted"] == [build["arn"]]


def test_artifacts_are_uploaded(yard):
    artifacts = {"type": "S3", "location": yard.name, "path": "artifacts", "name": "out", "namespaceType": "BUILD_ID"}
    more = {"artifacts": {"files": ["**/*"], "base-directory": "made"}}
    build = yard.run("mkdir -p made/deep", "echo 1 > made/deep/a", more=more, artifactsOverride=artifacts)
    assert build["buildStatus"] == "SUCCEEDED", yard.log(build)
    key = f"artifacts/{build['id'].partition(':')[2]}/out"
    assert build["artifacts"]["location"] == f"arn:aws:s3:::{yard.name}/{key}"
    assert yard.s3.get_object(Bucket=yard.name, Key=f"{key}/deep/a")["Body"].read() == b"1\n"


def test_parameters_of_ssm_are_variables(yard):
    yard.ssm.put_parameter(Name=f"/{yard.name}/key", Value="a secret", Type="String")
    variable = {"name": "KEY", "value": f"/{yard.name}/key", "type": "PARAMETER_STORE"}
    build = yard.run('test "$KEY" = "a secret"', environmentVariablesOverride=[variable])
    assert build["buildStatus"] == "SUCCEEDED", yard.log(build)
    build = yard.run("true", environmentVariablesOverride=[{**variable, "value": f"/{yard.name}/none"}])
    assert context(build, "DOWNLOAD_SOURCE")["message"].startswith("parameter does not exist")


@pytest.mark.parametrize(
    ("without", "phase", "said"),
    [
        ("source", "DOWNLOAD_SOURCE", "AccessDenied: User: "),
        ("artifacts", "UPLOAD_ARTIFACTS", "s3:PutObject"),
        ("parameters", "DOWNLOAD_SOURCE", "ssm:GetParameters"),
        ("logs", "QUEUED", "logs:CreateLogStream"),
    ],
)
def test_a_permission_that_the_role_lacks_is_named(yard, without, phase, said):
    yard.codebuild.update_project(name=yard.name, serviceRole=yard.role(without))
    artifacts = {"type": "S3", "location": yard.name, "path": "artifacts", "packaging": "ZIP", "name": "a.zip"}
    more = {"artifacts": {"files": ["main.py"]}, "env": {"parameter-store": {"KEY": f"/{yard.name}/key"}}}
    yard.ssm.put_parameter(Name=f"/{yard.name}/key", Value="a", Type="String", Overwrite=True)
    build = yard.run("true", more=more, artifactsOverride=artifacts)
    yard.codebuild.update_project(name=yard.name, serviceRole=yard.role())
    assert build["buildStatus"] == "FAILED"
    assert said in context(build, phase)["message"]


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("ecr:GetAuthorizationToken", "GetAuthorizationToken"),
        ("ecr:InitiateLayerUpload", "denied: User: "),
    ],
)
def test_a_denied_push_names_the_action(yard, action, said):
    denied = {"Effect": "Deny", "Action": action, "Resource": "*"}
    role = yard.embedded.make_role([*yard.statements.values(), denied], service="codebuild.amazonaws.com")
    yard.codebuild.update_project(name=yard.name, serviceRole=role)
    build = yard.run(LOGIN, "echo 'FROM python:3.12' > Dockerfile", *PUSH)
    yard.codebuild.update_project(name=yard.name, serviceRole=yard.role())
    assert build["buildStatus"] == "FAILED"
    assert any(said in line and action in line for line in yard.log(build)), yard.log(build)


def test_a_push_without_login_is_refused(yard):
    build = yard.run(*PUSH)
    assert build["buildStatus"] == "FAILED"
    assert any("no basic auth credentials" in line for line in yard.log(build))


def test_who_starts_a_build_needs_to_be_allowed(yard):
    client = yard.embedded.client("codebuild", yard.embedded.variables_of([allow("codebuild:BatchGetBuilds")]))
    code, message = refused(lambda: client.start_build(projectName=yard.name))
    assert code == "AccessDeniedException"
    assert f"codebuild:StartBuild on resource: arn:aws:codebuild:us-east-1:123456789012:project/{yard.name}" in message


def test_a_project_needs_a_role_that_may_be_passed(yard):
    statements = [allow("codebuild:*")]
    client = yard.embedded.client("codebuild", yard.embedded.variables_of(statements))
    settings = yard.codebuild.batch_get_projects(names=[yard.name])["projects"][0]
    kept = {name: settings[name] for name in ("source", "artifacts", "environment", "serviceRole")}
    code, message = refused(lambda: client.create_project(name=f"{yard.name}-2", **kept))
    assert (code, "iam:PassRole" in message) == ("AccessDeniedException", True)
    other = {**kept, "serviceRole": yard.embedded.make_role([])}
    code, message = refused(lambda: yard.codebuild.create_project(name=f"{yard.name}-2", **other))
    assert (code, "sts:AssumeRole" in message) == ("InvalidInputException", True)


def test_a_source_without_a_buildspec_says_so(yard):
    yard.source({"main.py": ""})
    build = yard.run()
    yard.source({"main.py": "print('built')\n", "Dockerfile": DOCKERFILE, "buildspec.yml": spec(LOGIN, *PUSH)})
    found = context(build, "DOWNLOAD_SOURCE")
    assert found["statusCode"] == "YAML_FILE_ERROR"
    assert found["message"].endswith("buildspec.yml: no such file or directory")


def test_a_container_has_the_files_and_packages_of_an_image_that_was_built(yard, tmp_path):
    text = DOCKERFILE.replace("RUN pip install boto3", "RUN pip install --no-index /app/tiny-1.0-py3-none-any.whl")
    files = {"main.py": "import os, tiny\ntiny.main()\nprint(__file__, os.getcwd(), os.environ['WORD'])\n"}
    files["Dockerfile"] = text.replace("COPY main.py .", "COPY *.whl main.py ./\nENV WORD=built")
    yard.source({**files, "tiny-1.0-py3-none-any.whl": wheel(tmp_path).read_bytes()})
    tag = {"name": "TAG", "value": "tiny"}
    build = yard.run(LOGIN, *PUSH, environmentVariablesOverride=[tag])
    assert build["buildStatus"] == "SUCCEEDED", yard.log(build)
    yard.source({"main.py": "print('built')\n", "Dockerfile": DOCKERFILE, "buildspec.yml": spec(LOGIN, *PUSH)})
    ecs, ec2 = yard.embedded.client("ecs"), yard.embedded.client("ec2")
    pulling = "ecr:GetAuthorizationToken ecr:BatchCheckLayerAvailability ecr:BatchGetImage ecr:GetDownloadUrlForLayer"
    statements = [allow(pulling), allow("logs:CreateLogStream logs:PutLogEvents")]
    yard.logs.create_log_group(logGroupName=f"/ecs/{yard.name}")
    options = {"awslogs-group": f"/ecs/{yard.name}", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "tasks"}
    ecs.create_cluster(clusterName=yard.name)
    ecs.register_task_definition(
        family=yard.name,
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        executionRoleArn=yard.embedded.make_role(statements, service="ecs-tasks.amazonaws.com"),
        containerDefinitions=[
            {
                "name": "main",
                "image": f"{yard.repository['repositoryUri']}:tiny",
                "logConfiguration": {"logDriver": "awslogs", "options": options},
            }
        ],
    )
    network = {"subnets": [ec2.describe_subnets()["Subnets"][0]["SubnetId"]], "assignPublicIp": "ENABLED"}
    made = ecs.run_task(
        cluster=yard.name,
        taskDefinition=yard.name,
        launchType="FARGATE",
        networkConfiguration={"awsvpcConfiguration": network},
    )

    def stopped() -> dict[str, Any] | None:
        (found,) = ecs.describe_tasks(cluster=yard.name, tasks=[made["tasks"][0]["taskArn"]])["tasks"]
        return found if found["lastStatus"] == "STOPPED" else None

    task = eventually(stopped)
    assert task["containers"][0].get("exitCode") == 0, task
    (stream,) = yard.logs.describe_log_streams(logGroupName=f"/ecs/{yard.name}")["logStreams"]
    where = {"logGroupName": f"/ecs/{yard.name}", "logStreamName": stream["logStreamName"]}
    lines = [event["message"] for event in yard.logs.get_log_events(**where, startFromHead=True)["events"]]
    assert lines == ["tiny 1.0", "/app/main.py /app built"]
