"""The functions around the containers of notebooks 08b to 08d: map, reduce, choose, prepare and finish."""

import io
import json
from typing import Any

import pytest
from answers import Aws, refuse
from botocore.response import StreamingBody
from function_modules import load_function

from helpers import functions

list_parts, combine, best_set, prepare, finish = (
    load_function(functions.SOURCES / name, "lambda_function")[0]
    for name in ("list_parts", "combine", "best_set", "prepare_training", "finish_training")
)
EXECUTION = "arn:aws:states:us-east-1:123456789012:execution:demo-exp-training:run-1"


def listed(*keys: str) -> dict[str, Any]:
    return {"Contents": [{"Key": key} for key in keys]}


def test_parts_are_listed_in_the_order_of_their_numbers() -> None:
    aws = Aws({"s3:ListObjectsV2": listed("parts/", "parts/part-10.csv", "parts/part-9.csv", "parts/notes.txt")})
    found = list_parts.dispatch({"bucket": "b", "prefix": "parts/"}, aws.client("s3"))
    assert found == {"parts": [{"key": "parts/part-9.csv", "index": 0}, {"key": "parts/part-10.csv", "index": 1}]}
    (asked,) = aws.asked("s3:ListObjectsV2")
    assert asked.items() >= {"Bucket": "b", "Prefix": "parts/", "Delimiter": "/"}.items()


def test_no_parts_and_too_many_are_errors_that_say_so() -> None:
    event = {"bucket": "b", "prefix": "parts/"}
    with pytest.raises(list_parts.NoParts, match=r"there is no \.csv file below parts/ in the bucket b"):
        list_parts.dispatch(event, Aws({"s3:ListObjectsV2": {}}).client("s3"))
    many = listed(*(f"parts/part-{number}.csv" for number in range(41)))
    with pytest.raises(list_parts.TooManyParts, match="there are 41 parts"):
        list_parts.dispatch(event, Aws({"s3:ListObjectsV2": many}).client("s3"))


def column(count: int, total: float, squares: float, least: Any = 1.0, most: Any = 3.0, missing: int = 0) -> Any:
    deviations = squares - total**2 / count if count else 0.0
    sums = {"sum": total, "sum_of_squares": squares, "squared_deviations": deviations}
    return {"count": count, "missing": missing, **sums, "min": least, "max": most}


def objects(kept: dict[str, Any]) -> Any:
    """Return an answer of S3 to GetObject, from objects by key."""

    def answer(params: dict[str, Any]) -> dict[str, Any]:
        if params["Key"] not in kept:
            return refuse("NoSuchKey", status=404)(params)  # type: ignore[return-value]
        raw = json.dumps(kept[params["Key"]]).encode()
        return {"Body": StreamingBody(io.BytesIO(raw), len(raw))}

    return answer


def test_the_summaries_of_all_parts_are_combined() -> None:
    kept = {
        "summaries/run/part-1.json": {"rows": 2, "columns": {"x": column(2, 3.0, 5.0, 1.0, 2.0)}},
        "summaries/run/part-2.json": {"rows": 2, "columns": {"x": column(1, 3.0, 9.0, 3.0, 3.0, missing=1)}},
    }
    aws = Aws({"s3:GetObject": objects(kept), "s3:PutObject": {}})
    parts = [{"key": f"parts/part-{number}.csv", "index": number - 1} for number in (1, 2)]
    done = combine.dispatch({"bucket": "b", "run": "run", "parts": parts}, aws.client("s3"))
    assert done == {"statistics": "results/run/statistics.json", "parts": 2, "rows": 4}
    (written,) = aws.asked("s3:PutObject")
    found = json.load(written["Body"])["columns"]["x"]
    assert found == {"count": 3, "missing": 1, "mean": 2.0, "std": pytest.approx((2 / 3) ** 0.5), "min": 1, "max": 3}


