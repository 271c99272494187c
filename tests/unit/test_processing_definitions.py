"""The state machines of notebooks 08b and 08c against golden files, two validators and the services' models.

After a wanted change: PYTHONPATH=. .venv/bin/python tests/unit/test_processing_definitions.py writes them anew.
"""

import json
import re
from pathlib import Path
from typing import Any

import jsonata
import pytest
from botocore.loaders import Loader
from statelint.config import Config
from statelint.linter import Linter
from test_pipeline_definition import as_text

from helpers import processing_machines as machines
from helpers.comparison import TABLE
from helpers.local_aws.states.definition import problems

GOLDEN = Path(__file__).with_name("processing_definitions.json")
ACCOUNT = "us-east-1:123456789012"
FUNCTION = f"arn:aws:lambda:{ACCOUNT}:function:demo-exp-"
PARTS = {
    "bucket": "demo-exp-processing-123456789012",
    "list_arn": f"{FUNCTION}list-parts",
    "combine_arn": f"{FUNCTION}combine",
}
TASK = {
    "cluster": f"arn:aws:ecs:{ACCOUNT}:cluster/demo-exp",
    "task_definition": f"arn:aws:ecs:{ACCOUNT}:task-definition/demo-exp-summarize",
    "subnets": ("subnet-1", "subnet-2"),
    "security_groups": ("sg-1",),
}
QUEUE = f"arn:aws:batch:{ACCOUNT}:job-queue/demo-exp-normal"
JOB = f"arn:aws:batch:{ACCOUNT}:job-definition/demo-exp-"
DEFINITIONS = {
    "fargate": machines.fargate(**PARTS, **TASK),
    "fargate-token": machines.fargate_with_token(**PARTS, **TASK),
    "batch": machines.batch(**PARTS, queue=QUEUE, job_definition=f"{JOB}summarize"),
    "batch-sets": machines.batch_sets(
        bucket=PARTS["bucket"], best_arn=f"{FUNCTION}best-set", queue=QUEUE, job_definition=f"{JOB}train"
    ),
}
NAMES = list(DEFINITIONS)
MAPS = NAMES[:3]


def part(name: str) -> dict[str, Any]:
    return DEFINITIONS[name]["States"]["summarize"]["ItemProcessor"]["States"]["summarize part"]


def evaluate(template: str, states: dict[str, Any]) -> Any:
    """Return what an expression of a definition is, with ``$states`` as told."""
    found = re.fullmatch(r"\{% (.*) %\}", template, re.DOTALL)
    assert found, template
    expression = jsonata.Jsonata(found[1])
    expression.register_lambda("parse", json.loads)  # of Step Functions, not of JSONata
    bindings = expression.create_frame()
    bindings.bind("states", states)
    return expression.evaluate(None, bindings)


def context(given: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "input": {"key": "parts/part-1.csv", "index": 0},
        "context": {"Execution": {"Name": "run-1", "Input": given or {}}, "Task": {"Token": "the token"}},
        **more,
    }


def test_the_definitions_are_the_golden_file() -> None:
    assert as_text(DEFINITIONS) == GOLDEN.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_an_independent_validator_finds_nothing(name: str) -> None:
    definition = json.loads(GOLDEN.read_text())[name]
    if name == "batch-sets":  # what the validator does not know of Distributed Maps, both documented
        state = definition["States"]["train the sets"]
        assert (state.pop("Label"), state["ItemReader"]["ReaderConfig"].pop("InputType")) == ("sets", "JSON")
    assert Linter.validate(definition, Config([], False, True)) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_embedded_aws_finds_nothing(name: str) -> None:
    assert problems(json.dumps(DEFINITIONS[name])) == []


def unknown(value: Any, shape: str, shapes: dict[str, Any]) -> Any:
    """Yield the members of ``value``, spelled as in a state, that the API does not know."""
    known = shapes[shape]
    if isinstance(value, str) and value.startswith("{%"):
        return
    if known["type"] == "list":
        for entry in value:
            yield from unknown(entry, known["member"]["shape"], shapes)
    elif known["type"] == "structure":
        members = {name[0].upper() + name[1:]: member["shape"] for name, member in known["members"].items()}
        for name, inner in value.items():
            if name not in members:
                yield f"{shape}.{name}"
            else:
                yield from unknown(inner, members[name], shapes)


