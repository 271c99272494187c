"""The data scientist's four scripts, one by one and together, on the committed sample."""

import importlib.util
import json
import re
import shutil
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse

from helpers import dataset

CODE = Path(__file__).resolve().parents[2] / "code"
STEPS = ("preprocess", "train", "predict", "evaluate")
sys.path.insert(0, str(CODE))  # where Python looks first when it runs a script: for the module that the scripts share


def script(name: str):
    """Import one script by its path: code/ is no package, or it would hide the standard library's."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", CODE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


preprocess, train, predict, evaluate = map(script, STEPS)
features = sys.modules["features"]


@pytest.fixture
def step(tmp_path, monkeypatch):
    """Return a function that runs one step in a folder of its own and returns its output folder."""

    def run(module, *argv: str, **inputs: Path) -> Path:
        root = tmp_path / f"{module.__name__}{len(list(tmp_path.iterdir()))}"
        (root / "input").mkdir(parents=True)
        for name, source in inputs.items():
            (root / "input" / name.replace("census_income", "census-income.csv")).symlink_to(source)
        monkeypatch.setenv("PROCESSING_DIR", str(root))
        module.main(list(argv))
        return root / "output"

    return run


@pytest.fixture
def experiment(step):
    """Return a function that runs the four steps on the sample and returns the folder of each."""

    def run(**arguments: list[str]) -> dict[str, Path]:
        given = {name: arguments.get(name, []) for name in STEPS}
        done: dict[str, Path] = {}
        done["preprocess"] = step(preprocess, *given["preprocess"], census_income=dataset.sample_path())
        done["train"] = step(train, *given["train"], **done)
        done["predict"] = step(predict, *given["predict"], **done)
        done["evaluate"] = step(evaluate, *given["evaluate"], **done)
        return done

    return run


def metrics_of(done: dict[str, Path]) -> dict:
    return json.loads((done["evaluate"] / "metrics.json").read_text())


def census(**changes: object) -> pd.DataFrame:
    """Return two rows as ``preprocess.load`` gives them, with some values changed."""
    row = {
        "age": 40,
        "num persons worked for employer": 3,
        "capital gains": 0,
        "capital losses": 0,
        "dividends from stocks": 0,
        "education": "High school graduate",
        "major industry code": "Education",
        "class of worker": "Private",
        "income": "- 50000.",
    }
    return pd.DataFrame([row, {**row, "age": 60, **changes}])


def test_the_four_steps_give_the_reference_metrics_of_the_sample(experiment):
    found = metrics_of(experiment())
    assert {name: round(found[name], 3) for name in ("roc_auc", "average_precision", "accuracy")} == {
        "roc_auc": 0.875,
        "average_precision": 0.515,
        "accuracy": 0.802,
    }
    assert sum(found["confusion_matrix"].values()) == found["test_rows"] == 268


def test_two_runs_with_the_same_arguments_write_the_same_bytes(experiment):
    first, second = experiment(), experiment()
    for name, file in (("evaluate", "metrics.json"), ("evaluate", "roc_curve.svg"), ("predict", "predictions.csv")):
        assert (first[name] / file).read_bytes() == (second[name] / file).read_bytes()


def test_each_step_listens_to_its_arguments(experiment):
    base = experiment()
    assert metrics_of(experiment(preprocess=["--test-size", "0.5"]))["test_rows"] == 669
    assert metrics_of(experiment(preprocess=["--seed", "1"]))["roc_auc"] != metrics_of(base)["roc_auc"]
    size = {c: np.abs(joblib.load(experiment(train=["--C", c])["train"] / "model.joblib").coef_).sum() for c in "19"}
    assert size["1"] < size["9"]
    weak = experiment(train=["--class-weight", "none"])
    assert metrics_of(weak)["recall"] < metrics_of(base)["recall"]
    assert metrics_of(experiment(predict=["--threshold", "0.9"]))["recall"] < metrics_of(base)["recall"]


def test_every_step_takes_the_argument_that_the_dispatcher_adds_where_none_is_given(experiment):
    assert metrics_of(experiment(**{name: ["--log-level", "INFO"] for name in STEPS}))["test_rows"] == 268


def test_an_argument_that_makes_no_sense_ends_the_step(step):
    with pytest.raises(SystemExit):
        step(train, "--C", "-1")


def test_a_missing_data_set_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"{tmp_path / 'census-income.csv'} is missing")):
        preprocess.load(tmp_path / "census-income.csv")


def test_missing_columns_are_named(tmp_path):
    census().drop(columns=["age", "income"]).to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(ValueError, match=r"table\.csv has no column 'age', 'income'"):
        preprocess.load(tmp_path / "table.csv")


def test_an_unknown_income_class_is_named():
    with pytest.raises(ValueError, match=r"column 'income' holds \['lots'\]"):
        features.labels(census(income="lots"))


def test_repeated_and_incomplete_rows_are_dropped(tmp_path):
    rows = pd.concat([census(), census(), census(education=None)])
    rows.to_csv(tmp_path / "table.csv", index=False)
    assert preprocess.load(tmp_path / "table.csv")["age"].tolist() == [40, 60]


@pytest.mark.parametrize("missing", ["train_features.npz", "train_labels.npy"])
def test_an_output_that_an_earlier_step_did_not_write_is_named(step, tmp_path, missing):
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    sparse.save_npz(earlier / "train_features.npz", sparse.csr_matrix(np.eye(2)))
    np.save(earlier / "train_labels.npy", np.array([0, 1]))
    (earlier / missing).unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(missing)):
        step(train, preprocess=earlier)


def test_the_saved_transformer_takes_people_that_it_never_saw(experiment):
    done = experiment()
    transformer = joblib.load(done["preprocess"] / "transformer.joblib")
    matrix = transformer.transform(census(education="School of life", age=120))
    assert matrix.shape == (2, sparse.load_npz(done["preprocess"] / "train_features.npz").shape[1])
    probabilities = joblib.load(done["train"] / "model.joblib").predict_proba(matrix)[:, 1]
    assert ((probabilities > 0) & (probabilities < 1)).all()


def test_the_transformer_learns_nothing_from_the_test_rows(tmp_path):
    table = preprocess.load(dataset.sample_path())
    train_rows, test_rows = features.split(table, test_size=0.2, seed=0)
    changed = table.copy()
    changed.loc[test_rows.index, "capital gains"] = 10**6
    for name, rows in (("as it is", table), ("changed", changed)):
        (tmp_path / name).mkdir()
        preprocess.write_features(rows, tmp_path / name, test_size=0.2, seed=0)
    matrices = [sparse.load_npz(tmp_path / name / "train_features.npz") for name in ("as it is", "changed")]
    assert (matrices[0] != matrices[1]).nnz == 0
    assert len(train_rows) == matrices[0].shape[0]


@pytest.fixture
def parts(tmp_path) -> list[Path]:
    """The sample as five parts, in the order of their names; some rows stand in several parts."""
    table = pd.read_csv(dataset.sample_path(), skipinitialspace=True)
    (tmp_path / "parts").mkdir()
    paths = [tmp_path / "parts" / f"part-{number}.csv" for number in range(5)]
    for number, path in enumerate(paths):
        table.iloc[number * 400 : number * 400 + 450].to_csv(path, index=False)
    return paths


def preprocess_on(count: int, parts: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Preprocess ``parts`` on ``count`` hosts, shared as ShardedByS3Key does; return what S3 holds afterwards."""
    together = folder / "s3"
    names = [f"algo-{number + 1}" for number in range(count)]
    for number, name in enumerate(names):
        root = folder / name / "processing"
        (root / "input").mkdir(parents=True)
        for part in parts[number::count]:
            (root / "input" / part.name).symlink_to(part)
        (root.parent / "config").mkdir()
        config = {"current_host": name, "hosts": names}
        (root.parent / "config" / "resourceconfig.json").write_text(json.dumps(config))
        monkeypatch.setenv("PROCESSING_DIR", str(root))
        preprocess.main([])
        shutil.copytree(root / "output", together, dirs_exist_ok=True)
    return together


