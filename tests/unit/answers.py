"""boto3 clients that a test answers: real parameter checks, paginators, waiters and exceptions, but no network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3

REGION = "us-east-1"
ACCOUNT = "123456789012"
_SESSION = boto3.session.Session("test", "test", region_name=REGION)  # one for all: it keeps the models that it read
_make_client = boto3.session.Session.client  # as it is before a test replaces it

Params = dict[str, Any]
Answer = Mapping[str, Any] | Callable[[Params], Mapping[str, Any]]


class Refused(Exception):
    """Raised by an answer: the service refuses with this code."""

    def __init__(self, code: str, message: str = "", status: int = 400) -> None:
        super().__init__(code)
        self.code, self.message, self.status = code, message, status


def refuse(code: str, message: str = "", status: int = 400) -> Callable[[Params], Mapping[str, Any]]:
    """Return an answer that refuses."""

    def answer(params: Params) -> Mapping[str, Any]:
        raise Refused(code, message, status)

    return answer


def in_turn(*answers: Answer) -> Callable[[Params], Mapping[str, Any]]:
    """Return an answer that is another one at each call; the last one stays."""
    left = list(answers)

    def answer(params: Params) -> Mapping[str, Any]:
        now = left.pop(0) if len(left) > 1 else left[0]
        return now(params) if callable(now) else now

    return answer


@dataclass(frozen=True)
class _Http:
    status_code: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Aws:
    """Services that answer as ``answers`` says, by "service:Operation", and remember what they were asked.

    A call that has no answer fails the test.
    """

    answers: dict[str, Answer]
    calls: list[tuple[str, Params]] = field(default_factory=list)

    def client(self, service: str) -> Any:
        """Return a boto3 client of ``service``."""
        client = _make_client(_SESSION, service)

        def remember(params: Params, context: Params, **_: Any) -> None:
            context["asked"] = dict(params)

        def answer(model: Any, context: Params, **_: Any) -> tuple[_Http, Params]:
            name = f"{service}:{model.name}"
            self.calls.append((name, context["asked"]))
            assert name in self.answers, f"unexpected call of {name}"
            given = self.answers[name]
            try:
                found = given(context["asked"]) if callable(given) else given
            except Refused as refused:
                error = {"Code": refused.code, "Message": refused.message}
                return _Http(refused.status), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": refused.status}}
            return _Http(200), {**found, "ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": {}}}

        client.meta.events.register_first("before-parameter-build", remember)
        client.meta.events.register_first("before-call", answer)
        return client

    def names(self) -> list[str]:
        """Return the operations that were called, in order."""
        return [name for name, _ in self.calls]

    def asked(self, name: str) -> list[Params]:
        """Return the parameters of every call of an operation."""
        return [params for called, params in self.calls if called == name]
