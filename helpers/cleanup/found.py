"""What clean-up finds, and the words in which services say that something is gone."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from helpers.connection import Connection

_ABSENT = (
    "ResourceNotFoundException",
    "ResourceNotFound",  # Step Functions, about tags
    "StateMachineDoesNotExist",
    "ActivityDoesNotExist",
    "AWS.SimpleQueueService.NonExistentQueue",
    "NoSuchEntity",
    "NotFoundException",  # API Gateway
    "RepositoryDoesNotExistException",
    "RepositoryNotFoundException",  # ECR
    "ClusterNotFoundException",
)
# Services that have no code of their own for it, and what they say instead.
_ABSENT_AS_SAID = {"ValidationError": "does not exist", "ClientException": "does not exist"}


@dataclass(frozen=True, order=True)
class Resource:
    """Something with the workshop's name. ``ours``: it carries the workshop's tag, or belongs to what does."""

    kind: str
    name: str
    ours: bool = True

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}" + ("" if self.ours else " (not tagged: left alone)")


@dataclass(frozen=True)
class Kind:
    """A kind of resource: ``find(workshop)`` yields what there is, ``delete(workshop, name)`` deletes one."""

    find: Callable[[Connection], Iterator[Resource]]
    delete: Callable[[Connection, str], Any]


def has_tag(workshop: Connection, tags: Mapping[str, str]) -> bool:
    """Tell whether tags are those of this workshop's resources."""
    return tags.items() >= workshop.tags.items()


def as_mapping(tags: list[dict[str, str]], key: str = "Key", value: str = "Value") -> dict[str, str]:
    """Return tags that come as a list, under the names that the service gives to their members."""
    return {tag[key]: tag[value] for tag in tags}


def pages(client: Any, operation: str, result: str, **arguments: Any) -> Iterator[Any]:
    """Yield the items of all pages of an operation's answers."""
    for page in client.get_paginator(operation).paginate(**arguments):
        yield from page.get(result, ())


def ignore_absent(call: Callable[[], Any]) -> None:
    """Make a call unless what it is about is gone."""
    with unless_gone():
        call()


@contextmanager
def unless_ended() -> Iterator[None]:
    """Stop a job of SageMaker unless it has ended meanwhile."""
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationException":
            raise


@contextmanager
def unless_gone() -> Iterator[None]:
    """Do what follows unless its resource is gone: also one that is listed still, for AWS's lists lag behind."""
    try:
        yield
    except ClientError as error:
        told = error.response["Error"]
        said = _ABSENT_AS_SAID.get(told["Code"])
        if told["Code"] not in _ABSENT and not (said and said in told["Message"]):
            raise
