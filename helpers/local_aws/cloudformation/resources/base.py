"""What every type of resource has, and how its calls are made."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from botocore.exceptions import BotoCoreError, ClientError

from helpers.local_aws.wire import Site

Properties = Mapping[str, Any]

_READS = ("describe_", "get_", "head_", "list_")


class Failed(Exception):
    """A resource could not be made, changed or deleted; the text is what an event says of it."""


@dataclass(frozen=True)
class Made:
    """A resource that exists: its physical id, which Ref gives, and what Fn::GetAtt gives."""

    physical: str
    attributes: Mapping[str, str] = field(default_factory=dict)


class Calls:
    """The API calls for one resource, as the service role or the caller.

    ``changed`` tells whether a call that changes something has succeeded, and ``physical``
    what exists of the resource already: what a rollback has to undo.
    """

    def __init__(
        self,
        client: Callable[[str], Any],
        site: Site,
        *,
        pause: Callable[[float], None],
        noted: Callable[[str], None] = lambda physical: None,
    ) -> None:
        self.site, self.pause, self._noted = site, pause, noted
        self.changed, self.physical = False, ""
        self._client = client

    def __call__(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make one call. Raises ClientError, or Failed where botocore refuses the parameters."""
        try:
            answer = getattr(self._client(service), operation)(**parameters)
        except ClientError:
            raise
        except BotoCoreError as error:
            raise Failed(f"{service}: {' '.join(str(error).split())}") from None
        self.changed = self.changed or not operation.startswith(_READS)
        return answer

    def tolerant(self, gone: Iterable[str], service: str, operation: str, **parameters: Any) -> dict[str, Any] | None:
        """Make one call; return None where the error's code is one of ``gone``: there is nothing left to change."""
        try:
            return self(service, operation, **parameters)
        except ClientError as error:
            if error.response["Error"]["Code"] in gone:
                return None
            raise

    def exists(self, physical: str) -> None:
        """Note at once that the resource is there from now on: whatever happens next, it has to be deleted."""
        self.physical = physical
        self._noted(physical)

    def until(self, ready: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Wait until ``ready``. Raises Failed when it takes longer than ``seconds``."""
        waited, step = 0.0, 0.05
        while not ready():
            if waited >= seconds:
                raise Failed(f"{what} did not stabilize within {seconds:.0f} seconds")
            self.pause(step)
            waited, step = waited + step, min(step * 1.5, 1.0)


class ResourceType:
    """One type: its properties, which of them can be changed, and the calls that carry them out.

    ``replaced``: properties whose change makes a new resource. ``fixed``: those whose change is
    refused here although AWS carries it out. ``volatile``: attributes that an update in place
    changes. ``tags``: how the property Tags is written ("list", "map", or "" for none).
    """

    type: ClassVar[str]
    properties: ClassVar[Mapping[str, Any]]
    required: ClassVar[tuple[str, ...]] = ()
    replaced: ClassVar[frozenset[str]] = frozenset()
    fixed: ClassVar[frozenset[str]] = frozenset()
    attributes: ClassVar[frozenset[str]] = frozenset()
    volatile: ClassVar[frozenset[str]] = frozenset()
    name: ClassVar[str] = ""  # the property that names the resource
    name_limit: ClassVar[int] = 255
    lower_case: ClassVar[bool] = False
    tags: ClassVar[str] = ""

    def create(self, call: Calls, name: str, wanted: Properties) -> Made:
        """Make the resource; ``name`` is the one given, or made up. Raises ClientError or Failed."""
        raise NotImplementedError

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Change what differs, in place; return attributes that changed. Raises ClientError or Failed."""
        raise NotImplementedError

    def delete(self, call: Calls, physical: str, old: Properties) -> None:
        """Delete the resource; one that is gone is no error. Raises ClientError or Failed."""
        raise NotImplementedError


def present(wanted: Properties, *names: str) -> dict[str, Any]:
    """Return those of ``names`` that ``wanted`` has."""
    return {name: wanted[name] for name in names if name in wanted}


def changed(old: Properties, new: Properties, *names: str) -> bool:
    """Whether one of ``names`` differs."""
    return any(old.get(name) != new.get(name) for name in names)


def pairs(wanted: Properties) -> dict[str, str]:
    """Return the property Tags as a mapping, however it is written."""
    tags = wanted.get("Tags") or {}
    return dict(tags) if isinstance(tags, dict) else {tag["Key"]: tag["Value"] for tag in tags}


def listed(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags as a list of keys and values."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tagged(wanted: Properties, member: str = "Tags", form: Callable[[dict[str, str]], Any] = listed) -> dict[str, Any]:
    """Return the member that gives a new resource its tags; nothing where it has none."""
    return {member: form(pairs(wanted))} if pairs(wanted) else {}


def tag_changes(old: Properties, new: Properties) -> tuple[dict[str, str], list[str]]:
    """Return the tags to set, and the keys to remove."""
    before, after = pairs(old), pairs(new)
    set_now = {key: value for key, value in after.items() if before.get(key) != value}
    return set_now, sorted(set(before) - set(after))


def retag(
    call: Calls,
    old: Properties,
    new: Properties,
    service: str,
    operations: tuple[str, str] = ("tag_resource", "untag_resource"),
    *,
    members: tuple[str, str] = ("Tags", "TagKeys"),
    form: Callable[[dict[str, str]], Any] = listed,
    **subject: str,
) -> None:
    """Set and remove the tags that differ, of what ``subject`` names. Services word these two calls differently."""
    for operation, member, value in zip(operations, members, tag_changes(old, new), strict=True):
        if value:
            call(service, operation, **subject, **{member: form(value) if isinstance(value, dict) else value})


def refuse_taken(call: Calls, kind: str, name: str, gone: Iterable[str], *request: Any, **parameters: Any) -> None:
    """Raise Failed when ``name`` is in use: the calls that make some resources would take it over."""
    if call.tolerant(gone, *request, **parameters) is not None:
        raise Failed(f"Resource of type '{kind}' with identifier '{name}' already exists. (HandlerErrorCode: "
                     "AlreadyExists)")  # fmt: skip
