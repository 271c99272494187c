"""Notebook 08c's system: parts and sets of hyper-parameters as Batch jobs, retries, an array, and what breaks it."""

import json
from typing import Any

import pytest
from clients import eventually
from processing_workshop import SAMPLE, ProcessingWorkshop

from helpers import comparison, containers, processing


@pytest.fixture(scope="module")
def system(embedded: Any) -> ProcessingWorkshop:
    """Build the system once."""
    return ProcessingWorkshop(embedded, "batch-system").build_batch()


def submit(system: ProcessingWorkshop, **more: Any) -> str:
    """Submit a job of the system. Returns its id."""
    settings = {"jobName": "job", "jobQueue": system.name("urgent"), "jobDefinition": system.name("summarize"), **more}
    return system.client("batch").submit_job(**settings)["jobId"]


def told(**environment: str) -> dict[str, Any]:
    return {"environment": [{"name": name, "value": value} for name, value in environment.items()]}


def test_parts_become_statistics(system: ProcessingWorkshop) -> None:
    run = system.run("batch")
    assert run["status"] == "SUCCEEDED", run
    assert json.loads(run["output"])["rows"] == 2000
    found = processing.statistics(system.s3, system.bucket, run["name"])
    assert processing.largest_difference(found, processing.expected_statistics(SAMPLE)) < 1e-9
    assert comparison.measured(system.states, {"Batch": [run["executionArn"]]}).loc["Batch", "pieces"] == 4


def test_a_failed_attempt_is_tried_again_and_a_bad_part_is_not(system: ProcessingWorkshop) -> None:
    part = system.parts[0]
    run = system.run("batch", {"prefix": part, "trouble": {part: {"FAIL_FIRST_ATTEMPT": 1}}})
    assert run["status"] == "SUCCEEDED", run
    run = system.run("batch", {"prefix": part, "trouble": {part: {"FAIL": "as asked"}}})
    assert (run["error"], run["cause"]) == ("PartsFailed", f"{part}: exit code 1 in attempt 1, see its log")
    (failed,) = containers.failures(system.states, run["executionArn"])
    lines = containers.job_log(system.logs, system.client("batch"), failed["JobId"])
    assert lines[-1] == "failed: AskedToFail: as asked"


def test_an_array_takes_the_parts_of_a_list(system: ProcessingWorkshop) -> None:
    batch = system.client("batch")
    listed = processing.put_json(system.s3, system.bucket, "sets/parts.json", system.parts)
    environment = told(BUCKET=system.bucket, PARTS=listed, OUTPUT="summaries/array", FAIL_FIRST_ATTEMPT="1")
    job = submit(system, arrayProperties={"size": 4}, containerOverrides=environment)
    (parent,) = containers.wait_for_jobs(batch, [job], seconds=180).to_dict("records")
    assert parent["status"] == "SUCCEEDED"
    table = containers.wait_for_jobs(batch, containers.array_children(batch, job), seconds=180)
    assert list(table["attempts"]) == [2] * 4
    for part in system.parts:
        key = f"summaries/array/{part.rpartition('/')[2].replace('.csv', '.json')}"
        assert processing.read_json(system.s3, system.bucket, key)["rows"] == 500


def test_the_best_of_several_sets_is_chosen_and_a_wrong_one_does_not_matter(system: ProcessingWorkshop) -> None:
    sets = [*processing.hyper_parameter_sets(C=[0.001, 1], class_weight=["balanced"]), {"C": -1}]
    key = processing.put_json(system.s3, system.bucket, "sets/first.json", sets)
    run = system.run("batch-sets", {"sets": key})
    assert run["status"] == "SUCCEEDED", run
    found = json.loads(run["output"])
    scores = [one["roc_auc"] for one in found["ranking"]]
    assert sorted(scores, reverse=True) == scores
    assert {one["number"] for one in found["ranking"]} == {0, 1}
    assert found["failed"] == [{"number": 2, "set": {"C": -1}, "error": "exit code 2 in attempt 1, see its log"}]
    assert found["best"]["model"] == f"models/{run['name']}/{found['best']['number']}/model.joblib"
    assert system.s3.head_object(Bucket=system.bucket, Key=found["best"]["model"])["ContentLength"] > 1000
    assert list(processing.ranking(found).index[:1]) == [found["best"]["number"]]
    assert processing.read_json(system.s3, system.bucket, f"results/{run['name']}/best.json") == found


