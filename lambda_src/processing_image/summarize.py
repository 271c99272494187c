"""Summarize one part of a table: of each column of numbers its count, sum, squares, minimum and maximum.

The same work in every place that can do it. A Lambda function imports ``process``; a container runs

    python summarize.py

and is told by its environment what to do:

    BUCKET, PART, OUTPUT       read this key, write OUTPUT/<name of the part>.json
    PARTS                      instead of PART in an array job: the key of a JSON list, of which this child takes
                               the one that AWS_BATCH_JOB_ARRAY_INDEX counts
    TASK_TOKEN                 report to Step Functions, which waits: success, failure, and heartbeats meanwhile
    HEARTBEAT_SECONDS          how often at most (20)

As a SageMaker training job, where there is no BUCKET, it reads /opt/ml/input/data/*/*.csv and writes
/opt/ml/model/summary.json, and the reason of a failure to /opt/ml/output/failure.

To see how a system bears trouble, it can be asked for:

    FAIL                       fail with this message
    STALL_SECONDS              stand still for so long, without a heartbeat
    FAIL_FIRST_ATTEMPT         as a Batch job: end with exit code 75 in the first attempt

Exit codes: 0, 1 for a failure, 75 for the one that was asked for, 143 when it was told to end.

IAM actions: s3:GetObject on the parts, s3:PutObject on the output; with a token states:SendTaskSuccess,
states:SendTaskFailure and states:SendTaskHeartbeat on the state machine.
"""

import csv
import io
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

MISSING = frozenset({"", "?", "NA", "NaN", "nan"})
BLOCK = 4096  # rows between two signs of life
LONGEST_ERROR, LONGEST_CAUSE = 256, 32_768  # characters that Step Functions takes
GONE = ("TaskTimedOut", "TaskDoesNotExist", "InvalidToken")  # nobody waits for the result any more

Beat = Callable[[], None]


class Failed(Exception):
    """The work came to nothing, for a reason that the message tells."""


class BadInput(Failed):
    """The input is no table as expected; the message names file and line."""


class AskedToFail(Failed):
    """FAIL was set."""


class FirstAttempt(Failed):
    """FAIL_FIRST_ATTEMPT was set, and this is the first."""


class Terminated(Failed):
    """The container was told to end: its task was stopped, or its spot capacity is wanted back."""


class NobodyWaits(Failed):
    """The token is of no use any more: the state machine has gone on without this task."""


class Refused(Failed):
    """AWS refused a call, or did not answer."""


# 75 is EX_TEMPFAIL of sysexits.h, which means "try again"; a shell says 128 + the signal's number.
EXIT_CODES: dict[type[Exception], int] = {FirstAttempt: 75, Terminated: 128 + signal.SIGTERM}


@dataclass
class _Column:
    """What is known of a column so far. ``numeric``: None until its first value."""

    numeric: bool | None = None
    count: int = 0
    missing: int = 0
    values: list[float] = field(default_factory=list)  # of the block that is being read
    sizes: list[int] = field(default_factory=list)  # of the blocks before, as the next three
    sums: list[float] = field(default_factory=list)
    squares: list[float] = field(default_factory=list)
    deviations: list[float] = field(default_factory=list)  # squared, from the block's own mean
    least: float = math.inf
    most: float = -math.inf

    def end_block(self) -> None:
        """Take the block's values into the sums."""
        if self.values:
            self.count += len(self.values)
            self.sizes.append(len(self.values))
            self.sums.append(math.fsum(self.values))
            mean = self.sums[-1] / len(self.values)
            self.deviations.append(math.fsum((value - mean) ** 2 for value in self.values))
            self.squares.append(math.fsum(value * value for value in self.values))
            self.least, self.most = min(self.least, *self.values), max(self.most, *self.values)
            self.values.clear()

    def result(self) -> dict[str, Any]:
        """Return the column's summary. Sums of sums are exact, so that no digit is lost by the order of the rows."""
        total = math.fsum(self.sums)
        mean = total / self.count if self.count else 0.0
        between = (
            size * (part / size - mean) ** 2
            for size, part in zip(self.sizes, self.sums)  # noqa: B905 - made together
        )
        return {
            "count": self.count,
            "missing": self.missing,
            "sum": total,
            "sum_of_squares": math.fsum(self.squares),
            "squared_deviations": math.fsum([*self.deviations, *between]),
            "min": self.least if self.count else None,
            "max": self.most if self.count else None,
        }


