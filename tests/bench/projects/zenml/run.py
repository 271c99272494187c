"""The experiment as a ZenML pipeline: ``python run.py [sweep]``."""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import in_process
from zenml import pipeline, step
from zenml.config import CachePolicy

PROJECT = Path(__file__).parent
VARIANTS = 8
# What ZenML has to look at besides a step's code and parameters: the script and the modules that it imports.
FILES = json.loads((PROJECT / "files.json").read_text())


def run(root: str, name: str, arguments: list[str]) -> str:
    """Run a step's script in this process; return a digest of what it wrote, by which ZenML sees that it changed."""
    folder = PROJECT / "work" / root / name
    in_process.run(PROJECT / "code", name, folder, arguments)
    digest = hashlib.sha256()
    for file in sorted((folder / "output").iterdir()):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def policy(name: str) -> CachePolicy:
    """Return what decides whether a step is run again."""
    return CachePolicy(file_dependencies=FILES[name])


@step(cache_policy=policy("preprocess"))
def preprocess(root: str, arguments: list[str]) -> Annotated[str, "features"]:
    """Run preprocess.py."""
    return run(root, "preprocess", arguments)


@step(cache_policy=policy("train"))
def train(features: str, root: str, arguments: list[str]) -> Annotated[str, "model"]:
    """Run train.py."""
    return run(root, "train", arguments)


@step(cache_policy=policy("predict"))
def predict(features: str, model: str, root: str, arguments: list[str]) -> Annotated[str, "predictions"]:
    """Run predict.py."""
    return run(root, "predict", arguments)


@step(cache_policy=policy("evaluate"))
def evaluate(features: str, model: str, predictions: str, root: str, arguments: list[str]) -> Annotated[str, "metrics"]:
    """Run evaluate.py."""
    return run(root, "evaluate", arguments)


@pipeline(enable_cache=True, enable_artifact_metadata=False, enable_step_logs=False, enable_heartbeat=False)
def experiment(arguments: dict[str, dict[str, list[str]]], roots: list[str]) -> None:
    """Run preprocess once and the other steps in each of ``roots``."""
    features = preprocess("single", arguments["single"]["preprocess"])
    for root in roots:
        model = train(features, root, arguments[root]["train"])
        predictions = predict(features, model, root, arguments[root]["predict"])
        evaluate(features, model, predictions, root, arguments[root]["evaluate"])


if __name__ == "__main__":
    os.chdir(PROJECT)
    given = json.loads((PROJECT / "arguments.json").read_text())
    experiment(given, [str(number) for number in range(VARIANTS)] if sys.argv[1:] == ["sweep"] else ["single"])
