"""``python -m helpers.local_aws``: start, stop and ask about the embedded AWS."""

import argparse
import shlex
import sys
from pathlib import Path

from helpers.local_aws import control


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 when it did what was asked, 1 when not."""
    options = _parser().parse_args(argv)
    state_dir = options.state_dir.resolve()
    try:
        return _COMMANDS[options.command](options, state_dir)
    except control.ControlError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m helpers.local_aws", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("start", "start it, or find it running; returns when it is ready"),
        ("status", "say whether it runs, and where"),
        ("env", 'print the environment for a shell: eval "$(… env)"'),
        ("logs", "print the end of its log"),
        ("stop", "stop it; its state stays"),
        ("reset", "stop it and delete its state"),
        ("serve", "be the server, in the foreground"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--state-dir", type=Path, default=control.default_state_dir(), help="default: .local_aws")
        if name in ("start", "serve"):
            command.add_argument("--port", type=int, help="default: the last one, or a free one")
        if name == "env":
            command.add_argument("--admin", action="store_true", help="the administrator's credentials")
        if name == "logs":
            command.add_argument("--lines", type=int, default=40)
        if name == "serve":
            command.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    return parser


def _start(options: argparse.Namespace, state_dir: Path) -> int:
    server, started = control.start(state_dir, options.port)
    print(f"embedded AWS {'started' if started else 'runs already'} at {server.endpoint_url} (pid {server.pid})")
    return 0


def _status(options: argparse.Namespace, state_dir: Path) -> int:
    server = control.find(state_dir)
    if server is None:
        print("embedded AWS: stopped")
        return 1
    print(
        f"embedded AWS: running at {server.endpoint_url} (pid {server.pid}),"
        f" region {server.region}, state in {state_dir}"
    )
    return 0


def _env(options: argparse.Namespace, state_dir: Path) -> int:
    from helpers.local_aws import credentials  # boto3 takes a moment to import: only here

    server = control.find(state_dir)
    if server is None:
        raise control.ControlError("the embedded AWS is not running: python -m helpers.local_aws start")
    variables = credentials.environment(server, admin=options.admin)
    if options.admin:
        print("unset AWS_SESSION_TOKEN AWS_PROFILE")
    else:
        print("unset AWS_PROFILE")
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
    for name in ("NO_PROXY", "no_proxy"):  # a proxy cannot reach this machine's loopback
        print(f'export {name}="${{{name}:+${name},}}127.0.0.1"')
    return 0


def _logs(options: argparse.Namespace, state_dir: Path) -> int:
    print(control.log_tail(state_dir, options.lines))
    return 0


def _stop(options: argparse.Namespace, state_dir: Path) -> int:
    print("embedded AWS stopped" if control.stop(state_dir) else "embedded AWS was not running")
    return 0


def _reset(options: argparse.Namespace, state_dir: Path) -> int:
    control.reset(state_dir)
    print("embedded AWS stopped, its state is deleted")
    return 0


def _serve(options: argparse.Namespace, state_dir: Path) -> int:
    if options.port is None:
        raise control.ControlError("serve needs --port; `start` finds one")
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    control.run_server(state_dir, options.port, options.ready_fd)
    return 0


_COMMANDS = {
    "start": _start,
    "status": _status,
    "env": _env,
    "logs": _logs,
    "stop": _stop,
    "reset": _reset,
    "serve": _serve,
}

if __name__ == "__main__":
    sys.exit(main())
