"""The script that standardizes an uploaded file: against StandardScaler, and with contents that are hard to read."""

import importlib.util
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from helpers import dataset, standardization


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("script_standardize", standardization.SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


standardize = load()


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Return a function that standardizes a file of these bytes: what was written, and the statistics."""

    def standardized(content: bytes) -> tuple[bytes, dict[str, Any]]:
        source = tmp_path / "partition_1.csv"
        source.write_bytes(content)
        statistics = standardize.standardize(source, tmp_path)
        assert statistics == json.loads((tmp_path / "statistics.json").read_text())
        return (tmp_path / "standardized.csv").read_bytes(), statistics

    return standardized


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut files into blocks of some 60 bytes: what a file of many gigabytes has, a small one then has too."""
    blocks = standardize.blocks
    monkeypatch.setattr(standardize, "blocks", lambda path: blocks(path, 60))


def as_csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False).encode()


def table_of(content: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(content))


def test_the_sample_is_standardized_as_the_scaler_does_it(run: Any, tmp_path: Path) -> None:
    (part,) = standardization.partitions(dataset.sample_path(), tmp_path, 1)
    given = pd.read_csv(part)
    written, statistics = run(part.read_bytes())
    scaler = StandardScaler().fit(given)
    np.testing.assert_allclose(table_of(written), scaler.transform(given), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose([one["mean"] for one in statistics["columns"]], scaler.mean_, rtol=1e-12)
    np.testing.assert_allclose([one["std"] for one in statistics["columns"]], scaler.scale_, rtol=1e-12)
    assert [one["name"] for one in statistics["columns"]] == list(given.columns)
    assert statistics["rows"] == len(given) == 2000
    assert statistics["peak_memory_mb"] > 1


@pytest.mark.usefixtures("small_blocks")
def test_blocks_make_no_difference(run: Any) -> None:
    given = pd.DataFrame(np.random.default_rng(0).normal(3, 2, (500, 4)), columns=list("abcd"))
    given.iloc[5, 1] = given.iloc[400, 2] = np.nan
    written, statistics = run(as_csv(given))
    np.testing.assert_allclose(table_of(written), StandardScaler().fit_transform(given), rtol=1e-12, atol=1e-13)
    assert [one["missing"] for one in statistics["columns"]] == [0, 1, 1, 0]
    assert [one["count"] for one in statistics["columns"]] == [500, 499, 499, 500]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("offset", [0.0, 1e9, -1e12])
def test_large_numbers_that_differ_little_keep_their_digits(run: Any, offset: float) -> None:
    small = np.random.default_rng(1).integers(-8, 9, 1000) / 4  # exact in binary, with the offset too
    written, _ = run(as_csv(pd.DataFrame({"x": small + offset})))
    wanted = StandardScaler().fit_transform(small.reshape(-1, 1)).ravel()
    np.testing.assert_allclose(table_of(written)["x"], wanted, rtol=0, atol=1e-12)


def test_numbers_are_written_so_that_they_are_read_back_exactly(run: Any) -> None:
    given = np.random.default_rng(2).lognormal(0, 30, 300)
    written, statistics = run(as_csv(pd.DataFrame({"x": given})))
    column = standardize.Column("x")
    column.add(np.array([float(text) for text in as_csv(pd.DataFrame({"x": given})).decode().split()[1:]]))
    assert [float(text) for text in written.decode().split()[1:]] == column.standardize(given).tolist()
    assert statistics["columns"][0]["std"] == column.std


def test_a_constant_column_becomes_zero(run: Any) -> None:
    written, statistics = run(b"a,b\n0.1,1\n0.1,2\n0.1,3\n")
    assert table_of(written)["a"].tolist() == [0, 0, 0]
    assert statistics["columns"][0] == {
        "name": "a", "treatment": "constant", "count": 3, "missing": 0, "mean": 0.1, "std": 0.0
    }  # fmt: skip


def test_missing_values_stay_missing_and_are_not_counted(run: Any) -> None:
    written, statistics = run(b"a,b\n1,NA\n,2\n3, \n2,nan\n")
    root = 1.5**0.5
    assert written.decode() == f"a,b\n{-root!r},\n,0.0\n{root!r},\n0.0,\n"
    assert [one["count"] for one in statistics["columns"]] == [3, 1]
    assert [one["missing"] for one in statistics["columns"]] == [1, 3]


def test_text_and_empty_columns_pass_unchanged(run: Any) -> None:
    given = b'name,x,none,truth\n"a, ""b""",1,,True\nNA,3,,False\n"two\nlines",2,, True\n'
    written, statistics = run(given)
    found = written.decode().replace("-1.224744871391589", "1").replace("1.224744871391589", "3").replace("0.0", "2")
    assert found.encode() == given
    treatments = {one["name"]: one["treatment"] for one in statistics["columns"]}
    assert treatments == {"name": "not numeric", "x": "standardized", "none": "not numeric", "truth": "not numeric"}
    assert statistics["columns"][0]["mean"] is None


@pytest.mark.usefixtures("small_blocks")
def test_a_text_column_may_hold_a_few_numbers(run: Any) -> None:
    texts = ["a", "b", "c", "12", "", "d"] * 40
    written, statistics = run(as_csv(pd.DataFrame({"x": range(240), "t": texts})))
    assert [line.rpartition(",")[2] for line in written.decode().split("\n")[1:-1]] == texts
    assert statistics["columns"][1]["treatment"] == "not numeric"


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "the file is empty"),
    (b"\n\n", "the file is empty"),
    (b"\xef\xbb\xbf", "the file is empty"),
    (b"a,b\n", "the file has a header and no rows"),
    (b"a,b", "the file has a header and no rows"),
    (b"a,b\n\n\n", "the file has a header and no rows"),
    (b"a,b\n1,2\n3,x\n5,6\n", "column 'b' holds numbers, but also a text: 'x' in line 3"),
    (b"a,b\n1,2\n\n3,1.2.3\n5,6\n", "column 'b' holds numbers, but also a text: '1.2.3' in line 4"),
    (b'a,b\n1,"2"\n"3",1e5\n-inf,6\n', "column 'a' holds an infinite number in line 4"),
    (b"a\n1\n1e400\n", "column 'a' holds an infinite number in line 3"),
    (b"a\n1e200\n-1e200\n", "the numbers of column 'a' are too large: their variance is no number any more"),
    (b"a,b\n1,2,3\n", "line 2 has 3 values, the header 2"),
    (b"a,b\n1,2\n\n1,2,3\n", "line 4 has 3 values, the header 2"),
    (b'a,b\n1,"2\n3,4\n', "cannot be read"),
    (b"a,b\n1,2\n1,\xff\n", "the file is not text in UTF-8: byte 0xff in line 3"),
    (b"\xff,b\n1,2\n", "the file is not text in UTF-8: byte 0xff in line 1"),
])  # fmt: skip
def test_what_cannot_be_standardized_is_refused_with_the_place(run: Any, content: bytes, reason: str) -> None:
    with pytest.raises(standardize.Refused, match=re.escape(reason)):
        run(content)


