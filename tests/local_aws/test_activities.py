"""Activities: tasks handed to workers that poll, and what comes of those that are slow, silent, gone or wrong."""

import http.client
import json
import socket
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from clients import allow, arn, eventually, refused, signed
from embedded_aws import Embedded
from lab import PASS, Lab

from helpers.local_aws import control


@pytest.fixture(scope="module")
def lab(embedded: Any) -> Lab:
    return Lab(embedded)


@pytest.fixture
def activity(lab: Lab) -> str:
    return lab.states.create_activity(name=f"work-{uuid.uuid4().hex[:8]}")["activityArn"]


def state(activity: str, **more: Any) -> dict[str, Any]:
    following = {} if "Next" in more else {"End": True}
    return {"Type": "Task", "Resource": activity, **following, **more}


def events(lab: Lab, execution: str) -> list[dict[str, Any]]:
    return lab.states.get_execution_history(executionArn=execution, maxResults=1000)["events"]


def kinds(lab: Lab, execution: str) -> list[str]:
    return [event["type"] for event in events(lab, execution)]


def told(lab: Lab, execution: str, kind: str) -> dict[str, Any]:
    (event,) = [event for event in events(lab, execution) if event["type"] == kind]
    return event[f"{kind[0].lower()}{kind[1:]}EventDetails"]


def scheduled(lab: Lab, execution: str) -> Callable[[], bool]:
    return lambda: "ActivityScheduled" in kinds(lab, execution)


# --- the store ---


def test_an_activity_is_made_once_described_listed_and_deleted_twice(lab: Lab) -> None:
    name = f"once-{uuid.uuid4().hex[:8]}"
    made = lab.states.create_activity(name=name, tags=[{"key": "a", "value": "b"}])
    again = lab.states.create_activity(name=name)
    assert (again["activityArn"], again["creationDate"]) == (made["activityArn"], made["creationDate"])
    assert made["activityArn"] == arn("states", f"activity:{name}")
    described = lab.states.describe_activity(activityArn=made["activityArn"])
    assert (described["name"], described["encryptionConfiguration"]) == (name, {"type": "AWS_OWNED_KEY"})
    tags = lab.states.list_tags_for_resource(resourceArn=made["activityArn"])["tags"]
    assert tags == [{"key": "a", "value": "b"}]
    pages = lab.states.get_paginator("list_activities").paginate(PaginationConfig={"PageSize": 1})
    assert made["activityArn"] in [item["activityArn"] for page in pages for item in page["activities"]]
    for _ in range(2):
        lab.states.delete_activity(activityArn=made["activityArn"])
    for call in (lab.states.describe_activity, lab.states.get_activity_task):
        code, message = refused(lambda call=call: call(activityArn=made["activityArn"]))
        assert (code, message) == ("ActivityDoesNotExist", f"Activity Does Not Exist: '{made['activityArn']}'")


@pytest.mark.parametrize(("name", "code"), [("a b", "InvalidName"), ("a/b", "InvalidName"), ("é*", "InvalidName")])
def test_a_name_that_is_none_is_refused(lab: Lab, name: str, code: str) -> None:
    assert refused(lambda: lab.states.create_activity(name=name))[0] == code


def test_an_arn_of_something_else_is_refused(lab: Lab) -> None:
    for given in (arn("states", "stateMachine:m"), "nothing"):
        assert refused(lambda given=given: lab.states.describe_activity(activityArn=given))[0] == "InvalidArn"


# --- work ---


def test_a_worker_gets_the_input_and_its_output_goes_on(lab: Lab, activity: str) -> None:
    execution = lab.start(lab.machine({"only": state(activity, TimeoutSeconds=60, HeartbeatSeconds=30)}), {"x": [1]})
    task = lab.states.get_activity_task(activityArn=activity, workerName="me")
    assert json.loads(task["input"]) == {"x": [1]}
    lab.states.send_task_heartbeat(taskToken=task["taskToken"])
    lab.states.send_task_success(taskToken=task["taskToken"], output='{"y": "é"}')
    ended = lab.ended(execution)
    assert (ended["status"], json.loads(ended["output"])) == ("SUCCEEDED", {"y": "é"})
    assert kinds(lab, execution) == [
        "ExecutionStarted", "TaskStateEntered", "ActivityScheduled", "ActivityStarted", "ActivitySucceeded",
        "TaskStateExited", "ExecutionSucceeded",
    ]  # fmt: skip
    scheduling = told(lab, execution, "ActivityScheduled")
    assert (scheduling["resource"], scheduling["timeoutInSeconds"], scheduling["heartbeatInSeconds"]) == (
        activity,
        60,
        30,
    )
    assert told(lab, execution, "ActivityStarted") == {"workerName": "me"}
    for again in (lab.states.send_task_heartbeat, lambda **t: lab.states.send_task_success(output="{}", **t)):
        code, message = refused(lambda again=again: again(taskToken=task["taskToken"]))
        assert (code, message) == ("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'")


