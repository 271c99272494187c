"""What Batch makes in its own time is waited for, and a reason that it gives is told."""

import boto3
import pytest
from answers import Aws, in_turn

from helpers import queues

ENVIRONMENT = {"computeEnvironmentName": "demo-exp-spot", "computeEnvironmentArn": "arn:environment", "status": "VALID"}
QUEUE = {"jobQueueName": "demo-exp-normal", "jobQueueArn": "arn:queue", "status": "VALID"}


@pytest.fixture
def batch(monkeypatch):
    """Return a function that makes a Batch client of answers."""

    def make(**answers):
        account = Aws({f"batch:{name}": answer for name, answer in answers.items()})
        monkeypatch.setattr(boto3, "client", account.client)
        return boto3.client("batch")

    return make


def test_an_environment_is_waited_for_until_it_is_valid(batch):
    waits: list[float] = []
    creating = {"computeEnvironments": [{**ENVIRONMENT, "status": "CREATING"}]}
    client = batch(DescribeComputeEnvironments=in_turn(creating, creating, {"computeEnvironments": [ENVIRONMENT]}))
    assert queues.wait_for_environment(client, "demo-exp-spot", sleep=waits.append) == "arn:environment"
    assert len(waits) == 2


def test_a_queue_that_batch_cannot_use_is_an_error_with_its_reason(batch):
    invalid = {**QUEUE, "status": "INVALID", "statusReason": "no environment is valid"}
    client = batch(DescribeJobQueues={"jobQueues": [invalid]})
    with pytest.raises(queues.NotValid, match="demo-exp-normal: no environment is valid"):
        queues.wait_for_queue(client, "demo-exp-normal")


def test_a_wait_comes_to_an_end(batch):
    client = batch(DescribeJobQueues={"jobQueues": [{**QUEUE, "status": "UPDATING"}]})
    with pytest.raises(TimeoutError, match="demo-exp-normal is not valid after 3 seconds"):
        queues.wait_for_queue(client, "demo-exp-normal", seconds=3, sleep=lambda _: None)


def job(name, status, started=None):
    return {"jobName": name, "jobId": name, "jobQueue": "q", "status": status, "startedAt": started or 0,
            "jobDefinition": "d"}  # fmt: skip


def test_a_job_that_ended_before_it_was_seen_running_is_told(batch):
    failed = {**job("a", "FAILED"), "statusReason": "it had no image"}
    client = batch(DescribeJobs=in_turn({"jobs": [job("a", "RUNNABLE")]}, {"jobs": [failed]}))
    with pytest.raises(queues.NotValid, match="it had no image"):
        queues.wait_for_status(client, ["a"], "RUNNING", sleep=lambda _: None)


def test_all_jobs_are_waited_for_also_those_that_are_not_known_yet(batch):
    waits: list[float] = []
    one, both = [job("a", "RUNNABLE")], [job("a", "RUNNABLE"), job("b", "SUBMITTED")]
    ready = [job("a", "RUNNABLE"), job("b", "RUNNABLE")]
    client = batch(DescribeJobs=in_turn({"jobs": one}, {"jobs": both}, {"jobs": ready}))
    queues.wait_for_status(client, ["a", "b"], "RUNNABLE", sleep=waits.append)
    assert len(waits) == 2


def test_jobs_are_named_in_the_order_of_their_start(batch):
    found = [job("late", "SUCCEEDED", 30), job("early", "SUCCEEDED", 10), job("middle", "FAILED", 20)]
    assert queues.started_in_order(batch(DescribeJobs={"jobs": found}), ["x"]) == ["early", "middle", "late"]
