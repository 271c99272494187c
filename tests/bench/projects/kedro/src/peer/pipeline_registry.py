"""The four steps, and the same with eight variants of the last three."""

import functools
from pathlib import Path

import in_process
from kedro.pipeline import Pipeline, node, pipeline

PROJECT = Path(__file__).parents[2]
VARIANTS = 8
INPUTS = {"train": ["preprocess"], "predict": ["preprocess", "train"], "evaluate": ["preprocess", "train", "predict"]}


def run(root: str, step: str, arguments: list[str], *_: str) -> str:
    """Run a step's script in this process; return the folder of its files."""
    in_process.run(PROJECT / "code", step, PROJECT / "work" / root / step, arguments)
    return f"{root}/{step}"


def step_node(root: str, step: str) -> object:
    """Return the node of a step; a variant reads the features of the only preprocess."""
    sources = [f"files_{'single' if source == 'preprocess' else root}_{source}" for source in INPUTS.get(step, [])]
    return node(
        functools.partial(run, root, step),
        inputs=[f"params:{root}.{step}", *sources],
        outputs=f"files_{root}_{step}",
        name=step if root == "single" else f"{step}_{root}",
    )


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by name."""
    first = step_node("single", "preprocess")
    single = pipeline([first, *(step_node("single", step) for step in INPUTS)])
    sweep = pipeline([first, *(step_node(str(number), step) for number in range(VARIANTS) for step in INPUTS)])
    return {"__default__": single, "sweep": sweep}
