"""Kedro, DVC, Metaflow and ZenML on the same scripts, each set up as its documentation advises for speed.

Each has an environment and a home folder of its own, and tells nobody that it is used.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from bench.by_hand import Folders, Worker
from bench.experiment import STEPS, Task, imported
from bench.figures import timed
from environments import python_with

HERE = Path(__file__).parent
SECONDS = 300
QUIET = {"DO_NOT_TRACK": "1"}


class PeerFailed(Exception):
    """A peer's command failed; the message is the end of what it said."""


class Project(Folders):
    """A peer's project: its template with the scripts, the data set and the steps' folders."""

    peer: str
    built_here: tuple[str, ...] = ()
    settings: ClassVar[Mapping[str, str]] = {}
    same_as_first: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.python = python_with(HERE / "requirements" / f"{self.peer}.txt", built_here=self.built_here)
        shutil.copytree(HERE / "projects" / self.peer, folder, dirs_exist_ok=True)
        shutil.copy(HERE / "in_process.py", folder)
        home = folder / "home"
        home.mkdir()
        kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR") if name in os.environ}
        path = f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**kept, **QUIET, "PATH": path, "HOME": str(home), "PYTHONPATH": str(folder)}
        self.environment |= {name: value.format(folder=folder) for name, value in self.settings.items()}

    def prepare(self, task: Task) -> None:
        """Write the scripts and their arguments. Not timed."""
        super().prepare(task)
        given: dict[str, dict[str, list[str]]] = {root: {} for root in ("single", *self.roots(task))}
        for _, folder, arguments in self.jobs(task):
            given[folder.parent.name][folder.name] = arguments
        self.write_arguments(given)

    def write_arguments(self, given: dict[str, dict[str, list[str]]]) -> None:
        """Write where the project looks for them: by root, then by step."""
        (self.folder / "arguments.json").write_text(json.dumps(given))

    def call(self, *arguments: str) -> str:
        """Run the peer's Python with ``arguments`` and return what it printed. Raises PeerFailed."""
        return self.command(str(self.python), *arguments)

    def command(self, *command: str) -> str:
        """Run a command in the project's folder and return what it printed. Raises PeerFailed."""
        # Into a file: a pipe would also wait for what a command leaves running behind it, such as the queue of DVC.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=SECONDS,
                check=False,
            )
            output.seek(0)
            said = output.read()
        if done.returncode:
            raise PeerFailed(f"{' '.join(command[1:])}: {said[-600:]}")
        return said


class Kedro(Project):
    """A new ``kedro run`` each time."""

    peer = name = "kedro"
    note = (
        "`kedro run`, nodes in its process (SequentialRunner); it does not see what changed, the user says: "
        "`--only-missing-outputs`, `--nodes evaluate`, `--from-nodes train`; the sweep with ParallelRunner"
    )
    settings: ClassVar = {"KEDRO_DISABLE_TELEMETRY": "1", "KEDRO_LOGGING_CONFIG": "{folder}/conf/logging.yml"}
    options: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "nothing changed": {"only_missing_outputs": True},
        "evaluate.py changed": {"node_names": ["evaluate"]},
        "argument of train changed": {"from_nodes": ["train"]},
        "8-point sweep": {"pipeline_names": ["sweep"], "parallel": True},
    }

    def write_arguments(self, given: dict[str, dict[str, list[str]]]) -> None:
        """Write Kedro's parameters."""
        (self.folder / "conf" / "base" / "parameters.yml").write_text(yaml.safe_dump(given))

    def run(self, task: Task) -> float:
        """Return the seconds of the command."""
        command = ["-m", "kedro", "run"]
        for option, value in self.options.get(task.case, {}).items():
            flag = {"node_names": "--nodes", "from_nodes": "--from-nodes", "pipeline_names": "--pipelines"}.get(option)
            if flag:
                command.append(f"{flag}={','.join(value)}")
            else:
                command.append("--runner=ParallelRunner" if option == "parallel" else "--only-missing-outputs")
        return timed(lambda: self.call(*command))


