"""CodeBuild for tests: a bucket with sources, a role for the builds, and short ways to run them."""

import io
import json
import uuid
import zipfile
from typing import Any

from clients import allow, arn, eventually

IMAGE = "aws/codebuild/standard:7.0"
DOCKERFILE = """FROM public.ecr.aws/docker/library/python:3.12-slim
WORKDIR /app
COPY main.py .
RUN pip install boto3
ENTRYPOINT ["python", "main.py"]
"""
LOGIN = "aws ecr get-login-password | docker login --username AWS --password-stdin ${REPOSITORY_URI%%/*}"
PUSH = ["docker build -q -t $REPOSITORY_URI:$TAG .", "docker push $REPOSITORY_URI:$TAG"]
PUSHING = (
    "ecr:BatchCheckLayerAvailability ecr:InitiateLayerUpload ecr:UploadLayerPart ecr:CompleteLayerUpload ecr:PutImage"
)


def spec(*commands: str, **more: Any) -> str:
    """Return a buildspec whose build phase has these commands."""
    return json.dumps({"version": 0.2, "phases": {"build": {"commands": list(commands)}}, **more})


def archive(files: dict[str, str | bytes]) -> bytes:
    """Pack files as a source."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return packed.getvalue()


class Yard:
    """A bucket, a repository, a project that builds a source in S3, and its role."""

    def __init__(self, embedded: Any) -> None:
        self.embedded = embedded
        names = ("codebuild", "ecr", "s3", "logs", "ssm")
        self.codebuild, self.ecr, self.s3, self.logs, self.ssm = (embedded.client(name) for name in names)
        self.name = f"yard-{uuid.uuid4().hex[:8]}"
        self.s3.create_bucket(Bucket=self.name)
        self.repository = self.ecr.create_repository(repositoryName=self.name)["repository"]
        group, bucket = arn("logs", f"log-group:/aws/codebuild/{self.name}*"), f"arn:aws:s3:::{self.name}"
        self.statements = {
            "source": allow("s3:GetObject s3:GetObjectVersion", f"{bucket}/*"),
            "artifacts": allow("s3:PutObject", f"{bucket}/artifacts/*"),
            "token": allow("ecr:GetAuthorizationToken"),
            "push": allow(PUSHING, self.repository["repositoryArn"]),
            "group": allow("logs:CreateLogGroup", group),
            "logs": allow("logs:CreateLogStream logs:PutLogEvents", group),
            "parameters": allow("ssm:GetParameters", arn("ssm", f"parameter/{self.name}/*")),
        }
        self.source({"main.py": "print('built')\n", "Dockerfile": DOCKERFILE, "buildspec.yml": spec(LOGIN, *PUSH)})
        self.codebuild.create_project(
            name=self.name,
            source={"type": "S3", "location": f"{self.name}/source.zip"},
            artifacts={"type": "NO_ARTIFACTS"},
            environment={
                "type": "LINUX_CONTAINER",
                "image": IMAGE,
                "computeType": "BUILD_GENERAL1_SMALL",
                "privilegedMode": True,
                "environmentVariables": [
                    {"name": "REPOSITORY_URI", "value": self.repository["repositoryUri"]},
                    {"name": "TAG", "value": "v1"},
                ],
            },
            serviceRole=self.role(),
        )

    def role(self, *without: str) -> str:
        """Make a role for builds, without some of its statements."""
        kept = [statement for name, statement in self.statements.items() if name not in without]
        return self.embedded.make_role(kept, service="codebuild.amazonaws.com")

    def source(self, files: dict[str, str | bytes]) -> None:
        """Upload the source."""
        self.s3.put_object(Bucket=self.name, Key="source.zip", Body=archive(files))

    def start(self, *commands: str, **overrides: Any) -> str:
        """Start a build: of the source, or of these commands; return its id."""
        if commands:
            overrides["buildspecOverride"] = spec(*commands, **overrides.pop("more", {}))
        return self.codebuild.start_build(projectName=self.name, **overrides)["build"]["id"]

    def found(self, build_id: str) -> dict[str, Any]:
        """Describe a build."""
        return self.codebuild.batch_get_builds(ids=[build_id])["builds"][0]

    def ended(self, build_id: str) -> dict[str, Any]:
        """Wait for the end of a build, and describe it."""

        def final() -> dict[str, Any] | None:
            found = self.found(build_id)
            return found if found["buildComplete"] else None

        return eventually(final)

    def run(self, *commands: str, **overrides: Any) -> dict[str, Any]:
        """Run a build to its end."""
        return self.ended(self.start(*commands, **overrides))

    def log(self, build: dict[str, Any]) -> list[str]:
        """Return what a build printed."""
        where = {"logGroupName": build["logs"]["groupName"], "logStreamName": build["logs"]["streamName"]}
        return [event["message"] for event in self.logs.get_log_events(**where, startFromHead=True)["events"]]

    def printed(self, build: dict[str, Any]) -> list[str]:
        """Return what a build's commands printed."""
        return [line for line in self.log(build) if not line.startswith("[Container]")]


def context(build: dict[str, Any], phase: str) -> dict[str, str]:
    """Return why a phase failed."""
    return next(found for found in build["phases"] if found["phaseType"] == phase)["contexts"][0]
