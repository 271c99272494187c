"""A SageMaker that trains for real, with an S3 and a CloudWatch Logs that are dictionaries."""

import io
import json
import os
import signal
import socket
import tarfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from helpers.local_aws.containers import Image, Slots
from helpers.local_aws.ecr import ImageProblem
from helpers.local_aws.sagemaker import SageMaker
from helpers.local_aws.wire import AwsError, Caller, Params, Permission, Site
from helpers.local_aws.workers import agent, scripts
from helpers.local_aws.workers.channel import Channel

ROLE = "arn:aws:iam::123456789012:role/demo-exp-training"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"
BUILT = "123456789012.dkr.ecr.us-east-1.amazonaws.com/demo-exp-processing:latest"
CALLER = Caller("arn:aws:iam::123456789012:role/notebook", lambda permission: None)


class Cloud:
    """S3 objects by bucket and key in one text, and the lines of log streams."""

    def __init__(self) -> None:
        """Begin empty."""
        self.objects: dict[str, bytes] = {}
        self.lines: dict[str, list[str]] = {}
        self.denied = ""  # keys that begin so cannot be written
        self._lock = threading.Lock()

    def __call__(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """Answer a request of a host."""
        with self._lock:
            if "x-amz-target" in headers:
                return self._log(headers["x-amz-target"].rpartition(".")[2], json.loads(body))
            path, _, query = target.partition("?")
            name = unquote(path[1:])
            if query:
                return self._list(name, parse_qs(query, keep_blank_values=True)["prefix"][0])
            if method == "PUT":
                if self.denied and name.startswith(self.denied):
                    return 403, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
                self.objects[name] = body
                return 200, b""
            if name in self.objects:
                return 200, self.objects[name]
            return 404, b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>"

    def _list(self, bucket: str, prefix: str) -> tuple[int, bytes]:
        keys = sorted(key.removeprefix(f"{bucket}/") for key in self.objects if key.startswith(f"{bucket}/{prefix}"))
        found = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in keys)
        return 200, f"<ListBucketResult>{found}</ListBucketResult>".encode()

    def _log(self, operation: str, params: Params) -> tuple[int, bytes]:
        if operation == "PutLogEvents":
            name = f"{params['logGroupName']}:{params['logStreamName']}"
            self.lines.setdefault(name, []).extend(event["message"] for event in params["logEvents"])
        return 200, b"{}"

    def log(self, name: str) -> list[str]:
        """Return the lines of a job, of all its hosts."""
        group = f"/aws/sagemaker/TrainingJobs:{name}/algo-"
        return [line for stream, lines in sorted(self.lines.items()) if stream.startswith(group) for line in lines]

    def archive(self, name: str) -> dict[str, bytes]:
        """Return the files in an archive."""
        with tarfile.open(fileobj=io.BytesIO(self.objects[name])) as archive:
            members = {member.name: archive.extractfile(member) for member in archive if member.isreg()}
            return {path: file.read() for path, file in members.items() if file}


class Built:
    """A registry with one image, whose files lie in a folder."""

    def __init__(self, folder: Path) -> None:
        """Serve what is in ``folder``."""
        self.folder = folder
        self.entrypoint: tuple[str, ...] = ()
        self.working_directory = "/app"

    def resolve(self, uri: str) -> Image:
        """Return the image."""
        if uri != BUILT:
            raise ImageProblem("CannotPullContainerError: not found")
        return Image(BUILT, "sha256:0", self.folder, self.entrypoint, (), {"FROM_IMAGE": "yes"}, self.working_directory)

    def pull_permissions(self, uri: str) -> list[Permission]:
        """Return what its role needs."""
        return [Permission("ecr:BatchGetImage", "arn:aws:ecr:us-east-1:123456789012:repository/demo-exp-processing")]


