"""From push to metrics, against the same four scripts run by hand: ``make bench``.

Both on the full data set, in turn, in the same run, so that their ratio holds
when the machine's speed drifts. Prints medians with minimum and maximum.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import boto3
import yaml

from helpers import connect, dataset, notebooks, repository, runs

STEPS = {
    "preprocess": ["--test-size", "0.2", "--seed", "0"],
    "train": ["--C", "1.0"],
    "predict": [],
    "evaluate": [],
}
INPUTS = {"preprocess": (), "train": ("preprocess",), "predict": ("preprocess", "train")}
INPUTS["evaluate"] = ("preprocess", "train", "predict")


def main() -> None:
    """Time both ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each, after one that is not counted")
    counted = parser.parse_args().runs
    with notebooks.fresh_embedded_aws():
        for number in ("00", "02"):
            notebooks.run([number])
        push = pusher()
        by_hand, pushed = [], []
        for turn in range(counted + 1):
            by_hand.append(timed(run_by_hand))
            pushed.append(timed(lambda turn=turn: push(turn)))
    show("four scripts by hand", by_hand[1:])
    show("git push to metrics", pushed[1:])
    ratios = [ours / theirs for ours, theirs in zip(pushed[1:], by_hand[1:], strict=True)]
    print(f"{'ratio, pair by pair':24}{statistics.median(ratios):8.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")


def run_by_hand() -> None:
    """Run the scripts one after another, each in a Python of its own, handing files on by linking folders."""
    with tempfile.TemporaryDirectory() as folder:
        for step, arguments in STEPS.items():
            root = Path(folder) / step
            (root / "input").mkdir(parents=True)
            (root / "output").mkdir()
            if step == "preprocess":
                (root / "input" / "census-income.csv").symlink_to(dataset.path())
            for source in INPUTS[step]:
                (root / "input" / source).symlink_to(Path(folder) / source / "output")
            subprocess.run(
                [sys.executable, str(notebooks.PROJECT / "code" / f"{step}.py"), *arguments],
                env={**os.environ, "PROCESSING_DIR": str(root)},
                check=True,
                capture_output=True,
            )


def pusher() -> Callable[[int], None]:
    """Return a function that pushes one more experiment and waits for its metrics."""
    workshop = connect()
    name = workshop.name(workshop.project)
    clone = workshop.work_dir / name
    s3 = boto3.client("s3")
    url = boto3.client("codecommit").get_repository(repositoryName=name)["repositoryMetadata"]["cloneUrlHttp"]
    repository.ensure_clone(url, clone, author="Bench", email="bench@example.com")
    for script in (notebooks.PROJECT / "code").glob("*.py"):
        shutil.copy(script, clone / script.name)
    experiment = yaml.safe_load((notebooks.PROJECT / "code" / "experiment.yml").read_text())
    experiment["preprocess"]["args"], experiment["train"]["args"] = STEPS["preprocess"], STEPS["train"]

    def push(turn: int) -> None:
        experiment["comment"] = f"run {turn}"
        (clone / "experiment.yml").write_text(yaml.safe_dump(experiment))
        pushed = repository.commit_and_push(clone, f"run {turn}")
        runs.wait_for_answer(s3, workshop.bucket, name, pushed.commit, every=0.05)
        while True:
            try:
                runs.read_metrics(s3, workshop.bucket, name, pushed.commit)
            except KeyError:
                time.sleep(0.05)
            else:
                return

    return push


def timed(call: Callable[[], None]) -> float:
    """Return the seconds that ``call`` takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def show(name: str, seconds: list[float]) -> None:
    """Print a row: median, minimum and maximum."""
    print(f"{name:24}{statistics.median(seconds):8.2f} s  ({min(seconds):.2f} to {max(seconds):.2f})")


if __name__ == "__main__":
    main()
