"""The picture of a state machine."""

from itertools import pairwise

from helpers import diagrams, pipeline

DEFINITION = {
    "StartAt": "work",
    "States": {
        "work": {
            "Type": "Task",
            "Next": "good",
            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "failed"}],
        },
        "good": {"Type": "Choice", "Choices": [{"Next": "done"}], "Default": "failed"},
        "done": {"Type": "Succeed"},
        "failed": {"Type": "Fail"},
    },
}


def test_every_state_is_drawn_and_every_transition():
    lines = [line.strip() for line in diagrams.mermaid(DEFINITION).splitlines()]
    assert lines[0].startswith("flowchart")
    assert any(line.endswith("--> work") and "start" in line for line in lines)
    for transition in ("work --> good", "work -.->|error| failed", "good --> done", "good -->|otherwise| failed"):
        assert transition in lines, transition


def test_the_pipeline_is_drawn_from_preprocess_to_evaluate():
    definition = pipeline.state_machine(job_role_arn="arn:aws:iam::123456789012:role/x", tags={})
    picture = diagrams.mermaid(definition)
    for one, other in pairwise(pipeline.STEPS):
        assert f"{one} --> {other}" in picture
    assert picture.count("|error| failed") == len(pipeline.STEPS)


def test_jupyter_gets_a_mermaid_block():
    assert diagrams.draw(DEFINITION).data.startswith("```mermaid\nflowchart")
