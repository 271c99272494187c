"""The house style of notebooks as code: each rule yields what is wrong with one notebook."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from nbformat import NotebookNode

MAX_LINES = 15
TEXT_TYPES = ("text/", "image/svg+xml", "application/json")
IRREGULAR = {"run": "ran"}  # verbs whose past does not begin as they do
HEADER = re.compile(r"\*\*For\*\* (.+?) · \*\*Time\*\* \d+ minutes · \*\*Cost on AWS\*\* .+ · \*\*Needs first\*\* .+")
LINK = re.compile(r"\]\(([^)\s]+)\)")

# What an output that is the same on every machine and in every run does not hold.
VARIABLE = {
    # An image's registry is an account of Amazon's; the embedded AWS's own is 123456789012.
    "an account number": r"(?<!\d)(?!123456789012)\d{12}(?!\d|\.dkr\.ecr)",
    "a commit id or hash": r"\b(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{12,}\b",
    "a UUID": r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-",
    "a timestamp": r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d|\b\d\d:\d\d:\d\d\b",
    "an access key id": r"\b(?:AKIA|ASIA)[A-Z0-9]{12}",
    "a port": r"(?:localhost|127\.0\.0\.1|0\.0\.0\.0):\d+",
    "an address in memory": r"\b0x[0-9a-f]{6,}",
    # Below /opt/ml are the folders of a job, the same in every one.
    "an absolute path": r"(?<![\w.:/])/(?:home|root|tmp|work|Users|private|var|usr|mnt|srv|opt(?!/ml\b))/",
}
FORBIDDEN = {
    r"^\s*%store": "state kept outside of the notebook",
    r"^\s*[%!]\s*(pip|conda|uv)\b|ensurepip": "an installation",
    r"\binput\(": "a question to the reader",
    r"^\s*except\s*:": "a bare except",
    r"#\s*(NBVAL|PYTEST)_": "an output that is not compared",
}


def markdown(notebook: NotebookNode) -> list[str]:
    """Return the sources of the text cells."""
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def code(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def title(notebook: NotebookNode) -> str:
    """Return the title, such as "02 · Build the experiment pipeline"; "" where the first line is none."""
    return notebook.cells[0].source.partition("\n")[0].removeprefix("# ")


def audience(notebook: NotebookNode) -> str:
    """Return for whom it is: "data scientist", or "" where it does not say."""
    found = HEADER.search(_one_line(notebook.cells[0].source))
    return found.group(1).removeprefix("the ") if found else ""


def section(notebook: NotebookNode, heading: str) -> list[NotebookNode]:
    """Return the cells from the one that holds ``## heading`` to the one before the next heading."""
    found: list[NotebookNode] = []
    for cell in notebook.cells:
        headings = re.findall(r"^## (.+)$", cell.source, re.M) if cell.cell_type == "markdown" else []
        if heading in headings:
            found = [cell]
        elif headings and found:
            break
        elif found:
            found.append(cell)
    return found


def opening(notebook: NotebookNode, name: str) -> Iterator[str]:
    """Title with the file's number, who, time, cost and needs; what you will do; the one parameters cell."""
    number = name.partition("_")[0]
    if not re.fullmatch(rf"# {number} · [A-Z].+", notebook.cells[0].source.partition("\n")[0]):
        yield f"the first line is not '# {number} · Verb phrase'"
    if not audience(notebook):
        yield "the first cell does not end in '**For** … · **Time** … · **Cost on AWS** … · **Needs first** …'"
    if not 3 <= len(_verbs(_will(notebook))) <= 4:
        yield "**You will** does not list three or four bold verbs"
    before = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.search("^## ", cell.source, re.M):
            break
        before.append(cell.cell_type)
    if before.count("code") != 1:
        yield "there is not exactly one parameters cell before the first heading"


def ending(notebook: NotebookNode) -> Iterator[str]:
    """Check yourself, an exercise with its solution folded, and what you built."""
    headings = [heading for source in markdown(notebook) for heading in re.findall(r"^## (.+)$", source, re.M)]
    if headings[-3:] != ["Check yourself", "Exercise", "What you built"]:
        yield "the last headings are not Check yourself, Exercise, What you built"
    checks = [cell.source for cell in section(notebook, "Check yourself") if cell.cell_type == "code"]
    if not any("assert " in source for source in checks):
        yield "Check yourself asserts nothing"
    exercise = "\n".join(cell.source for cell in section(notebook, "Exercise"))
    if not re.search(r"<details>\s*<summary>Solution</summary>.+</details>", exercise, re.S):
        yield "the exercise has no folded solution"
    built = "\n".join(cell.source for cell in section(notebook, "What you built"))
    pairs = list(zip_longest(_verbs(_will(notebook)), _verbs(built), fillvalue=""))
    if not all(done.startswith(IRREGULAR.get(verb, verb[:2])) for verb, done in pairs):
        yield f"What you built does not mirror You will: {pairs}"
    if "Left running" not in built:
        yield "What you built does not say what is left running"
    if not re.search(r"(Next|Back to)\b[^\n]*(\n[^\n]+)*\]\(\d\d[a-z]?_\w+\.ipynb\)", built):
        yield "What you built does not link to the next notebook"


