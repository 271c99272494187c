"""SNS: what a topic delivers reaches functions and queues as AWS delivers it, if their policies let it in."""

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.wire import AwsError

logger = logging.getLogger(__name__)

SOURCE = "sns.amazonaws.com"
# invoke_for(principal, function ARN, event, source ARN): queue an asynchronous invocation. Raises AwsError.
InvokeFor = Callable[[str, str, dict[str, Any], str], None]


class Messaging:
    """What differs from ministack's SNS and SQS."""

    def __init__(self, ministack: Ministack, invoke_for: InvokeFor) -> None:
        self._sns, self._sqs = ministack.module("sns"), ministack.module("sqs")
        self._invoke_for = invoke_for

    def install(self) -> None:
        """Check what AWS checks of a topic and a policy, and deliver to functions through the queue of invocations."""
        sns, sqs = self._sns, self._sqs
        answer_error = sns._error

        def error(code: str, message: str, status: int) -> tuple:
            # On the wire SNS's codes have no "Exception" at their end: SDKs find their exception by them.
            short = code.removesuffix("Exception") if code.startswith("InvalidParameter") else code
            return answer_error(short, message, status)

        def checked(check: Callable[[Mapping[str, str]], str], call: Callable[[Any], tuple]) -> Callable[[Any], tuple]:
            def called(params: Mapping[str, Any]) -> tuple:
                wrong = check({name: value[0] if isinstance(value, list) else value for name, value in params.items()})
                return sns._error("InvalidParameter", f"Invalid parameter: {wrong}", 400) if wrong else call(params)

            return called

        def with_policy_checked(call: Callable[[dict, str], dict]) -> Callable[[dict, str], dict]:
            def called(data: dict, url: str) -> dict:
                policy = (data.get("Attributes") or {}).get("Policy")
                if policy and not _is_policy(policy):
                    raise sqs._Err("InvalidAttributeValue", "Invalid value for the parameter Policy.")
                return call(data, url)

            return called

        sns._error = error
        for name, check in (
            ("_create_topic", _wrong_topic),
            ("_set_topic_attributes", _wrong_attribute),
            ("_publish", _wrong_message),
        ):
            setattr(sns, name, checked(check, getattr(sns, name)))
        sns._fanout = self._fan_out
        for operation in ("CreateQueue", "SetQueueAttributes"):
            sqs._HANDLERS[operation] = with_policy_checked(sqs._HANDLERS[operation])

    def _fan_out(
        self,
        topic_arn: str,
        message_id: str,
        message: str,
        subject: str,
        structure: str = "",
        attributes: dict | None = None,
        message_group_id: str = "",
        message_dedup_id: str = "",
    ) -> None:
        """Deliver a message to the subscriptions of a topic that want it, before the publisher has its answer."""
        sns = self._sns
        topic, attributes = sns._topic_by_arn_any_scope(topic_arn), attributes or {}
        for subscription in list(topic["subscriptions"]) if topic else []:
            protocol, endpoint = subscription["protocol"], subscription["endpoint"]
            text = sns._resolve_message_for_protocol(message, structure, protocol)
            if not sns._matches_filter_policy(subscription, attributes, text):
                continue
            notification = _notification(topic_arn, message_id, text, subject, attributes)
            if protocol == "sqs":
                raw = subscription["attributes"].get("RawMessageDelivery") == "true"
                sns._deliver_to_sqs(
                    endpoint, json.dumps(notification), raw, text, message_group_id=message_group_id,
                    message_dedup_id=message_dedup_id, message_attributes=attributes, topic_arn=topic_arn,
                )  # fmt: skip
            else:
                self._invoke(endpoint, subscription["arn"], topic_arn, notification)

    def _invoke(self, function_arn: str, subscription_arn: str, topic_arn: str, notification: dict[str, Any]) -> None:
        event = {"Records": [_record(subscription_arn, notification)]}
        try:
            self._invoke_for(SOURCE, function_arn, event, topic_arn)
        except AwsError as error:
            # SNS tells the publisher nothing of a delivery that fails.
            logger.warning("%s: not delivered to %s: %s", topic_arn, function_arn, error.message)


def _notification(topic_arn: str, message_id: str, text: str, subject: str, attributes: Mapping) -> dict[str, Any]:
    """Return the envelope of a message. It carries no signature: AWS's key is AWS's."""
    now = time.time()
    envelope: dict[str, Any] = {
        "Type": "Notification",
        "MessageId": message_id,
        "TopicArn": topic_arn,
        **({"Subject": subject} if subject else {}),
        "Message": text,
        "Timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03}Z",
        "SignatureVersion": "1",
        "Signature": "",
        "SigningCertURL": "",
        "UnsubscribeURL": "",
    }
    if attributes:
        envelope["MessageAttributes"] = {
            name: {"Type": value["DataType"], "Value": value.get("StringValue") or value.get("BinaryValue", "")}
            for name, value in attributes.items()
        }
    return envelope


def _record(subscription_arn: str, notification: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record that a function gets, whose names differ a little from those that a queue gets."""
    names = {"SigningCertURL": "SigningCertUrl", "UnsubscribeURL": "UnsubscribeUrl"}
    message = {"Subject": None, "MessageAttributes": {}, **notification}
    return {
        "EventSource": "aws:sns",
        "EventVersion": "1.0",
        "EventSubscriptionArn": subscription_arn,
        "Sns": {names.get(name, name): value for name, value in message.items()},
    }


def _wrong_topic(params: Mapping[str, str]) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,256}", params.get("Name", "").removesuffix(".fifo")):
        return "Topic Name"
    numbers = [name.split(".")[2] for name in params if re.fullmatch(r"Attributes\.entry\.\d+\.key", name)]
    for number in numbers:
        pair = {key: params.get(f"Attributes.entry.{number}.{key}", "") for key in ("key", "value")}
        if wrong := _wrong_attribute({"AttributeName": pair["key"], "AttributeValue": pair["value"]}):
            return wrong
    return ""


_ATTRIBUTES = {
    "ContentBasedDeduplication", "DeliveryPolicy", "DisplayName", "FifoThroughputScope", "FifoTopic", "KmsMasterKeyId",
    "Policy", "SignatureVersion", "TracingConfig",
}  # fmt: skip


def _wrong_attribute(params: Mapping[str, str]) -> str:
    if params.get("AttributeName") not in _ATTRIBUTES:
        return "AttributeName"
    if params["AttributeName"] == "Policy" and not _is_policy(params.get("AttributeValue", "")):
        return "Policy Error: null"
    return ""


def _wrong_message(params: Mapping[str, str]) -> str:
    message, subject = params.get("Message", ""), params.get("Subject", "")
    if not message:
        return "Empty message"
    if subject and (len(subject) > 100 or not subject.isprintable() or not subject.isascii()):
        return "Subject"
    if params.get("MessageStructure") == "json":
        try:
            parts = json.loads(message)
        except ValueError:
            return "Message Structure - JSON message body failed to parse"
        if not isinstance(parts, dict) or not isinstance(parts.get("default"), str):
            return "Message Structure - No default entry in JSON message body"
    return ""


def _is_policy(text: str) -> bool:
    try:
        policy = json.loads(text)
    except ValueError:
        return False
    return isinstance(policy, dict) and isinstance(policy.get("Statement"), (list, dict))
