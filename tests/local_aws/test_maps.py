"""Map and Parallel: items that really run, their history as AWS writes it, and what ends with them."""

import json
import uuid
from typing import Any

import pytest
from clients import eventually, refused
from lab import PASS, SLEEP, Lab, job_of

Events = list[dict[str, Any]]


@pytest.fixture(scope="module")
def lab(embedded: Any) -> Lab:
    return Lab(embedded)


def inline(states: dict[str, Any], **more: Any) -> dict[str, Any]:
    following = {} if "Next" in more else {"End": True}
    return {"Type": "Map", "ItemProcessor": {"StartAt": next(iter(states)), "States": states}, **following, **more}


def history(lab: Lab, execution: str) -> Events:
    pages = lab.states.get_paginator("get_execution_history").paginate(executionArn=execution)
    return [event for page in pages for event in page["events"]]


def of_kind(events: Events, kind: str) -> Events:
    return [event for event in events if event["type"] == kind]


def fails_on(value: Any) -> dict[str, Any]:
    """Return states that fail for one value of ``$.n`` and give out the others."""
    rule = {"Variable": "$.n", "NumericEquals": value, "Next": "bad"}
    bad = {"Type": "Fail", "Error": "Bad", "Cause": "this one"}
    return {"look": {"Type": "Choice", "Choices": [rule], "Default": "good"}, "bad": bad, "good": PASS}


# --- results ---


def test_items_come_out_in_their_order_with_their_context(lab: Lab) -> None:
    selector = {
        "i.$": "$$.Map.Item.Index",
        "v.$": "$$.Map.Item.Value",
        "who.$": "$.who",
        "x.$": "$$.Execution.Input.who",
    }
    state = inline({"one": PASS}, ItemsPath="$.items", ItemSelector=selector, MaxConcurrency=2)
    execution = lab.run({"map": state}, {"items": ["a", "b", "c"], "who": "me"})
    wanted = [{"i": i, "v": v, "who": "me", "x": "me"} for i, v in enumerate("abc")]
    assert json.loads(execution["output"]) == wanted


def test_a_map_without_items_succeeds(lab: Lab) -> None:
    execution = lab.run({"map": inline({"one": PASS}, ItemsPath="$.items")}, {"items": []})
    assert (execution["status"], execution["output"]) == ("SUCCEEDED", "[]")


def test_items_that_are_no_array_fail_the_execution(lab: Lab) -> None:
    execution = lab.run({"map": inline({"one": PASS}, ItemsPath="$.items")}, {"items": {"a": 1}})
    assert (execution["status"], execution["error"]) == ("FAILED", "States.Runtime")


def test_an_items_error_is_caught_inside_and_the_others_go_on(lab: Lab) -> None:
    broken = lab.job("raise SystemExit(1 if __import__('os').environ['N'] == '2' else 0)")
    broken["Parameters"]["ProcessingJobName.$"] = "States.Format('{}-{}', $$.Execution.Name, $)"
    broken["Parameters"]["Environment"] = {"N.$": "States.Format('{}', $)"}
    broken["ResultSelector"] = {"status.$": "$.ProcessingJobStatus"}
    broken["Catch"] = [{"ErrorEquals": ["States.TaskFailed"], "Next": "failed"}]
    failed = {"Type": "Pass", "Result": {"status": "caught"}, "End": True}
    execution = lab.run({"map": inline({"job": broken, "failed": failed})}, [1, 2, 3])
    statuses = [item["status"] for item in json.loads(execution["output"])]
    assert statuses == ["Completed", "caught", "Completed"]


# --- history ---


def test_the_history_tells_which_event_led_to_which(lab: Lab) -> None:
    execution = lab.run({"map": inline({"one": PASS}, Next="after"), "after": PASS}, [1, 2])
    events = history(lab, execution["executionArn"])
    by_id = {event["id"]: event for event in events}
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    assert [events[0]["previousEventId"], events[1]["previousEventId"]] == [0, 0]
    started = of_kind(events, "MapIterationStarted")
    assert {event["mapIterationStartedEventDetails"]["index"] for event in started} == {0, 1}
    assert {by_id[event["previousEventId"]]["type"] for event in started} == {"MapStateStarted"}
    for event in of_kind(events, "MapIterationSucceeded"):
        chain = [event]
        while chain[-1]["type"] != "MapIterationStarted":
            chain.append(by_id[chain[-1]["previousEventId"]])
        kinds = ["MapIterationSucceeded", "PassStateExited", "PassStateEntered", "MapIterationStarted"]
        assert [item["type"] for item in chain] == kinds
        assert chain[-1]["mapIterationStartedEventDetails"] == event["mapIterationSucceededEventDetails"]
    tail = ["MapStateSucceeded", "MapStateExited", "PassStateEntered", "PassStateExited", "ExecutionSucceeded"]
    assert [event["type"] for event in events[-5:]] == tail
    assert by_id[events[-5]["previousEventId"]]["type"] == "MapIterationSucceeded"
    assert of_kind(events, "MapStateStarted")[0]["mapStateStartedEventDetails"] == {"length": 2}


