"""What IAM has to allow for the calls that ministack serves, where ministack's own answer differs from AWS.

Pure functions of the request. Each rule follows AWS's Service Authorization
Reference; ministack's extraction is used for everything that is not listed here.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any
from urllib.parse import unquote

from helpers.local_aws import items, tag_keys
from helpers.local_aws.wire import Permission, service_model


@dataclass(frozen=True)
class Known:
    """What a rule has to look up.

    A role's ARN, whose path is in no request, a table's or index's partition key, and
    what a task token was made for: an activity or a state machine.
    """

    role_arn: Callable[[str], str | None]
    partition_key: Callable[[str, str], str | None]
    token_resource: Callable[[str], str | None] = lambda token: None


@dataclass(frozen=True)
class Asked:
    """What a request needs: its action on ``resource`` (None: as ministack says) in ``context``, and ``more``."""

    resource: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    more: Sequence[Permission] = ()


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

    @cached_property
    def json(self) -> dict[str, Any]:
        """The JSON body, or {}."""
        return json_body(self.body)

    def member(self, name: str) -> str:
        """Return a member of the JSON body, or "" where there is none."""
        value = self.json.get(name)
        return value if isinstance(value, str) else ""

    def members(self, name: str) -> list[str]:
        """Return the texts in a list of the JSON body."""
        value = self.json.get(name)
        return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []

    def param(self, name: str) -> str:
        """Return a parameter of a Query-protocol request, or ""."""
        return (self.params.get(name) or [""])[0]

    @cached_property
    def tags(self) -> dict[str, str]:
        """The tags that the request sets."""
        found = self.json.get("Tags") or self.json.get("tags")
        if isinstance(found, dict):
            return {name: str(value) for name, value in found.items()}
        return dict(self._tag_items(found if isinstance(found, list) else []))

    def _tag_items(self, found: list[Any]) -> Iterator[tuple[str, str]]:
        for item in found:
            if isinstance(item, dict):
                yield str(item.get("Key", item.get("key"))), str(item.get("Value", item.get("value", "")))
        for name in self.params:
            if match := re.fullmatch(r"(Tags\.member\.\d+)\.Key", name):
                yield self.param(name), self.param(f"{match[1]}.Value")


def json_body(body: bytes) -> dict[str, Any]:
    """Return a request's JSON body, or {} where it is something else."""
    try:
        parsed = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def asked(request: Request, known: Known) -> Asked:
    """Return what IAM is asked for ``request``."""
    rule = _RULES.get(request.service)
    return rule(request, known) if rule else Asked()


def lambda_action(method: str, path: str) -> str:
    """Return the operation of a Lambda request, by botocore's model, or "" for a path that Lambda does not have."""
    for operation, verb, pattern in _lambda_operations():
        if verb == method and pattern.fullmatch(path):
            return "InvokeFunction" if operation.startswith("Invoke") else operation
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


def _tagging(request: Request, action: str, resource: str) -> list[Permission]:
    """Return what creating something with tags needs besides the permission to create it."""
    if not request.tags:
        return []
    return [Permission(f"{request.service}:{action}", resource, tag_keys.of_request(request.tags))]


def _passing(role_arn: str, service: str) -> Permission:
    return Permission("iam:PassRole", role_arn, {"iam:PassedToService": service})


# --- IAM ---


# Service-linked roles have names of AWS's own.
LINKED_ROLES = {"ecs.amazonaws.com": "AWSServiceRoleForECS", "batch.amazonaws.com": "AWSServiceRoleForBatch"}


