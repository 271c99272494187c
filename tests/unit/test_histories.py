"""How far an execution with Maps is, from its history: each item has events of its own, in any order."""

import json

import pytest
from answers import Aws

from helpers import progress, sweeps
from helpers.executions import Execution
from helpers.histories import ENDINGS, Items, Progress, read_map_runs


class History:
    """Writes events as AWS does, each with the id of the one that led to it, and feeds them to a Progress."""

    def __init__(self):
        self.progress, self.last = Progress(), 0

    def add(self, kind, previous=None, **details):
        self.last += 1
        name = f"{'state' if kind.endswith(('StateEntered', 'StateExited')) else kind[0].lower() + kind[1:]}"
        name += {"StateEntered": "Entered", "StateExited": "Exited"}.get(kind[-12:], "") or (
            "Exited" if kind.endswith("StateExited") else ""
        )
        event = {"id": self.last, "previousEventId": self.last - 1 if previous is None else previous, "type": kind}
        self.progress.add(event | ({f"{name}EventDetails": details} if details else {}))
        return self.last

    def enter_map(self, name, length):
        self.add("MapStateEntered", name=name)
        return self.add("MapStateStarted", length=length)

    def item(self, started, name, index):
        return self.add("MapIterationStarted", started, name=name, index=index)

    def run(self, previous, state, job=""):
        entered = self.add("TaskStateEntered", previous, name=state)
        parameters = json.dumps({"ProcessingJobName": job})
        details = {"resourceType": "sagemaker", "resource": "createProcessingJob.sync", "parameters": parameters}
        return self.add("TaskScheduled", entered, **details)

    def end(self, previous, state, name, index):
        left = self.add("PassStateExited", self.add("PassStateEntered", previous, name=state), name=state)
        return self.add("MapIterationSucceeded", left, name=name, index=index)


@pytest.fixture
def history():
    return History()


def test_items_that_run_at_once_are_told_apart(history):
    started = history.enter_map("train", 3)
    first, second = (history.item(started, "train", index) for index in (0, 1))
    jobs = [history.run(place, "train: job", f"job-{number}") for number, place in enumerate((first, second))]
    failed = history.add("TaskFailed", jobs[0])
    history.end(jobs[1], "train: done", "train", 1)
    history.end(failed, "train: failed", "train", 0)
    assert history.progress.statuses == {"train": "RUNNING"}
    assert history.progress.items["train"] == Items(3, {0: "failed", 1: "succeeded"}, {0: "job-0", 1: "job-1"})
    assert history.progress.items["train"].text() == "2 of 3, 1 failed"


def test_what_happens_inside_of_a_map_is_not_the_maps_own_status(history):
    started = history.enter_map("train", 1)
    item = history.item(started, "train", 0)
    history.end(history.add("TaskFailed", history.run(item, "train: job")), "train: failed", "train", 0)
    succeeded = history.add("MapStateSucceeded")
    history.add("MapStateExited", succeeded, name="train")
    history.add("TaskStateEntered", name="record")
    assert history.progress.statuses == {"train": "SUCCEEDED", "record": "RUNNING"}


def test_an_item_may_start_where_the_one_before_it_ended(history):
    item, started = history.item(history.enter_map("train", 3), "train", 0), {}
    for index in range(3):
        state = history.add("PassStateEntered", item, name="train: done")
        history.add("MapIterationSucceeded", state, name="train", index=index)
        item = history.item(state, "train", index + 1) if index < 2 else item
        started = dict(history.progress.items["train"].outcomes)
    assert started == dict.fromkeys(range(3), "succeeded")
    history.add("MapStateExited", name="train")
    assert history.progress.statuses == {"train": "SUCCEEDED"}


def test_items_end_as_their_last_state_says(history):
    started = history.enter_map("train", 5)
    for index, last in enumerate(("train: cached", "train: skipped", "train: failed", "train: failure", "train: done")):
        history.end(history.item(started, "train", index), last, "train", index)
    assert history.progress.items["train"].text() == "5 of 5, 1 cached, 1 skipped, 2 failed"


def test_an_item_whose_error_nobody_caught_fails_and_so_does_its_map(history):
    started = history.enter_map("train", 1)
    job = history.run(history.item(started, "train", 0), "train: job")
    ended = history.add("MapIterationFailed", history.add("TaskFailed", job), name="train", index=0)
    history.add("MapStateFailed", ended)
    assert history.progress.items["train"].outcomes == {0: "failed"}
    assert history.progress.statuses == {"train": "FAILED"}


