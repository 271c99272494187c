"""The run's manifest: from markers, failures and metrics to what tables show."""

import io
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from recorder import EXECUTION, IMAGE, NEEDS, RUN, handler, item, key, manifests, marker, plan

METRICS = {"roc_auc": 0.8}
FINISH = manifests.Finish(EXECUTION, "2026-11-22T06:00:00.000Z", "2026-11-22T06:01:40.5Z")
DESCRIPTION = {
    "ProcessingJobName": "demo-exp-train-train1000000-012345",
    "ProcessingJobStatus": "Failed",
    "FailureReason": "AlgorithmError: exit code 2",
    "ExitMessage": "C must be above zero",
    "ProcessingStartTime": 1000,
    "ProcessingEndTime": 1072,
}


def all_markers(variants: int = 2, **more: Any) -> dict[tuple[str, str], dict[str, Any]]:
    return {(step, key(step, number)): marker(step, number, **more) for step in NEEDS for number in range(variants)}


def recorded(markers: Any, failures: Any = None, metrics: Any = None) -> Any:
    found = {key("evaluate", number): METRICS for number in range(2)}
    return manifests.Recorded(markers, failures or {}, found if metrics is None else metrics)


def failed_train() -> Any:
    """Return what is left when the second variant's train has failed."""
    markers = {place: one for place, one in all_markers().items() if place[1][-32:] not in lost()}
    failure = {"key": key("train", 1), "step": "train", "job": "demo-exp-train-train1000000", "error": "States.Failed"}
    failures = {("train", key("train", 1)): failure | {"cause": json.dumps(DESCRIPTION)}}
    return recorded(markers, failures, {key("evaluate", 0): METRICS})


def lost() -> set[str]:
    return {key(step, 1) for step in ("train", "predict", "evaluate")}


def test_a_run_whose_jobs_all_ran() -> None:
    made = manifests.manifest(plan(), recorded(all_markers()), FINISH)
    assert (made["version"], made["id"], made["author"], made["region"]) == (1, "exp-1", "Ana", "us-east-1")
    assert (made["started"], made["ended"]) == ("2026-11-22T06:00:00.000Z", "2026-11-22T06:01:40.500Z")
    assert made["seconds"] == 100.5
    assert made["jobs"]["train"][key("train", 1)] == {
        "status": "run",
        "reason": "",
        "name": "demo-exp-train-train1000000",
        "run": "exp-1",
        "started": "1970-01-01T00:16:40.000Z",
        "seconds": 36.0,
        "instances": 1,
        "type": "ml.t3.medium",
        "usd": 0.0005,
        "image": IMAGE,
        "args": ["--C", "0.1"],
        "environment": {},
        "script": "train.py",
        "code": ["train.py"],
        "inputs": {"preprocess": key("preprocess", 1)},
    }
    assert [one["status"] for one in made["variants"]] == ["finished", "finished"]
    assert made["variants"][1]["metrics"] == METRICS
    assert (made["variants"][1]["seconds"], made["variants"][1]["usd"]) == (144.0, 0.002)
    # Seven jobs: preprocess is shared.
    assert made["cost"] == {"usd": 0.0035, "transitions_usd": 0.00125, "saved_usd": 0.0}


def test_a_job_of_another_run_is_cached_and_its_price_is_saved() -> None:
    markers = all_markers() | {("preprocess", key("preprocess", 0)): marker("preprocess", 0, run="exp-0")}
    made = manifests.manifest(plan(cached=("preprocess",)), recorded(markers), FINISH)
    shared = made["jobs"]["preprocess"][key("preprocess", 0)]
    assert (shared["status"], shared["run"]) == ("cached", "exp-0")
    assert made["cost"] == {"usd": 0.003, "transitions_usd": 0.0011, "saved_usd": 0.0005}


