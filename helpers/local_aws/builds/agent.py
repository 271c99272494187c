"""The phases of one build, as CodeBuild's agent goes through them, and what it reports of each.

The address to report to is a secret: GET gives the build's task, POST takes what has happened so far.
"""

import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from helpers.local_aws.builds import ADDRESS, artifacts, buildspec, sources, tools
from helpers.local_aws.builds.problems import PhaseProblem
from helpers.local_aws.builds.shell import Shell

_ROOM = Path("/codebuild")  # its own in a build that is isolated
_SECONDS = 60

Task = dict[str, Any]


class Server:
    """The embedded AWS, as a build reports to it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def task(self) -> Task:
        """Return what is to be built."""
        with self._opener.open(self._address, timeout=_SECONDS) as answer:
            return json.load(answer)

    def report(self, content: dict[str, Any]) -> None:
        """Say what has happened so far."""
        request = urllib.request.Request(self._address, json.dumps(content).encode())  # noqa: S310 - http://127.0.0.1
        self._opener.open(request, timeout=_SECONDS).close()


class Agent:
    """One build."""

    def __init__(self, server: Server, environment: Mapping[str, str], room: Path) -> None:
        """``environment``: of this process. ``room``: a folder for everything that the build makes."""
        self._server, self._task, self._room = server, server.task(), room
        self._source = room / "output" / f"src{self._task['number']:09d}" / "src"
        self._source.mkdir(parents=True)
        self._environment = dict(environment)
        self._phases: list[dict[str, Any]] = []
        self._report: dict[str, Any] = {}
        self._failed = False
        self._shell: Shell | None = None

    def build(self) -> None:
        """Go through all phases; the outcome is what is reported."""
        try:
            spec = self._download_source()
            if spec is not None and self._commands(spec):
                self._upload(spec)
        finally:
            if self._shell is not None:
                self._shell.close()
        self._enter("FINALIZING")
        self._leave("FINALIZING", "SUCCEEDED")
        self._enter("COMPLETED")
        self._phases[-1].pop("status", None)
        self._send(status="FAILED" if self._failed else "SUCCEEDED")

    def _download_source(self) -> buildspec.Spec | None:
        """Fetch the source and read the buildspec; None when the phase failed."""
        self._enter("DOWNLOAD_SOURCE")
        try:
            task = self._task
            if task["source"]["type"] == "S3":
                resolved = sources.fetch(task["source"]["location"], task["source"].get("version"), self._source)
                self._report["resolved"] = resolved
            try:
                spec = buildspec.read(sources.buildspec_text(task["source"].get("buildspec") or "", self._source))
            except buildspec.SpecProblem as problem:
                raise PhaseProblem("YAML_FILE_ERROR", str(problem)) from None
            self._shell = self._open_shell(spec)
        except PhaseProblem as problem:
            self._failed = True
            self._leave("DOWNLOAD_SOURCE", "FAILED", problem)
            return None
        self._leave("DOWNLOAD_SOURCE", "SUCCEEDED")
        return spec

    def _open_shell(self, spec: buildspec.Spec) -> Shell:
        task = self._task
        parameters = dict(spec.parameters)
        plain = dict(spec.variables)
        for variable in task["variables"]:
            name, value = variable["name"], variable["value"]
            parameters.pop(name, None)
            plain.pop(name, None)
            (parameters if variable.get("type") == "PARAMETER_STORE" else plain)[name] = value
        variables = {**self._environment, **self._own_variables(), **plain, **sources.parameters(parameters)}
        folder = self._room / "readonly"
        folder.mkdir()
        path = tools.install(folder / "bin", self._room, daemon=task["privileged"])
        variables["PATH"] = f"{path}:{variables.get('PATH') or os.defpath}"
        return Shell(spec.shell, self._source, variables, folder)

    def _own_variables(self) -> dict[str, str]:
        task = self._task
        resolved = self._report.get("resolved") or ""
        return {
            "CI": "true",
            "CODEBUILD_CI": "true",
            "CODEBUILD_BUILD_ARN": task["arn"],
            "CODEBUILD_BUILD_ID": task["id"],
            "CODEBUILD_BUILD_IMAGE": task["image"],
            "CODEBUILD_BUILD_NUMBER": str(task["number"]),
            "CODEBUILD_BUILD_SUCCEEDING": "1",
            "CODEBUILD_INITIATOR": task["initiator"],
            "CODEBUILD_LOG_PATH": task["log_path"],
            "CODEBUILD_PROJECT_ARN": task["project_arn"],
            "CODEBUILD_RESOLVED_SOURCE_VERSION": resolved,
            "CODEBUILD_SOURCE_REPO_URL": task["source"].get("location") or "",
            "CODEBUILD_SOURCE_VERSION": task["source"].get("named") or "",
            "CODEBUILD_SRC_DIR": str(self._source),
            "CODEBUILD_START_TIME": str(task["start_time"]),
        }

    def _commands(self, spec: buildspec.Spec) -> bool:
        """Run the phases of the buildspec; False when the build ends before its artifacts are wanted."""
        for name, version in spec.runtimes.items():
            _say(f"Selecting '{name}' runtime version '{version}' based on manual selections...")
            _say(f"{name} {version} stands for this machine's Python {sys.version.split()[0]}")
        going_on = True
        for name in buildspec.PHASES:
            phase = spec.phases.get(name, buildspec.Phase())
            if not self._phase(name, phase):
                self._failed = True
                # As documented: POST_BUILD and the artifacts are attempted though BUILD failed, unless told otherwise.
                usual = "CONTINUE" if name in ("build", "post_build") else "ABORT"
                if (phase.on_failure or usual) == "ABORT":
                    going_on = False
                    break
        assert self._shell is not None, "the shell was opened"
        self._report["exported"] = [{"name": name, "value": self._shell.value(name)} for name in spec.exported]
        return going_on

    def _phase(self, name: str, phase: buildspec.Phase) -> bool:
        kind = name.upper()
        self._enter(kind)
        problem = self._run(phase.commands)
        if problem:
            self._succeeding(False)
        last = self._run(phase.afterwards)
        problem = problem or last
        if problem:
            self._succeeding(False)
        self._leave(kind, "FAILED" if problem else "SUCCEEDED", problem)
        return problem is None

    def _run(self, commands: tuple[str, ...]) -> PhaseProblem | None:
        assert self._shell is not None, "the shell was opened"
        for command in commands:
            _say(f"Running command {command}")
            status = self._shell.run(command)
            if status:
                _say(f"Command did not exit successfully {command} exit status {status}")
                said = f"Error while executing command: {command}. Reason: exit status {status}"
                return PhaseProblem("COMMAND_EXECUTION_ERROR", said)
        return None

    def _succeeding(self, is_so: bool) -> None:
        assert self._shell is not None, "the shell was opened"
        self._shell.set("CODEBUILD_BUILD_SUCCEEDING", "1" if is_so else "0")

    def _upload(self, spec: buildspec.Spec) -> None:
        self._enter("UPLOAD_ARTIFACTS")
        try:
            if self._task["artifacts"]["type"] == "S3":
                if spec.artifacts is None:
                    raise PhaseProblem("CLIENT_ERROR", "no artifacts are defined in the buildspec")
                self._report["artifacts"] = artifacts.upload(
                    self._source, spec.artifacts, self._task["artifacts"], self._named(spec.artifacts)
                )
        except PhaseProblem as problem:
            self._failed = True
            self._leave("UPLOAD_ARTIFACTS", "FAILED", problem)
            return
        self._leave("UPLOAD_ARTIFACTS", "SUCCEEDED")

    def _named(self, found: buildspec.Artifacts) -> str:
        """Return the artifacts' name: the buildspec's, in which a shell puts variables and dates, or the project's."""
        settings = self._task["artifacts"]
        if not (settings.get("overrideArtifactName") and found.name):
            return settings["name"]
        assert self._shell is not None, "the shell was opened"
        self._shell.run(f'EMBEDDED_AWS_NAME="{found.name}"')
        return self._shell.value("EMBEDDED_AWS_NAME")

    def _enter(self, kind: str) -> None:
        if kind in ("INSTALL", "PRE_BUILD", "BUILD", "POST_BUILD"):
            _say(f"Entering phase {kind}")
        self._phases.append({"type": kind, "started": time.time()})
        self._send()

    def _leave(self, kind: str, status: str, problem: PhaseProblem | None = None) -> None:
        context = {"statusCode": problem.code if problem else "", "message": str(problem) if problem else ""}
        self._phases[-1] |= {"status": status, "ended": time.time(), "contexts": [context]}
        if kind != "FINALIZING":
            _say(f"Phase complete: {kind} State: {status}")
            _say(f"Phase context status code: {context['statusCode']} Message: {context['message']}")

    def _send(self, **more: Any) -> None:
        self._server.report({"phases": self._phases, **self._report, **more})


def _say(text: str) -> None:
    moment = datetime.now(UTC).strftime("%Y/%m/%d %H:%M:%S.%f")
    print(f"[Container] {moment} {text}", flush=True)


def main() -> None:
    """Be the agent of the build that the environment names."""
    server = Server(os.environ.pop(ADDRESS))
    with tempfile.TemporaryDirectory(prefix="codebuild-") as folder:
        room = _ROOM if _ROOM.is_dir() and os.access(_ROOM, os.W_OK) else Path(folder)
        Agent(server, os.environ, room).build()
