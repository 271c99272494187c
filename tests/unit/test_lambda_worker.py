"""Lambda functions run in warm workers, and fail in AWS's words."""

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from helpers.local_aws.lambdas import Functions, Outcome
from helpers.local_aws.wire import AwsError

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token"}
ARN = "arn:aws:lambda:us-east-1:123456789012:function:echo"
COUNTER = (
    "import os\ncalls = 0\ndef handler(event, context):\n  global calls; calls += 1\n  return [calls, os.getpid()]"
)
# Goes on when it runs three times at once.
TOGETHER = (
    "import os, time\nfrom pathlib import Path\ndef handler(folder, c):\n"
    "  (Path(folder) / str(os.getpid())).touch()\n"
    "  while len(list(Path(folder).iterdir())) < 3: time.sleep(0.01)\n  return os.getpid()"
)


def package(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def configuration(code: bytes, **changes: Any) -> dict[str, Any]:
    return {
        "FunctionName": "echo",
        "FunctionArn": ARN,
        "Handler": "main.handler",
        "Runtime": "python3.12",
        "Timeout": 180,
        "MemorySize": 256,
        "Version": "$LATEST",
        "CodeSha256": base64.b64encode(hashlib.sha256(code).digest()).decode(),
        "RevisionId": "1",
        **changes,
    }


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Functions]:
    running = Functions(tmp_path_factory.mktemp("functions"), "http://127.0.0.1:9")
    yield running
    running.close()


@pytest.fixture
def run(functions: Functions) -> Callable[..., Outcome]:
    def run(source: str, event: object = None, files: dict[str, str] | None = None, **changes: Any) -> Outcome:
        code = package({"main.py": source, **(files or {})})
        config = configuration(code, **changes)
        return functions.invoke(config, code, event, credentials=CREDENTIALS, request_id="req-1")

    return run


