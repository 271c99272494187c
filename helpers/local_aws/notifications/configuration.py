"""A bucket's notification configuration: read, checked as S3 checks it, and written."""

import base64
import itertools
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from xml.etree import ElementTree

from helpers.local_aws.wire import AwsError, service_model

MOST = 100  # configurations of one bucket
LONGEST_VALUE = 1024  # bytes of a filter's value
CREATED = tuple(f"s3:ObjectCreated:{how}" for how in ("Put", "Post", "Copy", "CompleteMultipartUpload"))
REMOVED = tuple(f"s3:ObjectRemoved:{how}" for how in ("Delete", "DeleteMarkerCreated"))

# What an event name stands for. S3 knows more, which nothing here ever sends.
EVENTS: dict[str, tuple[str, ...]] = {"s3:ObjectCreated:*": CREATED, "s3:ObjectRemoved:*": REMOVED}
EVENTS.update((name, (name,)) for name in (*CREATED, *REMOVED))

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
# By the service of the destination: the element of a configuration, and that of its ARN. Both have an older
# and a newer spelling for functions; boto3 writes and reads the older one.
_ELEMENTS = {"lambda": ("CloudFunctionConfiguration", "CloudFunction"), "sqs": ("QueueConfiguration", "Queue"),
             "sns": ("TopicConfiguration", "Topic")}  # fmt: skip
_SERVICES = {element: (service, arn) for service, (element, arn) in _ELEMENTS.items()}
_NEWER = {"LambdaFunctionConfiguration": "CloudFunctionConfiguration", "LambdaFunctionArn": "CloudFunction"}
_ARNS = {
    "lambda": re.compile(r"arn:aws[a-z-]*:lambda:([a-z0-9-]+):\d{12}:function:[A-Za-z0-9_-]+(:[A-Za-z0-9_$-]+)?"),
    "sqs": re.compile(r"arn:aws[a-z-]*:sqs:([a-z0-9-]+):\d{12}:[A-Za-z0-9_-]+(\.fifo)?"),
    "sns": re.compile(r"arn:aws[a-z-]*:sns:([a-z0-9-]+):\d{12}:[A-Za-z0-9_-]+(\.fifo)?"),
}


@dataclass(frozen=True)
class Configuration:
    """Which events of a bucket go where. ``service``: lambda, sqs or sns. ``rules``: Prefix and Suffix with values."""

    id: str
    service: str
    arn: str
    events: tuple[str, ...]
    rules: tuple[tuple[str, str], ...] | None = None  # None: without a filter

    @property
    def sent(self) -> frozenset[str]:
        """The events that it stands for, without wildcards."""
        return frozenset(name for event in self.events for name in EVENTS[event])

    @property
    def prefix(self) -> str:
        """What a key has to begin with."""
        return dict(self.rules or ()).get("Prefix", "")

    @property
    def suffix(self) -> str:
        """What a key has to end in."""
        return dict(self.rules or ()).get("Suffix", "")

    def wants(self, event: str, key: str) -> bool:
        """Whether ``event`` on ``key``, as it was given to S3 and not as events write it, is to be sent."""
        return event in self.sent and key.startswith(self.prefix) and key.endswith(self.suffix)


def parse(document: str) -> tuple[Configuration, ...]:
    """Read a configuration. Raises AwsError: MalformedXML, or InvalidArgument for what it says."""
    if "<!DOCTYPE" in document:
        raise _malformed()
    try:
        root = ElementTree.fromstring(document)  # noqa: S314 - without a DTD there are no entities
    except ElementTree.ParseError:
        raise _malformed() from None
    if _name(root) != "NotificationConfiguration":
        raise _malformed()
    return tuple(_configurations(root))


@lru_cache(maxsize=64)
def stored(document: str) -> tuple[Configuration, ...]:
    """Read what ``to_xml`` wrote; every change of an object asks for it."""
    return parse(document)


def check(configurations: Sequence[Configuration], region: str) -> None:
    """Raise AwsError (InvalidArgument) for the first thing that S3 refuses; ``region`` is the bucket's."""
    if len(configurations) > MOST:
        raise _invalid(f"A bucket has at most {MOST} notification configurations")
    ids = [configuration.id for configuration in configurations]
    if len(set(ids)) < len(ids):
        raise _invalid("Same ID used for multiple configurations. IDs must be unique.")
    for configuration in configurations:
        _check_arn(configuration, region)
        _check_filter(configuration)
    for one, other in itertools.combinations(configurations, 2):
        _check_overlap(one, other)