@pytest.mark.parametrize(("name", "service", "shape"), [
    ("fargate", "ecs", "RunTaskRequest"), ("fargate-token", "ecs", "RunTaskRequest"),
    ("batch", "batch", "SubmitJobRequest"),
])  # fmt: skip
def test_the_arguments_are_those_of_the_service(name: str, service: str, shape: str) -> None:
    shapes = Loader().load_service_model(service, "service-2")["shapes"]
    assert list(unknown(part(name)["Arguments"], shape, shapes)) == []


def environment(name: str, given: Any = None) -> dict[str, str]:
    arguments = part(name)["Arguments"]
    override = arguments["Overrides"]["ContainerOverrides"][0] if "Overrides" in arguments else None
    template = (override or arguments["ContainerOverrides"])["Environment"]
    return {one["Name"]: one["Value"] for one in evaluate(template, context(given))}


@pytest.mark.parametrize("name", MAPS)
def test_a_container_is_told_its_part_and_the_trouble_that_was_asked_for_it(name: str) -> None:
    told = {"BUCKET": PARTS["bucket"], "PART": "parts/part-1.csv", "OUTPUT": "summaries/run-1"}
    if name == "fargate-token":
        told |= {"TASK_TOKEN": "the token", "HEARTBEAT_SECONDS": "30"}
    assert environment(name) == told
    assert environment(name, {"trouble": {"parts/part-2.csv": {"FAIL": "x"}}}) == told
    # Nothing but trouble can be asked for: who may start an execution may not set PATH in a container.
    trouble = {"parts/part-1.csv": {"STALL_SECONDS": 30, "FAIL": "x", "PATH": "/tmp", "PART": "other"}}
    assert environment(name, {"trouble": trouble}) == told | {"STALL_SECONDS": "30", "FAIL": "x"}


TASK_FAILED = {"TaskArn": "t", "Containers": [{"ExitCode": 1}], "StoppedReason": "Essential container in task exited"}
TASK_LOST = {"TaskArn": "t", "Containers": [{}], "StoppedReason": "CannotPullContainerError: no"}
JOB_FAILED = {"JobId": "j", "Container": {"ExitCode": 75}, "Attempts": [{}, {}], "StatusReason": "Essential"}
JOB_LOST = {"JobId": "j", "Container": {}, "Attempts": [], "StatusReason": "Job attempt duration exceeded timeout"}
JOB_BLIND = {
    "JobId": "j",
    "Container": {"Reason": "CannotPullContainerError: no"},
    "StatusReason": "Task failed to start",
}
TASK_KILLED = {"TaskArn": "t", "Containers": [{"ExitCode": 137, "Reason": "OutOfMemoryError: too much"}]}


@pytest.mark.parametrize(("name", "cause", "reason"), [
    ("fargate", TASK_FAILED, "exit code 1, see its log"),
    ("fargate", TASK_LOST, "CannotPullContainerError: no"),
    ("fargate", {}, "States.TaskFailed: {}"),
    ("fargate", "no such cluster", "States.TaskFailed: no such cluster"),
    ("fargate-token", "line 3: 'x'", "States.TaskFailed: line 3: 'x'"),
    ("batch", JOB_FAILED, "exit code 75 in attempt 2, see its log"),
    ("batch", JOB_LOST, "Job attempt duration exceeded timeout"),
    ("batch", JOB_BLIND, "Task failed to start: CannotPullContainerError: no"),
    ("fargate", TASK_KILLED, "exit code 137, OutOfMemoryError: too much"),
])  # fmt: skip
def test_why_a_part_failed_is_told(name: str, cause: Any, reason: str) -> None:
    text = cause if isinstance(cause, str) else json.dumps(cause)
    catch = part(name)["Catch"][-1]
    found = context(errorOutput={"Error": "States.TaskFailed", "Cause": text})
    assert catch["Next"] == "part failed"
    assert {key: evaluate(value, found) for key, value in catch["Output"].items()} == {
        "part": "parts/part-1.csv",
        "error": reason,
    }


@pytest.mark.parametrize("name", MAPS)
def test_a_part_that_runs_out_of_time_says_how(name: str) -> None:
    told = {catch["ErrorEquals"][0]: catch["Output"]["error"] for catch in part(name)["Catch"][:-1]}
    silent = {"States.HeartbeatTimeout": "no heartbeat for 180 seconds"} if name == "fargate-token" else {}
    assert list(told.items()) == list({**silent, "States.Timeout": "not done after 900 seconds"}.items())


