"""An execution's states from its history, a failed job's reason, and a job's log."""

import json

import pytest
from answers import Aws, in_turn, refuse

from helpers import executions, progress
from helpers.executions import Execution, describe, failed_job, follow, job_log, wait_for_job

ARN = "arn:aws:states:us-east-1:123456789012:execution:demo-exp-machine:run"
DEFINITION = {
    "StartAt": "one",
    "States": {"one": {"Type": "Task", "Next": "two"}, "two": {"Type": "Map", "ItemsPath": "$.steps.two", "End": True}},
}
DETAILS = {"StateEntered": "stateEnteredEventDetails", "StateExited": "stateExitedEventDetails"}


def history(*events, linked=True):
    """Return events as AWS lists them: "TaskStateEntered train", "TaskFailed", or with the cause's number before it."""
    listed = []
    for number, text in enumerate(events, 1):
        kind, _, name = text.partition(" ")
        cause, _, kind = kind.rpartition(">")
        event = {"id": number, "timestamp": "2026-01-01T00:00:00Z", "type": kind}
        if linked:
            event["previousEventId"] = int(cause or number - 1)
        for suffix, details in DETAILS.items():
            if kind.endswith(suffix):
                event[details] = {"name": name}
        listed.append(event)
    return listed


class Machine:
    """An execution whose history grows at each look at it, a list of events at a time; pages of 3 events."""

    def __init__(self, status, *growth, **description):
        self.left, self.events = [*growth], []
        self.aws = Aws(
            {
                "stepfunctions:DescribeExecution": {"executionArn": ARN, "status": status, **description},
                "stepfunctions:GetExecutionHistory": self.read,
                "stepfunctions:DescribeStateMachineForExecution": {"definition": json.dumps(DEFINITION)},
            }
        )
        self.states = self.aws.client("stepfunctions")

    def read(self, params):
        assert params["reverseOrder"]
        if "nextToken" not in params and self.left:
            self.events += self.left.pop(0)
        start = int(params.get("nextToken", 0))
        page = {"events": self.events[::-1][start : start + 3]}
        return page | ({"nextToken": str(start + 3)} if start + 3 < len(self.events) else {})

    def describe(self):
        return describe(self.states, ARN)


def states_of(status, *events, **options):
    return Machine(status, history(*events, **options)).describe().states


ONE = ("TaskStateEntered one", "TaskScheduled", "TaskStarted", "TaskSubmitted", "TaskSucceeded", "TaskStateExited one")
CAUGHT = ("TaskStateEntered two", "TaskScheduled", "TaskFailed", "TaskStateExited two", "FailStateEntered failed")


def test_states_that_were_left_succeeded_and_the_current_one_runs():
    assert states_of("RUNNING", "ExecutionStarted", *ONE, "TaskStateEntered two", "TaskScheduled") == {
        "one": "SUCCEEDED",
        "two": "RUNNING",
    }


@pytest.mark.parametrize("linked", [True, False])
def test_a_state_whose_error_was_caught_failed_although_it_was_left(linked):
    events = ("ExecutionStarted", *ONE, *CAUGHT, "ExecutionFailed")
    assert states_of("FAILED", *events, linked=linked) == {"one": "SUCCEEDED", "two": "FAILED", "failed": "FAILED"}


def test_a_caught_timeout_is_a_timeout():
    events = [event.replace("TaskFailed", "TaskTimedOut") for event in CAUGHT]
    assert states_of("FAILED", *events)["two"] == "TIMED_OUT"


def test_an_attempt_that_failed_and_was_made_again_with_success_succeeded():
    events = ("TaskStateEntered one", "TaskScheduled", "TaskFailed", "TaskScheduled", "TaskSucceeded")
    assert states_of("RUNNING", *events) == {"one": "RUNNING"}
    assert states_of("SUCCEEDED", *events, "TaskStateExited one") == {"one": "SUCCEEDED"}


@pytest.mark.parametrize("status", ["FAILED", "ABORTED", "TIMED_OUT"])
def test_a_state_that_was_never_left_ends_like_the_execution(status):
    assert states_of(status, *ONE, "TaskStateEntered two", "TaskScheduled") == {"one": "SUCCEEDED", "two": status}


