"""State machines around containers, Batch and training jobs: what ends well, fails, hangs, is killed, is denied."""

import json
import uuid
from typing import Any

import pytest
from clients import eventually, refused
from container_lab import KINDS, RESOURCES, RULES, ContainerLab
from embedded_aws import Embedded
from lab import PASS
from statelint.linter import Linter

from helpers.local_aws import control

WELL, BADLY, KILLED = "pass", "raise SystemExit(3)", "import os; os.kill(os.getpid(), 9)"
HANGS = "import time; time.sleep(600)"
STOPPED = {"ecs": "STOPPED", "batch": "FAILED", "training": "Stopped"}


@pytest.fixture(scope="module")
def lab(embedded: Any) -> ContainerLab:
    return ContainerLab(embedded)


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_waits_for_its_work_and_gives_out_its_description(lab: ContainerLab, kind: str) -> None:
    state = lab.work(kind, WELL)
    assert Linter().validate({"StartAt": "only", "States": {"only": state}}) == []
    execution = lab.begin({"only": state})
    ended = lab.ended(execution)
    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    told = json.loads(ended["output"])
    if kind == "ecs":
        assert (told["LastStatus"], told["StartedBy"], told["Containers"][0]["ExitCode"]) == (
            "STOPPED", "AWS Step Functions", 0,
        )  # fmt: skip
        assert isinstance(told["StoppedAt"], int)
    elif kind == "batch":
        variables = {item["Name"]: item["Value"] for item in told["Container"]["Environment"]}
        assert (told["Status"], variables["MANAGED_BY_AWS"]) == ("SUCCEEDED", "STARTED_BY_STEP_FUNCTIONS")
        assert isinstance(told["StoppedAt"], int)
    else:
        assert told["TrainingJobStatus"] == "Completed"
        tags = lab.sagemaker.list_tags(ResourceArn=told["TrainingJobArn"])["Tags"]
        assert tags == [{"Key": "MANAGED_BY_AWS", "Value": "STARTED_BY_STEP_FUNCTIONS"}]
    types = [event["type"] for event in lab.events(execution)]
    assert types[2:-2] == ["TaskScheduled", "TaskStarted", "TaskSubmitted", "TaskSucceeded"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("script", [BADLY, KILLED], ids=["fails", "is killed"])
def test_work_that_fails_is_caught_with_its_description(lab: ContainerLab, kind: str, script: str) -> None:
    catch = [{"ErrorEquals": ["States.TaskFailed"], "ResultPath": "$.error", "Next": "caught"}]
    ended = lab.ended(lab.begin({"only": lab.work(kind, script, Catch=catch), "caught": PASS}))
    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    error = json.loads(ended["output"])["error"]
    cause = json.loads(error["Cause"])
    code = 3 if script == BADLY else 137
    if kind == "ecs":
        assert cause["Containers"][0]["ExitCode"] == code
    elif kind == "batch":
        assert (cause["Status"], cause["Container"]["ExitCode"]) == ("FAILED", code)
    else:
        assert (cause["TrainingJobStatus"], f"exit code: {code}" in cause["FailureReason"].lower()) == ("Failed", True)


def test_work_that_hangs_is_stopped_by_the_states_timeout(lab: ContainerLab) -> None:
    # All at once: the timeout has to leave time enough for the work to be started.
    executions = {kind: lab.begin({"only": lab.work(kind, HANGS, TimeoutSeconds=10)}) for kind in KINDS}
    for kind, execution in executions.items():
        ended = lab.ended(execution)
        assert (ended["status"], ended["error"], ended.get("cause")) == ("FAILED", "States.Timeout", None)
        (answer,) = lab.submitted(execution)
        eventually(lambda kind=kind, answer=answer: lab.state_of(kind, answer) == STOPPED[kind])


def test_a_stopped_execution_ends_the_work_of_all_its_branches_and_items(lab: ContainerLab) -> None:
    each = {"StartAt": "item", "States": {"item": lab.work("ecs", HANGS)}}
    branches = [
        {"StartAt": kind, "States": {kind: lab.work(kind, HANGS, suffix="branch")}} for kind in ("batch", "training")
    ]
    branches.append({"StartAt": "map", "States": {"map": {"Type": "Map", "ItemProcessor": each, "End": True}}})
    branches[-1]["States"]["map"]["ItemsPath"] = "$.items"
    execution = lab.begin({"all": {"Type": "Parallel", "Branches": branches, "End": True}}, {"items": [1, 2]})
    eventually(lambda: len(lab.submitted(execution)) == 4)
    answers = lab.submitted(execution)
    lab.states.stop_execution(executionArn=execution)
    assert lab.ended(execution)["status"] == "ABORTED"
    for answer in answers:
        kind = "ecs" if "Tasks" in answer else "batch" if "JobId" in answer else "training"
        eventually(lambda kind=kind, answer=answer: lab.state_of(kind, answer) == STOPPED[kind])


def test_a_branch_that_fails_ends_its_neighbours_work(lab: ContainerLab) -> None:
    branches = [
        {"StartAt": "hangs", "States": {"hangs": lab.work("batch", HANGS)}},
        {"StartAt": "fails", "States": {"fails": lab.work("ecs", BADLY)}},
    ]
    execution = lab.begin({"both": {"Type": "Parallel", "Branches": branches, "End": True}})
    assert lab.ended(execution)["error"] == "States.TaskFailed"
    (job,) = [answer for answer in lab.submitted(execution) if "JobId" in answer]
    eventually(lambda: lab.state_of("batch", job) == "FAILED")


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_that_does_not_wait_ends_when_the_work_is_started(lab: ContainerLab, kind: str) -> None:
    ended = lab.ended(lab.begin({"only": lab.work(kind, WELL, pattern="")}))
    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    told = json.loads(ended["output"])
    assert told["SdkHttpMetadata"]["HttpStatusCode"] == 200
    eventually(lambda: lab.state_of(kind, told) in ("STOPPED", "SUCCEEDED", "Completed"))


def test_a_job_that_failed_is_tried_again_by_the_machine(lab: ContainerLab) -> None:
    retry = [{"ErrorEquals": ["States.TaskFailed"], "IntervalSeconds": 1, "MaxAttempts": 1, "BackoffRate": 1.0}]
    execution = lab.begin({"only": lab.work("batch", BADLY, Retry=retry)})
    assert lab.ended(execution)["error"] == "States.TaskFailed"
    assert len({answer["JobId"] for answer in lab.submitted(execution)}) == 2


def test_an_array_of_batch_jobs_is_one_task(lab: ContainerLab) -> None:
    state = lab.work("batch", "import os; assert os.environ['AWS_BATCH_JOB_ARRAY_INDEX'] in '01'")
    state["Parameters"]["ArrayProperties"] = {"Size": 2}
    ended = lab.ended(lab.begin({"only": state}))
    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    assert json.loads(ended["output"])["ArrayProperties"]["StatusSummary"]["SUCCEEDED"] == 2


# --- tokens ---


def token_state(lab: ContainerLab, script: str, **more: Any) -> dict[str, Any]:
    state = lab.work("ecs", script, pattern=".waitForTaskToken", **more)
    (override,) = state["Parameters"]["Overrides"]["ContainerOverrides"]
    override["Environment"] = [{"Name": "TASK_TOKEN", "Value.$": "$$.Task.Token"}]
    return state


def test_a_container_sends_its_token_back(lab: ContainerLab) -> None:
    script = (
        "import boto3, os; boto3.client('stepfunctions').send_task_success("
        "taskToken=os.environ['TASK_TOKEN'], output='{\"rows\": 7}')"
    )
    execution = lab.begin({"only": token_state(lab, script, HeartbeatSeconds=600)})
    ended = lab.ended(execution)
    assert (ended["status"], ended.get("output")) == ("SUCCEEDED", '{"rows":7}'), ended.get("cause")
    types = [event["type"] for event in lab.events(execution)]
    assert types[2:-2] == ["TaskScheduled", "TaskStarted", "TaskSubmitted", "TaskSucceeded"]


def test_a_container_that_dies_with_its_token_is_missed_by_its_heartbeat(lab: ContainerLab) -> None:
    catch = [{"ErrorEquals": ["States.HeartbeatTimeout"], "Next": "caught"}]
    states = {"only": token_state(lab, KILLED, TimeoutSeconds=600, HeartbeatSeconds=3, Catch=catch), "caught": PASS}
    execution = lab.begin(states)
    assert lab.ended(execution)["status"] == "SUCCEEDED"
    (timed_out,) = [event for event in lab.events(execution) if event["type"] == "TaskTimedOut"]
    assert timed_out["taskTimedOutEventDetails"]["error"] == "States.Timeout"


# --- refusals ---


@pytest.mark.parametrize(("missing", "kind", "error"), [
    ("ecs:RunTask", "ecs", "ECS.AccessDeniedException"),
    ("ecs:DescribeTasks", "ecs", "ECS.AccessDeniedException"),
    ("ecs:PassRole", "ecs", "ECS.AccessDeniedException"),
    ("batch:SubmitJob", "batch", "Batch.AWSBatchException"),
    ("batch:DescribeJobs", "batch", "Batch.AWSBatchException"),
    ("sagemaker:CreateTrainingJob", "training", "SageMaker.AmazonSageMakerException"),
    ("sagemaker:DescribeTrainingJob", "training", "SageMaker.AmazonSageMakerException"),
    ("sagemaker:AddTags", "training", "SageMaker.AmazonSageMakerException"),
    ("sagemaker:PassRole", "training", "SageMaker.AmazonSageMakerException"),
])  # fmt: skip
def test_each_permission_of_the_machines_role_is_needed(lab: ContainerLab, missing: str, kind: str, error: str) -> None:
    role = lab.role_of(without=missing)
    ended = lab.ended(lab.begin({"only": lab.work(kind, WELL)}, role=role))
    assert (ended["status"], ended["error"]) == ("FAILED", error), ended.get("cause")
    action = missing if not missing.endswith("PassRole") else "iam:PassRole"
    assert f"is not authorized to perform: {action}" in ended["cause"]


@pytest.mark.parametrize(("kind", "missing"), [
    ("ecs", "ecs:StopTask"), ("batch", "batch:TerminateJob"), ("training", "sagemaker:StopTrainingJob"),
])  # fmt: skip
def test_work_that_the_role_may_not_stop_goes_on(lab: ContainerLab, kind: str, missing: str) -> None:
    roles = lab.role_of(without=missing), lab.work_role
    executions = [lab.begin({"only": lab.work(kind, HANGS)}, role=role) for role in roles]
    (answer,), (other,) = (eventually(lambda e=execution: lab.submitted(e)) for execution in executions)
    for execution in executions:
        lab.states.stop_execution(executionArn=execution)
        assert lab.ended(execution)["status"] == "ABORTED"
    eventually(lambda: lab.state_of(kind, other) == STOPPED[kind])  # what was stopped later has ended by now
    assert lab.state_of(kind, answer) != STOPPED[kind]
    if kind == "ecs":
        lab.ecs.stop_task(cluster=lab.name, task=answer["Tasks"][0]["TaskArn"])
    elif kind == "batch":
        lab.batch.terminate_job(jobId=answer["JobId"], reason="the test is over")
    else:
        lab.sagemaker.stop_training_job(TrainingJobName=answer["TrainingJobArn"].rpartition("/")[2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_machine_that_waits_needs_its_rule_of_eventbridge(lab: ContainerLab, kind: str, embedded: Any) -> None:
    without = lab.role_of(without="events")
    code, message = refused(lambda: lab.machine({"only": lab.work(kind, WELL)}, role=without))
    assert (code, "is not authorized to create managed-rule" in message) == ("AccessDeniedException", True)
    assert lab.machine({"only": lab.work(kind, WELL, pattern="")}, role=without)
    assert lab.machine({"only": lab.work(kind, WELL)}, role=lab.work_role)
    rule = embedded.client("events").describe_rule(Name=RULES[kind])
    assert rule["ManagedBy"] == "states.amazonaws.com"


@pytest.mark.parametrize(("kind", "field", "value", "error"), [
    ("ecs", "TaskDefinition", "no-such", "ECS.InvalidParameterException"),
    ("ecs", "Cluster", "no-such", "ECS.ClusterNotFoundException"),
    ("batch", "JobQueue", "no-such", "Batch.ClientException"),
    ("training", "TrainingJobName", "a_b", "SageMaker.AmazonSageMakerException"),
])  # fmt: skip
def test_what_a_service_refuses_fails_the_task_under_its_name(
    lab: ContainerLab, kind: str, field: str, value: str, error: str
) -> None:
    everything = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
    role = lab.embedded.make_role(everything, service="states.amazonaws.com")
    state = lab.work(kind, WELL)
    state["Parameters"].pop(f"{field}.$", None)
    state["Parameters"][field] = value
    ended = lab.ended(lab.begin({"only": state}, role=role))
    assert (ended["status"], ended["error"]) == ("FAILED", error), ended.get("cause")


def test_parameters_of_another_spelling_are_refused_when_the_machine_is_made(lab: ContainerLab) -> None:
    state = lab.work("batch", WELL)
    state["Parameters"]["jobName"] = state["Parameters"].pop("JobName")
    code, message = refused(lambda: lab.machine({"only": state}, role=lab.work_role))
    assert (code, 'The field "jobName" is not supported by Step Functions' in message) == ("InvalidDefinition", True)
    definition = json.dumps({"StartAt": "only", "States": {"only": state}})
    checked = lab.states.validate_state_machine_definition(definition=definition)
    assert (checked["result"], len(checked["diagnostics"])) == ("FAIL", 2)


def test_a_state_that_starts_work_can_be_tested_with_a_mock_and_not_without(lab: ContainerLab) -> None:
    states = lab.embedded.client("stepfunctions")
    states.meta.config.inject_host_prefix = False  # TestState has a host of its own, sync-states…
    definition = json.dumps(lab.work("batch", WELL))
    mocked = states.test_state(definition=definition, mock={"result": '{"Status": "SUCCEEDED"}'})
    assert (mocked["status"], json.loads(mocked["output"])) == ("SUCCEEDED", {"Status": "SUCCEEDED"})
    real = states.test_state(definition=definition, roleArn=lab.work_role)
    assert (real["status"], "outside of an execution" in real["cause"]) == ("FAILED", True)


def test_work_is_described_through_the_sdk_integration(lab: ContainerLab) -> None:
    describe = {
        "Type": "Task", "Resource": "arn:aws:states:::aws-sdk:sagemaker:describeTrainingJob",
        "Parameters": {"TrainingJobName.$": "$.TrainingJobName"}, "End": True,
    }  # fmt: skip
    ended = lab.ended(lab.begin({"train": lab.work("training", WELL, Next="describe"), "describe": describe}))
    told = json.loads(ended["output"])
    assert (told["TrainingJobStatus"], told["CreationTime"][-1]) == ("Completed", "Z")
    unknown = {**describe, "Parameters": {"TrainingJobName": f"no-{uuid.uuid4().hex}"}}
    failed = lab.ended(lab.begin({"describe": unknown}))
    assert (failed["error"], RESOURCES["training"] in failed["cause"]) == ("SageMaker.SageMakerException", False)


def test_work_that_a_stop_of_the_embedded_aws_cut_off_fails_its_task(tmp_path_factory: pytest.TempPathFactory) -> None:
    state_dir = tmp_path_factory.mktemp("containers")
    try:
        lab = ContainerLab(Embedded(control.start(state_dir)[0]))
        catch = [{"ErrorEquals": ["States.TaskFailed"], "ResultPath": "$.error", "Next": "caught"}]
        executions = {
            kind: lab.begin({"only": lab.work(kind, HANGS, Catch=catch), "caught": PASS}, {"kind": kind})
            for kind in KINDS
        }
        for kind, execution in executions.items():
            (answer,) = eventually(lambda execution=execution: lab.submitted(execution))
            eventually(lambda kind=kind, answer=answer: lab.state_of(kind, answer) in ("RUNNING", "InProgress"))
        control.stop(state_dir)
        states = Embedded(control.start(state_dir)[0]).client("stepfunctions")
        for kind, execution in executions.items():
            eventually(lambda e=execution: states.describe_execution(executionArn=e)["status"] != "RUNNING")
            ended = states.describe_execution(executionArn=execution)
            assert (kind, ended["status"]) == (kind, "SUCCEEDED"), ended.get("cause")
            assert json.loads(ended["output"])["error"]["Error"] == "States.TaskFailed"
            types = [event["type"] for event in states.get_execution_history(executionArn=execution)["events"]]
            assert (types.count("TaskSubmitted"), types.count("TaskFailed")) == (1, 1)
    finally:
        control.stop(state_dir)