class Room:
    """SageMaker over a cloud."""

    def __init__(self, folder: Path, *, slots: Slots | None = None, forkserver: Any = None) -> None:
        """Keep the state in ``folder``; without a forkserver one of its own is started with the first job."""
        self.cloud = Cloud()
        self.site = Site(folder / "state", "http://127.0.0.1:9", "us-east-1", "123456789012")
        image = folder / "image"
        image.mkdir(exist_ok=True)
        self.built = Built(image)
        self.required: list[Permission] = []
        self.slots, self._forkserver = slots, forkserver
        self.service = self.make()

    def make(self) -> SageMaker:
        """Start SageMaker on the state folder."""
        return SageMaker(
            self.site,
            assume,
            self._require,
            host_requests=self.cloud,
            forkserver=self._forkserver,
            slots=self.slots,
            built=self.built,
            grace=180.0,
        )

    def _require(self, role: str, needed: Any) -> None:
        self.required = list(needed)

    def call(self, operation: str, **params: Any) -> Params:
        """Make a call as somebody who may do everything."""
        return self.service.call(operation, params, CALLER)

    def describe(self, name: str) -> Params:
        """Return a job."""
        return self.call("DescribeTrainingJob", TrainingJobName=name)

    def run(self, name: str, *command: str, **more: Any) -> Params:
        """Create a job, wait for its end and return it."""
        self.call("CreateTrainingJob", **request(name, *command, **more))
        assert self.service.wait_training(name, 180), "it has not ended"
        return self.describe(name)

    def script(self, name: str, source: str, parameters: Mapping[str, Any] | None = None, **more: Any) -> Params:
        """Run a Python script with SageMaker's toolkit, as the SDK asks for it."""
        self.cloud.objects[f"bucket/code/{name}.tar.gz"] = tarball({"train.py": source, **more.pop("files", {})})
        ours = {
            "sagemaker_program": "train.py",
            "sagemaker_submit_directory": f"s3://bucket/code/{name}.tar.gz",
            "sagemaker_job_name": name,
            "sagemaker_region": "us-east-1",
            "sagemaker_container_log_level": 20,
        }
        texts = {key: json.dumps(value) for key, value in (ours | dict(parameters or {})).items()}
        return self.run(name, HyperParameters=texts, **more)


def request(name: str, *command: str, image: str = IMAGE, **more: Any) -> Params:
    """Return the parameters of CreateTrainingJob for a command in an image; none: what the image does by itself."""
    entrypoint = {"ContainerEntrypoint": list(command)} if command else {}
    metrics = {"MetricDefinitions": more.pop("metrics")} if "metrics" in more else {}
    count = more.pop("count", 1)
    return {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": "File", **entrypoint, **metrics},
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/models/"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": count, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        **more,
    }


def channel(name: str, uri: str, **more: Any) -> Params:
    """Return a channel of InputDataConfig."""
    return {"ChannelName": name, "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri, **more}}}


def tarball(files: Mapping[str, str]) -> bytes:
    """Return a .tar.gz of files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text.encode()), 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


def assume(role_arn: str, session_name: str) -> dict[str, str]:
    """Return credentials of the one role that there is."""
    if role_arn != ROLE:
        raise AwsError("AccessDenied", "no such role", 403)
    return {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"}


class Plain:
    """A forkserver on a machine without namespaces."""

    def __init__(self) -> None:
        """Start the process that runs scripts."""
        self._asking, asked = socket.socketpair()
        self._scripts = os.fork()
        if self._scripts == 0:
            self._asking.close()
            try:
                scripts.serve(asked, load=lambda: None)
            finally:
                os._exit(0)
        asked.close()
        self._asking.send(b"-")
        self._hosts: list[int] = []

    def fork(self, task: Params) -> Channel:
        """Fork a host."""
        ours, theirs = socket.socketpair()
        host = os.fork()
        if host == 0:
            ours.close()
            try:
                agent.main(Channel(theirs), self._asking, False)
            finally:
                os._exit(0)
        self._hosts.append(host)
        theirs.close()
        channel = Channel(ours)
        channel.send(task)
        return channel

    def close(self) -> None:
        """End everything."""
        self._asking.close()
        os.kill(self._scripts, signal.SIGKILL)
        for process in (self._scripts, *self._hosts):
            os.waitpid(process, 0)
