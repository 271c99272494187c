"""Lambda through boto3: what callers, logs and retries show of a function."""

import base64
import json
import re
import uuid
from typing import Any

import pytest
from clients import allow, arn, eventually, function_settings, package, refused

SOURCE = """
import json, os, time, boto3
class OutOfRange(ValueError): pass
def handler(event, context):
    do = event.get("do")
    if do == "fail":
        raise OutOfRange(f"no {event['n']}")
    if do == "sleep":
        time.sleep(300)
    if do == "exit":
        os._exit(3)
    if do == "who":
        return boto3.client("sts").get_caller_identity()["Arn"]
    if do == "environment":
        return {name: os.environ.get(name) for name in event["names"]}
    if do == "print":
        print("first"); print("second")
    return {"event": event, "left": context.get_remaining_time_in_millis(), "arn": context.invoked_function_arn}
"""
LOGS = "logs:CreateLogGroup logs:CreateLogStream logs:PutLogEvents"


class Function:
    """One function with permission to write its log."""

    def __init__(self, embedded: Any, source: str = SOURCE, **settings: Any) -> None:
        self.client, self.logs = embedded.client("lambda"), embedded.client("logs")
        self.name = f"lambda-{uuid.uuid4().hex[:8]}"
        self.group = f"/aws/lambda/{self.name}"
        statement = allow(LOGS, arn("logs", f"log-group:{self.group}:*"))
        self.role = embedded.make_role([statement], service="lambda.amazonaws.com")
        made = self.client.create_function(**function_settings(self.name, self.role, source, **settings))
        self.arn = made["FunctionArn"]

    def invoke(self, event: dict[str, Any], **more: Any) -> tuple[Any, str | None]:
        """Return the payload, and FunctionError where there is one."""
        done = self.client.invoke(FunctionName=self.name, Payload=json.dumps(event).encode(), **more)
        return json.loads(done["Payload"].read() or b"null"), done.get("FunctionError")

    def lines(self) -> list[str]:
        try:
            found = self.logs.filter_log_events(logGroupName=self.group)["events"]
        except self.logs.exceptions.ResourceNotFoundException:
            return []
        return [event["message"] for event in found]


@pytest.fixture(scope="module")
def function(embedded: Any) -> Function:
    return Function(embedded, Environment={"Variables": {"COLOUR": "blue"}})


def test_a_function_acts_as_its_role_with_its_environment(function: Function) -> None:
    answer, error = function.invoke({"do": "print"})
    assert (answer["event"], answer["arn"], error) == ({"do": "print"}, function.arn, None)
    assert 0 < answer["left"] <= 300_000
    who, _ = function.invoke({"do": "who"})
    assert who.rpartition("assumed-role/")[2] == f"{function.role.rpartition('/')[2]}/{function.name}"
    names = ["COLOUR", "AWS_REGION", "AWS_LAMBDA_FUNCTION_NAME", "AWS_PROFILE"]
    assert function.invoke({"do": "environment", "names": names})[0] == {
        "COLOUR": "blue", "AWS_REGION": "us-east-1", "AWS_LAMBDA_FUNCTION_NAME": function.name, "AWS_PROFILE": None,
    }  # fmt: skip


def test_an_error_reaches_the_caller_with_its_type_and_trace(function: Function) -> None:
    answer, error = function.invoke({"do": "fail", "n": 7})
    assert error == "Unhandled"
    assert (answer["errorType"], answer["errorMessage"]) == ("OutOfRange", "no 7")
    assert len(answer["stackTrace"]) == 1
    assert "raise OutOfRange" in answer["stackTrace"][0]


def test_a_function_that_takes_too_long_is_ended(embedded: Any) -> None:
    function = Function(embedded, Timeout=2)
    answer, error = function.invoke({"do": "sleep"})
    assert error == "Unhandled"
    assert re.fullmatch(r"(\S+ \S+|RequestId: \S+ Error:) Task timed out after 2.00 seconds", answer["errorMessage"])
    function.client.update_function_configuration(FunctionName=function.name, Timeout=300)
    assert function.invoke({"do": "print"})[1] is None


def test_a_function_that_exits_is_an_error(function: Function) -> None:
    answer, error = function.invoke({"do": "exit"})
    assert (answer["errorType"], error) == ("Runtime.ExitError", "Unhandled")


def test_the_log_has_the_lines_between_start_and_report(embedded: Any) -> None:
    function = Function(embedded)
    done = function.client.invoke(FunctionName=function.name, Payload=b'{"do": "print"}', LogType="Tail")
    tail = base64.b64decode(done["LogResult"]).decode()
    eventually(lambda: any(line.startswith("REPORT") for line in function.lines()))
    lines = function.lines()
    kinds = [line.split()[0] for line in lines]
    assert kinds == ["START", "first", "second", "END", "REPORT"], lines
    request = lines[0].split()[2]
    assert all(f"RequestId: {request}" in line for line in (lines[3], lines[4]))
    measured = r"Duration: [\d.]+ ms\s+Billed Duration: \d+ ms\s+Memory Size: 128 MB\s+Max Memory Used: \d+ MB"
    assert re.match(rf"REPORT RequestId: \S+\s+{measured}", lines[4])
    assert tail.splitlines() == lines
    assert "Init Duration" in lines[4]
    function.invoke({"do": "fail", "n": 1})
    streams = function.logs.describe_log_streams(logGroupName=function.group)["logStreams"]
    assert len(streams) == 1  # of the one worker that served both
    assert "Init Duration" not in function.lines()[-1]
    [told] = [line for line in function.lines() if "OutOfRange" in line]
    assert "Traceback" in told  # one event, not one a line