def summarize(lines: Iterable[str], name: str = "table", beat: Beat = lambda: None) -> dict[str, Any]:
    """Return ``{"rows", "columns": {name: …}}`` of a table in CSV.

    Of each column: count, missing, sum, sum_of_squares, squared_deviations (from the mean, summed), min, max.
    ``lines``: of text, the header first; ``beat`` is called every BLOCK rows. A column holds numbers when its first
    value that is not missing is one, and then all have to be; other columns are left out. A column without any
    value counts as one of numbers: other parts know better. Blanks around values do not count.
    Raises BadInput, which names the file, as ``name``, and the line.
    """
    reader = csv.reader(lines, skipinitialspace=True, strict=True)
    rows = 0
    try:
        names = [column.strip() for column in next(reader, [])]
        if not any(names):
            raise BadInput(f"{name}: there is no header")
        columns = [_Column() for _ in names]
        for row in reader:
            if not row:
                continue  # an empty line, as pandas does
            if len(row) != len(names):
                raise BadInput(f"{name}, line {reader.line_num}: {len(row)} values where the header has {len(names)}")
            _add(row, names, columns, f"{name}, line {reader.line_num}")
            rows += 1
            if rows % BLOCK == 0:
                for column in columns:
                    column.end_block()
                beat()
    except csv.Error as error:
        raise BadInput(f"{name}, line {reader.line_num}: {error}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{name}, after line {reader.line_num}: not UTF-8: {error.reason}") from error
    if not rows:
        raise BadInput(f"{name}: there are no rows below the header")
    for column in columns:
        column.end_block()
    found = zip(names, columns, strict=True)
    return {"rows": rows, "columns": {key: column.result() for key, column in found if column.numeric is not False}}


def _add(row: Sequence[str], names: Sequence[str], columns: Sequence[_Column], place: str) -> None:
    for text, key, column in zip(row, names, columns):  # noqa: B905 - the lengths were compared
        if column.numeric is False:
            continue
        text = text.strip()
        if text in MISSING:
            column.missing += 1
            continue
        value = _number(text)
        if column.numeric is None:
            column.numeric = value is not None
        elif value is None:
            raise BadInput(f"{place}: {text!r} in the column of numbers {key!r}")
        if value is not None:
            column.values.append(value)


def _number(text: str) -> float | None:
    """Return a finite number. Python's float also takes 1_000, which is no number in a table."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def summary_key(output: str, part: str) -> str:
    """Return the key of a part's summary: summaries/run/part-7.json of the part parts/part-7.csv."""
    return f"{output.rstrip('/')}/{PurePosixPath(part).stem}.json"


def process(s3: Any, bucket: str, part: str, output: str, beat: Beat = lambda: None) -> dict[str, Any]:
    """Summarize an object and write the result below ``output``. Returns ``{"part", "summary", "rows"}``, keys of S3.

    ``s3``: an S3 client. Raises BadInput, and ClientError as S3 refuses.
    """
    with open_text(s3, bucket, part) as lines:
        found = summarize(lines, part, beat)
    key = summary_key(output, part)
    body = json.dumps({"part": part, **found}).encode()
    s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json")
    return {"part": part, "summary": key, "rows": found["rows"]}


def open_text(s3: Any, bucket: str, key: str) -> io.TextIOWrapper:
    """Return an object of S3 as a file of text that is read as it arrives. Raises BadInput when there is none."""
    try:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"]
    except s3.exceptions.NoSuchKey as error:
        raise BadInput(f"{key}: there is no such object in the bucket {bucket}") from error
    return io.TextIOWrapper(io.BufferedReader(body, 1 << 20), encoding="utf-8-sig", newline="")


