"""Train a logistic regression on census-income with one set of hyper-parameters.

The same script in two places, with the same result:

- as a SageMaker training job, in script mode: reads SM_CHANNEL_TRAIN/*.csv, takes hyper-parameters as arguments,
  writes SM_MODEL_DIR/model.joblib and SM_OUTPUT_DATA_DIR/metrics.json;
- as a container that is told by its environment, such as a Batch job:
    BUCKET, DATA         reads the objects below the key DATA, such as parts/
    SET                  hyper-parameters as JSON: {"C": 0.1, "class-weight": "none"}
    OUTPUT               writes OUTPUT/model.joblib and OUTPUT/metrics.json

Prints its metrics as `roc_auc=0.843123;`, which a MetricDefinition of SageMaker finds.

IAM actions as a container: s3:ListBucket on the bucket, s3:GetObject on the data, s3:PutObject on the output.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

BINNED = ["age", "num persons worked for employer"]
SCALED = ["capital gains", "capital losses", "dividends from stocks"]
CATEGORIES = ["education", "major industry code", "class of worker"]
LABEL, CLASSES = "income", ["- 50000.", "50000+."]
COLUMNS = [*BINNED, *SCALED, *CATEGORIES, LABEL]
DIGITS = 6  # of a metric: what all versions of scikit-learn agree on


class BadData(Exception):
    """The data cannot be trained on; the message says which file, and why."""


def read(folder: Path) -> Any:
    """Return the complete rows of every csv file in ``folder``, none of them twice, as a pandas.DataFrame.

    The order is that of the files' names, so that the split does not depend on where they lie. Raises BadData.
    """
    import pandas as pd  # not at the top: `--help` and a wrong argument are quick

    files = sorted(folder.glob("*.csv"))
    if not files:
        raise BadData(f"there is no csv file in {folder}")
    tables = []
    for file in files:
        present = pd.read_csv(file, nrows=0, skipinitialspace=True).columns
        if missing := [name for name in COLUMNS if name not in present]:
            raise BadData(f"{file.name} has no column {', '.join(map(repr, missing))}")
        text = dict.fromkeys([*CATEGORIES, LABEL], str)
        tables.append(pd.read_csv(file, usecols=COLUMNS, dtype=text, skipinitialspace=True)[COLUMNS])
    table = pd.concat(tables).dropna().drop_duplicates(ignore_index=True)
    if sorted(table[LABEL].unique()) != CLASSES:
        raise BadData(f"column {LABEL!r} holds {sorted(table[LABEL].unique())}: expected {CLASSES}")
    return table


def make_model(c: float, weight: str, iterations: int) -> Any:
    """Return an unfitted sklearn.pipeline.Pipeline: bins, scaled amounts and categories, then the regression."""
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, StandardScaler

    bins = KBinsDiscretizer(n_bins=10, encode="onehot", strategy="quantile", subsample=None)
    if "quantile_method" in bins.get_params():  # scikit-learn 1.7 and later; older ones are always linear
        bins.set_params(quantile_method="linear")
    steps = [
        ("bins", bins, BINNED),
        ("amounts", StandardScaler(), SCALED),
        ("categories", OneHotEncoder(handle_unknown="ignore"), CATEGORIES),
    ]
    features = ColumnTransformer(steps, sparse_threshold=1.0)  # nine values in ten are zero
    weights = None if weight == "none" else weight
    return make_pipeline(features, LogisticRegression(C=c, class_weight=weights, max_iter=iterations))


def train(table: Any, args: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Return the model, fitted to a part of the rows, and its metrics on the others."""
    from sklearn.metrics import accuracy_score, roc_auc_score
    from sklearn.model_selection import train_test_split

    known, held_back = train_test_split(table, test_size=args.test_size, random_state=args.seed)
    model = make_model(args.C, args.class_weight, args.max_iter)
    with warnings.catch_warnings():
        # Seven different numbers of persons do not fill ten bins: that some are merged is expected.
        warnings.filterwarnings("ignore", message="Bins whose width are too small", category=UserWarning)
        model.fit(known[COLUMNS[:-1]], known[LABEL] == CLASSES[1])
    truth, features = held_back[LABEL] == CLASSES[1], held_back[COLUMNS[:-1]]
    metrics = {
        "roc_auc": round(float(roc_auc_score(truth, model.predict_proba(features)[:, 1])), DIGITS),
        "accuracy": round(float(accuracy_score(truth, model.predict(features))), DIGITS),
        "rows": len(table),
        "iterations": int(model[-1].n_iter_[0]),
    }
    return model, metrics


