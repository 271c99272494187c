"""The folder that an image is built from: which of its files there are, and which of them a COPY means."""

import fnmatch
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from helpers.local_aws.builds.docker.problems import DockerProblem


@dataclass(frozen=True)
class Rule:
    """A line of .dockerignore: which paths it speaks of, and whether it takes them back in."""

    pattern: re.Pattern[str]
    included: bool

    def matches(self, path: PurePosixPath) -> bool:
        """Tell whether the rule speaks of a path, or of a folder that it is in."""
        return any(self.pattern.fullmatch(str(part)) for part in (path, *path.parents))


class Context:
    """The files of a build's folder, less what .dockerignore leaves out."""

    def __init__(self, folder: Path, ignored: str = "") -> None:
        """``ignored``: the text of .dockerignore. Raises DockerProblem when there is no such folder."""
        if not folder.is_dir():
            raise DockerProblem(f"unable to prepare context: path {str(folder)!r} not found")
        self._folder = folder
        self._rules = ignore_rules(ignored)
        self._paths: dict[PurePosixPath, Path] = {}
        for parent, folders, files in os.walk(folder):
            here = PurePosixPath(Path(parent).relative_to(folder).as_posix())
            for name in sorted([*folders, *files]):
                path = Path(parent, name)
                if not self._leaves_out(here / name) and (path.is_symlink() or path.is_dir() or path.is_file()):
                    self._paths[here / name] = path

    def sources(self, pattern: str) -> list[PurePosixPath]:
        """Return the files and folders that a source of COPY names. Raises DockerProblem when there is none."""
        wanted = PurePosixPath(os.path.normpath(pattern.lstrip("/") or "."))
        if ".." in wanted.parts:
            raise DockerProblem(f"COPY failed: forbidden path outside the build context: {pattern}")
        if wanted == PurePosixPath("."):
            return [wanted]
        if not set("*?[") & set(pattern):
            found = [wanted] if wanted in self._paths or self._is_folder(wanted) else []
        else:
            found = sorted(path for path in self._paths if _same(path.parts, wanted.parts))
        if not found:
            raise DockerProblem(
                f"COPY failed: file not found in build context or excluded by .dockerignore: {pattern}: no such file"
            )
        return found

    def is_folder(self, source: PurePosixPath) -> bool:
        """Tell whether a source is a folder: its contents are copied, not itself."""
        return source == PurePosixPath(".") or self._is_folder(source)

    def below(self, folder: PurePosixPath) -> list[tuple[PurePosixPath, Path]]:
        """Return all that is in a folder: its path from there, and where it lies."""
        everything = folder == PurePosixPath(".")
        return [
            (path if everything else path.relative_to(folder), place)
            for path, place in sorted(self._paths.items())
            if everything or (folder in path.parents)
        ]

    def place(self, source: PurePosixPath) -> Path:
        """Return where a file of the context lies."""
        return self._paths[source]

    def _is_folder(self, path: PurePosixPath) -> bool:
        place = self._paths.get(path)
        if place is not None:
            return place.is_dir() and not place.is_symlink()
        return any(path in other.parents for other in self._paths)  # left out itself, but not all that is in it

    def _leaves_out(self, path: PurePosixPath) -> bool:
        out = False
        for rule in self._rules:
            if rule.matches(path):
                out = not rule.included
        return out


def ignore_rules(text: str) -> list[Rule]:
    """Read .dockerignore: one pattern in each line, # for comments, ! for what is taken back in."""
    rules = []
    for line in text.removeprefix("\ufeff").splitlines():
        pattern = "" if line.startswith("#") else line.strip()
        included = pattern.startswith("!")
        pattern = pattern.removeprefix("!").strip().strip("/")
        if pattern:
            rules.append(Rule(_pattern(os.path.normpath(pattern)), included))
    return rules


def _pattern(text: str) -> re.Pattern[str]:
    """Translate a pattern, where * and ? stay within a folder and ** does not."""
    parts, index = [], 0
    while index < len(text):
        if text.startswith("**", index):
            index += 2
            if text.startswith("/", index):  # **/a is also a
                parts.append("(?:.*/)?")
                index += 1
            else:
                parts.append(".*")
        elif text[index] == "[" and (end := text.find("]", index + 2)) > 0:
            parts.append("[" + text[index + 1 : end].replace("\\", "\\\\") + "]")
            index = end + 1
        else:
            parts.append({"*": "[^/]*", "?": "[^/]"}.get(text[index]) or re.escape(text[index]))
            index += 1
    return re.compile("".join(parts), re.S)


def _same(parts: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    pairs = zip(parts, patterns, strict=False)
    return len(parts) == len(patterns) and all(fnmatch.fnmatchcase(part, pattern) for part, pattern in pairs)
