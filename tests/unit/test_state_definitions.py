"""A state machine definition that AWS refuses is refused here, with the place and the reason."""

import json
from typing import Any

import pytest
from statelint.linter import Linter

from helpers.local_aws.states.definition import is_intrinsic, is_path, problems
from helpers.local_aws.states.tasks import task_resources

LAMBDA = "arn:aws:lambda:us-east-1:123456789012:function:f"
PROCESSING = "arn:aws:states:::sagemaker:createProcessingJob.sync"
DONE = {"Type": "Succeed"}


def machine(**states: Any) -> dict[str, Any]:
    return {"StartAt": next(iter(states)), "States": states}


def task(**fields: Any) -> dict[str, Any]:
    return {"Type": "Task", "Resource": LAMBDA, "End": True} | fields


def choice(rule: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return machine(C={"Type": "Choice", "Choices": [rule], "Default": "D"} | fields, D=DONE)


STEP = {
    "Type": "Task",
    "Resource": PROCESSING,
    "TimeoutSeconds": 3600,
    "HeartbeatSeconds": 60,
    "Parameters": {
        "ProcessingJobName.$": "States.Format('{}-preprocess-{}', $$.Execution.Name, $$.State.RetryCount)",
        "AppSpecification": {
            "ImageUri.$": "$$.Execution.Input['preprocess']['ImageUri']",
            "ContainerArguments.$": "$$.Execution.Input['preprocess']['args']",
        },
        "RoleArn": "arn:aws:iam::123456789012:role/job",
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.t3.medium", "VolumeSizeInGB": 1}
        },
        "ProcessingInputs": [
            {
                "InputName": "code",
                "S3Input": {
                    "S3Uri.$": "States.Format('{}it\\'s', $$.Execution.Input['preprocess']['code'])",
                    "LocalPath": "/opt/ml/processing/input/code",
                },
            }
        ],
    },
    "ResultPath": "$.job",
    "Retry": [{"ErrorEquals": ["SageMaker.AmazonSageMakerException"], "BackoffRate": 2.0, "MaxAttempts": 3}],
    "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Failed"}],
    "Next": "Done",
}
VALID = {
    "pipeline step": machine(Step=STEP, Done=DONE, Failed={"Type": "Fail", "ErrorPath": "$.error.Error"}),
    "waits": machine(
        W={"Type": "Wait", "Seconds": 1, "Next": "V"}, V={"Type": "Wait", "TimestampPath": "$.t", "End": True}
    ),
    "choice": choice(
        {
            "And": [{"Variable": "$.n", "NumericGreaterThan": 1}, {"Not": {"Variable": "$.s", "IsNull": True}}],
            "Next": "D",
        }
    ),
    "parallel": machine(P={"Type": "Parallel", "Branches": [machine(A=task()), machine(B=task())], "End": True}),
    "map": machine(
        M={"Type": "Map", "ItemsPath": "$.items", "MaxConcurrency": 2, "ItemProcessor": machine(I=task()), "End": True}
    ),
    "activity": machine(A=task(Resource="arn:aws:states:us-east-1:123456789012:activity:work")),
    "sdk call": machine(A=task(Resource="arn:aws:states:::aws-sdk:s3:putObject")),
    "token": machine(A=task(Resource="arn:aws:states:::sqs:sendMessage.waitForTaskToken")),
    "jsonata": {
        "QueryLanguage": "JSONata",
        **machine(A=task(Arguments={"n": "{% $states.input.n %}"}, Output="{% $states.result %}", Assign={"a": 1})),
    },
}
# Each: a definition, its problems with short codes, and whether the independent validator sees something too.
GO_TO_Z = {"Type": "Pass", "Next": "Z"}
CODES = {"SCHEMA": "SCHEMA_VALIDATION_FAILED", "TARGET": "MISSING_TRANSITION_TARGET"}
INVALID: dict[str, tuple[dict[str, Any], list[str], bool]] = {
    "no states": ({"StartAt": "A"}, ["SCHEMA: These fields are required: [States] at /"], True),
    "no start": ({"States": {"A": DONE}}, ["SCHEMA: These fields are required: [StartAt] at /"], True),
    "unknown start": (
        {"StartAt": "B", "States": {"A": DONE}},
        [
            "TARGET: Missing 'Next' target: B at /StartAt",
            'TARGET: State "A" is not reachable. at /States/A',
        ],
        True,
    ),
    "unknown type": (
        machine(A={"Type": "Tusk", "End": True}),
        [
            "SCHEMA: The field 'Type' should have one of these values: "
            "[Task, Wait, Pass, Succeed, Fail, Choice, Parallel, Map] at /States/A/Type"
        ],
        True,
    ),
    "neither Next nor End": (
        machine(A={"Type": "Pass", "Next": "B"}, B=DONE, C={"Type": "Pass"}),
        [
            "SCHEMA: This object should have only one of the following fields: [Next, End] at /States/C",
            'TARGET: State "C" is not reachable. at /States/C',
        ],
        True,
    ),
    "both Next and End": (
        machine(A=task(Next="B"), B=DONE),
        ["SCHEMA: There should only be one of the following fields: [Next, End] at /States/A"],
        True,
    ),
    "unknown Next": (
        machine(A={"Type": "Pass", "Next": "nowhere"}, B=DONE),
        [
            "TARGET: Missing 'Next' target: nowhere at /States/A/Next",
            'TARGET: State "B" is not reachable. at /States/B',
        ],
        True,
    ),
    "unknown Default": (
        choice({"Variable": "$.a", "IsNull": True, "Next": "D"}, Default="E"),
        ["TARGET: Missing 'Next' target: E at /States/C/Default"],
        True,
    ),
    "unknown Next of a rule": (
        choice({"Variable": "$.a", "IsNull": True, "Next": "E"}),
        ["TARGET: Missing 'Next' target: E at /States/C/Choices[0]/Next"],
        True,
    ),
    "unknown Next of a catcher": (
        machine(A=task(Catch=[{"ErrorEquals": ["States.ALL"], "Next": "E"}])),
        ["TARGET: Missing 'Next' target: E at /States/A/Catch[0]/Next"],
        True,
    ),
    "a branch leads out": (
        machine(P={"Type": "Parallel", "Branches": [machine(A=task(), B=GO_TO_Z)], "Next": "Z"}, Z=DONE),
        [
            "TARGET: Missing 'Next' target: Z at /States/P/Branches[0]/States/B/Next",
            'TARGET: State "B" is not reachable. at /States/P/Branches[0]/States/B',
        ],
        True,
    ),
    "no end": (
        machine(A={"Type": "Pass", "Next": "B"}, B={"Type": "Pass", "Next": "A"}),
        ["MISSING_END_STATE: Workflow has no terminal state at null"],
        True,
    ),
    "choice without rules": (
        choice({}, Choices=[]),
        ["SCHEMA: Value cannot be empty at /States/C/Choices"],
        True,
    ),
    "two comparisons": (
        choice({"Variable": "$.a", "IsNull": True, "IsString": True, "Next": "D"}),
        ["SCHEMA: A rule with Variable, and no other, should have only one comparison at /States/C/Choices[0]"],
        True,
    ),
    "nested Next": (
        choice({"Not": {"Variable": "$.a", "IsNull": True, "Next": "D"}, "Next": "D"}),
        ["SCHEMA: Field 'Next' is not supported at /States/C/Choices[0]/Not"],
        True,
    ),
    "wait for nothing": (
        machine(W={"Type": "Wait", "End": True}),
        [
            "SCHEMA: This object should have only one of the following fields: "
            "[SecondsPath, Seconds, TimestampPath, Timestamp] at /States/W"
        ],
        True,
    ),
    "wait for two": (
        machine(W={"Type": "Wait", "Seconds": 1, "SecondsPath": "$.s", "End": True}),
        [
            "SCHEMA: There should only be one of the following fields: "
            "[SecondsPath, Seconds, TimestampPath, Timestamp] at /States/W"
        ],
        True,
    ),
    "succeed and go on": (
        machine(S={"Type": "Succeed", "Next": "T"}, T=DONE),
        ["SCHEMA: Field 'Next' is not supported at /States/S"],
        True,
    ),
    "unknown field": (
        machine(A=task(Timeout=3)),
        ["SCHEMA: Field 'Timeout' is not supported at /States/A"],
        True,
    ),
    "unknown field on top": (
        {"Name": "x", **machine(A=DONE)},
        ["SCHEMA: Field 'Name' is not supported at /"],
        True,
    ),
    "timeout on a map": (
        machine(M={"Type": "Map", "ItemProcessor": machine(I=DONE), "TimeoutSeconds": 3, "End": True}),
        ["SCHEMA: Field 'TimeoutSeconds' is not supported at /States/M"],
        False,
    ),
    "task without resource": (
        machine(A={"Type": "Task", "End": True}),
        ["SCHEMA: These fields are required: [Resource] at /States/A"],
        False,
    ),
    "malformed resource": (
        machine(A=task(Resource="my-function")),
        ["SCHEMA: Value is not a valid resource ARN at /States/A/Resource"],
        True,
    ),
    "retry without errors": (
        machine(A=task(Retry=[{"ErrorEquals": []}])),
        ["SCHEMA: Value cannot be empty at /States/A/Retry[0]/ErrorEquals"],
        True,
    ),
    "catcher without next": (
        machine(A=task(Catch=[{"ErrorEquals": ["E"]}])),
        ["SCHEMA: These fields are required: [Next] at /States/A/Catch[0]"],
        True,
    ),
    "States.ALL in company": (
        machine(A=task(Retry=[{"ErrorEquals": ["States.ALL", "E"]}])),
        ["SCHEMA: States.ALL must appear alone and at end of list at /States/A/Retry[0]/ErrorEquals"],
        False,
    ),
    "States.ALL first": (
        machine(
            A=task(Catch=[{"ErrorEquals": ["States.ALL"], "Next": "B"}, {"ErrorEquals": ["E"], "Next": "B"}]), B=DONE
        ),
        ["SCHEMA: States.ALL must appear alone and at end of list at /States/A/Catch[0]/ErrorEquals"],
        True,
    ),
    "no time at all": (
        machine(A=task(TimeoutSeconds=0)),
        ["SCHEMA: Expected value of type Integer, 1 or greater at /States/A/TimeoutSeconds"],
        True,
    ),
    "heartbeat longer than timeout": (
        machine(A=task(TimeoutSeconds=5, HeartbeatSeconds=5)),
        ["SCHEMA: HeartbeatSeconds must be smaller than TimeoutSeconds at /States/A/HeartbeatSeconds"],
        False,
    ),
    "long name": (
        machine(**{"n" * 81: DONE}),
        [f"INVALID_STATE_NAME: A state's name has 1 to 80 characters at /States/{'n' * 81}"],
        False,
    ),
    "name used twice": (
        machine(A={"Type": "Parallel", "Branches": [machine(A=DONE)], "End": True}),
        ["DUPLICATE_STATE_NAME: Duplicate State name: A at /States/A/Branches[0]/States/A"],
        True,
    ),
    "a path that is none": (
        machine(A=task(Parameters={"deep": [{"key.$": "value"}]})),
        [
            "SCHEMA: The value for the field 'key.$' must be a valid JSONPath or a valid intrinsic "
            "function call at /States/A/Parameters/deep[0]"
        ],
        True,
    ),
    "unknown intrinsic": (
        machine(A=task(Parameters={"key.$": "States.Shout($.a)"})),
        [
            "SCHEMA: The value for the field 'key.$' must be a valid JSONPath or a valid intrinsic "
            "function call at /States/A/Parameters"
        ],
        True,
    ),
    "jsonata without saying so": (
        machine(A=task(Arguments={})),
        [
            "SCHEMA: The QueryLanguage is set to 'JSONPath', but field 'Arguments' is only supported "
            "for the 'JSONata' QueryLanguage at /States/A"
        ],
        True,
    ),
}


