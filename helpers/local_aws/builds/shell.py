"""The one shell in which all commands of a build run, so that variables and the working directory carry over."""

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

# Reads the path of a file with a command, runs it, and answers its exit status. What a command starts gets neither
# of the two descriptors: the end of the shell is seen though something of it still runs.
_DRIVER = """
while IFS= read -r embedded_aws_command <&8; do
  . "$embedded_aws_command" 8<&- 9>&-
  echo "$?" >&9
done
"""


class Shell:
    """A shell that outlives its commands. One that a command ended (``exit 1``) is started again where it was."""

    def __init__(self, name: str, cwd: Path, environment: Mapping[str, str], folder: Path) -> None:
        """``name``: sh or bash. ``folder``: a place for the files with commands."""
        self._name, self._cwd, self._environment, self._folder = name, cwd, dict(environment), folder
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = self._told = -1
        self._count = 0

    def run(self, command: str) -> int:
        """Run a command with this process's output as its own; return its exit status."""
        status = self._ask(command)
        if status is None:
            assert self._process is not None, "it was asked"
            code = self._process.wait()
            self._forget()
            return code if code >= 0 else 128 - code
        self._ask(f"export -p > {self._exports}; pwd > {self._folder}/directory")
        return status

    def set(self, name: str, value: str) -> None:
        """Set a variable of the commands that follow."""
        self._environment[name] = value
        if self._process is not None or self._exports.exists():
            self._ask(f"export {name}={shlex.quote(value)}")

    def value(self, name: str) -> str:
        """Return what a variable is now, exported or not."""
        file = self._folder / "value"
        self._ask(f'printf %s "${{{name}-}}" > {file}')
        return file.read_text(errors="replace")

    def close(self) -> None:
        """End the shell."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._forget()

    def _ask(self, command: str) -> int | None:
        """Run a command in the shell; None when the shell has ended with it."""
        if self._process is None:
            self._start()
        self._count += 1
        file = self._folder / f"command-{self._count}"
        file.write_text(command + "\n")
        try:
            os.write(self._asked, f"{file}\n".encode())
            answer = b""
            while not answer.endswith(b"\n"):
                block = os.read(self._told, 16)
                if not block:
                    return None
                answer += block
            return int(answer)
        except BrokenPipeError:
            return None
        finally:
            file.unlink()

    def _start(self) -> None:
        """Start the shell, with the variables and in the directory that the last one ended with."""
        directory = self._folder / "directory"
        cwd = Path(directory.read_text().removesuffix("\n")) if directory.exists() else self._cwd
        asked, told = self._folder / "asked", self._folder / "told"
        for path in (asked, told):
            path.unlink(missing_ok=True)
            os.mkfifo(path, 0o600)
        before = f". {self._exports}\n" if self._exports.exists() else ""
        self._process = subprocess.Popen(
            [self._name, "-c", f"exec 8<{asked} 9>{told}\n{before}{_DRIVER}"],
            cwd=cwd if cwd.is_dir() else self._cwd,
            env=self._environment,
            stdin=subprocess.DEVNULL,
        )
        self._asked = os.open(asked, os.O_WRONLY)
        self._told = os.open(told, os.O_RDONLY)

    @property
    def _exports(self) -> Path:
        return self._folder / "exports"

    def _forget(self) -> None:
        for descriptor in (self._asked, self._told):
            os.close(descriptor)
        self._process = None
