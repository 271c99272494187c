"""The phases of a build, as its agent goes through them: with a real shell, and without AWS."""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from wheels import wheel

from helpers.local_aws.builds import artifacts, buildspec, sources
from helpers.local_aws.builds.agent import Agent
from helpers.local_aws.builds.problems import PhaseProblem
from helpers.local_aws.builds.shell import Shell


class Server:
    """Takes what a build reports."""

    def __init__(self, spec: str, variables: list[dict], privileged: bool) -> None:
        self._spec, self._variables, self._privileged = spec, variables, privileged
        self.reports: list[dict[str, Any]] = []

    def task(self) -> dict[str, Any]:
        return {
            "id": "project:1",
            "arn": "arn:aws:codebuild:us-east-1:123456789012:build/project:1",
            "number": 7,
            "project_arn": "arn:aws:codebuild:us-east-1:123456789012:project/project",
            "image": "aws/codebuild/standard:7.0",
            "initiator": "somebody",
            "log_path": "stream",
            "start_time": 1000,
            "privileged": self._privileged,
            "variables": self._variables,
            "source": {"type": "NO_SOURCE", "buildspec": self._spec},
            "artifacts": {"type": "NO_ARTIFACTS"},
        }

    def report(self, content: dict[str, Any]) -> None:
        self.reports.append({**content, "phases": [dict(phase) for phase in content["phases"]]})

    @property
    def last(self) -> dict[str, Any]:
        return self.reports[-1]

    def statuses(self) -> dict[str, str]:
        return {phase["type"]: phase.get("status", "") for phase in self.last["phases"]}


class Builds:
    """Runs buildspecs; ``output`` is what the last one printed."""

    def __init__(self, folder: Path, capfd: Any) -> None:
        self._folder, self._capfd, self._count = folder, capfd, 0
        self.output = ""

    def run(self, text: str, *, privileged: bool = False, **variables: str) -> Server:
        self._count += 1
        room = self._folder / f"room-{self._count}"
        given = [{"name": name, "value": value, "type": "PLAINTEXT"} for name, value in variables.items()]
        server = Server(text, given, privileged)
        Agent(server, {"PATH": os.environ["PATH"], "HOME": str(self._folder)}, room).build()  # type: ignore[arg-type]
        self.output = self._capfd.readouterr().out
        return server

    def phases(self, **commands: str) -> Server:
        lines = [f"  {name}:\n    commands:\n      - '{line}'\n" for name, line in commands.items()]
        return self.run("version: 0.2\nphases:\n" + "".join(lines))

    def printed(self) -> list[str]:
        """Return what commands printed, without what the agent did."""
        return [line for line in self.output.splitlines() if not line.startswith("[Container]")]


@pytest.fixture
def builds(tmp_path, capfd):
    return Builds(tmp_path, capfd)


def test_all_phases_are_gone_through(builds):
    server = builds.phases(build="echo hello")
    assert server.statuses() == {
        **dict.fromkeys(("DOWNLOAD_SOURCE", "INSTALL", "PRE_BUILD", "BUILD", "POST_BUILD"), "SUCCEEDED"),
        **dict.fromkeys(("UPLOAD_ARTIFACTS", "FINALIZING"), "SUCCEEDED"),
        "COMPLETED": "",
    }
    assert server.last["status"] == "SUCCEEDED"
    assert "Running command echo hello" in builds.output
    assert builds.printed() == ["hello"]


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_variables_and_directory_carry_over(builds, shell):
    text = f"""version: 0.2
env: {{shell: {shell}, exported-variables: [A, NONE]}}
phases:
  pre_build:
    commands: ['A="x y"', 'mkdir deep && cd deep', 'f() {{ echo "f $1"; }}']
  build:
    commands: ['echo "$A ${{PWD##*/}}"', 'f 1', 'cd ..', 'echo "${{PWD##*/}}"']
"""
    server = builds.run(text)
    assert builds.printed() == ["x y deep", "f 1", "src"]
    assert server.last["exported"] == [{"name": "A", "value": "x y"}, {"name": "NONE", "value": ""}]


