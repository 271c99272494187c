"""The sweep of notebook 05, built on the embedded AWS as the notebook's role, and plans that are started by hand."""

import hashlib
import json
import uuid
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from clients import ACCOUNT, IMAGE, REGION, eventually
from workshop import Workshop, statements

from helpers import functions, roles, sweeps
from helpers.local_aws import control
from helpers.planning import plan as plans
from helpers.planning.sweep import Axis, Grid

CODE = control.PROJECT / "code"
NOTEBOOK_05 = control.PROJECT / "notebooks" / "text" / "05_sweep_and_compare.py"
DATA = "dataset/census-income.csv"
FINAL = ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")


class SweepWorkshop(Workshop):
    """What notebooks 02 and 05 make, with the notebooks' own statements."""

    def __init__(self, embedded: Any, prefix: str) -> None:
        super().__init__(embedded, prefix)
        self.recorder = self.connection.name("run-recorder")
        self.sweep = self.connection.name("sweep")
        self.sweep_arn = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{self.sweep}"
        self.recorder_arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.recorder}"

    def statements_of_05(self, *lists: str) -> list[dict[str, Any]]:
        """Return statements that notebook 05 assigns to ``lists``."""
        states = f"arn:aws:states:{REGION}:{ACCOUNT}"
        names = {
            **self.names(),
            "bucket_arn": f"arn:aws:s3:::{self.bucket}",
            "job_role_arn": self.names()["job_role"].arn,
            "RECORDER": self.recorder,
            "recorder": SimpleNamespace(arn=self.recorder_arn),
            "sweep_arn": self.sweep_arn,
            "children": f"{states}:execution:{self.sweep}",
        }
        return [one for name in lists for one in statements(f"{name}_statements", NOTEBOOK_05, **names)]

    def recorder_statements(self) -> list[dict[str, Any]]:
        """Return what the recorder may do: read a run's plan and results, write its manifest."""
        return self.statements_of_05("recorder")

    def sweep_statements(self) -> list[dict[str, Any]]:
        """Return what the state machine may do: run jobs, look for markers and write them, have the run recorded."""
        return self.statements_of_05("sweep", "plan")

    def definition(self) -> dict[str, Any]:
        """Return the sweep's state machine."""
        job_role = self.names()["job_role"].arn
        return sweeps.state_machine(job_role_arn=job_role, recorder_arn=self.recorder_arn, tags=self.connection.tags)

    def build(self) -> "SweepWorkshop":
        """Do what both notebooks do, as the notebook's role."""
        super().build()
        iam, tags = self.client("iam"), self.connection.tag_list
        recorder, machine = (
            roles.ensure_role(iam, self.connection.name(suffix), trusted=trusted, statements=statements, tags=tags).arn
            for suffix, trusted, statements in (
                ("run-recorder", "lambda.amazonaws.com", self.recorder_statements()),
                ("sweep", "states.amazonaws.com", self.sweep_statements()),
            )
        )
        functions.ensure_function(
            self.client("lambda"),
            self.recorder,
            role_arn=recorder,
            code=functions.package(functions.SOURCES / "run_recorder", functions.PLANNING),
            timeout=300,
            memory=512,
            variables={},
            tags=self.connection.tags,
        )
        self.client("stepfunctions").create_state_machine(
            name=self.sweep,
            definition=json.dumps(self.definition()),
            roleArn=machine,
            tags=[*self.connection.state_tags, {"key": "input", "value": "plan"}],
        )
        return self


def read_scripts() -> dict[str, bytes]:
    """Return the scripts of ``code/``, by path in the repository."""
    return {path.name: path.read_bytes() for path in CODE.glob("*.py")}


