"""Fork the warm processes off the server at its very start.

They share with it, and with each other, the memory of what is loaded by then.
At that time the server has no threads, no lock and no secret that a job or a
function could find in its memory. Imports stand where they are needed: what is
loaded before a fork is in that fork.
"""

import gc
import locale
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.local_aws.workers import forkserver, processes

if TYPE_CHECKING:
    from helpers.local_aws.lambdas.worker import Zygote


@dataclass(frozen=True)
class Warm:
    """The processes that jobs and functions come from. ``functions`` is None where it has to be started apart."""

    jobs: forkserver.Forkserver
    functions: "Zygote | None"


def start(state_dir: Path) -> Warm:
    """Fork them; they load the rest when asked to. Must run before this process starts a thread."""
    _settle()
    jobs = forkserver.Forkserver(forkserver.start())
    utf8 = locale.getencoding().lower() == "utf-8" or sys.flags.utf8_mode  # as in Lambda, or a process of its own
    return Warm(jobs, _functions(state_dir / "lambda") if utf8 else None)


def _functions(folder: Path) -> "Zygote":
    from helpers.local_aws.lambdas import runtime, zygote
    from helpers.local_aws.lambdas.worker import Zygote

    packages = runtime.link_runtime(folder)
    _settle()
    ours, theirs = socket.socketpair()

    def be_zygote() -> None:
        processes.forget_environment(zygote.NO_AWS_FILES)
        zygote.be_forked(theirs, packages, runtime.forget_the_rest)

    with theirs:
        process = processes.fork(be_zygote, "aws-functions", [theirs.fileno()])
    return Zygote(packages, (process, ours))


def _settle() -> None:
    """Keep the collector's marks, which would copy the memory that processes share, from what is loaded."""
    gc.collect()
    gc.freeze()