def test_a_failure_that_a_worker_reports_is_caught_by_its_name(lab: Lab, activity: str) -> None:
    catch = [{"ErrorEquals": ["Mine"], "ResultPath": "$.error", "Next": "caught"}]
    execution = lab.start(lab.machine({"only": state(activity, Catch=catch), "caught": PASS}))
    task = lab.states.get_activity_task(activityArn=activity)
    lab.states.send_task_failure(taskToken=task["taskToken"], error="Mine", cause="why")
    ended = lab.ended(execution)
    assert json.loads(ended["output"])["error"] == {"Error": "Mine", "Cause": "why"}
    assert told(lab, execution, "ActivityFailed") == {"error": "Mine", "cause": "why"}


@pytest.mark.parametrize(("limits", "error"), [
    ({"TimeoutSeconds": 1}, "States.Timeout"),
    ({"TimeoutSecondsPath": "$.seconds"}, "States.Timeout"),
    ({"TimeoutSeconds": 60, "HeartbeatSeconds": 1}, "States.HeartbeatTimeout"),
    ({"HeartbeatSecondsPath": "$.seconds"}, "States.HeartbeatTimeout"),
])  # fmt: skip
def test_a_worker_that_says_nothing_times_out(lab: Lab, activity: str, limits: dict[str, Any], error: str) -> None:
    other = "States.HeartbeatTimeout" if error == "States.Timeout" else "Nothing"
    catch = [
        {"ErrorEquals": [other, "States.TaskFailed"], "Next": "wrong"},
        {"ErrorEquals": [error], "ResultPath": "$.error", "Next": "caught"},
    ]
    states = {"only": state(activity, Catch=catch, **limits), "caught": PASS, "wrong": {"Type": "Fail"}}
    execution = lab.start(lab.machine(states), {"seconds": 1})
    task = lab.states.get_activity_task(activityArn=activity)
    ended = lab.ended(execution)
    assert (ended["status"], json.loads(ended["output"])["error"]) == (
        "SUCCEEDED", {"Error": "States.Timeout", "Cause": ""},
    )  # fmt: skip
    assert told(lab, execution, "ActivityTimedOut") == {"error": "States.Timeout"}
    late = refused(lambda: lab.states.send_task_success(taskToken=task["taskToken"], output="{}"))
    assert late[0] == "TaskTimedOut"


def test_heartbeats_keep_a_task_alive_and_a_timeout_ends_it_all_the_same(lab: Lab, activity: str) -> None:
    catch = [{"ErrorEquals": ["States.HeartbeatTimeout"], "Next": "wrong"}]
    # One heartbeat between the second and the eighth keeps the task alive until its timeout.
    only = state(activity, TimeoutSeconds=10, HeartbeatSeconds=8, Catch=catch)
    execution = lab.start(lab.machine({"only": only, "wrong": {"Type": "Fail", "Error": "Silent"}}))
    task = lab.states.get_activity_task(activityArn=activity)

    def is_over() -> bool:
        try:
            return not lab.states.send_task_heartbeat(taskToken=task["taskToken"])
        except lab.states.exceptions.TaskTimedOut:
            return True

    eventually(is_over)
    assert lab.ended(execution)["error"] == "States.Timeout"


def test_a_task_that_nobody_takes_waits_for_ever_unless_the_machine_has_a_timeout(lab: Lab, activity: str) -> None:
    # On AWS too the clocks of an activity's task run from when a worker has taken it.
    only = state(activity, TimeoutSeconds=1, Catch=[{"ErrorEquals": ["States.ALL"], "Next": "caught"}])
    execution = lab.start(lab.machine({"only": only, "caught": PASS}, TimeoutSeconds=6))
    ended = lab.ended(execution)
    assert (ended["status"], kinds(lab, execution)[-2:]) == ("TIMED_OUT", ["ActivityScheduled", "ExecutionTimedOut"])