def test_a_failed_variant_says_why_and_its_later_steps_are_skipped_with_that_reason() -> None:
    made = manifests.manifest(plan(), failed_train(), FINISH)
    reason = "AlgorithmError: exit code 2 C must be above zero"
    train = made["jobs"]["train"][key("train", 1)]
    assert (train["status"], train["reason"], train["seconds"]) == ("failed", reason, 72.0)
    assert train["name"] == DESCRIPTION["ProcessingJobName"]
    for step in ("predict", "evaluate"):
        job = made["jobs"][step][key(step, 1)]
        assert (job["status"], job["reason"]) == ("skipped", f"train with --C 1 failed: {reason}")
        assert (job["seconds"], job["usd"]) == (None, None)
    assert [(one["status"], one["reason"]) for one in made["variants"]] == [
        ("finished", ""),
        ("failed", f"train failed: {reason}"),
    ]
    assert (made["variants"][1]["metrics"], made["variants"][1]["usd"]) == ({}, 0.0015)
    assert made["cost"]["usd"] == pytest.approx(4 * 0.0005 + 0.001)  # a failed job costs what it ran
    assert manifests.summary(made) == {
        "finished": 1,
        "failed": 1,
        "skipped": 0,
        "cause": f"train failed: {reason}",
    }


def test_an_error_that_is_no_job_is_the_reason_as_it_is() -> None:
    failure = {"job": "j", "error": "SageMaker.AmazonSageMakerException", "cause": "not authorized"}
    made = manifests.manifest(plan(1), recorded({}, {("preprocess", key("preprocess", 0)): failure}, {}), FINISH)
    reason = "SageMaker.AmazonSageMakerException: not authorized"
    assert made["jobs"]["preprocess"][key("preprocess", 0)]["reason"] == reason
    assert made["jobs"]["evaluate"][key("evaluate", 0)]["reason"] == f"preprocess failed: {reason}"
    assert manifests.summary(made)["finished"] == 0


def test_a_failure_of_this_run_counts_more_than_a_marker_that_came_later() -> None:
    left = failed_train()
    late = recorded(all_markers(run="exp-2") | dict(left.markers), left.failures, left.metrics)
    made = manifests.manifest(plan(), late, FINISH)
    assert made["jobs"]["train"][key("train", 1)]["status"] == "failed"


def test_a_cached_job_whose_output_was_deleted_is_no_finished_variant() -> None:
    markers = {place: one for place, one in all_markers(1).items() if place[0] != "train"}
    made = manifests.manifest(plan(1), recorded(markers), FINISH)
    [variant] = made["variants"]
    assert variant["status"] == "skipped"
    assert "its output has been deleted" in variant["reason"]
    assert variant["metrics"] == {}


def test_unknown_prices_make_unknown_sums() -> None:
    markers = {place: {**one, "type": "ml.p9.large"} for place, one in all_markers().items()}
    made = manifests.manifest(plan(), recorded(markers), FINISH)
    assert (made["cost"]["usd"], made["variants"][0]["usd"]) == (None, None)
    assert made["variants"][0]["seconds"] == 144.0


def test_unreadable_metrics_finish_a_variant_with_a_reason() -> None:
    made = manifests.manifest(plan(1), recorded(all_markers(1), {}, {key("evaluate", 0): "no metrics.json"}), FINISH)
    [variant] = made["variants"]
    assert (variant["status"], variant["reason"], variant["metrics"]) == ("finished", "no metrics.json", {})


@pytest.mark.parametrize("value", [
    1795327201.25,
    1795327201250,
    "2026-11-22T06:00:01.25Z",
    "2026-11-22T08:00:01.250+02:00",
    "2026-11-22T06:00:01.250",
])  # fmt: skip
def test_times_as_seconds_milliseconds_and_text_are_the_same_moment(value: Any) -> None:
    assert manifests.iso(manifests.moment(value)) == "2026-11-22T06:00:01.250Z"


