"""The commands of the embedded AWS: start, env, status, logs, stop and reset, and what survives."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clients import IMAGE, allow, eventually, family, function_settings
from embedded_aws import Embedded
from test_git import Git

from helpers.local_aws import control

PULL = "ecr:GetAuthorizationToken ecr:BatchCheckLayerAvailability ecr:BatchGetImage ecr:GetDownloadUrlForLayer"


def command(*arguments: str, code: int = 0, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "helpers.local_aws", *arguments],
        cwd=control.PROJECT, env=env, capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """Give a state folder, and stop whatever a test started in it."""
    folder = tmp_path / "state"
    yield folder
    control.stop(folder)


def here(state: Path) -> Embedded:
    server = control.find(state)
    assert server is not None
    return Embedded(server)


def processes(state: Path) -> list[int]:
    """Return the processes that belong to a state folder: their command line or their environment names it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                is_zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                continue  # it has ended, or is somebody else's
            if str(state).encode() in told and not is_zombie:
                found.append(int(entry.name))
    return found


def is_gone(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# --- start, status, env, logs ---


def test_the_life_of_a_server(state: Path) -> None:
    folder = ("--state-dir", str(state))
    assert "stopped" in command("status", *folder, code=1)
    assert "not running" in command("env", *folder, code=1)
    started = command("start", *folder)
    url = here(state).endpoint_url
    assert f"started at {url}" in started
    assert f"runs already at {url}" in command("start", *folder)
    assert url in command("status", *folder)
    assert "runs already" in command("start", *folder, "--port", "1", code=1)
    command("logs", *folder)
    assert command("stop", *folder) == "embedded AWS stopped\n"
    assert command("stop", *folder) == "embedded AWS was not running\n"
    command("start", *folder)
    assert here(state).endpoint_url == url


def test_many_who_start_at_once_get_one_server(state: Path) -> None:
    ask = [sys.executable, "-m", "helpers.local_aws"]
    starts, looks = (
        [
            subprocess.Popen(
                [*ask, word, "--state-dir", str(state)], cwd=control.PROJECT, stdout=subprocess.PIPE, text=True
            )
            for _ in range(3)
        ]
        for word in ("start", "status")
    )
    told = [process.communicate(timeout=180)[0] for process in starts]
    assert all(here(state).endpoint_url in text for text in told), told
    assert sum("started at" in text for text in told) == 1
    for process in looks:
        process.communicate(timeout=180)


def test_a_port_may_be_chosen_and_a_taken_one_is_explained(state: Path) -> None:
    # This process's own, and below those of outgoing connections: nobody else takes it when it is free again.
    port = str(19_000 + os.getpid() % 1_000)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(port)))
        taken.listen()
        told = command("start", "--state-dir", str(state), "--port", port, code=1)
        assert "did not start" in told
        assert "address already in use" in told.lower()
    command("start", "--state-dir", str(state), "--port", port)
    assert here(state).endpoint_url == f"http://127.0.0.1:{port}"


def test_env_gives_a_shell_the_notebooks_role_or_the_administrator(embedded: Any) -> None:
    folder = str(embedded.state_dir)
    ask = "aws sts get-caller-identity --query Arn --output text"
    clean = {name: value for name, value in embedded.environment().items() if not name.startswith("AWS_")}
    notebook = "assumed-role/AmazonSageMaker-ExecutionRole-workshop/SageMaker"
    for option, owner in ((), notebook), (("--admin",), "user/workshop-admin"):
        exports = command("env", "--state-dir", folder, *option, env={**clean, "AWS_SESSION_TOKEN": "stale"})
        shell = ["bash", "-c", f"export AWS_SESSION_TOKEN=stale AWS_PROFILE=other; eval {shlex.quote(exports)}; {ask}"]
        done = subprocess.run(shell, env=clean, capture_output=True, text=True, check=True)
        assert done.stdout.strip().endswith(owner)


def test_two_state_folders_are_two_worlds(embedded: Any, state: Path) -> None:
    control.start(state)
    name = f"world-{uuid.uuid4().hex[:8]}"
    here(state).client("s3").create_bucket(Bucket=name)
    names = [bucket["Name"] for bucket in embedded.client("s3").list_buckets()["Buckets"]]
    assert name not in names


def test_the_same_key_is_kept_where_only_the_user_can_read_it(embedded: Any) -> None:
    assert (embedded.state_dir / "admin.json").stat().st_mode & 0o077 == 0
    assert embedded.state_dir.stat().st_mode & 0o077 == 0


# --- reset ---


def test_reset_deletes_a_state_folder_and_nothing_else(state: Path, tmp_path: Path) -> None:
    control.start(state)
    command("reset", "--state-dir", str(state))
    assert not state.exists()
    command("reset", "--state-dir", str(state))
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("x")
    assert "nothing was deleted" in command("reset", "--state-dir", str(precious), code=1)
    assert (precious / "thesis.tex").exists()


# --- what survives ---


