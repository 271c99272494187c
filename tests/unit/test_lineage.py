"""From a metric to all that it comes from, and from data to the runs that used it."""

import pytest
import yaml
from buckets import Bucket
from recorded import BUCKET, DATA, METRICS, REPOSITORY, manifest

from helpers import lineage
from helpers.pipeline import STEPS

A, B, C = (letter * 40 for letter in "abc")
URI = DATA["uri"]
SWEPT = ({"train --C": "0.1"}, {"train --C": "10"})
SECTION = {"code": "x.py", "ImageUri": "repo/image:1", "InstanceCount": 1, "InstanceType": "ml.t3.medium"}


@pytest.fixture
def bucket():
    made = Bucket()
    made.put(f"runs/{REPOSITORY}/{A}/manifest.json", manifest(A, ["--C", "0.1"], ["--C", "10"], swept=SWEPT))
    return made


def put_simple(bucket, commit, *, uri=URI, finished=True, at=0):
    run = f"runs/{REPOSITORY}/{commit}"
    answer = {"status": "started", "commit": commit, "author": "Dana", "ref": "refs/heads/main", "execution": "run-c"}
    bucket.put(f"{run}/dispatch.json", answer, at)
    experiment = {"comment": "simple", "pipeline": {"input_data_uri": uri}, **dict.fromkeys(STEPS, SECTION)}
    bucket.put(f"{run}/experiment.yml", yaml.safe_dump(experiment).encode())
    if finished:
        bucket.put(f"{run}/evaluate/metrics.json", METRICS)


def of_metrics(bucket, commit=A, **options):
    return lineage.of_metrics(bucket.s3, BUCKET, REPOSITORY, commit, **options)


def uses(bucket, data=URI, **options):
    return lineage.runs_of_data(bucket.s3, BUCKET, REPOSITORY, data, **options)


def test_a_metric_leads_to_commit_author_data_and_arguments(bucket):
    found = of_metrics(bucket, variant=2)
    assert (found.commit, found.author, found.changed) == (A, "Dana", {"train --C": "10"})
    assert found.metrics["roc_auc"] == pytest.approx(0.82)
    assert found.data == DATA
    origin = dict(found.origin().itertuples(index=False))
    assert origin["data version"] == "0123456789ab"
    assert origin["object dataset/census.csv"] == 'ETag "e1", 1,000 bytes'


def test_a_metric_leads_to_the_jobs_and_to_the_run_that_computed_each(bucket):
    rows = of_metrics(bucket, variant=2).steps().set_index("step")
    assert list(rows.index) == list(STEPS)
    assert list(rows.status) == ["cached", "run", "run", "run"]
    assert list(rows.run) == ["earlier-run", "this-run", "this-run", "this-run"]
    assert rows.loc["train", ["script", "modules", "arguments"]].tolist() == ["train.py", "features.py", "--C 10"]
    assert rows.job["train"] == "demo-exp-train-train-2"
    assert rows.inputs["preprocess"] == "data"
    assert rows.image["train"] == "sagemaker-scikit-learn:1.4-2"


def test_a_commit_may_be_cut_short_unless_it_is_ambiguous(bucket):
    assert of_metrics(bucket, A[:8]).commit == A
    bucket.put(f"runs/{REPOSITORY}/{'a' * 39}b/dispatch.json", {"status": "refused"})
    with pytest.raises(LookupError, match="2 runs"):
        of_metrics(bucket, A[:8])
    with pytest.raises(LookupError, match="0 runs"):
        of_metrics(bucket, "abc")


def test_a_variant_that_there_is_not_is_named(bucket):
    for variant in (0, 3):
        with pytest.raises(LookupError, match="variants 1 to 2"):
            of_metrics(bucket, variant=variant)


def test_a_simple_run_says_what_it_does_not_record(bucket):
    put_simple(bucket, B)
    found = of_metrics(bucket, B)
    assert (found.status, found.author, found.data["version"]) == ("finished", "Dana", lineage.NOT_RECORDED)
    assert list(found.steps().script) == ["x.py"] * 4
    assert found.jobs[1].name == "run-c-train-*"


def test_a_sweep_that_has_not_ended_has_no_lineage_yet(bucket):
    bucket.put(f"runs/{REPOSITORY}/{B}/plan.json", {})
    with pytest.raises(LookupError, match="not recorded its end"):
        of_metrics(bucket, B)


def test_a_commit_that_started_nothing_has_no_lineage(bucket):
    bucket.put(f"runs/{REPOSITORY}/{B}/dispatch.json", {"status": "refused"})
    with pytest.raises(LookupError, match="no run"):
        of_metrics(bucket, B)


@pytest.mark.parametrize("data", [URI, "dataset/census.csv"])
def test_data_leads_to_each_variant_that_used_it(bucket, data):
    rows = uses(bucket, data)
    assert list(rows.variant) == [1, 2]
    assert list(rows.changed) == ["train --C: 0.1", "train --C: 10"]
    assert set(rows.version) == {"0123456789ab"}
    assert set(rows.etag) == {"e1"}


@pytest.mark.parametrize("data", ["s3://other/dataset/census.csv", "dataset/census", "s3://bucket/dataset/other.csv"])
def test_other_data_leads_nowhere(bucket, data):
    assert len(uses(bucket, data)) == 0


def test_a_version_is_that_of_the_data_set_or_of_an_object(bucket):
    newer = {**DATA, "version": "newer", "objects": [{**DATA["objects"][0], "etag": '"e2"'}]}
    bucket.put(f"runs/{REPOSITORY}/{B}/manifest.json", manifest(B, [], data=newer, at="2026-01-02T00:00:00Z"))
    assert list(uses(bucket).commit) == ["aaaaaaaa", "aaaaaaaa", "bbbbbbbb"]
    for version in ("newer", "e2", '"e2"'):
        assert list(uses(bucket, version=version).commit) == ["bbbbbbbb"]


def test_an_object_of_a_data_set_in_parts_leads_to_its_runs(bucket):
    parts = {"uri": "s3://bucket/parts/", "version": "v", "objects": [{"key": "parts/1.csv", "etag": "p1", "size": 1}]}
    bucket.put(f"runs/{REPOSITORY}/{B}/manifest.json", manifest(B, [], data=parts))
    for data in ("s3://bucket/parts/1.csv", "parts/1.csv", "s3://bucket/parts/", "parts/"):
        assert list(uses(bucket, data).commit) == ["bbbbbbbb"]


def test_runs_that_have_not_ended_or_keep_no_record_are_found_too(bucket):
    plan = manifest(B, [], swept=SWEPT[:1])
    del plan["started"], plan["variants"][0]["status"]
    bucket.put(f"runs/{REPOSITORY}/{B}/plan.json", plan, at=10)
    put_simple(bucket, C, finished=False, at=5)
    bucket.put(f"runs/{REPOSITORY}/{'d' * 40}/dispatch.json", {"status": "refused"})
    rows = uses(bucket)
    assert list(rows.commit) == ["aaaaaaaa", "aaaaaaaa", "cccccccc", "bbbbbbbb"]
    assert list(rows.status)[2:] == ["no metrics", "no metrics"]
    assert list(rows.version)[2] == lineage.NOT_RECORDED
    assert "cccccccc" not in set(uses(bucket, version="0123456789ab").commit)