def test_branches_that_run_at_once_are_told_apart():
    events = (
        "ParallelStateEntered both",
        "ParallelStateStarted",
        "2>TaskStateEntered left",
        "2>TaskStateEntered right",
        "3>TaskScheduled",
        "4>TaskScheduled",
        "5>TaskFailed",
        "6>TaskSucceeded",
        "8>TaskStateExited right",
        "7>TaskStateExited left",
    )
    assert states_of("RUNNING", *events) == {"both": "RUNNING", "left": "FAILED", "right": "SUCCEEDED"}


def test_a_history_of_several_pages_is_read_to_its_end():
    assert Machine("SUCCEEDED", history(*ONE)).describe().states == {"one": "SUCCEEDED"}


def test_error_and_cause_come_with_the_execution():
    events = history(*CAUGHT, "ExecutionFailed")
    found = Machine("FAILED", events, error="States.TaskFailed", cause="{}").describe()
    assert (found.status, found.error, found.cause) == ("FAILED", "States.TaskFailed", "{}")


def test_the_table_of_an_execution_names_every_state():
    text = Execution(ARN, "FAILED", {"one": "SUCCEEDED", "two": "TIMED_OUT"}).markdown()
    assert "| one | ✔ SUCCEEDED |" in text
    assert "| two | ✘ TIMED_OUT |" in text
    assert text.endswith("| **execution** | **FAILED** |")


def grown(*counts):
    """Return ONE's history cut into parts of so many events."""
    events, parts = history("ExecutionStarted", *ONE, "ExecutionSucceeded"), []
    for count in counts:
        parts.append(events[:count])
        events = events[count:]
    return [*parts, events]


def test_following_ends_with_the_execution_and_reads_nothing_twice():
    machine, pauses = Machine("SUCCEEDED", *grown(2, 3)), []
    found = follow(machine.states, ARN, every=2, sleep=pauses.append)
    assert (found.status, found.states) == ("SUCCEEDED", {"one": "SUCCEEDED"})
    assert pauses == [2, 2]
    # Once for its start and input, once for its end; and one page of the history at each look, for 3 events fill it
    assert machine.aws.names().count("stepfunctions:DescribeExecution") == 2
    assert machine.aws.names().count("stepfunctions:GetExecutionHistory") == 5


def test_an_execution_whose_history_says_nothing_new_is_asked_for_its_status():
    machine = Machine("RUNNING", history("ExecutionStarted", *ONE))
    running, aborted = {"executionArn": ARN, "status": "RUNNING"}, {"executionArn": ARN, "status": "ABORTED"}
    machine.aws.answers["stepfunctions:DescribeExecution"] = in_turn(running, running, aborted)
    assert follow(machine.states, ARN, sleep=lambda seconds: None).status == "ABORTED"


def test_looks_are_frequent_at_first_and_rare_later():
    pauses = []
    with pytest.raises(TimeoutError, match=ARN):
        follow(Machine("RUNNING", history(*ONE)).states, ARN, seconds=100, sleep=pauses.append)
    assert pauses[:10] == [0.1] * 10
    assert pauses[-1] == 2
    assert pauses == sorted(pauses)


def test_following_gives_up_and_names_the_execution():
    machine = Machine("RUNNING", history(*ONE))
    with pytest.raises(TimeoutError, match=ARN):
        follow(machine.states, ARN, every=1, seconds=3, sleep=lambda seconds: None)
    assert "stepfunctions:StopExecution" not in machine.aws.names()


def test_waiting_without_a_view_returns_the_description_of_what_has_ended():
    pauses = []
    machine = Machine("RUNNING")
    running, ended = {"executionArn": ARN, "status": "RUNNING"}, {"executionArn": ARN, "status": "FAILED", "error": "E"}
    machine.aws.answers["stepfunctions:DescribeExecution"] = in_turn(running, running, ended)
    found = executions.wait(machine.states, ARN, sleep=pauses.append)
    assert (found["status"], found["error"], len(pauses)) == ("FAILED", "E", 2)
    machine.aws.answers["stepfunctions:DescribeExecution"] = running
    with pytest.raises(TimeoutError, match=ARN):
        executions.wait(machine.states, ARN, seconds=3, sleep=lambda seconds: None)


def interrupt(seconds):
    raise KeyboardInterrupt


def test_an_interrupt_ends_the_watching_alone_and_says_how_to_go_on(capsys):
    machine = Machine("RUNNING", history(*ONE))
    found = follow(machine.states, ARN, sleep=interrupt)
    assert (found.status, found.states) == ("RUNNING", {"one": "SUCCEEDED"})
    assert f'executions.follow(states, "{ARN}")' in capsys.readouterr().out
    assert "stepfunctions:StopExecution" not in machine.aws.names()


