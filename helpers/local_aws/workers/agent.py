"""A host, from the first message to the last: a fork of the small warm process, which isolates itself first.

The first message says what is to be done: ``kind``, ``folder`` (its own, empty),
what is ``hidden`` from it, perhaps that it has a / of its own (``own_root``: the
``copies`` of folders that are to be seen at given paths, and the ``folders`` that
are to be there), and what that kind takes. The last one is ``{"event": "ended"}`` with what
that kind gives, or with the ``problem`` for which it could not begin. See
``host`` for what comes between them.
"""

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.local_aws.workers import container, copies, instance, isolation, package, processing, training
from helpers.local_aws.workers.channel import Channel
from helpers.local_aws.workers.host import Host

# What can run on a host: each returns the members of the last message.
KINDS: dict[str, Callable[[dict[str, Any], Host], dict[str, Any]]] = {
    "processing": processing.run,
    "training": training.run,
    "package": package.run,
    "container": container.run,
    "instance": instance.run,
}


def main(channel: Channel, asking: socket.socket, isolated: bool) -> None:
    """Be the host that the first message describes. ``asking`` leads to ``scripts``."""
    message = channel.receive()
    if message is None:
        return
    task = message.content
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    isolation.die_with_parent()
    os.umask(0o022)
    folder = Path(task["folder"])
    isolated = isolated and task.get("kind") != "package"  # which runs nothing, and reads what other hosts have left
    host = Host(channel, asking, isolated, isolation.ML if isolated else folder / "ml")
    try:
        _make_place(task, folder, isolated)
        end = KINDS[task.get("kind", "processing")](task, host)
    except OSError as error:
        host.kill()
        end = {"problem": str(error)}
    channel.send({"event": "ended", **end})


def _make_place(task: dict[str, Any], folder: Path, isolated: bool) -> None:
    (folder / "ml").mkdir()
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o1777)
    own_root = bool(task.get("own_root"))
    if own_root:
        (folder / copies.ROOT).mkdir()
        for source, target in task["copies"]:
            copies.lay(Path(source), target, folder)
        for target in task["folders"]:
            copies.make(target, folder)
    if isolated:
        isolation.enter(folder, [Path(path) for path in task["hidden"]], root=copies.ROOT if own_root else "")
