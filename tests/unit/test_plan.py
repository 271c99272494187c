"""The plan of a commit: which jobs there are, which must run, and what they are told.

What depends on what is written down once, in DEPENDS, and every change is held against it.
"""

import json
from copy import deepcopy

import pytest
from dispatcher_aws import BUCKET, IMAGE

from helpers import pipeline
from helpers.planning import plan as plans
from helpers.planning.plan import Data, DataObject, Run, make_plan
from helpers.planning.sweep import Axis, Grid, Listed

STEPS = ("preprocess", "train", "predict", "evaluate")
RUN = Run("demo-abc", "first", "demo", "ab" * 20, "refs/heads/main", "Ada", "alice", BUCKET, "demo-exp")
URI = f"s3://{BUCKET}/dataset/parts/"
DATA = Data(URI, (DataObject("dataset/parts/a.csv", "e1", 10), DataObject("dataset/parts/b.csv", "e2", 20)))
SOURCES = {
    "preprocess.py": b"import columns",
    "train.py": b"import columns, models.linear",
    "predict.py": b"import models.linear",
    "evaluate.py": b"",
    "columns.py": b"",
    "models/linear.py": b"",
    "unused.py": b"",
}
OTHERS = {"config/a.json": b"{}", "README.md": b"hello", "experiment.yml": b"comment: x"}


def settings(**changes):
    values = {"comment": "first", "cache": True, "budget": None, "sweep": None}
    values["pipeline"] = {"stateMachineArn": "arn", "input_data_uri": URI}
    for step in STEPS:
        values[step] = {
            "code": f"{step}.py",
            "ImageUri": IMAGE,
            "InstanceCount": 1,
            "InstanceType": "ml.t3.medium",
            "VolumeSizeInGB": 10,
            "args": ["--level", step],
        }
    values["evaluate"]["files"] = ["config/*.json"]
    return values | changes


def made(values=None, contents=None, data=DATA, existing=(), run=RUN):
    contents = SOURCES | OTHERS if contents is None else contents
    blobs = {path: plans.digest(content.decode()) for path, content in contents.items()}
    sources = {path: content for path, content in contents.items() if path.endswith(".py")}
    return make_plan(values or settings(), blobs, sources, data, existing, run)


def keys(plan):
    return {step: [item["key"] for item in items] for step, items in plan["steps"].items()}


def item(plan, step, number=0):
    return plan["steps"][step][number]


def with_step(step, **changes):
    values = settings()
    values[step] = values[step] | changes
    return {"values": values}


def with_file(path, content=b"# changed"):
    return {"contents": SOURCES | OTHERS | {path: content}}


def with_object(**changes):
    first, second = (vars(entry) for entry in DATA.objects)
    return {"data": Data(URI, (DataObject(**first), DataObject(**second | changes)))}


ALL, FROM_TRAIN, FROM_PREDICT = set(STEPS), set(STEPS[1:]), set(STEPS[2:])
DEPENDS = [
    (with_file("columns.py"), ALL),
    (with_file("models/linear.py"), FROM_TRAIN),
    (with_file("train.py", b"import columns, models.linear  # changed"), FROM_TRAIN),
    (with_file("predict.py", b"import models.linear  # changed"), FROM_PREDICT),
    (with_file("evaluate.py"), {"evaluate"}),
    (with_file("evaluate.py", b"import unused"), {"evaluate"}),
    (with_file("config/a.json"), {"evaluate"}),
    (with_file("config/b.json"), {"evaluate"}),
    (with_file("requirements.txt"), ALL),
    (with_file("unused.py"), set()),
    (with_file("README.md"), set()),
    (with_file("experiment.yml"), set()),
    (with_object(etag="e3"), ALL),
    (with_object(size=21), ALL),
    (with_object(key="dataset/parts/c.csv"), ALL),
    ({"data": Data(URI, DATA.objects[:1])}, ALL),
    ({"data": Data(URI, DATA.objects[::-1])}, set()),
    ({"data": Data(f"s3://{BUCKET}/dataset/", DATA.objects)}, ALL),
    (with_step("preprocess", ImageUri=IMAGE + "-2"), ALL),
    (with_step("train", ImageUri=IMAGE + "-2"), FROM_TRAIN),
    (with_step("train", args=["--level", "other"]), FROM_TRAIN),
    (with_step("train", args=["train", "--level"]), FROM_TRAIN),
    (with_step("predict", environment={"LEVEL": "2"}), FROM_PREDICT),
    (with_step("predict", environment={}), set()),
    (with_step("predict", InstanceCount=2), FROM_PREDICT),
    (with_step("predict", InstanceType="ml.m5.large"), set()),
    (with_step("predict", VolumeSizeInGB=20), set()),
    (with_step("evaluate", files=[]), {"evaluate"}),
    (with_step("evaluate", files=["config/**", "config/a.json"]), set()),
    (with_step("train", cache=False), FROM_TRAIN),
    ({"values": settings(cache=False)}, ALL),
    ({"values": settings(comment="second")}, set()),
]