class Shown:
    """What a notebook would show: outputs, and the updates of the one that has an id."""

    def __init__(self, monkeypatch):
        self.outputs, self.updates = [], []
        monkeypatch.setattr(executions, "display", self.display)

    def display(self, shown, display_id=False):
        self.outputs.append(shown.data)
        return self if display_id else None

    def update(self, shown):
        self.updates.append(shown.data)


@pytest.fixture
def shown(monkeypatch):
    return Shown(monkeypatch)


def test_states_are_coloured_while_they_run_and_a_picture_stays(shown):
    machine = Machine("SUCCEEDED", *grown(2, 3))
    follow(machine.states, ARN, every=1, sleep=lambda seconds: None)
    assert "class one running" in shown.updates[0]
    assert "running** for " in shown.updates[0]
    assert shown.updates[-1] == shown.outputs[0]  # nbval knows nothing of updates: as it was at first
    assert "class one succeeded" in shown.outputs[1]
    assert shown.outputs[1].endswith("**execution: ✔ SUCCEEDED**")


def test_what_stays_is_the_same_however_long_it_took(shown):
    for growth in ((2, 3), (1, 1, 1, 4)):
        follow(Machine("SUCCEEDED", *grown(*growth)).states, ARN, every=1, sleep=lambda seconds: None)
    assert shown.outputs[:2] == shown.outputs[2:]


def test_without_permission_to_read_the_machine_the_states_are_a_table(shown):
    machine = Machine("SUCCEEDED", *grown())
    machine.aws.answers["stepfunctions:DescribeStateMachineForExecution"] = refuse("AccessDeniedException", "no")
    follow(machine.states, ARN)
    assert "| one | ✔ SUCCEEDED |" in shown.outputs[1]


def test_a_name_in_a_table_is_text():
    table = progress.table({"a | b\n[c](javascript:d) <i>": "RUNNING"}, {})
    assert table.splitlines()[2:] == ["| a &#124; b &#91;c&#93;(javascript:d) &#60;i> | ▶ RUNNING |"]


def test_items_of_a_map_are_expected_as_the_input_says(shown):
    given = json.dumps({"steps": {"two": [1, 2, 3]}})
    machine = Machine("SUCCEEDED", *grown(2), input=given)
    follow(machine.states, ARN, every=1, sleep=lambda seconds: None)
    assert "| two | ▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱ | 0 of 3 |" in shown.updates[0]


def job_events(name):
    """Return a history whose task runs a processing job."""
    events = history("ExecutionStarted", "TaskStateEntered one", "TaskScheduled", "TaskFailed", "TaskStateExited one")
    parameters = json.dumps({"ProcessingJobName": name})
    resource = {"resourceType": "sagemaker", "resource": "createProcessingJob.sync", "region": "us-east-1"}
    events[2]["taskScheduledEventDetails"] = {**resource, "parameters": parameters}
    return events


def test_the_log_of_the_job_that_runs_is_shown_and_of_the_one_that_failed_stays(shown):
    events = [
        *job_events("the-job"),
        {"id": 6, "previousEventId": 5, "timestamp": "2026-01-01", "type": "ExecutionFailed"},
    ]
    machine = Machine("FAILED", events[:3], events[3:])
    log = Log(**{"the-job_algo-1": [(1, "started"), (2, "a ``` b")]})
    logs = Aws({"logs:DescribeLogStreams": log.describe, "logs:GetLogEvents": log.get}).client("logs")
    follow(machine.states, ARN, logs=logs, every=1, sleep=lambda seconds: None)
    assert "The last lines of the-job:\n\n````text\nstarted\na ``` b\n````" in shown.updates[0]
    assert "job that failed:\n\n````text\nstarted\na ``` b\n````" in shown.outputs[1]
    assert "the-job" not in shown.outputs[1]


def job(status):
    return {"ProcessingJobName": "run-train-0", "ProcessingJobStatus": status}


@pytest.mark.parametrize(
    "absent",
    [refuse("ValidationException", "Could not find requested job with name: run-train-0"), refuse("ResourceNotFound")],
)
def test_a_job_is_waited_for_until_it_exists_and_has_the_status(absent):
    answers = in_turn(absent, job("InProgress"), job("Completed"))
    aws = Aws({"sagemaker:DescribeProcessingJob": answers})
    pauses = []
    found = wait_for_job(aws.client("sagemaker"), "run-train-0", until=("Completed",), sleep=pauses.append)
    assert found["ProcessingJobStatus"] == "Completed"
    assert pauses == sorted(pauses)
    assert len(pauses) == 2