def _iam(request: Request, known: Known) -> Asked:
    operation, name, profile = request.operation, request.param("RoleName"), request.param("InstanceProfileName")
    context = {
        f"iam:{key}": request.param(parameter)
        for key, parameter in (("PolicyARN", "PolicyArn"), ("PermissionsBoundary", "PermissionsBoundary"))
        if request.param(parameter)
    }
    if operation == "SimulatePrincipalPolicy":
        return Asked(request.param("PolicySourceArn"))
    if operation == "CreateServiceLinkedRole":
        service = request.param("AWSServiceName")
        role = f"role/aws-service-role/{service}/{LINKED_ROLES.get(service, 'AWSServiceRole')}"
        return Asked(f"arn:aws:iam::{request.account_id}:{role}", {"iam:AWSServiceName": service})
    if profile:
        return _instance_profile(request, known, profile)
    if operation == "CreateRole":
        role = f"arn:aws:iam::{request.account_id}:role{request.param('Path') or '/'}{name}"
        return Asked(role, context, _tagging(request, "TagRole", role))
    return Asked(known.role_arn(name) if name else None, context)


def _instance_profile(request: Request, known: Known, profile: str) -> Asked:
    # An existing profile's path is not looked up: the workshop's have none.
    resource = f"arn:aws:iam::{request.account_id}:instance-profile{request.param('Path') or '/'}{profile}"
    if request.operation == "CreateInstanceProfile":
        return Asked(resource, more=_tagging(request, "TagInstanceProfile", resource))
    if request.operation == "AddRoleToInstanceProfile":
        name = request.param("RoleName")
        role = known.role_arn(name) or f"arn:aws:iam::{request.account_id}:role/{name}"
        return Asked(resource, more=[_passing(role, "ec2.amazonaws.com")])
    return Asked(resource)


# --- Step Functions, Lambda, logs ---


def _states(request: Request, known: Known) -> Asked:
    if request.operation == "CreateActivity":
        activity = request.arn(f"activity:{request.member('name')}")
        return Asked(activity, more=_tagging(request, "TagResource", activity))
    if request.operation == "ListActivities":
        return Asked("*")
    if request.operation.startswith("SendTask"):
        # The reference names no resource; AWS asks about what the token belongs to.
        return Asked(known.token_resource(request.member("taskToken")) or "*")
    return Asked(request.member("resourceArn") or request.member("mapRunArn") or None)


def _lambda(request: Request, known: Known) -> Asked:
    del known
    if request.operation == "CreateFunction":
        name = request.member("FunctionName")
        return Asked(name if name.startswith("arn:") else request.arn(f"function:{name}"))
    if request.operation in ("TagResource", "UntagResource", "ListTags"):
        return Asked(unquote(request.path.partition("/tags/")[2]))
    return Asked()


def _logs(request: Request, known: Known) -> Asked:
    # CloudWatch Logs checks every call on the stream, with an empty stream (and for
    # DescribeLogGroups an empty group) where the call names none: a policy for a
    # group therefore has to end in ":*".
    del known
    if request.operation in ("TagResource", "UntagResource", "ListTagsForResource"):
        return Asked()
    group = request.member("logGroupName") or request.member("logGroupIdentifier").partition(":log-group:")[2]
    more = []
    if request.operation == "CreateLogGroup":
        more = _tagging(request, "TagResource", request.arn(f"log-group:{group}"))  # this one without ":*"
    return Asked(request.arn(f"log-group:{group}:log-stream:{request.member('logStreamName')}"), more=more)


# --- EventBridge ---


def _events(request: Request, known: Known) -> Asked:
    del known
    resource = _rule_arn(request) or request.member("ResourceARN")
    if not resource and "Bus" in request.operation:
        resource = request.arn(f"event-bus/{request.member('Name') or 'default'}")
    if not resource or request.operation.startswith(("ListRule", "ListEventBuses")):
        return Asked("*")
    context: dict[str, Any] = {"events:creatorAccount": request.account_id}
    more = []
    if request.operation == "PutRule":
        more = _tagging(request, "TagResource", resource)
    targets = request.json.get("Targets")
    targets = [target for target in targets if isinstance(target, dict)] if isinstance(targets, list) else []
    if targets:
        context["events:TargetArn"] = [str(target.get("Arn")) for target in targets]
    for role in (request.member("RoleArn"), *(str(target.get("RoleArn") or "") for target in targets)):
        more += [_passing(role, "events.amazonaws.com")] if role else []
    return Asked(resource, context, more)


