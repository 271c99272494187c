"""Find the files of a repository that a script imports, without running it.

Imports are read from the syntax trees: of the script, and of each module found. A
module is looked for where Python would look first, in the script's own folder (its
``sys.path[0]``), and in folders of the repository that PYTHONPATH names. Where the
outcome of an import is not certain, such as ``from package import *``, everything
that it may mean is taken: a file too many only makes a job run once more, and a file
that is missing fails the job, since it sees none but these.
"""

import ast
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from .yaml_nodes import quote

MAX_SOURCE = 1024**2  # bytes; no module that a person wrote comes near


class SourceError(Exception):
    """A module is not Python; the message names file and line."""


def search_path(script: str, environment: Mapping[str, str], root: str) -> list[str]:
    """Return the repository's folders that Python searches for ``script``, "" being its top.

    ``root``: where a job finds the repository.
    """
    folders = [_folder(script)]
    for entry in environment.get("PYTHONPATH", "").split(":"):
        path = PurePosixPath(entry)
        if path.is_relative_to(root):
            folders.append(_join(*path.relative_to(root).parts))
    return folders


def imported_files(script: str, sources: Mapping[str, bytes], folders: Sequence[str]) -> set[str]:
    """Return ``script`` and every file of ``sources`` that it imports, directly or not.

    ``sources``: path to content, of the repository's Python files. Raises SourceError.
    """
    found, waiting = {script}, [script]
    while waiting:
        path = waiting.pop()
        for file in _imports(path, sources, folders):
            if file not in found:
                found.add(file)
                waiting.append(file)
    return found


def parse(path: str, content: bytes) -> ast.Module:
    """Return the syntax tree of a module. Raises SourceError."""
    if len(content) > MAX_SOURCE:
        raise SourceError(f"{path}: a module of more than {MAX_SOURCE // 1024**2} MB is not read")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(content, path)
    except SyntaxError as error:
        where = f":{error.lineno}" if error.lineno else ""
        line = f": {quote(error.text.strip())}" if error.text else ""
        raise SourceError(f"{path}{where}: not valid Python: {error.msg}{line}") from None
    except ValueError as error:
        raise SourceError(f"{path}: not valid Python: {error}") from None
    except (RecursionError, MemoryError):
        raise SourceError(f"{path}: not valid Python: nested too deeply") from None


def _imports(path: str, sources: Mapping[str, bytes], folders: Sequence[str]) -> Iterator[str]:
    for node in ast.walk(parse(path, sources[path])):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _absolute(alias.name.split("."), (), sources, folders)
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            module = node.module.split(".") if node.module else []
            if node.level:
                yield from _relative(path, node.level, module, names, sources)
            else:
                yield from _absolute(module, names, sources, folders)
        elif isinstance(node, ast.Call) and (name := _imported_by_call(node)):
            level = len(name) - len(name.lstrip("."))
            parts = [part for part in name.split(".") if part]
            if level:
                yield from _relative(path, level, parts, (), sources)
            else:
                yield from _absolute(parts, (), sources, folders)


def _imported_by_call(node: ast.Call) -> str:
    """Return the module of ``import_module("name")`` or ``__import__("name")``, or nothing."""
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    first = node.args[0] if node.args else None
    if name in ("import_module", "__import__") and isinstance(first, ast.Constant) and isinstance(first.value, str):
        return first.value
    return ""


def _absolute(
    module: Sequence[str], names: Collection[str], sources: Mapping[str, bytes], folders: Sequence[str]
) -> Iterator[str]:
    for folder in folders:
        yield from _module(folder, module, names, sources)


def _relative(
    path: str, level: int, module: Sequence[str], names: Collection[str], sources: Mapping[str, bytes]
) -> Iterator[str]:
    parts = PurePosixPath(path).parent.parts
    if level - 1 <= len(parts):
        package = _join(*parts[: len(parts) - (level - 1)])
        yield from _module(package, module, names, sources)


def _module(folder: str, module: Sequence[str], names: Collection[str], sources: Mapping[str, bytes]) -> Iterator[str]:
    """Return the files that importing ``names`` from ``module`` below ``folder`` runs."""
    if not module:
        yield from _file(folder, "__init__", sources)
    for depth, part in enumerate(module):
        parent = _join(folder, *module[:depth])
        yield from _file(parent, part, sources)
        yield from _file(_join(parent, part), "__init__", sources)
    package = _join(folder, *module)
    for name in names:
        if name == "*":
            inside = f"{package}/" if package else ""
            yield from (path for path in sources if path.startswith(inside) and _is_child(path[len(inside) :]))
        else:
            yield from _file(package, name, sources)
            yield from _file(_join(package, name), "__init__", sources)


def _is_child(path: str) -> bool:
    """Tell whether a path within a package is one of its modules, or a package's first file."""
    return "/" not in path or (path.count("/") == 1 and path.endswith("/__init__.py"))


def _file(folder: str, name: str, sources: Mapping[str, bytes]) -> Iterator[str]:
    path = _join(folder, f"{name}.py")
    if path in sources:
        yield path


def _folder(path: str) -> str:
    return _join(*PurePosixPath(path).parent.parts)


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)
