"""The notebooks keep the house style, and are what their text twins and the README say."""

import re
import subprocess
from pathlib import Path

import nbformat
import notebook_rules as rules
import pytest

from helpers import notebooks


def discover() -> list[Path]:
    """Return every notebook that is in git or could be added to it: a new one cannot escape."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.ipynb"],
        cwd=notebooks.PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return sorted({notebooks.PROJECT / line for line in listed.splitlines()})


STORED = [(path, nbformat.read(path, as_version=4)) for path in discover() if path.exists()]
each_notebook = pytest.mark.parametrize(("path", "notebook"), STORED, ids=[path.stem for path, _ in STORED])


def test_every_notebook_is_in_one_folder_and_is_what_its_text_twin_says() -> None:
    assert discover() == sorted(notebooks.NOTEBOOKS.glob("*.ipynb"))
    assert list(notebooks.stale()) == []


@each_notebook
def test_it_opens_and_ends_as_the_others_do(path: Path, notebook: nbformat.NotebookNode) -> None:
    assert [*rules.opening(notebook, path.stem), *rules.ending(notebook)] == []


@each_notebook
def test_its_cells_are_short_and_honest(path: Path, notebook: nbformat.NotebookNode) -> None:
    assert list(rules.cells(notebook)) == []


@each_notebook
def test_every_cell_was_run_in_order_and_its_outputs_are_stored(path: Path, notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    assert [*rules.unrun_cells(notebook), *rules.silent_cells(notebook)] == []


@each_notebook
def test_its_outputs_hold_nothing_of_this_machine_or_this_run(path: Path, notebook: nbformat.NotebookNode) -> None:
    assert list(rules.variable_outputs(notebook)) == []


@each_notebook
def test_its_links_lead_somewhere(path: Path, notebook: nbformat.NotebookNode) -> None:
    assert list(rules.links(notebook, path.parent)) == []


def table_rows(text: str, prefix: str) -> list[tuple[str, str]]:
    """Return title-with-link and audience of each row that begins with a link to a notebook."""
    row = re.compile(rf"^\| (\[[^\]]+\]\({prefix}\d\d[a-z]?_\w+\.ipynb\)) \| ([^|]+) \| [^|]+ \|$", re.M)
    return row.findall(text)


def expected_rows(prefix: str) -> list[tuple[str, str]]:
    """Return what a table of all notebooks says about them."""
    return [(f"[{rules.title(notebook)}]({prefix}{path.name})", rules.audience(notebook)) for path, notebook in STORED]


def test_the_table_in_the_readme_lists_the_notebooks() -> None:
    readme = notebooks.PROJECT / "README.md"
    assert readme.exists(), "README.md is missing"
    assert table_rows(readme.read_text(), "notebooks/") == expected_rows("notebooks/")


def test_the_table_in_the_first_notebook_lists_the_others() -> None:
    first = nbformat.read(notebooks.NOTEBOOKS / "00_start_here.ipynb", as_version=4)
    assert table_rows("\n".join(rules.markdown(first)), "") == expected_rows("")[1:]


# Would the rules notice? A notebook that keeps them all, and one thing wrong at a time.
OPENING = """# 07 · Do something

Why.

