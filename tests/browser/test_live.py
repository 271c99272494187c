"""In JupyterLab an execution is seen to run, in colours that change, and plots are pictures.

A small notebook, run as by hand in a browser, on an embedded AWS, with just the rights that watching needs.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nbformat
import pytest
from embedded_aws import Embedded
from jupyter_lab import MILLISECONDS, jupyterlab

from helpers import diagrams, notebooks
from helpers.local_aws.control import ACCOUNT_ID

REGION, MACHINE = "us-east-1", "demo-exp-live"
BUCKET = f"demo-exp-project1-{ACCOUNT_ID}"
ARN = f"arn:aws:states:{REGION}:{ACCOUNT_ID}:execution:{MACHINE}:run"
RIGHTS = [
    {
        "Effect": "Allow",
        "Action": [
            "states:DescribeExecution", "states:GetExecutionHistory", "states:DescribeStateMachineForExecution",
        ],
        "Resource": [ARN],
    },
    {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": [f"arn:aws:s3:::{BUCKET}/*"]},
]  # fmt: skip
CELLS = (
    "import boto3, pandas as pd\nfrom helpers import executions, plots",
    f'execution = executions.follow(boto3.client("stepfunctions"), "{ARN}")\nexecution.status',
    'rows = pd.DataFrame({"experiment": "first", "changed": ["", "train --C: 10"], "train --C": [1, 10],\n'
    '                     "roc_auc": [0.8, 0.9], "predictions": ["1.csv", "2.csv"]})\n'
    f'plots.roc(boto3.client("s3"), "{BUCKET}", rows)',
    'plots.metric_by(rows, "train --C")',
)
# A Map of three items, the last of which ends as a failed one, between two states. Each lasts until the test ends it.
WORK = {"Type": "Task", "Resource": f"arn:aws:states:{REGION}:{ACCOUNT_ID}:activity:{MACHINE}"}
ITEM = {
    "job": {**WORK, "ResultPath": None, "Next": "which?"},
    "which?": {
        "Type": "Choice",
        "Choices": [{"Variable": "$", "NumericEquals": 2, "Next": "train: failed"}],
        "Default": "train: done",
    },
    "train: done": {"Type": "Pass", "End": True},
    "train: failed": {"Type": "Pass", "End": True},
}
DEFINITION = {
    "StartAt": "prepare",
    "States": {
        "prepare": {**WORK, "ResultPath": None, "Next": "train"},
        "train": {
            "Type": "Map",
            "ItemsPath": "$.steps.train",
            "MaxConcurrency": 1,
            "ResultPath": None,
            "ItemProcessor": {"ProcessorConfig": {"Mode": "INLINE"}, "StartAt": "job", "States": ITEM},
            "Next": "record",
        },
        "record": {**WORK, "End": True},
    },
}
# Notes at each change of the picture its source, and what the cell shows besides; "" while there is no picture.
WATCH = """() => {
  window.seen = []
  const cell = document.querySelectorAll(".jp-Notebook .jp-CodeCell")[1]
  const note = () => {
    const picture = cell.querySelector(".jp-RenderedMermaid img")
    const now = [picture ? picture.src : "", cell.querySelector(".jp-OutputArea").innerText]
    const last = window.seen.at(-1)
    if (!last || last[0] != now[0] || last[1] != now[1]) window.seen.push(now)
  }
  new MutationObserver(note).observe(cell, {subtree: true, childList: true, attributes: true, characterData: true})
}"""


@pytest.fixture
def aws(embedded: Embedded) -> Iterator[Embedded]:
    """Make the state machine, and predictions in the bucket, with an administrator's rights."""
    role = embedded.make_role([], service="states.amazonaws.com")
    states, s3 = embedded.client("stepfunctions"), embedded.client("s3")
    states.create_activity(name=MACHINE)
    machine = states.create_state_machine(name=MACHINE, definition=json.dumps(DEFINITION), roleArn=role)
    s3.create_bucket(Bucket=BUCKET)
    for number in (1, 2):
        rows = [f"{row % 2},{row % 3 % 2},{(row * number) % 7 / 7}" for row in range(100)]
        s3.put_object(
            Bucket=BUCKET, Key=f"{number}.csv", Body="\n".join(["label,prediction,probability", *rows]).encode()
        )
    yield embedded
    states.delete_state_machine(stateMachineArn=machine["stateMachineArn"])


