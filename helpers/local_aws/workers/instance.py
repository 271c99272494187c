"""What happens in one EC2 instance: its user data runs, in a machine of its own, until somebody ends it.

Two processes make an idle instance: the first one of its process namespace, and
the host's here, outside. What user data starts has its own network, in which two
addresses answer: that of the metadata service, whose connections go to the
server, and that of the embedded AWS. Where namespaces are not to be had (macOS),
user data runs as a process group in the machine's own network, finds its metadata
through AWS_EC2_METADATA_SERVICE_ENDPOINT, and what leaves the group outlives it,
except on Linux.

To the server go ``{"event": "started"}``, ``console`` with what was printed, and at
the end the ``reason``. Any message from the server ends the instance.
"""

import base64
import os
from typing import Any

from helpers.local_aws.workers import isolation, processes, userdata
from helpers.local_aws.workers.host import Host, Program

METADATA = ("169.254.169.254", 80)
SHUTDOWN = "Instance initiated shutdown"  # AWS's words
KILLED = "the instance's first process was killed"
# There is no systemd inside: these commands tell the host, after ``+minutes`` if that is said.
_POWER_OFF = """#!/bin/sh
minutes=$([ "${{0##*/}}" = shutdown ] && echo 1 || echo 0)
for argument; do
  case $argument in
    -h | -H | -P | --halt | --poweroff | --no-wall | -f | --force) ;;
    now) minutes=0; break ;;
    +[0-9]*) minutes=${{argument#+}}; break ;;
    *) echo "${{0##*/}}: $argument is not supported by the embedded AWS" >&2; exit 1 ;;
  esac
done
[ "$minutes" = 0 ] && exec echo "${{0##*/}}" > {power}
(sleep $((minutes * 60)); echo "${{0##*/}}" > {power}) > /dev/null 2>&1 &
"""


def run(task: dict[str, Any], host: Host) -> dict[str, Any]:
    """Be the instance until its end; return the members of the last message."""
    processes.rename("aws-instance")
    instance = _Instance(task, host)
    reason = ""
    try:
        instance.boot()
        reason = instance.serve()
    except OSError as error:
        reason = str(error)
    finally:
        host.kill()
    return {"reason": reason}


class _Instance:
    def __init__(self, task: dict[str, Any], host: Host) -> None:
        self._task, self._host = task, host
        self._reason = ""
        self._script_ran = False

    def boot(self) -> None:
        """Start the first process, what answers at the two addresses, and user data. Raises OSError."""
        host = self._host
        environment = self._enter()
        power = self._make_power()
        self._start_user_data(environment)
        host.watch_children()
        host.hear = lambda _message: self._finish("terminated")  # whatever came, or did not come any more
        host.watch(power, lambda: self._finish(SHUTDOWN))
        host.chores.append(self._look)
        processes.allow_files()
        host.channel.send({"event": "started"})

    def serve(self) -> str:
        """Do what there is to do until the instance ends; return why it does."""
        self._host.serve(lambda: bool(self._reason))
        return self._reason

    def _finish(self, reason: str) -> None:
        self._reason = self._reason or reason

    def _look(self) -> None:
        """Notice the end of the script, which the console tells, and that of the first process."""
        if self._script_ran and self._host.code is not None:
            self._script_ran = False
            signal, code = self._host.signal, self._host.code
            self._say(
                f"the script was ended by signal {signal}" if signal else f"the script ended with exit code {code}"
            )
        if self._host.lost:
            self._finish(KILLED)

    def _enter(self) -> dict[str, str]:
        """Go to the instance's own place; return what cloud-init gives to a script on Amazon Linux, and what differs.

        The commands that power an instance off otherwise are the machine's.
        """
        host, url = self._host, self._task["endpoint_url"]
        more = {}
        if host.isolated:
            host.enter(only=(METADATA, url))
        else:
            isolation.adopt_orphans()
            below = self._task["below"]  # everybody on this machine can connect
            address, port = host.listen(below)
            more["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = f"http://{address}:{port}{below}"
        return host.environment(url, host.root / "bin") | more

    def _start_user_data(self, environment: dict[str, str]) -> None:
        script, note = userdata.script(base64.b64decode(self._task["user_data"]))
        self._say(note)
        if not script:
            return
        path = self._host.root / "user-data"
        path.write_bytes(script)
        path.chmod(0o700)
        program = Program([str(path)], environment, "/", cannot="user data: the script cannot be run")
        self._host.start(program, self._print, warm=False)
        self._script_ran = True

    def _make_power(self) -> int:
        """Make the commands that end the instance from inside; return where they are heard."""
        power, commands = self._host.root / "power", self._host.root / "bin"
        os.mkfifo(power, 0o600)
        commands.mkdir()
        for name in ("shutdown", "poweroff", "halt"):
            (commands / name).write_text(_POWER_OFF.format(power=power))
            (commands / name).chmod(0o755)
        return os.open(power, os.O_RDWR | os.O_NONBLOCK)  # for writing too: readable then means that somebody wrote

    def _print(self, data: bytes) -> None:
        self._host.channel.send({"event": "console"}, data)

    def _say(self, text: str) -> None:
        self._print(f"user data: {text}\n".encode())
