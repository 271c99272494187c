"""The training script of notebooks 08c and 08d: the same model on Batch and as a SageMaker training job."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
from function_modules import load_function

from helpers import dataset, functions

(train,) = load_function(functions.SOURCES / "processing_image" / "training", "train")
SET = {"C": 0.1, "class-weight": "none", "max_iter": 200}


class Bucket:
    """A bucket in a folder, with the calls that the script makes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get_paginator(self, name: str) -> "Bucket":
        assert name == "list_objects_v2"
        return self

    def paginate(self, **asked: str) -> list[dict[str, Any]]:
        found = sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file())
        return [{"Contents": [{"Key": key}]} for key in found if key.startswith(asked["Prefix"])] or [{}]

    def download_file(self, bucket: str, key: str, target: str) -> None:
        shutil.copy(self.folder / key, target)

    def upload_file(self, file: str, bucket: str, key: str) -> None:
        (self.folder / key).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, self.folder / key)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    folder = tmp_path / "bucket" / "parts"
    folder.mkdir(parents=True)
    dataset.write_parts(dataset.sample_path(), folder, 4)
    return folder


def test_a_batch_job_and_a_training_job_come_to_the_same(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {"BUCKET": "b", "DATA": "parts/", "OUTPUT": "models/run/0", "SET": json.dumps(SET)}
    of_batch = train.run_from_s3(environment, [], Bucket(tmp_path / "bucket"))
    channel = {"SM_CHANNEL_TRAIN": str(parts), "SM_MODEL_DIR": str(tmp_path / "model")}
    argv = ["-C", "0.1", "--class-weight", "none", "--max-iter", "200"]
    assert train.main(argv, channel | {"SM_OUTPUT_DATA_DIR": str(tmp_path / "output")}) == 0
    written = [
        json.loads(path.read_text())
        for path in (tmp_path / "bucket/models/run/0/metrics.json", tmp_path / "output/metrics.json")
    ]
    assert written[0] == written[1]
    assert written[0]["hyper_parameters"] == {
        "C": 0.1, "class_weight": "none", "max_iter": 200, "test_size": 0.2, "seed": 0,
    }  # fmt: skip
    assert {name: written[0][name] for name in of_batch} == of_batch
    assert 0.8 < of_batch["roc_auc"] < 0.95
    models = [joblib.load(folder / "model.joblib") for folder in (tmp_path / "bucket/models/run/0", tmp_path / "model")]
    rows = train.read(parts)
    assert (models[0].predict(rows) == models[1].predict(rows)).all()
    # What a MetricDefinition of SageMaker finds in the log.
    assert re.findall("roc_auc=([0-9.]+);", capsys.readouterr().out) == [str(of_batch["roc_auc"])] * 2


def test_hyper_parameters_make_a_difference(parts: Path, tmp_path: Path) -> None:
    models = [train.run(parts, tmp_path, tmp_path, train.parse(["--C", c])) for c in ("0.0001", "1")]
    assert models[0]["roc_auc"] != models[1]["roc_auc"]


@pytest.mark.parametrize("argv", [
    ["--C", "0"], ["--C", "nan"], ["--C", "much"], ["--class-weight", "some"], ["--test-size", "1"], ["--depth", "3"],
])  # fmt: skip
def test_a_wrong_hyper_parameter_ends_the_program(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        train.parse(argv)
    assert caught.value.code == 2
    assert argv[0] in capsys.readouterr().err


def test_data_that_cannot_be_trained_on_is_refused_with_the_reason(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(train.BadData, match=r"there is no csv file below nothing/ in the bucket b"):
        train.run_from_s3({"BUCKET": "b", "DATA": "nothing/", "OUTPUT": "o"}, [], Bucket(tmp_path / "bucket"))
    with pytest.raises(train.BadData, match="there is no csv file in"):
        train.read(tmp_path)
    table = pd.read_csv(parts / "part-1.csv")
    table.drop(columns=["age"]).to_csv(parts / "part-5.csv", index=False)
    with pytest.raises(train.BadData, match=r"part-5\.csv has no column 'age'"):
        train.read(parts)
    table.assign(income="lots").to_csv(parts / "part-5.csv", index=False)
    with pytest.raises(train.BadData, match=r"column 'income' holds \['- 50000\.', '50000\+\.', 'lots'\]"):
        train.read(parts)


def test_the_program_says_what_it_was_not_told() -> None:
    script = functions.SOURCES / "processing_image" / "training" / "train.py"
    done = subprocess.run(
        [sys.executable, str(script)], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (
        1,
        "failed: neither SM_CHANNEL_TRAIN nor BUCKET, DATA, OUTPUT is set\n",
    )


def test_the_full_data_set_gives_the_known_figures(tmp_path: Path) -> None:
    if not dataset.path().exists():
        pytest.skip("the full data set is not here: `python -m helpers.dataset` fetches it")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "census-income.csv").symlink_to(dataset.path())
    metrics = train.run(folder, tmp_path, tmp_path, train.parse([]))
    assert (round(metrics["roc_auc"], 3), round(metrics["accuracy"], 3), metrics["rows"]) == (0.843, 0.753, 68_285)