def test_a_stop_loses_nothing(state: Path, tmp_path: Path) -> None:
    control.start(state)
    before, name = here(state), f"kept-{uuid.uuid4().hex[:8]}"
    admin, session = before.client("s3"), before.variables_of([allow("s3:*")])
    admin.create_bucket(Bucket=name)
    before.client("s3", session).put_object(Bucket=name, Key="k", Body=b"kept")
    role = before.make_role([allow("logs:*")], service="lambda.amazonaws.com")
    source = "def handler(event, context):\n    return 'kept'\n"
    before.client("lambda").create_function(**function_settings(name, role, source))
    before.client("lambda").invoke(FunctionName=name)
    machine_role = before.make_role([], service="states.amazonaws.com")
    definition = json.dumps({"StartAt": "a", "States": {"a": {"Type": "Pass", "End": True}}})
    machine = before.client("stepfunctions").create_state_machine(
        name=name, definition=definition, roleArn=machine_role
    )["stateMachineArn"]
    execution = before.client("stepfunctions").start_execution(stateMachineArn=machine)["executionArn"]
    ended(before, execution)
    url = before.client("codecommit").create_repository(repositoryName=name)["repositoryMetadata"]["cloneUrlHttp"]
    git = Git(before.environment(), tmp_path)
    git("clone", "-q", url, str(tmp_path / "work"))
    git("commit", "-q", "--allow-empty", "-m", "one", cwd=tmp_path / "work")
    git("push", "-q", "origin", "HEAD:main", cwd=tmp_path / "work")

    command("stop", "--state-dir", str(state))
    command("start", "--state-dir", str(state))

    after = here(state)
    assert after.client("s3", session).get_object(Bucket=name, Key="k")["Body"].read() == b"kept"
    assert after.client("lambda").invoke(FunctionName=name)["Payload"].read() == b'"kept"'
    assert after.client("iam").get_role(RoleName=role.rpartition("/")[2])["Role"]["Arn"] == role
    states = after.client("stepfunctions")
    assert states.describe_execution(executionArn=execution)["status"] == "SUCCEEDED"
    assert ended(after, states.start_execution(stateMachineArn=machine)["executionArn"])["status"] == "SUCCEEDED"
    git("commit", "-q", "--allow-empty", "-m", "two", cwd=tmp_path / "work")
    git("push", "-q", "origin", "HEAD:main", cwd=tmp_path / "work")
    branch = after.client("codecommit").get_branch(repositoryName=name, branchName="main")["branch"]
    assert branch["commitId"] == git("rev-parse", "HEAD", cwd=tmp_path / "work").strip()


def ended(embedded: Embedded, execution: str) -> dict[str, Any]:
    states = embedded.client("stepfunctions")

    def final() -> dict[str, Any] | None:
        found = states.describe_execution(executionArn=execution)
        return found if found["status"] != "RUNNING" else None

    return eventually(final)


# --- what is left running ---


def busy(state: Path) -> tuple[Embedded, str]:
    """Start a server with a job, a function at work and a warm one. Returns it and the job's name."""
    control.start(state)
    embedded = here(state)
    role = embedded.make_role([allow(PULL)])
    name = f"busy-{uuid.uuid4().hex[:8]}"
    embedded.client("sagemaker").create_processing_job(
        ProcessingJobName=name,
        RoleArn=role,
        AppSpecification={"ImageUri": IMAGE, "ContainerEntrypoint": ["python3", "-c", "import time; time.sleep(600)"]},
        ProcessingResources={
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.t3.medium", "VolumeSizeInGB": 1}
        },
    )
    source = "import time\ndef handler(event, context):\n    time.sleep(event)\n"
    function_role = embedded.make_role([], service="lambda.amazonaws.com")
    client = embedded.client("lambda")
    client.create_function(**function_settings(name, function_role, source, Timeout=600))
    client.invoke(FunctionName=name, Payload=b"0")
    client.invoke(FunctionName=name, Payload=b"600", InvocationType="Event")
    eventually(lambda: len(family(embedded.server.pid)) >= 6)
    return embedded, name


def test_a_stop_ends_jobs_and_functions(state: Path) -> None:
    embedded, _ = busy(state)
    running = family(embedded.server.pid)
    control.stop(state)
    eventually(lambda: all(map(is_gone, running)))
    eventually(lambda: not processes(state))


def test_a_killed_server_leaves_nothing_running_and_starts_again(state: Path) -> None:
    embedded, job = busy(state)
    bucket = f"kill-{uuid.uuid4().hex[:8]}"
    embedded.client("s3").create_bucket(Bucket=bucket)
    embedded.client("s3").put_object(Bucket=bucket, Key="k", Body=b"kept")
    running = family(embedded.server.pid)
    os.kill(embedded.server.pid, signal.SIGKILL)
    eventually(lambda: all(map(is_gone, running)))
    eventually(lambda: not processes(state))
    assert control.find(state) is None
    control.start(state)
    after = here(state)
    assert after.client("s3").get_object(Bucket=bucket, Key="k")["Body"].read() == b"kept"
    assert after.client("sagemaker").describe_processing_job(ProcessingJobName=job)["ProcessingJobStatus"] == "Failed"