@pytest.mark.parametrize("count", [2, 4, 7])  # with seven hosts two have no part
def test_several_hosts_give_what_one_host_gives(count, parts, step, tmp_path, monkeypatch):
    results = {}
    for hosts in (1, count):
        done = {"preprocess": preprocess_on(hosts, parts, tmp_path / str(hosts), monkeypatch)}
        for name, module in (("train", train), ("predict", predict), ("evaluate", evaluate)):
            done[name] = step(module, **done)
        results[hosts] = done
    assert (results[1]["preprocess"] / "train_features.npz").exists()
    assert not (results[count]["preprocess"] / "train_features.npz").exists()
    for name, file in (("predict", "predictions.csv"), ("evaluate", "metrics.json")):
        assert (results[1][name] / file).read_bytes() == (results[count][name] / file).read_bytes()
    places = (results[1]["preprocess"], results[count]["train"])
    transformers = [joblib.load(place / "transformer.joblib") for place in places]
    assert len({tuple(transformer.get_feature_names_out()) for transformer in transformers}) == 1


def test_parts_of_the_data_set_give_what_the_whole_gives(step, tmp_path):
    table = pd.read_csv(dataset.sample_path(), skipinitialspace=True)
    for number in range(4):
        table.iloc[number * 500 : number * 500 + 500].to_csv(tmp_path / f"part-{number}.csv", index=False)
    whole = step(preprocess, census_income=dataset.sample_path())
    in_parts = step(preprocess, **{f"part-{number}.csv": tmp_path / f"part-{number}.csv" for number in range(4)})
    for file in ("train_labels.npy", "test_labels.npy"):
        assert (whole / file).read_bytes() == (in_parts / file).read_bytes()
    matrices = [sparse.load_npz(folder / "train_features.npz") for folder in (whole, in_parts)]
    assert (matrices[0] != matrices[1]).nnz == 0