def test_what_a_stopped_execution_scheduled_is_handed_to_nobody(lab: Lab, activity: str) -> None:
    machine = lab.machine({"only": state(activity)})
    stopped = lab.start(machine, {"n": 1})
    eventually(scheduled(lab, stopped))
    taken = lab.states.get_activity_task(activityArn=activity)
    left = lab.start(machine, {"n": 2})
    eventually(scheduled(lab, left))
    for execution in (stopped, left):
        lab.states.stop_execution(executionArn=execution)
    assert refused(lambda: lab.states.send_task_heartbeat(taskToken=taken["taskToken"]))[0] == "TaskTimedOut"
    lab.start(machine, {"n": 3})
    assert json.loads(lab.states.get_activity_task(activityArn=activity)["input"]) == {"n": 3}


def test_tokens_and_outputs_that_are_none_are_refused(lab: Lab, activity: str) -> None:
    lab.start(lab.machine({"only": state(activity)}))
    token = lab.states.get_activity_task(activityArn=activity)["taskToken"]
    for output in ("{", "", "NaN", "'a'"):
        assert (
            refused(lambda output=output: lab.states.send_task_success(taskToken=token, output=output))[0]
            == "InvalidOutput"
        )
    wrong = f"{token[:-8]}AAAAAAA="
    for call in (lab.states.send_task_heartbeat, lab.states.send_task_failure):
        assert refused(lambda call=call: call(taskToken=wrong)) == ("InvalidToken", "Invalid Token: 'Invalid token'")
    too_long = refused(lambda: lab.states.send_task_success(taskToken=token, output=f'"{"x" * 262_143}"'))
    assert too_long[0] == "ValidationException"
    lab.states.send_task_success(taskToken=token, output=f'"{"x" * 262_142}"')


def test_an_activity_that_is_not_there_ends_the_execution(lab: Lab, activity: str) -> None:
    machine = lab.machine({"only": state(activity, Catch=[{"ErrorEquals": ["States.ALL"], "Next": "p"}]), "p": PASS})
    lab.states.delete_activity(activityArn=activity)
    ended = lab.ended(lab.start(machine))
    assert (ended["status"], ended["error"]) == ("FAILED", "States.Runtime")
    assert ended["cause"] == (
        "An error occurred while executing the state 'only' (entered at the event id #2). "
        f"The activity {activity} does not exist."
    )


def test_twenty_five_workers_wait_at_once_and_each_gets_one_task(lab: Lab, activity: str, embedded: Any) -> None:
    count = 25
    clients = [embedded.client("stepfunctions") for _ in range(count)]
    item = {"StartAt": "one", "States": {"one": state(activity)}}
    machine = lab.machine({"map": {"Type": "Map", "ItemsPath": "$", "ItemProcessor": item, "End": True}})

    def work(client: Any) -> int:
        task = client.get_activity_task(activityArn=activity)
        client.send_task_success(taskToken=task["taskToken"], output=task["input"])
        return json.loads(task["input"])

    with ThreadPoolExecutor(count) as pool:
        working = [pool.submit(work, client) for client in clients]
        execution = lab.start(machine, list(range(count)))
        assert sorted(one.result() for one in working) == list(range(count))
    assert json.loads(lab.ended(execution)["output"]) == list(range(count))


def held(embedded: Any, activity: str) -> socket.socket:
    """Ask for a task where there is none. Returns the connection, on which no answer comes for a minute."""
    body = json.dumps({"activityArn": activity}).encode()
    headers = {"X-Amz-Target": "AWSStepFunctions.GetActivityTask", "Content-Type": "application/x-amz-json-1.0"}
    headers = signed(embedded, "POST", "/", service="states", headers=headers, body=body)
    host, port = headers["Host"].split(":")
    lines = [*(f"{name}: {value}" for name, value in headers.items()), f"Content-Length: {len(body)}", "", ""]
    connection = socket.create_connection((host, int(port)), timeout=180)
    connection.sendall("\r\n".join(["POST / HTTP/1.1", *lines]).encode() + body)
    return connection


def test_a_worker_that_hangs_up_takes_nothing_with_it(lab: Lab, activity: str, embedded: Any) -> None:
    for _ in range(3):
        with held(embedded, activity) as connection:
            connection.settimeout(0.3)
            with pytest.raises(TimeoutError):
                connection.recv(1)
    lab.start(lab.machine({"only": state(activity)}), {"n": 1})
    task = lab.states.get_activity_task(activityArn=activity)
    assert json.loads(task["input"]) == {"n": 1}


