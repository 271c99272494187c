"""How a unit ended, and how it is told."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from units import LONGEST_REASON, Record

LONGEST_SUBJECT = 100  # characters: SNS's limit


@dataclass(frozen=True)
class Outcome:
    """The final status of a unit; the reason of a failure; of a success where the results are, and its metrics."""

    unit: str
    status: str
    reason: str = ""
    results: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(record: Record) -> "Outcome":
        """Return the outcome that a record tells of."""
        return Outcome(
            record["Unit"],
            record["JobStatus"],
            record.get("Reason", ""),
            record.get("Results", ""),
            record.get("Metrics", {}),
        )


def reason_of(error: Mapping[str, str]) -> str:
    """Return a caught error of the state machine as one line. A function's error comes as JSON in ``Cause``."""
    name, cause = error.get("Error", ""), error.get("Cause", "")
    try:
        text = json.loads(cause)["errorMessage"]
    except (ValueError, KeyError, TypeError):
        text = cause
    return ": ".join(filter(None, [name, str(text)]))[:LONGEST_REASON]


def publish(sns: Any, topic: str, outcome: Outcome, execution: str) -> None:
    """Tell the topic, in JSON. The attribute ``JobStatus`` is for filter policies of subscriptions."""
    body = {
        "unit": outcome.unit,
        "status": outcome.status,
        "reason": outcome.reason,
        "results": outcome.results,
        "metrics": outcome.metrics,
        "execution": execution,
    }
    sns.publish(
        TopicArn=topic,
        Subject=f"{outcome.status}: {outcome.unit}"[:LONGEST_SUBJECT],
        Message=json.dumps(body, default=_number),
        MessageAttributes={"JobStatus": {"DataType": "String", "StringValue": outcome.status}},
    )


def attempt_all(*steps: Callable[[], None]) -> list[str]:
    """Do every step, whatever becomes of the others. Returns the errors' messages."""
    problems = []
    for step in steps:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the caller raises what is returned, in one error
            problems.append(f"{type(error).__name__}: {error}")
    return problems


def _number(value: Any) -> float:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