@pytest.mark.parametrize("definition", VALID.values(), ids=VALID)
def test_a_valid_definition_passes_here_and_in_the_independent_validator(definition: dict[str, Any]) -> None:
    assert problems(json.dumps(definition)) == []
    assert Linter.validate(definition) == []


@pytest.mark.parametrize(("definition", "expected", "independent"), INVALID.values(), ids=INVALID)
def test_an_invalid_definition_is_refused_with_place_and_reason(
    definition: dict[str, Any], expected: list[str], independent: bool
) -> None:
    words = [problem.partition(":") for problem in expected]
    assert problems(json.dumps(definition)) == [f"{CODES.get(code, code)}:{text}" for code, _, text in words]
    assert bool(Linter.validate(definition)) == independent


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"'])
def test_what_is_not_a_json_object_is_refused(text: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith("INVALID_JSON_DESCRIPTION: ")


@pytest.mark.parametrize("text", ["$" + "..*" * 40 + "(", "$" + "[?(a)]" * 40 + "(", "$" + "[0]" * 5000 + "("])
def test_what_is_nearly_a_path_is_refused_at_once(text: str) -> None:
    assert not is_path(text)  # tried in every way, it would outlive us


def test_nesting_without_end_is_refused() -> None:
    assert problems("[" * 100_000) == ["TOO_DEEPLY_NESTED: The states are too deeply nested."]


@pytest.mark.parametrize("states", [[], {"A": 1}, {"A": {"Type": []}}, {"A": {"Type": "Choice", "Choices": 3}}, {}])
def test_values_of_a_wrong_type_are_problems_not_crashes(states: object) -> None:
    assert problems(json.dumps({"StartAt": "A", "States": states}))


def test_jsonata_may_stand_where_a_number_is_expected() -> None:
    definition = {"QueryLanguage": "JSONata", **machine(A=task(TimeoutSeconds="{% $states.input.seconds %}"))}
    assert problems(json.dumps(definition)) == []


def test_a_definition_over_the_size_limit_is_refused() -> None:
    text = json.dumps(machine(A=DONE))
    assert problems(text + " " * (1_048_576 - len(text))) == []
    assert problems(text + " " * 1_048_576) != []


@pytest.mark.parametrize(
    "path",
    ["$", "$$", "$.a.b", "$.a[0].b", "$['a b']['c']", "$$.Execution.Input['train']['args']", "$..x", "$.a[*]",
     "$.a[1:3]", "$.a[?(@.n > 1)]", "$variable.field", "$.a-b_c"],
)  # fmt: skip
def test_paths_of_every_form_are_taken(path: str) -> None:
    assert is_path(path)
    assert is_intrinsic(f"States.Format('{{}}', {path})")


@pytest.mark.parametrize("text", ["", "a.b", "$.", "$.a b", "$[a]", "$['a'", "States.UUID()", "$.a)"])
def test_what_only_looks_like_a_path_is_not(text: str) -> None:
    assert not is_path(text)


@pytest.mark.parametrize(
    ("call", "valid"),
    [
        ("States.UUID()", True),
        ("States.Array()", True),
        ("States.Format('a \\'quoted\\' {}, {}', $.a , States.JsonToString($$.Execution['x']))", True),
        ("States.ArrayGetItem(States.StringSplit($.key, '/'), -1)", True),
        ("States.UUID(1)", False),
        ("States.Format()", False),
        ("States.Format('{}', $.a", False),
        ("States.Format('{}' $.a)", False),
        ("States.Format('{}', a)", False),
        ("States.MathAdd($.a, 1) ", False),
    ],
)
def test_intrinsic_functions_are_read_with_their_arguments(call: str, valid: bool) -> None:
    assert is_intrinsic(call) == valid


def test_resources_of_nested_tasks_are_found() -> None:
    inner = machine(B=task(Resource=PROCESSING))
    definition = machine(A=task(Next="P", End=False), P={"Type": "Parallel", "Branches": [inner], "End": True})
    assert task_resources(json.dumps(definition)) == {LAMBDA, PROCESSING}
