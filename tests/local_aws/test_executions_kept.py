"""Executions over time: they start at once, leave little behind, and are still there after a restart."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clients import allow, eventually, function_settings
from container_lab import ContainerLab
from embedded_aws import Embedded
from lab import PASS, SLEEP, Lab, job_of

from helpers.local_aws import control


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """Start an embedded AWS that these tests may stop and start again."""
    state_dir = tmp_path_factory.mktemp("kept")
    server, _ = control.start(state_dir)
    yield Embedded(server)
    control.stop(state_dir)


def inline(states: dict[str, Any]) -> dict[str, Any]:
    processor = {"StartAt": next(iter(states)), "States": states}
    return {"Type": "Map", "ItemsPath": "$.items", "ItemProcessor": processor, "ResultPath": "$.out", "End": True}


def sessions(embedded: Embedded) -> dict[str, Any]:
    """Return the sessions that a stopped server saved."""
    return json.loads((embedded.state_dir / "ministack" / "services" / "sts.json").read_text())


def test_the_first_state_is_entered_at_once(own: Embedded) -> None:
    lab = Lab(own)
    machine = lab.machine({"only": PASS})

    def wait() -> float:
        execution = lab.ended(lab.start(machine))["executionArn"]
        events = lab.states.get_execution_history(executionArn=execution)["events"]
        return (events[1]["timestamp"] - events[0]["timestamp"]).total_seconds()

    eventually(lambda: wait() < 0.05)  # the base waits 0.15 seconds before each, a busy machine before some


def test_many_executions_take_little_room(own: Embedded) -> None:
    lab = Lab(own)
    document = {"items": ["x" * 100] * 20, "text": "y" * 5_000}
    machine = lab.machine({"map": inline({"one": PASS})})
    for _ in range(20):
        lab.ended(lab.start(machine, document))
    before = resident(own)
    for _ in range(300):
        lab.ended(lab.start(machine, document))
    # Their histories are some 90 kB each as text: 300 of them would take 30 MB and more.
    assert resident(own) - before < 8


def resident(embedded: Embedded) -> float:
    """Return the server's memory in MB."""
    status = Path(f"/proc/{embedded.server.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def test_histories_are_there_after_a_restart_and_sessions_of_executions_are_not(own: Embedded) -> None:
    lab = Lab(own)
    list_objects = {"Type": "Task", "Resource": "arn:aws:states:::aws-sdk:s3:listObjectsV2", "End": True}
    list_objects["Parameters"] = {"Bucket": lab.bucket}
    role = own.make_role([allow("s3:ListBucket")], service="states.amazonaws.com")
    done = lab.run({"map": inline({"one": list_objects})}, {"items": ["é", 2]}, role=role)
    assert done["status"] == "SUCCEEDED"
    failed = lab.run({"only": {"Type": "Fail", "Error": "E", "Cause": "c"}})
    arns = [done["executionArn"], failed["executionArn"]]
    before = [lab.states.get_execution_history(executionArn=arn)["events"] for arn in arns]
    told = [lab.states.describe_execution(executionArn=arn) for arn in arns]
    control.stop(own.state_dir)
    saved = json.dumps(sessions(own))
    assert not any(execution["name"] in saved for execution in (done, failed))
    server, _ = control.start(own.state_dir)
    states = Embedded(server).client("stepfunctions")
    assert [states.get_execution_history(executionArn=arn)["events"] for arn in arns] == before
    for one, two in zip(told, [states.describe_execution(executionArn=arn) for arn in arns], strict=True):
        assert {k: v for k, v in one.items() if k != "ResponseMetadata"} == {
            k: v for k, v in two.items() if k != "ResponseMetadata"
        }
    reverse = states.get_execution_history(executionArn=arns[0], reverseOrder=True, maxResults=1)
    assert reverse["events"][0]["type"] == "ExecutionSucceeded"


def test_executions_go_on_after_a_restart(own: Embedded) -> None:
    lab = Lab(own)
    hour = {"Type": "Wait", "Seconds": 3600, "End": True}
    waiting = lab.start(lab.machine({"wait": hour}))
    short = {
        "note": {"Type": "Pass", "Assign": {"noted": "came on"}, "Next": "wait"},
        "wait": {"Type": "Wait", "Seconds": 3, "Next": "after"},
        "after": {"Type": "Pass", "Output": "{% $noted %}", "End": True},
    }
    passing = lab.start(lab.machine(short, QueryLanguage="JSONata"))
    in_items = lab.start(lab.machine({"map": inline({"wait": hour})}), {"items": [1]})
    for arn in (waiting, passing, in_items):
        until_entered(lab, arn, "WaitStateEntered")
    control.stop(own.state_dir)
    server, _ = control.start(own.state_dir)
    again = Lab(Embedded(server))
    assert again.states.describe_execution(executionArn=waiting)["status"] == "RUNNING"
    again.states.stop_execution(executionArn=waiting)
    assert again.ended(waiting)["status"] == "ABORTED"
    done = again.ended(passing)
    assert (done["status"], done["output"]) == ("SUCCEEDED", '"came on"')
    kinds = [event["type"] for event in again.states.get_execution_history(executionArn=passing)["events"]]
    assert kinds.count("WaitStateEntered") == 1
    lost = again.states.describe_execution(executionArn=in_items)
    assert (lost["status"], lost["error"]) == ("FAILED", "States.ServiceRestart")


def until_entered(lab: Lab, arn: str, kind: str) -> None:
    def check() -> bool:
        return kind in {event["type"] for event in lab.states.get_execution_history(executionArn=arn)["events"]}

    eventually(check)


def test_a_task_that_a_stop_cut_off_fails_as_the_service_would_and_is_tried_again(own: Embedded) -> None:
    server, _ = control.start(own.state_dir)
    lab = Lab(Embedded(server))
    source = "import time\ndef handler(tries, context):\n    time.sleep(0 if tries else 300)\n    return 'done'\n"
    function_role = lab.embedded.make_role([], service="lambda.amazonaws.com")
    settings = function_settings("sleeps", function_role, source, Timeout=600)
    name = lab.embedded.client("lambda").create_function(**settings)["FunctionArn"]
    retry = [{"ErrorEquals": ["Lambda.ServiceException"], "IntervalSeconds": 1, "MaxAttempts": 1}]
    call = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Retry": retry, "End": True}
    call["Parameters"] = {"FunctionName": name, "Payload.$": "$$.State.RetryCount"}
    role = lab.embedded.make_role([allow("lambda:InvokeFunction")], service="states.amazonaws.com")
    arn = lab.start(lab.machine({"call": call}, role=role))
    until_entered(lab, arn, "TaskStarted")
    control.stop(own.state_dir)
    server, _ = control.start(own.state_dir)
    again = Lab(Embedded(server))
    done = again.ended(arn)
    assert json.loads(done["output"])["Payload"] == "done"
    events = again.states.get_execution_history(executionArn=arn)["events"]
    failed = [event["taskFailedEventDetails"]["error"] for event in events if event["type"] == "TaskFailed"]
    assert failed == ["Lambda.ServiceException"]


def test_a_job_that_a_stop_cut_off_fails_its_execution_and_one_that_waited_runs(own: Embedded) -> None:
    server, _ = control.start(own.state_dir)
    lab = Lab(Embedded(server))
    busy = [lab.start(lab.machine({"job": lab.job(SLEEP)})) for _ in range(os.cpu_count() or 1)]
    eventually(lambda: all(lab.running(name)() and started(lab, name) for name in map(job_of, busy)))
    behind = lab.start(lab.machine({"job": lab.job()}))
    until_entered(lab, behind, "TaskSubmitted")
    control.stop(own.state_dir)
    server, _ = control.start(own.state_dir)
    again = Lab(Embedded(server))
    assert again.ended(behind)["status"] == "SUCCEEDED"
    for execution in busy:
        done = again.ended(execution)
        assert (done["status"], done["error"]) == ("FAILED", "States.TaskFailed")
        assert "was stopped while the job was running" in done["cause"]


def started(lab: Lab, job: str) -> bool:
    return "ProcessingStartTime" in lab.sagemaker.describe_processing_job(ProcessingJobName=job)


def test_log_events_are_kept_once_and_found_by_their_pointer(own: Embedded) -> None:
    server, _ = control.start(own.state_dir)  # whichever runs by now
    logs = Embedded(server).client("logs")
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    events = [{"timestamp": int(time.time() * 1000), "message": "hello"}]
    logs.put_log_events(logGroupName="g", logStreamName="s", logEvents=events)
    (found,) = logs.filter_log_events(logGroupName="g")["events"]
    assert logs.get_log_record(logRecordPointer=found["eventId"])["logRecord"]["@message"] == "hello"


def test_jobs_that_wait_in_a_queue_end_with_the_execution_that_cannot_go_on(own: Embedded) -> None:
    lab = ContainerLab(own)
    room = [{"type": "VCPU", "value": "4"}, {"type": "MEMORY", "value": "8192"}]
    given = {"command": ["python", "-c", SLEEP], "resourceRequirements": room}
    running = {"jobQueue": lab.name, "jobDefinition": lab.name, "containerOverrides": given}
    first = lab.batch.submit_job(jobName="fills", retryStrategy={"attempts": 2}, **running)["jobId"]
    eventually(lambda: lab.batch.describe_jobs(jobs=[first])["jobs"][0]["status"] == "RUNNING")
    task = lab.work("batch", SLEEP, suffix="waits")
    execution = lab.start(lab.machine({"map": inline({"one": task})}, role=lab.work_role), {"items": [1, 2]})

    def waiting() -> list[str]:
        found = lab.batch.list_jobs(jobQueue=lab.name, jobStatus="RUNNABLE")["jobSummaryList"]
        return [job["jobId"] for job in found if job["jobName"] == "script"]

    jobs = eventually(lambda: found if len(found := waiting()) == 2 else None)
    control.stop(own.state_dir)
    control.start(own.state_dir)
    assert lab.ended(execution)["error"] == "States.ServiceRestart"

    def ended() -> list[str]:
        found = lab.batch.describe_jobs(jobs=jobs)["jobs"]
        return [job["statusReason"] for job in found if job["status"] == "FAILED"]

    reasons = eventually(lambda: found if len(found := ended()) == 2 else None)
    assert set(reasons) == {"The Step Functions task that waits for the job has ended."}
    lab.batch.terminate_job(jobId=first, reason="the test is over")
