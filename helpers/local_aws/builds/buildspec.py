"""Read a buildspec, version 0.2: phases, variables, artifacts, and a refusal of all else by name and line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

PHASES = ("install", "pre_build", "build", "post_build")
_PHASE_KEYS = ("commands", "finally", "on-failure", "runtime-versions")
_ENV_KEYS = ("shell", "variables", "parameter-store", "exported-variables")
_ARTIFACT_KEYS = ("files", "base-directory", "name", "discard-paths", "exclude-paths")
_REASONS = {
    "secrets-manager": "there is no Secrets Manager",
    "git-credential-helper": "sources are S3 objects",
    "run-as": "builds run as the user who started the embedded AWS",
    "proxy": "builds use the machine's network",
    "batch": "a build is one build",
    "reports": "there are no report groups",
    "cache": "nothing is kept between builds",
    "secondary-artifacts": "a build has one set of artifacts",
    "s3-prefix": "the project's path is used",
    "build-fleet": "builds run on this machine",
}


class SpecProblem(Exception):
    """Why a buildspec cannot be used; names key and line."""


@dataclass(frozen=True)
class Phase:
    """One phase: its commands, those that run in any case, and whether a failure ends the build."""

    commands: tuple[str, ...] = ()
    afterwards: tuple[str, ...] = ()
    on_failure: str = ""  # ABORT, CONTINUE, or "" for what the phase does of itself


@dataclass(frozen=True)
class Artifacts:
    """Which files a build leaves: patterns below a folder, and the name they get."""

    files: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    base_directory: str = "."
    name: str = ""
    discard_paths: bool = False


@dataclass(frozen=True)
class Spec:
    """A buildspec."""

    phases: Mapping[str, Phase]
    shell: str = "sh"
    variables: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    exported: tuple[str, ...] = ()
    runtimes: Mapping[str, str] = field(default_factory=dict)
    artifacts: Artifacts | None = None


class _Lines(dict):
    """A mapping that remembers the line of each of its keys."""

    lines: dict[Any, int]


class _Loader(yaml.SafeLoader):
    """YAML with the lines of keys."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> _Lines:
    found = _Lines()
    found.lines = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, (str, int, float, bool)):
            raise SpecProblem(f"line {line}: a key is a text")
        if key in found:
            raise SpecProblem(f"line {line}: the key {key} is there twice")
        found[key] = loader.construct_object(value_node, deep=True)
        found.lines[key] = line
    return found


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read(text: str) -> Spec:
    """Return what a buildspec says. Raises SpecProblem."""
    try:
        return _read(text)
    except (ValueError, RecursionError) as error:  # no such date, a number of 5000 digits, 1000 brackets
        raise SpecProblem(str(error)) from None


def _read(text: str) -> Spec:
    try:
        content = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise SpecProblem(f"{where}{getattr(error, 'problem', None) or error}") from None
    if not isinstance(content, _Lines):
        raise SpecProblem("a buildspec is a mapping with version and phases")
    _only(content, ("version", "env", "phases", "artifacts"), "")
    if str(content.get("version")) != "0.2":
        raise SpecProblem(f"version {content.get('version')} is not supported by the embedded AWS: use 0.2")
    phases = _section(content, "phases")
    if not phases:
        raise SpecProblem("phases: at least one of install, pre_build, build and post_build is needed")
    _only(phases, PHASES, "phases.")
    env = _section(content, "env")
    _only(env, _ENV_KEYS, "env.")
    shell = str(env.get("shell", "sh"))
    if shell not in ("sh", "bash", "/bin/sh", "/bin/bash"):
        raise _refused(env, "shell", f"env.shell {shell}", "use sh or bash")
    return Spec(
        {name: _phase(_section(phases, name, "phases."), f"phases.{name}.") for name in phases},
        shell.rpartition("/")[2],
        _texts(env, "variables"),
        _texts(env, "parameter-store"),
        tuple(_list(env, "exported-variables", "env.")),
        _runtimes(phases),
        _artifacts(_section(content, "artifacts")) if "artifacts" in content else None,
    )


def _phase(section: _Lines, path: str) -> Phase:
    _only(section, _PHASE_KEYS, path)
    on_failure = str(section.get("on-failure", ""))
    if on_failure not in ("", "ABORT", "CONTINUE"):
        raise _refused(section, "on-failure", f"{path}on-failure {on_failure}", "use ABORT or CONTINUE")
    return Phase(tuple(_list(section, "commands", path)), tuple(_list(section, "finally", path)), on_failure)


def _runtimes(phases: _Lines) -> dict[str, str]:
    for name in phases:
        section = _section(phases, name, "phases.")
        if "runtime-versions" in section and name != "install":
            raise _refused(section, "runtime-versions", f"phases.{name}.runtime-versions", "it belongs to install")
    install = _section(phases, "install", "phases.")
    runtimes = _section(install, "runtime-versions", "phases.install.")
    for name in runtimes:
        if name != "python":
            raise _refused(runtimes, name, f"runtime-versions {name}", "builds have this machine's Python only")
    return {str(name): str(version) for name, version in runtimes.items()}


def _artifacts(section: _Lines) -> Artifacts:
    _only(section, _ARTIFACT_KEYS, "artifacts.")
    files = _list(section, "files", "artifacts.")
    if not files:
        raise SpecProblem("artifacts.files: at least one pattern is needed")
    return Artifacts(
        tuple(files),
        tuple(_list(section, "exclude-paths", "artifacts.")),
        str(section.get("base-directory") or "."),
        str(section.get("name") or ""),
        str(section.get("discard-paths", "no")).lower() in ("yes", "true"),
    )


def _section(parent: _Lines, key: str, path: str = "") -> _Lines:
    found = parent.get(key)
    if found is None:
        empty = _Lines()
        empty.lines = {}
        return empty
    if not isinstance(found, _Lines):
        raise SpecProblem(f"line {parent.lines[key]}: {path}{key} is a mapping")
    return found


def _texts(env: _Lines, key: str) -> dict[str, str]:
    section = _section(env, key, "env.")
    for name, value in section.items():
        if not isinstance(value, (str, int, float, bool)):
            raise SpecProblem(f"line {section.lines[name]}: env.{key}.{name} is a text")
    return {str(name): _plain(value) for name, value in section.items()}


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _list(section: _Lines, key: str, path: str) -> list[str]:
    found = section.get(key)
    items = [found] if isinstance(found, str) else found or []
    if not isinstance(items, list) or any(isinstance(item, (dict, list)) or item is None for item in items):
        raise SpecProblem(f"line {section.lines[key]}: {path}{key} is a list of texts (quote what has ': ' in it)")
    return [_plain(item) for item in items]


def _only(section: _Lines, known: tuple[str, ...], path: str) -> None:
    for key in section:
        if key not in known:
            if key in _REASONS:
                raise _refused(section, key, f"{path}{key}", _REASONS[key])
            raise SpecProblem(f"line {section.lines[key]}: unknown key {path}{key}; known are {', '.join(known)}")


def _refused(section: _Lines, key: Any, what: str, why: str) -> SpecProblem:
    return SpecProblem(f"line {section.lines[key]}: {what} is not supported by the embedded AWS: {why}")
