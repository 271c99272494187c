"""Repository triggers: what a valid one is, the event it sends, and its delivery."""

import datetime as dt
import logging
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from helpers.local_aws.codecommit import rules
from helpers.local_aws.codecommit.commits import NO_COMMIT, RefChange
from helpers.local_aws.codecommit.rules import error
from helpers.local_aws.wire import AwsError, Params, Site

log = logging.getLogger(__name__)

Invoke = Callable[[str, dict[str, Any], str], None]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_LAMBDA_ARN = re.compile(r"arn:aws[a-z-]*:lambda:([a-z0-9-]+):\d{12}:function:[A-Za-z0-9-_]+(:[A-Za-z0-9-_$]+)?")


def check(triggers: Sequence[Params], region: str) -> None:
    """Raise the documented error for the first trigger that CodeCommit would refuse.

    A destination in SNS raises NotImplemented: only Lambda functions are invoked here.
    """
    if len(triggers) > rules.MAX_TRIGGERS:
        raise error("MaximumRepositoryTriggersExceededException", f"At most {rules.MAX_TRIGGERS} triggers are allowed")
    names = [trigger["name"] for trigger in triggers]
    for trigger in triggers:
        name = trigger["name"]
        if not _NAME.fullmatch(name) or names.count(name) > 1:
            message = f"Trigger name {name[:100]!r}: 1 to 100 letters, digits, periods, underscores, dashes; unique"
            raise error("InvalidRepositoryTriggerNameException", message)
        if len(trigger.get("customData") or "") > 1000:
            raise error("InvalidRepositoryTriggerCustomDataException", "Custom data has up to 1,000 characters")
        _check_destination(trigger["destinationArn"], region)
        _check_branches(trigger.get("branches"))
        _check_events(trigger["events"])


def _check_destination(arn: str, region: str) -> None:
    if re.match(r"arn:aws[a-z-]*:sns:", arn):
        raise AwsError("NotImplemented", f"codecommit triggers: destinationArn {arn} (SNS) is not supported", 501)
    match = _LAMBDA_ARN.fullmatch(arn)
    if match is None:
        code = "InvalidRepositoryTriggerDestinationArnException"
        raise error(code, f"{arn[:200]!r} is not the ARN of a Lambda function")
    if match[1] != region:
        raise error("InvalidRepositoryTriggerRegionException", f"{arn} is not in the repository's region {region}")


def _check_branches(branches: Sequence[str] | None) -> None:
    if branches is None:
        message = "A trigger needs a list of branches; an empty list means all branches"
        raise error("RepositoryTriggerBranchNameListRequiredException", message)
    if len(branches) > rules.MAX_TRIGGER_BRANCHES:
        message = f"A trigger names at most {rules.MAX_TRIGGER_BRANCHES} branches"
        raise error("MaximumBranchesExceededException", message)
    for branch in branches:
        rules.branch_name(branch, "InvalidRepositoryTriggerBranchNameException")


def _check_events(events: Sequence[str]) -> None:
    if not events:
        raise error("RepositoryTriggerEventsListRequiredException", "A trigger needs at least one event")
    if "all" in events and len(events) > 1:
        raise error("InvalidRepositoryTriggerEventsException", "The event all cannot be used with other events")


def matching(trigger: Params, changes: Sequence[RefChange]) -> list[dict[str, Any]]:
    """Return the references of ``changes`` that ``trigger`` asks for, as its event lists them."""
    references = []
    for change in changes:
        created, deleted = change.old == NO_COMMIT, change.new == NO_COMMIT
        kind = "createReference" if created else "deleteReference" if deleted else "updateReference"
        branch = change.ref.removeprefix("refs/heads/") if change.ref.startswith("refs/heads/") else None
        if trigger["branches"] and branch not in trigger["branches"]:
            continue
        if not {"all", kind} & set(trigger["events"]):
            continue
        reference: dict[str, Any] = {"commit": change.old if deleted else change.new, "ref": change.ref}
        if created:
            reference["created"] = True
        if deleted:
            reference["deleted"] = True
        references.append(reference)
    return references


class Triggers:
    """Sends the events of one account's repositories."""

    def __init__(self, site: Site, invoke: Invoke) -> None:
        self.site, self.invoke = site, invoke

    def fire(self, record: Mapping[str, Any], changes: Sequence[RefChange], caller_arn: str) -> None:
        """Invoke each trigger of the repository ``record`` that asks for one of ``changes``.

        One event holds all references of one push. A trigger that cannot be
        delivered is logged: the push has happened.
        """
        for trigger in record["triggers"]:
            references = matching(trigger, changes)
            if references:
                try:
                    self._send(record, trigger, references, caller_arn, "ReferenceChanges")
                except AwsError as problem:
                    log.warning("trigger %s of %s was not delivered: %s", trigger["name"], record["name"], problem)

    def test(
        self, record: Mapping[str, Any], triggers: Sequence[Params], reference: dict[str, Any], caller_arn: str
    ) -> Params:
        """Invoke every given trigger with ``reference``, and tell which could not be delivered and why."""
        succeeded, failed = [], []
        for trigger in triggers:
            try:
                self._send(record, trigger, [reference], caller_arn, "TriggerEventTest")
                succeeded.append(trigger["name"])
            except AwsError as problem:
                failed.append({"trigger": trigger["name"], "failureMessage": problem.message})
        return {"successfulExecutions": succeeded, "failedExecutions": failed}

    def _send(
        self,
        record: Mapping[str, Any],
        trigger: Params,
        references: list[dict[str, Any]],
        caller_arn: str,
        event_name: str,
    ) -> None:
        arn = self.site.arn("codecommit", record["name"])
        now = dt.datetime.now(dt.UTC)
        entry = {
            "awsRegion": self.site.region,
            "codecommit": {"references": references},
            "eventId": str(uuid.uuid4()),
            "eventName": event_name,
            "eventPartNumber": 1,
            "eventSource": "aws:codecommit",
            "eventSourceARN": arn,
            "eventTime": f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}+0000",
            "eventTotalParts": 1,
            "eventTriggerConfigId": record["configuration_id"] or str(uuid.uuid4()),
            "eventTriggerName": trigger["name"],
            "eventVersion": "1.0",
            "userIdentityARN": caller_arn,
        }
        if trigger.get("customData"):
            entry["customData"] = trigger["customData"]
        self.invoke(trigger["destinationArn"], {"Records": [entry]}, arn)
