"""The process that function workers are forked from, and what a worker does.

Runs as a fork of the server (``be_forked``) or as a script of its own,
``python -I -S zygote.py CONTROL RUNTIME``: the number of the control socket and
the folder that holds the packages of Lambda's runtime. Nothing of the project
can be imported here, as nothing of it could on AWS.

One byte on the control socket asks to load packages, and with three descriptors for a worker:
its channel (the conversation with AWS's runtime client), its log, and its
leash. The zygote answers on the leash with the worker's process id, and with
the exit code when the worker has ended. When the other end of the leash goes,
because somebody wants the worker gone or because the server died, the zygote
kills the worker and its process group.
"""

import contextlib
import functools
import gc
import json
import os
import signal
import site
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn

SERVICES = ("s3", "codecommit", "stepfunctions")
NO_AWS_FILES = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
UNSIGNED = {"region_name": "us-east-1", "aws_access_key_id": "none", "aws_secret_access_key": "none"}


@functools.cache
def warm_up() -> None:
    """Do once, for all workers, what every function would otherwise do again in its first second."""
    import awslambdaric.bootstrap  # noqa: F401 - for the workers
    import boto3
    import botocore.session

    # One loader for all sessions: a worker's first client finds its service's model already parsed.
    if not hasattr(botocore.session.create_loader, "cache_info"):
        botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    site.setquit()  # handlers may call exit(); -S leaves it out together with the environment's packages
    for service in SERVICES:  # botocore's parsers, patterns and endpoint rules stay in its module caches
        boto3.Session().client(service, **UNSIGNED)
    gc.collect()
    gc.freeze()  # keeps the collector from writing to, and so copying, the pages that workers share


def serve(control: socket.socket, runtime: Path) -> None:
    """Fork workers until the server goes away, then end those that are left."""
    child_ended, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(child_ended, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    leashes: dict[int, socket.socket] = {}
    while True:
        ready = wait([control, child_ended, *leashes.values()])
        for pid in [pid for pid, leash in leashes.items() if leash in ready]:
            _kill(pid)
            ready.append(child_ended)
        if child_ended in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(child_ended, 4096)
            _reap(leashes)
        if control in ready:
            asked, fds, _, _ = socket.recv_fds(control, 1, 3)
            if not asked:
                break
            warm_up()
            if not fds:
                continue
            channel, log, leash = fds
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for fd in (control.fileno(), child_ended, wake, leash, *(s.fileno() for s in leashes.values())):
                    os.close(fd)
                _work(channel, log, runtime)
            os.close(channel)
            os.close(log)
            leashes[pid] = socket.socket(fileno=leash)
            with contextlib.suppress(OSError):
                leashes[pid].send(b"%d\n" % pid)
    for pid in leashes:
        _kill(pid)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _reap(leashes: dict[int, socket.socket]) -> None:
    while leashes:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)  # what the function started ends with it, as its sandbox does on AWS
        with leashes.pop(pid) as leash, contextlib.suppress(OSError):
            leash.send(b"%d\n" % os.waitstatus_to_exitcode(status))


def _work(channel_fd: int, log_fd: int, runtime: Path) -> NoReturn:
    """Be a worker: take the settings, then let AWS's runtime client serve invocations."""
    os.setsid()
    os.set_inheritable(channel_fd, False)
    os.set_inheritable(log_fd, False)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    channel = Connection(channel_fd)
    settings = json.loads(channel.recv_bytes())
    os.environ.clear()
    os.environ.update(settings["environment"])
    # Makes the client frame each record, as on AWS; frames and printed text share one pipe, so order is kept.
    os.environ["_LAMBDA_TELEMETRY_LOG_FD"] = str(log_fd)
    time.tzset()
    os.chdir(settings["code"])
    sys.argv[:] = [""]
    sys.path.insert(0, settings["code"])
    _yield_to_packaged(Path(settings["code"]), runtime)
    if "AWS_LAMBDA_LOG_FORMAT" in os.environ or "AWS_LAMBDA_LOG_LEVEL" in os.environ:
        sys.modules.pop("awslambdaric.bootstrap")  # it reads these two when it is imported
    from awslambdaric.bootstrap import run

    status = 0
    try:
        run(settings["handler"], RuntimeApi(channel))
    except SystemExit as error:  # the interpreter's own rules: None is 0, text is printed and 1
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001 - a process boundary: KeyboardInterrupt and such end the runtime with 1
        sys.excepthook(*sys.exc_info())
        status = 1
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(status & 0xFF)


def _yield_to_packaged(code: Path, runtime: Path) -> None:
    """Forget the loaded runtime packages if the function brings one of its own: the function's wins, as on AWS."""
    provided = {link.stem for link in runtime.iterdir() if link.is_symlink()} - {"awslambdaric", "simplejson"}
    if any(entry.stem in provided for entry in code.iterdir()):
        for name in [name for name in sys.modules if name.partition(".")[0] in provided]:
            del sys.modules[name]


class Invocation:
    """One event, with the attributes that the runtime client reads from an answer of Lambda's Runtime API."""

    content_type = "application/json"
    client_context = cognito_identity = tenant_id = x_amzn_trace_id = invocation_id = None

    def __init__(self, header: dict[str, Any], body: bytes) -> None:
        self.invoke_id = header["request_id"]
        self.invoked_function_arn = header["arn"]
        self.deadline_time_in_ms = header["deadline_ms"]
        self.event_body = body


class RuntimeApi:
    """Lambda's Runtime API as awslambdaric's client presents it to its ``run`` loop, over the channel.

    Messages to the server are one letter and a body: ``R`` the function is
    loaded, ``I`` it could not be, ``S`` a result, ``E`` an error.
    """

    def __init__(self, channel: Connection) -> None:
        from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller

        self.channel = channel
        self.marshaller = LambdaMarshaller()
        self.loaded = False

    def wait_next_invocation(self) -> Invocation:
        if not self.loaded:
            self.loaded = True
            self._send(b"R", b"")
        try:
            return Invocation(json.loads(self.channel.recv_bytes()), self.channel.recv_bytes())
        except EOFError:
            raise SystemExit(0) from None

    def post_init_error(self, error: dict[str, Any], error_type_override: str | None = None) -> None:
        self._send(b"I", json.dumps(error))

    def post_invocation_result(
        self, invoke_id: str, result: str | bytes, content_type: str, invocation_id: str | None = None
    ) -> None:
        self._send(b"S", result)

    def post_invocation_error(
        self, invoke_id: str, error: str, xray_fault: str, invocation_id: str | None = None
    ) -> None:
        self._send(b"E", error)

    def _send(self, kind: bytes, body: str | bytes) -> None:
        self.channel.send_bytes(kind + (body.encode() if isinstance(body, str) else body))


def be_forked(control: socket.socket, runtime: Path, forget: Callable[[], None]) -> None:
    """Be the zygote as a fork of the server; ``forget`` removes what that has loaded beside the runtime."""
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 1)
    os.environ.clear()
    os.environ.update(NO_AWS_FILES)
    main = sys.modules[__name__]
    forget()
    sys.modules["__main__"] = main
    sys.path.append(str(runtime))
    serve(control, runtime)


if __name__ == "__main__":
    sys.path.append(sys.argv[2])
    with socket.socket(fileno=int(sys.argv[1])) as control_socket:
        warm_up()
        serve(control_socket, Path(sys.argv[2]))
