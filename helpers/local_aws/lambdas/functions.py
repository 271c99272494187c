"""Run Python Lambda functions in warm workers."""

import base64
import hashlib
import io
import json
import os
import signal
import sys
import tempfile
import threading
import time
import uuid
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from helpers.local_aws.archives import ZIP_ERRORS
from helpers.local_aws.wire import AwsError

from .runtime import link_runtime
from .worker import NO_AWS_FILES, Worker, Zygote

INIT_SECONDS = 10.0
SPARE_SECONDS = 20.0  # after which workers that only a burst needed end: all of a function's but one
LARGEST_RESPONSE = 6_291_556


@dataclass(frozen=True)
class Outcome:
    """How one invocation ended.

    ``payload`` is the JSON that the caller gets: the result, or if ``error``
    the error's description. ``events`` is what the function logged and the
    platform's word on a crash, one item per event of CloudWatch Logs, without
    the START, END and REPORT lines; ``stream`` is the log stream it belongs
    to. Times are in milliseconds; ``init_ms`` is None for a warm start.
    """

    payload: bytes
    error: bool
    events: tuple[str, ...]
    stream: str
    duration_ms: float
    init_ms: float | None
    memory_mb: int

    @property
    def log(self) -> str:
        """The events as text, each ending in a newline."""
        return "".join(f"{event}\n" for event in self.events)


@dataclass
class _Sandbox:
    worker: Worker
    function: tuple[str, str]
    digest: str
    stream: str
    idle_since: float = field(default=0.0)


