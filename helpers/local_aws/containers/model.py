"""What runs as a container, and how it ended: the words that ECS, Batch, CodeBuild and training jobs share."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

# Why a container ended: by itself, because somebody stopped it, because its time was over, because something killed
# its processes, because it could never start, or because the embedded AWS was stopped meanwhile.
Reason = Literal["exited", "stopped", "timeout", "killed", "failed", "lost"]


@dataclass(frozen=True)
class Image:
    """An image that can be run: what a registry's manifest says, and its files."""

    uri: str
    digest: str  # "sha256:…"
    folder: Path | None  # what lies at / in the container, besides the system's own folders; None: nothing
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: str = "/"


@dataclass(frozen=True)
class Log:
    """Where output goes in CloudWatch Logs, and as whom it is written."""

    group: str
    stream: str
    credentials: Mapping[str, str]  # AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
    create_group: bool = True


@dataclass(frozen=True)
class Container:
    """One container that is to run once."""

    run_id: str  # unique for ever; letters, digits, - and _
    image: Image
    argv: Sequence[str]  # entrypoint and command, as they are to be run
    environment: Mapping[str, str]  # what was asked for; goes over the image's own
    working_directory: str = ""  # "": the image's
    credentials: Callable[[], Mapping[str, str]] | None = None  # of the task's role; called at each ask. None: no role
    log: Log | None = None
    timeout: float | None = None  # seconds from the start until it is stopped
    grace: float = 30.0  # seconds between SIGTERM and SIGKILL
    own_network: bool = True  # only the embedded AWS and the credentials endpoint answer; False: the machine's network
    files: Mapping[str, Path] = field(default_factory=dict)  # absolute path inside -> folder whose copy lies there
    # Documents below ECS_CONTAINER_METADATA_URI_V4, by path: "" is the container's, "task" the task's. Empty: no such
    # variable.
    metadata: Mapping[str, Any] = field(default_factory=dict)
    role_arn: str = ""  # of ``credentials``, which tell it


@dataclass(frozen=True)
class End:
    """How a container ended. ``code``: the exit code, as a shell counts (128 + signal); None: it never ran."""

    reason: Reason
    code: int | None
    message: str = ""  # why it failed
    log_problem: str = ""  # why no log could be written

    @property
    def problem(self) -> str:
        """Why it never started, as ECS says it: a CannotStartContainerError, if the message names no other."""
        named = re.match(r"[A-Z]\w+Error: ", self.message)
        return self.message if named else f"CannotStartContainerError: {self.message}"
