"""What IAM has to allow for the calls that ministack serves, where ministack's own answer differs from AWS.

Pure functions of the request. Each rule follows AWS's Service Authorization
Reference; ministack's extraction is used for everything that is not listed here.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote

from helpers.local_aws.wire import service_model


@dataclass(frozen=True)
class Request:
    """The parts of a request that name its resource."""

    service: str
    operation: str
    path: str
    body: bytes
    params: Mapping[str, list[str]]
    region: str
    account_id: str

    def arn(self, resource: str) -> str:
        """Return the ARN of ``resource`` in this request's account and region."""
        return f"arn:aws:{self.service}:{self.region}:{self.account_id}:{resource}"

    def member(self, name: str) -> str:
        """Return a member of the JSON body, or "" where there is none."""
        value = json_body(self.body).get(name)
        return value if isinstance(value, str) else ""

    def param(self, name: str) -> str:
        """Return a parameter of a Query-protocol request, or ""."""
        return (self.params.get(name) or [""])[0]


def json_body(body: bytes) -> dict[str, Any]:
    """Return a request's JSON body, or {} where it is something else."""
    try:
        parsed = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def resource_arn(request: Request, role_arn: Callable[[str], str | None]) -> str | None:
    """Return the resource that IAM checks for ``request``, or None to take ministack's answer.

    ``role_arn`` looks an existing role up by name: a role's ARN has its path in it.
    """
    rule = _RULES.get(request.service)
    return rule(request, role_arn) if rule else None


def lambda_action(method: str, path: str) -> str:
    """Return the IAM action of a Lambda request, by botocore's model, or "" for a path that Lambda does not have."""
    for operation, verb, pattern in _lambda_operations():
        if verb == method and pattern.fullmatch(path):
            return "lambda:InvokeFunction" if operation.startswith("Invoke") else f"lambda:{operation}"
    return ""


@cache
def _lambda_operations() -> list[tuple[str, str, re.Pattern[str]]]:
    model = service_model("lambda")
    found = []
    for name in model.operation_names:
        http = model.operation_model(name).http
        # "/2018-10-31/layers?find=LayerVersion" shares its path with ListLayers, whose name stands for both.
        if "?" not in http["requestUri"]:
            pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(http["requestUri"].rstrip("/")))
            found.append((name, http["method"], re.compile(pattern + "/?")))
    return found


def _iam(request: Request, role_arn: Callable[[str], str | None]) -> str | None:
    name = request.param("RoleName")
    if request.operation == "SimulatePrincipalPolicy":
        return request.param("PolicySourceArn")
    if request.operation == "CreateRole":
        return f"arn:aws:iam::{request.account_id}:role{request.param('Path') or '/'}{name}"
    return role_arn(name) if name else None


def _states(request: Request, role_arn: Callable[[str], str | None]) -> str | None:
    del role_arn
    if request.operation == "CreateActivity":
        return request.arn(f"activity:{request.member('name')}")
    return request.member("resourceArn") or request.member("mapRunArn") or None


def _lambda(request: Request, role_arn: Callable[[str], str | None]) -> str | None:
    del role_arn
    if request.operation == "CreateFunction":
        name = request.member("FunctionName")
        return name if name.startswith("arn:") else request.arn(f"function:{name}")
    if request.operation in ("TagResource", "UntagResource", "ListTags"):
        return unquote(request.path.partition("/tags/")[2])
    return None


def _logs(request: Request, role_arn: Callable[[str], str | None]) -> str | None:
    # CloudWatch Logs checks every call on the stream, with an empty stream (and for
    # DescribeLogGroups an empty group) where the call names none: a policy for a
    # group therefore has to end in ":*".
    del role_arn
    if request.operation in ("TagResource", "UntagResource", "ListTagsForResource"):
        return None
    group = request.member("logGroupName") or request.member("logGroupIdentifier").partition(":log-group:")[2]
    return request.arn(f"log-group:{group}:log-stream:{request.member('logStreamName')}")


def _events(request: Request, role_arn: Callable[[str], str | None]) -> str | None:
    # A rule of the default bus has no bus in its ARN.
    del role_arn
    rule = request.member("Rule") or (request.member("Name") if "Rule" in request.operation else "")
    bus = request.member("EventBusName")
    if not rule or request.operation in ("ListRules", "ListRuleNamesByTarget"):
        return None
    return request.arn(f"rule/{rule}" if bus in ("", "default") else f"rule/{bus}/{rule}")


_RULES: dict[str, Callable[[Request, Callable[[str], str | None]], str | None]] = {
    "iam": _iam,
    "states": _states,
    "lambda": _lambda,
    "logs": _logs,
    "events": _events,
}
