"""Step 1 of 4: turn the census table into features.

reads   input/*.csv                        census-income.csv, or the parts of it
writes  output/{train,test}_features.npz   sparse matrix, one row per person
        output/{train,test}_labels.npy     1 where the income is above 50,000 dollars a year
        output/transformer.joblib          the fitted transformer, for data to come

On several hosts, where each sees only its shard of the parts, it writes
        output/rows/*.csv                  the cleaned rows of each part
        output/split.json                  how train and predict are to split them
"""

import argparse
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import features
import joblib
import numpy as np
import pandas as pd
from scipy import sparse

log = logging.getLogger("preprocess")


def load(path: Path) -> pd.DataFrame:
    """Read the nine columns that the experiment uses, without incomplete and repeated rows."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: it is the experiment's input data")
    present = pd.read_csv(path, nrows=0, skipinitialspace=True).columns
    if missing := [name for name in features.COLUMNS if name not in present]:
        raise ValueError(f"{path} has no column {', '.join(map(repr, missing))}")
    table = pd.read_csv(path, usecols=features.COLUMNS, dtype=features.TYPES, skipinitialspace=True)
    return table[features.COLUMNS].dropna().drop_duplicates(ignore_index=True)


def hosts(root: Path) -> list[str]:
    """Return the names of all hosts of this job: one where SageMaker wrote no resourceconfig.json."""
    config = root.parent / "config" / "resourceconfig.json"
    return json.loads(config.read_text())["hosts"] if config.exists() else ["algo-1"]


def write_features(table: pd.DataFrame, output: Path, *, test_size: float, seed: int) -> None:
    """Split the rows, fit the transformer on those to train, and write the features of both."""
    train, test = features.split(table, test_size=test_size, seed=seed)
    log.info("%d different rows: %d to train, %d to test", len(table), len(train), len(test))
    transformer, train_features = features.fit(train)
    test_features = sparse.csr_matrix(transformer.transform(test))
    log.info("%d features", train_features.shape[1])
    for name, rows, matrix in (("train", train, train_features), ("test", test, test_features)):
        sparse.save_npz(output / f"{name}_features.npz", matrix, compressed=False)
        np.save(output / f"{name}_labels.npy", features.labels(rows))
    joblib.dump(transformer, output / "transformer.joblib")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the step in the folder that PROCESSING_DIR names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test-size", type=float, default=0.2, help="share of the rows kept for the test")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    args = parser.parse_args(argv)
    logging.basicConfig(level=args.log_level, format="%(name)s: %(message)s")
    root = Path(os.environ.get("PROCESSING_DIR", "/opt/ml/processing"))
    output = root / "output"
    output.mkdir(parents=True, exist_ok=True)

    files = sorted((root / "input").glob("*.csv"))
    how = {"test_size": args.test_size, "seed": args.seed}
    if len(hosts(root)) > 1:
        tables = {file.name: load(file) for file in files}
        log.info("%d parts, %d different rows", len(tables), sum(map(len, tables.values())))
        features.save_rows(tables, output, **how)
    else:
        table = features.combine([load(file) for file in files or [root / "input" / "census-income.csv"]])
        write_features(table, output, **how)


if __name__ == "__main__":
    main()