def cells(notebook: NotebookNode) -> Iterator[str]:
    """Short cells that install nothing, ask nothing, swallow nothing and hold no dead code."""
    for number, cell in enumerate(code(notebook)):
        lines = cell.source.splitlines()
        if len(lines) > MAX_LINES:
            yield f"code cell {number} has {len(lines)} lines"
        for pattern, what in FORBIDDEN.items():
            if re.search(pattern, cell.source, re.M):
                yield f"code cell {number} holds {what}"
        if any(re.search("nbval|raises-exception|skip", tag) for tag in cell.metadata.get("tags", ())):
            yield f"code cell {number} has a tag that changes how it is compared"
        try:
            tree = ast.parse(cell.source)
        except SyntaxError:
            yield f"code cell {number} is not plain Python"
            continue
        for comment in _comments(cell.source):
            if _is_code(comment):
                yield f"code cell {number} has code in a comment: {comment}"
        for node in ast.walk(tree):
            if isinstance(node, ast.Assert) and node.msg is None:
                yield f"code cell {number} asserts without a message: {ast.unparse(node)}"


def unrun_cells(notebook: NotebookNode) -> Iterator[str]:
    """Counts 1..n. nbval does not compare a cell without one: stripping it would hide everything."""
    counts = [cell.execution_count for cell in code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"the execution counts are {counts}"
    for number, cell in enumerate(code(notebook)):
        for output in cell.outputs:
            if output.get("execution_count", cell.execution_count) != cell.execution_count:
                yield f"an output of code cell {number} is from another run"


def silent_cells(notebook: NotebookNode) -> Iterator[str]:
    """A cell that prints, or ends in a value, has an output; one that draws has the picture, which nbval skips."""
    for number, cell in enumerate(code(notebook)):
        types = {kind for output in cell.outputs for kind in output.get("data", {})}
        if _shows(cell.source) and not cell.outputs:
            yield f"code cell {number} shows something, and nothing is stored"
        if "plt.show()" in cell.source and "image/png" not in types:
            yield f"code cell {number} draws, and no picture is stored"
        if any(output.output_type == "error" for output in cell.outputs):
            yield f"code cell {number} failed"
        if any(output.output_type == "stream" and output.name == "stderr" for output in cell.outputs):
            yield f"code cell {number} wrote warnings"


def variable_outputs(notebook: NotebookNode) -> Iterator[str]:
    """Nothing in an output that another machine or another run would have different."""
    for number, cell in enumerate(code(notebook)):
        text = "\n".join(_texts(cell))
        for what, pattern in VARIABLE.items():
            if found := re.search(pattern, text):
                yield f"the output of code cell {number} holds {what}: {found.group()}"
        for private in (Path.cwd(), Path.home()):
            if len(private.parts) > 1 and f"{private}/" in text:
                yield f"the output of code cell {number} holds a path of this machine"


def links(notebook: NotebookNode, folder: Path) -> Iterator[str]:
    """Every relative link leads to a file or folder of the project."""
    for source in markdown(notebook):
        for target in LINK.findall(source):
            if re.fullmatch(r"https?://[^/]+/?", target):
                yield f"a link that leads nowhere in particular: {target}"
            elif "://" not in target and not (folder / target.partition("#")[0]).exists():
                yield f"a dead link: {target}"


def _will(notebook: NotebookNode) -> str:
    return next((source for source in markdown(notebook) if source.startswith("**You will**")), "")


def _verbs(text: str) -> list[str]:
    """Return the bold words, "You will" itself left out; a bold number is none."""
    return [word for word in re.findall(r"\*\*([^*]+)\*\*", text) if re.fullmatch("[a-z]+", word)]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _comments(source: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string.lstrip("# ")


def _is_code(comment: str) -> bool:
    """Whether a comment is Python that does something: not a word, a name or a `fmt: skip`."""
    if re.match(r"(fmt|type|noqa|ruff)\b", comment):
        return False
    try:
        body = ast.parse(comment).body
    except SyntaxError:
        return False
    return any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call | ast.Await) for node in body)


def _shows(source: str) -> bool:
    """Whether a run of this cell writes something for sure: what stands under an ``if`` may not run."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return False  # `cells` reports it
    if body and isinstance(body[-1], ast.Expr):
        return True
    inner = [node.body for node in body if isinstance(node, ast.For | ast.With | ast.Try)]
    return any(_prints(statements) for statements in [body, *inner])


def _prints(body: list[ast.stmt]) -> bool:
    return any(isinstance(node, ast.Expr) and ast.unparse(node).startswith(("print(", "display(")) for node in body)


def _texts(cell: NotebookNode) -> Iterator[str]:
    for output in cell.outputs:
        yield output.get("text", "")
        for kind, value in output.get("data", {}).items():
            if kind.startswith(TEXT_TYPES):
                yield value if isinstance(value, str) else repr(value)