@pytest.mark.usefixtures("small_blocks")
def test_a_text_is_named_with_its_line_also_far_down(run: Any) -> None:
    rows = [f'{number},"{number}\n"' for number in range(300)]  # two lines each
    rows[200] = "200,oops"
    content = ("a,b\n" + "\n".join(rows) + "\n").encode()
    with pytest.raises(standardize.Refused, match="'oops' in line 402"):
        run(content)


def test_an_unclosed_quotation_mark_does_not_take_all_memory(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standardize, "LONGEST_RECORD", 4_000_000)
    with pytest.raises(standardize.Refused, match="the record in line 3 does not end"):
        run(b'a,b\n1,2\n3,"4\n' + b"5,6\n" * 2_000_000)


@pytest.mark.parametrize(("given", "wanted"), [
    (b"a,b\r\n1,2\r\n3,4\r\n", b"a,b\n-1.0,-1.0\n1.0,1.0\n"),
    (b"\xef\xbb\xbfa,b\n1,2\n3,4\n", b"a,b\n-1.0,-1.0\n1.0,1.0\n"),
    (b"a,b\n1,2\n3,4", b"a,b\n-1.0,-1.0\n1.0,1.0\n"),
    (b"\na,b\n\n1,2\n\n3,4\n\n", b"a,b\n-1.0,-1.0\n1.0,1.0\n"),
    (b"a,a\n1,2\n3,4\n", b"a,a\n-1.0,-1.0\n1.0,1.0\n"),
    (b'"a,\nb",\xc3\xbc\n1,2\n3,4\n', b'"a,\nb",\xc3\xbc\n-1.0,-1.0\n1.0,1.0\n'),
    (b"a,b\n1,2\n3\n", b"a,b\n-1.0,0.0\n1.0,\n"),  # a row that ends early
    (b"a\n1\n\"\"\n3\n", b'a\n-1.0\n""\n1.0\n'),  # a missing value that is a row of its own
    (b"a\n 1\n3 \n", b"a\n-1.0\n1.0\n"),
    (b"1,2\n1,2\n3,4\n", b"1,2\n-1.0,-1.0\n1.0,1.0\n"),  # a header of numbers
])  # fmt: skip
def test_ways_to_write_a_csv_file(run: Any, given: bytes, wanted: bytes) -> None:
    assert run(given)[0] == wanted


def test_a_block_ends_where_a_record_ends() -> None:
    assert standardize.whole_records(b"a,b\nc,d\ne") == 8
    assert standardize.whole_records(b'a,"b\nc",d\ne') == 10
    assert standardize.whole_records(b'a,b\nc,"d\ne\nf') == 4
    assert standardize.whole_records(b'a,"b\nc') == 0
    assert standardize.whole_records(b'a,"""b\n"""\nc') == 11


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, standardization.SCRIPT, *arguments],
        env={"PROCESSING_DIR": str(folder / "processing"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_refusal_is_the_jobs_message(tmp_path: Path) -> None:
    (tmp_path / "processing/input").mkdir(parents=True)
    (tmp_path / "processing/input/partition_9.csv").write_bytes(b"a\n")
    done = call(tmp_path, "--file", "partition_9.csv")
    assert done.returncode == 1
    assert (tmp_path / "output/message").read_text() == "the file has a header and no rows"
    assert done.stderr == "standardize: partition_9.csv: the file has a header and no rows\n"


@pytest.mark.parametrize("kind", ["numbers", "text", "quoted lines"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, kind: str) -> None:
    row = {"numbers": "1.25,7,0\n", "text": "1.25,7,some text of thirty letters\n", "quoted lines": '1.25,7,"a\nb"\n'}
    peaks = []
    for megabytes in (6, 30):
        folder = tmp_path / str(megabytes)
        (folder / "processing/input").mkdir(parents=True)
        content = "a,b,c\n" + row[kind] * (megabytes * 1_000_000 // len(row[kind])) + "2.5,8,1\n"
        (folder / "processing/input/p.csv").write_text(
            content.replace("8,1\n", "8,b\n") if kind != "numbers" else content
        )
        done = call(folder, "--file", "p.csv")
        assert done.returncode == 0, done.stderr
        peaks.append(json.loads((folder / "processing/output/statistics.json").read_text())["peak_memory_mb"])
    assert peaks[1] < 300
    assert peaks[1] < peaks[0] + 15, peaks
