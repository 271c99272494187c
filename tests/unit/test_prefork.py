"""What the processes that jobs and functions are forked off still know of the user who started the server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import os, sys, time
from pathlib import Path
from helpers.local_aws import prefork

warm = prefork.start(Path(sys.argv[1]))
children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
assert len(children) == 3, children
deadline = time.monotonic() + 180
known = lambda: [child for child in children if b"secret" in Path(f"/proc/{child}/environ").read_bytes()]
while known() and time.monotonic() < deadline:  # each forgets it by itself, at its start
    time.sleep(0.02)
print(len(known()), os.environ["TOKEN"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_user_s_variables_are_not_in_what_jobs_and_functions_come_from(tmp_path: Path) -> None:
    environment = {**os.environ, "TOKEN": "secret"}
    command = [sys.executable, "-X", "utf8", "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (done.stdout, done.stderr) == ("0 secret\n", "")