def test_an_asynchronous_error_is_tried_three_times(embedded: Any) -> None:
    function = Function(embedded)
    done = function.client.invoke(FunctionName=function.name, InvocationType="Event", Payload=b'{"do": "fail", "n": 1}')
    assert done["StatusCode"] == 202

    def starts() -> list[str]:
        return [line.split()[2] for line in function.lines() if line.startswith("START")]

    [request_id, *_] = eventually(starts)  # an event keeps its request id
    log = embedded.state_dir / "server.log"
    eventually(lambda: f"failed on event {request_id} 3 times: given up" in log.read_text())
    assert starts() == [request_id] * 3


def test_changed_code_and_settings_hold_for_the_next_call(embedded: Any) -> None:
    function = Function(embedded, "import os\ndef handler(event, context):\n    return os.environ.get('A', 'old')\n")
    assert function.invoke({})[0] == "old"
    function.client.update_function_configuration(FunctionName=function.name, Environment={"Variables": {"A": "new"}})
    function.client.get_waiter("function_updated_v2").wait(FunctionName=function.name)
    assert function.invoke({})[0] == "new"
    changed = package("def handler(event, context):\n    return 'other code'\n")
    function.client.update_function_code(FunctionName=function.name, ZipFile=changed)
    function.client.get_waiter("function_updated_v2").wait(FunctionName=function.name)
    assert function.invoke({})[0] == "other code"


@pytest.mark.parametrize("runtime", ["nodejs22.x", "java21", "provided.al2023"])
def test_what_cannot_run_here_is_refused_by_name(embedded: Any, runtime: str) -> None:
    role = embedded.make_role([], service="lambda.amazonaws.com")
    settings = function_settings(f"lambda-{uuid.uuid4().hex[:8]}", role, SOURCE)
    embedded.client("lambda").create_function(**{**settings, "Runtime": runtime, "Handler": "index.handler"})
    done = embedded.client("lambda").invoke(FunctionName=settings["FunctionName"])
    answer = json.loads(done["Payload"].read())
    assert done["FunctionError"] == "Unhandled"
    assert (answer["errorType"], runtime in answer["errorMessage"]) == ("NotImplemented", True)


def test_a_variable_of_a_function_sends_its_events_nowhere_else(embedded: Any) -> None:
    from ministack.services import lambda_svc  # the name of the variable with which ministack forwards events

    variables = {"Environment": {"Variables": {lambda_svc._PROXY_ENV_VAR: "http://127.0.0.1:9/"}}}
    function = Function(embedded, "def handler(event, context):\n    return 'here'\n", **variables)
    assert function.invoke({}) == ("here", None)


def test_a_package_that_is_not_a_zip_is_refused(embedded: Any) -> None:
    role = embedded.make_role([], service="lambda.amazonaws.com")
    settings = {**function_settings(f"lambda-{uuid.uuid4().hex[:8]}", role, SOURCE), "Code": {"ZipFile": b"not a zip"}}
    assert refused(lambda: embedded.client("lambda").create_function(**settings))[0] == "InvalidParameterValueException"


def test_whoever_names_a_package_in_s3_must_be_allowed_to_read_it(embedded: Any) -> None:
    role, bucket, name = (embedded.make_role([], service="lambda.amazonaws.com"), *(f"s3-{uuid.uuid4().hex[:8]}",) * 2)
    embedded.client("s3").create_bucket(Bucket=bucket)
    embedded.client("s3").put_object(Bucket=bucket, Key="code.zip", Body=package(SOURCE))
    place = {"S3Bucket": bucket, "S3Key": "code.zip"}
    settings = {**function_settings(name, role, SOURCE), "Code": place}
    most = [allow("lambda:*"), allow("iam:PassRole", role)]
    some = embedded.client("lambda", embedded.variables_of(most))
    reading = allow("s3:GetObject", f"arn:aws:s3:::{bucket}/code.zip")
    every = embedded.client("lambda", embedded.variables_of([*most, reading]))

    def update(client: Any) -> Any:
        return client.update_function_code(FunctionName=name, **place)

    for call in (lambda: some.create_function(**settings), lambda: every.create_function(**settings) and update(some)):
        code, message = refused(call)
        assert code == "AccessDeniedException"
        assert f"s3:GetObject on resource: arn:aws:s3:::{bucket}/code.zip" in message
    assert update(every)["FunctionName"] == name
