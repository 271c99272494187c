"""Tasks of functions that wait for their token to come back."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from clients import allow, arn, eventually, function_settings, refused
from embedded_aws import Embedded
from lab import PASS, Lab

from helpers.local_aws import control

RESOURCE = "arn:aws:states:::lambda:invoke.waitForTaskToken"
# Leaves the token where the test finds it, or does with it what it is told.
SOURCE = """
import json, os, boto3
class Broken(Exception): pass
def handler(event, context):
    states = boto3.client("stepfunctions")
    if event["do"] == "leave":
        boto3.client("s3").put_object(Bucket=os.environ["BUCKET"], Key=event["key"], Body=event["token"])
    if event["do"] == "raise":
        raise Broken("no")
    if event["do"] == "succeed":
        states.send_task_success(taskToken=event["token"], output=json.dumps({"made": event["n"]}))
    return {"kept": True}
"""


class TokenLab(Lab):
    """A lab with a function that is given tokens."""

    def __init__(self, embedded: Any) -> None:
        super().__init__(embedded)
        self.function = f"tokens-{uuid.uuid4().hex[:8]}"
        own = [allow("s3:PutObject", f"arn:aws:s3:::{self.bucket}/*"), allow("states:SendTaskSuccess")]
        role = embedded.make_role(own, service="lambda.amazonaws.com")
        settings = function_settings(self.function, role, SOURCE, Environment={"Variables": {"BUCKET": self.bucket}})
        self.arn = embedded.client("lambda").create_function(**settings)["FunctionArn"]
        self.machine_role = embedded.make_role(
            [allow("lambda:InvokeFunction", self.arn)], service="states.amazonaws.com"
        )

    def task(self, do: str, **more: Any) -> dict[str, Any]:
        payload = {"do": do, "token.$": "$$.Task.Token", "n.$": "$.n", "key.$": "$$.Execution.Name"}
        parameters = {"FunctionName": self.function, "Payload": payload}
        following = {} if "Next" in more else {"End": True}
        return {"Type": "Task", "Resource": RESOURCE, "Parameters": parameters, **following, **more}

    def begin(self, states: dict[str, Any], **more: Any) -> str:
        return self.start(self.machine(states, role=self.machine_role, **more), {"n": 5})

    def token(self, execution: str) -> str:
        """Return the token that an execution's function has left."""

        def found() -> str:
            key = execution.rpartition(":")[2]
            try:
                return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read().decode()
            except self.s3.exceptions.NoSuchKey:
                return ""

        return eventually(found)

    def kinds(self, execution: str) -> list[str]:
        return [event["type"] for event in self.states.get_execution_history(executionArn=execution)["events"]]


@pytest.fixture(scope="module")
def lab(embedded: Any) -> TokenLab:
    return TokenLab(embedded)


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    state_dir = tmp_path_factory.mktemp("tokens")
    server, _ = control.start(state_dir)
    yield Embedded(server)
    control.stop(state_dir)


def test_a_token_that_comes_back_ends_the_task_with_what_came_with_it(lab: TokenLab) -> None:
    execution = lab.begin({"only": lab.task("leave", TimeoutSeconds=600, HeartbeatSeconds=300)})
    token = lab.token(execution)
    lab.states.send_task_heartbeat(taskToken=token)
    lab.states.send_task_success(taskToken=token, output="[1]")
    assert json.loads(lab.ended(execution)["output"]) == [1]
    assert lab.kinds(execution)[2:-2] == ["TaskScheduled", "TaskStarted", "TaskSubmitted", "TaskSucceeded"]
    history = lab.states.get_execution_history(executionArn=execution)["events"]
    scheduled, submitted = history[2]["taskScheduledEventDetails"], history[4]["taskSubmittedEventDetails"]
    assert (scheduled["resource"], scheduled["heartbeatInSeconds"]) == ("invoke.waitForTaskToken", 300)
    assert json.loads(submitted["output"])["Payload"] == {"kept": True}
    assert refused(lambda: lab.states.send_task_failure(taskToken=token))[0] == "TaskTimedOut"


def test_a_token_may_come_back_before_the_function_has_answered(lab: TokenLab) -> None:
    execution = lab.begin({"only": lab.task("succeed")})
    assert json.loads(lab.ended(execution)["output"]) == {"made": 5}