@pytest.fixture
def page(aws: Embedded, browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Open the notebook in JupyterLab."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    (tmp_path / "files").mkdir()
    nbformat.write(notebook, tmp_path / "files" / "live.ipynb")
    environment = aws.environment() | aws.variables_of(RIGHTS) | {"PYTHONPATH": str(notebooks.PROJECT)}
    with jupyterlab(tmp_path, tmp_path / "files", environment) as url:
        page = browser.new_page(viewport={"width": 1400, "height": 2400})
        page.set_default_timeout(MILLISECONDS)
        page.goto(url.format("live"), wait_until="load")
        page.get_by_text("(ipykernel) | Idle").wait_for()  # in the status bar: the kernel is there
        yield page
        page.close()


def begin(page: Any, number: int) -> None:
    """Let a cell run, counted from 1."""
    page.locator(".jp-Notebook .jp-CodeCell .cm-content").nth(number - 1).click()
    page.keyboard.press("Control+Enter")


def end(page: Any, number: int) -> None:
    """Wait until a cell has ended: its prompt has a number then, no star."""
    page.wait_for_function(
        "n => /\\d/.test(document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')[n - 1].innerText)",
        arg=number,
    )


def until_seen(page: Any, what: Callable[[str, str], bool]) -> None:
    """Wait until a picture and what was shown besides have been as wanted."""
    deadline = time.monotonic() + MILLISECONDS / 1000
    while not any(source and what(source, text) for source, text in page.evaluate("window.seen")):
        assert time.monotonic() < deadline, page.evaluate("window.seen.at(-1)")
        page.wait_for_timeout(50)


def colors(source: str) -> set[str]:
    """Return the statuses whose colours are in a picture."""
    fill = {status: re.search("fill:(#[0-9a-f]+)", style)[1] for status, (_, style) in diagrams.STYLES.items()}
    return {status for status, color in fill.items() if color in unquote(source).lower()}


def test_an_execution_is_seen_to_run_and_plots_are_pictures(aws: Embedded, page: Any) -> None:
    states = aws.client("stepfunctions")

    def go_on() -> None:
        """End the state that runs."""
        task = states.get_activity_task(activityArn=WORK["Resource"])
        states.send_task_success(taskToken=task["taskToken"], output="{}")

    begin(page, 1)
    end(page, 1)
    page.evaluate(WATCH)
    machine = ARN.replace(":execution:", ":stateMachine:").rpartition(":")[0]
    states.start_execution(stateMachineArn=machine, name="run", input=json.dumps({"steps": {"train": [0, 1, 2]}}))
    begin(page, 2)
    until_seen(page, lambda source, text: colors(source) == {"RUNNING"} and "running for" in text)
    go_on()
    until_seen(page, lambda source, text: colors(source) == {"RUNNING", "SUCCEEDED"})
    for number in range(3):
        until_seen(page, lambda source, text, number=number: f"{number} of 3" in text)
        go_on()
    go_on()
    end(page, 2)
    page.wait_for_function("() => !document.body.innerText.includes('running for')")
    seen = page.evaluate("window.seen")

    looks = [colors(source) for source, _ in seen if source]
    assert {"RUNNING"} in looks, "the first state was not seen to run"
    assert {"RUNNING", "SUCCEEDED"} in looks, "no state was seen to run after one that had succeeded"
    assert looks[-1] == {"SUCCEEDED", "PARTLY"}, "the picture that stays is not that of the end"
    first = next(number for number, (source, _) in enumerate(seen) if source)
    gaps = [text for source, text in seen[first:] if not source]
    assert len(gaps) <= 1, f"the picture was gone for a moment: {gaps}"
    texts = [text for _, text in seen]
    for phrase in ("running for", "0 of 3", "1 of 3", "2 of 3"):
        assert any(phrase in text for text in texts), f"{phrase} was not seen"
    assert "SUCCEEDED" in texts[-1]
    assert "of 3, 1 failed" in unquote(seen[-1][0])

    for number in (3, 4):
        begin(page, number)
        end(page, number)
        picture = page.locator(".jp-Notebook .jp-CodeCell").nth(number - 1).locator(".jp-RenderedImage img")
        assert picture.evaluate("image => image.complete && image.naturalWidth") == 896  # twice as sharp as it is wide
        assert picture.bounding_box()["width"] == 448
