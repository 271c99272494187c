"""What a push sets in motion for a state machine that takes a plan."""

import json

import pytest
from botocore.exceptions import ClientError
from dispatcher_aws import (
    BUCKET,
    DATA,
    MACHINE,
    PLAN_MACHINE,
    REPOSITORY,
    STEPS,
    World,
    bucket,
    event,
    new_world,
    project,
    tip,
)

from helpers.planning.costs import Estimate

SWEEP = 'sweep:\n  grid: {train: {"--C": ["0.1", "1"]}}\n'


@pytest.fixture
def world() -> World:
    return new_world()


def push(world: World, added: str = "", *, commit: str = "", files: dict | None = None, **changes: str) -> dict:
    """Push a root commit with ``added`` at the end of its experiment.yml; return the dispatcher's answer."""
    an_event = event("root_commit")
    commit = commit or tip(an_event)
    an_event["Records"][0]["codecommit"]["references"][0]["commit"] = commit
    content = project(**{"pipeline_stateMachineArn": PLAN_MACHINE} | changes) | (files or {})
    content["experiment.yml"] += added.encode()
    world.codecommit.commit(commit, content)
    (answer,) = world.deliver(an_event)
    return answer


def run_of(answer: dict) -> str:
    return f"runs/{REPOSITORY}/{answer['commit']}"


def plan_of(world: World, answer: dict) -> dict:
    return world.s3.json(f"{run_of(answer)}/plan.json")


def finish(world: World, answer: dict, *steps: str) -> None:
    """Write the markers of the planned jobs of ``steps``, as the state machine does."""
    for step in steps:
        for item in plan_of(world, answer)["steps"][step]:
            world.s3.objects[item["marker"]] = b"{}"


def refused(world: World, added: str = "", **changes: str) -> list[str]:
    answer = push(world, added, **changes)
    assert answer["status"] == "refused"
    assert world.states.executions == {}
    assert not any("/code/" in key or key.endswith("plan.json") for key in world.s3.objects)
    return answer["problems"]


def test_the_execution_gets_the_jobs_that_must_run(world):
    answer = push(world, SWEEP)
    (document,) = world.inputs()
    assert answer["status"] == "started"
    assert document["mode"] == "inline"
    assert {step: len(items) for step, items in document["steps"].items()} == {
        "preprocess": 1,
        "train": 2,
        "predict": 2,
        "evaluate": 2,
    }
    assert (document["id"], document["run_uri"]) == (answer["execution"], f"s3://{BUCKET}/{run_of(answer)}")
    assert {item["run"] for items in document["steps"].values() for item in items} == {answer["execution"]}


def test_the_answer_and_the_comment_tell_of_variants_jobs_and_cost(world):
    first = push(world, SWEEP)
    finish(world, first, "preprocess", "train")
    answer = push(world, SWEEP, commit="ef" * 20)
    assert (answer["variants"], answer["jobs"]) == (2, {"run": 4, "cached": 3})
    assert answer["estimate"]["steps"]["predict"]["jobs"] == 2
    assert answer == world.s3.json(f"{run_of(answer)}/dispatch.json")
    comment = world.codecommit.texts()[-1]
    assert "2 variants: 4 jobs to run, 3 complete already" in comment
    assert "\n".join(Estimate.from_dict(answer["estimate"]).lines()) in comment


def test_complete_jobs_are_not_given_to_the_execution_again(world):
    finish(world, push(world), *STEPS)
    answer = push(world, commit="ef" * 20)
    assert [len(items) for items in world.inputs()[1]["steps"].values()] == [0, 0, 0, 0]
    assert all(item["cached"] for items in plan_of(world, answer)["steps"].values() for item in items)


def test_markers_of_other_jobs_with_the_same_beginning_do_not_count(world):
    (marker,) = [item["marker"] for item in plan_of(world, push(world))["steps"]["train"]]
    world.s3.objects |= {f"{marker}.old": b"", marker.replace("done.json", "output/done.json"): b""}
    answer = push(world, commit="ef" * 20)
    assert answer["jobs"] == {"run": 4, "cached": 0}