@pytest.mark.parametrize("value", [None, "", "soon", {}])
def test_what_is_no_time_is_none(value: Any) -> None:
    assert manifests.moment(value) is None


class Bucket:
    """S3 in memory: the three calls of the recorder."""

    class exceptions:  # noqa: N801  (boto3's name)
        class NoSuchKey(ClientError):
            pass

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects, self.written = objects, list[str]()

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        if Key not in self.objects:
            raise self.exceptions.NoSuchKey({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        return {"Body": io.BytesIO(self.objects[Key])}

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, ContentType: str) -> None:  # noqa: N803
        self.objects[Key] = Body
        self.written.append(Key)

    def get_paginator(self, name: str) -> "Bucket":
        assert name == "list_objects_v2"
        return self

    def paginate(self, *, Bucket: str, Prefix: str) -> list[dict[str, Any]]:  # noqa: N803
        keys = sorted(key for key in self.objects if key.startswith(Prefix))
        return [{"Contents": [{"Key": one}]} for one in keys] or [{}]


def bucket(metrics: bytes = b'{"roc_auc": 0.8, "f1": NaN}') -> Bucket:
    objects = {f"{RUN}/plan.json": json.dumps(plan()).encode()}
    for step in NEEDS:
        for number in range(2):
            objects[item(step, number)["marker"]] = json.dumps(marker(step, number)).encode()
    objects |= {f"steps/evaluate/{key('evaluate', number)}/output/metrics.json": metrics for number in range(2)}
    return Bucket(objects)


EVENT = {"bucket": "bucket", "run": RUN, "execution": EXECUTION, "started": FINISH.started, "ended": FINISH.ended}


def test_the_recorder_writes_the_manifest_and_counts() -> None:
    s3 = bucket()
    assert handler.record(EVENT, s3) == {"finished": 2, "failed": 0, "skipped": 0, "cause": ""}
    made = json.loads(s3.objects[f"{RUN}/manifest.json"])
    assert made["variants"][0]["metrics"] == {"roc_auc": 0.8, "f1": None}  # JSON has no NaN
    assert s3.written == [f"{RUN}/manifest.json"]


def test_the_same_event_again_writes_the_same_manifest() -> None:
    s3 = bucket()
    handler.record(EVENT, s3)
    first = s3.objects[f"{RUN}/manifest.json"]
    handler.record(EVENT, s3)
    assert s3.objects[f"{RUN}/manifest.json"] == first


def test_failures_are_read_from_the_run() -> None:
    s3 = bucket()
    for step in ("train", "predict", "evaluate"):
        del s3.objects[item(step, 1)["marker"]]
    failure = {"job": "j", "error": "States.TaskFailed", "cause": json.dumps(DESCRIPTION)}
    s3.objects[item("train", 1)["failure"]] = json.dumps(failure).encode()
    answer = handler.record(EVENT, s3)
    assert (answer["finished"], answer["failed"]) == (1, 1)
    assert "C must be above zero" in answer["cause"]


@pytest.mark.parametrize(("metrics", "words"), [
    (b"{", "not JSON"),
    (b"[1]", "holds no object"),
    (json.dumps({"roc_auc": "9" * 100_000}).encode(), "100,015 bytes"),
    (None, "wrote no metrics.json"),
])  # fmt: skip
def test_metrics_that_cannot_be_taken_are_named(metrics: bytes | None, words: str) -> None:
    s3 = bucket(metrics or b"")
    if metrics is None:
        for name in [name for name in s3.objects if name.endswith("metrics.json")]:
            del s3.objects[name]
    assert handler.record(EVENT, s3)["finished"] == 2
    made = json.loads(s3.objects[f"{RUN}/manifest.json"])
    assert words in made["variants"][0]["reason"]


def test_a_run_without_a_plan_is_an_error() -> None:
    with pytest.raises(Bucket.exceptions.NoSuchKey):
        handler.record(EVENT, Bucket({}))
