"""Which operations of ministack's services are let through, and the IAM action that each asks for.

Of a service with a list here only what is listed is served: ministack also has operations
that it merely pretends to carry out, or with which one service acts on another unasked.
"""

import re
from collections.abc import Callable, Sequence

from helpers.local_aws.authorization import Request
from helpers.local_aws.wire import AwsError, service_model

# Operations of the other services that make one service act on another, or on an address outside,
# where ministack asks nobody for permission (API destinations reach the internet).
REFUSED_ACTIONS = {
    "lambda:CreateEventSourceMapping", "lambda:CreateFunctionUrlConfig", "lambda:PutFunctionEventInvokeConfig",
    "lambda:UpdateFunctionEventInvokeConfig", "logs:CreateDelivery", "logs:CreateExportTask", "logs:PutDestination",
    "logs:PutSubscriptionFilter", "s3:PutReplicationConfiguration",
}  # fmt: skip

SUPPORTED: dict[str, frozenset[str]] = {
    service: frozenset(operations.split())
    for service, operations in {
        "dynamodb": "CreateTable DeleteTable DescribeTable ListTables UpdateTable PutItem GetItem DeleteItem UpdateItem"
        " Query Scan BatchGetItem BatchWriteItem DescribeTimeToLive DescribeContinuousBackups TagResource"
        " UntagResource ListTagsOfResource",
        "events": "PutRule DeleteRule DescribeRule EnableRule DisableRule ListRules PutTargets RemoveTargets"
        " ListTargetsByRule ListRuleNamesByTarget TagResource UntagResource ListTagsForResource DescribeEventBus"
        " ListEventBuses",
        "sns": "CreateTopic DeleteTopic ListTopics GetTopicAttributes SetTopicAttributes Subscribe Unsubscribe"
        " ListSubscriptions ListSubscriptionsByTopic GetSubscriptionAttributes SetSubscriptionAttributes Publish"
        " PublishBatch TagResource UntagResource ListTagsForResource",
        "sqs": "CreateQueue DeleteQueue GetQueueUrl ListQueues GetQueueAttributes SetQueueAttributes SendMessage"
        " SendMessageBatch ReceiveMessage DeleteMessage DeleteMessageBatch ChangeMessageVisibility"
        " ChangeMessageVisibilityBatch PurgeQueue TagQueue UntagQueue ListQueueTags",
        "ssm": "PutParameter GetParameter GetParameters GetParametersByPath DeleteParameter DeleteParameters"
        " DescribeParameters GetParameterHistory AddTagsToResource RemoveTagsFromResource ListTagsForResource",
    }.items()
}

# Operations that IAM knows by another's name.
_ACTIONS = {
    ("sns", "PublishBatch"): "Publish",
    ("sqs", "SendMessageBatch"): "SendMessage",
    ("sqs", "DeleteMessageBatch"): "DeleteMessage",
    ("sqs", "ChangeMessageVisibilityBatch"): "ChangeMessageVisibility",
}

# Operations whose parameters hold tags, or keys of tags. (ministack finds this out from the
# models of the services, which take longer to read than to write down, and more memory.)
TAGGING: dict[str, frozenset[str]] = {
    service: frozenset(operations.split())
    for service, operations in {
        "cloudformation": "CreateStack UpdateStack CreateChangeSet",
        "dynamodb": "CreateTable TagResource UntagResource",
        "ec2": "CreateTags DeleteTags",
        "events": "PutRule TagResource UntagResource",
        "iam": "CreateRole TagRole UntagRole CreatePolicy TagPolicy UntagPolicy CreateUser TagUser UntagUser"
        " CreateInstanceProfile TagInstanceProfile UntagInstanceProfile",
        "lambda": "CreateFunction TagResource UntagResource",
        "logs": "CreateLogGroup TagLogGroup TagResource UntagResource",
        "s3": "",  # tags travel in headers and XML
        "sns": "CreateTopic TagResource UntagResource",
        "sqs": "CreateQueue TagQueue UntagQueue",
        "ssm": "PutParameter AddTagsToResource RemoveTagsFromResource",
        "states": "CreateStateMachine CreateActivity TagResource UntagResource",
        "sts": "AssumeRole",
    }.items()
}


def iam_action(service: str, operation: str) -> str:
    """Return the IAM action of an operation. Raises AwsError (NotImplemented) for one that is not served."""
    supported = SUPPORTED.get(service)
    if (supported is not None and operation not in supported) or f"{service}:{operation}" in REFUSED_ACTIONS:
        raise not_supported(f"{service}:{operation}")
    return f"{service}:{_ACTIONS.get((service, operation), operation)}"


def not_supported(what: str) -> AwsError:
    """Return the refusal of something that AWS does and the embedded AWS does not."""
    return AwsError("NotImplemented", f"the embedded AWS does not support {what}", 501)


# botocore's models of the services whose resources are read from parameters.
_MODELS = {"states": "stepfunctions"} | {name: name for name in ("dynamodb", "events", "logs", "sqs", "ssm")}
_FORM_MODELS = ("iam", "sns", "sts")
_QUEUE_URL = re.compile(r"(https?://[^/?#\s]+/\d{12}/)?[A-Za-z0-9_-]+(\.fifo)?/?")