@pytest.mark.parametrize("page_size", [2, 1000])
def test_many_markers_are_looked_for_by_folders_first(world, page_size):
    world.s3.page_size = page_size
    sweep = f'sweep:\n  grid: {{train: {{"--C": {list(range(bucket.ASK_EACH + 1))}}}}}\n'
    first = push(world, sweep)
    done = [items[number]["marker"] for items in plan_of(world, first)["steps"].values() for number in (0, -1)]
    for marker in done:
        world.s3.objects |= {marker: b"{}", marker.replace("done.json", "output/x.npz"): b""}
    world.s3.calls.clear()
    answer = push(world, sweep, commit="ef" * 20)
    assert answer["jobs"] == {"run": 1 + 3 * 65 - 7, "cached": 7}
    assert world.s3.calls.count("ListObjectsV2") < 20, "not one call for each of the markers"


def test_a_job_sees_the_files_that_its_key_covers(world):
    answer = push(world, files={"requirements.txt": b"pandas\n", "README.md": b"x"}, train_files="[README.md]")
    manifest = world.s3.json(f"{run_of(answer)}/manifests/train.json")
    assert manifest[0] == {"prefix": f"s3://{BUCKET}/{run_of(answer)}/code/"}
    assert manifest[1:] == ["README.md", "lib/features.py", "requirements.txt", "train.py"]
    assert all(f"{run_of(answer)}/code/{path}" in world.s3.objects for path in manifest[1:])
    (item,) = plan_of(world, answer)["steps"]["train"]
    assert item["code"] == manifest[1:]


def test_a_plan_beyond_the_limit_of_the_input_is_put_into_the_bucket(world):
    sweep = f'sweep:\n  grid: {{train: {{"--C": {list(range(200))}}}}}\n'
    answer = push(world, sweep)
    (document,) = world.inputs()
    assert (document["mode"], "steps" in document) == ("distributed", False)
    lengths = [len(world.s3.json(f"{run_of(answer)}/jobs/{step}.json")) for step in STEPS]
    assert lengths == [1, 200, 200, 200]


@pytest.mark.parametrize("failing", ["StartExecution", "PostCommentForComparedCommit"])
def test_a_repeated_event_uses_the_plan_that_was_kept_first(world, failing):
    client = world.states if failing == "StartExecution" else world.codecommit
    client.failures.append((failing, "ThrottlingException"))
    with pytest.raises(ClientError, match="Throttling"):
        push(world, SWEEP)
    kept = {key: content for key, content in world.s3.objects.items() if key.endswith("plan.json")}
    (plan,) = (json.loads(content) for content in kept.values())
    for items in plan["steps"].values():
        world.s3.objects[items[0]["marker"]] = b"{}"  # meanwhile the jobs have run
    answer = push(world, SWEEP)
    assert answer["jobs"] == {"run": 7, "cached": 0}
    assert kept.items() <= world.s3.objects.items()
    assert len(world.states.executions) == 1
    assert [len(items) for items in world.inputs()[0]["steps"].values()] == [1, 2, 2, 2]


def test_an_unknown_error_while_keeping_the_plan_raises(world):
    world.s3.failures.append(("PutObject", "ConditionalRequestConflict"))
    with pytest.raises(ClientError, match="ConditionalRequestConflict"):
        bucket.keep_first(world.s3, BUCKET, "plan.json", {})


def test_a_data_set_stored_as_parts_is_every_object_below_its_uri(world):
    world.s3.page_size = 2
    parts = {f"dataset/parts/{number}.csv": b"age\n" * number for number in range(5)}
    world.s3.objects |= parts | {"dataset/parts/": b"", "dataset/parts-old/x.csv": b""}
    answer = push(world, pipeline_input_data_uri=f"s3://{BUCKET}/dataset/parts/", preprocess_InstanceCount="4")
    plan = plan_of(world, answer)
    assert [(entry["key"], entry["size"]) for entry in plan["data"]["objects"]] == [
        (key, len(content)) for key, content in parts.items()
    ]
    assert not any('"' in entry["etag"] for entry in plan["data"]["objects"])
    data = plan["steps"]["preprocess"][0]["ProcessingInputs"][1]["S3Input"]
    assert data["S3DataDistributionType"] == "ShardedByS3Key"


def test_a_changed_data_object_runs_every_step_again(world):
    finish(world, push(world), *STEPS)
    world.s3.objects[DATA] = b"age\n1\n"
    assert push(world, commit="ef" * 20)["jobs"] == {"run": 4, "cached": 0}


