"""The template of notebook 07 and its state machine, against independent validators and what they must always do."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ec2_worker import ACCOUNT, FOLDER, definition, template
from statelint.linter import Linter

from helpers.local_aws.states.definition import problems

EVENTS_OF_A_LOOK = 9  # a Wait and a Choice have 2 each, a Task has 5
RESOURCES = template()["Resources"]
FUNCTIONS = ["Finish", "Launch", "Poll", "Reap", "Register"]


def test_an_independent_validator_finds_nothing_in_the_template() -> None:
    command = [str(Path(sys.executable).with_name("cfn-lint")), str(FOLDER / "template.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_independent_validator_finds_nothing_in_the_state_machine() -> None:
    assert Linter.validate(definition()) == []


def test_the_embedded_aws_finds_nothing_in_the_state_machine() -> None:
    assert problems(json.dumps(definition())) == []


def test_every_placeholder_of_the_definition_is_filled_in() -> None:
    machine = RESOURCES["Machine"]["Properties"]
    used = set(re.findall(r"\$\{(\w+)\}", json.dumps(machine["Definition"])))
    assert used == set(machine["DefinitionSubstitutions"])


@pytest.mark.parametrize("name", ["launch", "poll"])
def test_every_error_of_a_step_goes_through_finish(name: str) -> None:
    catch = {"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "finish"}
    assert definition()["States"][name]["Catch"] == [catch]


def test_no_way_ends_the_machine_without_finish() -> None:
    states = {name: state for name, state in definition()["States"].items() if name != "finish"}
    seen, ahead = set(), ["launch"]
    while ahead:
        name = ahead.pop()
        if name in seen or name not in states:
            continue
        seen.add(name)
        state = states[name]
        ahead += [state[key] for key in ("Next", "Default") if key in state]
        ahead += [choice["Next"] for choice in [*state.get("Choices", ()), *state.get("Catch", ())]]
    assert seen == {"launch", "wait", "poll", "is it final"}


def test_the_longest_wait_stays_below_the_limit_of_a_history() -> None:
    parameters = template()["Parameters"]
    looks = parameters["LimitSeconds"]["MaxValue"] / parameters["PollSeconds"]["MinValue"]
    assert looks * EVENTS_OF_A_LOOK < 25_000 * 0.8
    assert definition()["TimeoutSeconds"] > parameters["LimitSeconds"]["MaxValue"]


def test_every_function_has_a_role_and_a_log_group_of_its_own() -> None:
    made = {name: one["Properties"] for name, one in RESOURCES.items() if one["Type"] == "AWS::Lambda::Function"}
    assert sorted(made) == FUNCTIONS
    for name, properties in made.items():
        assert properties["Role"] == {"Fn::GetAtt": [f"{name}Role", "Arn"]}
        assert properties["LoggingConfig"] == {"LogGroup": {"Ref": f"{name}Logs"}}
        assert properties["Runtime"] == "python3.13"
        assert RESOURCES[f"{name}Logs"]["Properties"]["RetentionInDays"] == 7
        module, _, handler = properties["Handler"].partition(".")
        assert f"def {handler}(" in (FOLDER / f"{module}.py").read_text()


def statements() -> list[tuple[str, dict]]:
    return [
        (name, statement)
        for name, one in RESOURCES.items()
        if one["Type"] == "AWS::IAM::Role"
        for policy in one["Properties"]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
    ]


def test_no_role_may_do_everything() -> None:
    for name, statement in statements():
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not [action for action in actions if "*" in action], name
        if statement["Resource"] == "*":
            assert actions == ["ec2:DescribeInstances"], name


def test_instances_are_read_ended_and_tagged_by_their_tag_only() -> None:
    conditions = {
        (name, action): statement.get("Condition")
        for name, statement in statements()
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
        if action in ("ec2:TerminateInstances", "ec2:GetConsoleOutput", "ec2:CreateTags")
    }
    own = {"StringEquals": {"aws:ResourceTag/stack": {"Ref": "AWS::StackName"}}}
    assert conditions == {
        ("LaunchRole", "ec2:CreateTags"): {"StringEquals": {"ec2:CreateAction": "RunInstances"}},
        ("FinishRole", "ec2:TerminateInstances"): own,
        ("FinishRole", "ec2:GetConsoleOutput"): own,
        ("ReapRole", "ec2:TerminateInstances"): own,
    }


def test_the_docstring_of_each_function_names_its_actions() -> None:
    for name in FUNCTIONS:
        text = (FOLDER / f"{name.lower()}.py").read_text().partition('"""\n\nimport')[0]
        for role, statement in statements():
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            if role == f"{name}Role" and not actions[0].startswith("logs:"):
                missing = [action for action in actions if action.partition(":")[2] not in text]
                assert not missing, name


def test_every_variable_that_a_function_reads_is_set() -> None:
    for name in FUNCTIONS:
        text = (FOLDER / f"{name.lower()}.py").read_text()
        listed = re.search(r"Environment: (.+?)\.\n", text, re.S)
        assert listed, name
        words = set(re.findall(r"\b[A-Z_]{4,}\b", listed[1]))
        assert words == set(RESOURCES[name]["Properties"]["Environment"]["Variables"]), name


def test_the_names_of_functions_in_the_definition_are_arns() -> None:
    found = [state["Parameters"]["FunctionName"] for state in definition()["States"].values() if "Parameters" in state]
    assert found == [f"arn:aws:lambda:{ACCOUNT}:function:{name}" for name in ("Launch", "Poll", "Finish")]
