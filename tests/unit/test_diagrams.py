"""The picture of a state machine, and of an execution."""

from itertools import pairwise

from helpers import diagrams, pipeline
from helpers.diagrams import Look

DEFINITION = {
    "StartAt": "work",
    "States": {
        "work": {
            "Type": "Task",
            "Next": "good",
            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "failed"}],
        },
        "good": {"Type": "Choice", "Choices": [{"Next": "all"}], "Default": "failed"},
        "all": {"Type": "Map", "Next": "finished"},
        "finished": {"Type": "Succeed"},
        "failed": {"Type": "Fail"},
    },
}


def drawn(definition=DEFINITION, looks=None):
    return [line.strip() for line in diagrams.mermaid(definition, looks).splitlines()]


def test_every_state_is_drawn_and_every_transition():
    lines = drawn()
    assert "flowchart LR" in lines
    for line in (
        "_start((start)) --> work",
        "work --> good",
        "work -.->|error| failed",
        "good --> all",
        "good -->|otherwise| failed",
        "finished --> _end((done))",
        "good{{good}}",
        "all[[all]]",
    ):
        assert line in lines, line


def test_the_pipeline_is_drawn_from_preprocess_to_evaluate():
    definition = pipeline.state_machine(job_role_arn="arn:aws:iam::123456789012:role/x", tags={})
    picture = diagrams.mermaid(definition)
    for one, other in pairwise(pipeline.STEPS):
        assert f"{one} --> {other}" in picture
    assert picture.count("|error| failed") == len(pipeline.STEPS)


def test_names_that_mermaid_would_not_understand_are_labels_alone():
    states = {"end": {"Type": "Pass", "Next": 'a "b" (c)'}, 'a "b" (c)': {"Type": "Pass", "End": True}}
    lines = drawn({"StartAt": "end", "States": states})
    assert lines[2:] == [
        "_start((start)) --> _0",
        "_0[end]",
        "_0 --> _1",
        '_1["a #quot;b#quot; (c)"]',
        "_1 --> _end((done))",
    ]


def test_states_of_an_execution_have_a_mark_a_note_and_a_colour():
    lines = drawn(looks={"work": Look("SUCCEEDED"), "good": Look("SUCCEEDED"), "all": Look("RUNNING", "2 of 5")})
    assert 'work["✔ work"]' in lines
    assert 'all[["▶ all<br/>2 of 5"]]' in lines
    assert "class work,good succeeded" in lines
    assert "class all running" in lines
    assert "class finished,failed waiting" in lines
    assert any(line.startswith("classDef running fill:") for line in lines)


def test_what_a_choice_has_left_behind_is_not_drawn():
    definition = {
        "StartAt": "which",
        "States": {
            "which": {"Type": "Choice", "Choices": [{"Next": "left"}], "Default": "right"},
            "left": {"Type": "Pass", "End": True},
            "right": {"Type": "Pass", "End": True},
        },
    }
    before = "\n".join(drawn(definition, {"which": Look("RUNNING")}))
    after = "\n".join(drawn(definition, {"which": Look("SUCCEEDED"), "left": Look("RUNNING")}))
    assert "right" in before
    assert "right" not in after


def test_what_a_loop_may_still_come_to_is_drawn():
    definition = {
        "StartAt": "there?",
        "States": {
            "there?": {"Type": "Choice", "Choices": [{"Next": "finished"}], "Default": "pause"},
            "pause": {"Type": "Wait", "Next": "there?"},
            "finished": {"Type": "Succeed"},
        },
    }
    assert "finished([finished])" in drawn(definition, {"there?": Look("SUCCEEDED"), "pause": Look("RUNNING")})


def test_jupyter_gets_a_mermaid_block():
    text = diagrams.draw(DEFINITION).data
    assert text.startswith("```mermaid\n")
    assert text.endswith("\n```")


def test_a_name_ends_neither_its_label_nor_the_picture():
    name = 'a"]\n```\n<img src=x onerror=alert(1)> #1 `b`'
    picture = diagrams.draw({"StartAt": name, "States": {name: {"Type": "Succeed"}}}).data
    assert picture.count("```") == 2
    assert '_0(["a#quot;] #96;#96;#96; #60;img src=x onerror=alert(1)> #35;1 #96;b#96;"])' in picture