def test_when_no_set_has_a_model_the_execution_says_why(system: ProcessingWorkshop) -> None:
    key = processing.put_json(system.s3, system.bucket, "sets/wrong.json", [{"C": -1}])
    run = system.run("batch-sets", {"sets": key})
    assert (run["status"], run["error"]) == ("FAILED", "NoneTrained")
    assert run["cause"] == "none of 1 sets has a model: set 0: exit code 2 in attempt 1, see its log"
    run = system.run("batch-sets", {"sets": "sets/missing.json"})
    assert (run["status"], run["error"]) == ("FAILED", "States.ItemReaderFailed")


def test_a_stopped_execution_ends_its_jobs(system: ProcessingWorkshop) -> None:
    part, batch = system.parts[0], system.client("batch")
    execution = system.start("batch", {"prefix": part, "trouble": {part: {"STALL_SECONDS": 300}}})
    eventually(lambda: "TaskSubmitted" in system.events(execution))
    queue = system.name("normal")
    (job,) = eventually(lambda: batch.list_jobs(jobQueue=queue, jobStatus="RUNNING")["jobSummaryList"])
    system.states.stop_execution(executionArn=execution)
    (row,) = containers.wait_for_jobs(batch, [job["jobId"]], seconds=180).to_dict("records")
    assert row["status"] == "FAILED"


@pytest.mark.parametrize(("suffix", "kind", "service", "action", "reason"), [
    ("batch-machine", "batch-machine", "states", "batch:SubmitJob", "batch:SubmitJob"),
    ("containers", "execution", "ecs-tasks", "ecr:BatchGetImage", "CannotPullContainerError"),
    ("summarize", "task", "ecs-tasks", "s3:GetObject", "exit code 1"),
    ("summarize", "task", "ecs-tasks", "s3:PutObject", "exit code 1"),
])  # fmt: skip
def test_each_permission_is_needed(
    system: ProcessingWorkshop, suffix: str, kind: str, service: str, action: str, reason: str
) -> None:
    with system.without(suffix, kind, service, action):
        run = system.run(system.impatient("batch"), {"prefix": system.parts[0]})
    assert run["status"] == "FAILED"
    assert reason in f"{run['error']}: {run['cause']}"


@pytest.mark.parametrize(("suffix", "kind", "service", "action", "reason"), [
    ("batch-machine", "batch-machine", "states", "s3:GetObject", "States.ItemReaderFailed"),
    ("batch-machine", "batch-machine", "states", "states:StartExecution", "States.Permissions"),
    ("train", "train", "ecs-tasks", "s3:ListBucket", "exit code 1"),
    ("train", "train", "ecs-tasks", "s3:GetObject", "exit code 1"),
    ("train", "train", "ecs-tasks", "s3:PutObject", "exit code 1"),
    ("best-set", "best-set", "lambda", "s3:GetObject", "s3:GetObject"),
])  # fmt: skip
def test_each_permission_is_needed_to_train(
    system: ProcessingWorkshop, suffix: str, kind: str, service: str, action: str, reason: str
) -> None:
    key = processing.put_json(system.s3, system.bucket, "sets/one.json", [{"C": 1}])
    with system.without(suffix, kind, service, action):
        run = system.run("batch-sets", {"sets": key})
    assert run["status"] == "FAILED"
    assert reason in f"{run['error']}: {run['cause']}"