def to_xml(configurations: Sequence[Configuration]) -> str:
    """Write a configuration as S3 gives it back."""
    root = ElementTree.Element("NotificationConfiguration", xmlns=_NAMESPACE)
    for configuration in configurations:
        element, arn = _ELEMENTS[configuration.service]
        written = ElementTree.SubElement(root, element)
        ElementTree.SubElement(written, "Id").text = configuration.id
        ElementTree.SubElement(written, arn).text = configuration.arn
        for event in configuration.events:
            ElementTree.SubElement(written, "Event").text = event
        if configuration.rules is not None:
            key = ElementTree.SubElement(ElementTree.SubElement(written, "Filter"), "S3Key")
            for name, value in configuration.rules:
                rule = ElementTree.SubElement(key, "FilterRule")
                ElementTree.SubElement(rule, "Name").text = name
                ElementTree.SubElement(rule, "Value").text = value
    return ElementTree.tostring(root, encoding="unicode")


def _configurations(root: ElementTree.Element) -> Iterator[Configuration]:
    for element in root:
        if _name(element) == "EventBridgeConfiguration":
            raise AwsError(
                "NotImplemented",
                "the embedded AWS does not support s3:PutBucketNotificationConfiguration with EventBridgeConfiguration",
                501,
            )
        if _name(element) not in _SERVICES:
            raise _malformed()
        yield _configuration(element, *_SERVICES[_name(element)])


def _configuration(element: ElementTree.Element, service: str, arn_name: str) -> Configuration:
    found: dict[str, list[ElementTree.Element]] = {"Id": [], arn_name: [], "Event": [], "Filter": []}
    for child in element:
        if _name(child) not in found:
            raise _malformed()
        found[_name(child)].append(child)
    if len(found[arn_name]) != 1 or not found["Event"] or len(found["Id"]) > 1 or len(found["Filter"]) > 1:
        raise _malformed()
    events = tuple(dict.fromkeys(_text(event) for event in found["Event"]))
    for event in events:
        _check_event(event)
    given = _text(found["Id"][0]) if found["Id"] else ""
    rules = tuple(_rules(found["Filter"][0])) if found["Filter"] else None
    return Configuration(given or _made_up_id(), service, _text(found[arn_name][0]), events, rules)


def _rules(element: ElementTree.Element) -> Iterator[tuple[str, str]]:
    for key in element:
        if _name(key) != "S3Key":
            raise _malformed()
        for rule in key:
            parts = {_name(part): part.text or "" for part in rule}
            if _name(rule) != "FilterRule" or parts.keys() != {"Name", "Value"}:
                raise _malformed()
            yield parts["Name"].strip().capitalize(), parts["Value"]


def _check_event(event: str) -> None:
    if event in EVENTS:
        return
    if event in service_model("s3").shape_for("Event").enum:
        message = f"the embedded AWS does not support s3:PutBucketNotificationConfiguration with the event {event}"
        raise AwsError("NotImplemented", message, 501)
    raise _invalid("The event is not supported for notifications")


def _check_arn(configuration: Configuration, region: str) -> None:
    arn = _ARNS[configuration.service].fullmatch(configuration.arn)
    if arn is None:
        raise _invalid("The ARN is not well formed")
    if arn[1] != region:
        raise _invalid("The notification destination service region is not valid for the bucket location constraint")
    if configuration.arn.endswith(".fifo"):
        raise _invalid("FIFO queues and topics are not supported as notification destinations")


def _check_filter(configuration: Configuration) -> None:
    names = [name for name, _ in configuration.rules or ()]
    for name in names:
        if name not in ("Prefix", "Suffix"):
            raise _invalid("filter rule name must be either prefix or suffix")
        if names.count(name) > 1:
            raise _invalid(f"Cannot specify more than one {name.lower()} rule in a filter.")
    if any(len(value.encode()) > LONGEST_VALUE for _, value in configuration.rules or ()):
        raise _invalid(f"Size of filter rule value cannot exceed {LONGEST_VALUE} bytes in UTF-8 representation")


def _check_overlap(one: Configuration, other: Configuration) -> None:
    """Raise AwsError when one object could be an event of both."""
    prefixes = one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix)
    suffixes = one.suffix.endswith(other.suffix) or other.suffix.endswith(one.suffix)
    if not (one.sent & other.sent and prefixes and suffixes):
        return
    if not (one.rules or other.rules):
        raise _invalid("Configurations overlap. Configurations on the same bucket cannot share a common event type.")
    raise _invalid(
        "Configuration is ambiguously defined. Cannot have overlapping suffixes in two rules if the prefixes"
        " are overlapping for the same event type."
    )


def _made_up_id() -> str:
    return base64.b64encode(str(uuid.uuid4()).encode()).decode().rstrip("=")


def _name(element: ElementTree.Element) -> str:
    name = element.tag.removeprefix(f"{{{_NAMESPACE}}}")
    return _NEWER.get(name, name)


def _text(element: ElementTree.Element) -> str:
    return (element.text or "").strip()


def _malformed() -> AwsError:
    message = "The XML you provided was not well-formed or did not validate against our published schema"
    return AwsError("MalformedXML", message)


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidArgument", message)
