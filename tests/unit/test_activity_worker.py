"""The worker: heartbeats, a summary, one report; a task that is over is left alone."""

import io
import itertools
import json
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from answers import Aws, in_turn, refuse
from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from function_modules import load_function

from helpers import functions

IMAGE = functions.SOURCES / "processing_image"
sys.path.insert(0, str(IMAGE))  # summarize.py, which the zip holds too
(worker,) = load_function(functions.SOURCES / "activity_worker", "lambda_function")
sys.path.remove(str(IMAGE))

TASK = {"bucket": "bucket", "key": "parts/part-7.csv", "run": "first"}
TABLE = b"age,job\n41,clerk\n43,none\n"


class Streamed:
    """A body as S3 gives it."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def answer(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"Body": StreamingBody(io.BytesIO(self.content), len(self.content))}


def system(**changes: Any) -> Aws:
    return Aws(
        {
            "stepfunctions:SendTaskHeartbeat": {},
            "stepfunctions:SendTaskSuccess": {},
            "stepfunctions:SendTaskFailure": {},
            "s3:GetObject": Streamed(TABLE).answer,
            "s3:PutObject": {},
            **{name.replace("_", ":"): answer for name, answer in changes.items()},
        }
    )


def work(aws: Aws, every: float = 60, sleep: Callable[[float], None] = lambda seconds: None, **more: Any) -> None:
    worker.work("token", {**TASK, **more}, aws.client("s3"), aws.client("stepfunctions"), every=every, sleep=sleep)


def test_a_part_is_summarized_and_reported() -> None:
    aws = system()
    work(aws)
    (put,) = aws.asked("s3:PutObject")
    assert (put["Bucket"], put["Key"]) == ("bucket", "summaries/first/part-7.json")
    assert json.loads(put["Body"].getvalue())["columns"]["age"]["sum"] == 84
    (done,) = aws.asked("stepfunctions:SendTaskSuccess")
    assert done["taskToken"] == "token"
    output = {"part": "parts/part-7.csv", "summary": "summaries/first/part-7.json", "rows": 2}
    assert json.loads(done["output"]) == output


def test_heartbeats_go_on_while_it_works() -> None:
    beaten = threading.Event()
    beats = itertools.count()

    def beat(params: dict[str, Any]) -> dict[str, Any]:
        if next(beats) >= 3:
            beaten.set()
        return {}

    aws = system(stepfunctions_SendTaskHeartbeat=beat)
    work(aws, every=0.001, sleep=lambda seconds: None if seconds == 0 else assert_in_time(beaten), slow_seconds=9)
    assert aws.names()[-1] == "stepfunctions:SendTaskSuccess"


def assert_in_time(event: threading.Event) -> None:
    assert event.wait(180)


def test_a_worker_that_stalls_sends_none() -> None:
    slept: list[float] = []
    aws = system()
    work(aws, every=0.001, sleep=slept.append, stall_seconds=7)
    assert slept == [7, 0]
    assert aws.names()[0] == "stepfunctions:SendTaskHeartbeat"


@pytest.mark.parametrize(
    ("changes", "more", "error", "cause"),
    [
        ({}, {"fail": "no luck"}, "RequestedFailure", "no luck"),
        ({"s3_GetObject": refuse("NoSuchKey", status=404)}, {}, "BadInput", "parts/part-7.csv"),
        ({"s3_GetObject": Streamed(b"a\n1\nx\n").answer}, {}, "BadInput", "line 3"),
        ({"s3_PutObject": refuse("AccessDenied", "not authorized", 403)}, {}, "AccessDenied", "not authorized"),
        ({}, {"key": None}, "", ""),
    ],
)
def test_whatever_goes_wrong_is_reported(changes: Any, more: Any, error: str, cause: str) -> None:
    aws = system(**changes)
    work(aws, **more)
    (failed,) = aws.asked("stepfunctions:SendTaskFailure")
    assert failed["taskToken"] == "token"
    assert error in failed["error"]
    assert cause in failed["cause"]
    assert aws.asked("stepfunctions:SendTaskSuccess") == []


def test_a_reason_is_no_longer_than_step_functions_takes() -> None:
    aws = system()
    work(aws, fail="x" * 40_000)
    assert len(aws.asked("stepfunctions:SendTaskFailure")[0]["cause"]) == 32_768


@pytest.mark.parametrize("code", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"])
def test_a_task_that_is_over_is_left_alone(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    aws = system(stepfunctions_SendTaskHeartbeat=refuse(code))
    work(aws)
    assert aws.names() == ["stepfunctions:SendTaskHeartbeat"]
    line = json.loads(capsys.readouterr().out)
    assert (line["outcome"], line["reason"]) == ("too late", code)


def test_a_task_that_ends_during_the_work_ends_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    beats = in_turn({}, refuse("TaskTimedOut"))
    for name in ("SendTaskSuccess", "SendTaskFailure"):
        aws = system(**{"stepfunctions_SendTaskHeartbeat": beats, f"stepfunctions_{name}": refuse("TaskTimedOut")})
        work(aws, **({"fail": "x"} if name == "SendTaskFailure" else {}))
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["outcome"] == "too late"


@pytest.mark.parametrize("report", ["SendTaskSuccess", "SendTaskHeartbeat"])
def test_who_may_not_report_success_reports_that(report: str) -> None:
    aws = system(**{f"stepfunctions_{report}": refuse("AccessDeniedException", f"not authorized: {report}")})
    work(aws)
    (failed,) = aws.asked("stepfunctions:SendTaskFailure")
    assert failed["error"] == "AccessDeniedException"
    assert f"not authorized: {report}" in failed["cause"]


def test_where_no_report_can_be_made_lambda_tries_again() -> None:
    aws = system(stepfunctions_SendTaskFailure=refuse("AccessDeniedException"))
    with pytest.raises(ClientError):
        work(aws, fail="x")


def test_no_token_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    work(system())
    work(system(), fail="x")
    assert "token" not in capsys.readouterr().out