def test_a_map_within_a_map_is_part_of_the_outer_ones_item(history):
    outer = history.item(history.enter_map("outer", 1), "outer", 0)
    history.add("MapStateEntered", outer, name="inner")
    inner_started = history.add("MapStateStarted", length=2)
    for index in range(2):
        last = history.end(history.item(inner_started, "inner", index), "step", "inner", index)
    history.add("MapIterationSucceeded", history.add("MapStateSucceeded", last), name="outer", index=0)
    assert set(history.progress.items) == {"outer"}
    assert history.progress.items["outer"].outcomes == {0: "succeeded"}
    assert history.progress.statuses == {"outer": "RUNNING"}


def test_a_map_without_items_is_through(history):
    history.enter_map("train", 0)
    items = history.progress.items["train"]
    assert (items.text(), progress.bar(items)) == ("nothing to run", "▰" * 20)


def test_a_distributed_map_is_asked_for_its_counts(history):
    history.add("MapStateEntered", name="train")
    history.add("MapStateStarted", length=0)
    history.add("MapRunStarted", mapRunArn="arn:run")
    assert progress.final(None, history.progress.statuses, history.progress.items, "RUNNING").count(" of ") == 0
    counts = dict.fromkeys(("pending", "timedOut", "aborted", "resultsWritten"), 0)
    counts |= {"running": 2, "succeeded": 5, "failed": 1, "total": 10}
    aws = Aws({"stepfunctions:DescribeMapRun": {"itemCounts": counts}})
    read_map_runs(aws.client("stepfunctions"), history.progress, ["train"])
    assert history.progress.items["train"].text() == "6 of 10, 1 failed"
    assert aws.asked("stepfunctions:DescribeMapRun") == [{"mapRunArn": "arn:run"}]


def test_the_sweeps_items_end_in_states_whose_names_say_how():
    definition = sweeps.state_machine(job_role_arn="arn:aws:iam::123456789012:role/x", recorder_arn="y", tags={})
    inner = definition["States"]["train"]["ItemProcessor"]["States"]
    ends = {name.split(" ")[-1] for name, state in inner.items() if state.get("End")}
    assert ends == {"done", *ENDINGS}


def test_a_map_of_which_items_failed_is_drawn_as_such():
    definition = {"StartAt": "train", "States": {"train": {"Type": "Map", "End": True}}}
    items = {"train": Items(2, {0: "succeeded", 1: "failed"})}
    text = progress.final(definition, {"train": "SUCCEEDED"}, items, "SUCCEEDED")
    assert 'train[["✘ train<br/>2 of 2, 1 failed"]]' in text
    assert "class train partly" in text


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ('{"finished": 3, "failed": 1, "skipped": 0, "cause": "x"}', "**, variants: 3 finished, 1 failed"),
        ('{"other": 1}', "SUCCEEDED**"),
        ("[1]", "SUCCEEDED**"),
        ("", "SUCCEEDED**"),
    ],
)
def test_how_a_sweeps_variants_ended_is_said_at_the_end(output, text):
    assert progress.final(None, {}, {}, "SUCCEEDED", output).endswith(text)


def test_the_first_job_that_failed_is_that_of_the_first_state_and_item():
    items = {"train": Items(3, {2: "failed", 1: "failed", 0: "running"}, {2: "job-2", 1: "job-1", 0: "job-0"})}
    found = Execution("arn", "FAILED", {"first": "SUCCEEDED", "train": "RUNNING"}, items=items, jobs={"first": "job"})
    assert (found.job_failed(), found.job_running()) == ("job-1", "job-0")


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7500, "2 h 5 min")]
)
def test_durations_are_said_in_words(seconds, text):
    assert progress.clock(seconds) == text


def test_items_are_expected_only_where_the_input_says_how_many():
    states = {
        "a": {"Type": "Map", "ItemsPath": "$.steps.a"},
        "b": {"Type": "Map", "ItemsPath": "$.steps.b"},
        "c": {"Type": "Map", "ItemReader": {}},
        "d": {"Type": "Task"},
    }
    assert progress.expected({"States": states}, {"steps": {"a": [1, 2], "b": "text"}}) == {"a": 2}
    assert progress.expected(None, {"steps": {"a": [1]}}) == {}
    assert progress.expected({"States": states}, None) == {}
