"""The table of runs, rebuilt from what lies in the bucket."""

import datetime as dt
import io
import json

import pytest
import yaml
from answers import Aws, Refused

from helpers import runs
from helpers.prices import usd_per_hour

BUCKET, REPOSITORY, REGION = "bucket", "demo-exp-project1", "us-east-1"
STEP = {"InstanceCount": 1, "InstanceType": "ml.t3.medium"}
EXPERIMENT = {"comment": "C = 1", **{step: {**STEP, "args": ["--log-level", "INFO"]} for step in runs.STEPS}}
METRICS = {"roc_auc": 0.843, "accuracy": 0.753, "rows": 13657, "confusion": [[1, 2], [3, 4]]}


class Bucket:
    """Objects with their times, in seconds of one morning; S3 lists them two on a page."""

    def __init__(self):
        self.objects = {}
        self.aws = Aws({"s3:ListObjectsV2": self.list, "s3:GetObject": self.get})
        self.s3 = self.aws.client("s3")

    def put(self, key, body, at=0):
        when = dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=at)
        self.objects[key] = (body if isinstance(body, bytes) else json.dumps(body).encode(), when)

    def run(self, commit, *, at=0, experiment=EXPERIMENT, status="started", steps=(), metrics=None):
        prefix = f"runs/{REPOSITORY}/{commit}"
        answer = {"status": status, "commit": commit, "author": "Dana", "execution": None, "problems": []}
        self.put(f"{prefix}/dispatch.json", answer, at)
        self.put(f"{prefix}/experiment.yml", yaml.safe_dump(experiment).encode(), at)
        for number, step in enumerate(steps, 1):
            self.put(f"{prefix}/{step}/output", b"", at + 60 * number)
        if metrics:
            self.put(f"{prefix}/evaluate/metrics.json", metrics, at + 60 * len(steps))

    def list(self, params):
        keys = sorted(key for key in self.objects if key.startswith(params["Prefix"]))
        if "Delimiter" in params:
            length = len(params["Prefix"])
            found = sorted({params["Prefix"] + key[length:].partition("/")[0] + "/" for key in keys})
            name, items = "CommonPrefixes", [{"Prefix": prefix} for prefix in found]
        else:
            name, items = "Contents", [{"Key": key, "LastModified": self.objects[key][1]} for key in keys]
        start = int(params.get("ContinuationToken", 0))
        more = start + 2 < len(items)
        return {name: items[start : start + 2], "IsTruncated": more, "NextContinuationToken": str(start + 2)}

    def get(self, params):
        if params["Key"] not in self.objects:
            raise Refused("NoSuchKey", "The specified key does not exist.", 404)
        return {"Body": io.BytesIO(self.objects[params["Key"]][0])}

    def table(self):
        return runs.table(self.s3, BUCKET, REPOSITORY, region=REGION)


@pytest.fixture
def bucket():
    return Bucket()


def finish(bucket, commit, **options):
    bucket.run(commit, steps=tuple(runs.STEPS), metrics=METRICS, **options)


def test_an_empty_bucket_has_no_runs(bucket):
    assert len(bucket.table()) == 0


def test_a_finished_run_has_its_metrics_its_time_and_its_price(bucket):
    finish(bucket, "a" * 40)
    (row,) = bucket.table().to_dict("records")
    assert (row["commit"], row["author"], row["status"], row["experiment"]) == ("aaaaaaaa", "Dana", "finished", "C = 1")
    assert (row["roc_auc"], row["accuracy"], row["changed"]) == (0.843, 0.753, "")
    assert "confusion" not in row
    assert row["seconds"] == 240
    assert row["usd"] == pytest.approx(240 / 3600 * usd_per_hour(REGION, "ml.t3.medium"))


def test_runs_are_in_the_order_in_which_they_were_answered(bucket):
    for commit, at in (("b", 20), ("a", 30), ("c", 10)):
        finish(bucket, commit * 40, at=at)
    assert list(bucket.table().commit) == ["c" * 8, "b" * 8, "a" * 8]


def test_what_differs_from_the_first_run_is_named(bucket):
    finish(bucket, "a" * 40)
    other = {**EXPERIMENT, "train": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "args": ["--C", "0.01"]}}
    finish(bucket, "b" * 40, at=10, experiment=other)
    assert list(bucket.table().changed) == ["", "train InstanceType: ml.m5.large, train args: --C 0.01"]


def test_a_setting_that_was_taken_out_is_named_too(bucket):
    finish(bucket, "a" * 40)
    finish(bucket, "b" * 40, at=10, experiment={**EXPERIMENT, "train": STEP})
    assert list(bucket.table().changed) == ["", "train args: default"]


def test_a_refused_run_is_a_row_and_not_what_others_are_compared_with(bucket):
    bucket.run("a" * 40, status="refused", experiment={"comment": "typo", "train": {"InstnceType": "x"}})
    finish(bucket, "b" * 40, at=10)
    table = bucket.table()
    assert list(table.status) == ["refused", "finished"]
    assert list(table.changed) == ["", ""]
    assert table.roc_auc.isna().tolist() == [True, False]


def test_a_refused_yml_is_never_parsed(bucket):
    bucket.run("a" * 40, status="refused")
    bucket.put(f"runs/{REPOSITORY}/{'a' * 40}/experiment.yml", b"*: [broken")
    assert list(bucket.table().status) == ["refused"]


def test_a_run_that_stopped_half_way_stays_started_without_metrics(bucket):
    bucket.run("a" * 40, steps=("preprocess", "train"))
    (row,) = bucket.table().to_dict("records")
    assert (row["status"], row["seconds"], row["usd"]) == ("no metrics", None, None)


def test_a_commit_without_an_answer_yet_is_no_run(bucket):
    bucket.put(f"runs/{REPOSITORY}/{'a' * 40}/code/train.py", b"")
    assert len(bucket.table()) == 0


def test_runs_of_another_repository_are_not_listed(bucket):
    bucket.put(f"runs/{REPOSITORY}-2/{'a' * 40}/dispatch.json", {"status": "started", "commit": "a" * 40})
    assert len(bucket.table()) == 0


def test_the_metrics_of_a_run_are_read(bucket):
    finish(bucket, "a" * 40)
    assert runs.read_metrics(bucket.s3, BUCKET, REPOSITORY, "a" * 40) == METRICS
    with pytest.raises(KeyError, match="no metrics"):
        runs.read_metrics(bucket.s3, BUCKET, REPOSITORY, "b" * 40)


def test_the_dispatchers_answer_is_waited_for(bucket):
    def arrive(seconds):
        bucket.run("a" * 40)

    answer = runs.wait_for_answer(bucket.s3, BUCKET, REPOSITORY, "a" * 40, sleep=arrive)
    assert answer["status"] == "started"
    assert bucket.aws.names() == ["s3:GetObject"] * 2


def test_an_answer_that_does_not_come_says_where_to_look(bucket):
    pauses = []
    with pytest.raises(TimeoutError, match="log of the dispatcher"):
        runs.wait_for_answer(bucket.s3, BUCKET, REPOSITORY, "a" * 40, seconds=2, every=0.5, sleep=pauses.append)
    assert pauses == [0.5] * 4