class Functions:
    """Every function's workers: started when needed, kept warm, ended when idle or outdated.

    A worker serves one function version with one configuration, one code and
    one set of credentials, so module state survives between invocations as
    on AWS. The caller therefore keeps one role session per function and
    renews it well before it expires: other credentials mean a cold start.

    Differences from AWS: every python3.x runtime runs on this interpreter;
    the code sits under ``folder`` and not in /var/task (LAMBDA_TASK_ROOT
    tells); /tmp is the machine's own, shared by all; AWS_ENDPOINT_URL points
    to the embedded AWS and the user's AWS files are out of sight. What a
    function can import is what it can on AWS: its own package, the standard
    library, boto3 and what boto3 brings.
    """

    def __init__(
        self, folder: Path, endpoint_url: str, *, idle_seconds: float = 300, zygote: Zygote | None = None
    ) -> None:
        """``zygote``: one that has been started for this ``folder``."""
        self._folder, self._endpoint_url, self._idle_seconds = folder.resolve(), endpoint_url, idle_seconds
        self._lock, self._unpacking, self._closed = threading.Lock(), threading.Lock(), threading.Event()
        self._idle: list[_Sandbox] = []
        self._current: dict[tuple[str, str], str] = {}
        self._runtime = link_runtime(self._folder)
        self._zygote = zygote or Zygote(self._runtime)
        threading.Thread(target=self._retire, name="retire-functions", daemon=True).start()

    def invoke(
        self, config: dict[str, Any], code_zip: bytes, event: object, *, credentials: dict[str, str], request_id: str
    ) -> Outcome:
        """Run the function on ``event`` (any JSON value) and return how it ended.

        ``config`` is the function's configuration as Lambda's API returns it,
        FunctionArn being the ARN that was invoked. ``credentials`` are the
        AWS_* variables of a session of the function's role. Raises AwsError
        for a runtime, a package type or layers that cannot run here, and for
        a package that is not a zip archive.
        """
        _refuse_unsupported(config)
        body = json.dumps(event).encode()
        sandbox = self._take(config, credentials)
        init_ms = None
        if sandbox is None:
            started = time.monotonic()
            sandbox = self._start(config, self._unpack(config["CodeSha256"], code_zip), credentials)
            letter, answer = sandbox.worker.receive(max(INIT_SECONDS, config["Timeout"]))
            init_ms = 1000 * (time.monotonic() - started)
            if letter != "R":
                return _finish(sandbox, config, request_id, letter, answer, 0.0, init_ms)
        deadline_ms = int(1000 * (time.time() + config["Timeout"]))
        started = time.monotonic()
        header = {"request_id": request_id, "arn": config["FunctionArn"], "deadline_ms": deadline_ms}
        sandbox.worker.send(header, body)
        letter, answer = sandbox.worker.receive(config["Timeout"])
        outcome = _finish(sandbox, config, request_id, letter, answer, 1000 * (time.monotonic() - started), init_ms)
        if letter in "SE":
            self._give_back(sandbox)
        return outcome

    def warm_up(self) -> None:
        """Load packages before the first invocation needs them; returns at once."""
        self._zygote.warm_up()

    def close(self) -> None:
        """End every worker, those at work included."""
        self._closed.set()
        self._zygote.close()
        with self._lock:
            for sandbox in self._idle:
                sandbox.worker.end()
            self._idle.clear()

    def _take(self, config: dict[str, Any], credentials: dict[str, str]) -> _Sandbox | None:
        """Return a warm worker for exactly this function, or None; end the idle ones of an older state of it."""
        function, digest = _identity(config), _digest(config, credentials)
        with self._lock:
            self._current[function] = digest
            fits = [s for s in self._idle if s.digest == digest]
            gone = [s for s in self._idle if s.function == function and s.digest != digest]
            gone += [s for s in fits if not s.worker.idle_and_well]
            taken = next((s for s in reversed(fits) if s not in gone), None)
            self._idle = [s for s in self._idle if s not in gone and s is not taken]
        for sandbox in gone:
            sandbox.worker.end()
        return taken

    def _give_back(self, sandbox: _Sandbox) -> None:
        sandbox.idle_since = time.monotonic()
        with self._lock:
            keep = self._current[sandbox.function] == sandbox.digest and not self._closed.is_set()
            if keep:
                self._idle.append(sandbox)
        if not keep:
            sandbox.worker.end()

    def _retire(self) -> None:
        """End the workers that have been idle for too long, until closed."""
        while not self._closed.wait(min(self._idle_seconds, SPARE_SECONDS) / 4):
            now = time.monotonic()
            kept: list[_Sandbox] = []
            gone: list[_Sandbox] = []
            with self._lock:
                for sandbox in reversed(self._idle):  # the one that was used last is used next
                    spare = any(sandbox.function == other.function for other in kept)
                    limit = min(self._idle_seconds, SPARE_SECONDS) if spare else self._idle_seconds
                    (gone if now - sandbox.idle_since > limit else kept).append(sandbox)
                self._idle = kept[::-1]
            for sandbox in gone:
                sandbox.worker.end()

    def _start(self, config: dict[str, Any], code: Path, credentials: dict[str, str]) -> _Sandbox:
        version = config.get("Version", "$LATEST")
        stream = f"{time.strftime('%Y/%m/%d', time.gmtime())}/[{version}]{uuid.uuid4().hex}"
        environment = {
            **self._environment(config, code),
            "AWS_LAMBDA_LOG_STREAM_NAME": stream,
            **credentials,
            **config.get("Environment", {}).get("Variables", {}),
        }
        with self._lock:
            if not self._zygote.alive and not self._closed.is_set():
                self._zygote = Zygote(self._runtime)
        settings = {"code": str(code), "handler": config["Handler"], "environment": environment}
        worker = Worker(self._zygote, settings, memory_mb=config["MemorySize"])
        return _Sandbox(worker, _identity(config), _digest(config, credentials), stream)

    def _environment(self, config: dict[str, Any], code: Path) -> dict[str, str]:
        region, logging = config["FunctionArn"].split(":")[3], config.get("LoggingConfig", {})
        environment = {
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{config['Runtime']}",
            "AWS_LAMBDA_FUNCTION_NAME": config["FunctionName"],
            "AWS_LAMBDA_FUNCTION_VERSION": config.get("Version", "$LATEST"),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(config["MemorySize"]),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": logging.get("LogGroup", f"/aws/lambda/{config['FunctionName']}"),
            "LAMBDA_TASK_ROOT": str(code),
            "LAMBDA_RUNTIME_DIR": str(self._runtime),
            "_HANDLER": config["Handler"],
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PATH": f"{Path(sys.executable).resolve().parent}:/usr/local/bin:/usr/bin:/bin:/opt/bin",
            "AWS_ENDPOINT_URL": self._endpoint_url,
            **NO_AWS_FILES,
        }
        if logging.get("LogFormat") == "JSON":
            environment["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
            environment["AWS_LAMBDA_LOG_LEVEL"] = logging.get("ApplicationLogLevel", "INFO")
        return environment

    def _unpack(self, code_sha256: str, code_zip: bytes) -> Path:
        """Return the folder with this code, extracting it the first time that it is seen."""
        code = self._folder / "code" / base64.b64decode(code_sha256).hex()
        with self._unpacking:
            if not code.exists():
                code.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=code.parent, prefix="new-") as unfinished:
                    _extract(code_zip, Path(unfinished) / "code")
                    os.replace(Path(unfinished) / "code", code)
        return code


