"""The script that standardizes uploads gives the same with the versions inside SageMaker's image as with ours."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from environments import python_with

from helpers import dataset, standardization

REQUIREMENTS = Path(__file__).with_name("requirements-1.4-2.txt")
HARD = (
    'x,text,const,"a ""b""",big\n1,"p, q",5,,1000000001\n,True,5,,1000000002\n'
    'NA,"two\nlines",5,,1000000003\n4,7,5,,NaN\n'
)


def run(python: Path, source: Path, folder: Path) -> tuple[str, dict]:
    (folder / "processing" / "input").mkdir(parents=True)
    (folder / "processing" / "input" / "p.csv").symlink_to(source)
    done = subprocess.run(
        [python, standardization.SCRIPT, "--file", "p.csv"],
        env={"PROCESSING_DIR": str(folder / "processing"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    output = folder / "processing" / "output"
    if done.returncode:
        return (folder / "output" / "message").read_text(), {}
    return (output / "standardized.csv").read_text(), json.loads((output / "statistics.json").read_text())


def test_the_image_versions_standardize_alike(tmp_path: Path) -> None:
    (part,) = standardization.partitions(dataset.sample_path(), tmp_path, 1)
    (tmp_path / "hard.csv").write_text(HARD)
    (tmp_path / "mixed.csv").write_text("x\n1\n2\nthree\n")
    pythons = {"ours": Path(sys.executable), "container": python_with(REQUIREMENTS, before=(3, 13))}
    for source in (part, tmp_path / "hard.csv"):
        done = {who: run(python, source, tmp_path / source.stem / who) for who, python in pythons.items()}
        ours, container = (
            pd.read_csv(tmp_path / source.stem / who / "processing/output/standardized.csv") for who in done
        )
        pd.testing.assert_frame_equal(ours, container, rtol=1e-12)
        columns = [[*one["columns"]] for _, one in done.values()]
        for mine, theirs in zip(*columns, strict=True):
            numbers = [[one.pop(name) or 0.0 for name in ("mean", "std")] for one in (mine, theirs)]
            np.testing.assert_allclose(*numbers, rtol=1e-12)
            assert mine == theirs
    refusals = {run(python, tmp_path / "mixed.csv", tmp_path / who)[0] for who, python in pythons.items()}
    assert refusals == {"column 'x' holds numbers, but also a text: 'three' in line 4"}
