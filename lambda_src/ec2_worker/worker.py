"""Train a classifier on a unit's data, with heartbeats, and write results and status.

Runs on the unit's instance, started by user_data.sh, which holds this file. The
record is changed only while it names this instance and is not final. Heartbeats
come from the work itself, between its pieces: work that hangs sends none.

usage: worker.py job.json instance-id
"""

import csv
import importlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

SEED, EPOCHS, CHUNK = 0, 20, 4096  # rows that are read and learned at once
HELD_BACK = 5  # every fifth row is not learned, but tested on
MOST_CLASSES = 50
UNDER_WAY = ("WorkerStarting", "WorkerRunning")
PATIENCE = 60  # seconds until the record has to name this instance


class BadInput(Exception):
    """The unit's data cannot be learned from; the message says what is wrong, and where."""


class NotOurs(Exception):
    """The record names another instance or is final: somebody has settled it."""


class Record:
    """The unit's record in the table."""

    def __init__(self, job: dict[str, Any], instance: str) -> None:
        self.client, self.job, self.instance = boto3.client("dynamodb"), job, instance
        self.heard = time.monotonic()

    def begin(self) -> None:
        """Set WorkerRunning, as soon as the record names this instance: it may have started before that was written."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._change({"HeartbeatAt": {"S": stamp()}}, "WorkerRunning")
                return
            except NotOurs:
                if time.monotonic() > until:
                    raise
            time.sleep(0.5)

    def beat(self) -> None:
        """Tell that the work goes on, unless that was told a moment ago."""
        if time.monotonic() - self.heard >= self.job["heartbeat_seconds"]:
            self._change({"HeartbeatAt": {"S": stamp()}})
            self.heard = time.monotonic()

    def finish(self, results: str, metrics: dict[str, float]) -> None:
        """Set WorkerFinished."""
        numbers = {name: {"N": str(value)} for name, value in metrics.items()}
        self._change({"Results": {"S": results}, "Metrics": {"M": numbers}}, "WorkerFinished")

    def fail(self, reason: str) -> None:
        """Set WorkerFailed."""
        self._change({"Reason": {"S": reason[:1000]}}, "WorkerFailed")

    def _change(self, attributes: dict[str, Any], status: str = "") -> None:
        values = {**attributes, "UpdatedAt": {"S": stamp()}}
        sets = [f"#{name} = :{name}" for name in values]
        names = {f"#{name}": name for name in values}  # DynamoDB keeps some of them, such as Metrics, for itself
        if status:
            entry = {"status": {"S": status}, "at": {"S": stamp()}}
            if "Reason" in attributes:
                entry["reason"] = attributes["Reason"]
            sets += ["JobStatus = :JobStatus", "StatusHistory = list_append(StatusHistory, :entry)"]
            values.update(JobStatus={"S": status}, entry={"L": [{"M": entry}]})
        values.update(
            me={"S": self.instance},
            execution={"S": self.job["execution"]},
            a={"S": UNDER_WAY[0]},
            b={"S": UNDER_WAY[1]},
        )
        try:
            self.client.update_item(
                TableName=self.job["table"],
                Key={"Unit": {"S": self.job["unit"]}},
                UpdateExpression="SET " + ", ".join(sets),
                ConditionExpression="InstanceId = :me AND Execution = :execution AND JobStatus IN (:a, :b)",
                ExpressionAttributeNames=names,
                ExpressionAttributeValues={f":{name}": value for name, value in values.items()},
            )
        except self.client.exceptions.ConditionalCheckFailedException:
            raise NotOurs("the unit's record is not this instance's to change") from None


def stamp() -> str:
    """Return the time in UTC as records hold it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rows(path: Path, target: str, columns: list[str]) -> Iterator[tuple[list[float], str]]:
    """Yield each row of a CSV file as its numbers and its class. Raises BadInput.

    ``columns``: of the numbers; an empty list is filled from the first file's header.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        try:
            header = next(lines, [])
            if target not in header:
                raise BadInput(f"{path.name}: there is no column {target!r}, which is the target")
            if len(set(header)) < len(header):
                raise BadInput(f"{path.name}: two columns have the same name")
            columns.extend([] if columns else [name for name in header if name != target])
            if not columns or set(header) != {*columns, target}:
                raise BadInput(f"{path.name}: its columns are not the target and those of the other files")
            places, label = [header.index(name) for name in columns], header.index(target)
            for row in lines:
                where = f"{path.name}, line {lines.line_num}"
                if len(row) != len(header):
                    raise BadInput(f"{where}: {len(row)} values for {len(header)} columns")
                yield [number(row[place], where, header[place]) for place in places], row[label].strip()
        except (UnicodeDecodeError, csv.Error) as error:
            raise BadInput(f"{path.name}, line {lines.line_num + 1}: {error}") from None


def number(text: str, where: str, column: str) -> float:
    """Return a value as a finite number. Raises BadInput."""
    try:
        value = float(text)
    except ValueError:
        raise BadInput(f"{where}, column {column!r}: {text[:40]!r} is not a number") from None
    if abs(value) > 1e300 or value != value:
        raise BadInput(f"{where}, column {column!r}: {text[:40]!r} is not a finite number")
    return value


def chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield lists of up to CHUNK items."""
    items = iter(items)
    while chunk := list(itertools.islice(items, CHUNK)):
        yield chunk


