"""Build an image: carry out the instructions of a Dockerfile one after the other."""

import io
import posixpath
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from helpers.local_aws.builds.docker import bases, layers, packages, words
from helpers.local_aws.builds.docker.context import Context
from helpers.local_aws.builds.docker.dockerfile import Instruction
from helpers.local_aws.builds.docker.problems import DockerProblem
from helpers.local_aws.builds.docker.store import Built, Images
from helpers.local_aws.builds.docker.unpack import Unpacking

# Finds the image that FROM names, or raises DockerProblem: what stands for it, or one that was built before.
FindBase = Callable[[str], bases.Base | Built]
Say = Callable[[str], None]


def build(
    instructions: list[Instruction],
    context: Context,
    images: Images,
    find_base: FindBase,
    *,
    arguments: Mapping[str, str],
    say: Say,
) -> Built:
    """Return the image that a Dockerfile describes. Raises DockerProblem naming file and line.

    ``arguments``: the values of --build-arg. The same context and instructions give the same digest.
    """
    with tempfile.TemporaryDirectory(prefix="docker-build-") as folder:
        builder = _Builder(Path(folder), context, images, find_base, arguments, say)
        for number, instruction in enumerate(instructions, 1):
            say(f"Step {number}/{len(instructions)} : {instruction.name} {instruction.text}")
            builder.carry_out(instruction)
        return builder.finish()


