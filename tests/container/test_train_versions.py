"""The training script of notebook 08d gives the same metrics with the versions in SageMaker's image as with ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

from environments import python_with
from test_container_versions import REQUIREMENTS

from helpers import dataset, processing


def metrics(python: Path, data: Path, output: Path) -> dict[str, float]:
    """Return what the script writes when ``python`` runs it in script mode."""
    names = {"SM_CHANNEL_TRAIN": data, "SM_MODEL_DIR": output, "SM_OUTPUT_DATA_DIR": output}
    environment = {**os.environ, "PYTHONPATH": "", **{name: str(folder) for name, folder in names.items()}}
    subprocess.run([python, processing.TRAIN, "--C", "0.5"], env=environment, check=True, timeout=600)
    return json.loads((output / "metrics.json").read_text())


def test_the_image_versions_give_the_same_metrics(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    dataset.write_parts(dataset.sample_path(), data, 3)
    ours = metrics(Path(sys.executable), data, tmp_path / "ours")
    # From Python 3.13 on there are no wheels of these versions.
    container = metrics(python_with(REQUIREMENTS, before=(3, 13)), data, tmp_path / "container")
    assert {**ours, "iterations": 0} == {**container, "iterations": 0}  # the solvers differ in their steps