class Reporter:
    """Tells Step Functions how a task with a token goes. Without a token it tells nobody."""

    def __init__(
        self, token: str, states: Any = None, *, seconds: float = 20, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin. ``states``: a Step Functions client, needed with a token; ``seconds``: between two heartbeats."""
        self.token, self.states, self.seconds, self.clock = token, states, seconds, clock
        self.last = clock()

    def beat(self) -> None:
        """Send a heartbeat when it is time to. Raises NobodyWaits when the task has been given up."""
        if self.token and self.clock() - self.last >= self.seconds:
            self.last = self.clock()
            self._send(self.states.send_task_heartbeat)

    def succeed(self, output: Mapping[str, Any]) -> None:
        """Report the end. Raises NobodyWaits."""
        if self.token:
            self._send(self.states.send_task_success, output=json.dumps(output))

    def fail(self, error: str, cause: str) -> None:
        """Report a failure. Raises NobodyWaits."""
        if self.token:
            self._send(self.states.send_task_failure, error=error[:LONGEST_ERROR], cause=cause[:LONGEST_CAUSE])

    def _send(self, call: Callable[..., Any], **more: str) -> None:
        try:
            call(taskToken=self.token, **more)
        except Exception as error:
            code = getattr(error, "response", {}).get("Error", {}).get("Code")
            if code in GONE:
                raise NobodyWaits(f"the state machine does not wait any more: {code}") from error
            raise


def part_of(s3: Any, environment: Mapping[str, str]) -> str:
    """Return the part that this container is to read: PART, or the child's own of PARTS. Raises BadInput."""
    if part := environment.get("PART"):
        return part
    try:
        key, index = environment["PARTS"], int(environment["AWS_BATCH_JOB_ARRAY_INDEX"])
    except KeyError as error:
        raise BadInput(f"neither PART nor PARTS and an array's index are set: there is no {error}") from error
    with open_text(s3, environment["BUCKET"], key) as file:
        parts = json.load(file)
    if index >= len(parts):
        raise BadInput(f"{key} lists {len(parts)} parts: there is none for the array's child {index}")
    return parts[index]


def trouble(environment: Mapping[str, str], sleep: Callable[[float], None] = time.sleep) -> None:
    """Do the harm that was asked for, to see how a system bears it. Raises AskedToFail or FirstAttempt."""
    if environment.get("FAIL_FIRST_ATTEMPT") and environment.get("AWS_BATCH_JOB_ATTEMPT") == "1":
        raise FirstAttempt("the first attempt was asked to fail; the second will not")
    if seconds := float(environment.get("STALL_SECONDS") or 0):
        print(f"stands still for {seconds:g} seconds: STALL_SECONDS is set", flush=True)
        sleep(seconds)
    if message := environment.get("FAIL"):
        raise AskedToFail(message)


def run(environment: Mapping[str, str], s3: Any, reporter: Reporter) -> dict[str, Any]:
    """Do what the environment says with S3, and report it. Returns what ``process`` does."""
    try:
        part = part_of(s3, environment)
        trouble(environment)
        reporter.beat()
        done = process(s3, environment["BUCKET"], part, environment["OUTPUT"], reporter.beat)
        reporter.succeed(done)
    except NobodyWaits:
        raise
    except KeyError as error:
        reporter.fail("BadInput", f"{error} is not set")
        raise BadInput(f"{error} is not set") from error
    except Exception as error:
        # Also where success may not be reported: nobody is left to wait for a heartbeat that does not come.
        reporter.fail(type(error).__name__, str(error))
        raise
    return done


def train(root: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Summarize every file of every channel of a training job, as one table. Returns what was written."""
    files = sorted((root / "input" / "data").glob("*/*.csv"))
    if not files:
        raise BadInput(f"there is no csv file in a channel below {root / 'input' / 'data'}")
    trouble(environment)
    by_file = {}
    for path in files:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            by_file[path.name] = summarize(lines, path.name)
    (root / "model").mkdir(parents=True, exist_ok=True)
    (root / "model" / "summary.json").write_text(json.dumps(by_file))
    return {"files": len(files), "rows": sum(found["rows"] for found in by_file.values())}


def main(environment: Mapping[str, str] = os.environ, root: Path = Path("/opt/ml")) -> int:
    """Do the work. Returns the exit code; prints one line of JSON, or the reason of a failure."""
    signal.signal(signal.SIGTERM, _terminate)  # process 1 of a container has no default way to end
    training = "BUCKET" not in environment and (root / "input" / "data").is_dir()
    try:
        done = train(root, environment) if training else _with_clients(environment)
    except Failed as error:
        reason = f"{type(error).__name__}: {error}"
        print(f"failed: {reason}", file=sys.stderr, flush=True)
        if training:  # SageMaker shows it as the job's FailureReason
            (root / "output").mkdir(parents=True, exist_ok=True)
            (root / "output" / "failure").write_text(reason)
        return EXIT_CODES.get(type(error), 1)
    print(json.dumps(done), flush=True)
    return 0


def _with_clients(environment: Mapping[str, str]) -> dict[str, Any]:
    if "BUCKET" not in environment:
        raise BadInput("BUCKET is not set")
    import boto3  # not at the top: whoever imports summarize alone needs none
    from botocore.exceptions import BotoCoreError, ClientError

    token = environment.get("TASK_TOKEN", "")
    seconds = float(environment.get("HEARTBEAT_SECONDS") or 20)
    reporter = Reporter(token, boto3.client("stepfunctions") if token else None, seconds=seconds)
    try:
        return run(environment, boto3.client("s3"), reporter)
    except (ClientError, BotoCoreError) as error:
        raise Refused(str(error)) from error


def _terminate(*_: Any) -> NoReturn:
    raise Terminated("told to end by SIGTERM")


if __name__ == "__main__":
    sys.exit(main())