@pytest.mark.parametrize(("change", "dependent"), DEPENDS)
def test_a_change_gives_new_keys_to_exactly_the_jobs_that_depend_on_it(change, dependent):
    before, after = keys(made()), keys(made(**change))
    assert {step for step in STEPS if before[step] != after[step]} == dependent


def test_another_commit_with_the_same_content_has_the_same_jobs():
    other = Run("demo-def", "second", "demo", "cd" * 20, "refs/heads/x", "Bob", "bob", BUCKET, "demo-exp")
    assert keys(made()) == keys(made(run=other))


def test_without_a_cache_a_job_belongs_to_its_commit_and_to_no_other():
    other = Run("demo-def", "", "demo", "cd" * 20, "", "", "", BUCKET, "demo-exp")
    uncached = with_step("train", cache=False)
    before, again, after = keys(made(**uncached)), keys(made(**uncached)), keys(made(**uncached, run=other))
    assert before == again, "a repeated event plans the same jobs"
    assert {step for step in STEPS if before[step] != after[step]} == FROM_TRAIN


def test_a_step_may_be_cached_where_the_others_are_not():
    values = settings(cache=False)
    values["preprocess"]["cache"] = True
    assert keys(made(values))["preprocess"] == keys(made())["preprocess"]


SWEEP = Grid((Axis("train", "--C", ("0.1", "1")), Axis("predict", "--threshold", ("0.4", "0.5"))))


def test_variants_share_the_jobs_that_would_give_the_same_output():
    plan = made(settings(sweep=SWEEP))
    assert {step: len(items) for step, items in plan["steps"].items()} == {
        "preprocess": 1,
        "train": 2,
        "predict": 4,
        "evaluate": 4,
    }
    assert [variant["changed"] for variant in plan["variants"]] == [
        {"train --C": "0.1", "predict --threshold": "0.4"},
        {"train --C": "0.1", "predict --threshold": "0.5"},
        {"train --C": "1", "predict --threshold": "0.4"},
        {"train --C": "1", "predict --threshold": "0.5"},
    ]
    for variant in plan["variants"]:
        train = next(one for one in plan["steps"]["train"] if one["key"] == variant["jobs"]["train"])
        assert train["ContainerArguments"] == ["--level", "train", "--C", variant["changed"]["train --C"]]
        predict = next(one for one in plan["steps"]["predict"] if one["key"] == variant["jobs"]["predict"])
        assert predict["inputs"] == {"preprocess": variant["jobs"]["preprocess"], "train": train["key"]}


def test_a_variant_is_the_same_job_as_a_run_without_a_sweep():
    alone = settings()
    alone["train"]["args"] = ["--level", "train", "--C", "1"]
    swept = settings(sweep=Listed(({"train": {"--C": "1"}}, {"train": {"--C": "2"}})))
    assert keys(made(alone))["evaluate"][0] == keys(made(swept))["evaluate"][0]


def test_variants_that_turn_out_the_same_are_one():
    plan = made(settings(sweep=Listed(({}, {"train": {"--level": "train"}}, {"train": {"--level": "x"}}))))
    assert [variant["changed"] for variant in plan["variants"]] == [{}, {"train --level": "x"}]


def test_without_a_sweep_there_is_one_variant_without_changes():
    plan = made()
    assert plan["variants"] == [{"changed": {}, "jobs": {step: item(plan, step)["key"] for step in STEPS}}]


