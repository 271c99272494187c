"""Plots of the table's rows: the right numbers on the right axes. How they look is seen in the browser."""

import re

import numpy as np
import pandas as pd
import pytest
from buckets import Bucket
from sklearn import metrics

from helpers import plots

BUCKET = "bucket"


def predictions(seed):
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, 500)
    probability = np.round(np.clip(random.normal(0.4 + 0.2 * label, 0.2), 0, 1), 2)  # rounded: with many ties
    return pd.DataFrame({"label": label, "prediction": (probability >= 0.5).astype(int), "probability": probability})


@pytest.fixture
def bucket():
    made = Bucket()
    for number in range(9):
        made.put(f"{number}.csv", predictions(number).to_csv(index=False).encode())
    return made


def rows(count=2, **columns):
    changed = ["", *(f"train --C: {number}, predict --threshold: 0.5" for number in range(1, count))]
    table = {"experiment": "first", "changed": changed, "status": "finished"}
    return pd.DataFrame({**table, "predictions": [f"{number}.csv" for number in range(count)], **columns})


def lines(figure):
    return [line for line in figure.axes[0].lines if len(line.get_xdata()) > 2]


def test_a_roc_curve_is_that_of_scikit_learn(bucket):
    figure = plots.roc(bucket.s3, BUCKET, rows())
    for number, line in enumerate(lines(figure)):
        table = predictions(number)
        false, true, _ = metrics.roc_curve(table.label, table.probability, drop_intermediate=False)
        np.testing.assert_allclose(line.get_xdata(), false)
        np.testing.assert_allclose(line.get_ydata(), true)
        area = metrics.roc_auc_score(table.label, table.probability)
        assert line.get_label().endswith(f"(area {area:.3f})")


def test_a_precision_recall_curve_is_that_of_scikit_learn(bucket):
    figure = plots.precision_recall(bucket.s3, BUCKET, rows())
    for number, line in enumerate(lines(figure)):
        table = predictions(number)
        precision, recall, _ = metrics.precision_recall_curve(table.label, table.probability)
        np.testing.assert_allclose(line.get_xdata(), recall[-2::-1])
        np.testing.assert_allclose(line.get_ydata(), precision[-2::-1])
        average = metrics.average_precision_score(table.label, table.probability)
        assert line.get_label().endswith(f"(average {average:.3f})")


def test_curves_are_named_by_what_was_changed(bucket):
    labels = [line.get_label() for line in lines(plots.roc(bucket.s3, BUCKET, rows()))]
    assert labels[0].startswith("first (")
    assert labels[1].startswith("--C 1, --threshold 0.5 (")


def test_confusion_matrices_stand_side_by_side(bucket):
    figure = plots.confusion(bucket.s3, BUCKET, rows(), names=("no", "yes"))
    assert len(figure.axes) == 2
    for number, axes in enumerate(figure.axes):
        shown = [int(text.get_text().split("\n")[0].replace(",", "")) for text in axes.texts]
        table = predictions(number)
        assert shown == metrics.confusion_matrix(table.label, table.prediction).ravel().tolist()
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")


@pytest.mark.parametrize("count", [0, 9])
def test_none_and_too_many_curves_are_refused(bucket, count):
    with pytest.raises(ValueError, match=f"choose 1 to 8 finished rows to draw, not {count}"):
        plots.roc(bucket.s3, BUCKET, rows(count) if count else rows().iloc[:0])


def test_rows_that_did_not_finish_are_not_drawn(bucket):
    table = rows(3)
    table.loc[1, "predictions"] = ""
    assert len(lines(plots.roc(bucket.s3, BUCKET, table))) == 2


def test_predictions_that_are_gone_are_named(bucket):
    with pytest.raises(ValueError, match=re.escape("s3://bucket/gone.csv")):
        plots.roc(bucket.s3, BUCKET, rows(1, predictions=["gone.csv"]))


def test_a_metric_is_drawn_over_an_argument_with_a_line_for_each_value_of_another():
    table = rows(4, roc_auc=[0.8, 0.81, 0.82, 0.83], **{"train --C": [0.01, 0.01, 10, 10], "train --w": [*"xyxy"]})
    figure = plots.metric_by(table, "train --C", lines="train --w")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["x", "y"]
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "train --C", "roc_auc")
    assert [line.get_ydata().tolist() for line in axes.lines[::2]] == [[0.8, 0.82], [0.81, 0.83]]


def test_the_line_leads_through_the_mean_of_rows_that_agree():
    table = rows(3, roc_auc=[0.8, 0.9, 0.6], **{"predict --threshold": [0.4, 0.4, 0.5]})
    axes = plots.metric_by(table, "predict --threshold").axes[0]
    assert axes.get_xscale() == "linear"
    assert axes.lines[0].get_ydata() == pytest.approx([0.85, 0.6])
    assert len(axes.lines[1].get_ydata()) == 3


def test_values_that_are_words_have_points_alone():
    axes = plots.metric_by(rows(2, roc_auc=[0.8, 0.9], **{"train --w": ["x", "y"]}), "train --w").axes[0]
    assert [line.get_linestyle() for line in axes.lines] == ["None"]


def test_an_argument_that_does_not_vary_is_named():
    with pytest.raises(KeyError, match="train --C"):
        plots.metric_by(rows(2, roc_auc=[0.8, 0.9]), "train --C")


def test_a_notebook_shows_a_picture_that_is_the_same_each_time(bucket):
    first, again = (plots.roc(bucket.s3, BUCKET, rows())._repr_png_() for _ in range(2))
    assert first == again
    assert first[0].startswith(b"\x89PNG")
    assert b"Date" not in first[0]
    assert first[1] == {"width": 448, "height": 304}


def test_before_and_after_have_a_line_for_each_numeric_column_with_its_mean_on_it():
    before = pd.DataFrame({"small": [1.0, 2.0, 3.0], "name": ["a", "b", "c"], "large": [10.0, 20.0, np.nan]})
    after = before.assign(small=[-1.0, 0.0, 1.0], large=[-1.0, 1.0, np.nan])
    left, right = plots.before_and_after(before, after).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["large", "small"]
    dots = {axes.get_title(): [line.get_xdata()[0] for line in axes.lines[2::3]] for axes in (left, right)}
    assert dots == {"before": [15.0, 2.0], "after": [0.0, 0.0]}
    assert [list(line.get_xdata()) for line in left.lines[::3]] == [[10.0, 20.0], [1.0, 3.0]]
