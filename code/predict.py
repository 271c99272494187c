"""Step 3 of 4: let the model predict the test rows.

reads   input/preprocess/test_{features.npz,labels.npy}, or rows/*.csv and split.json
        input/train/model.joblib, and transformer.joblib if it is there
writes  output/predictions.csv   label, prediction, probability
"""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import features
import joblib
import pandas as pd
from scipy import sparse
from sklearn.linear_model import LogisticRegression

log = logging.getLogger("predict")


def predict(model: LogisticRegression, matrix: sparse.csr_matrix, *, threshold: float = 0.5) -> pd.DataFrame:
    """Return the probability of a high income for each row, and 1 where it reaches ``threshold``."""
    probability = model.predict_proba(matrix)[:, 1]
    return pd.DataFrame({"prediction": (probability >= threshold).astype(int), "probability": probability})


def main(argv: Sequence[str] | None = None) -> None:
    """Run the step in the folder that PROCESSING_DIR names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threshold", type=float, default=0.5, help="predict a high income from this probability on")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    args = parser.parse_args(argv)
    logging.basicConfig(level=args.log_level, format="%(name)s: %(message)s")
    root = Path(os.environ.get("PROCESSING_DIR", "/opt/ml/processing"))
    output = root / "output"
    output.mkdir(parents=True, exist_ok=True)

    trained = root / "input" / "train"
    matrix, labels = features.read_test(root / "input" / "preprocess", trained)
    predictions = predict(joblib.load(trained / "model.joblib"), matrix, threshold=args.threshold)
    predictions.insert(0, "label", labels)
    predictions.to_csv(output / "predictions.csv", index=False)
    log.info("%d rows, %d predicted above 50,000 dollars", len(predictions), predictions["prediction"].sum())


if __name__ == "__main__":
    main()