def test_a_function_that_fails_fails_the_task(lab: TokenLab) -> None:
    execution = lab.begin(
        {"only": lab.task("raise", Catch=[{"ErrorEquals": ["Broken"], "Next": "caught"}]), "caught": PASS}
    )
    assert lab.ended(execution)["status"] == "SUCCEEDED"
    assert "TaskFailed" in lab.kinds(execution)


@pytest.mark.parametrize("limits", [{"HeartbeatSeconds": 1}, {"TimeoutSeconds": 1}])
def test_a_token_that_does_not_come_back_times_out(lab: TokenLab, limits: dict[str, int]) -> None:
    execution = lab.begin({"only": lab.task("leave", **limits)})
    token = lab.token(execution)
    ended = lab.ended(execution)
    assert (ended["status"], ended["error"], ended.get("cause")) == ("FAILED", "States.Timeout", None)
    assert lab.kinds(execution)[-2:] == ["TaskTimedOut", "ExecutionFailed"]
    late = refused(lambda: lab.states.send_task_success(taskToken=token, output="{}"))
    assert late == ("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'")


def test_each_attempt_has_a_token_of_its_own(lab: TokenLab) -> None:
    retry = [{"ErrorEquals": ["Again"], "IntervalSeconds": 1, "MaxAttempts": 1, "BackoffRate": 1.0}]
    execution = lab.begin({"only": lab.task("leave", Retry=retry)})
    first = lab.token(execution)
    lab.states.send_task_failure(taskToken=first, error="Again")
    second = eventually(lambda: (found := lab.token(execution)) != first and found)
    assert refused(lambda: lab.states.send_task_success(taskToken=first, output="1"))[0] == "TaskTimedOut"
    lab.states.send_task_success(taskToken=second, output="2")
    assert lab.ended(execution)["output"] == "2"


def test_a_stopped_execution_takes_no_token_back(lab: TokenLab) -> None:
    execution = lab.begin({"only": lab.task("leave")})
    token = lab.token(execution)
    lab.states.stop_execution(executionArn=execution)
    assert refused(lambda: lab.states.send_task_success(taskToken=token, output="1"))[0] == "TaskTimedOut"
    assert lab.ended(execution)["status"] == "ABORTED"


def test_who_may_send_a_token_back_is_asked_about_its_machine(lab: TokenLab, embedded: Any) -> None:
    execution = lab.begin({"only": lab.task("leave")})
    token, machine = lab.token(execution), execution.replace(":execution:", ":stateMachine:").rpartition(":")[0]
    other = embedded.client("stepfunctions", embedded.variables_of([allow("states:*", arn("states", "activity:*"))]))
    code, message = refused(lambda: other.send_task_success(taskToken=token, output="1"))
    assert (code, machine in message) == ("AccessDeniedException", True)
    may = embedded.client("stepfunctions", embedded.variables_of([allow("states:SendTaskSuccess", machine)]))
    may.send_task_success(taskToken=token, output="1")
    assert lab.ended(execution)["status"] == "SUCCEEDED"


def test_a_function_that_is_invoked_without_waiting_is_refused_by_name(lab: TokenLab) -> None:
    task = lab.task("leave")
    task["Parameters"]["InvocationType"] = "Event"
    ended = lab.ended(lab.begin({"only": task}))
    assert (ended["error"], "Event" in ended["cause"]) == ("States.Runtime", True)


def test_a_token_is_good_after_a_restart(own: Embedded) -> None:
    lab = TokenLab(own)
    execution = lab.begin({"only": lab.task("leave", TimeoutSeconds=600)})
    token = lab.token(execution)
    eventually(lambda: "TaskSubmitted" in lab.kinds(execution))
    control.stop(own.state_dir)
    again = Embedded(control.start(own.state_dir)[0]).client("stepfunctions")
    again.send_task_success(taskToken=token, output='"late"')
    eventually(lambda: again.describe_execution(executionArn=execution)["status"] != "RUNNING")
    assert again.describe_execution(executionArn=execution)["output"] == '"late"'
    events = again.get_execution_history(executionArn=execution)["events"]
    assert [event["type"] for event in events].count("TaskScheduled") == 1