class WarmKedro(Kedro):
    """A session inside a Python that has everything loaded."""

    name = "kedro, warm Python"
    note = "the same runs by a `KedroServiceSession` in a process that has Kedro, pandas and scikit-learn loaded"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        command = [str(self.python), str(self.folder / "warm_session.py")]
        self.worker = Worker(command, cwd=self.folder, env=self.environment)

    def run(self, task: Task) -> float:
        """Return the seconds of the session's run."""
        return timed(lambda: self.worker.ask(dict(self.options.get(task.case, {}))))

    def close(self) -> None:
        """End the process."""
        self.worker.close()


class Dvc(Project):
    """``dvc repro``, and experiments in the queue."""

    peer = name = "dvc"
    note = (
        "`dvc repro`, links in place of copies; the sweep: `dvc repro preprocess`, `dvc exp run --queue`, "
        "`dvc queue start -j 2`, until the last experiment is there"
    )
    built_here = ("antlr4-python3-runtime",)
    settings: ClassVar = {
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": "{folder}/home/site",
        "DVC_GLOBAL_CONFIG_DIR": "{folder}/home/config",
    }

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._put_on_path()
        self.command("git", "init", "--quiet", "--initial-branch=main")
        for key, value in (("user.name", "Bench"), ("user.email", "bench@example.com")):
            self.command("git", "config", key, value)
        self.call("-m", "dvc", "init", "--quiet")
        wanted = {"core.analytics": "false", "core.check_update": "false", "cache.type": "reflink,hardlink,symlink"}
        for key, value in wanted.items():
            self.call("-m", "dvc", "config", key, value)
        (folder / ".gitignore").write_text("/home\n__pycache__\n")
        self.call("-m", "dvc", "add", "--quiet", "data/census-income.csv")

    def prepare(self, task: Task) -> None:
        """Write scripts, stages and parameters, and commit them: queued experiments start from a commit."""
        super().prepare(task)
        stages = (HERE / "projects" / "dvc" / "dvc.yaml.template").read_text()
        for step in STEPS:
            script = self.code / f"{step}.py"
            stages = stages.replace(
                f"DEPS_{step}", ", ".join(f"code/{name}" for name in [script.name, *imported(script)])
            )
        (self.folder / "dvc.yaml").write_text(stages)
        if task.sweep:  # nothing of the sweep before
            self.close()
            self.call("-m", "dvc", "exp", "remove", "--all-commits", "--quiet")
        self.command("git", "add", "--all")
        self.command("git", "commit", "--quiet", "--allow-empty", "--message", task.mark)

    def write_arguments(self, given: dict[str, dict[str, list[str]]]) -> None:
        """Write params.yaml: train's C apart, because the queue sets it."""
        single = {**given.get("0", {}), **given["single"]}
        parameters: dict[str, dict[str, Any]] = {
            step: {"arguments": " ".join(arguments)} for step, arguments in single.items()
        }
        if "--C" in single["train"]:
            place = single["train"].index("--C")
            rest = single["train"][:place] + single["train"][place + 2 :]
            parameters["train"] = {"C": float(single["train"][place + 1]), "arguments": " ".join(rest)}
        else:
            parameters["train"]["C"] = 1.0
        (self.folder / "params.yaml").write_text(yaml.safe_dump(parameters))

    def run(self, task: Task) -> float:
        """Return the seconds of the commands."""
        return timed(lambda: self._sweep(task.sweep) if task.sweep else self.call("-m", "dvc", "repro", "--quiet"))

    def check(self, task: Task, since: float) -> None:
        """Count the results of a sweep, which lie in git; look at the files of anything else."""
        if not task.sweep:
            super().check(task, since)
        elif self._failed():
            raise RuntimeError("an experiment of the queue failed")

    def close(self) -> None:
        """End the queue's workers, which wait for more work a while longer: all that still has this home folder."""
        mark = f"HOME={self.environment['HOME']}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)
            except (ProcessLookupError, FileNotFoundError, PermissionError):
                continue  # it has ended, or is somebody else's
        shutil.rmtree(self.folder / ".dvc" / "tmp" / "exps", ignore_errors=True)

    def _put_on_path(self) -> None:
        # The queue's workers look for a program named dvc; the environment's own names a path from before it was moved.
        program = self.folder / "home" / "bin" / "dvc"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{self.python}" -m dvc "$@"\n')
        program.chmod(0o755)
        self.environment["PATH"] = f"{program.parent}{os.pathsep}{self.environment['PATH']}"

    def _sweep(self, values: Sequence[str]) -> None:
        self.call("-m", "dvc", "repro", "--quiet", "preprocess")
        self.call("-m", "dvc", "exp", "run", "--quiet", "--queue", "--set-param", f"train.C={','.join(values)}")
        self.call("-m", "dvc", "queue", "start", "--quiet", "--jobs", "2")
        deadline = time.monotonic() + SECONDS
        while len(self._finished()) < len(values):
            if time.monotonic() > deadline or self._failed():
                raise PeerFailed(self.call("-m", "dvc", "queue", "status"))
            time.sleep(0.1)

    def _finished(self) -> list[str]:
        names = self.command("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
        return [name for name in names if name.split("/")[2] not in ("celery", "exec", "stash")]

    def _failed(self) -> str:
        return self.command("git", "for-each-ref", "refs/exps/celery/failed")


class Metaflow(Project):
    """A flow whose steps each get a process."""

    peer = name = "metaflow"
    note = (
        "local metadata and datastore, no cards. It has no cache by content: nothing changed is a whole `run`; the "
        "user says from where to `resume` (end, train); the sweep as a foreach, two at a time"
    )
    same_as_first = ("nothing changed",)
    settings: ClassVar = {
        "METAFLOW_USER": "bench",
        "METAFLOW_HOME": "{folder}/home",
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": "{folder}",
        "METAFLOW_DEFAULT_METADATA": "local",
        "METAFLOW_DEFAULT_DATASTORE": "local",
    }

    def run(self, task: Task) -> float:
        """Return the seconds of the command."""
        if task.sweep:
            return timed(lambda: self.call("sweep_flow.py", "--quiet", "run", "--max-workers", "2"))
        start = {"evaluate.py changed": "end", "argument of train changed": "train"}.get(task.case)
        return timed(lambda: self.call("flow.py", "--quiet", *(["resume", start] if start else ["run"])))


class Zenml(Project):
    """A pipeline on the local orchestrator."""

    peer = name = "zenml"
    note = (
        "local orchestrator and store, no server; cached by step code, parameters, inputs and `file_dependencies`; "
        "step logs off; the sweep in one pipeline, one after another: scripts find their folder in the process's "
        "environment, so threads cannot run them"
    )
    settings: ClassVar = {
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_CONFIG_PATH": "{folder}/home/zenml",
        "ZENML_LOGGING_VERBOSITY": "WARN",
        "ZENML_DISABLE_STEP_LOGS_STORAGE": "true",
        "ZENML_DISABLE_PIPELINE_LOGS_STORAGE": "true",
        "ZENML_ENABLE_RICH_TRACEBACK": "false",
        "ZENML_ENABLE_REPO_INIT_WARNINGS": "false",
        "ZENML_DISABLE_INTERACTIVE_INPUT": "true",
    }

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.call("-c", "from zenml_cli import cli; cli()", "init")  # makes the database too

    def prepare(self, task: Task) -> None:
        """Write scripts and arguments, and for each step the files that the cache has to look at."""
        super().prepare(task)
        scripts = {step: self.code / f"{step}.py" for step in STEPS}
        files = {step: [f"code/{name}" for name in [file.name, *imported(file)]] for step, file in scripts.items()}
        (self.folder / "files.json").write_text(json.dumps(files))

    def run(self, task: Task) -> float:
        """Return the seconds of the command."""
        return timed(lambda: self.call("run.py", *(["sweep"] if task.sweep else [])))


PEERS: dict[str, list[type[Project]]] = {
    "kedro": [Kedro, WarmKedro],
    "dvc": [Dvc],
    "metaflow": [Metaflow],
    "zenml": [Zenml],
}