# --- who may ---


def test_each_call_needs_its_permission_on_the_activity(lab: Lab, activity: str, embedded: Any) -> None:
    name = activity.rpartition(":")[2]
    lab.start(lab.machine({"only": state(activity)}))
    token = lab.states.get_activity_task(activityArn=activity)["taskToken"]
    calls: dict[str, Callable[[Any], Any]] = {
        "states:CreateActivity": lambda c: c.create_activity(name=name),
        "states:DescribeActivity": lambda c: c.describe_activity(activityArn=activity),
        "states:SendTaskHeartbeat": lambda c: c.send_task_heartbeat(taskToken=token),
        "states:SendTaskFailure": lambda c: c.send_task_failure(taskToken=token),
        "states:DeleteActivity": lambda c: c.delete_activity(activityArn=activity),
    }
    nobody = embedded.client("stepfunctions", embedded.variables_of([allow("states:*", f"{activity}-other")]))
    for action, call in calls.items():
        code, message = refused(lambda call=call: call(nobody))
        assert code == "AccessDeniedException"
        assert f"is not authorized to perform: {action} on resource: {activity}" in message
    refusal = refused(lambda: nobody.get_activity_task(activityArn=activity))
    assert "states:GetActivityTask" in refusal[1]
    for action, call in calls.items():
        call(embedded.client("stepfunctions", embedded.variables_of([allow(action, activity)])))
    assert "states:ListActivities" in refused(lambda: nobody.list_activities())[1]


def test_tags_of_an_activity_need_their_own_permission(embedded: Any) -> None:
    name = f"tagged-{uuid.uuid4().hex[:8]}"
    tags = [{"key": "a", "value": "b"}]
    place = arn("states", f"activity:{name}")
    may = embedded.client("stepfunctions", embedded.variables_of([allow("states:CreateActivity", place)]))
    assert "states:TagResource" in refused(lambda: may.create_activity(name=name, tags=tags))[1]
    both = [allow("states:CreateActivity states:TagResource", place)]
    embedded.client("stepfunctions", embedded.variables_of(both)).create_activity(name=name, tags=tags)


# --- over a restart ---


def test_tasks_that_wait_go_on_after_a_restart_and_tokens_stay_good(tmp_path_factory: pytest.TempPathFactory) -> None:
    state_dir = tmp_path_factory.mktemp("activities")
    own = Embedded(control.start(state_dir)[0])
    try:
        lab = Lab(own)
        activity = lab.states.create_activity(name="work")["activityArn"]
        machine = lab.machine({"only": state(activity, HeartbeatSeconds=600)})
        taken, waiting = lab.start(machine, {"n": 1}), ""
        token = lab.states.get_activity_task(activityArn=activity, workerName="me")["taskToken"]
        waiting = lab.start(machine, {"n": 2})
        eventually(scheduled(lab, waiting))
        other = lab.states.create_activity(name="idle")["activityArn"]
        with held(own, other) as idle:
            for _ in range(5):  # requests that came later have been answered: this one is held
                lab.states.describe_activity(activityArn=other)
            control.stop(state_dir)
            answer = http.client.HTTPResponse(idle)
            answer.begin()
            assert (answer.status, answer.read()) == (200, b"{}")  # it ends with the stop
        assert token not in (state_dir / "server.log").read_text()
        own = Embedded(control.start(state_dir)[0])
        states = own.client("stepfunctions")
        states.send_task_success(taskToken=token, output='"first"')
        task = states.get_activity_task(activityArn=activity)
        assert json.loads(task["input"]) == {"n": 2}
        states.send_task_success(taskToken=task["taskToken"], output='"second"')
        outputs = []
        for execution in (taken, waiting):
            eventually(lambda e=execution: states.describe_execution(executionArn=e)["status"] != "RUNNING")
            outputs.append(states.describe_execution(executionArn=execution).get("output"))
        assert outputs == ['"first"', '"second"']
        after = [event["type"] for event in states.get_execution_history(executionArn=taken)["events"]]
        assert after.count("ActivityStarted") == after.count("ActivityScheduled") == 1
        assert refused(lambda: states.send_task_heartbeat(taskToken=token))[0] == "TaskTimedOut"
    finally:
        control.stop(state_dir)
