"""RUN pip install: what this environment does not have yet is really installed, into a folder of the image."""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from helpers.local_aws.builds.docker import words
from helpers.local_aws.builds.docker.bases import PACKAGES_FOLDER
from helpers.local_aws.builds.docker.problems import DockerProblem

_ALONE = (
    "--no-cache-dir --upgrade -U --no-deps -q --quiet -v --verbose --no-input --disable-pip-version-check --pre"
    " --prefer-binary --no-index --no-compile --break-system-packages --no-build-isolation --no-warn-script-location"
)
_WITH_VALUE = (
    "-r --requirement -c --constraint -i --index-url --extra-index-url -f --find-links --trusted-host --only-binary"
    " --no-binary --timeout --default-timeout --retries --root-user-action --progress-bar --upgrade-strategy"
)
_VALUED = frozenset(_WITH_VALUE.split())
_OPTIONS = frozenset(_ALONE.split()) | _VALUED
_FILES = ("-r", "--requirement", "-c", "--constraint", "-f", "--find-links")
_OPERATORS = frozenset("();<>|&")


class Unsupported(ValueError):
    """A RUN that is something else than pip install."""


def commands(text: str, variables: Mapping[str, str]) -> list[list[str]]:
    """Return the arguments of each ``pip install`` in a RUN. Raises Unsupported for anything else."""
    tokens = words.exec_form(text)
    if tokens is None:
        try:
            lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
            lexer.whitespace_split, lexer.commenters = True, ""
            tokens = [words.expand(token, variables) if "$" in token else token for token in lexer]
        except ValueError as error:
            raise Unsupported(f"{text!r}: {error}") from None
    found: list[list[str]] = [[]]
    for token in tokens:
        if token == "&&":  # noqa: S105 - a shell's operator, not a password
            found.append([])
        elif (set(token) <= _OPERATORS and token) or "`" in token:
            raise Unsupported(f"{token} is more than pip install; quote it if it is part of a version")
        else:
            found[-1].append(token)
    return [_arguments(command) for command in found]


def _arguments(command: list[str]) -> list[str]:
    joined = " ".join(command)
    match = re.match(r"(?:pip3?|python3? -m pip) install\b", joined)
    if match is None:
        raise Unsupported(f"{joined!r} is not pip install; copy what it would make, or install it with pip")
    arguments = command[len(match[0].split()) :]
    index = 0
    while index < len(arguments):
        name, equals, _ = arguments[index].partition("=")
        if name.startswith("-"):
            if name not in _OPTIONS:
                raise Unsupported(f"pip install {name}")
            if name in _VALUED and not equals:
                index += 1
        index += 1
    return arguments


def install(root: Path, cwd: Path, arguments: Sequence[str], into: Path, say: Callable[[str], None]) -> None:
    """Install what ``pip install`` with these arguments asks for and this environment lacks, into the folder ``into``.

    pip's resolver decides what is missing. ``root``: the image's files, ``cwd``: where it runs, one of its folders.
    Raises DockerProblem with pip's exit code.
    """
    mapped = _inside(root, arguments)
    missing = _missing(root, cwd, mapped)
    if not missing:
        say("Everything that is asked for is installed in this environment: nothing to do")
        return
    say("Installing " + ", ".join(name for name, _ in missing))
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, "wanted.txt")
        wanted.write_text("\n".join(f"{name.partition('==')[0]} @ {url}" for name, url in missing))
        options = ["--no-deps", "--no-compile", "--target", str(into), "--requirement", str(wanted)]
        _pip(root, cwd, ["--quiet", *options])
    for address in into.glob("*.dist-info/direct_url.json"):
        address.unlink()  # where the file came from differs from build to build
        record = address.with_name("RECORD")
        lines = record.read_text().splitlines(keepends=True)
        record.write_text("".join(line for line in lines if "/direct_url.json," not in line))


def _missing(root: Path, cwd: Path, arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Return ``name==version`` and address of each package that pip would install."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        _pip(root, cwd, ["--dry-run", "--quiet", "--report", str(report), *arguments])
        installs = json.loads(report.read_text())["install"]
    found = []
    for item in installs:
        info = item["download_info"]
        url = info["url"]
        if "vcs_info" in info:
            url = f"{info['vcs_info']['vcs']}+{url}@{info['vcs_info']['commit_id']}"
        elif sha256 := info.get("archive_info", {}).get("hashes", {}).get("sha256"):
            url += f"#sha256={sha256}"
        found.append((f"{item['metadata']['name']}=={item['metadata']['version']}", url))
    return found


def _inside(root: Path, arguments: Sequence[str]) -> list[str]:
    """Return the arguments with paths of the image as this machine has them."""
    mapped: list[str] = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in _FILES and equals and value.startswith("/"):
            argument = f"{name}={root}{value}"
        elif argument.startswith("/") and (not mapped or mapped[-1] in _FILES or mapped[-1] not in _VALUED):
            argument = f"{root}{argument}"
        mapped.append(argument)
    return mapped


def _pip(root: Path, cwd: Path, arguments: Sequence[str]) -> None:
    """Run ``pip install`` with the user's pip settings. Raises DockerProblem when it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {
        "PYTHONPATH": f"{root}{PACKAGES_FOLDER}",  # what an earlier RUN installed is there
        "PYTHONSAFEPATH": "1",
        "PIP_BREAK_SYSTEM_PACKAGES": "1",  # nothing is installed into the environment itself
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    command = [sys.executable, "-m", "pip", "install", *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, check=False)
    if done.returncode:
        raise DockerProblem(f"pip install returned a non-zero code: {done.returncode}")
