"""IAM roles with one inline policy each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    role's one inline policy, which replaces what was there.
    """
    trust = {"Effect": "Allow", "Principal": {"Service": trusted}, "Action": "sts:AssumeRole"}
    try:
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy_json([trust]), Tags=list(tags))["Role"]
        created = True
    except iam.exceptions.EntityAlreadyExistsException:
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=policy_json([trust]))
        role = iam.get_role(RoleName=name)["Role"]
        created = False
    iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=policy_json(statements))
    return Ensured(name, role["Arn"], created)


def policy_json(statements: Sequence[Statement]) -> str:
    """Return a policy document with these statements."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def find_missing_actions(iam: Any, principal_arn: str, statements: Sequence[Statement]) -> list[str]:
    """Return which of the allowed actions in ``statements`` the principal may not do, "action on resource" each.

    Asks IAM's simulator (iam:SimulatePrincipalPolicy), one call for each statement and resource.
    """
    missing = []
    for statement in statements:
        for resource in _as_list(statement["Resource"]):
            # The simulator takes no wildcards: a pattern is tried with one name that it covers.
            answers = iam.simulate_principal_policy(
                PolicySourceArn=principal_arn,
                ActionNames=_as_list(statement["Action"]),
                ResourceArns=[resource if resource == "*" else resource.replace("*", "any")],
                ContextEntries=_context(statement),
            )["EvaluationResults"]
            missing += [
                f"{answer['EvalActionName']} on {resource}" for answer in answers if answer["EvalDecision"] != "allowed"
            ]
    return missing


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


def _context(statement: Statement) -> list[dict[str, Any]]:
    entries = []
    for conditions in statement.get("Condition", {}).values():
        for key, values in conditions.items():
            entries.append({"ContextKeyName": key, "ContextKeyType": "string", "ContextKeyValues": _as_list(values)})
    return entries


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
