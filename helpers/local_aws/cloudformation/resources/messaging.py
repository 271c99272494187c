"""SNS topics, their policies and subscriptions; SQS queues and their policies."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from helpers.local_aws.cloudformation.resources.base import (
    Calls,
    Failed,
    Made,
    Properties,
    ResourceType,
    changed,
    refuse_taken,
    retag,
    tagged,
)
from helpers.local_aws.cloudformation.schema import ANY, FLAG, POLICY, TAGS, TEXT, WHOLE, text

_NO_TOPIC = ("NotFound", "NotFoundException")
_NO_QUEUE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")


class Topic(ResourceType):
    """AWS::SNS::Topic."""

    type = "AWS::SNS::Topic"
    properties: ClassVar = {
        "TopicName": TEXT,
        "DisplayName": TEXT,
        "Subscription": [{"Endpoint": TEXT, "Protocol": TEXT}],
        "Tags": TAGS,
    }
    replaced = frozenset({"TopicName"})
    attributes = frozenset({"TopicArn", "TopicName"})
    name, name_limit, tags = "TopicName", 256, "list"

    def create(self, call: Calls, name: str, wanted: Properties) -> Made:
        """Make the topic and its subscriptions; the physical id is its ARN."""
        arn = call.site.arn("sns", name)
        if "TopicName" in wanted:
            refuse_taken(call, self.type, arn, _NO_TOPIC, "sns", "get_topic_attributes", TopicArn=arn)
        request = tagged(wanted)
        if "DisplayName" in wanted:
            request["Attributes"] = {"DisplayName": wanted["DisplayName"]}
        arn = call("sns", "create_topic", Name=name, **request)["TopicArn"]
        call.exists(arn)
        self._subscriptions(call, arn, {}, wanted)
        return Made(arn, {"TopicArn": arn, "TopicName": name})

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Change the display name, the subscriptions and the tags."""
        if changed(old, new, "DisplayName"):
            call("sns", "set_topic_attributes", TopicArn=physical, AttributeName="DisplayName",
                 AttributeValue=new.get("DisplayName", ""))  # fmt: skip
        self._subscriptions(call, physical, old, new)
        retag(call, old, new, "sns", ResourceArn=physical)
        return {}

    def delete(self, call: Calls, physical: str, old: Properties) -> None:
        """Delete the topic, its subscriptions with it."""
        call.tolerant(_NO_TOPIC, "sns", "delete_topic", TopicArn=physical)

    def _subscriptions(self, call: Calls, topic: str, old: Properties, new: Properties) -> None:
        before, after = old.get("Subscription", []), new.get("Subscription", [])
        for item in [item for item in after if item not in before]:
            call("sns", "subscribe", TopicArn=topic, Protocol=item["Protocol"], Endpoint=item["Endpoint"])
        gone = [(item["Protocol"], item["Endpoint"]) for item in before if item not in after]
        page: dict[str, Any] = {"NextToken": ""} if gone else {}
        while "NextToken" in page:
            more = {"NextToken": page["NextToken"]} if page["NextToken"] else {}
            page = call("sns", "list_subscriptions_by_topic", TopicArn=topic, **more)
            for found in page["Subscriptions"]:
                if (found["Protocol"], found["Endpoint"]) in gone:
                    call("sns", "unsubscribe", SubscriptionArn=found["SubscriptionArn"])