def body(outcome: Outcome) -> Any:
    return json.loads(outcome.payload)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def eventually(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 180
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


def test_a_result_comes_back_with_what_the_function_printed_and_logged(run: Callable[..., Outcome]) -> None:
    source = (
        "import logging\ndef handler(event, context):\n"
        "  print('printed')\n  logging.getLogger().warning('two\\nlines')\n  print('after')\n  return {'got': event}"
    )
    outcome = run(source, {"é": [1]})
    assert (body(outcome), outcome.error) == ({"got": {"é": [1]}}, False)
    printed, logged, after = outcome.events
    assert (printed, after) == ("printed", "after")
    assert logged.startswith("[WARNING]\t")
    assert logged.endswith("Z\treq-1\ttwo\nlines")
    assert outcome.log == f"printed\n{logged}\nafter\n"


def test_the_context_is_the_runtimes_own(run: Callable[..., Outcome]) -> None:
    source = (
        "def handler(event, c):\n  return [c.aws_request_id, c.function_name, c.invoked_function_arn,"
        " c.memory_limit_in_mb, c.log_stream_name, 0 < c.get_remaining_time_in_millis() <= 180_000]"
    )
    outcome = run(source)
    assert body(outcome) == ["req-1", "echo", ARN, "256", outcome.stream, True]


def test_the_environment_is_lambdas_and_nothing_of_the_servers(
    run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "x")
    source = "import os, sys\ndef handler(e, c): return [dict(os.environ), os.getcwd(), sys.path[0]]"
    environment, folder, first = body(run(source, Environment={"Variables": {"TABLE": "t"}}))
    assert folder == first == environment["LAMBDA_TASK_ROOT"]
    assert environment["TABLE"] == "t"
    assert environment["AWS_REGION"] == "us-east-1"
    assert environment["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"
    assert environment.items() >= CREDENTIALS.items()
    assert not {"SECRET_OF_THE_SERVER", "HOME", "PYTHONPATH", "VIRTUAL_ENV"} & environment.keys()


def test_module_state_survives_until_the_code_changes(run: Callable[..., Outcome]) -> None:
    first, second = run(COUNTER), run(COUNTER)
    assert [body(first)[0], body(second)[0]] == [1, 2]
    assert body(first)[1] == body(second)[1]
    assert (first.init_ms is not None, second.init_ms) == (True, None)
    changed = run(f"{COUNTER}\n# changed")
    assert body(changed)[0] == 1
    assert eventually(lambda: gone(body(first)[1]))


@pytest.mark.parametrize("change", [{"Environment": {"Variables": {"A": "1"}}}, {"RevisionId": "2"}])
def test_a_changed_configuration_gets_a_fresh_worker(run: Callable[..., Outcome], change: dict[str, Any]) -> None:
    assert body(run(COUNTER, RevisionId="0"))[0] == 1
    assert body(run(COUNTER, **change))[0] == 1


def test_invocations_at_the_same_time_have_workers_of_their_own(run: Callable[..., Outcome], tmp_path: Path) -> None:
    outcomes: list[Outcome] = []
    threads = [threading.Thread(target=lambda: outcomes.append(run(TOGETHER, str(tmp_path)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(body(outcome) for outcome in outcomes) == sorted(int(path.name) for path in tmp_path.iterdir())


def test_an_uncaught_error_has_its_type_and_stack_trace(run: Callable[..., Outcome]) -> None:
    outcome = run("class Bad(Exception): pass\ndef handler(e, c):\n  raise Bad('no good')")
    answer = body(outcome)
    assert outcome.error
    assert [answer[key] for key in ("errorMessage", "errorType", "requestId")] == ["no good", "Bad", "req-1"]
    assert [line.split("/")[-1] for line in answer["stackTrace"]] == [
        "main.py\", line 3, in handler\n    raise Bad('no good')\n"
    ]
    assert outcome.log.startswith("[ERROR] Bad: no good\nTraceback (most recent call last):\n\xa0\xa0File ")


REFUSED_AT_IMPORT = [
    ("import nowhere", "Runtime.ImportModuleError", "Unable to import module 'main': No module named 'nowhere'"),
    ("import pandas", "Runtime.ImportModuleError", "Unable to import module 'main': No module named 'pandas'"),
    ("other = 1", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'main'"),
    ("1 / 0", "ZeroDivisionError", "division by zero"),
]


@pytest.mark.parametrize(("source", "error_type", "message"), REFUSED_AT_IMPORT)
def test_a_function_that_cannot_be_loaded_says_why(
    run: Callable[..., Outcome], source: str, error_type: str, message: str
) -> None:
    outcome = run(source)
    assert outcome.error
    assert (body(outcome)["errorType"], body(outcome)["errorMessage"]) == (error_type, message)
    assert f"[ERROR] {error_type}: {message}" in outcome.log


EXITS = [
    ("raise SystemExit(3)", "Runtime exited with error: exit status 3"),
    ("exit()", "Runtime exited without providing a reason"),
    ("import os; os.kill(os.getpid(), 9)", "Runtime exited with error: signal: killed"),
]


@pytest.mark.parametrize(("statement", "reason"), EXITS)
def test_a_runtime_that_exits_is_reported_and_replaced(
    run: Callable[..., Outcome], statement: str, reason: str
) -> None:
    source = f"def handler(leave, c):\n  if leave: {statement}\n  return 'well'"
    outcome = run(source, True)
    expected = {"errorType": "Runtime.ExitError", "errorMessage": f"RequestId: req-1 Error: {reason}"}
    assert (body(outcome), outcome.error) == (expected, True)
    assert outcome.log == f"RequestId: req-1 Error: {reason}\nRuntime.ExitError\n"
    assert body(run(source, False)) == "well"


def test_a_result_that_is_not_json_is_a_marshal_error(run: Callable[..., Outcome]) -> None:
    answer = body(run("def handler(e, c): return {1}"))
    assert answer["errorType"] == "Runtime.MarshalError"
    assert answer["errorMessage"] == "Unable to marshal response: Object of type set is not JSON serializable"


def test_a_timeout_ends_the_function_and_what_it_started(run: Callable[..., Outcome], tmp_path: Path) -> None:
    # What has to be done before the time is over is done while the function is loaded, which has a limit of its own.
    source = (
        "import os, subprocess, time\nfrom pathlib import Path\nchild = subprocess.Popen(['sleep', '600'])\n"
        f"Path({str(tmp_path / 'pids')!r}).write_text(f'{{os.getpid()}} {{child.pid}}')\n"
        "print('started', flush=True)\ndef handler(event, c): time.sleep(600)"
    )
    outcome = run(source, Timeout=1)
    message = "Task timed out after 1.00 seconds"
    expected = {"errorType": "Sandbox.Timedout", "errorMessage": f"RequestId: req-1 Error: {message}"}
    assert body(outcome) == expected
    started, last = outcome.events
    assert started == "started"
    assert last.endswith(f"Z req-1 {message}")
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert eventually(lambda: all(gone(pid) for pid in pids))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the platform does not tell a process's peak memory")
def test_a_function_that_holds_more_than_its_memory_is_killed(run: Callable[..., Outcome]) -> None:
    source = "def handler(megabytes, c): return len(bytes(bytearray(b'x') * (megabytes << 20)))"
    assert body(run(source, 20, MemorySize=128)) == 20 << 20
    answer = body(run(source, 300, MemorySize=128))
    assert answer == {
        "errorType": "Runtime.OutOfMemory",
        "errorMessage": "RequestId: req-1 Error: Runtime exited with error: signal: killed",
    }


def test_large_events_pass_and_too_large_answers_do_not(run: Callable[..., Outcome]) -> None:
    event = {"text": "é" * 1_500_000}
    source = "def handler(event, c): return event if isinstance(event, dict) else 'x' * event"
    assert body(run(source, event)) == event
    outcome = run(source, 6_400_000)
    assert outcome.error
    assert body(outcome) == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }


def test_packages_in_the_zip_are_found_and_win_over_the_runtimes(run: Callable[..., Outcome]) -> None:
    files = {
        "yaml/__init__.py": "def safe_load(text): return {'parsed by': 'the package'}",
        "yaml/_yaml.cpython-313-x86_64-linux-gnu.so": "for another Python",
        "urllib3/__init__.py": "__version__ = 'packaged'",
    }
    source = "import urllib3, yaml\ndef handler(e, c): return [yaml.safe_load('a: 1'), urllib3.__version__]"
    assert body(run(source, files=files)) == [{"parsed by": "the package"}, "packaged"]


def test_boto3_is_there_without_being_packaged(run: Callable[..., Outcome]) -> None:
    source = (
        "import boto3\ns3 = boto3.client('s3')\n"
        "def handler(e, c): return [s3.meta.endpoint_url, s3.meta.region_name, boto3.Session().get_credentials().token]"
    )
    assert body(run(source)) == ["http://127.0.0.1:9", "us-east-1", "token"]


def test_json_logging_is_the_runtimes(run: Callable[..., Outcome]) -> None:
    source = "import logging\ndef handler(e, c): logging.getLogger().info('hello')"
    (record,) = run(source, LoggingConfig={"LogFormat": "JSON"}).events
    assert json.loads(record).items() >= {"level": "INFO", "message": "hello", "requestId": "req-1"}.items()


@pytest.mark.parametrize(
    ("change", "word"),
    [({"Layers": [{"Arn": "arn"}]}, "Layers"), ({"Runtime": "nodejs22.x"}, "nodejs22.x"), ({"Runtime": ""}, "None")],
)
def test_what_cannot_run_here_is_refused_by_name(run: Callable[..., Outcome], change: dict, word: str) -> None:
    with pytest.raises(AwsError, match=word) as refused:
        run("def handler(e, c): pass", **change)
    assert refused.value.code == "NotImplemented"


CLASH = package({"a": "x = 1", "a/b": "x = 1"})


@pytest.mark.parametrize(
    "code", [b"not a zip", package({"../outside.py": "x = 1"}), package({"/etc/outside": "x"}), CLASH]
)
def test_a_package_that_is_no_zip_or_leaves_its_folder_is_refused(functions: Functions, code: bytes) -> None:
    with pytest.raises(AwsError, match="Could not unzip uploaded file"):
        functions.invoke(configuration(code), code, None, credentials=CREDENTIALS, request_id="req-1")


def test_idle_workers_end_and_close_ends_the_rest(tmp_path: Path) -> None:
    code = package({"main.py": COUNTER})
    functions = Functions(tmp_path, "http://127.0.0.1:9", idle_seconds=0.2)
    try:
        outcome = functions.invoke(configuration(code), code, None, credentials=CREDENTIALS, request_id="r")
        assert eventually(lambda: gone(body(outcome)[1]))
        again = functions.invoke(configuration(code), code, None, credentials=CREDENTIALS, request_id="r")
    finally:
        functions.close()
    assert eventually(lambda: gone(body(again)[1]))


def test_of_the_workers_that_a_burst_needed_one_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.local_aws.lambdas.functions.SPARE_SECONDS", 0.2)
    (tmp_path / "busy").mkdir()
    code = package({"main.py": TOGETHER})
    functions = Functions(tmp_path, "http://127.0.0.1:9")

    def run(_: int) -> int:
        folder = str(tmp_path / "busy")
        return body(functions.invoke(configuration(code), code, folder, credentials=CREDENTIALS, request_id="r"))

    try:
        with ThreadPoolExecutor(3) as callers:
            workers = set(callers.map(run, range(3)))
        assert len(workers) == 3
        assert eventually(lambda: sum(not gone(worker) for worker in workers) == 1)
        assert run(0) in workers
    finally:
        functions.close()


def test_workers_do_not_outlive_a_killed_server(tmp_path: Path) -> None:
    script = (
        "import json, os, signal, sys\nfrom pathlib import Path\nfrom helpers.local_aws.lambdas import Functions\n"
        "config, code, credentials = json.loads(sys.stdin.read())\n"
        "functions = Functions(Path(sys.argv[1]), 'http://127.0.0.1:9')\n"
        "outcome = functions.invoke(config, bytes.fromhex(code), 0, credentials=credentials, request_id='r')\n"
        "print(outcome.payload.decode(), flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    code = package({"main.py": COUNTER})
    server = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        input=json.dumps([configuration(code), code.hex(), CREDENTIALS]),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    worker = json.loads(server.stdout)[1]
    assert eventually(lambda: gone(worker))
