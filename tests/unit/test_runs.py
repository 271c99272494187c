"""The table of runs, rebuilt from what lies in the bucket."""

import pytest
import yaml
from buckets import Bucket
from recorded import manifest

from helpers import runs, settings
from helpers.pipeline import STEPS
from helpers.planning.costs import usd_per_hour

BUCKET, REPOSITORY, REGION = "bucket", "demo-exp-project1", "us-east-1"
STEP = {"InstanceCount": 1, "InstanceType": "ml.t3.medium"}
EXPERIMENT = {"comment": "C = 1", **{step: {**STEP, "args": ["--log-level", "DEBUG"]} for step in STEPS}}
METRICS = {"roc_auc": 0.843, "accuracy": 0.753, "rows": 13657, "confusion": [[1, 2], [3, 4]]}


class Runs(Bucket):
    """A bucket with runs of the simple state machine, and of the sweep's."""

    def run(self, commit, *, at=0, experiment=EXPERIMENT, status="started", steps=(), metrics=None):
        prefix = f"runs/{REPOSITORY}/{commit}"
        answer = {"status": status, "commit": commit, "author": "Dana", "execution": None, "problems": []}
        self.put(f"{prefix}/dispatch.json", answer, at)
        self.put(f"{prefix}/experiment.yml", yaml.safe_dump(experiment).encode(), at)
        for number, step in enumerate(steps, 1):
            self.put(f"{prefix}/{step}/output", b"", at + 60 * number)
        if metrics:
            self.put(f"{prefix}/evaluate/metrics.json", metrics, at + 60 * len(steps))

    def sweep(self, commit, *args, **options):
        self.put(f"runs/{REPOSITORY}/{commit}/dispatch.json", {"status": "started", "commit": commit})
        self.put(f"runs/{REPOSITORY}/{commit}/manifest.json", manifest(commit, *args, **options))

    def table(self):
        return runs.table(self.s3, BUCKET, REPOSITORY, region=REGION)


@pytest.fixture
def bucket():
    return Runs()


def finish(bucket, commit, **options):
    bucket.run(commit, steps=tuple(STEPS), metrics=METRICS, **options)


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
    changed = "train InstanceType: ml.m5.large, train --log-level: default, train --C: 0.01"
    assert list(bucket.table().changed) == ["", changed]


def test_a_setting_that_was_taken_out_is_named_too(bucket):
    finish(bucket, "a" * 40)
    finish(bucket, "b" * 40, at=10, experiment={**EXPERIMENT, "train": STEP})
    assert list(bucket.table().changed) == ["", "train --log-level: default"]


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


TWO = (["--C", "0.1"], ["--C", "10"])
SWEPT = ({"train --C": "0.1"}, {"train --C": "10"})


def test_a_sweep_has_a_row_for_each_variant_and_needs_one_request(bucket):
    bucket.sweep("a" * 40, *TWO, swept=SWEPT)
    rows = bucket.table()
    assert list(rows.changed) == ["train --C: 0.1", "train --C: 10"]
    assert list(rows.variant) == [1, 2]
    assert list(rows.roc_auc) == pytest.approx([0.81, 0.82])
    assert list(rows["train --C"]) == [0.1, 10]
    assert list(rows.cached) == ["1 of 4"] * 2
    assert list(rows.predictions) == [f"steps/predict/predict-{number}/output/predictions.csv" for number in (1, 2)]
    assert bucket.aws.names() == ["s3:ListObjectsV2", "s3:GetObject"]


def test_a_failed_variant_is_a_row_without_metrics_and_without_predictions(bucket):
    bucket.sweep("a" * 40, *TWO, swept=SWEPT, statuses={2: "failed"})
    rows = bucket.table()
    assert list(rows.status) == ["finished", "failed"]
    assert rows.roc_auc.isna().tolist() == [False, True]
    assert list(rows.predictions)[1] == ""


def test_variants_of_a_later_run_say_what_they_sweep_and_what_else_differs(bucket):
    bucket.sweep("a" * 40, ["--C", "1", "--max-iter", "100"])
    bucket.sweep("b" * 40, ["--C", "0.1"], at="2026-01-02T00:00:00Z", swept=SWEPT[:1])
    assert list(bucket.table().changed) == ["", "train --C: 0.1, train --max-iter: default"]


def test_a_simple_run_and_a_sweep_are_compared_by_what_both_know(bucket):
    steps = {step: {**STEP, "code": f"{step}.py", "VolumeSizeInGB": 10, "ImageUri": "image"} for step in STEPS}
    finish(bucket, "a" * 40, experiment={"comment": "simple", **steps})
    made = manifest("b" * 40, ["--C", "0.1"], at="2026-01-02T00:00:00Z")
    for jobs in made["jobs"].values():
        for job in jobs.values():
            job["image"] = "image"
    bucket.put(f"runs/{REPOSITORY}/{'b' * 40}/manifest.json", made)
    assert list(bucket.table().changed) == ["", "train --C: 0.1"]


def test_arguments_that_are_no_options_are_compared_as_a_whole(bucket):
    finish(bucket, "a" * 40)
    finish(bucket, "b" * 40, at=10, experiment={**EXPERIMENT, "train": {**STEP, "args": ["fast", "--C", "1"]}})
    changed = list(bucket.table().changed)[1]
    assert "train args: fast --C 1" in changed


def test_only_arguments_that_vary_have_a_column_and_words_stay_words(bucket):
    finish(bucket, "a" * 40, experiment={**EXPERIMENT, "train": {**STEP, "args": ["--C", "1", "--weight", "none"]}})
    finish(bucket, "b" * 40, at=9, experiment={**EXPERIMENT, "train": {**STEP, "args": ["--C", "1", "--weight=x"]}})
    rows = bucket.table()
    assert list(rows["train --weight"]) == ["none", "x"]
    assert "train --C" not in rows


def test_a_sweep_that_has_not_ended_is_one_row(bucket):
    bucket.run("a" * 40)
    bucket.put(f"runs/{REPOSITORY}/{'a' * 40}/plan.json", {"steps": {}})
    assert list(bucket.table().status) == ["no metrics"]


def test_the_metrics_of_a_variant_are_read(bucket):
    bucket.sweep("a" * 40, *TWO, swept=SWEPT, statuses={2: "failed"})
    assert runs.read_metrics(bucket.s3, BUCKET, REPOSITORY, "a" * 40)["roc_auc"] == pytest.approx(0.81)
    for variant in (0, 2, 3):
        with pytest.raises(KeyError, match="no metrics"):
            runs.read_metrics(bucket.s3, BUCKET, REPOSITORY, "a" * 40, variant=variant)


def test_the_arguments_that_the_dispatcher_adds_are_no_difference():
    with_none = {"evaluate": {"code": "evaluate.py"}}
    with_them = {"evaluate": {"code": "evaluate.py", "args": ["--log-level", "INFO"]}}
    assert settings.of_experiment(with_none) == settings.of_experiment(with_them)
