"""Step Functions with processing jobs and functions that really run."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from clients import allow, eventually, function_settings, refused
from lab import PASS, SLEEP, Lab, job_of


@pytest.fixture(scope="module")
def lab(embedded: Any) -> Lab:
    return Lab(embedded)


# --- processing jobs ---


def test_a_task_waits_for_its_job_and_gives_the_job_as_output(lab: Lab) -> None:
    script = "open('/opt/ml/processing/output/r', 'w').write('done')"
    upload = {"S3Uri": f"s3://{lab.bucket}/r/", "LocalPath": "/opt/ml/processing/output", "S3UploadMode": "EndOfJob"}
    outputs = {"Outputs": [{"OutputName": "o", "S3Output": upload}]}
    tags = [{"Key": "a", "Value": "b"}]
    job = lab.job(script, parameters={"ProcessingOutputConfig": outputs, "Tags": tags})
    execution = lab.run({"only": job})
    assert execution["status"] == "SUCCEEDED"
    told = json.loads(execution["output"])
    assert told["ProcessingJobStatus"] == "Completed"
    assert lab.s3.get_object(Bucket=lab.bucket, Key="r/r")["Body"].read() == b"done"
    tags = lab.sagemaker.list_tags(ResourceArn=told["ProcessingJobArn"])["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"a": "b", "MANAGED_BY_AWS": "STARTED_BY_STEP_FUNCTIONS"}


def test_a_failed_job_fails_its_task_with_the_job_as_cause(lab: Lab) -> None:
    execution = lab.run({"only": lab.job("raise SystemExit(3)")})
    assert (execution["status"], execution["error"]) == ("FAILED", "States.TaskFailed")
    cause = json.loads(execution["cause"])
    assert cause["ProcessingJobStatus"] == "Failed"
    assert "exit code: 3" in cause["FailureReason"]


def test_a_failed_job_is_tried_again_under_a_new_name_and_then_caught(lab: Lab) -> None:
    job = lab.job(
        "raise SystemExit(1)",
        Retry=[{"ErrorEquals": ["States.TaskFailed"], "IntervalSeconds": 1, "MaxAttempts": 1, "BackoffRate": 1.0}],
        Catch=[{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "failed"}],
    )
    failed = {"Type": "Fail", "ErrorPath": "$.error.Error", "CausePath": "$.error.Cause"}
    execution = lab.run({"only": job, "failed": failed}, {"x": 1})
    assert (execution["status"], execution["error"]) == ("FAILED", "States.TaskFailed")
    assert [lab.status(job_of(execution["executionArn"], retry=n)) for n in (0, 1)] == ["Failed", "Failed"]
    assert json.loads(execution["cause"])["ProcessingJobName"] == job_of(execution["executionArn"], retry=1)


def test_two_jobs_run_at_once(lab: Lab) -> None:
    meet = (
        "import boto3, os; s3 = boto3.client('s3'); b, me, other = os.environ['MEET'].split();"
        " s3.put_object(Bucket=b, Key=me); s3.get_waiter('object_exists').wait("
        "Bucket=b, Key=other, WaiterConfig={'Delay': 1, 'MaxAttempts': 180})"
    )
    branches = []
    for me, other in ("ab", "ba"):
        environment = {"Environment": {"MEET": f"{lab.bucket} {me} {other}"}}
        branches.append({"StartAt": me, "States": {me: lab.job(meet, suffix=me, parameters=environment)}})
    execution = lab.run({"both": {"Type": "Parallel", "Branches": branches, "End": True}})
    assert execution["status"] == "SUCCEEDED", execution.get("cause")
    assert [job["ProcessingJobStatus"] for job in json.loads(execution["output"])] == ["Completed", "Completed"]


def test_a_states_timeout_stops_the_job(lab: Lab) -> None:
    execution = lab.run({"only": lab.job(SLEEP, TimeoutSeconds=2)})
    assert (execution["status"], execution["error"]) == ("FAILED", "States.Timeout")
    eventually(lambda: lab.status(job_of(execution["executionArn"])) == "Stopped")


def test_a_machines_timeout_ends_it_and_stops_the_job(lab: Lab) -> None:
    execution = lab.timed_out({"only": lab.job(SLEEP)}, began=lambda name: lab.known(job_of(name)))
    eventually(lambda: lab.status(job_of(execution)) == "Stopped")
    assert lab.states.describe_execution(executionArn=execution)["status"] == "TIMED_OUT"
    history = lab.states.get_execution_history(executionArn=execution)["events"]
    assert history[-1]["type"] == "ExecutionTimedOut"


def test_stopping_an_execution_stops_its_job(lab: Lab) -> None:
    retry = [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "MaxAttempts": 2}]
    execution = lab.start(lab.machine({"only": lab.job(SLEEP, Retry=retry)}))
    eventually(lab.running(job_of(execution)))
    lab.states.stop_execution(executionArn=execution, error="Mine", cause="changed my mind")
    eventually(lambda: lab.status(job_of(execution)) == "Stopped")
    found = lab.states.describe_execution(executionArn=execution)
    assert (found["status"], found["error"], found["cause"]) == ("ABORTED", "Mine", "changed my mind")
    history = lab.states.get_execution_history(executionArn=execution)["events"]
    assert history[-1]["type"] == "ExecutionAborted"
    later = lab.run({"only": lab.job("raise SystemExit(1)", Retry=[{**retry[0], "MaxAttempts": 1}])})
    assert lab.status(job_of(later["executionArn"], retry=1)) == "Failed"  # by now it would have been tried again
    assert refused(lambda: lab.status(job_of(execution, retry=1)))[0] == "ValidationException"


def test_a_job_that_the_role_may_not_stop_goes_on(lab: Lab) -> None:
    execution = lab.start(lab.machine({"only": lab.job(SLEEP)}, role=lab.make_role(without="stop")))
    job = job_of(execution)
    eventually(lab.running(job))
    lab.states.stop_execution(executionArn=execution)
    assert lab.ended(execution)["status"] == "ABORTED"
    assert lab.status(job) == "InProgress"
    lab.sagemaker.stop_processing_job(ProcessingJobName=job)


@pytest.mark.parametrize(("missing", "action"), [
    ("create", "sagemaker:CreateProcessingJob"), ("tags", "sagemaker:AddTags"), ("pass", "iam:PassRole"),
    ("describe", "sagemaker:DescribeProcessingJob"),
])  # fmt: skip
def test_each_permission_of_the_machines_role_is_needed(lab: Lab, missing: str, action: str) -> None:
    execution = lab.run({"only": lab.job()}, role=lab.make_role(without=missing))
    assert (execution["status"], execution["error"]) == ("FAILED", "SageMaker.AmazonSageMakerException")
    assert f"is not authorized to perform: {action}" in execution["cause"]
    assert "AccessDeniedException" in execution["cause"]


def test_a_jobs_name_that_is_taken_is_refused_under_sagemakers_name(lab: Lab) -> None:
    taken = lab.run({"only": lab.job()})
    name = {"ProcessingJobName": job_of(taken["executionArn"])}
    job = lab.job()
    job["Parameters"] = {**{k: v for k, v in job["Parameters"].items() if k != "ProcessingJobName.$"}, **name}
    execution = lab.run({"only": job})
    assert (execution["status"], execution["error"]) == ("FAILED", "SageMaker.ResourceInUseException")


def test_parameters_that_sagemaker_refuses_fail_the_task(lab: Lab) -> None:
    execution = lab.run({"only": lab.job(parameters={"StoppingCondition": {"MaxRuntimeInSeconds": 0}})})
    assert (execution["status"], execution["error"]) == ("FAILED", "SageMaker.AmazonSageMakerException")
    assert "MaxRuntimeInSeconds" in execution["cause"]


# --- functions ---


@pytest.mark.parametrize(
    "resource", ["aws-sdk:iam:createUser", "aws-sdk:s3:deleteObject", "states:startExecution", "glue:startJobRun.sync"]
)
def test_an_integration_that_would_not_ask_the_role_is_refused_by_name(lab: Lab, resource: str) -> None:
    task = {"Type": "Task", "Resource": f"arn:aws:states:::{resource}", "Parameters": {"UserName": "eve"}, "End": True}
    code, message = refused(lambda: lab.machine({"only": task}))
    assert (code, resource in message) == ("NotImplemented", True)


def test_a_functions_own_error_is_caught_by_its_name(lab: Lab) -> None:
    source = "class TooSmall(Exception): pass\ndef handler(event, context):\n    raise TooSmall('only', event['n'])\n"
    function = make_function(lab, source)
    catch = [{"ErrorEquals": ["TooSmall"], "ResultPath": "$.error", "Next": "caught"}]
    task = {"Type": "Task", "Resource": function, "Catch": catch, "End": True}
    role = lab.embedded.make_role([allow("lambda:InvokeFunction", function)], service="states.amazonaws.com")
    execution = lab.run({"call": task, "caught": PASS}, {"n": 3}, role=role)
    assert execution["status"] == "SUCCEEDED"
    error = json.loads(execution["output"])["error"]
    assert error["Error"] == "TooSmall"
    assert json.loads(error["Cause"])["errorMessage"] == "('only', 3)"


def test_the_machines_role_must_be_allowed_to_invoke_the_function(lab: Lab) -> None:
    function = make_function(lab, "def handler(event, context):\n    return event\n")
    role = lab.embedded.make_role([allow("lambda:InvokeFunction", f"{function}-2")], service="states.amazonaws.com")
    optimized = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": True}
    optimized["Parameters"] = {"FunctionName": function, "Payload.$": "$"}
    for task in ({"Type": "Task", "Resource": function, "End": True}, optimized):
        execution = lab.run({"call": task}, role=role)
        assert (execution["status"], execution["error"]) == ("FAILED", "Lambda.AWSLambdaException")
        assert "lambda:InvokeFunction" in execution["cause"]


def test_a_function_that_is_only_to_be_told_is_refused_by_name(lab: Lab) -> None:
    function = make_function(lab, "def handler(event, context):\n    return event\n")
    role = lab.embedded.make_role([allow("lambda:InvokeFunction", function)], service="states.amazonaws.com")
    task = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": True}
    task["Parameters"] = {"FunctionName": function, "InvocationType": "Event"}
    execution = lab.run({"call": task}, role=role)
    assert (execution["error"], execution["cause"]) == (
        "States.Runtime",
        "the embedded AWS does not run lambda:invoke as Event",
    )


def make_function(lab: Lab, source: str) -> str:
    role = lab.embedded.make_role([], service="lambda.amazonaws.com")
    settings = function_settings(f"states-{uuid.uuid4().hex[:8]}", role, source)
    return lab.embedded.client("lambda").create_function(**settings)["FunctionArn"]


# --- executions ---


def test_a_bracket_path_inside_an_intrinsic_function_is_read(lab: Lab) -> None:
    path = "$$.Execution.Input['train']['args'][0]"
    state = {**PASS, "Parameters": {"text.$": f"States.Format('{{}}-{{}}', {path}, $['train'].n)"}}
    execution = lab.run({"only": state}, {"train": {"args": ["first"], "n": 7}})
    assert json.loads(execution["output"]) == {"text": "first-7"}


def test_starting_twice_under_one_name(lab: Lab) -> None:
    machine = lab.machine({"wait": {"Type": "Wait", "Seconds": 3000, "Next": "end"}, "end": PASS})
    first = lab.states.start_execution(stateMachineArn=machine, name="n", input='{"a": 1}')
    again = lab.states.start_execution(stateMachineArn=machine, name="n", input='{"a": 1}')
    assert (again["executionArn"], again["startDate"]) == (first["executionArn"], first["startDate"])
    other = {"stateMachineArn": machine, "name": "n", "input": '{"a": 2}'}
    assert refused(lambda: lab.states.start_execution(**other))[0] == "ExecutionAlreadyExists"
    lab.states.stop_execution(executionArn=first["executionArn"])
    closed = {**other, "input": '{"a": 1}'}
    assert refused(lambda: lab.states.start_execution(**closed))[0] == "ExecutionAlreadyExists"


def test_executions_that_have_ended_leave_no_thread_behind(lab: Lab) -> None:
    machine = lab.machine({"only": PASS}, TimeoutSeconds=3600)
    lab.ended(lab.start(machine))
    before = threads(lab)
    for execution in [lab.start(machine) for _ in range(30)]:
        lab.ended(execution)
    eventually(lambda: threads(lab) < before + 15)


def threads(lab: Lab) -> int:
    return len(list(Path(f"/proc/{lab.embedded.server.pid}/task").iterdir()))


def test_an_input_that_is_not_json_is_refused(lab: Lab) -> None:
    machine = lab.machine({"only": PASS})
    start = lab.states.start_execution
    assert refused(lambda: start(stateMachineArn=machine, input="{not json"))[0] == "InvalidExecutionInput"
    assert refused(lambda: start(stateMachineArn=machine, name="a b"))[0] == "InvalidName"
    assert refused(lambda: start(stateMachineArn=machine, input=json.dumps("x" * 262_144)))[0] in (
        "InvalidExecutionInput", "ValidationException",
    )  # fmt: skip
    assert refused(lambda: start(stateMachineArn=f"{machine}x"))[0] == "StateMachineDoesNotExist"


@pytest.mark.parametrize(("definition", "problem"), [
    ("{", "INVALID_JSON_DESCRIPTION"),
    ({"StartAt": "a"}, "These fields are required: [States]"),
    ({"StartAt": "b", "States": {"a": PASS}}, "MISSING_TRANSITION_TARGET"),
    ({"StartAt": "a", "States": {"a": {"Type": "Pass", "Next": "b"}}}, "MISSING_TRANSITION_TARGET"),
    ({"StartAt": "a", "States": {"a": {**PASS, "Retries": []}}}, "Field 'Retries' is not supported"),
    ({"StartAt": "a", "States": {"a": {"Type": "Sleep", "End": True}}}, "SCHEMA_VALIDATION_FAILED"),
])  # fmt: skip
def test_a_definition_that_cannot_run_is_refused(lab: Lab, definition: Any, problem: str) -> None:
    text = definition if isinstance(definition, str) else json.dumps(definition)
    create = {"name": f"states-{uuid.uuid4().hex[:8]}", "definition": text, "roleArn": lab.role}
    code, message = refused(lambda: lab.states.create_state_machine(**create))
    assert (code, problem in message) == ("InvalidDefinition", True), message
    machine = lab.machine({"only": PASS})
    changed = {"stateMachineArn": machine, "definition": text}
    assert refused(lambda: lab.states.update_state_machine(**changed))[0] == "InvalidDefinition"
    assert lab.states.validate_state_machine_definition(definition=text)["result"] == "FAIL"


# --- what could take the time and the memory of everybody else ---


@pytest.mark.parametrize(
    ("expression", "cause"),
    [
        (f"$match('{'a' * 100}!', /(a|aa)+$/)", "timed out"),
        ("$length($pad('x', 1000000000))", "more than 4194304 characters"),
        ("($double := function($text) { $double($text & $text) }; $double('0123456789'))", "4194304 characters"),
        ("($ever := function() { $ever() }; $ever())", "timeout"),
    ],
)
def test_an_expression_that_takes_too_much_fails(lab: Lab, expression: str, cause: str) -> None:
    state = {"Type": "Pass", "QueryLanguage": "JSONata", "Output": f"{{% {expression} %}}", "End": True}
    execution = lab.run({"only": state})
    assert (execution["status"], execution["error"]) == ("FAILED", "States.QueryEvaluationError")
    assert cause in execution["cause"]


def test_a_pattern_with_many_stars_is_decided_at_once(lab: Lab) -> None:
    rule = {"Variable": "$.x", "StringMatches": "*a" * 30 + "b", "Next": "yes"}
    choice = {"Type": "Choice", "Choices": [rule], "Default": "no"}
    states = {"choice": choice, "yes": PASS, "no": {**PASS, "Result": "no", "Type": "Pass"}}
    assert json.loads(lab.run(states, {"x": "a" * 100})["output"]) == "no"