class TopicPolicy(ResourceType):
    """AWS::SNS::TopicPolicy."""

    type = "AWS::SNS::TopicPolicy"
    properties: ClassVar = {"PolicyDocument": POLICY, "Topics": [TEXT]}
    required = ("PolicyDocument", "Topics")

    def create(self, call: Calls, name: str, wanted: Properties) -> Made:
        """Give the policy to each topic."""
        call.exists(name)
        self._put(call, wanted["Topics"], text(wanted["PolicyDocument"]))
        return Made(name)

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Give the new policy to each topic, and those that left their default."""
        self._put(call, new["Topics"], text(new["PolicyDocument"]))
        self._reset(call, [topic for topic in old["Topics"] if topic not in new["Topics"]])
        return {}

    def delete(self, call: Calls, physical: str, old: Properties) -> None:
        """Give the topics back the policy that a topic starts with."""
        self._reset(call, old["Topics"])

    def _put(self, call: Calls, topics: list[str], policy: str) -> None:
        for topic in topics:
            call("sns", "set_topic_attributes", TopicArn=topic, AttributeName="Policy", AttributeValue=policy)

    def _reset(self, call: Calls, topics: list[str]) -> None:
        actions = ("GetTopicAttributes", "SetTopicAttributes", "AddPermission", "RemovePermission", "DeleteTopic",
                   "Subscribe", "ListSubscriptionsByTopic", "Publish")  # fmt: skip
        for topic in topics:
            statement = {
                "Sid": "__default_statement_ID",
                "Effect": "Allow",
                "Principal": {"AWS": "*"},
                "Action": [f"SNS:{action}" for action in actions],
                "Resource": topic,
                "Condition": {"StringEquals": {"AWS:SourceOwner": call.site.account_id}},
            }
            policy = {"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": [statement]}
            call.tolerant(_NO_TOPIC, "sns", "set_topic_attributes", TopicArn=topic, AttributeName="Policy",
                          AttributeValue=json.dumps(policy))  # fmt: skip


class Subscription(ResourceType):
    """AWS::SNS::Subscription."""

    type = "AWS::SNS::Subscription"
    properties: ClassVar = {
        "TopicArn": TEXT,
        "Protocol": TEXT,
        "Endpoint": TEXT,
        "FilterPolicy": ANY,
        "FilterPolicyScope": TEXT,
        "RawMessageDelivery": FLAG,
    }
    required = ("TopicArn", "Protocol", "Endpoint")
    replaced = frozenset({"TopicArn", "Protocol", "Endpoint"})
    attributes = frozenset({"Arn"})

    def create(self, call: Calls, name: str, wanted: Properties) -> Made:
        """Subscribe; the physical id is the subscription's ARN."""
        arn = call(
            "sns", "subscribe", TopicArn=wanted["TopicArn"], Protocol=wanted["Protocol"], Endpoint=wanted["Endpoint"],
            Attributes=_attributes(wanted), ReturnSubscriptionArn=True,
        )["SubscriptionArn"]  # fmt: skip
        call.exists(arn)
        return Made(arn, {"Arn": arn})

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Change filter and form of delivery."""
        before, after = _attributes(old), _attributes(new)
        defaults = {"FilterPolicy": "{}", "FilterPolicyScope": "MessageAttributes", "RawMessageDelivery": "false"}
        for name in defaults:
            if before.get(name) != after.get(name):
                value = after.get(name, defaults[name])
                call("sns", "set_subscription_attributes", SubscriptionArn=physical, AttributeName=name,
                     AttributeValue=value)  # fmt: skip
        return {}

    def delete(self, call: Calls, physical: str, old: Properties) -> None:
        """End the subscription."""
        call.tolerant(_NO_TOPIC, "sns", "unsubscribe", SubscriptionArn=physical)


def _attributes(wanted: Properties) -> dict[str, str]:
    found = {}
    if "FilterPolicy" in wanted:
        found["FilterPolicy"] = text(wanted["FilterPolicy"])
    if "FilterPolicyScope" in wanted:
        found["FilterPolicyScope"] = wanted["FilterPolicyScope"]
    if "RawMessageDelivery" in wanted:
        found["RawMessageDelivery"] = "true" if wanted["RawMessageDelivery"] else "false"
    return found


# The attributes of a queue with the values that they have when nobody sets them.
_QUEUE: dict[str, str] = {
    "DelaySeconds": "0",
    "MaximumMessageSize": "1048576",
    "MessageRetentionPeriod": "345600",
    "ReceiveMessageWaitTimeSeconds": "0",
    "RedriveAllowPolicy": "",
    "RedrivePolicy": "",
    "SqsManagedSseEnabled": "true",
    "VisibilityTimeout": "30",
}


class Queue(ResourceType):
    """AWS::SQS::Queue, of the standard kind."""

    type = "AWS::SQS::Queue"
    properties: ClassVar = {
        "QueueName": TEXT,
        "DelaySeconds": WHOLE,
        "MaximumMessageSize": WHOLE,
        "MessageRetentionPeriod": WHOLE,
        "ReceiveMessageWaitTimeSeconds": WHOLE,
        "RedriveAllowPolicy": ANY,
        "RedrivePolicy": ANY,
        "SqsManagedSseEnabled": FLAG,
        "VisibilityTimeout": WHOLE,
        "Tags": TAGS,
    }
    replaced = frozenset({"QueueName"})
    attributes = frozenset({"Arn", "QueueName", "QueueUrl"})
    name, name_limit, tags = "QueueName", 80, "list"

    def create(self, call: Calls, name: str, wanted: Properties) -> Made:
        """Make the queue; the physical id is its URL."""
        if "QueueName" in wanted:
            refuse_taken(call, self.type, name, _NO_QUEUE, "sqs", "get_queue_url", QueueName=name)
        tags = tagged(wanted, "tags", dict)
        url = call("sqs", "create_queue", QueueName=name, Attributes=_queue(wanted), **tags)["QueueUrl"]
        call.exists(url)
        arn = call("sqs", "get_queue_attributes", QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return Made(url, {"Arn": arn, "QueueName": name, "QueueUrl": url})

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Change attributes and tags."""
        before, after = _queue(old), _queue(new)
        wanted = {name: after.get(name, _QUEUE[name]) for name in _QUEUE if before.get(name) != after.get(name)}
        if wanted:
            call("sqs", "set_queue_attributes", QueueUrl=physical, Attributes=wanted)
        retag(call, old, new, "sqs", ("tag_queue", "untag_queue"), form=dict, QueueUrl=physical)
        return {}

    def delete(self, call: Calls, physical: str, old: Properties) -> None:
        """Delete the queue."""
        call.tolerant(_NO_QUEUE, "sqs", "delete_queue", QueueUrl=physical)


