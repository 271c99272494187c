"""The features of a person, for the steps that make and read them.

One host writes them in preprocess. Several hosts write just the cleaned rows of
their shards, because the transformer has to be fitted on all training rows:
train puts the rows together, fits it and saves it, and predict uses that one.
Rows are put together by the names of their parts, so that the result does not
depend on which host had which part.
"""

import json
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, StandardScaler

BINNED = ["age", "num persons worked for employer"]
SCALED = ["capital gains", "capital losses", "dividends from stocks"]
CATEGORIES = ["education", "major industry code", "class of worker"]
LABEL = "income"
CLASSES = ["- 50000.", "50000+."]

COLUMNS = [*BINNED, *SCALED, *CATEGORIES, LABEL]
TYPES = dict.fromkeys([*CATEGORIES, LABEL], "category")


def labels(table: pd.DataFrame) -> np.ndarray:
    """Return 1 for an income above 50,000 dollars and 0 below."""
    if unknown := sorted(set(table[LABEL].unique()) - set(CLASSES)):
        raise ValueError(f"column {LABEL!r} holds {unknown}: expected {CLASSES}")
    return (table[LABEL] == CLASSES[1]).to_numpy(dtype=np.int8)


def make_transformer() -> ColumnTransformer:
    """Return the unfitted transformer: bins, scaled amounts, one column per category."""
    bins = KBinsDiscretizer(n_bins=10, encode="onehot", strategy="quantile", subsample=None)
    if "quantile_method" in bins.get_params():  # scikit-learn 1.7 and later; older ones are always linear
        bins.set_params(quantile_method="linear")
    return ColumnTransformer(
        [
            ("bins", bins, BINNED),
            ("amounts", StandardScaler(), SCALED),
            ("categories", OneHotEncoder(handle_unknown="ignore"), CATEGORIES),
        ],
        sparse_threshold=1.0,  # nine values in ten are zero: sparse is smaller, and training on it five times faster
    )


def fit(train: pd.DataFrame) -> tuple[ColumnTransformer, sparse.csr_matrix]:
    """Fit the transformer on the training rows only; return it and their features."""
    transformer = make_transformer()
    with warnings.catch_warnings():
        # Seven different numbers of persons do not fill ten bins: that some are merged is expected.
        warnings.filterwarnings("ignore", message="Bins whose width are too small", category=UserWarning)
        features = transformer.fit_transform(train)
    return transformer, sparse.csr_matrix(features)


def combine(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of several parts, none of them repeated within its part, as one table without repeated rows."""
    if len(tables) == 1:
        return tables[0]
    return pd.concat(tables).astype(TYPES).drop_duplicates(ignore_index=True)


def split(table: pd.DataFrame, *, test_size: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows to train and the rows to test."""
    train, test = train_test_split(table, test_size=test_size, random_state=seed)
    return train, test


def save_rows(tables: dict[str, pd.DataFrame], folder: Path, *, test_size: float, seed: int) -> None:
    """Write a host's cleaned rows, a file for each part of the data set, and how they are to be split."""
    (folder / "rows").mkdir(exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / "rows" / name, index=False)
    (folder / "split.json").write_text(json.dumps({"test_size": test_size, "seed": seed}))


def read_train(preprocessed: Path) -> tuple[sparse.csr_matrix, np.ndarray, ColumnTransformer | None]:
    """Return features and labels to train on, and the transformer where it was fitted only now."""
    if (preprocessed / "split.json").exists():
        train, _ = _split_rows(preprocessed)
        transformer, features = fit(train)
        return features, labels(train), transformer
    return (*_read_features(preprocessed, "train"), None)


def read_test(preprocessed: Path, trained: Path) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Return features and labels to test on."""
    if (preprocessed / "split.json").exists():
        _, test = _split_rows(preprocessed)
        return sparse.csr_matrix(joblib.load(trained / "transformer.joblib").transform(test)), labels(test)
    return _read_features(preprocessed, "test")


def _read_features(folder: Path, name: str) -> tuple[sparse.csr_matrix, np.ndarray]:
    return sparse.load_npz(folder / f"{name}_features.npz"), np.load(folder / f"{name}_labels.npy")


def _split_rows(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    parts = sorted((folder / "rows").glob("*.csv"))
    table = combine([pd.read_csv(part, dtype=TYPES) for part in parts])
    return split(table, **json.loads((folder / "split.json").read_text()))