def arguments_of(hyper_parameters: Mapping[str, Any]) -> list[str]:
    """Return a set of hyper-parameters as arguments: --C 0.1 of {"C": 0.1}."""
    return [text for name, value in hyper_parameters.items() for text in (f"--{name.replace('_', '-')}", str(value))]


def positive(text: str) -> float:
    """Read a number above zero from the command line."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above zero")
    return value


def share(text: str) -> float:
    """Read a number between zero and one from the command line."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the hyper-parameters. Ends the program with exit code 2 when one of them is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    # SageMaker's script mode writes a hyper-parameter of one letter with one hyphen.
    parser.add_argument("--C", "-C", type=positive, default=1.0, help="inverse of the regularization's strength")
    parser.add_argument("--class-weight", default="balanced", choices=["balanced", "none"])
    parser.add_argument("--max-iter", type=int, default=1000, help="give up after so many iterations")
    parser.add_argument("--test-size", type=share, default=0.2, help="share of the rows kept for the test")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split")
    return parser.parse_args(argv)


def run(data: Path, model_folder: Path, metrics_folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Train on a folder, write model.joblib and metrics.json, print the metrics and return them. Raises BadData."""
    import joblib

    model, metrics = train(read(data), args)
    for folder in (model_folder, metrics_folder):
        folder.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, model_folder / "model.joblib")
    (metrics_folder / "metrics.json").write_text(json.dumps({**metrics, "hyper_parameters": vars(args)}))
    for name, value in metrics.items():
        print(f"{name}={value};", flush=True)
    return metrics


def run_from_s3(environment: Mapping[str, str], argv: Sequence[str], s3: Any) -> dict[str, Any]:
    """Do ``run`` with files of S3, as the environment says; ``s3``: an S3 client. Raises BadData."""
    bucket, prefix, output = (environment[name] for name in ("BUCKET", "DATA", "OUTPUT"))
    args = parse([*arguments_of(json.loads(environment.get("SET") or "{}")), *argv])
    with tempfile.TemporaryDirectory() as scratch:
        data, results = Path(scratch, "data"), Path(scratch, "results")
        data.mkdir()
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", ()):
                if item["Key"].endswith(".csv"):
                    s3.download_file(bucket, item["Key"], str(data / item["Key"].rpartition("/")[2]))
        if not any(data.iterdir()):
            raise BadData(f"there is no csv file below {prefix} in the bucket {bucket}")
        metrics = run(data, results, results, args)
        for name in ("model.joblib", "metrics.json"):
            s3.upload_file(str(results / name), bucket, f"{output.rstrip('/')}/{name}")
    return metrics


def main(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """Train where this runs. Returns the exit code, 1 for data that cannot be trained on."""
    signal.signal(signal.SIGTERM, _terminate)  # process 1 of a container has no default way to end
    try:
        if "SM_CHANNEL_TRAIN" in environment:
            names = ("SM_CHANNEL_TRAIN", "SM_MODEL_DIR", "SM_OUTPUT_DATA_DIR")
            data, model, output = (Path(environment[name]) for name in names)
            run(data, model, output, parse(argv))
        else:
            missing = [name for name in ("BUCKET", "DATA", "OUTPUT") if name not in environment]
            if missing:
                raise BadData(f"neither SM_CHANNEL_TRAIN nor {', '.join(missing)} is set")
            import boto3  # SageMaker's image has it, but needs none of it

            run_from_s3(environment, argv, boto3.client("s3"))
    except BadData as error:
        print(f"failed: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _terminate(*_: Any) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