def test_a_task_in_an_item_has_its_own_events(lab: Lab) -> None:
    job = lab.job()
    job["Parameters"]["ProcessingJobName.$"] = "States.Format('{}-{}', $$.Execution.Name, $)"
    execution = lab.run({"map": inline({"job": job})}, [1])
    events = history(lab, execution["executionArn"])
    kinds = [event["type"] for event in events]
    inner = ["TaskStateEntered", "TaskScheduled", "TaskStarted", "TaskSubmitted", "TaskSucceeded", "TaskStateExited"]
    start = kinds.index("TaskStateEntered")
    assert kinds[start : start + 6] == inner
    scheduled = of_kind(events, "TaskScheduled")[0]["taskScheduledEventDetails"]
    assert (scheduled["resourceType"], scheduled["resource"]) == ("sagemaker", "createProcessingJob.sync")
    assert json.loads(scheduled["parameters"])["RoleArn"] == lab.job_role


def test_a_failed_item_fails_the_map_and_cuts_the_others_off(lab: Lab) -> None:
    states = fails_on(1)
    states["good"] = lab.job(SLEEP, suffix="other")
    execution = lab.run({"map": inline(states)}, [{"n": 0}, {"n": 1}])
    assert (execution["status"], execution["error"], execution["cause"]) == ("FAILED", "Bad", "this one")
    events = history(lab, execution["executionArn"])
    kinds = [event["type"] for event in events]
    assert kinds[-2:] == ["MapStateFailed", "ExecutionFailed"]
    assert of_kind(events, "MapIterationFailed")[0]["mapIterationFailedEventDetails"]["index"] == 1
    assert of_kind(events, "MapIterationAborted")[0]["mapIterationAbortedEventDetails"]["index"] == 0
    name = job_of(execution["executionArn"], "other")
    found = lab.sagemaker.list_processing_jobs(NameContains=name)["ProcessingJobSummaries"]
    if found:  # it may have been cut off before it made its job
        eventually(lambda: lab.status(name) == "Stopped")


# --- limits ---


def test_at_most_forty_items_run_at_once(lab: Lab) -> None:
    hand = lab.states.create_activity(name=f"forty-{uuid.uuid4().hex[:8]}")["activityArn"]
    work = {"Type": "Task", "Resource": hand, "End": True}
    execution = lab.start(lab.machine({"map": inline({"work": work}, ResultPath=None)}), list(range(60)))

    def taken() -> str:
        return eventually(lambda: lab.states.get_activity_task(activityArn=hand).get("taskToken"))

    forty = [taken() for _ in range(40)]  # which only ends when so many run
    for token in forty:
        lab.states.send_task_success(taskToken=token, output="{}")
    for _ in range(20):
        lab.states.send_task_success(taskToken=taken(), output="{}")
    assert lab.ended(execution)["status"] == "SUCCEEDED"
    running, most = 0, 0
    for event in history(lab, execution):
        running += {"MapIterationStarted": 1, "MapIterationSucceeded": -1}.get(event["type"], 0)
        most = max(most, running)
    assert most == 40


def test_the_concurrency_that_is_asked_for_is_kept(lab: Lab) -> None:
    wait = {"Type": "Wait", "Seconds": 1, "End": True}
    state = inline({"wait": wait}, MaxConcurrencyPath="$.width", ItemsPath="$.items")
    execution = lab.run({"map": state}, {"width": 1, "items": [1, 2]})
    kinds = [event["type"] for event in history(lab, execution["executionArn"]) if "Iteration" in event["type"]]
    assert kinds == ["MapIterationStarted", "MapIterationSucceeded"] * 2