def test_a_part_without_a_summary_is_named() -> None:
    aws = Aws({"s3:GetObject": objects({"summaries/run/part-1.json": {"rows": 1, "columns": {}}})})
    parts = [{"key": f"parts/part-{number}.csv"} for number in (1, 2, 3)]
    with pytest.raises(combine.MissingSummaries) as caught:
        combine.dispatch({"bucket": "b", "run": "run", "parts": parts}, aws.client("s3"))
    assert str(caught.value) == "2 of 3 parts have no summary: parts/part-2.csv, parts/part-3.csv"


def test_parts_of_different_tables_are_refused_unless_a_column_is_empty() -> None:
    numbers, text = {"rows": 1, "columns": {"x": column(1, 1.0, 1.0)}}, {"rows": 1, "columns": {}}
    empty = {"rows": 1, "columns": {"x": column(0, 0.0, 0.0, None, None, missing=1)}}
    with pytest.raises(combine.DifferentParts, match="p2 has no numbers in the column 'x', other parts have"):
        combine.plan({"p1": numbers, "p2": text})
    assert combine.plan({"p1": empty, "p2": text})["columns"] == {}
    assert combine.plan({"p1": numbers, "p2": empty})["columns"]["x"]["count"] == 1
    none = {"count": 0, "missing": 1, "mean": None, "std": None, "min": None, "max": None}
    assert combine.plan({"p1": empty})["columns"]["x"] == none


SETS: list[dict[str, Any]] = [
    {"number": number, "set": {"C": c}, "output": f"models/run/{number}"} for number, c in enumerate((0.1, 1, 10, 100))
]


def test_the_best_set_has_the_highest_score_and_the_first_of_equals_wins() -> None:
    scores = {0: 0.80, 1: 0.84, 2: 0.84}
    kept = {f"models/run/{n}/metrics.json": {"roc_auc": auc, "accuracy": 0.7} for n, auc in scores.items()}
    aws = Aws({"s3:GetObject": objects(kept), "s3:PutObject": {}})
    failed = {"number": 4, "set": {"C": -1}, "error": "exit code 2"}
    found = best_set.dispatch({"bucket": "b", "run": "run", "sets": [*SETS, failed]}, aws.client("s3"))
    assert [one["number"] for one in found["ranking"]] == [1, 2, 0]
    assert found["best"] == {
        "number": 1, "set": {"C": 1}, "roc_auc": 0.84, "accuracy": 0.7, "model": "models/run/1/model.joblib",
    }  # fmt: skip
    assert found["failed"] == [{"number": 3, "set": {"C": 100}, "error": "it wrote no metrics"}, failed]
    assert json.load(aws.asked("s3:PutObject")[0]["Body"]) == found


def test_when_no_set_has_a_model_the_reasons_are_told() -> None:
    sets = [{"number": 0, "set": {}, "error": "exit code 2"}, {"number": 1, "set": {}, "error": "killed"}]
    event = {"bucket": "b", "run": "run", "sets": sets}
    with pytest.raises(best_set.NoneTrained, match="none of 2 sets has a model: set 0: exit code 2; set 1: killed"):
        best_set.dispatch(event, Aws({}).client("s3"))
    with pytest.raises(best_set.NoneTrained, match="there are no sets"):
        best_set.plan([])


def test_hyper_parameters_become_strings_and_the_job_gets_a_name_of_its_own() -> None:
    event = {"input": {"hyper_parameters": {"C": 0.1, "seed": "7"}}, "execution": EXECUTION}
    found = prepare.plan(event, "demo-exp-training")
    assert found["hyper_parameters"] == {
        "C": "0.1", "class-weight": "balanced", "max-iter": "1000", "test-size": "0.2", "seed": "7",
    }  # fmt: skip
    assert found["job_name"].startswith("demo-exp-training-")
    assert prepare.plan(event, "demo-exp-training") == found
    assert prepare.plan(event | {"execution": f"{EXECUTION}2"}, "demo-exp-training")["job_name"] != found["job_name"]
    assert len(prepare.plan(event, "p" * 80)["job_name"]) == 63


@pytest.mark.parametrize("given", [None, {}, {"hyper_parameters": {}}])
def test_without_hyper_parameters_there_are_defaults(given: Any) -> None:
    assert prepare.plan({"input": given, "execution": EXECUTION}, "p")["hyper_parameters"]["C"] == "1.0"


