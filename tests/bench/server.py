"""The embedded AWS itself: from start to ready, many executions, and the table of many runs."""

import copy
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bench.experiment import Task
from bench.figures import memory, timed, tree_memory
from bench.ours import Ours, StartExecution, embedded_aws

from helpers import runs
from helpers.local_aws import control

SIZES = (1, 10, 100, 1000)
TABLES = (10, 100, 1000)
AT_ONCE = 8
SETTLED = 10  # executions before memory is looked at for the first time: everything is loaded then
METRICS = {"roc_auc": 0.843, "accuracy": 0.753, "precision": 0.28, "recall": 0.78, "f1": 0.42}

Rows = dict[str, list[float]]


def ready(folder: Path, turns: int) -> Rows:
    """Return seconds from the command to ready, in a new state folder each time, and the memory of all its processes.

    "when ready": once its workers have loaded what keeps them warm. "after a run": after a push of four no-op steps.
    """
    rows: Rows = {"start to ready, s": [], "all processes when ready, MB": [], "all processes after a run, MB": []}
    for turn in range(turns):
        state = folder / f"ready-{turn}"
        command = [sys.executable, "-m", "helpers.local_aws", "start", "--state-dir", str(state)]
        start = timed(
            lambda command=command: subprocess.run(command, cwd=control.PROJECT, check=True, capture_output=True)
        )
        rows["start to ready, s"].append(start)
        with embedded_aws(state) as embedded:
            rows["all processes when ready, MB"].append(settled_memory(embedded.server.pid))
            ours = Ours(folder / f"ready-clone-{turn}", embedded, full=False)
            task = Task("memory", str(turn), nothing=True)
            ours.prepare(task)
            ours.run(task)
            rows["all processes after a run, MB"].append(tree_memory(embedded.server.pid))
    return rows


def settled_memory(pid: int) -> float:
    """Return the megabytes of all processes once they have stopped growing, or after 20 seconds."""
    before, deadline = 0.0, time.monotonic() + 20
    while (now := tree_memory(pid)) > before + 1 and time.monotonic() < deadline:
        before = now
        time.sleep(1)
    return now


def growth(folder: Path, sizes: tuple[int, ...], found: dict[str, Rows], say: Callable[[str], None]) -> None:
    """Put into ``found``, by way and number of executions, the seconds per execution and the server's megabytes then.

    Each way has an embedded AWS of its own, which goes from one number to the next. Executions are those of four
    jobs that do nothing. Megabytes are more than before the first of them: of the server's process, of all processes.
    """
    for way, at_once in (("one after another", 1), (f"{AT_ONCE} at a time", AT_ONCE)):
        with embedded_aws(folder / f"growth-{at_once}") as embedded:
            pid = embedded.server.pid
            simple = StartExecution(Ours(folder / f"growth-clone-{at_once}", embedded, full=False))
            repeat(simple, SETTLED, at_once)
            before = memory(pid), tree_memory(pid)
            for size in sizes:
                seconds = timed(lambda simple=simple, size=size, at_once=at_once: repeat(simple, size, at_once)) / size
                grown = memory(pid) - before[0], tree_memory(pid) - before[1]
                found.setdefault(way, {})[str(size)] = [seconds, *grown]
                say(f"{size:>5} executions {way}: {seconds:.3f} s each, {grown[0]:+.1f} MB")


def repeat(simple: StartExecution, number: int, at_once: int) -> None:
    """Run ``number`` executions to their ends, so many at once."""
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda _: simple.run(), range(number)))


def table(folder: Path, turns: int, sizes: tuple[int, ...] = TABLES) -> Rows:
    """Return for each number of runs the seconds that their table takes.

    The runs are copies of what one real push left, with commits and metrics of their own.
    """
    rows: Rows = {}
    with embedded_aws(folder / "table") as embedded:
        ours = Ours(folder / "table-clone", embedded, full=False)
        task = Task("table", "a run", nothing=True)
        ours.prepare(task)
        commit, _ = ours.push()
        s3, region = embedded.client("s3"), embedded.server.region
        objects = _objects(s3, ours.bucket, f"runs/{ours.repository}/{commit}/")
        for size in sizes:
            name = f"runs-of-{size}"
            _write_runs(s3, ours.bucket, name, objects, size)
            made = runs.table(ours.s3, ours.bucket, name, region=region)
            if len(made) != size or not (made["status"] == "finished").all():
                raise RuntimeError(f"the table of {size} runs has {len(made)} rows")
            read = lambda name=name: runs.table(ours.s3, ours.bucket, name, region=region)  # noqa: E731
            rows[str(size)] = [timed(read) for _ in range(turns)]
    return rows


def _objects(s3: Any, bucket: str, prefix: str) -> dict[str, bytes]:
    found = s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    return {
        item["Key"].removeprefix(prefix): s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in found
    }


def _write_runs(s3: Any, bucket: str, name: str, objects: dict[str, bytes], number: int) -> None:
    """Write ``number`` runs of the repository ``name``: everything that a run leaves, with a manifest of its own."""
    pattern = json.loads(objects["manifest.json"])
    started, ended = (datetime.fromisoformat(pattern[key]) for key in ("started", "ended"))

    def write(index: int) -> None:
        commit, later = uuid.uuid4().hex + "00000000", timedelta(minutes=index)
        made = copy.deepcopy(pattern)
        made |= {"repository": name, "commit": commit, "comment": f"run {index}"}
        made |= {"started": (started + later).isoformat(), "ended": (ended + later).isoformat()}
        made["variants"][0]["metrics"] = {key: round(value + index / 1e5, 5) for key, value in METRICS.items()}
        for key, content in objects.items():
            body = json.dumps(made).encode() if key == "manifest.json" else content
            s3.put_object(Bucket=bucket, Key=f"runs/{name}/{commit}/{key}", Body=body)

    with ThreadPoolExecutor(AT_ONCE) as writers:
        list(writers.map(write, range(number)))
