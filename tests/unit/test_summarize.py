"""The work of notebooks 08a to 08d: one part of a table, summarized in every place that can do it."""

import io
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from answers import Aws, refuse
from botocore.response import StreamingBody
from function_modules import load_function

from helpers import dataset, functions, processing

FOLDER = functions.SOURCES / "processing_image"
summarize, combine = (
    load_function(FOLDER, "summarize")[0],
    load_function(functions.SOURCES / "combine", "lambda_function")[0],
)
TABLE = "age,name,weeks\n39, anna,52\n,bert, 40\n50, carla,NA\n"
SOURCE = {"BUCKET": "b", "PART": "parts/part-1.csv", "OUTPUT": "summaries/run"}


def of(text: str, **more: Any) -> dict[str, Any]:
    return summarize.summarize(io.StringIO(text, newline=""), "part.csv", **more)


def body(text: str) -> dict[str, Any]:
    raw = text.encode()
    return {"Body": StreamingBody(io.BytesIO(raw), len(raw))}


def test_columns_of_numbers_are_summarized_and_others_left_out() -> None:
    found = of(TABLE)
    assert found["rows"] == 3
    assert found["columns"] == {
        "age": {"count": 2, "missing": 1, "sum": 89.0, "sum_of_squares": 4021.0, "squared_deviations": 60.5,
                "min": 39.0, "max": 50.0},
        "weeks": {"count": 2, "missing": 1, "sum": 92.0, "sum_of_squares": 4304.0, "squared_deviations": 72.0,
                  "min": 40.0, "max": 52.0},
    }  # fmt: skip


@pytest.mark.parametrize("parts", [1, 7])
def test_combined_parts_are_what_pandas_finds(parts: int, tmp_path: Path) -> None:
    files = dataset.write_parts(dataset.sample_path(), tmp_path, parts)
    found = {}
    for file in files:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            found[file.name] = json.loads(json.dumps(summarize.summarize(lines, file.name)))
    statistics = combine.plan(found)
    table = pd.DataFrame.from_dict(statistics["columns"], orient="index")
    expected = processing.expected_statistics(dataset.sample_path())
    assert len(table) == 13
    assert statistics["rows"] == 2000
    assert processing.largest_difference(table, expected) < 1e-12


def test_no_digit_is_lost_by_the_order_of_the_rows() -> None:
    values = [1e16, 1.0, -1e16, 1.0] * 3000
    column = of("x\n" + "\n".join(map(repr, values)))["columns"]["x"]
    assert column["sum"] == math.fsum(values) == 6000.0


@pytest.mark.parametrize("parts", [1, 3])
def test_a_small_deviation_of_large_numbers_is_not_lost(parts: int) -> None:
    values = [1e9 + 0.25 * (number % 3) for number in range(3 * summarize.BLOCK)]
    found = {str(part): of("x\n" + "\n".join(map(repr, values[part::parts]))) for part in range(parts)}
    assert combine.plan(found)["columns"]["x"]["std"] == pytest.approx(math.sqrt(0.125 / 3), rel=1e-12)
    constant = {str(part): of("x\n" + "\n".join(["123456789.123"] * 9)) for part in range(parts)}
    assert combine.plan(constant)["columns"]["x"]["std"] == pytest.approx(0, abs=1e-7)


def test_a_sign_of_life_comes_every_block() -> None:
    beats: list[int] = []
    rows = "\n".join("1" for _ in range(2 * summarize.BLOCK + 5))
    found = of(f"x\n{rows}", beat=lambda: beats.append(1))
    assert (len(beats), found["columns"]["x"]["count"]) == (2, 2 * summarize.BLOCK + 5)


def test_a_column_without_values_counts_as_one_of_numbers() -> None:
    assert of("a,b\n1,\n2,?\n")["columns"]["b"] == {
        "count": 0, "missing": 2, "sum": 0.0, "sum_of_squares": 0.0, "squared_deviations": 0.0,
        "min": None, "max": None,
    }  # fmt: skip


@pytest.mark.parametrize(("text", "problem"), [
    ("", "part.csv: there is no header"),
    ("\n\n", "part.csv: there is no header"),
    ("age,weeks\n", "part.csv: there are no rows below the header"),
    ("age,weeks\n1,2\n3\n", "part.csv, line 3: 1 values where the header has 2"),
    ("age,weeks\n1,2\n3,many\n", "part.csv, line 3: 'many' in the column of numbers 'weeks'"),
    ("age\n1\ninf\n", "part.csv, line 3: 'inf' in the column of numbers 'age'"),
    ("age\n1\n1_000\n", "part.csv, line 3: '1_000' in the column of numbers 'age'"),
    ('age\n"1\n', "part.csv, line 2: unexpected end of data"),
])  # fmt: skip
def test_bad_input_is_refused_with_file_and_line(text: str, problem: str) -> None:
    with pytest.raises(summarize.BadInput) as caught:
        of(text)
    assert str(caught.value) == problem