def test_jobs_whose_marker_is_there_do_not_run():
    first = made()
    plan = made(existing={item(first, "preprocess")["marker"], item(first, "train")["marker"]})
    assert [item(plan, step)["cached"] for step in STEPS] == [True, True, False, False]
    started = json.loads(plans.start(plan).input)
    assert {step: len(items) for step, items in started["steps"].items()} == {
        "preprocess": 0,
        "train": 0,
        "predict": 1,
        "evaluate": 1,
    }
    assert plans.to_run(plan)["predict"] == [item(plan, "predict")]


@pytest.mark.parametrize(
    ("cached", "needs"),
    [
        ("", {"train": "preprocess", "predict": "train", "evaluate": "predict"}),
        ("preprocess", {"predict": "train", "evaluate": "predict"}),
        ("train", {"train": "preprocess", "predict": "preprocess", "evaluate": "predict"}),
        ("train predict", {"train": "preprocess", "predict": "preprocess", "evaluate": "preprocess"}),
        ("preprocess train predict", {}),
    ],
)
def test_a_job_needs_the_latest_earlier_one_that_runs(cached, needs):
    first = made()
    plan = made(existing={item(first, step)["marker"] for step in cached.split()})
    for step in STEPS:
        expected = item(first, needs[step])["marker"] if step in needs else ""
        assert item(plan, step)["needs"] == expected


def test_an_item_holds_all_that_its_job_is_told():
    plan = made(with_step("train", environment={"LEVEL": "2"})["values"])
    train, preprocess = item(plan, "train"), item(plan, "preprocess")
    key, run = train["key"], f"runs/demo/{'ab' * 20}"
    inputs = train.pop("ProcessingInputs")
    assert train == {
        "step": "train",
        "key": key,
        "job": f"demo-exp-train-{key[:12]}",
        "again": f"demo-exp-train-{key[:12]}-ababab",
        "bucket": BUCKET,
        "marker": f"steps/train/{key}/done.json",
        "needs": f"steps/preprocess/{preprocess['key']}/done.json",
        "failure": f"{run}/failures/train/{key}.json",
        "run": "demo-abc",
        "ImageUri": IMAGE,
        "ContainerEntrypoint": ["python3", "/opt/ml/processing/input/code/train.py"],
        "ContainerArguments": ["--level", "train"],
        "Environment": {"LEVEL": "2"},
        "InstanceCount": 1,
        "InstanceType": "ml.t3.medium",
        "VolumeSizeInGB": 10,
        "OutputUri": f"s3://{BUCKET}/steps/train/{key}/output/",
        "cached": False,
        "code": ["columns.py", "models/linear.py", "train.py"],
        "inputs": {"preprocess": preprocess["key"]},
    }
    shown = [(one["InputName"], *(one["S3Input"][name] for name in ("S3Uri", "LocalPath"))) for one in inputs]
    root = "/opt/ml/processing/input"
    assert shown == [
        ("code", f"s3://{BUCKET}/{run}/manifests/train.json", f"{root}/code"),
        ("preprocess", f"s3://{BUCKET}/steps/preprocess/{preprocess['key']}/output/", f"{root}/preprocess"),
    ]
    assert [one["S3Input"]["S3DataType"] for one in inputs] == ["ManifestFile", "S3Prefix"]
    assert len(train["again"].replace("demo-exp", "x" * 24)) <= 63


@pytest.mark.parametrize(
    ("uri", "count", "spread"),
    [
        (URI, 1, "FullyReplicated"),
        (URI, 4, "ShardedByS3Key"),
        (f"s3://{BUCKET}/dataset/parts/a.csv", 4, "FullyReplicated"),
    ],
)
def test_the_parts_of_a_data_set_are_shared_out_among_several_instances(uri, count, spread):
    plan = made(with_step("preprocess", InstanceCount=count)["values"], data=Data(uri, DATA.objects))
    (data,) = [one for one in item(plan, "preprocess")["ProcessingInputs"] if one["InputName"] == "data"]
    assert (data["S3Input"]["S3Uri"], data["S3Input"]["S3DataDistributionType"]) == (uri, spread)
    assert data["S3Input"]["LocalPath"] == "/opt/ml/processing/input"


