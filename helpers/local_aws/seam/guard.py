"""Checks before a call of ministack's, answered in its service's own form."""

import json
from collections.abc import Callable
from typing import Any

from helpers.local_aws.wire import AwsError


def guarded(check: Callable[[dict], None], call: Callable[..., tuple], position: int = 0) -> Callable:
    """Return ``call`` with ``check`` before it, an AwsError answered as the service would."""

    def checked(*args: Any) -> tuple:
        try:
            check(args[position])
        except AwsError as error:
            return refusal(error)
        return call(*args)

    return checked


def refusal(error: AwsError) -> tuple:
    """Return an error as the services with a JSON protocol answer it."""
    body = json.dumps({"__type": error.code, "message": error.message}).encode()
    return error.status, {"Content-Type": "application/json", "x-amzn-errortype": error.code}, body