**For** the data scientist · **Time** 5 minutes · **Cost on AWS** none ·
**Needs first** nothing"""
WILL = "**You will**\n\n- **run** this,\n- **look** at that,\n- **prove** it."
BUILT = "## What you built\n\n- **ran**, **looked**, **proof**\n\nLeft running: nothing.\n\nNext: [08](08_more.ipynb)."
SOLUTION = "## Exercise\n\nDo it.\n\n<details><summary>Solution</summary>\n\nDone.\n\n</details>"
GOOD: list[tuple[str, str]] = [
    ("markdown", OPENING),
    ("markdown", WILL),
    ("code", "import json"),
    ("markdown", "## Step\n\nSee [data](../dataset/)."),
    ("code", "print('x')  # a comment, not code"),
    ("markdown", "## Check yourself"),
    ("code", "assert json, 'import it first'"),
    ("markdown", SOLUTION),
    ("markdown", BUILT),
]


def build(old: str = "", new: str = "", output: str = "x\n") -> nbformat.NotebookNode:
    """Make the good notebook with ``old`` replaced, as if it had been run."""
    made, count = nbformat.v4.new_notebook(), 0
    for kind, source in GOOD:
        text = source.replace(old, new) if old else source
        cell = nbformat.v4.new_code_cell(text) if kind == "code" else nbformat.v4.new_markdown_cell(text)
        if kind == "code":
            count += 1
            cell.execution_count = count
            if "print" in source:
                cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=output)]
        made.cells.append(cell)
    return made


def problems(notebook: nbformat.NotebookNode) -> list[str]:
    """Return what all rules say, the links apart."""
    checks = [rules.ending, rules.cells, rules.unrun_cells, rules.silent_cells, rules.variable_outputs]
    return [*rules.opening(notebook, "07_do"), *(problem for check in checks for problem in check(notebook))]


def test_a_good_notebook_breaks_no_rule() -> None:
    assert problems(build()) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("07 ·", "08 ·", "the first line is not"),
        ("**Time** 5 minutes · ", "", "the first cell does not end in"),
        ("- **run** this,\n- **look**", "- **run**", "**You will** does not list"),
        ("## Step", "### Step", "exactly one parameters cell"),
        ("## Exercise", "## Homework", "the last headings are not"),
        ("assert json, 'import it first'", "json.dumps", "Check yourself asserts nothing"),
        ("<details>", "", "no folded solution"),
        ("**looked**", "**saw**", "does not mirror"),
        ("**looked**, ", "", "does not mirror"),
        ("Left running: nothing.", "", "left running"),
        ("Next: [08](08_more.ipynb).", "", "does not link to the next"),
        ("import json", "\n".join(["import json"] * 16), "has 16 lines"),
        ("import json", "%store -r json", "state kept outside"),
        ("import json", "%pip install json", "an installation"),
        ("import json", "!ls", "not plain Python"),
        ("print('x')", "print('x')  # NBVAL_IGNORE_OUTPUT", "not compared"),
        ("import json", "import json  # dumped = json.dumps(1)", "code in a comment"),
        ("import json", "try:\n    import json\nexcept:\n    raise", "bare except"),
        ("print('x')", "print(input('name?'))", "a question"),
        (", 'import it first'", "", "without a message"),
    ],
)
def test_a_broken_rule_is_named(old: str, new: str, expected: str) -> None:
    assert [problem for problem in problems(build(old, new)) if expected in problem]


@pytest.mark.parametrize(
    "output",
    [
        "arn:aws:iam::210987654321:role/r",
        "commit 0a1b2c3d4e5f",
        "9b2f5c1e-0d3a-4c52-8a51-000000000000",
        "2026-11-22T03:04",
        "ASIAQWERTYUIOPASDFGH",
        "http://127.0.0.1:4566/",
        "<object at 0x7f2c3a5d10>",
        "in /tmp/experiment-x/train",
        "/home/dana/project",
    ],
)
def test_an_output_of_one_run_or_one_machine_is_named(output: str) -> None:
    found = problems(build(output=output))
    assert found
    assert all(problem.startswith("the output of code cell 1 holds") for problem in found)


@pytest.mark.parametrize(
    "output",
    [
        "arn:aws:iam::123456789012:role/r",
        "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3",
        "/opt/ml/processing/input and s3://bucket/runs/home/x",
        "101,484,885 bytes, ROC-AUC 0.843",
    ],
)
def test_an_output_that_is_always_the_same_is_let_through(output: str) -> None:
    assert problems(build(output=output)) == []


def test_a_stripped_output_and_a_stripped_count_are_named() -> None:
    stripped = build()
    rules.code(stripped)[1].outputs = []
    assert problems(stripped) == ["code cell 1 shows something, and nothing is stored"]
    unrun = build()
    rules.code(unrun)[1].execution_count = None
    assert problems(unrun) == ["the execution counts are [1, None, 3]"]


def test_a_dead_link_is_named() -> None:
    found = rules.links(build("../dataset/", "../no-such-folder/"), notebooks.NOTEBOOKS)
    assert list(found) == ["a dead link: ../no-such-folder/", "a dead link: 08_more.ipynb"]
