"""EventBridge: rules of the default bus that invoke functions on a schedule."""

import datetime as dt
import json
import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from helpers.local_aws import schedules
from helpers.local_aws.authorization import json_body
from helpers.local_aws.seam.guard import refusal
from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.wire import AwsError, Site

logger = logging.getLogger(__name__)

SOURCE = "events.amazonaws.com"
MOST_TARGETS = 5
TICK_SECONDS = 1.0
# Where a rule keeps since when its schedule counts. (ministack saves a rule's record, and shows only what it knows.)
SINCE = "ScheduledSince"

_CHANGES = ("PutRule", "DeleteRule", "EnableRule", "DisableRule", "PutTargets", "RemoveTargets")
_OF_A_RULE = ("EnableRule", "DisableRule", "PutTargets", "RemoveTargets", "ListTargetsByRule")

# invoke_for(principal, function ARN, event, source ARN): queue an asynchronous invocation. Raises AwsError.
InvokeFor = Callable[[str, str, dict[str, Any], str], None]


class Schedules:
    """What differs from ministack's EventBridge: its checks, and that schedules fire when they are due."""

    def __init__(self, site: Site, ministack: Ministack, invoke_for: InvokeFor) -> None:
        self._site, self._events, self._invoke_for = site, ministack.events, invoke_for
        self._handlers = ministack.app.SERVICE_HANDLERS
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def install(self) -> None:
        """Check requests (not what this process does itself), and fire schedules with our own clock."""
        serve = self._handlers["events"]

        async def checked(method: str, path: str, headers: Mapping[str, str], body: bytes, query: Any) -> tuple:
            operation, data = headers.get("x-amz-target", "").rpartition(".")[2], json_body(body)
            try:
                known = self._rule_of(data)
                before = dict(known or {})
                self._check(operation, data, known)
            except AwsError as error:
                return refusal(error)
            answer = await serve(method, path, headers, body, query)
            if operation in ("PutRule", "EnableRule") and answer[0] == 200:
                self._count_from_now(data, before)
            return answer

        self._handlers["events"] = checked
        self._events.start_scheduler = self._start
        self._events._invoke_target = lambda *event: None  # of patterns: rules with one are Step Functions' own

    def close(self) -> None:
        """Fire nothing any more."""
        self._stopping.set()
        if self._thread:
            self._thread.join()

    def fire(self, after: dt.datetime, until: dt.datetime) -> None:
        """Invoke the targets of every enabled rule that is due after ``after`` and not after ``until``."""
        for (account, region, key), rule in list(self._events._rules._data.items()):
            expression = rule.get("ScheduleExpression")
            if not expression or rule.get("State") != "ENABLED":
                continue
            targets = list(self._events._targets._data.get((account, region, key), []))
            try:
                self._fire_rule(rule, expression, targets, after, until)
            except Exception:  # one rule must not keep the others from being due
                logger.exception("%s between %s and %s", rule.get("Arn"), after, until)

    def _fire_rule(
        self, rule: Mapping[str, Any], expression: str, targets: list[Any], after: dt.datetime, until: dt.datetime
    ) -> None:
        since = dt.datetime.fromtimestamp(rule.get(SINCE) or rule["CreationTime"], dt.UTC)
        due = schedules.parse(expression).next(max(after, since), since)
        if due is not None and due <= until:
            for target in targets:
                self._invoke(rule, target, due)

    def _start(self) -> None:
        # Called when the saved state has been loaded. What was due while nothing ran is not made up for.
        self._thread = threading.Thread(target=self._run, name="schedules", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        after = dt.datetime.now(dt.UTC)
        while not self._stopping.wait(TICK_SECONDS):
            now = dt.datetime.now(dt.UTC)
            try:
                self.fire(after, now)
            except Exception:
                logger.exception("schedules between %s and %s", after, now)
            after = now

    def _invoke(self, rule: Mapping[str, Any], target: Mapping[str, Any], due: dt.datetime) -> None:
        event = json.loads(target["Input"]) if target.get("Input") else self._event(rule["Arn"], due)
        try:
            self._invoke_for(SOURCE, target["Arn"], event, rule["Arn"])
        except AwsError as error:
            logger.warning("%s: target %s was not invoked: %s", rule["Arn"], target["Id"], error.message)

    def _event(self, rule_arn: str, due: dt.datetime) -> dict[str, Any]:
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": self._site.account_id,
            "time": due.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": self._site.region,
            "resources": [rule_arn],
            "detail": {},
        }

    def _rule_of(self, data: Mapping[str, Any]) -> dict[str, Any] | None:
        name = data.get("Rule") or data.get("Name")
        if not isinstance(name or "", str):
            raise AwsError("SerializationException", "the name of a rule must be text")
        bus = str(data.get("EventBusName") or "default").rpartition("/")[2]
        return self._events._rules.get(self._events._rule_key(name, bus))

    def _count_from_now(self, data: Mapping[str, Any], before: Mapping[str, Any]) -> None:
        """Let a schedule count from now where it is new, or another, or was off."""
        rule = self._rule_of(data)
        if rule is None:
            return
        same = all(before.get(name) == rule.get(name) for name in ("ScheduleExpression", "State"))
        now = dt.datetime.now(dt.UTC).timestamp()
        rule[SINCE] = before.get(SINCE, rule["CreationTime"]) if before and same else now

    def _check(self, operation: str, data: Mapping[str, Any], rule: Mapping[str, Any] | None) -> None:
        """Raise AwsError where EventBridge refuses a request that ministack would take."""
        for member in ("EventBusName", "ScheduleExpression"):
            if not isinstance(data.get(member) or "", str):
                raise AwsError("SerializationException", f"{member} must be text")
        name = data.get("Rule") or data.get("Name")
        if operation == "PutRule":
            self._check_schedule(data)
        elif rule is None and operation in _OF_A_RULE:
            message = f"Rule {name} does not exist on EventBus {data.get('EventBusName') or 'default'}."
            raise AwsError("ResourceNotFoundException", message)
        if rule and rule.get("ManagedBy") and operation in _CHANGES and not data.get("Force"):
            raise AwsError("ManagedRuleException", f"Rule {name} is managed by an AWS service.")
        if operation == "PutTargets":
            self._check_targets(data, rule or {})
        if operation == "DeleteRule" and rule and self._targets_of(rule):
            raise AwsError("ValidationException", "Rule can't be deleted since it has targets.")

    def _check_schedule(self, data: Mapping[str, Any]) -> None:
        expression = data.get("ScheduleExpression")
        if not expression:
            message = "Parameter(s) EventPattern or ScheduleExpression must be specified."
            raise AwsError("ValidationException", message)
        try:
            schedules.parse(expression)
        except schedules.NotASchedule:
            raise AwsError("ValidationException", "Parameter ScheduleExpression is not valid.") from None
        if data.get("State", "ENABLED") not in ("ENABLED", "DISABLED"):
            raise AwsError("ValidationException", "Parameter State is not valid.")

    def _check_targets(self, data: Mapping[str, Any], rule: Mapping[str, Any]) -> None:
        targets = data.get("Targets") or []
        for target in targets:
            if target.get("Input") is not None:
                try:
                    json.loads(target["Input"])
                except ValueError:
                    message = f"Parameter Input is not valid. Reason: target {target.get('Id')}: it is not JSON."
                    raise AwsError("ValidationException", message) from None
        ids = {target["Id"] for target in [*targets, *self._targets_of(rule)]}
        if len(ids) > MOST_TARGETS:
            message = f"The requested resource exceeds the maximum number allowed: {MOST_TARGETS} targets a rule."
            raise AwsError("LimitExceededException", message)

    def _targets_of(self, rule: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self._events._targets.get(self._events._rule_key(rule["Name"], rule["EventBusName"])) or []