def test_empty_lines_and_values_in_quotes_are_fine() -> None:
    assert of('a,"b, c"\n\n1,"2"\n')["columns"]["b, c"]["sum"] == 2.0


def test_an_object_is_read_and_its_summary_written() -> None:
    aws = Aws({"s3:GetObject": body("\ufeff" + TABLE), "s3:PutObject": {}})
    done = summarize.process(aws.client("s3"), "b", "parts/part-1.csv", "summaries/run")
    assert done == {"part": "parts/part-1.csv", "summary": "summaries/run/part-1.json", "rows": 3}
    (written,) = aws.asked("s3:PutObject")
    assert (written["Bucket"], written["Key"]) == ("b", "summaries/run/part-1.json")
    assert json.load(written["Body"])["columns"]["age"]["sum"] == 89.0


def test_an_object_that_is_missing_and_one_that_is_no_text_are_bad_input() -> None:
    aws = Aws({"s3:GetObject": refuse("NoSuchKey", status=404)})
    with pytest.raises(summarize.BadInput, match=r"parts/p\.csv: there is no such object in the bucket b"):
        summarize.process(aws.client("s3"), "b", "parts/p.csv", "o")
    raw = b"a\n1\n\xff\xfe\n"
    aws = Aws({"s3:GetObject": {"Body": StreamingBody(io.BytesIO(raw), len(raw))}})
    with pytest.raises(summarize.BadInput, match=r"parts/p\.csv, after line \d: not UTF-8"):
        summarize.process(aws.client("s3"), "b", "parts/p.csv", "o")


def test_the_children_of_an_array_read_the_list() -> None:
    aws = Aws({"s3:GetObject": lambda _: body('["parts/part-1.csv", "parts/part-2.csv"]')})
    array = {"BUCKET": "b", "PARTS": "sets/parts.json", "AWS_BATCH_JOB_ARRAY_INDEX": "1"}
    assert summarize.part_of(aws.client("s3"), array) == "parts/part-2.csv"
    with pytest.raises(summarize.BadInput, match="lists 2 parts: there is none for the array's child 2"):
        summarize.part_of(aws.client("s3"), array | {"AWS_BATCH_JOB_ARRAY_INDEX": "2"})
    with pytest.raises(summarize.BadInput, match="neither PART nor PARTS"):
        summarize.part_of(aws.client("s3"), {"BUCKET": "b"})


def reporting(answers: dict[str, Any], *, seconds: float = 0) -> tuple[Aws, Any]:
    aws = Aws({f"stepfunctions:{name}": answer for name, answer in answers.items()})
    return aws, summarize.Reporter("the-token", aws.client("stepfunctions"), seconds=seconds)


def test_a_token_is_answered_with_heartbeats_and_the_result() -> None:
    s3 = Aws({"s3:GetObject": body(TABLE), "s3:PutObject": {}})
    aws, reporter = reporting({"SendTaskHeartbeat": {}, "SendTaskSuccess": {}})
    done = summarize.run(SOURCE, s3.client("s3"), reporter)
    assert [name for name, _ in aws.calls] == ["stepfunctions:SendTaskHeartbeat", "stepfunctions:SendTaskSuccess"]
    (sent,) = aws.asked("stepfunctions:SendTaskSuccess")
    assert (sent["taskToken"], json.loads(sent["output"])) == ("the-token", done)


def test_heartbeats_are_sent_as_often_as_told_and_not_more() -> None:
    aws, reporter = reporting({"SendTaskHeartbeat": {}}, seconds=20)
    now = [0.0]
    reporter.clock, reporter.last = lambda: now[0], 0.0
    for now[0] in (1.0, 19.0, 20.0, 39.0, 41.0):
        reporter.beat()
    assert len(aws.calls) == 2


@pytest.mark.parametrize(("environment", "error", "cause"), [
    ({"PART": ""}, "BadInput", "neither PART nor PARTS and an array's index are set: there is no 'PARTS'"),
    ({"FAIL": "as asked"}, "AskedToFail", "as asked"),
])  # fmt: skip
def test_a_failure_is_reported_with_its_reason(environment: dict[str, str], error: str, cause: str) -> None:
    aws, reporter = reporting({"SendTaskHeartbeat": {}, "SendTaskFailure": {}})
    with pytest.raises(summarize.Failed):
        summarize.run(SOURCE | environment, Aws({}).client("s3"), reporter)
    (sent,) = aws.asked("stepfunctions:SendTaskFailure")
    assert sent == {"taskToken": "the-token", "error": error, "cause": cause}


def test_a_refused_call_is_reported_too_and_a_long_reason_is_cut() -> None:
    s3 = Aws({"s3:GetObject": refuse("AccessDenied", "x" * 40_000, 403)})
    aws, reporter = reporting({"SendTaskHeartbeat": {}, "SendTaskFailure": {}})
    with pytest.raises(Exception, match="AccessDenied"):
        summarize.run(SOURCE, s3.client("s3"), reporter)
    (sent,) = aws.asked("stepfunctions:SendTaskFailure")
    assert (sent["error"], len(sent["cause"])) == ("AccessDenied", 32_768)


