"""The scripts in code/ give the same metrics with the versions inside SageMaker's image as with ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from environments import ROOT, python_with

from helpers import dataset

REQUIREMENTS = Path(__file__).with_name("requirements-1.4-2.txt")

# One process runs the four steps, so that pandas and scikit-learn are imported once.
RUN_STEPS = """
import os, runpy, sys
sys.path.insert(0, sys.argv[1])  # as Python does for a script that it runs
for step in ("preprocess", "train", "predict", "evaluate"):
    os.environ["PROCESSING_DIR"] = os.path.join(sys.argv[2], step)
    script = os.path.join(sys.argv[1], step + ".py")
    sys.argv[1:], rest = [], sys.argv[1:]
    runpy.run_path(script, run_name="__main__")
    sys.argv[1:] = rest
print(__import__("sklearn").__version__)
"""


@pytest.fixture(scope="session")
def container_python() -> Path:
    """Return the interpreter of an environment with the image's versions."""
    # From Python 3.13 on there are no wheels of these versions.
    return python_with(REQUIREMENTS, before=(3, 13))


def start(python: Path, table: Path, workspace: Path) -> subprocess.Popen:
    """Start the four steps on ``table``, each in a folder of its own, linked as SageMaker would copy."""
    inputs = {"train": ["preprocess"], "predict": ["preprocess", "train"], "evaluate": ["predict"]}
    (workspace / "preprocess" / "input").mkdir(parents=True)
    (workspace / "preprocess" / "input" / "census-income.csv").symlink_to(table)
    for step, sources in inputs.items():
        (workspace / step / "input").mkdir(parents=True)
        for source in sources:
            (workspace / step / "input" / source).symlink_to(workspace / source / "output")
    return subprocess.Popen(
        [python, "-c", RUN_STEPS, ROOT / "code", workspace],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def rounded(metrics: dict) -> dict:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in metrics.items()}


@pytest.mark.parametrize("name", ["sample", "full"])
def test_the_image_versions_give_the_same_metrics_and_plots(name, container_python, tmp_path):
    table = dataset.sample_path() if name == "sample" else dataset.path()
    if not table.exists():
        pytest.skip("the full data set is not here: `python -m helpers.dataset` fetches it")
    runs = {"ours": Path(sys.executable), "container": container_python}
    processes = {who: start(python, table, tmp_path / who) for who, python in runs.items()}
    logs = {who: process.communicate(timeout=900)[0] for who, process in processes.items()}
    for who, process in processes.items():
        assert process.returncode == 0, f"{who}: {logs[who]}"
    assert logs["container"].splitlines()[-1] == "1.4.2"

    found = {who: tmp_path / who / "evaluate" / "output" for who in runs}
    ours, container = (rounded(json.loads((found[who] / "metrics.json").read_text())) for who in runs)
    assert ours == container
    for plot in ("roc_curve.svg", "confusion_matrix.svg"):
        assert (found["ours"] / plot).read_text() == (found["container"] / plot).read_text()
    if name == "full":
        assert (ours["roc_auc"], ours["accuracy"]) == (0.843, 0.753)
