"""State machines: create them, keep them up to date, start them."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from helpers.propagation import retry_until_propagated
from helpers.roles import Ensured


def ensure_state_machine(
    states: Any,
    name: str,
    definition: Mapping[str, Any],
    *,
    role_arn: str,
    tags: Sequence[Mapping[str, str]] = (),
    sleep: Callable[[float], None] = time.sleep,
) -> Ensured:
    """Create the state machine ``name``, or bring an existing one up to date.

    ``states``: a Step Functions client. ``tags``: in Step Functions' spelling, with small letters.
    Step Functions looks at once whether it may assume the role and use its rules: a role
    that was made a moment ago is waited for.
    """
    settings = {"definition": json.dumps(definition), "roleArn": role_arn}
    found = [
        machine["stateMachineArn"]
        for page in states.get_paginator("list_state_machines").paginate()
        for machine in page["stateMachines"]
        if machine["name"] == name
    ]
    if found:
        retry_until_propagated(lambda: states.update_state_machine(stateMachineArn=found[0], **settings), sleep=sleep)
        return Ensured(name, found[0], created=False)
    made = retry_until_propagated(
        lambda: states.create_state_machine(name=name, tags=list(tags), **settings), sleep=sleep
    )
    return Ensured(name, made["stateMachineArn"], created=True)


def start(states: Any, machine_arn: str, given: Mapping[str, Any]) -> str:
    """Start an execution with an input, under a name that Step Functions makes up. Returns its ARN."""
    return states.start_execution(stateMachineArn=machine_arn, input=json.dumps(given))["executionArn"]