def test_a_role_that_may_not_report_success_may_still_report_that() -> None:
    s3 = Aws({"s3:GetObject": body(TABLE), "s3:PutObject": {}})
    denied = refuse("AccessDeniedException", "not authorized to perform: states:SendTaskSuccess")
    aws, reporter = reporting({"SendTaskHeartbeat": {}, "SendTaskSuccess": denied, "SendTaskFailure": {}})
    with pytest.raises(Exception, match="SendTaskSuccess"):
        summarize.run(SOURCE, s3.client("s3"), reporter)
    (sent,) = aws.asked("stepfunctions:SendTaskFailure")
    assert "AccessDeniedException" in sent["cause"]
    assert "states:SendTaskSuccess" in sent["cause"]


@pytest.mark.parametrize("code", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"])
def test_work_that_nobody_waits_for_ends_without_a_result(code: str) -> None:
    s3 = Aws({"s3:GetObject": body(TABLE)})
    _, reporter = reporting({"SendTaskHeartbeat": refuse(code)})
    with pytest.raises(summarize.NobodyWaits, match=f"the state machine does not wait any more: {code}"):
        summarize.run(SOURCE, s3.client("s3"), reporter)
    assert s3.calls == []


def test_a_stall_sends_no_heartbeat_and_the_next_one_finds_that_nobody_waits() -> None:
    slept: list[float] = []
    summarize.trouble({"STALL_SECONDS": "30"}, slept.append)
    assert slept == [30.0]


def test_the_first_attempt_alone_fails_when_that_is_asked_for() -> None:
    first = {"FAIL_FIRST_ATTEMPT": "1", "AWS_BATCH_JOB_ATTEMPT": "1"}
    with pytest.raises(summarize.FirstAttempt):
        summarize.trouble(first)
    summarize.trouble(first | {"AWS_BATCH_JOB_ATTEMPT": "2"})
    assert summarize.EXIT_CODES[summarize.FirstAttempt] == 75


def run_program(environment: dict[str, str], **more: Any) -> subprocess.CompletedProcess[str]:
    kept = {"PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    command = [sys.executable, str(FOLDER / "summarize.py")]
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=False, **more)


def test_the_program_says_in_one_line_what_is_missing() -> None:
    done = run_program({})
    assert (done.returncode, done.stderr) == (1, "failed: BadInput: BUCKET is not set\n")
    done = run_program({"BUCKET": "b", "PART": "p", "OUTPUT": "o", "FAIL": "as asked"})
    assert (done.returncode, done.stderr) == (1, "failed: AskedToFail: as asked\n")
    done = run_program(SOURCE)
    assert (done.returncode, done.stderr) == (1, "failed: Refused: Unable to locate credentials\n")


def test_the_program_ends_when_it_is_told_to() -> None:
    kept = {"PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": "us-east-1", "STALL_SECONDS": "600"}
    command = [sys.executable, str(FOLDER / "summarize.py")]
    with subprocess.Popen(command, env=kept | SOURCE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        assert one.stdout.readline().startswith("stands still for 600 seconds")
        one.send_signal(signal.SIGTERM)
        _, errors = one.communicate(timeout=180)
    assert (one.returncode, errors) == (143, "failed: Terminated: told to end by SIGTERM\n")


def test_a_training_job_summarizes_its_channels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    channel = tmp_path / "input" / "data" / "train"
    channel.mkdir(parents=True)
    dataset.write_parts(dataset.sample_path(), channel, 3)
    assert summarize.main({}, tmp_path) == 0
    assert json.loads(capsys.readouterr().out) == {"files": 3, "rows": 2000}
    written = json.loads((tmp_path / "model" / "summary.json").read_text())
    assert combine.plan(written)["rows"] == 2000


def test_a_training_job_says_why_it_failed(tmp_path: Path) -> None:
    channel = tmp_path / "input" / "data" / "train"
    channel.mkdir(parents=True)
    (channel / "part-1.csv").write_text("age\n1\nold\n")
    assert summarize.main({}, tmp_path) == 1
    reason = (tmp_path / "output" / "failure").read_text()
    assert reason == "BadInput: part-1.csv, line 3: 'old' in the column of numbers 'age'"


def test_nothing_but_the_standard_library_is_needed_to_summarize() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import summarize; summarize.summarize(['a', '1']);"
        " print([name for name in ('boto3', 'pandas', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(FOLDER)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_large_object_is_read_as_it_arrives() -> None:
    text = TABLE + "1,2,3\n" * 100_000
    with summarize.open_text(Aws({"s3:GetObject": body(text)}).client("s3"), "b", "k") as lines:
        assert summarize.summarize(lines, "k")["rows"] == 100_003
