"""Ours: a git push to the embedded AWS, until the metrics are in the bucket."""

import datetime as dt
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from bench.experiment import CODE, STEPS, Task
from embedded_aws import Embedded
from local_aws.sweep_workshop import DATA, SweepWorkshop

from helpers import dataset, manifests, repository, runs
from helpers.local_aws import control, credentials

PREFIX = "bench"
SMALL = "dataset/sample.csv"
EVERY = 0.02  # seconds between two looks, more for what takes long: looking is work for the server
FINAL = ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")


@contextmanager
def embedded_aws(folder: Path) -> Iterator[Embedded]:
    """Start an embedded AWS with its state in ``folder``, act as its notebook role, and stop it at the end."""
    server, _ = control.start(folder)
    before = dict(os.environ)
    os.environ.update(credentials.environment(server))
    try:
        yield Embedded(server)
    finally:
        os.environ.clear()
        os.environ.update(before)
        control.stop(folder)


class Ours:
    """The workshop's pipeline, and a clone of its repository.

    ``extra`` tells of the last run: the seconds until its first job had started.
    """

    name = "git push"
    note = (
        "git push to the embedded AWS: trigger, dispatcher, sweep state machine, isolated processing jobs, manifest; "
        "to the end of the execution. Unchanged jobs are found by their keys. Nothing changed: only the comment of "
        "experiment.yml"
    )
    same_as_first: tuple[str, ...] = ()

    def __init__(self, folder: Path, embedded: Embedded, *, full: bool = True) -> None:
        """Build it. Without ``full`` the data set stays away: enough for steps that do nothing."""
        self.workshop = SweepWorkshop(embedded, PREFIX).build()
        self.s3, self.states = (self.workshop.client(service) for service in ("s3", "stepfunctions"))
        self.bucket, self.repository = self.workshop.bucket, self.workshop.repository
        if full:
            self.s3.upload_file(str(dataset.path()), self.bucket, DATA)
        self.s3.upload_file(str(dataset.sample_path()), self.bucket, SMALL)  # steps that do nothing need no more
        about = self.workshop.client("codecommit").get_repository(repositoryName=self.repository)
        self.url, self.clone = about["repositoryMetadata"]["cloneUrlHttp"], folder / "clone"
        repository.ensure_clone(self.url, self.clone, author="Bench", email="bench@example.com")
        self.machine = self.workshop.sweep_arn
        self.manifest: dict[str, Any] = {}
        self.extra: dict[str, float] = {}

    def prepare(self, task: Task) -> None:
        """Write scripts and experiment.yml, and commit them. Not timed."""
        task.write_scripts(self.clone)
        experiment = yaml.safe_load((CODE / "experiment.yml").read_text())
        experiment["comment"] = f"{task.case}, {task.mark}"
        experiment["pipeline"] = {
            "stateMachineArn": self.machine,
            "input_data_uri": f"s3://{self.bucket}/{SMALL if task.nothing else DATA}",
        }
        for step in STEPS:
            experiment[step]["args"] = task.arguments(step)
        if task.sweep:
            experiment["sweep"] = {"grid": {"train": {"--C": list(task.sweep)}}}
        (self.clone / "experiment.yml").write_text(yaml.safe_dump(experiment))
        repository.git("add", "--all", cwd=self.clone)
        repository.git("commit", "--quiet", "--message", experiment["comment"], cwd=self.clone)

    def run(self, task: Task) -> float:
        """Return the seconds from the start of ``git push`` to the end of the execution that it started."""
        began, started = time.time(), time.perf_counter()
        commit, _ = self.push()
        seconds = time.perf_counter() - started
        self.manifest = manifests.of_run(self.s3, self.bucket, self.repository, commit) or {}
        moments = [job["started"] for job in self.jobs("run")]
        self.extra = {"first job": min(map(_epoch, moments)) - began} if moments else {}
        return seconds

    def push(self) -> tuple[str, dict[str, Any]]:
        """Push, and wait for the end of the execution. Returns the commit and the execution's description."""
        repository.git("push", "--quiet", "origin", "main", cwd=self.clone, remote=self.url)
        commit = repository.git("rev-parse", "HEAD", cwd=self.clone)
        answer = runs.wait_for_answer(self.s3, self.bucket, self.repository, commit, every=EVERY)
        if answer["status"] != "started":
            raise RuntimeError(f"the dispatcher refused: {answer['problems']}")
        return commit, wait_for_end(self.states, answer["executionArn"])

    def jobs(self, status: str) -> list[dict[str, Any]]:
        """Return the jobs of the last run that ended so."""
        return [job for step in self.manifest["jobs"].values() for job in step.values() if job["status"] == status]

    def check(self, task: Task, since: float) -> None:
        """Raise RuntimeError unless every variant finished, and exactly the jobs ran that had to."""
        if not self.manifest:
            raise RuntimeError("the run has no manifest")
        ran, variants = len(self.jobs("run")), self.manifest["variants"]
        if ran != task.jobs or len(variants) != (len(task.sweep) or 1):
            raise RuntimeError(f"{ran} jobs ran, not {task.jobs}, for {len(variants)} variants")
        for variant in variants:
            if variant["status"] != "finished" or not (task.nothing or 0.7 < variant["metrics"]["roc_auc"] < 0.9):
                raise RuntimeError(f"a variant is {variant['status']}: {variant['reason']} {variant['metrics']}")

    def close(self) -> None:
        """Nothing to end: the embedded AWS is the caller's."""


class StartExecution:
    """The simple state machine of notebook 02, started through the API with four jobs that do nothing."""

    name = "StartExecution"
    note = "an execution of notebook 02's state machine, started by an API call in place of a push: four jobs"

    def __init__(self, ours: Ours) -> None:
        """Have a push make the execution's input. In place of the dispatcher, an administrator starts more of it."""
        self.states, self.arn = ours.workshop.embedded.client("stepfunctions"), ours.workshop.machine_arn
        sweep, ours.machine = ours.machine, self.arn
        ours.prepare(Task("input of the simple machine", f"{time.time_ns()}", nothing=True))
        ours.machine = sweep
        _, ended = ours.push()
        self.input, self.number = ended["input"], 0

    def start(self) -> str:
        """Start one more execution. Returns its ARN."""
        self.number += 1
        name = f"{PREFIX}-{time.time_ns()}-{self.number}"
        return self.states.start_execution(stateMachineArn=self.arn, name=name, input=self.input)["executionArn"]

    def run(self) -> None:
        """Start an execution and wait for its end."""
        wait_for_end(self.states, self.start())


def wait_for_end(states: Any, execution: str) -> dict[str, Any]:
    """Return the description of an execution that has succeeded. Raises RuntimeError when it ends otherwise."""
    began = time.monotonic()
    while True:
        found = states.describe_execution(executionArn=execution)
        if found["status"] in FINAL:
            break
        time.sleep(max(EVERY, (time.monotonic() - began) / 40))
    if found["status"] != "SUCCEEDED":
        raise RuntimeError(f"{found['status']}: {found.get('error')} {json.dumps(found.get('cause'))[:600]}")
    return found


def _epoch(moment: str) -> float:
    return dt.datetime.fromisoformat(moment).timestamp()