def test_metrics_of_known_predictions():
    table = pd.DataFrame(
        {"label": [0, 0, 1, 1], "prediction": [0, 1, 0, 1], "probability": [0.1, 0.6, 0.4, 0.9]},
    )
    found = evaluate.measure(table)
    assert found["roc_auc"] == 0.75  # from the probabilities; the hard predictions would give 0.5
    assert found["accuracy"] == found["precision"] == found["recall"] == found["balanced_accuracy"] == 0.5
    assert set(found["confusion_matrix"].values()) == {1}


@pytest.mark.parametrize(
    ("columns", "reason"),
    [({"label": [1, 1]}, "both classes"), ({"truth": [0, 1]}, "no column 'label'")],
)
def test_predictions_that_cannot_be_measured_are_refused(tmp_path, columns, reason):
    pd.DataFrame({**columns, "prediction": [0, 1], "probability": [0.2, 0.8]}).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(ValueError, match=reason):
        evaluate.load(tmp_path / "p.csv")


def test_the_plots_are_valid_svg_that_shows_the_numbers(experiment):
    done = experiment()
    texts = {
        name: " ".join(ET.parse(done["evaluate"] / f"{name}.svg").getroot().itertext())  # noqa: S314 - our own file
        for name in ("roc_curve", "confusion_matrix")
    }
    assert "area 0.875" in texts["roc_curve"]
    for count in metrics_of(done)["confusion_matrix"].values():
        assert str(count) in texts["confusion_matrix"]


def test_experiment_yml_names_the_scripts_with_arguments_that_they_take(experiment):
    content = yaml.safe_load((CODE / "experiment.yml").read_text())
    assert list(content) == ["comment", "pipeline", *STEPS]
    assert [content[name]["code"] for name in STEPS] == [f"{name}.py" for name in STEPS]
    arguments = {name: content[name]["args"] for name in STEPS if "args" in content[name]}
    assert all(isinstance(value, str) for given in arguments.values() for value in given)
    assert metrics_of(experiment(**arguments)) == metrics_of(experiment())


def test_experiment_yml_runs_in_the_image_whose_versions_are_tested():
    content = yaml.safe_load((CODE / "experiment.yml").read_text())
    images = {content[name]["ImageUri"] for name in STEPS}
    assert images == {"683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"}
    assert (CODE.parent / "tests/container/requirements-1.4-2.txt").is_file()


def test_code_is_no_package():
    assert not (CODE / "__init__.py").exists()
