"""Run a job's entrypoint: a Python script inside this warm process, anything else with exec.

A script must not notice the difference: ``__main__``, ``sys.argv``, ``sys.path``,
tracebacks, exit codes and fresh random numbers are as under ``python script.py``.
"""

import atexit
import builtins
import importlib.machinery
import os
import random
import re
import shutil
import sys
import threading
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from helpers.local_aws.workers import processes

_OURS = "helpers"  # a package that a script never finds loaded
_PYTHON = re.compile(r"python(3(\.\d+)?)?")
# Variables that the interpreter or a numeric library reads only when it starts.
_READ_AT_START = re.compile(r"PYTHON(?!PATH$|UNBUFFERED$|DONTWRITEBYTECODE$)|LD_|OMP_|GOMP_|OPENBLAS_|MKL_|MALLOC_|MPL")


def run(
    argv: Sequence[str], environment: Mapping[str, str], given: Mapping[str, str], folder: str, cannot: str = ""
) -> NoReturn:
    """Replace this process by ``argv``, in ``folder`` with exactly ``environment``.

    ``given`` is the part of the environment that the job itself asked for;
    ``cannot`` is said when the command cannot be executed, before the reason.
    """
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    script = warm_script(argv, given)
    if script is not None:
        _leave(_run_script(list(script)))
    processes.usual_signals()
    try:
        os.execvpe(argv[0], list(argv), dict(environment))  # noqa: S606 - no shell is wanted
    except OSError as error:
        os.write(2, f"{cannot or f'exec: {argv[0]}'}: {error.strerror}\n".encode())
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def is_python(argv: Sequence[str]) -> bool:
    """Tell whether a command is this Python."""
    return bool(_PYTHON.fullmatch(argv[0])) or argv[0] == sys.executable


def unstartable(argv: Sequence[str], environment: Mapping[str, str], folder: str) -> str:
    """Return why a container runtime could not start ``argv`` in ``folder``, in its words, or "" when it can.

    This Python stands for every version of it.
    """
    name = argv[0]
    place = os.path.join(folder, name) if "/" in name else shutil.which(name, path=environment["PATH"])
    reason = ""
    if place is None:
        reason = "executable file not found in $PATH"
    elif not os.path.exists(place):
        reason = f"stat {name}: no such file or directory"
    elif os.path.isdir(place) or not os.access(place, os.X_OK):
        reason = "permission denied"
    if not reason or is_python(argv):
        return ""
    return (
        "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container "
        f'process: exec: "{name}": {reason}: unknown'
    )


def warm_script(argv: Sequence[str], given: Mapping[str, str]) -> Sequence[str] | None:
    """Return script and arguments when ``argv`` is one that the warm process can run, else None.

    It cannot where PYTHONPATH has a package that it has loaded already, which may be another
    version: what else is loaded was made with the one that is here.
    """
    if not is_python(argv):
        return None
    rest = argv[2:] if argv[1:2] == ["-u"] else argv[1:]
    plain = rest and rest[0].endswith(".py") and Path(rest[0]).is_file()
    if not plain or any(_READ_AT_START.match(name) for name in given):
        return None
    brought = [path for path in given.get("PYTHONPATH", "").split(os.pathsep) if path]
    return None if _shadowed(brought) - {_OURS} else rest


def _run_script(argv: list[str]) -> int:
    script = os.path.abspath(argv[0])
    sys.argv = argv
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    sys.orig_argv = [sys.executable, *argv]
    extra = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:0] = [os.path.dirname(os.path.realpath(script)), *extra]
    _forget_shadowed(sys.path[: 1 + len(extra)])
    _open_streams()
    random.seed()
    if "numpy" in sys.modules:  # unlike random, numpy does not reseed itself after a fork
        sys.modules["numpy"].random.seed()
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=script, __builtins__=builtins, __cached__=None, __annotations__={})
    main.__loader__ = importlib.machinery.SourceFileLoader("__main__", script)
    sys.modules["__main__"] = main
    return _execute(script, main)


def _execute(script: str, main: types.ModuleType) -> int:
    try:
        with open(script, "rb") as file:
            source = file.read()
        code = compile(source, script, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        sys.excepthook(type(error), error.with_traceback(None), None)
        return 1
    try:
        exec(code, main.__dict__)  # noqa: S102 - running the script is what this is for
    except SystemExit as error:
        return _exit_code(error)
    except BaseException as error:  # noqa: BLE001 - what the interpreter itself does at the top of a script
        below = error.__traceback__.tb_next if error.__traceback__ else None
        sys.excepthook(type(error), error.with_traceback(below), below)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _shadowed(folders: Sequence[str]) -> set[str]:
    """Return the names of the packages that are loaded, and are in one of the folders as well."""
    names = {entry.partition(".")[0] for folder in folders if os.path.isdir(folder) for entry in os.listdir(folder)}
    return {name for name in names - sys.stdlib_module_names if name in sys.modules}


def _forget_shadowed(folders: Sequence[str]) -> None:
    """Let the script's own modules win over those that the warm process has loaded, and hide ours."""
    shadowed = _shadowed(folders) | ({_OURS} & set(sys.modules))
    if shadowed:  # to look at every name takes longer than many scripts: each look copies memory
        for module in [name for name in sys.modules if name.partition(".")[0] in shadowed]:
            del sys.modules[module]


def _open_streams() -> None:
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - they live as long as the process
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]


def _leave(code: int) -> NoReturn:
    """End as the interpreter does: wait for threads, run exit handlers, flush; but skip freeing every object."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # closed by the script, or nobody reads any more
            continue
    os._exit(code)