def _refuse_unsupported(config: dict[str, Any]) -> None:
    name = config["FunctionName"]
    runtime = config.get("Runtime") or config.get("PackageType")
    for unsupported, what in (
        (not str(runtime).startswith("python"), f"Runtime {runtime}: it runs python3.x"),
        (config.get("Layers"), "Layers: package the code with the function"),
    ):
        if unsupported:
            raise AwsError("NotImplemented", f"the embedded AWS does not run lambda function {name} with {what}", 501)


def _identity(config: dict[str, Any]) -> tuple[str, str]:
    """Return the function's unqualified ARN and version: an alias shares the workers of its version."""
    return ":".join(config["FunctionArn"].split(":")[:7]), config.get("Version", "$LATEST")


def _digest(config: dict[str, Any], credentials: dict[str, str]) -> str:
    """Return what tells one state of a function from another: code, settings and credentials."""
    names = ("CodeSha256", "RevisionId", "Handler", "Runtime", "Timeout", "MemorySize", "Environment", "LoggingConfig")
    state = [_identity(config), [config.get(name) for name in names], sorted(credentials.items())]
    return hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()


def _finish(
    sandbox: _Sandbox,
    config: dict[str, Any],
    request_id: str,
    letter: str,
    answer: bytes,
    duration_ms: float,
    init_ms: float | None,
) -> Outcome:
    """Turn the worker's last message into the outcome; end the worker if it cannot go on."""
    worker, memory_mb = sandbox.worker, sandbox.worker.peak_mb
    failure: tuple[str, str] | None = None
    note = []
    if letter == "T":
        text = f"Task timed out after {config['Timeout']:.2f} seconds"
        failure = "Sandbox.Timedout", text
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03}Z"
        note = [f"{stamp} {request_id} {text}"]
        worker.end()
    elif letter == "M":
        failure = "Runtime.OutOfMemory", "Runtime exited with error: signal: killed"
        worker.end()
    elif letter == "X":
        failure = "Runtime.ExitError", _exit_text(worker.exited())
    elif letter == "I":
        worker.exited()
    elif letter == "S" and len(answer) > LARGEST_RESPONSE:
        text = f"Response payload size exceeded maximum allowed payload size ({LARGEST_RESPONSE} bytes)."
        letter, answer = "E", _plain_error("Function.ResponseSizeTooLarge", text)
    if failure:
        answer = _plain_error(failure[0], f"RequestId: {request_id} Error: {failure[1]}")
        note = note or [f"RequestId: {request_id} Error: {failure[1]}\n{failure[0]}"]
    events = (*worker.take_log(), *note)
    return Outcome(answer, letter != "S", events, sandbox.stream, duration_ms, init_ms, memory_mb)


def _plain_error(error_type: str, message: str) -> bytes:
    return json.dumps({"errorType": error_type, "errorMessage": message}, separators=(",", ":")).encode()


def _exit_text(code: int) -> str:
    if code < 0:
        return f"Runtime exited with error: signal: {(signal.strsignal(-code) or str(-code)).lower()}"
    return f"Runtime exited with error: exit status {code}" if code else "Runtime exited without providing a reason"


def _extract(code_zip: bytes, folder: Path) -> None:
    """Extract a deployment package. Raises AwsError for what is not one, or reaches outside of its folder."""
    refusal = "Could not unzip uploaded file. Please check your file, then try to upload again."
    try:
        with zipfile.ZipFile(io.BytesIO(code_zip)) as archive:
            for member in archive.infolist():
                path = PurePosixPath(member.filename)
                if path.is_absolute() or ".." in path.parts:
                    raise AwsError("InvalidParameterValueException", refusal)
                target = Path(archive.extract(member, folder))
                if not member.is_dir() and member.external_attr >> 16 & 0o111:
                    target.chmod(0o755)  # zipfile drops the modes; a packaged program must stay one
            folder.mkdir(exist_ok=True)
    except ZIP_ERRORS:
        raise AwsError("InvalidParameterValueException", refusal) from None
