"""One host of a job on each kind of machine: with namespaces, with Python below /tmp, and without namespaces."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from users import NOBODY, become, why_not

from helpers.local_aws.workers import agent, isolation, scripts
from helpers.local_aws.workers.channel import Channel

MARK = f"{os.getpid()}.03125"  # a length of sleep that nobody else uses

SCRIPT = f"""
import json, os, subprocess, tempfile
from pathlib import Path
base = Path(os.environ.get("PROCESSING_DIR", "/opt/ml/processing"))
subprocess.Popen(["sleep", "{MARK}"])
facts = [Path(tempfile.gettempdir()).samefile(os.getcwd()), os.access(os.environ["HOME"], os.W_OK)]
facts.append(json.loads((base.parent / "config/resourceconfig.json").read_text())["current_host"])
(base.parent / "output/message").write_text(json.dumps([*facts, (base / "output").is_dir()]))
"""


def run_agent(
    folder: Path,
    *,
    isolated: bool,
    python_in_tmp: bool = False,
    command: tuple[str, ...] = ("python3", "-c", SCRIPT),
    user: int | None = None,
) -> list[dict[str, Any]]:
    """Run the agent in a fork, as the warm process does, and return its messages."""
    task = {
        "folder": str(folder),
        "hidden": [str(folder.parent)],
        "config": {
            "ProcessingInputs": [],
            "ProcessingOutputConfig": {
                "Outputs": [
                    {
                        "S3Output": {
                            "LocalPath": "/opt/ml/processing/output",
                            "S3Uri": "s3://b/o",
                            "S3UploadMode": "EndOfJob",
                        }
                    }
                ]
            },
            "AppSpecification": {"ContainerEntrypoint": list(command), "ContainerArguments": None},
            "Environment": {},
        },
        "host": "algo-1",
        "hosts": ["algo-1"],
        "credentials": {},
        "endpoint_url": "http://127.0.0.1:9",
        "region": "us-east-1",
        "log_stream": "job/algo-1",
        "network": True,
        "max_runtime": 600,
        "grace": 1.0,
    }
    ours, theirs = socket.socketpair()
    asking, asked = socket.socketpair()
    large = os.fork()
    if large == 0:
        for end in (ours, theirs, asking):
            end.close()
        become(os.getuid() if user is None else user)
        scripts.serve(asked, load=lambda: None)
        os._exit(0)
    asked.close()
    small = os.fork()
    if small == 0:
        ours.close()
        become(os.getuid() if user is None else user)
        sys.path[:] = [path for path in sys.path if not Path(path).is_relative_to("/tmp")]
        sys.path += ["/tmp/python"] if python_in_tmp else []
        if isolated:
            isolation.own_users()
            isolation.make_place()
            socket.send_fds(asking, [b"u"], [isolation.users()])
        else:
            asking.send(b"-")
        agent.main(Channel(theirs), asking, isolated)
        os._exit(0)
    theirs.close()
    asking.close()
    channel = Channel(ours)
    channel.send(task)
    messages = []
    for message in channel:
        if message.content["event"] == "request":
            channel.send({"event": "answer", "status": 503}, b"{}")
        elif message.content["event"] == "processes":
            for file in message.files:
                os.close(file)
        else:
            messages.append(message.content)
    channel.close()
    for child in (small, large):
        os.waitpid(child, 0)
    return messages


@pytest.mark.parametrize("kind", ["isolated", "isolated, python in /tmp", "not isolated"])
def test_a_host_runs_its_entrypoint_and_leaves_nothing_behind(tmp_path: Path, kind: str) -> None:
    isolated = kind != "not isolated"
    if isolated and (reason := why_not(os.getuid())):
        pytest.skip(reason)
    folder = tmp_path / "host"
    folder.mkdir()
    messages = run_agent(folder, isolated=isolated, python_in_tmp="/tmp" in kind)
    assert [message["event"] for message in messages] == ["started", "ended"]
    assert (messages[1]["code"], messages[1]["failure"]) == (0, "")
    assert messages[1]["message"] == '[true, true, "algo-1", true]'
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"sleep {MARK}" not in listing


def test_an_ordinary_user_s_host_tells_how_its_entrypoint_ended() -> None:
    user = os.getuid() or NOBODY
    if reason := why_not(user):
        pytest.skip(reason)
    base = Path(tempfile.mkdtemp(prefix="agent-"))  # not below pytest's, which only its owner may enter
    try:
        folder = base / "host"
        folder.mkdir()
        for path in (base, folder):
            path.chmod(0o777)
        script = "echo $$ $UID > /opt/ml/output/message; exit 3"
        messages = run_agent(folder, isolated=True, command=("bash", "-c", script), user=user)
    finally:
        shutil.rmtree(base)
    assert [message["event"] for message in messages] == ["started", "ended"]
    assert (messages[1]["code"], messages[1]["message"]) == (3, f"2 {user}\n")
