"""IAM roles with one inline policy each."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from helpers.connection import Connection

Statement = Mapping[str, Any]


@dataclass(frozen=True)
class Ensured:
    """A resource that exists now, and whether this call made it."""

    name: str
    arn: str
    created: bool

    def __str__(self) -> str:
        return f"{self.name}: {'created' if self.created else 'found, brought up to date'}"


def ensure_role(
    iam: Any, name: str, *, trusted: str, statements: Sequence[Statement], tags: Sequence[Mapping[str, str]] = ()
) -> Ensured:
    """Create the role ``name`` for the service ``trusted``, or bring an existing one up to date.

    ``trusted``: service principal such as lambda.amazonaws.com. ``statements``: the
    role's one inline policy, which replaces what was there; none for a role that calls nothing.
    """
    trust = {"Effect": "Allow", "Principal": {"Service": trusted}, "Action": "sts:AssumeRole"}
    try:
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy_json([trust]), Tags=list(tags))["Role"]
        created = True
    except iam.exceptions.EntityAlreadyExistsException:
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=policy_json([trust]))
        role = iam.get_role(RoleName=name)["Role"]
        created = False
    if statements:
        iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=policy_json(statements))
    elif name in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        iam.delete_role_policy(RoleName=name, PolicyName=name)
    return Ensured(name, role["Arn"], created)


def ensure_service_role(iam: Any, workshop: Connection, suffix: str, service: str, *statements: Statement) -> Ensured:
    """Have one of the workshop's roles, for a service such as "lambda" or "ecs-tasks": see ``ensure_role``."""
    trusted = f"{service}.amazonaws.com"
    return ensure_role(iam, workshop.name(suffix), trusted=trusted, statements=statements, tags=workshop.tag_list)


def allow(
    actions: str, *resources: str, equals: Mapping[str, Any] | None = None, like: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return a statement that allows ``actions``, separated by blanks, on ``resources``.

    ``equals``, ``like``: what keys of the request's context have to be, as StringEquals and StringLike.
    """
    statement: dict[str, Any] = {"Effect": "Allow", "Action": actions.split(), "Resource": list(resources)}
    tests = {name: dict(test) for name, test in (("StringEquals", equals), ("StringLike", like)) if test}
    return statement | ({"Condition": tests} if tests else {})


def allow_log(workshop: Connection, group: str) -> dict[str, Any]:
    """Return a statement that allows to write to a log group, and to make it."""
    arn = f"arn:aws:logs:{workshop.region}:{workshop.account_id}:log-group:{group}"
    return allow("logs:CreateLogGroup logs:CreateLogStream logs:PutLogEvents", arn, f"{arn}:*")


def policy_json(statements: Sequence[Statement]) -> str:
    """Return a policy document with these statements."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def ensure_managed_policy(iam: Any, arn: str, document: str, *, tags: Sequence[Mapping[str, str]] = ()) -> None:
    """Create a managed policy of this account, or give an existing one a new version. No other version is kept."""
    try:
        iam.create_policy(PolicyName=arn.rpartition("/")[2], PolicyDocument=document, Tags=list(tags))
    except iam.exceptions.EntityAlreadyExistsException:
        _delete_other_versions(iam, arn)  # a policy has five at most
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=document, SetAsDefault=True)
        _delete_other_versions(iam, arn)


def delete_managed_policy(iam: Any, arn: str, *, role: str) -> bool:
    """Take a managed policy from a role and delete it. Returns whether there was one."""
    try:
        iam.detach_role_policy(RoleName=role, PolicyArn=arn)
        _delete_other_versions(iam, arn)
        iam.delete_policy(PolicyArn=arn)
    except iam.exceptions.NoSuchEntityException:
        return False
    return True


def find_missing_actions(iam: Any, principal_arn: str, statements: Sequence[Statement]) -> list[str]:
    """Return which of the allowed actions in ``statements`` the principal may not do, "action on resource" each.

    Asks IAM's simulator (iam:SimulatePrincipalPolicy), one call for each statement,
    resource and value of a condition.
    """
    missing: dict[str, None] = {}
    simulate = iam.get_paginator("simulate_principal_policy").paginate
    for statement in statements:
        for resource, context in product(_as_list(statement["Resource"]), _contexts(statement)):
            # The simulator takes no wildcards: a pattern is tried with one name that it covers.
            pages = simulate(
                PolicySourceArn=principal_arn,
                ActionNames=_as_list(statement["Action"]),
                ResourceArns=[resource if resource == "*" else resource.replace("*", "any")],
                ContextEntries=context,
            )
            for answer in (answer for page in pages for answer in page["EvaluationResults"]):
                if answer["EvalDecision"] != "allowed":
                    missing[f"{answer['EvalActionName']} on {resource}"] = None
    return list(missing)


def wait_for_actions(
    iam: Any,
    principal_arn: str,
    statements: Sequence[Statement],
    *,
    seconds: float = 30,
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Return what is missing, as ``find_missing_actions`` does, once nothing is or after ``seconds``.

    A policy that was attached just now takes a moment to be known.
    """
    waited = 0.0
    while True:
        missing = find_missing_actions(iam, principal_arn, statements)
        if not missing or waited >= seconds:
            return missing
        sleep(5)
        waited += 5


def delete_role(iam: Any, name: str) -> bool:
    """Delete a role with its policies. Returns whether there was one."""
    try:
        attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    except iam.exceptions.NoSuchEntityException:
        return False
    for policy in attached:
        iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])
    for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        iam.delete_role_policy(RoleName=name, PolicyName=policy)
    iam.delete_role(RoleName=name)
    return True


def _delete_other_versions(iam: Any, arn: str) -> None:
    for version in iam.list_policy_versions(PolicyArn=arn)["Versions"]:
        if not version["IsDefaultVersion"]:
            iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])


def _contexts(statement: Statement) -> Iterator[list[dict[str, Any]]]:
    """Yield the contexts in which a statement has to hold: of a condition's values, a request has one at a time."""
    conditions = [item for test in statement.get("Condition", {}).values() for item in test.items()]
    keys = [key for key, _ in conditions]
    for values in product(*(_as_list(values) for _, values in conditions)):
        yield [
            {"ContextKeyName": key, "ContextKeyType": "string", "ContextKeyValues": [value]}
            for key, value in zip(keys, values, strict=True)
        ]


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