@dataclass
class Bench:
    """Plans runs of the scripts in ``files`` as the dispatcher does, and starts them on the sweep's state machine.

    ``settings``: by step, what experiment.yml says in place of the usual.
    """

    workshop: SweepWorkshop
    files: dict[str, bytes] = field(
        default_factory=lambda: {path.name: path.read_bytes() for path in CODE.glob("*.py")}
    )
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    data: str = DATA

    def __post_init__(self) -> None:
        self.s3 = self.workshop.embedded.client("s3")
        self.states = self.workshop.embedded.client("stepfunctions")
        self.sagemaker = self.workshop.embedded.client("sagemaker")

    def set(self, step: str, **settings: Any) -> None:
        """Change what experiment.yml says of a step."""
        self.settings[step] = {**self.settings.get(step, {}), **settings}

    def plan(self, sweep: dict[str, list[str]] | None = None, *, cache: bool = True) -> dict[str, Any]:
        """Return the plan of a new commit, and write what its jobs read. ``sweep``: "step --option" to values."""
        axes = [Axis(*name.split(), tuple(values)) for name, values in (sweep or {}).items()]
        values: dict[str, Any] = {"sweep": Grid(tuple(axes)) if axes else None, "cache": cache}
        for step in plans.STEPS:
            usual = {"code": f"{step}.py", "ImageUri": IMAGE, "args": ["--log-level", "INFO"], "InstanceCount": 1}
            usual |= {"InstanceType": "ml.t3.medium", "VolumeSizeInGB": 1}
            values[step] = usual | self.settings.get(step, {})
        blobs = {path: hashlib.sha256(content).hexdigest() for path, content in self.files.items()}
        commit = uuid.uuid4().hex + "00000000"
        run = plans.Run(
            id=f"by-hand-{commit[:12]}",
            comment="by hand",
            repository=self.workshop.repository,
            commit=commit,
            ref="refs/heads/main",
            author="Ana",
            pusher="ana",
            bucket=self.workshop.bucket,
            prefix=self.workshop.connection.prefix,
        )
        head = self.s3.head_object(Bucket=run.bucket, Key=self.data)
        found = plans.DataObject(self.data, head["ETag"].strip('"'), head["ContentLength"])
        data = plans.Data(f"s3://{run.bucket}/{self.data}", (found,))
        covered, problems = plans.cover(values, blobs, self.files)
        assert problems == []
        drafted = plans.draft(values, blobs, covered, data, run)
        markers = [marker for step in drafted.markers().values() for marker in step]
        plan = drafted.complete({marker for marker in markers if self.read(marker)}) | {"estimate": {}}
        for path, content in self.files.items():
            self.write(f"{run.folder}/code/{path}", content)
        for key, manifest in plans.manifests(run, covered).items():
            self.write(key, json.dumps(manifest).encode())
        self.write(f"{run.folder}/plan.json", json.dumps(plan).encode())
        return plan

    def start(self, plan: dict[str, Any], *, distributed: bool = False) -> str:
        """Start a plan's execution. Returns its ARN. ``distributed``: as if its input were too long."""
        started = plans.start(plan)
        if distributed:
            started = plans.start(plan, max_bytes=len(started.input.encode()) - 1)
        for key, items in started.files.items():
            self.write(key, json.dumps(items).encode())
        arn = self.workshop.sweep_arn
        return self.states.start_execution(stateMachineArn=arn, name=plan["id"], input=started.input)["executionArn"]

    def ended(self, execution: str) -> dict[str, Any]:
        """Wait for an execution's end. Returns its description."""

        def final() -> dict[str, Any] | None:
            found = self.states.describe_execution(executionArn=execution)
            return found if found["status"] in FINAL else None

        return eventually(final, 600)

    def entered(self, execution: str, kind: str) -> list[str]:
        """Return the names of the states that were entered, of one kind of event, in their order."""
        pages = self.states.get_paginator("get_execution_history").paginate(executionArn=execution)
        events = [event for page in pages for event in page["events"] if event["type"] == kind]
        return [event["stateEnteredEventDetails"]["name"] for event in events]

    def run(self, sweep: dict[str, list[str]] | None = None, **more: Any) -> dict[str, Any]:
        """Plan, start and wait. Returns the manifest."""
        plan = self.plan(sweep, **more)
        return self.manifest(self.start(plan), plan)

    def manifest(self, execution: str, plan: dict[str, Any], status: str = "SUCCEEDED") -> dict[str, Any]:
        """Return the manifest of an execution once it has ended with ``status``."""
        ended = self.ended(execution)
        assert ended["status"] == status, f"{ended.get('error')}: {ended.get('cause')}"
        return json.loads(self.read(f"{plan['run']}/manifest.json") or b"")

    def read(self, key: str) -> bytes | None:
        """Return an object, or None."""
        try:
            return self.s3.get_object(Bucket=self.workshop.bucket, Key=key)["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return None

    def write(self, key: str, content: bytes) -> None:
        """Write an object."""
        self.s3.put_object(Bucket=self.workshop.bucket, Key=key, Body=content)

    def job(self, name: str) -> str | None:
        """Return the status of a processing job, or None."""
        found = self.sagemaker.list_processing_jobs(NameContains=name, MaxResults=100)["ProcessingJobSummaries"]
        return next((one["ProcessingJobStatus"] for one in found if one["ProcessingJobName"] == name), None)

    def jobs(self, part: str) -> list[str]:
        """Return the names of the jobs that hold ``part``."""
        found = self.sagemaker.list_processing_jobs(NameContains=part, MaxResults=100)["ProcessingJobSummaries"]
        return sorted(one["ProcessingJobName"] for one in found)


def statuses(manifest: dict[str, Any], step: str) -> list[str]:
    """Return how the jobs of a step ended, sorted."""
    return sorted(job["status"] for job in manifest["jobs"][step].values())


def ran(manifest: dict[str, Any]) -> dict[str, int]:
    """Return how many jobs of each step a run computed itself."""
    return {step: statuses(manifest, step).count("run") for step in manifest["jobs"]}


def salted(script: str) -> bytes:
    """Return a script of ``code/`` with a comment that no other test has: other keys, the same outputs."""
    return (CODE / script).read_bytes() + f"# {uuid.uuid4().hex}\n".encode()


def held(script: str, bucket: str, key: str) -> bytes:
    """Return a script of ``code/`` that does not begin before there is an object ``key``."""
    look = f"boto3.client('s3').list_objects_v2(Bucket={bucket!r}, Prefix={key!r})['KeyCount']"
    return f"import boto3, time\nwhile not {look}:\n    time.sleep(0.1)\n".encode() + salted(script)