@pytest.mark.parametrize(("errors", "cause"), [
    ((None, None), None), ((None, "x"), "b: x"), (("x", "y"), "a: x; b: y"),
])  # fmt: skip
def test_parts_that_failed_are_told_after_all_have_ended(errors: tuple[str | None, ...], cause: str | None) -> None:
    results = [{"part": name, **({"error": error} if error else {})} for name, error in zip("ab", errors, strict=True)]
    states = DEFINITIONS["batch"]["States"]
    output = {key: evaluate(value, {"result": results}) for key, value in states["summarize"]["Output"].items()}
    (choice,) = states["all parts?"]["Choices"]
    assert evaluate(choice["Condition"], {"input": output}) is bool(cause)
    assert (choice["Next"], states["all parts?"]["Default"]) == ("parts failed", "combine")
    if cause:
        assert evaluate(states["parts failed"]["Cause"], {"input": output}) == cause


@pytest.mark.parametrize("name", NAMES)
def test_what_passes_is_tried_again_and_what_a_container_did_is_not(name: str) -> None:
    states = DEFINITIONS[name]["States"]
    inner = next(state["ItemProcessor"]["States"] for state in states.values() if state["Type"] == "Map")
    tasks = [state for state in (*states.values(), *inner.values()) if state["Type"] == "Task"]
    for task in tasks:
        (retry,) = task["Retry"]
        assert not {"States.ALL", "States.TaskFailed", "States.Timeout"} & set(retry["ErrorEquals"])
        assert task["Catch"][-1]["ErrorEquals"] == ["States.ALL"]
        assert task["TimeoutSeconds"] > task.get("HeartbeatSeconds", 0)


def test_a_functions_error_reaches_the_end_with_its_own_words() -> None:
    (catch,) = DEFINITIONS["fargate"]["States"]["list parts"]["Catch"]
    cause = json.dumps({"errorMessage": "there is no .csv file", "errorType": "NoParts"})
    for text, words in ((cause, "there is no .csv file"), ("Task timed out", "Task timed out"), (None, "")):
        found = context(errorOutput={"Error": "NoParts", **({"Cause": text} if text else {})})
        assert {key: evaluate(value, found) for key, value in catch["Output"].items()} == {
            "error": "NoParts",
            "cause": words,
        }


def test_a_set_is_handed_to_its_job_and_its_failure_to_the_choice_of_the_best() -> None:
    train = DEFINITIONS["batch-sets"]["States"]["train the sets"]["ItemProcessor"]["States"]["train"]
    given = {"input": {"number": 3, "set": {"C": 0.1, "class-weight": "none"}, "run": "run-1"}}
    told = evaluate(train["Arguments"]["ContainerOverrides"]["Environment"], given)
    told = {one["Name"]: one["Value"] for one in told}
    assert json.loads(told.pop("SET")) == given["input"]["set"]
    assert told == {"BUCKET": PARTS["bucket"], "DATA": "parts/", "OUTPUT": "models/run-1/3"}
    kept = {"number": 3, "set": given["input"]["set"]}
    assert evaluate(train["Output"], given) == kept | {"output": "models/run-1/3"}
    failed = given | {"errorOutput": {"Error": "States.TaskFailed", "Cause": json.dumps(JOB_FAILED)}}
    assert evaluate(train["Catch"][0]["Output"], failed) == kept | {"error": "exit code 75 in attempt 2, see its log"}


@pytest.mark.parametrize("number", [0, 41])
def test_more_at_once_than_an_inline_map_runs_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match=f"max_concurrency is 1 to 40, not {number}"):
        machines.fargate(**PARTS, **TASK, max_concurrency=number)


@pytest.mark.parametrize("name", MAPS)
def test_a_run_has_as_many_transitions_as_its_price_says(name: str) -> None:
    counts = json.loads(TABLE.read_text())["usual"]["transitions"]["Batch" if name == "batch" else "Fargate"]
    states, entered = DEFINITIONS[name]["States"], ["list parts"]
    while "Next" in states[entered[-1]] or "Default" in states[entered[-1]]:
        entered.append(states[entered[-1]].get("Next") or states[entered[-1]]["Default"])
    assert counts == {"of_a_run": len(entered), "of_a_part": 1}


if __name__ == "__main__":
    GOLDEN.write_text(as_text(DEFINITIONS))
