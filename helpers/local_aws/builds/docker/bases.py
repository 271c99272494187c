"""Images that stand for this machine's Python environment: they have no files of their own."""

import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

# Where an image has its Python: what stands for the image has this environment's there.
PYTHON_FOLDER = "/usr/local/bin"
PACKAGES_FOLDER = "/opt/python-packages"
PATH = f"{PYTHON_FOLDER}:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"

_PYTHON = re.compile(
    r"(?:public\.ecr\.aws/docker/library/|(?:docker\.io/)?(?:library/)?)python"
    r"(?::(?P<tag>[\w.-]+))?(?:@sha256:[0-9a-f]{64})?"
)
_TAG = re.compile(r"(?:latest|slim|3(?:\.(?:9|1[0-4])(?:\.\d+)?)?(?:-slim)?(?:-(?:bullseye|bookworm|trixie))?)")
ECR_HOST = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_SKLEARN = re.compile(ECR_HOST.pattern + r"/sagemaker-scikit-learn(?:[:@][\w.:-]+)?")


@dataclass(frozen=True)
class Base:
    """An image without files: its environment, command, and the sentence that says what stands for it."""

    environment: dict[str, str]
    command: tuple[str, ...]
    note: str


def find(uri: str, own_account: str = "") -> Base | None:
    """Return what stands for a public image, or None for one that this machine cannot stand for.

    ``own_account``: images in its registry are what somebody pushed, whatever their name.
    """
    python = platform.python_version()
    version = {"PATH": PATH, "LANG": "C.UTF-8"}
    found = _PYTHON.fullmatch(uri)
    if found and _TAG.fullmatch(found["tag"] or "latest"):
        note = f"{uri} stands for this machine's Python {python} and the packages installed in it"
        return Base({**version, "PYTHON_VERSION": python}, ("python3",), note)
    found = _SKLEARN.fullmatch(uri)
    if found and found["account"] != own_account:
        note = f"{uri} stands for this machine's Python {python}, with its scikit-learn"
        return Base({**version, "PYTHONUNBUFFERED": "TRUE"}, (), note)
    return None


def with_this_python(path: str) -> str:
    """Return an image's PATH with this environment's programs where the image has its Python's."""
    here = str(Path(sys.executable).parent)
    return ":".join(f"{here}:{PYTHON_FOLDER}" if entry == PYTHON_FOLDER else entry for entry in path.split(":"))
