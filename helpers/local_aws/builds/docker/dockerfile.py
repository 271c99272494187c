"""Read a Dockerfile: its instructions with the lines they begin in, and a refusal of what cannot be carried out."""

import re
from dataclasses import dataclass, field

from helpers.local_aws.builds.docker.problems import DockerProblem

_KNOWN = ("ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "LABEL", "RUN", "WORKDIR")
_REFUSED = {
    "ADD": "use COPY",
    "HEALTHCHECK": "nothing asks a container for its health",
    "MAINTAINER": "use LABEL maintainer=…",
    "ONBUILD": "write the instruction where it is needed",
    "SHELL": "shell forms run in /bin/sh",
    "STOPSIGNAL": "containers are stopped with SIGTERM",
    "USER": "containers run as the user who started the embedded AWS",
    "VOLUME": "a container's files are gone with it",
}
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?\s+")
_DIRECTIVE = re.compile(r"#\s*([A-Za-z]+)\s*=\s*(\S*)\s*$")


@dataclass(frozen=True)
class Instruction:
    """One instruction: its line, its name in capitals, its ``--flag=value`` and what follows."""

    file: str
    line: int
    name: str
    text: str
    flags: dict[str, str] = field(default_factory=dict)

    def problem(self, message: str) -> DockerProblem:
        """Return the problem ``message`` with where it is."""
        return DockerProblem(f"{self.file}:{self.line}: {message}")

    def refused(self, what: str, why: str) -> DockerProblem:
        """Return the refusal of something that Docker would do."""
        return self.problem(f"{what} is not supported by the embedded AWS: {why}")


def read(text: str, file: str = "Dockerfile") -> list[Instruction]:
    """Return the instructions of a Dockerfile. Raises DockerProblem naming file and line."""
    lines = text.removeprefix("\ufeff").splitlines()
    _check_directives(lines, file)
    found: list[Instruction] = []
    index = 0
    while index < len(lines):
        start = index
        if not lines[index].strip() or lines[index].lstrip().startswith("#"):
            index += 1
            continue
        parts: list[str] = []
        while index < len(lines):
            line = lines[index]
            index += 1
            if parts and (not line.strip() or line.lstrip().startswith("#")):
                continue  # as Docker does it, comments and empty lines do not end a continued instruction
            parts.append(line.rstrip().removesuffix("\\"))
            if not line.rstrip().endswith("\\"):
                break
        found.append(_instruction(file, start + 1, " ".join(part.strip() for part in parts)))
    _check_order(found, file)
    return found


def _check_directives(lines: list[str], file: str) -> None:
    """Refuse ``# escape=``, which would change how the rest is read; ``# syntax=`` and ``# check=`` change nothing."""
    for number, line in enumerate(lines, 1):
        directive = _DIRECTIVE.fullmatch(line.strip())
        if directive is None:
            return
        if directive[1].lower() == "escape" and directive[2] != "\\":
            raise Instruction(file, number, "", "").refused("the directive escape", "lines go on after a backslash")


def _instruction(file: str, line: int, text: str) -> Instruction:
    word, _, rest = text.strip().partition(" ")
    instruction = Instruction(file, line, word.upper(), rest.strip())
    if instruction.name in _REFUSED:
        raise instruction.refused(instruction.name, _REFUSED[instruction.name])
    if instruction.name not in _KNOWN:
        raise instruction.problem(f"unknown instruction: {word}")
    flags = {}
    rest = f"{instruction.text} "
    while flag := _FLAG.match(rest):
        flags[flag[1]] = flag[2] or ""
        rest = rest[flag.end() :]
    instruction = Instruction(file, line, instruction.name, rest.strip(), flags)
    if not instruction.text:
        raise instruction.problem(f"{instruction.name} requires at least one argument")
    if instruction.name in ("RUN", "COPY") and re.search(r"<<-?[\"']?[A-Za-z_]", instruction.text):
        raise instruction.refused("a heredoc", "copy a file, or write the lines one by one")
    return instruction


def _check_order(found: list[Instruction], file: str) -> None:
    stages = [instruction for instruction in found if instruction.name == "FROM"]
    if not stages:
        raise DockerProblem(f"{file}: no build stage: a Dockerfile begins with FROM")
    for instruction in stages[1:]:
        raise instruction.refused("a second FROM", "an image is built in one stage")
    first = next(instruction for instruction in found if instruction.name != "ARG")
    if first.name != "FROM":
        raise first.problem("no build stage in current context: only ARG may come before FROM")
