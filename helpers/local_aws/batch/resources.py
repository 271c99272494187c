"""Compute environments, job queues and job definitions: as they are described, in one file."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.local_aws import json_files
from helpers.local_aws.batch.errors import client, executing
from helpers.local_aws.wire import Site

Record = dict[str, Any]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
# As far as it is known how Batch says it.
_SAID_OF_NAMES = {
    "jobName": "Job name should match valid pattern",
    "jobQueueName": "Job Queue name should match a valid pattern.",
}
MOST_TAGS = 50


class Resources:
    """The records, each in the shape in which it is described. Not thread safe: hold the lock of ``Jobs``."""

    def __init__(self, site: Site, file: Path) -> None:
        """Read ``file``, if it is there."""
        self._site, self._file = site, file
        content: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        self.environments: dict[str, Record] = content.get("environments", {})
        self.queues: dict[str, Record] = content.get("queues", {})
        self.definitions: dict[str, list[Record]] = content.get("definitions", {})

    def save(self) -> None:
        """Write everything down."""
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept = {"environments": self.environments, "queues": self.queues, "definitions": self.definitions}
        json_files.write(self._file, kept)

    def arn(self, kind: str, name: str) -> str:
        """Return the ARN of a resource, such as ``job-queue`` and its name."""
        return self._site.arn("batch", f"{kind}/{name}")

    def name(self, kind: str, given: str) -> str:
        """Return the name in a name or an ARN of this account."""
        return given.removeprefix(self.arn(kind, ""))

    def environment(self, given: str) -> Record | None:
        """Return the compute environment with this name or ARN, or None."""
        return self.environments.get(self.name("compute-environment", given))

    def queue(self, given: str) -> Record | None:
        """Return the job queue with this name or ARN, or None."""
        return self.queues.get(self.name("job-queue", given))

    def definition(self, given: str) -> Record | None:
        """Return a revision by name:revision or ARN; the latest active one where no revision is given; or None."""
        name, _, revision = self.name("job-definition", given).partition(":")
        revisions = self.definitions.get(name, [])
        if revision:
            found = [each for each in revisions if str(each["revision"]) == revision]
        else:
            found = [each for each in revisions if each["status"] == "ACTIVE"][-1:]
        return found[0] if found else None

    def every_definition(self) -> Iterator[Record]:
        """Yield all revisions of all job definitions."""
        for revisions in self.definitions.values():
            yield from revisions

    def tagged(self, arn: str) -> Record | None:
        """Return the compute environment, job queue or revision of a job definition with this ARN, or None."""
        kind = arn.rpartition(":")[2] if arn.count(":") == 5 else arn.split(":", 5)[-1]
        if kind.startswith("compute-environment/"):
            return self.environment(arn)
        if kind.startswith("job-queue/"):
            return self.queue(arn)
        if kind.startswith("job-definition/") and ":" in kind:
            return self.definition(arn)
        return None


def check_name(member: str, name: str) -> None:
    """Raise ClientException unless Batch takes ``name``."""
    if not _NAME.fullmatch(name):
        documented = (
            f"{member} can be up to 128 letters long. It can contain uppercase and lowercase letters, "
            "numbers, hyphens (-), and underscores (_)."
        )
        raise executing(_SAID_OF_NAMES.get(member, documented))


def check_tags(tags: dict[str, str]) -> dict[str, str]:
    """Return ``tags``. Raises ClientException where they are too many, too long, or AWS's own."""
    if len(tags) > MOST_TAGS:
        raise client(f"A resource can have at most {MOST_TAGS} tags.")
    for key, value in tags.items():
        if not 1 <= len(key) <= 128 or len(value) > 256:
            raise client(f"The tag {key:.128} is too long: keys have 1 to 128 characters, values at most 256.")
        if key.lower().startswith("aws:"):
            raise client(f"The tag key {key} begins with aws:, which is reserved for AWS.")
    return tags