def test_waiting_for_a_job_is_bounded_and_asks_ever_less_often():
    aws = Aws({"sagemaker:DescribeProcessingJob": job("InProgress")})
    with pytest.raises(TimeoutError, match="run-train-0"):
        wait_for_job(aws.client("sagemaker"), "run-train-0", until=("Completed",), sleep=lambda seconds: None)
    assert len(aws.calls) < 150


def test_another_refusal_is_not_taken_for_a_job_that_is_not_there_yet():
    aws = Aws({"sagemaker:DescribeProcessingJob": refuse("AccessDeniedException", "not authorized")})
    client = aws.client("sagemaker")
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        wait_for_job(client, "run-train-0", sleep=lambda seconds: None)


def test_the_job_that_made_an_execution_fail_is_in_its_cause():
    cause = json.dumps({"ProcessingJobName": "run-train-0", "FailureReason": "AlgorithmError"})
    assert failed_job(Execution(ARN, "FAILED", {}, "States.TaskFailed", cause))["FailureReason"] == "AlgorithmError"


@pytest.mark.parametrize("cause", ["", "no JSON", "[]", '{"other": 1}'])
def test_a_failure_without_a_job_says_what_it_was_instead(cause):
    with pytest.raises(ValueError, match=r"States\.Timeout"):
        failed_job(Execution(ARN, "FAILED", {}, "States.Timeout", cause))


class Log:
    """CloudWatch Logs with AWS's habit of empty pages before the last events."""

    def __init__(self, **streams):
        self.streams = {name.replace("_", "/"): events for name, events in streams.items()}

    def describe(self, params):
        names = sorted(name for name in self.streams if name.startswith(params["logStreamNamePrefix"]))
        return {"logStreams": [{"logStreamName": name} for name in names]}

    def get(self, params):
        events = self.streams[params["logStreamName"]]
        token = params.get("nextToken", "empty")
        if token == "empty":  # the first page of the last events may well be empty
            return {"events": [], "nextBackwardToken": str(len(events)), "nextForwardToken": "f"}
        end = int(token)
        start = max(0, end - min(params["limit"], 2))
        found = [{"timestamp": when, "message": text} for when, text in events[start:end]]
        return {"events": found, "nextBackwardToken": str(start), "nextForwardToken": "f"}


def read(log, **options):
    answers = {"logs:DescribeLogStreams": log.describe, "logs:GetLogEvents": log.get}
    return job_log(Aws(answers).client("logs"), "job", **options)


def test_the_last_lines_of_a_log_are_found_behind_empty_pages():
    log = Log(**{"job_algo-1": [(number, f"line {number}") for number in range(10)]})
    assert read(log, lines=3) == ["line 7", "line 8", "line 9"]
    assert read(log, lines=50) == [f"line {number}" for number in range(10)]


def test_the_lines_of_several_hosts_are_put_in_the_order_of_time():
    log = Log(**{"job_algo-1": [(1, "a"), (4, "d")], "job_algo-2": [(2, "b"), (3, "c")], "jobs_other": [(0, "x")]})
    assert read(log) == ["a", "b", "c", "d"]
    assert read(log, lines=2) == ["c", "d"]


def test_a_job_that_printed_nothing_has_no_lines():
    assert read(Log()) == []
    absent = Aws({"logs:DescribeLogStreams": refuse("ResourceNotFoundException", "group does not exist")})
    assert job_log(absent.client("logs"), "job") == []


def test_a_phrase_is_found_in_a_functions_log_behind_an_empty_page_and_before_there_is_a_log():
    absent = refuse("ResourceNotFoundException")
    empty, found = {"events": [], "nextToken": "t"}, {"events": [{"message": "hello phrase\n"}]}
    aws = Aws({"logs:FilterLogEvents": in_turn(absent, empty, found)})
    line = executions.wait_for_log(aws.client("logs"), "demo-exp-f", "phrase", sleep=lambda _: None)
    assert line == "hello phrase"
    assert [params.get("nextToken") for params in aws.asked("logs:FilterLogEvents")] == [None, None, "t"]