def read(
    paths: list[Path], target: str, folder: Path, beat: Callable[[], None]
) -> tuple[Any, Any, list[str], list[str]]:
    """Write all rows to one binary file, which need not fit into memory.

    Returns it as a matrix, each row's class as a number, the classes and the columns. Raises BadInput.
    """
    import numpy as np

    columns: list[str] = []
    classes: dict[str, int] = {}
    labels: list[Any] = []
    with open(folder / "rows.f8", "wb") as file:
        for path in paths:
            for chunk in chunks(rows(path, target, columns)):
                file.write(np.array([values for values, _ in chunk]).tobytes())
                labels.append(np.array([classes.setdefault(name, len(classes)) for _, name in chunk], np.int16))
                if len(classes) > MOST_CLASSES:
                    raise BadInput(
                        f"column {target!r} has more than {MOST_CLASSES} different values: it holds no classes"
                    )
                beat()
    found = np.concatenate(labels) if labels else np.empty(0, np.int16)
    learned = np.arange(len(found)) % HELD_BACK != 0
    if len(classes) < 2 or set(found[learned]) != set(found) or set(found[~learned]) != set(found):
        raise BadInput(f"column {target!r} has {len(classes)} classes in {len(found):,} rows: too few to learn from")
    matrix = np.memmap(folder / "rows.f8", np.float64, "r", shape=(len(found), len(columns)))
    return matrix, found, list(classes), columns


def train(
    matrix: Any, labels: Any, classes: list[str], beat: Callable[[], None], stall: int
) -> tuple[Any, dict[str, float]]:
    """Return a fitted pipeline and its metrics on the rows that were held back. The same data give the same model."""
    import numpy as np
    from sklearn.linear_model import SGDClassifier
    from sklearn.metrics import accuracy_score, roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    starts = range(0, len(labels), CHUNK)
    learned, names = np.arange(len(labels)) % HELD_BACK != 0, np.array(classes)
    scaler, model = StandardScaler(), SGDClassifier(loss="log_loss", average=True, random_state=SEED)
    for start in starts:
        part = slice(start, start + CHUNK)
        if learned[part].any():
            scaler.partial_fit(matrix[part][learned[part]])
        beat()
    for epoch in range(EPOCHS):
        for start in starts:
            part = slice(start, start + CHUNK)
            if (chosen := learned[part]).any():
                model.partial_fit(scaler.transform(matrix[part][chosen]), names[labels[part][chosen]], names)
            beat()
        if epoch == 0 and stall:  # asked for in metainfo.json: as a stuck disk would
            time.sleep(stall)
    found = []
    for start in starts:
        part = slice(start, start + CHUNK)
        if not learned[part].all():
            found.append(model.predict_proba(scaler.transform(matrix[part][~learned[part]])))
        beat()
    scores, truth = np.concatenate(found), names[labels[~learned]]
    metrics = {
        "rows": len(labels),
        "accuracy": round(accuracy_score(truth, model.classes_[scores.argmax(axis=1)]), 6),
        "roc_auc": round(roc_auc_score(truth, scores[:, 1] if len(names) == 2 else scores, multi_class="ovr"), 6),
    }
    return make_pipeline(scaler, model), metrics


def work(job: dict[str, Any], record: Record, folder: Path) -> None:
    """Do the unit's work: read, train, write."""
    s3 = boto3.client("s3")
    paths: list[Path] = []
    for name in job["data"]:
        paths.append(folder / "data" / name)
        paths[-1].parent.mkdir(exist_ok=True)
        # Not download_file: it asks with HEAD first, whose refusal does not say what is missing.
        body = s3.get_object(Bucket=job["bucket"], Key=job["source"] + name)["Body"]
        with paths[-1].open("wb") as file:
            for piece in body.iter_chunks(1 << 20):
                file.write(piece)
                record.beat()  # each piece that arrives is a sign of life
    matrix, labels, classes, columns = read(paths, job["target"], folder, record.beat)
    model, metrics = train(matrix, labels, classes, record.beat, job["stall_seconds"])
    import joblib

    joblib.dump({"columns": columns, "target": job["target"], "model": model}, folder / "model.joblib")
    (folder / "metrics.json").write_text(json.dumps(metrics))
    for name in ("model.joblib", "metrics.json"):
        s3.upload_file(str(folder / name), job["bucket"], job["results"] + name)
    record.finish(f"s3://{job['bucket']}/{job['results']}", metrics)


def load() -> None:
    """Import what takes its time on a new disk, before heartbeats are expected."""
    for name in ("joblib", "numpy", "sklearn.linear_model", "sklearn.metrics", "sklearn.pipeline"):
        importlib.import_module(name)


def main(job_file: str, instance: str) -> None:
    """Do the job, and say in the record how it ended."""
    record = Record(json.loads(Path(job_file).read_text()), instance)
    try:
        load()
        record.begin()
        work(record.job, record, Path(job_file).parent)
    except NotOurs as error:
        print(f"nothing more to do: {error}")
    except (BadInput, BotoCoreError, ClientError, MemoryError) as error:
        reason = str(error) if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"
        print(f"failed: {reason}")
        record.fail(reason)
    except Exception as error:
        record.fail(f"{type(error).__name__}: {error}")
        raise


if __name__ == "__main__":
    os.umask(0o077)
    main(*sys.argv[1:])
