"""Pictures that JupyterLab and GitHub draw by themselves: Mermaid in a Markdown output."""

from collections.abc import Iterator, Mapping
from typing import Any

from IPython.display import Markdown


def draw(definition: Mapping[str, Any]) -> Markdown:
    """Draw a state machine: its states, and the transitions between them.

    ``definition``: in the Amazon States Language. Error transitions (Catch) are dashed.
    """
    return Markdown(f"```mermaid\n{mermaid(definition)}\n```")


def mermaid(definition: Mapping[str, Any]) -> str:
    """Return a state machine as a Mermaid flow chart."""
    lines = ["flowchart LR", f"  start((start)) --> {definition['StartAt']}"]
    for name, state in definition["States"].items():
        lines.append(f"  {name}{_shape(name, state)}")
        lines += [f"  {name} {arrow} {target}" for arrow, target in _transitions(state)]
    return "\n".join(lines)


def _shape(name: str, state: Mapping[str, Any]) -> str:
    return {"Choice": f"{{{name}}}", "Fail": f"[/{name}/]", "Succeed": f"([{name}])"}.get(state["Type"], f"[{name}]")


def _transitions(state: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "Next" in state:
        yield "-->", state["Next"]
    if state.get("End") or state["Type"] == "Succeed":
        yield "-->", "done((done))"
    for choice in state.get("Choices", ()):
        yield "-->", choice["Next"]
    if "Default" in state:
        yield "-->|otherwise|", state["Default"]
    for catcher in state.get("Catch", ()):
        yield "-.->|error|", catcher["Next"]
