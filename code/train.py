"""Step 2 of 4: fit a logistic regression.

reads   input/preprocess/train_{features.npz,labels.npy}, or rows/*.csv and split.json
writes  output/model.joblib
        output/transformer.joblib   only after several hosts preprocessed: fitted here
"""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import features
import joblib
import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

log = logging.getLogger("train")


def fit(
    matrix: sparse.csr_matrix, labels: np.ndarray, *, c: float = 1.0, weight: str = "balanced", iterations: int = 1000
) -> LogisticRegression:
    """Return a logistic regression fitted to the features in ``matrix``.

    A smaller ``c`` means more regularization. Weight "balanced" lets the rare class count as much
    as the frequent one.
    """
    model = LogisticRegression(C=c, class_weight=None if weight == "none" else weight, max_iter=iterations)
    return model.fit(matrix, labels)


def positive(text: str) -> float:
    """Read a number above zero from the command line."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above zero")
    return value


def main(argv: Sequence[str] | None = None) -> None:
    """Run the step in the folder that PROCESSING_DIR names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--C", type=positive, default=1.0, help="inverse of the regularization's strength")
    parser.add_argument("--class-weight", default="balanced", choices=["balanced", "none"])
    parser.add_argument("--max-iter", type=int, default=1000, help="give up after so many iterations")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    args = parser.parse_args(argv)
    logging.basicConfig(level=args.log_level, format="%(name)s: %(message)s")
    root = Path(os.environ.get("PROCESSING_DIR", "/opt/ml/processing"))
    output = root / "output"
    output.mkdir(parents=True, exist_ok=True)

    matrix, labels, transformer = features.read_train(root / "input" / "preprocess")
    model = fit(matrix, labels, c=args.C, weight=args.class_weight, iterations=args.max_iter)
    log.info("%d rows, %d features, C=%g: %d iterations", *matrix.shape, args.C, model.n_iter_[0])
    joblib.dump(model, output / "model.joblib")
    if transformer is not None:
        joblib.dump(transformer, output / "transformer.joblib")


if __name__ == "__main__":
    main()