def _queue(wanted: Properties) -> dict[str, str]:
    found = {}
    for name in _QUEUE:
        if name in wanted:
            value = wanted[name]
            found[name] = ("true" if value else "false") if isinstance(value, bool) else text(value)
    return found


class QueuePolicy(ResourceType):
    """AWS::SQS::QueuePolicy."""

    type = "AWS::SQS::QueuePolicy"
    properties: ClassVar = {"PolicyDocument": POLICY, "Queues": [TEXT]}
    required = ("PolicyDocument", "Queues")

    def create(self, call: Calls, name: str, wanted: Properties) -> Made:
        """Give the policy to each queue."""
        if not wanted["Queues"]:
            raise Failed("Queues must name a queue")
        call.exists(name)
        self._put(call, wanted["Queues"], text(wanted["PolicyDocument"]))
        return Made(name)

    def update(self, call: Calls, physical: str, old: Properties, new: Properties) -> Mapping[str, str]:
        """Give the new policy to each queue, and none to those that left."""
        self._put(call, new["Queues"], text(new["PolicyDocument"]))
        self._put(call, [queue for queue in old["Queues"] if queue not in new["Queues"]], "")
        return {}

    def delete(self, call: Calls, physical: str, old: Properties) -> None:
        """Take the policy away."""
        self._put(call, old["Queues"], "")

    def _put(self, call: Calls, queues: list[str], policy: str) -> None:
        for queue in queues:
            gone = () if policy else _NO_QUEUE
            call.tolerant(gone, "sqs", "set_queue_attributes", QueueUrl=queue, Attributes={"Policy": policy})


TYPES = (Topic(), TopicPolicy(), Subscription(), Queue(), QueuePolicy())
