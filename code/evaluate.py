"""Step 4 of 4: measure how good the predictions are.

reads   input/predict/predictions.csv
writes  output/metrics.json
        output/roc_curve.svg
        output/confusion_matrix.svg

The plots are SVG written by hand: SageMaker's scikit-learn image has no matplotlib.
"""

import argparse
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import metrics

COLUMNS = ["label", "prediction", "probability"]
INK, LINE, FAINT = "#24292f", "#0b63b0", "#b8c0c8"

log = logging.getLogger("evaluate")


def load(path: Path) -> pd.DataFrame:
    """Read the predictions; raise ValueError where a column is missing or a class is absent."""
    table = pd.read_csv(path)
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise ValueError(f"{path} has no column {', '.join(map(repr, missing))}")
    if table["label"].nunique() != 2:
        raise ValueError(f"{path}: ROC-AUC needs labels of both classes, column 'label' holds one")
    return table


def measure(table: pd.DataFrame) -> dict:
    """Return each metric under its name. ROC-AUC and average precision come from the probabilities."""
    label, prediction, probability = (table[name] for name in COLUMNS)
    (true_negative, false_positive), (false_negative, true_positive) = metrics.confusion_matrix(
        label, prediction, labels=[0, 1]
    ).tolist()
    return {
        "roc_auc": metrics.roc_auc_score(label, probability),
        "average_precision": metrics.average_precision_score(label, probability),
        "accuracy": metrics.accuracy_score(label, prediction),
        "balanced_accuracy": metrics.balanced_accuracy_score(label, prediction),
        "precision": metrics.precision_score(label, prediction, zero_division=0),
        "recall": metrics.recall_score(label, prediction),
        "f1": metrics.f1_score(label, prediction),
        "test_rows": len(table),
        "confusion_matrix": {
            "true_negative": true_negative,
            "false_positive": false_positive,
            "false_negative": false_negative,
            "true_positive": true_positive,
        },
    }


def words(x: float, y: float, text: str, *, size: int = 14, color: str = INK, turned: bool = False) -> str:
    """Return ``text`` centred on a point, as an element of a picture."""
    turn = f' transform="rotate(-90 {x:g} {y:g})"' if turned else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{color}" text-anchor="middle"{turn}>{text}</text>'


def picture(title: str, across: str, down: str, *parts: str) -> str:
    """Return an SVG of 400 x 400 with a title and two named axes around ``parts``."""
    head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 400" width="400" height="400"'
    frame = f'<rect x="65" y="45" width="300" height="300" fill="none" stroke="{FAINT}"/>'
    names = [words(215, 30, title, size=16), words(215, 388, across), words(22, 195, down, turned=True)]
    white = '<rect width="400" height="400" fill="white"/>'
    return "\n".join([f'{head} font-family="sans-serif">', white, *parts, frame, *names, "</svg>", ""])


def draw_roc(table: pd.DataFrame, roc_auc: float) -> str:
    """Return the ROC curve as SVG: the share of high incomes found, for a share of false alarms."""
    false_positives, true_positives, _ = metrics.roc_curve(table["label"], table["probability"])
    grid = np.linspace(0, 1, 101)  # thousands of points would draw the same line
    heights = np.interp(grid, false_positives, true_positives)
    curve = " ".join(f"{65 + 300 * x:.1f},{345 - 300 * y:.1f}" for x, y in zip(grid, heights, strict=True))
    ticks = [
        words(65 + 300 * t, 363, f"{t:g}", size=12) + words(50, 349 - 300 * t, f"{t:g}", size=12) for t in (0, 0.5, 1)
    ]
    return picture(
        f"ROC curve, area {roc_auc:.3f}",
        "false positive rate",
        "true positive rate",
        f'<line x1="65" y1="345" x2="365" y2="45" stroke="{FAINT}" stroke-dasharray="5"/>',
        f'<polyline points="65,345 {curve}" fill="none" stroke="{LINE}" stroke-width="2"/>',
        *ticks,
    )


def draw_confusion(counts: dict[str, int]) -> str:
    """Return the confusion matrix as SVG, each cell as dark as its share of all rows."""
    parts = []
    for number, name in enumerate(["true_negative", "false_positive", "false_negative", "true_positive"]):
        x, y = 65 + 150 * (number % 2), 45 + 150 * (number // 2)
        share = counts[name] / sum(counts.values())
        color = "white" if share > 0.5 else INK
        parts += [
            f'<rect x="{x}" y="{y}" width="150" height="150" fill="{LINE}" fill-opacity="{share:.3f}"/>',
            words(x + 75, y + 72, f"{counts[name]:,}", size=20, color=color),
            words(x + 75, y + 96, name.replace("_", " "), size=12, color=color),
        ]
    for place, name in ((140, "below 50,000"), (290, "above 50,000")):
        parts += [words(place, 363, name, size=12), words(50, place - 20, name, size=12, turned=True)]
    return picture("Confusion matrix", "predicted", "true", *parts)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the step in the folder that PROCESSING_DIR names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    args = parser.parse_args(argv)
    logging.basicConfig(level=args.log_level, format="%(name)s: %(message)s")
    root = Path(os.environ.get("PROCESSING_DIR", "/opt/ml/processing"))
    output = root / "output"
    output.mkdir(parents=True, exist_ok=True)

    predictions = load(root / "input" / "predict" / "predictions.csv")
    measured = measure(predictions)
    log.info("ROC-AUC %.3f, accuracy %.3f", measured["roc_auc"], measured["accuracy"])
    (output / "metrics.json").write_text(json.dumps(measured, indent=2) + "\n")
    (output / "roc_curve.svg").write_text(draw_roc(predictions, measured["roc_auc"]))
    (output / "confusion_matrix.svg").write_text(draw_confusion(measured["confusion_matrix"]))


if __name__ == "__main__":
    main()
