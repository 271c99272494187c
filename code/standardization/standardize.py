"""Standardize the numeric columns of a CSV file, x' = (x - mean) / std, whatever its size.

reads   input/NAME               a CSV file in UTF-8 with a header; NAME comes from --file
writes  output/standardized.csv  the same columns and rows, the numbers in their shortest exact form
        output/statistics.json   what was computed of each column, and with which memory

The file is read twice, block by block: first for the statistics, then to write. A block is cut where a
record ends, so memory does not grow with the file. ``std`` is that of the population, as
scikit-learn's StandardScaler takes it; missing values stay missing and are not counted.

What happens to a column is its ``treatment``:
- standardized: numbers, and perhaps missing values (an empty cell, NA, NaN, null and the like)
- constant: its numbers are all the same, so x' = x - mean = 0
- not numeric: text, or nothing at all; it is passed through as it is

A text among more numbers is no guess that a script should make: the job fails and names column and line.
So it does for an infinite number, a row that is too long, and a file without rows.
"""

import argparse
import csv
import io
import json
import logging
import math
import os
import re
import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

BLOCK = 1 << 20  # bytes that are read at once: larger blocks take more memory and are not faster
LONGEST_RECORD = 1 << 25
MISSING = {"", "#N/A", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
BOOLEANS = (b"rue", b"RUE", b"alse", b"ALSE")  # pandas takes True for 1 where it is told to read numbers
MESSAGE_BYTES = 1024  # SageMaker keeps so much of a job's message

log = logging.getLogger("standardize")


class Refused(Exception):
    """The file cannot be standardized; the message says why."""


@dataclass(frozen=True)
class Block:
    """Whole records of a file. ``line``: number of the first one's line in the file, from 1."""

    data: bytes = field(repr=False)
    line: int

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each record that is not blank, with its line. Raises Refused."""
        csv.field_size_limit(LONGEST_RECORD)
        reader = csv.reader(io.TextIOWrapper(io.BytesIO(self.data), "utf-8", newline=""))
        before = 0
        try:
            for record in reader:
                if record:
                    yield self.line + before, record
                before = reader.line_num
        except csv.Error as error:
            raise Refused(f"line {self.line + before} cannot be read: {error}") from error
        except UnicodeDecodeError as error:
            raise self.not_text() from error

    def line_of(self, row: int) -> int:
        """Return the line of the block's record ``row``, from 0."""
        return next(line for number, (line, _) in enumerate(self.records()) if number == row)

    def not_text(self) -> Refused:
        """Return the error for a block that is not UTF-8."""
        try:
            self.data.decode()
        except UnicodeDecodeError as error:
            line = self.line + self.data.count(b"\n", 0, error.start)
            return Refused(f"the file is not text in UTF-8: byte {self.data[error.start]:#x} in line {line}")
        raise AssertionError("the block is UTF-8")


@dataclass
class Column:
    """What is known of a column so far. Numbers are taken from ``origin``, so that large ones keep their digits."""

    name: str
    count: int = 0
    missing: int = 0
    texts: int = 0
    first_text: tuple[int, str] = (0, "")  # its line, and itself
    origin: float = 0.0
    offset: float = 0.0  # of the mean, from the origin
    squares: float = 0.0  # sum of squared distances from the mean

    def add(self, values: np.ndarray) -> None:
        """Take in the numbers of a block; NaN is missing.

        Mean and squares of the blocks are merged as Chan, Golub and LeVeque do, whose terms do not cancel.
        """
        known = values[~np.isnan(values)]
        self.missing += len(values) - len(known)
        if not len(known):
            return
        if not self.count:
            self.origin = float(known[0])
        total = self.count + len(known)
        with np.errstate(over="ignore", invalid="ignore"):
            known = known - self.origin
            mean = float(known.mean())
            squares = float(np.square(known - mean).sum())
            apart = mean - self.offset
            self.squares += squares + float(np.square(apart)) * (self.count / total) * len(known)
        self.offset += apart * (len(known) / total)
        self.count = total

    @property
    def mean(self) -> float:
        """The mean; 0 without numbers."""
        return self.origin + self.offset

    @property
    def std(self) -> float:
        """The standard deviation of the population; 0 without numbers."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    @property
    def treatment(self) -> str:
        """What happens to the column."""
        if not self.count or self.texts:
            return "not numeric"
        return "standardized" if self.std else "constant"

    def standardize(self, values: np.ndarray) -> np.ndarray:
        """Return x' of each number."""
        return ((values - self.origin) - self.offset) / (self.std or 1.0)

    def statistics(self) -> dict:
        """Return the column's part of statistics.json."""
        found: dict = {"name": self.name, "treatment": self.treatment, "count": self.count, "missing": self.missing}
        if self.treatment == "not numeric":
            return {**found, "count": self.count + self.texts, "mean": None, "std": None}
        return {**found, "mean": self.mean, "std": self.std}


def blocks(path: Path, size: int = BLOCK) -> Iterator[Block]:
    """Yield the file in blocks of whole records, the first of them without a byte order mark. Raises Refused."""
    line, rest = 1, b""
    with path.open("rb") as file:
        rest = file.read(3).removeprefix(b"\xef\xbb\xbf")
        while read := file.read(size):
            data = rest + read
            end = whole_records(data)
            if not end and len(data) > LONGEST_RECORD:
                raise Refused(f"the record in line {line} does not end: is a quotation mark not closed?")
            if end:
                yield Block(data[:end], line)
                line += data.count(b"\n", 0, end)
            rest = data[end:]
    if rest:
        yield Block(rest, line)


def whole_records(data: bytes) -> int:
    """Return where the last whole record ends: after a line that no quotation mark holds open."""
    end = data.rfind(b"\n") + 1
    marks = data.count(b'"', 0, end)
    while end and marks % 2:
        before = data.rfind(b"\n", 0, end - 1) + 1
        marks -= data.count(b'"', before, end)
        end = before
    return end


def read_header(path: Path) -> tuple[list[str], int]:
    """Return the columns' names and the number of lines down to the header's end. Raises Refused."""
    for block in blocks(path):
        for line, record in block.records():
            # A record's lines: those before it may be blank, and a name may hold a line break.
            return record, line + sum(name.count("\n") for name in record)
    raise Refused("the file is empty")


def rows(path: Path, header_lines: int) -> Iterator[Block]:
    """Yield the blocks without the header."""
    for block in blocks(path):
        if block.line > 1 or header_lines == 0:
            yield block
            continue
        start = 0
        for _ in range(header_lines):
            start = (block.data.find(b"\n", start) + 1) or len(block.data)
        if block.data[start:].strip():
            yield Block(block.data[start:], 1 + header_lines)


def parse(block: Block, width: int, texts: frozenset[int]) -> list[np.ndarray]:
    """Return the block's columns: numbers as float64 with NaN for missing ones, what holds text as objects.

    ``texts``: the columns that are known to hold text. Raises Refused.
    """
    line, first = next(block.records(), (block.line, []))
    if len(first) > width:
        raise Refused(f"line {line} has {len(first)} values, the header {width}")
    numeric = [column for column in range(width) if column not in texts]
    if not any(word in block.data for word in BOOLEANS):
        try:
            table = _read(block, width, {**dict.fromkeys(range(width), object), **dict.fromkeys(numeric, np.float64)})
            return [table[column].to_numpy() for column in range(width)]
        except UnicodeDecodeError as error:
            raise block.not_text() from error
        except ValueError:  # some number is none
            pass
    table = _read(block, width, dict.fromkeys(range(width), object))
    found = [table[column].to_numpy() for column in range(width)]
    return [values if column in texts else _numbers_or_texts(values) for column, values in enumerate(found)]


def _read(block: Block, width: int, types: dict) -> pd.DataFrame:
    try:
        return pd.read_csv(
            io.BytesIO(block.data), header=None, names=range(width), index_col=False, dtype=types,
            keep_default_na=False, na_values={c: list(MISSING) for c in types if types[c] is np.float64},
        )  # fmt: skip
    except pd.errors.ParserError as error:
        for line, record in block.records():
            if len(record) > width:
                raise Refused(f"line {line} has {len(record)} values, the header {width}") from error
        raise Refused(f"a record after line {block.line} cannot be read: {str(error).strip()}") from error


def _numbers_or_texts(values: np.ndarray) -> np.ndarray:
    numbers, missing = _judge(values)
    return values if (np.isnan(numbers) & ~missing).any() else numbers


def _judge(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the number in each text, NaN where there is none, and which of them are missing values."""
    codes, different = pd.factorize(values)
    numbers = pd.to_numeric(pd.Series(different, dtype=object), errors="coerce").to_numpy(np.float64)
    missing = np.array([text.strip() in MISSING for text in different], dtype=bool)
    # Code -1, a cell that its row does not have, takes the last one.
    return np.append(numbers, np.nan)[codes], np.append(missing, True)[codes]


def measure(path: Path, names: Sequence[str], header_lines: int) -> tuple[list[Column], int]:
    """Return the statistics of all columns and the number of rows. Raises Refused."""
    columns, count = [Column(name) for name in names], 0
    for block in rows(path, header_lines):
        texts = frozenset(number for number, column in enumerate(columns) if column.texts)
        found = parse(block, len(columns), texts)
        count += len(found[0])
        for column, values in zip(columns, found, strict=True):
            if values.dtype == object:
                _add_texts(column, values, block)
            else:
                column.add(values)
                if not math.isfinite(column.squares):
                    raise Refused(_why_infinite(column, values, block))
    if not count:
        raise Refused("the file has a header and no rows")
    for column in columns:
        if 0 < column.texts < column.count:
            line, text = column.first_text
            raise Refused(f"column {column.name!r} holds numbers, but also a text: {text[:80]!r} in line {line}")
    return columns, count


def _add_texts(column: Column, values: np.ndarray, block: Block) -> None:
    numbers, missing = _judge(values)
    texts = np.isnan(numbers) & ~missing
    if texts.any() and not column.texts:
        row = int(texts.argmax())
        column.first_text = (block.line_of(row), values[row])
    column.texts += int(texts.sum())
    column.missing += int(missing.sum())
    column.count += int((~np.isnan(numbers)).sum())


def _why_infinite(column: Column, values: np.ndarray, block: Block) -> str:
    infinite = np.isinf(values)
    if infinite.any():
        return f"column {column.name!r} holds an infinite number in line {block.line_of(int(infinite.argmax()))}"
    return f"the numbers of column {column.name!r} are too large: their variance is no number any more"


def write(source: Path, target: Path, columns: Sequence[Column], header_lines: int) -> None:
    """Write the standardized file. Raises Refused."""
    texts = frozenset(number for number, column in enumerate(columns) if column.treatment == "not numeric")
    empty = '""' if len(columns) == 1 else ""  # a blank line would be no row
    with target.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(quoted(column.name) for column in columns) + "\n")
        for block in rows(source, header_lines):
            found = parse(block, len(columns), texts)
            cells = [_cells(column, values, empty) for column, values in zip(columns, found, strict=True)]
            file.write("\n".join(map(",".join, zip(*cells, strict=True))) + "\n")


def _cells(column: Column, values: np.ndarray, empty: str) -> list[str]:
    """Return a column as CSV. Each different value is formatted once: short numbers repeat themselves a lot."""
    codes, different = pd.factorize(values)
    if values.dtype == object:
        texts = [quoted(text) or empty for text in different]
    else:
        texts = list(map(repr, column.standardize(different).tolist()))
    return np.array([*texts, empty], dtype=object)[codes].tolist()


def quoted(text: str) -> str:
    """Return a text as a cell, in quotation marks where it needs them."""
    return '"' + text.replace('"', '""') + '"' if re.search('[",\r\n]', text) else text


def peak_memory() -> float:
    """Return the most memory that this process has had at once, in MB (MiB)."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what a process had before it became this program
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1024)


def standardize(source: Path, output: Path) -> dict:
    """Write both files to ``output``; return the statistics. Raises Refused."""
    names, header_lines = read_header(source)
    columns, count = measure(source, names, header_lines)
    write(source, output / "standardized.csv", columns, header_lines)
    found = {
        "rows": count,
        "peak_memory_mb": round(peak_memory(), 1),
        "columns": [column.statistics() for column in columns],
    }
    (output / "statistics.json").write_text(json.dumps(found, indent=2, allow_nan=False) + "\n")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Run the job in the folder that PROCESSING_DIR names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", required=True, help="name of the CSV file in the input folder")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    args = parser.parse_args(argv)
    logging.basicConfig(level=args.log_level, format="%(name)s: %(message)s")
    root = Path(os.environ.get("PROCESSING_DIR", "/opt/ml/processing"))
    output = root / "output"
    output.mkdir(parents=True, exist_ok=True)
    try:
        found = standardize(root / "input" / args.file, output)
    except Refused as reason:
        message = str(reason)
        # SageMaker shows what it finds here as the job's ExitMessage.
        place = root.parent / "output" / "message"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(message.encode()[:MESSAGE_BYTES])
        log.error("%s: %s", args.file, message)
        raise SystemExit(1) from reason
    treatments = [column["treatment"] for column in found["columns"]]
    counts = ", ".join(f"{treatments.count(kind)} {kind}" for kind in sorted(set(treatments)))
    log.info("%s: %d rows; columns: %s; %.0f MB", args.file, found["rows"], counts, found["peak_memory_mb"])


if __name__ == "__main__":
    main()