class _Builder:
    def __init__(
        self,
        root: Path,
        context: Context,
        images: Images,
        find_base: FindBase,
        arguments: Mapping[str, str],
        say: Say,
    ) -> None:
        self._root, self._context, self._images, self._find_base, self._say = root, context, images, find_base, say
        self._given = dict(arguments)
        self._used: set[str] = set()
        self._arguments: dict[str, str] = {}
        self._environment: dict[str, str] = {}
        self._labels: dict[str, str] = {}
        self._ports: dict[str, dict] = {}
        self._start: list[str] = []
        self._command: list[str] = []
        self._has_command = self._has_packages = False
        self._directory = PurePosixPath("/")
        self._layers: list[str] = []
        self._diff_ids: list[str] = []
        self._history: list[dict[str, Any]] = []

    def carry_out(self, instruction: Instruction) -> None:
        """Do what one instruction says. Raises DockerProblem."""
        unknown = [flag for flag in instruction.flags if not (instruction.name == "FROM" and flag == "platform")]
        for flag in unknown:
            raise instruction.refused(f"{instruction.name} --{flag}", "leave it out")
        before = len(self._layers)
        try:
            getattr(self, f"_{instruction.name.lower()}")(instruction)
        except (ValueError, OSError) as error:
            raise instruction.problem(f"{instruction.name}: {error}") from None
        except DockerProblem as problem:
            if str(problem).startswith(f"{instruction.file}:"):
                raise
            raise instruction.problem(str(problem)) from None
        added = {} if len(self._layers) > before else {"empty_layer": True}
        if instruction.name != "FROM":
            self._history.append({"created_by": f"{instruction.name} {instruction.text}", **added})

    def finish(self) -> Built:
        """Return the image as it is now."""
        for name in sorted(set(self._given) - self._used):
            self._say(f"[Warning] One or more build-args [{name}] were not consumed")
        if self._has_packages:
            self._add_to("PYTHONPATH", bases.PACKAGES_FOLDER, last=True)
            if (self._place(PurePosixPath(bases.PACKAGES_FOLDER)) / "bin").is_dir():
                self._add_to("PATH", f"{bases.PACKAGES_FOLDER}/bin", last=False)
        settings = {
            "Env": [f"{name}={value}" for name, value in self._environment.items()],
            "Entrypoint": self._start or None,
            "Cmd": self._command or None,
            "WorkingDir": str(self._directory),
            "Labels": self._labels or None,
            "ExposedPorts": self._ports or None,
        }
        config = {
            "architecture": "amd64",
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",  # the same content has the same digest
            "config": {name: value for name, value in settings.items() if value is not None},
            "rootfs": {"type": "layers", "diff_ids": self._diff_ids},
            "history": self._history,
        }
        return self._images.make(config, self._layers)

    def _from(self, instruction: Instruction) -> None:
        if instruction.flags.get("platform", "linux/amd64") not in ("linux/amd64", "$TARGETPLATFORM"):
            raise instruction.refused(f"FROM --platform={instruction.flags['platform']}", "images are linux/amd64")
        name, *rest = words.split(instruction.text, self._arguments)
        if rest and not (len(rest) == 2 and rest[0].lower() == "as"):
            raise instruction.problem("FROM requires either one or three arguments")
        found = self._find_base(name)
        self._arguments = {}
        if isinstance(found, bases.Base):
            self._say(f" ---> {found.note}")
            self._environment, self._command = dict(found.environment), list(found.command)
            self._history.append({"created_by": f"FROM {name}", "empty_layer": True})
            return
        settings = found.config.get("config", {})
        self._environment = dict(text.split("=", 1) for text in settings.get("Env") or [])
        self._start, self._command = list(settings.get("Entrypoint") or []), list(settings.get("Cmd") or [])
        self._labels, self._ports = dict(settings.get("Labels") or {}), dict(settings.get("ExposedPorts") or {})
        self._directory = PurePosixPath(settings.get("WorkingDir") or "/")
        self._layers, self._diff_ids = found.layers, list(found.config["rootfs"]["diff_ids"])
        self._history = list(found.config.get("history") or [])
        unpacking = Unpacking(self._root)
        for digest in found.layers:
            unpacking.add(io.BytesIO(self._images.get(digest)))
        self._has_packages = self._place(PurePosixPath(bases.PACKAGES_FOLDER)).is_dir()

    def _arg(self, instruction: Instruction) -> None:
        for word in words.split(instruction.text, self._variables):
            name, equals, value = word.partition("=")
            if not re.fullmatch(r"[A-Za-z_]\w*", name):
                raise instruction.problem(f"ARG {name} is no name of a variable")
            if name in self._given:
                self._used.add(name)
                self._arguments[name] = self._given[name]
            elif equals:
                self._arguments[name] = value

    def _env(self, instruction: Instruction) -> None:
        self._environment |= words.assignments(instruction.text, self._variables)

    def _label(self, instruction: Instruction) -> None:
        self._labels |= words.assignments(instruction.text, self._variables)

    def _expose(self, instruction: Instruction) -> None:
        for port in words.split(instruction.text, self._variables):
            if not re.fullmatch(r"\d{1,5}(-\d{1,5})?(/(tcp|udp))?", port):
                raise instruction.problem(f"Invalid containerPort: {port}")
            self._ports[port if "/" in port else f"{port}/tcp"] = {}

    def _workdir(self, instruction: Instruction) -> None:
        path = self._absolute(words.expand(instruction.text.strip("\"'"), self._variables))
        self._require_place(instruction, path, folder=True)
        self._directory = path
        if path != PurePosixPath("/") and not self._place(path).is_dir():
            self._add_layer({path: layers.Entry()})

    def _copy(self, instruction: Instruction) -> None:
        names = words.exec_form(instruction.text)
        names = names or words.split(instruction.text, self._variables)
        if len(names) < 2:
            raise instruction.problem("COPY requires at least two arguments")
        *patterns, target = names
        sources = [source for pattern in patterns for source in self._context.sources(pattern)]
        destination = self._absolute(target)
        into_folder = target.endswith("/") or target == "." or self._place(destination).is_dir()
        if len(sources) > 1 and not into_folder:
            raise instruction.problem(
                "When using COPY with more than one source file, the destination must be a folder"
            )
        entries: dict[PurePosixPath, layers.Entry] = {}
        for source in sources:
            if self._context.is_folder(source):
                places = [(destination / path, place) for path, place in self._context.below(source)]
                entries.setdefault(destination, layers.Entry())
            else:
                path = destination / source.name if into_folder else destination
                places = [(path, self._context.place(source))]
            for path, place in places:
                self._require_place(instruction, path, folder=place.is_dir() and not place.is_symlink())
                entries[path] = layers.entry_of(place, path)
        entries.pop(PurePosixPath("/"), None)
        if entries:
            self._add_layer(entries)

    def _run(self, instruction: Instruction) -> None:
        try:
            commands = packages.commands(instruction.text, self._variables)
        except packages.Unsupported as error:
            raise instruction.refused(f"RUN {instruction.text}", f"{error}; only pip install can run") from None
        cwd = self._place(self._directory)
        for arguments in commands:
            with tempfile.TemporaryDirectory(prefix="docker-packages-") as folder:
                packages.install(self._root, cwd, arguments, Path(folder), self._say)
                found = {
                    PurePosixPath(bases.PACKAGES_FOLDER, path.relative_to(folder).as_posix()): layers.Entry(path)
                    for path in sorted(Path(folder).rglob("*"))
                    if path.is_file() and "__pycache__" not in path.parts
                }
                if found:
                    self._add_layer(found)
                    self._has_packages = True

    def _entrypoint(self, instruction: Instruction) -> None:
        self._start = _program(instruction.text)
        if not self._has_command:
            self._command = []  # a base's command belongs to the base's entrypoint

    def _cmd(self, instruction: Instruction) -> None:
        self._command, self._has_command = _program(instruction.text), True

    def _absolute(self, path: str) -> PurePosixPath:
        """Return a path of the image, which may be given from the working directory."""
        return PurePosixPath("/", posixpath.normpath(posixpath.join(str(self._directory), path)).lstrip("/"))

    def _place(self, path: PurePosixPath) -> Path:
        """Return where a path of the image lies while it is built."""
        return self._root / path.relative_to("/")

    def _require_place(self, instruction: Instruction, path: PurePosixPath, *, folder: bool) -> None:
        if problem := layers.misplaced(path, folder=folder):
            raise instruction.refused(f"{instruction.name} to {path}", problem)

    def _add_layer(self, entries: dict[PurePosixPath, layers.Entry]) -> None:
        """Make a layer of what lies at these paths, and put it over the files so far."""
        layer = layers.pack(entries)
        Unpacking(self._root).add(io.BytesIO(layer.data))
        self._layers.append(self._images.put(layer.data))
        self._diff_ids.append(layer.diff_id)

    def _add_to(self, name: str, folder: str, *, last: bool) -> None:
        """Put a folder into a list of folders, if it is not there."""
        entries = [entry for entry in self._environment.get(name, "").split(":") if entry]
        if folder not in entries:
            entries = [*entries, folder] if last else [folder, *entries]
        self._environment[name] = ":".join(entries)

    @property
    def _variables(self) -> dict[str, str]:
        return {**self._arguments, **self._environment}


def _program(text: str) -> list[str]:
    return words.exec_form(text) or ["/bin/sh", "-c", text]
