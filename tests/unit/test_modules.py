"""Which files of a repository a script imports, and what is said of one that is not Python."""

import pytest

from helpers.planning.modules import MAX_SOURCE, SourceError, imported_files, parse, search_path

ROOT = "/opt/ml/processing/input/code"


def imported(sources: dict[str, str], script: str = "train.py", environment: dict[str, str] | None = None) -> list[str]:
    """Return what ``script`` imports besides itself."""
    contents = {path: text.encode() for path, text in sources.items()}
    found = imported_files(script, contents, search_path(script, environment or {}, ROOT))
    assert script in found
    return sorted(found - {script})


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import features", ["features.py"]),
        ("import features as f, pandas", ["features.py"]),
        ("from features import COLUMNS", ["features.py"]),
        ("import features.nothing", ["features.py"]),
        ("def main():\n    from features import COLUMNS", ["features.py"]),
        ("try:\n    import features\nexcept ImportError:\n    features = None", ["features.py"]),
        ("if False:\n    import features", ["features.py"]),
        ("import importlib\nimportlib.import_module('features')", ["features.py"]),
        ("features = __import__('features')", ["features.py"]),
        ("import pandas.features", []),
        ("text = 'import features'", []),
        ("import pkg", ["pkg/__init__.py"]),
        ("import pkg.mod", ["pkg/__init__.py", "pkg/mod.py"]),
        ("from pkg import mod", ["pkg/__init__.py", "pkg/mod.py"]),
        ("from pkg import NAME", ["pkg/__init__.py"]),
        ("from pkg import *", ["pkg/__init__.py", "pkg/mod.py", "pkg/sub/__init__.py"]),
        ("from pkg.sub import deep", ["pkg/__init__.py", "pkg/mod.py", "pkg/sub/__init__.py", "pkg/sub/deep.py"]),
        ("import space.inner", ["space/inner.py"]),
        ("from space import inner", ["space/inner.py"]),
    ],
)
def test_imports_are_found_in_every_form(line, found):
    sources = {
        "train.py": line,
        "features.py": "COLUMNS = 9",
        "pkg/__init__.py": "",
        "pkg/mod.py": "",
        "pkg/sub/__init__.py": "",
        "pkg/sub/deep.py": "from .. import mod",
        "space/inner.py": "",
        "other.py": "",
    }
    assert imported(sources) == found


def test_imports_of_imports_are_found_and_circles_end():
    sources = {"train.py": "import a", "a.py": "import b", "b.py": "import a, c.d", "c/d.py": "import train"}
    assert imported(sources) == ["a.py", "b.py", "c/d.py"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from . import near", ["pkg/__init__.py", "pkg/inner/__init__.py", "pkg/inner/near.py"]),
        ("from .near import x", ["pkg/__init__.py", "pkg/inner/__init__.py", "pkg/inner/near.py"]),
        ("from .. import far", ["pkg/__init__.py", "pkg/far.py", "pkg/inner/__init__.py"]),
        ("from ..far import x", ["pkg/__init__.py", "pkg/far.py", "pkg/inner/__init__.py"]),
        ("from ...... import far", ["pkg/__init__.py", "pkg/inner/__init__.py"]),
        ("import far", ["pkg/__init__.py", "pkg/inner/__init__.py"]),
    ],
)
def test_relative_imports_are_looked_for_in_their_package(line, found):
    sources = {
        "train.py": "import pkg.inner.start",
        "pkg/__init__.py": "",
        "pkg/far.py": "",
        "pkg/inner/__init__.py": "",
        "pkg/inner/start.py": line,
        "pkg/inner/near.py": "",
    }
    assert [path for path in imported(sources) if path != "pkg/inner/start.py"] == found


def test_a_script_in_a_folder_finds_its_neighbours_and_not_the_top():
    sources = {"src/train.py": "import features, lib", "src/features.py": "", "features.py": "", "lib.py": ""}
    assert imported(sources, "src/train.py") == ["src/features.py"]


def test_folders_that_pythonpath_names_are_searched_as_well():
    sources = {"src/train.py": "import lib, deep.x", "lib.py": "", "more/deep/x.py": "", "etc/lib.py": ""}
    path = f"/etc:{ROOT}:{ROOT}/more"
    assert imported(sources, "src/train.py", {"PYTHONPATH": path}) == ["lib.py", "more/deep/x.py"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x = 1\nif x\n    y = 2\n", "lib.py:2: not valid Python: expected ':': 'if x'"),
        (b"# coding: nonsense\n", "lib.py: not valid Python: "),
        (b"x = '\xff'\n", "lib.py"),
        (b"x = 1\x00\n", "lib.py"),
        (b"(" * 5000 + b")" * 5000, "lib.py"),
        (b"-" * 100_000 + b"1", "lib.py"),
        (b"#" * (MAX_SOURCE + 1), "lib.py: a module of more than 1 MB is not read"),
    ],
    ids=["syntax", "encoding", "bytes", "null", "parentheses", "depth", "size"],
)
def test_what_is_not_python_is_said_with_its_line(content, message):
    with pytest.raises(SourceError, match=r"^lib\.py") as caught:
        imported_files("train.py", {"train.py": b"import lib", "lib.py": content}, [""])
    assert str(caught.value).startswith(message)


def test_a_warning_about_a_module_is_not_shown(recwarn):
    parse("train.py", b"x = '\\d'\n")
    assert not recwarn.list