def test_a_failing_command_ends_its_phase_with_the_reason(builds):
    server = builds.phases(pre_build="echo before; exit 3", build="echo never")
    assert server.last["status"] == "FAILED"
    assert list(server.statuses()) == ["DOWNLOAD_SOURCE", "INSTALL", "PRE_BUILD", "FINALIZING", "COMPLETED"]
    (context,) = next(phase for phase in server.last["phases"] if phase["type"] == "PRE_BUILD")["contexts"]
    assert context == {
        "statusCode": "COMMAND_EXECUTION_ERROR",
        "message": "Error while executing command: echo before; exit 3. Reason: exit status 3",
    }


def test_after_a_failed_build_post_build_runs_and_knows(builds):
    server = builds.phases(build="false", post_build="echo succeeding $CODEBUILD_BUILD_SUCCEEDING")
    assert builds.printed() == ["succeeding 0"]
    assert server.statuses()["UPLOAD_ARTIFACTS"] == "SUCCEEDED"
    assert server.last["status"] == "FAILED"


def test_what_a_command_that_ended_the_shell_had_set_is_kept_as_far_as_it_was_exported(builds):
    builds.phases(pre_build="export A=1; mkdir d; cd d", build="exit 4", post_build='echo "$A ${PWD##*/}"')
    assert builds.printed() == ["1 d"]


@pytest.mark.parametrize(
    ("phase", "on_failure", "printed"),
    [("install", "CONTINUE", ["later"]), ("build", "ABORT", []), ("install", "ABORT", [])],
)
def test_on_failure_decides_what_follows(builds, phase, on_failure, printed):
    text = f"""version: 0.2
phases:
  {phase}:
    on-failure: {on_failure}
    commands: ['false']
  post_build:
    commands: ['echo later']
"""
    server = builds.run(text)
    assert (builds.printed(), server.last["status"]) == (printed, "FAILED")


def test_finally_runs_after_a_failure_too(builds):
    server = builds.run(
        "version: 0.2\nphases:\n  build:\n    commands: ['false', 'echo no']\n    finally: ['echo yes']\n"
    )
    assert (builds.printed(), server.statuses()["BUILD"]) == (["yes"], "FAILED")


def test_variables_of_the_project_go_over_those_of_the_buildspec(builds):
    text = "version: 0.2\nenv: {variables: {A: spec, B: spec}}\nphases: {build: {commands: ['echo $A $B']}}\n"
    builds.run(text, A="project")
    assert builds.printed() == ["project spec"]


def test_a_build_knows_about_itself(builds):
    names = "BUILD_ID BUILD_ARN BUILD_NUMBER BUILD_IMAGE INITIATOR START_TIME LOG_PATH BUILD_SUCCEEDING PROJECT_ARN"
    builds.phases(build="echo " + " ".join(f"$CODEBUILD_{name}" for name in names.split()))
    arn = "arn:aws:codebuild:us-east-1:123456789012"
    assert builds.printed() == [
        f"project:1 {arn}:build/project:1 7 aws/codebuild/standard:7.0 somebody 1000 stream 1 {arn}:project/project"
    ]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("version: 0.2\nphases:\n  biuld: {}\n", "line 3: unknown key phases.biuld"),
        ("", "no such file or directory"),
        ("../../elsewhere.yml", "is not in the source"),
    ],
)
def test_a_buildspec_that_cannot_be_used_fails_the_download_of_the_source(builds, spec, said):
    server = builds.run(spec)
    assert list(server.statuses()) == ["DOWNLOAD_SOURCE", "FINALIZING", "COMPLETED"]
    (context,) = server.last["phases"][0]["contexts"]
    assert context["statusCode"] == "YAML_FILE_ERROR"
    assert said in context["message"]


def test_runtime_versions_say_which_python_it_is(builds):
    builds.run("version: 0.2\nphases: {install: {runtime-versions: {python: 3.12}}}\n")
    assert "python 3.12 stands for this machine's Python 3." in builds.output


def test_docker_needs_a_privileged_build(builds):
    server = builds.phases(build="docker --version && docker build . 2>&1")
    assert server.last["status"] == "FAILED"
    assert "Cannot connect to the Docker daemon" in builds.output


