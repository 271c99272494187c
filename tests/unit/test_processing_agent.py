"""One host of a job on each kind of machine: with namespaces, with Python below /tmp, and without namespaces."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.local_aws.workers import agent, isolation
from helpers.local_aws.workers.forkserver import Channel

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


def run_agent(folder: Path, *, isolated: bool, python_in_tmp: bool) -> list[dict[str, Any]]:
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
            "AppSpecification": {"ContainerEntrypoint": ["python3", "-c", SCRIPT], "ContainerArguments": None},
            "Environment": {},
        },
        "host": "algo-1",
        "hosts": ["algo-1"],
        "credentials": {},
        "endpoint_url": "http://127.0.0.1:9",
        "region": "us-east-1",
        "log_stream": "job/algo-1",
        "network": True,
        "max_runtime": 60,
        "grace": 1.0,
    }
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        sys.path[:] = [path for path in sys.path if not Path(path).is_relative_to("/tmp")]
        sys.path += ["/tmp/python"] if python_in_tmp else []
        agent.main(Channel(theirs), isolated)
        os._exit(0)
    theirs.close()
    channel = Channel(ours)
    channel.send(task)
    messages = list(channel)
    channel.close()
    os.wait()
    return messages


@pytest.mark.parametrize("kind", ["isolated", "isolated, python in /tmp", "not isolated"])
def test_a_host_runs_its_entrypoint_and_leaves_nothing_behind(tmp_path: Path, kind: str) -> None:
    isolated = kind != "not isolated"
    if isolated and (reason := isolation.probe()):
        pytest.skip(reason)
    folder = tmp_path / "host"
    folder.mkdir()
    messages = run_agent(folder, isolated=isolated, python_in_tmp="/tmp" in kind)
    assert [message["event"] for message in messages] == ["started", "ended"]
    assert (messages[1]["code"], messages[1]["failure"]) == (0, "")
    assert messages[1]["message"] == '[true, true, "algo-1", true]'
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"sleep {MARK}" not in listing