def _rule_arn(request: Request) -> str:
    # A rule of the default bus has no bus in its ARN.
    rule = request.member("Rule") or (request.member("Name") if "Rule" in request.operation else "")
    bus = request.member("EventBusName").rpartition("/")[2]
    if not rule:
        return ""
    return request.arn(f"rule/{rule}" if bus in ("", "default") else f"rule/{bus}/{rule}")


# --- SNS, SQS ---


def _sns(request: Request, known: Known) -> Asked:
    del known
    operation = request.operation
    if operation == "CreateTopic":
        topic = request.arn(request.param("Name"))
        return Asked(topic, more=_tagging(request, "TagResource", topic))
    if operation.endswith("SubscriptionAttributes") or operation in ("Unsubscribe", "ListTopics", "ListSubscriptions"):
        return Asked("*")
    context = {
        f"sns:{name}": request.param(name)
        for name in ("Protocol", "Endpoint")
        if operation == "Subscribe" and request.param(name)
    }
    named = request.param("TopicArn") or request.param("TargetArn") or request.param("ResourceArn")
    return Asked(named or "*", context)


def _sqs(request: Request, known: Known) -> Asked:
    del known
    if request.operation == "ListQueues":
        return Asked("*")
    name, owner = request.member("QueueName"), request.member("QueueOwnerAWSAccountId") or request.account_id
    if url := request.member("QueueUrl").rstrip("/"):
        owner, name = url.split("/")[-2:] if "/" in url else (owner, url)
    queue = f"arn:aws:sqs:{request.region}:{owner}:{name}"
    return Asked(queue, more=_tagging(request, "TagQueue", queue) if request.operation == "CreateQueue" else ())


# --- SSM's Parameter Store ---


def _ssm(request: Request, known: Known) -> Asked:
    del known
    if request.operation == "DescribeParameters":
        return Asked("*")
    name = request.member("Name") or request.member("Path") or request.member("ResourceId")
    names = [name] if name else request.members("Names")
    if not names:
        return Asked("*")
    resource, *others = (_parameter_arn(request, name) for name in names)
    more = [Permission(f"ssm:{request.operation}", other) for other in others]
    context = {
        f"ssm:{name}": str(request.json[name]).lower() for name in ("Overwrite", "Recursive") if name in request.json
    }
    if request.operation == "PutParameter":
        more += _tagging(request, "AddTagsToResource", resource)
    return Asked(resource, context, more)


def _parameter_arn(request: Request, name: str) -> str:
    if name.startswith("arn:"):  # which may end in a version or a label
        return ":".join(name.split(":")[:6])
    if request.operation != "GetParametersByPath":
        name = name.partition(":")[0]
    # The public parameters belong to no account.
    account = "" if name.startswith("/aws/service/") else request.account_id
    return f"arn:aws:ssm:{request.region}:{account}:parameter/{name.removeprefix('/')}"


# --- DynamoDB ---


def _dynamodb(request: Request, known: Known) -> Asked:
    if request.operation.startswith("List") and request.operation != "ListTagsOfResource":
        return Asked("*")
    context = items.condition_keys(request.operation, request.json, known.partition_key)
    tables = request.json.get("RequestItems")
    if isinstance(tables, dict) and tables:
        resource, *others = (_table_arn(request, name) for name in tables)
        return Asked(resource, context, [Permission(f"dynamodb:{request.operation}", it, context) for it in others])
    table = request.member("TableName")
    if not table:
        return Asked(request.member("ResourceArn") or "*")
    resource = _table_arn(request, table)
    if index := request.member("IndexName"):
        resource += f"/index/{index}"
    return Asked(resource, context, _tagging(request, "TagResource", resource))


def _table_arn(request: Request, table: str) -> str:
    return table if table.startswith("arn:") else request.arn(f"table/{table}")


_RULES: dict[str, Callable[[Request, Known], Asked]] = {
    "dynamodb": _dynamodb,
    "events": _events,
    "iam": _iam,
    "lambda": _lambda,
    "logs": _logs,
    "sns": _sns,
    "sqs": _sqs,
    "ssm": _ssm,
    "states": _states,
}
