"""A script that runs in the warm process must not notice it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.local_aws.workers import entrypoint

ENVIRONMENT = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", "GREETING": "hello"}


def warm(argv: list[str], folder: Path, given: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run ``argv`` in a fork of this process."""
    given = given or {}
    reads: list[int] = []
    writes: list[int] = []
    for _ in range(2):
        reader, writer = os.pipe()
        reads.append(reader)
        writes.append(writer)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(writes[0], 1)
        os.dup2(writes[1], 2)
        entrypoint.run(argv, ENVIRONMENT | given, given, str(folder))
    for writer in writes:
        os.close(writer)
    texts = [os.fdopen(reader).read() for reader in reads]
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), texts[0], texts[1]


def cold(argv: list[str], folder: Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, *argv[1:]], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


SCRIPTS = {
    "state of a script": """
        import os, sys
        print(__name__, __file__, __spec__, sys.argv, sys.path[0], os.getcwd(), sorted(os.environ))
        print(type(__loader__).__name__, __builtins__ is __import__("builtins"), sorted(globals()))
    """,
    "uncaught error": "def f():\n    return 1 / 0\n\nf()",
    "chained error": "try:\n    {}['a']\nexcept KeyError as error:\n    raise ValueError('b') from error",
    "syntax error": "x = =",
    "exit with a number": "import sys; sys.exit(3)",
    "exit with a text": "raise SystemExit('sorry')",
    "exit in silence": "import sys; print('out'); sys.exit()",
    "exit with a large number": "import sys; sys.exit(256 + 5)",
    "threads and exit handlers": """
        import atexit, threading, time
        atexit.register(print, "at exit")
        printed = threading.Event()
        threading.Thread(target=lambda: (printed.wait(), time.sleep(0.05), print("thread"))).start()
        print("main")
        printed.set()
    """,
    "sibling modules win": "import yaml, helpers; print(yaml.MINE, helpers.MINE)",
    "pickles of its own classes": """
        import pickle
        class Model: pass
        print(type(pickle.loads(pickle.dumps(Model()))))
    """,
    "an excepthook of its own": "import sys; sys.excepthook = lambda *a: print('hook', a[0])\nraise KeyError(1)",
    "bytes and a partial line": "import sys; sys.stdout.buffer.write(b'raw '); print('é', end='')",
    "keyword arguments": "import argparse; p = argparse.ArgumentParser(); p.add_argument('--no'); p.parse_args()",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_behaves_as_under_a_fresh_interpreter(tmp_path: Path, name: str) -> None:
    source = SCRIPTS[name]
    lines = source.splitlines()
    indent = "        " if source.startswith("\n") else ""
    (tmp_path / "script.py").write_text("\n".join(line.removeprefix(indent) for line in lines) + "\n")
    for module in ("yaml", "helpers"):
        (tmp_path / f"{module}.py").write_text("MINE = True\n")
    argv = ["python3", str(tmp_path / "script.py"), "--test-size", "0.2"]
    assert entrypoint.warm_script(argv, {})
    assert warm(argv, tmp_path) == cold(argv, tmp_path)


def test_random_numbers_differ_between_two_runs(tmp_path: Path) -> None:
    import numpy as np  # loaded before the fork, as in the warm process

    assert np
    (tmp_path / "script.py").write_text("import numpy, random; print(numpy.random.rand(), random.random())")
    argv = ["python", "-u", str(tmp_path / "script.py")]
    first, second = warm(argv, tmp_path)[1].split(), warm(argv, tmp_path)[1].split()
    assert first[0] != second[0]
    assert first[1] != second[1]


@pytest.mark.parametrize(
    ("argv", "given", "is_warm"),
    [
        (["python3", "{script}"], {}, True),
        (["python", "-u", "{script}", "-x"], {}, True),
        ([sys.executable, "{script}"], {"PYTHONPATH": "/x", "LOG_LEVEL": "INFO"}, True),
        (["python3", "-m", "module"], {}, False),
        (["python3", "-c", "pass"], {}, False),
        (["python3", "/nowhere/script.py"], {}, False),
        (["bash", "{script}"], {}, False),
        (["python2", "{script}"], {}, False),
        (["python3", "{script}"], {"PYTHONHASHSEED": "0"}, False),
        (["python3", "{script}"], {"OMP_NUM_THREADS": "1"}, False),
        (["python3"], {}, False),
    ],
)
def test_only_what_the_warm_process_can_run_truly_runs_there(
    tmp_path: Path, argv: list[str], given: dict[str, str], is_warm: bool
) -> None:
    script = tmp_path / "script.py"
    script.touch()
    argv = [word.format(script=script) for word in argv]
    assert (entrypoint.warm_script(argv, given) is not None) == is_warm


def test_a_program_that_is_missing_ends_as_in_a_container(tmp_path: Path) -> None:
    assert warm(["no-such-program"], tmp_path) == (127, "", "exec: no-such-program: No such file or directory\n")


def test_the_environment_is_the_job_s_alone(tmp_path: Path) -> None:
    code, out, _ = warm(["env"], tmp_path, {"MINE": "1"})
    assert code == 0
    assert dict(line.split("=", 1) for line in out.splitlines()) == ENVIRONMENT | {"MINE": "1"}


def test_a_program_that_is_not_a_script_has_the_usual_signals(tmp_path: Path) -> None:
    """One started with SIGPIPE ignored, as Python does, would write for ever to a pipe that nobody reads."""
    code, ignored, _ = warm(["sh", "-c", "grep SigIgn /proc/self/status || echo SigIgn: 0"], tmp_path)
    assert code == 0
    assert not int(ignored.split()[1], 16) & 1 << (signal.SIGPIPE - 1)


def test_packages_that_pythonpath_brings_anew_are_not_mixed_with_loaded_ones(tmp_path: Path) -> None:
    import yaml  # stands for a package that the warm process has loaded

    packages, script = tmp_path / "packages", tmp_path / "script.py"
    (packages / "yaml").mkdir(parents=True)
    (packages / "yaml/__init__.py").write_text("__version__ = 'from the image'\n")
    (packages / "other.py").touch()
    script.write_text("import sys, yaml; print(yaml.__version__, 'pytest' in sys.modules)")
    given = {"PYTHONPATH": str(packages)}
    assert yaml.__version__ != "from the image"
    assert warm(["python3", str(script)], tmp_path, given) == (0, "from the image False\n", "")
    (packages / "yaml").rename(packages / "not_loaded")
    assert entrypoint.warm_script(["python3", str(script)], given), "what it brings is not loaded yet"