def test_steps_read_what_they_read_in_the_state_machine_of_one_experiment():
    assert {step: tuple(inputs) for step, inputs in pipeline.STEPS.items()} == plans.INPUTS


def test_the_plan_tells_of_run_and_data():
    plan = made()
    run = f"runs/demo/{'ab' * 20}"
    assert {name: plan[name] for name in plan if name not in ("steps", "variants", "data")} == {
        "id": "demo-abc",
        "comment": "first",
        "repository": "demo",
        "commit": "ab" * 20,
        "ref": "refs/heads/main",
        "author": "Ada",
        "pusher": "alice",
        "bucket": BUCKET,
        "run": run,
        "run_uri": f"s3://{BUCKET}/{run}",
    }
    assert plan["data"]["uri"] == URI
    assert plan["data"]["objects"] == [
        {"key": "dataset/parts/a.csv", "etag": "e1", "size": 10},
        {"key": "dataset/parts/b.csv", "etag": "e2", "size": 20},
    ]
    assert len(plan["data"]["version"]) == 12
    assert plan["data"]["version"] != made(**with_object(etag="e3"))["data"]["version"]


def test_an_execution_is_started_with_what_its_states_read_and_no_more():
    started = plans.start(made() | {"estimate": {"usd": 1}})
    document = json.loads(started.input)
    assert set(document) == {
        *("id", "comment", "repository", "commit", "ref", "author", "pusher"),
        *("bucket", "run", "run_uri", "mode", "steps"),
    }
    assert (document["mode"], started.files) == ("inline", {})
    assert not {"cached", "code", "inputs"} & set(document["steps"]["train"][0])


def test_a_plan_beyond_the_limit_is_read_from_s3_with_all_its_jobs():
    first = made(settings(sweep=SWEEP))
    plan = made(settings(sweep=SWEEP), existing={item(first, "preprocess")["marker"]})
    size = len(plans.start(plan).input.encode())
    assert json.loads(plans.start(plan, max_bytes=size).input)["mode"] == "inline"
    started = plans.start(plan, max_bytes=size - 1)
    document = json.loads(started.input)
    assert (document["mode"], "steps" in document) == ("distributed", False)
    assert {key: len(items) for key, items in started.files.items()} == {
        f"{plan['run']}/jobs/{step}.json": count for step, count in zip(STEPS, (1, 2, 4, 4), strict=True)
    }


def test_bytes_are_counted_and_not_letters():
    comment = Run("demo-abc", "ß" * 131_072, "demo", "ab" * 20, "", "", "", BUCKET, "demo-exp")
    with pytest.raises(ValueError, match="262,144 bytes"):
        plans.start(made(run=comment))


def test_a_thousand_variants_are_planned_and_need_no_inline_input():
    sweep = Grid((Axis("train", "--C", tuple(str(n) for n in range(1000))),))
    plan = made(settings(sweep=sweep))
    assert [len(items) for items in plan["steps"].values()] == [1, 1000, 1000, 1000]
    assert json.loads(plans.start(plan).input)["mode"] == "distributed"


def test_the_manifest_of_a_steps_code_names_the_files_that_its_key_covers():
    contents = SOURCES | OTHERS
    covered, problems = plans.cover(settings(), contents, SOURCES)
    assert problems == []
    found = plans.manifests(RUN, covered)
    run = f"runs/demo/{'ab' * 20}"
    assert found[f"{run}/manifests/evaluate.json"] == [
        {"prefix": f"s3://{BUCKET}/{run}/code/"},
        "config/a.json",
        "evaluate.py",
    ]
    assert len(found) == 4


def test_each_module_that_is_not_python_is_named_once():
    sources = SOURCES | {"columns.py": b"x ==== 1\n", "evaluate.py": b"\n\ndef f(:\n"}
    _, problems = plans.cover(settings(), sources | OTHERS, sources)
    assert [problem.partition(": ")[0] for problem in problems] == ["columns.py:1", "evaluate.py:3"]


def test_planning_changes_none_of_its_arguments():
    values = settings(sweep=SWEEP)
    before = deepcopy(values)
    assert made(values) == made(values)
    assert values == before