def test_a_history_of_25000_events_is_full(lab: Lab) -> None:
    loop = {
        "again": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.n", "NumericLessThan": 0, "Next": "end"}],
            "Default": "step",
        },
        "step": {"Type": "Pass", "Next": "again"},
        "end": PASS,
    }
    execution = lab.run(loop, {"n": 1})
    assert (execution["status"], execution["error"]) == ("FAILED", "States.Runtime")
    assert "25000" in execution["cause"]
    last = lab.states.get_execution_history(executionArn=execution["executionArn"], reverseOrder=True, maxResults=1)
    assert (last["events"][0]["id"], last["events"][0]["type"]) == (25_000, "ExecutionFailed")


def test_state_data_above_the_limit_ends_the_execution(lab: Lab) -> None:
    big = {"text.$": "States.Format('{}{}', $.half, $.half)"}
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "caught"}]
    state = inline({"grow": {"Type": "Pass", "Parameters": big, "End": True}}, ItemsPath="$.items", Catch=catch)
    state["ItemSelector"] = {"half.$": "$.half"}
    execution = lab.run({"map": state, "caught": PASS}, {"half": "x" * 140_000, "items": [1]})
    assert (execution["status"], execution["error"]) == ("FAILED", "States.DataLimitExceeded")
    assert "size exceeding the maximum number of bytes" in execution["cause"]


# --- stopping ---


def sleeping_items(lab: Lab) -> dict[str, Any]:
    job = lab.job(SLEEP)
    job["Parameters"]["ProcessingJobName.$"] = "States.Format('{}-{}', $$.Execution.Name, $)"
    return job


@pytest.mark.parametrize("how", ["stopped", "timed out"])
def test_the_jobs_of_all_items_end_with_their_execution(lab: Lab, how: str) -> None:
    states = {"map": inline({"job": sleeping_items(lab)}, MaxConcurrency=2)}
    if how == "timed out":
        execution = lab.timed_out(states, [1, 2, 3], began=lambda name: all(lab.known(f"{name}-{n}") for n in (1, 2)))
        name = execution.rpartition(":")[2]
    else:
        execution = lab.start(lab.machine(states), [1, 2, 3])
        name = execution.rpartition(":")[2]
        eventually(lambda: all(lab.running(f"{name}-{n}")() for n in (1, 2)))
        lab.states.stop_execution(executionArn=execution)
    assert lab.ended(execution)["status"] == ("ABORTED" if how == "stopped" else "TIMED_OUT")
    eventually(lambda: all(lab.status(f"{name}-{n}") == "Stopped" for n in (1, 2)))
    assert refused(lambda: lab.status(f"{name}-3"))[0] == "ValidationException"
    final = history(lab, execution)[-1]["type"]
    assert final == ("ExecutionAborted" if how == "stopped" else "ExecutionTimedOut")


def test_a_failed_branch_stops_the_job_of_the_other(lab: Lab) -> None:
    hand = lab.states.create_activity(name=f"fails-{uuid.uuid4().hex[:8]}")["activityArn"]
    states = {"job": lab.job(SLEEP), "fail": {"Type": "Task", "Resource": hand, "End": True}}
    branches = [{"StartAt": name, "States": {name: state}} for name, state in states.items()]
    execution = lab.start(lab.machine({"both": {"Type": "Parallel", "Branches": branches, "End": True}}))
    eventually(lab.running(job_of(execution)))
    token = eventually(lambda: lab.states.get_activity_task(activityArn=hand).get("taskToken"))
    lab.states.send_task_failure(taskToken=token, error="Broken", cause="c")
    ended = lab.ended(execution)
    assert (ended["status"], ended["error"]) == ("FAILED", "Broken")
    eventually(lambda: lab.status(job_of(execution)) == "Stopped")
    kinds = [event["type"] for event in history(lab, execution)]
    assert kinds[-2:] == ["ParallelStateFailed", "ExecutionFailed"]


def test_a_stop_wakes_a_wait(lab: Lab) -> None:
    execution = lab.start(lab.machine({"wait": {"Type": "Wait", "Seconds": 9999, "End": True}}))
    eventually(lambda: len(history(lab, execution)) == 2)
    lab.states.stop_execution(executionArn=execution)
    assert [event["type"] for event in history(lab, execution)][-1] == "ExecutionAborted"


def test_what_an_inline_map_would_ignore_is_refused(lab: Lab) -> None:
    for field, value in (("ToleratedFailureCount", 1), ("ItemReader", {"Resource": "arn:aws:states:::s3:getObject"})):
        code, message = refused(
            lambda field=field, value=value: lab.machine({"m": inline({"a": PASS}, **{field: value})})
        )
        assert (code, field in message) == ("NotImplemented", True)