def test_docker_builds_images(builds):
    text = """version: 0.2
phases:
  build:
    commands:
      - printf 'FROM python:3.12\\nWORKDIR /app\\nCOPY Dockerfile .\\n' > Dockerfile
      - docker build -q -t name:1 -f Dockerfile . > first
      - docker build -q . > second && cmp first second
      - docker tag name:1 other && docker images
      - docker run name:1 || docker push other:2 || docker push other || true
"""
    server = builds.run(text, privileged=True)
    assert server.last["status"] == "SUCCEEDED", builds.output
    assert [line.split()[:2] for line in builds.printed() if line.startswith(("name", "other"))] == [
        ["name", "1"],
        ["other", "latest"],
    ]


def test_commands_may_install_packages_without_changing_this_environment(builds, tmp_path):
    place = wheel(tmp_path / "wheels")
    server = builds.phases(
        build=f'pip install --quiet --no-index {place} && tiny && python -c "import tiny, boto3; tiny.main()"'
    )
    assert server.last["status"] == "SUCCEEDED", builds.output
    assert builds.printed() == ["tiny 1.0", "tiny 1.0"]
    with pytest.raises(ModuleNotFoundError):
        __import__("tiny")


def test_a_shell_survives_what_commands_do_to_it(tmp_path, capfd):
    folder = tmp_path / "commands"
    folder.mkdir()
    shell = Shell("sh", tmp_path, {"PATH": os.environ["PATH"]}, folder)
    lines = ("kill -9 $$", "if", "cat", "(exit 5)", "sleep 600 & echo $! > pid", "true")
    assert [shell.run(line) for line in lines] == [137, 2, 0, 5, 0, 0]
    shell.set("A", "it's")
    assert (shell.value("A"), shell.value("B")) == ("it's", "")
    shell.close()
    os.kill(int((tmp_path / "pid").read_text()), 9)


def spec_of(**more: Any) -> buildspec.Artifacts:
    return buildspec.Artifacts(**{"files": ("**/*",), **more})


def test_artifacts_are_found_by_patterns(tmp_path):
    for path in ("a.txt", "out/b.txt", "out/deep/c.txt", "out/d.tmp"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")

    def found(**more: Any) -> list[str]:
        return list(artifacts.find(tmp_path, spec_of(**more)))

    assert found() == ["a.txt", "out/b.txt", "out/d.tmp", "out/deep/c.txt"]
    assert found(base_directory="out", exclude=("*.tmp",)) == ["b.txt", "deep/c.txt"]
    assert found(files=("out/*.txt",), discard_paths=True) == ["b.txt"]
    for bad in ({"files": ("none",)}, {"files": ("../x",)}, {"files": ("/etc/passwd",)}, {"base_directory": ".."}):
        with pytest.raises(PhaseProblem):
            artifacts.find(tmp_path, spec_of(**bad))


def source(**files: bytes) -> bytearray:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return bytearray(packed.getvalue())


def test_a_source_stays_in_its_folder(tmp_path):
    (tmp_path / "source.zip").write_bytes(source(**{"..__..__out": b"x", "__abs__out": b"x"}))
    (tmp_path / "src").mkdir()
    sources.unpack(tmp_path / "source.zip", tmp_path / "src", "bucket/key")
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("out")}
    assert found == {"src/out", "src/abs/out"}


@pytest.mark.parametrize("broken", ["data", "encrypted", "clash", "half"])
def test_a_source_that_cannot_be_unpacked_is_the_clients_error(tmp_path, broken):
    data = source(a=os.urandom(999)) if broken != "clash" else source(a=b"", a__b=b"")
    if broken == "data":
        data[40:60] = b"\xff" * 20
    elif broken == "encrypted":
        data[data.index(b"PK\x01\x02") + 8] |= 1
        data[6] |= 1
    elif broken == "half":
        del data[40:500]
    (tmp_path / "source.zip").write_bytes(data)
    with pytest.raises(PhaseProblem, match="the source bucket/key cannot be unpacked"):
        sources.unpack(tmp_path / "source.zip", tmp_path, "bucket/key")