def test_a_data_set_without_parts_is_refused_with_a_suggestion(world):
    world.s3.objects["dataset/parts/a.csv"] = b""
    uri = f"s3://{BUCKET}/dataset/part/"
    assert refused(world, pipeline_input_data_uri=uri) == [
        f"experiment.yml:4: pipeline.input_data_uri: there are no objects below '{uri}'."
        f" Did you mean 's3://{BUCKET}/dataset/parts/'?"
    ]


def test_a_data_set_of_too_many_parts_is_refused(world, monkeypatch):
    monkeypatch.setattr(bucket, "MAX_OBJECTS", 3)
    world.s3.objects |= {f"parts/{number}": b"" for number in range(4)}
    (problem,) = refused(world, pipeline_input_data_uri=f"s3://{BUCKET}/parts/")
    assert "holds more than 3 objects" in problem


def test_a_module_that_is_not_python_is_refused_with_its_line(world):
    (problem,) = refused(world, files={"lib/features.py": b"x = 1\ndef f(:\n"})
    assert problem.startswith("lib/features.py:2: not valid Python: ")


def test_a_run_above_its_budget_is_refused_with_line_and_estimate(world):
    (problem,) = refused(world, f"{SWEEP}budget: 0.01\n")
    assert problem.startswith("experiment.yml:31: budget: the run is estimated at $0.")
    assert problem.endswith("the budget is $0.010")


def test_a_run_within_its_budget_starts_and_complete_jobs_cost_nothing(world):
    finish(world, push(world, SWEEP), "preprocess", "train", "predict")
    estimate = push(world, f"{SWEEP}budget: 0.01\n", commit="ef" * 20)["estimate"]
    assert estimate["usd"] < 0.01
    assert estimate["steps"]["train"]["usd"] == 0


def test_a_budget_with_an_unknown_price_is_refused(world):
    (problem,) = refused(world, "budget: 1000\n", train_InstanceType="ml.p3.2xlarge")
    assert "the run is estimated at an unknown price, the budget is $1,000.00" in problem
    assert "ml.p3.2xlarge" in problem


def test_a_budget_counts_for_a_machine_that_takes_no_plan_as_well(world):
    (problem,) = refused(world, "budget: 0.001\n", pipeline_stateMachineArn=MACHINE)
    assert problem.startswith("experiment.yml:29: budget: the run is estimated at $0.")


def test_a_machine_that_takes_no_plan_gets_the_experiment_as_ever(world):
    answer = push(world, "budget: 10\ncache: false\n", pipeline_stateMachineArn=MACHINE, train_cache="true")
    (document,) = world.inputs()
    assert not {"variants", "jobs", "estimate"} & set(answer)
    assert set(document["train"]) == {
        *("code", "ImageUri", "InstanceCount", "InstanceType", "VolumeSizeInGB", "args"),
        *("ContainerEntrypoint", "output_data_uri"),
    }
    assert set(document) & {"cache", "budget", "sweep"} == set()
    assert not any("manifests" in key or "plan.json" in key for key in world.s3.objects)


def test_a_machine_that_takes_no_plan_refuses_what_needs_one(world):
    problems = refused(world, SWEEP, pipeline_stateMachineArn=MACHINE, train_environment="{A: x}")
    assert [problem.partition(" needs ")[0] for problem in problems] == [
        "experiment.yml:31: sweep: this",
        "experiment.yml:17: train.environment: this",
    ]


def test_an_unknown_machine_is_the_only_problem_of_a_sweep(world):
    problems = refused(world, SWEEP, pipeline_stateMachineArn=f"{PLAN_MACHINE}-2")
    assert problems == ["experiment.yml:3: pipeline.stateMachineArn: there is no such state machine"]


def test_a_plan_that_no_input_can_hold_is_refused_before_anything_is_kept(world):
    world.codecommit.author = "ß" * 131_072  # two bytes each; git sets no limit
    (problem,) = refused(world)
    assert "the execution's input exceeds 262,144 bytes" in problem


def test_of_a_commit_without_an_experiment_only_the_top_is_listed(world):
    an_event = event("root_commit")
    world.codecommit.commit(tip(an_event), {f"folder{n}/deep/a.py": b"" for n in range(50)} | {"README.md": b""})
    assert world.deliver(an_event) == []
    assert world.codecommit.calls.count("GetFolder") == 1