@pytest.mark.parametrize(("given", "problem"), [
    ({"C": 0}, "C is 0: it has to be a number above 0"),
    ({"C": "much"}, "C is 'much': it has to be a number above 0"),
    ({"C": True}, "C is True: it has to be a number above 0"),
    ({"class-weight": "some"}, "class-weight is 'some': it has to be balanced or none"),
    ({"max-iter": 1.5}, "max-iter is 1.5: it has to be a whole number above 0"),
    ({"max-iter": "1e3"}, "max-iter is '1e3': it has to be a whole number above 0"),
    ({"test-size": 1}, "test-size is 1: it has to be a number between 0 and 1"),
    ({"seed": -1}, "seed is -1: it has to be a whole number, 0 or above"),
    ({"depth": 3, "C": -1}, "'depth' is none of C, class-weight, max-iter, test-size, seed; C is -1: it has to"),
    ([1], "hyper_parameters is [1]: it has to be an object"),
])  # fmt: skip
def test_a_wrong_hyper_parameter_is_named(given: Any, problem: str) -> None:
    with pytest.raises(prepare.BadHyperParameters) as caught:
        prepare.plan({"input": {"hyper_parameters": given}, "execution": EXECUTION}, "p")
    assert str(caught.value).startswith(problem)


def test_what_is_let_through_is_what_the_script_takes() -> None:
    (train,) = load_function(functions.SOURCES / "processing_image" / "training", "train")
    values = prepare.plan({"input": {}, "execution": EXECUTION}, "p")["hyper_parameters"]
    given = train.parse(train.arguments_of(values))
    assert vars(given) == vars(train.parse([]))


JOB = {
    "TrainingJobName": "demo-exp-training-1",
    "TrainingJobStatus": "Completed",
    "ModelArtifacts": {"S3ModelArtifacts": "s3://b/models/demo-exp-training-1/output/model.tar.gz"},
    "FinalMetricDataList": [
        {"MetricName": "roc_auc", "Value": 0.8430039882659912, "Timestamp": 0},
        {"MetricName": "accuracy", "Value": 0.75, "Timestamp": 0},
    ],
    "TrainingTimeInSeconds": 70,
    "BillableTimeInSeconds": 30,
}


def finished(job: dict[str, Any], head: Any) -> dict[str, Any]:
    aws = Aws({"sagemaker:DescribeTrainingJob": job, "s3:HeadObject": head})
    return finish.dispatch(job["TrainingJobName"], aws.client("sagemaker"), aws.client("s3"))


def test_a_trained_job_has_metrics_and_a_model() -> None:
    assert finished(JOB, {"ContentLength": 123}) == {
        "job_name": "demo-exp-training-1",
        "model": "s3://b/models/demo-exp-training-1/output/model.tar.gz",
        "model_bytes": 123,
        "metrics": {"roc_auc": 0.843004, "accuracy": 0.75},
        "seconds": 70,
        "billable_seconds": 30,
    }


@pytest.mark.parametrize(("change", "error", "problem"), [
    ({"FinalMetricDataList": []}, "NoMetrics", "has no metric roc_auc, only none: does a MetricDefinition find it"),
    ({"TrainingJobStatus": "Failed", "FailureReason": "AlgorithmError: x"}, "NotTrained", "is Failed: AlgorithmError"),
    ({"TrainingJobStatus": "Stopped"}, "NotTrained", "is Stopped: there is no reason given"),
])  # fmt: skip
def test_a_job_that_is_not_as_it_should_be_is_refused(change: dict[str, Any], error: str, problem: str) -> None:
    with pytest.raises(getattr(finish, error)) as caught:
        finished(JOB | change, {"ContentLength": 1})
    assert problem in str(caught.value)


def test_a_model_that_is_missing_is_told_from_one_that_may_not_be_read() -> None:
    with pytest.raises(finish.NoModel, match=r"wrote no model: there is no s3://b/models/"):
        finished(JOB, refuse("404", status=404))
    with pytest.raises(finish.ClientError, match="403"):
        finished(JOB, refuse("403", status=403))
