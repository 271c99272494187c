"""Plots of rows of the table of runs, and of tables that were standardized: each function returns a figure."""

import io
import re
import textwrap
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pandas.api.types import is_numeric_dtype

from helpers import manifests

# Okabe and Ito's colours, which colour-blind people tell apart, and a line style and marker each as well.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")
LINES = ("-", "--", "-.", ":") * 2
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SIZE = (5.6, 3.8)  # inches
DPI = 80
SHARPNESS = 2  # pixels of the picture for each one on the page
LEGEND = 44  # characters


class Picture(Figure):
    """A figure that a notebook shows without pyplot, whose figures it would show a second time."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        with io.BytesIO() as file:
            self.savefig(file, format="png", dpi=DPI * SHARPNESS)
            width, height = (int(inches * DPI) for inches in self.get_size_inches())
            return file.getvalue(), {"width": width, "height": height}


def metric_by(rows: pd.DataFrame, argument: str, *, metric: str = "roc_auc", lines: str | None = None) -> Figure:
    """Plot a metric against a swept argument, such as "train --C"; a line for each value of the argument ``lines``.

    The axis is logarithmic when the values span two decades or more. Rows that agree
    in both arguments are points of their own, and the line goes through their mean.
    Raises KeyError, naming the columns that there are.
    """
    for name in filter(None, (argument, metric, lines)):
        if name not in rows:
            raise KeyError(f"the rows have no column {name!r}, but {', '.join(map(repr, rows.columns))}")
    shown = rows[rows[metric].notna() & rows[argument].notna()]
    figure, axes = _figure()
    for number, (label, group) in enumerate(_groups(shown, lines)):
        color, line, marker = _style(number)
        if is_numeric_dtype(shown[argument]):  # between names there is nothing for a line to lead through
            mean = group.groupby(argument)[metric].mean()
            axes.plot(mean.index, mean, linestyle=line, color=color, linewidth=1.5)
        axes.plot(group[argument], group[metric], linestyle="", marker=marker, color=color, label=label, markersize=6)
    if _spans_decades(shown[argument]):
        axes.set_xscale("log")
    axes.set_xlabel(argument)
    axes.set_ylabel(metric)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if lines:
        axes.legend(title=lines, fontsize="small", title_fontsize="small", frameon=False)
    return figure


def roc(s3: Any, bucket: str, rows: pd.DataFrame) -> Figure:
    """Overlay the ROC curves of finished rows. Raises ValueError for none, or for more than there are colours."""
    figure, axes = _figure()
    for number, (label, table) in enumerate(_predictions(s3, bucket, rows)):
        false, true = _rates(table)
        area = float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2))
        _curve(axes, number, false, true, f"{_short(label)} (area {area:.3f})")
    axes.plot([0, 1], [0, 1], color="#8c959f", linewidth=0.8)
    return _finish(figure, axes, "false positive rate", "true positive rate", "lower right")


def precision_recall(s3: Any, bucket: str, rows: pd.DataFrame) -> Figure:
    """Overlay the precision-recall curves of finished rows; the grey line is the share of positive labels.

    Raises ValueError for no rows, or for more than there are colours.
    """
    figure, axes = _figure()
    found = _predictions(s3, bucket, rows)
    for number, (label, table) in enumerate(found):
        recall, precision = _precision_recall(table)
        average = float(np.sum(np.diff(recall, prepend=0) * precision))
        _curve(axes, number, recall, precision, f"{_short(label)} (average {average:.3f})")
    share = float(np.mean([table["label"].mean() for _, table in found]))
    axes.plot([0, 1], [share, share], color="#8c959f", linewidth=0.8)
    return _finish(figure, axes, "recall", "precision", "upper right")


def confusion(s3: Any, bucket: str, rows: pd.DataFrame, *, names: tuple[str, str] = ("0", "1")) -> Figure:
    """Draw the confusion matrices of finished rows side by side; a cell is as dark as its share of the true class.

    ``names``: of the two classes. Raises ValueError for no rows, or for more than there are colours.
    """
    found = _predictions(s3, bucket, rows)
    across = min(len(found), 4)
    down = -(-len(found) // across)
    figure = Picture(figsize=(2.6 * across, 2.7 * down), dpi=DPI, layout="constrained")
    panels = figure.subplots(down, across, squeeze=False)
    for axes in panels.flat[len(found) :]:
        axes.set_axis_off()
    for axes, (label, table) in zip(panels.flat, found, strict=False):
        counts = pd.crosstab(table["label"], table["prediction"]).reindex(index=[0, 1], columns=[0, 1], fill_value=0)
        shares = counts.div(counts.sum(axis=1), axis=0)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts.to_numpy()):
            share = shares.iat[row, column]
            color = "white" if share > 0.5 else "#1f2328"
            axes.text(column, row, f"{count:,}\n{share:.0%}", ha="center", va="center", color=color, fontsize=9)
        axes.set_title(textwrap.fill(_short(label), 26), fontsize=9)
        axes.set_xticks([0, 1], names, fontsize=8)
        axes.set_yticks([0, 1], names, fontsize=8, rotation=90, va="center")
        axes.set_xlabel("predicted", fontsize=9)
        axes.set_ylabel("true", fontsize=9)
    return figure


def before_and_after(before: pd.DataFrame, after: pd.DataFrame) -> Figure:
    """Draw the columns of a table before and after they were standardized, side by side.

    Of each column: its mean as a dot, one standard deviation to both sides as a thick
    line, and from the smallest to the largest value as a thin one. The axes are linear near
    zero and logarithmic beyond. Columns that are not numeric are left out.
    """
    columns = [name for name in before.columns if is_numeric_dtype(before[name])][::-1]  # the first one on top
    height = 1.3 + 0.26 * len(columns)
    figure = Picture(figsize=(8.4, height), dpi=DPI, layout="constrained")
    both = figure.subplots(1, 2, sharey=True)
    for axes, table, title in zip(both, (before, after), ("before", "after"), strict=True):
        for number, name in enumerate(columns):
            values, (color, _, _) = table[name].dropna(), _style(0)
            mean, deviation = values.mean(), values.std(ddof=0)
            axes.plot([values.min(), values.max()], [number, number], color=color, linewidth=1)
            axes.plot([mean - deviation, mean + deviation], [number, number], color=color, linewidth=5, alpha=0.45)
            axes.plot([mean], [number], color=COLORS[1], marker="o", markersize=5)
        axes.set_xscale("symlog", linthresh=10)
        low, high = axes.get_xlim()
        ticks = [sign * 10**power for power in (0, 1, 2, 4, 6, 8) for sign in (-1, 1)]
        shown = [0, *(tick for tick in ticks if abs(tick) >= (100 if title == "before" else 1) and low <= tick <= high)]
        axes.set_xticks(shown, [f"{tick:,}" for tick in shown], fontsize="small")
        axes.set_title(title, fontsize="medium")
        axes.grid(color="#d0d7de", linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    both[0].set_yticks(range(len(columns)), columns, fontsize="small")
    return figure


def _figure() -> tuple[Picture, Axes]:
    figure = Picture(figsize=SIZE, dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.grid(color="#d0d7de", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _finish(figure: Picture, axes: Axes, across: str, up: str, place: Literal["lower right", "upper right"]) -> Picture:
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.legend(loc=place, fontsize="small", frameon=False)
    return figure


def _curve(axes: Axes, number: int, across: np.ndarray, up: np.ndarray, label: str) -> None:
    color, line, _ = _style(number)
    axes.plot(across, up, color=color, linestyle=line, linewidth=1.5, label=label)


def _style(number: int) -> tuple[str, str, str]:
    return COLORS[number % len(COLORS)], LINES[number % len(LINES)], MARKERS[number % len(MARKERS)]


def _groups(rows: pd.DataFrame, column: str | None) -> list[tuple[str, pd.DataFrame]]:
    if column is None:
        return [("", rows)]
    return [(f"{value:g}" if isinstance(value, float) else str(value), group) for value, group in rows.groupby(column)]


def _spans_decades(values: pd.Series) -> bool:
    return bool(is_numeric_dtype(values) and (values > 0).all() and values.max() >= 100 * values.min())


def _predictions(s3: Any, bucket: str, rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return for each row a label without ids, and the predictions of its test rows: label, prediction, probability."""
    chosen = rows[rows["predictions"] != ""]
    if not 1 <= len(chosen) <= len(COLORS):
        raise ValueError(f"choose 1 to {len(COLORS)} finished rows to draw, not {len(chosen)}")
    # Without the steps' names, for which a legend has no room
    labels = [
        re.sub(r"(^|, )\w+ (-\S+): ", r"\1\2 ", row["changed"]) or row["experiment"] for _, row in chosen.iterrows()
    ]
    tables = manifests.at_once(s3, lambda key: _read(s3, bucket, key), chosen["predictions"])
    return list(zip(labels, tables, strict=True))


def _read(s3: Any, bucket: str, key: str) -> pd.DataFrame:
    body = manifests.read(s3, bucket, key)
    if body is None:
        raise ValueError(f"s3://{bucket}/{key} is not there: it has been deleted, or predict writes another file")
    return pd.read_csv(io.BytesIO(body), usecols=["label", "prediction", "probability"])


def _counts(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true positives for each threshold at which a row's probability lies, from the highest on."""
    order = np.argsort(-table["probability"].to_numpy(), kind="stable")
    probability, label = table["probability"].to_numpy()[order], table["label"].to_numpy()[order]
    last = np.append(np.flatnonzero(np.diff(probability)), len(label) - 1)  # rows of equal probability count together
    true = np.cumsum(label)[last]
    return last + 1 - true, true


def _rates(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    false, true = _counts(table)
    return np.append(0, false / false[-1]), np.append(0, true / true[-1])


def _precision_recall(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    false, true = _counts(table)
    return true / true[-1], true / (true + false)


def _short(text: str, length: int = LEGEND) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