def require_supported(request: Request) -> None:
    """Raise AwsError for parameters that would not be carried out, or that IAM could be asked wrongly about."""
    _require_known(request)
    if request.service == "sqs":
        _queue_url(request)
    elif request.service == "sns":
        _one_resource(request, "InvalidParameter", [n for n in ("TopicArn", "TargetArn") if request.param(n)])
    elif request.service == "logs":
        groups = [name for name in ("logGroupName", "logGroupIdentifier") if name in request.json]
        _one_resource(request, "InvalidParameterException", groups)
    check = _CHECKS.get((request.service, request.operation))
    if check:
        check(request)


def _require_known(request: Request) -> None:
    """Refuse parameters that the operation does not have.

    Permissions are asked for the resource that a parameter names: one that the
    operation itself does not look at would let the request reach another resource.
    """
    form = request.service in _FORM_MODELS
    if not form and request.service not in _MODELS:
        return
    model = service_model(request.service if form else _MODELS[request.service])
    if request.operation not in model.operation_names:
        return
    shape = model.operation_model(request.operation).input_shape
    members = shape.members if shape else {}
    known = {member.serialization.get("name", name) for name, member in members.items()} if form else set(members)
    given = {name.partition(".")[0] for name in request.params} - {"Action", "Version"} if form else set(request.json)
    for name in sorted(given - known):
        raise AwsError("ValidationError" if form else "ValidationException",
                       f"{request.operation} has no parameter {name:.100}")  # fmt: skip


def _queue_url(request: Request) -> None:
    url = request.json.get("QueueUrl", "q")
    if not isinstance(url, str) or not _QUEUE_URL.fullmatch(url):
        raise AwsError("InvalidAddress", f"The address {url!s:.200} is not valid for this endpoint.", 404)


def _one_resource(request: Request, code: str, given: Sequence[str]) -> None:
    if len(given) > 1:
        raise AwsError(code, f"{request.operation}: {' and '.join(given)} cannot both be given")


def _table(request: Request) -> None:
    parameters = request.json
    stream = parameters.get("StreamSpecification")
    if isinstance(stream, dict) and stream.get("StreamEnabled"):
        raise not_supported(f"dynamodb:{request.operation} with a stream")
    for name in ("ReplicaUpdates", "ResourcePolicy", "GlobalTableWitnessUpdates", "VectorIndexes"):
        if parameters.get(name):
            raise not_supported(f"dynamodb:{request.operation} with {name}")


def _rule(request: Request) -> None:
    if request.member("EventPattern"):
        raise not_supported("events:PutRule with an EventPattern, only with a ScheduleExpression")


def _targets(request: Request) -> None:
    targets = request.json.get("Targets")
    for target in targets if isinstance(targets, list) else []:
        texts = isinstance(target, dict) and all(isinstance(target.get(name, ""), str) for name in ("Arn", "Input"))
        if not texts or not isinstance(target.get("Id"), str) or "Arn" not in target:
            raise AwsError("ValidationException", "Parameter Targets is not valid: each has the texts Id and Arn.")
        parts = str(target.get("Arn", "")).split(":")
        if len(parts) > 2 and parts[2] != "lambda":
            raise not_supported(f"events:PutTargets with a target of the service {parts[2]!r}, only of 'lambda'")
        if more := sorted(target.keys() - {"Id", "Arn", "Input"}):
            raise not_supported(f"events:PutTargets with {', '.join(more)}")


def _subscription(request: Request) -> None:
    protocol = request.param("Protocol")
    if protocol and protocol not in ("sqs", "lambda"):
        # Nothing leaves this machine.
        raise not_supported(f"sns:Subscribe with the protocol {protocol!r}, only 'sqs' and 'lambda'")
    entries = (name for name in request.params if name.startswith("Attributes.entry.") and name.endswith(".key"))
    _subscription_attributes([request.param(name) for name in entries])


def _subscription_attribute(request: Request) -> None:
    _subscription_attributes([request.param("AttributeName")])


def _subscription_attributes(names: list[str]) -> None:
    for name in names:
        if name in ("RedrivePolicy", "DeliveryPolicy", "SubscriptionRoleArn", "ReplayPolicy"):
            raise not_supported(f"sns: a subscription with {name}")


def _publish(request: Request) -> None:
    for name in ("PhoneNumber", "TargetArn"):
        value = request.param(name)
        if value and (name == "PhoneNumber" or ":endpoint/" in value):
            raise not_supported(f"sns:Publish to a {name}, only to a topic")


def _parameter(request: Request) -> None:
    if request.member("Type") == "SecureString":
        raise not_supported("ssm:PutParameter of the type SecureString (there is no KMS here to encrypt it)")
    if request.member("Policies"):
        raise not_supported("ssm:PutParameter with Policies")


_CHECKS: dict[tuple[str, str], Callable[[Request], None]] = {
    ("dynamodb", "CreateTable"): _table,
    ("dynamodb", "UpdateTable"): _table,
    ("events", "PutRule"): _rule,
    ("events", "PutTargets"): _targets,
    ("sns", "Subscribe"): _subscription,
    ("sns", "SetSubscriptionAttributes"): _subscription_attribute,
    ("sns", "Publish"): _publish,
    ("ssm", "PutParameter"): _parameter,
}
