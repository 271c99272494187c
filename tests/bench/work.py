"""Programs run by other services, many at once, and uploads that start functions: what all of it adds."""

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.figures import timed
from bench.ours import EVERY, FINAL, embedded_aws
from container_lab import KINDS, RESOURCES, ContainerLab
from uploads import Uploads

NOTHING = "pass"
BURST = {"jobs": 100, "uploads": 200}
AT_ONCE = 2

Rows = dict[str, list[float]]


def work(folder: Path, turns: int) -> Rows:
    """Return by what was done the seconds that it took, turn by turn; one turn before them is not counted."""
    rows: Rows = {}
    with embedded_aws(folder / "work") as embedded:
        lab, uploads = ContainerLab(embedded), Uploads(embedded)
        uploads.permit()
        uploads.notify()
        calls = {
            "a program, by hand": by_hand,
            **{f"a program, {RESOURCES[kind][17:]}.sync": execution_of(lab, kind) for kind in KINDS},
            f"{BURST['jobs']} programs, by hand, {AT_ONCE} at a time": lambda: at_once(by_hand, BURST["jobs"]),
            f"{BURST['jobs']} programs, Batch jobs": lambda: batch_jobs(lab, BURST["jobs"]),
            f"{BURST['uploads']} calls of a function, {AT_ONCE} at a time": lambda: invoked(uploads, BURST["uploads"]),
            f"{BURST['uploads']} uploads, each calls a function": lambda: uploaded(uploads, BURST["uploads"]),
        }
        for turn in range(turns + 1):
            for what, call in calls.items():
                seconds = timed(call)
                if turn:
                    rows.setdefault(what, []).append(seconds)
    return rows


def by_hand() -> None:
    """Start a Python that does nothing."""
    subprocess.run([sys.executable, "-c", NOTHING], check=True)


def at_once(call: Callable[[], object], number: int) -> None:
    """Make a call so many times, AT_ONCE at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda _: call(), range(number)))


def execution_of(lab: ContainerLab, kind: str) -> Callable[[], None]:
    """Return what starts a state machine whose one state runs the program as work of a kind, and waits for it."""
    machine = lab.machine({"only": lab.work(kind, NOTHING)}, role=lab.work_role)

    def run() -> None:
        execution = lab.start(machine)
        ended = wait(
            lambda: (found := lab.states.describe_execution(executionArn=execution))["status"] in FINAL and found
        )
        if ended["status"] != "SUCCEEDED":
            raise RuntimeError(f"{kind}: {ended.get('error')}: {ended.get('cause')}")

    return run


def batch_jobs(lab: ContainerLab, number: int) -> None:
    """Submit jobs one by one, and wait until all have succeeded."""
    named = {"jobName": "burst", "jobQueue": lab.name, "jobDefinition": lab.name}
    jobs = [lab.batch.submit_job(**named)["jobId"] for _ in range(number)]

    def ended() -> bool:
        statuses = [job["status"] for job in lab.batch.describe_jobs(jobs=jobs)["jobs"]]
        if "FAILED" in statuses:
            raise RuntimeError(f"{statuses.count('FAILED')} of {number} Batch jobs failed")
        return statuses.count("SUCCEEDED") == number

    wait(ended)


def invoked(uploads: Uploads, number: int) -> None:
    """Call the function by hand with an event of one record, and wait for each answer."""
    event = b'{"Records": [{}]}'
    at_once(lambda: uploads.lambdas.invoke(FunctionName=uploads.name, Payload=event), number)


def uploaded(uploads: Uploads, number: int) -> None:
    """Upload objects one by one, and wait until the function has written down each of them."""
    before = uploads.deliveries().total()
    for index in range(number):
        uploads.put(f"{index}.csv")
    wait(lambda: uploads.deliveries().total() >= before + number)


def wait(look: Callable[[], Any]) -> Any:
    """Return the first true value of ``look``. Raises TimeoutError after two minutes."""
    deadline = time.monotonic() + 120
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError("it did not happen within two minutes")
        time.sleep(EVERY)
    return found
