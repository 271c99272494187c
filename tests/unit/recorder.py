"""The recorder's modules as its zip holds them, and the plan of a small sweep for tests."""

from typing import Any

from function_modules import load_function

from helpers import functions

FOLDER = functions.SOURCES / "run_recorder"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"
EXECUTION = "arn:aws:states:us-east-1:123456789012:execution:demo-exp-sweep:exp-1"
RUN = "runs/demo-exp-project1/0123456789abcdef0123456789abcdef01234567"
NEEDS = {
    "preprocess": (),
    "train": ("preprocess",),
    "predict": ("preprocess", "train"),
    "evaluate": ("preprocess", "train", "predict"),
}


manifests, handler = load_function(FOLDER, "manifest", "lambda_function")


def key(step: str, variant: int) -> str:
    """Return a job's key; preprocess is shared by all variants."""
    return f"{step}{0 if step == 'preprocess' else variant}".ljust(32, "0")


def item(step: str, variant: int, *, cached: bool = False) -> dict[str, Any]:
    """Return an item of plan.json."""
    own = key(step, variant)
    return {
        "step": step,
        "key": own,
        "job": f"demo-exp-{step}-{own[:12]}",
        "again": f"demo-exp-{step}-{own[:12]}-012345",
        "bucket": "bucket",
        "marker": f"steps/{step}/{own}/done.json",
        "needs": "",
        "failure": f"{RUN}/failures/{step}/{own}.json",
        "run": "exp-1",
        "ImageUri": IMAGE,
        "ContainerEntrypoint": ["python3", f"/opt/ml/processing/input/code/{step}.py"],
        "ContainerArguments": ["--C", "0.1"],
        "Environment": {},
        "InstanceCount": 1,
        "InstanceType": "ml.t3.medium",
        "VolumeSizeInGB": 10,
        "ProcessingInputs": [],
        "OutputUri": f"s3://bucket/steps/{step}/{own}/output/",
        "code": [f"{step}.py"],
        "inputs": {earlier: key(earlier, variant) for earlier in NEEDS[step]},
        "cached": cached,
    }


def plan(variants: int = 2, *, cached: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a plan.json with ``variants`` values of train's --C; jobs of the steps ``cached`` are."""
    changed = [{"train --C": f"{number}"} for number in range(variants)] if variants > 1 else [{}]
    steps = {
        step: [item(step, number, cached=step in cached) for number in range(1 if step == "preprocess" else variants)]
        for step in NEEDS
    }
    return {
        "id": "exp-1",
        "comment": "two values of C",
        "repository": "demo-exp-project1",
        "commit": RUN[-40:],
        "ref": "refs/heads/main",
        "author": "Ana",
        "pusher": "ana",
        "bucket": "bucket",
        "run": RUN,
        "run_uri": f"s3://bucket/{RUN}",
        "steps": steps,
        "variants": [
            {"changed": one, "jobs": {step: key(step, number) for step in NEEDS}} for number, one in enumerate(changed)
        ],
        "data": {"uri": "s3://bucket/dataset/census-income.csv", "version": "0" * 12, "objects": []},
        "estimate": {},
    }


def marker(step: str, variant: int, *, run: str = "exp-1", started: Any = 1000, ended: Any = 1036) -> dict[str, Any]:
    """Return a marker as the state machine writes it, of a job that took 36 seconds."""
    own = key(step, variant)
    times = {"created": started, "started": started, "ended": ended}
    named = {"key": own, "step": step, "job": f"demo-exp-{step}-{own[:12]}", "run": run}
    return {**named, **times, "instances": 1, "type": "ml.t3.medium"}
