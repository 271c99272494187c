"""Find the number of a batch in its file's name: 7 in meta-data/partition_7.csv.

Answers with a status as a web service does, so that the state machine can choose
by it: a name without a number is no error of this function.

IAM actions: logs of the function itself, and nothing else.
"""

import re
from collections.abc import Mapping
from typing import Any

MOST_DIGITS = 15  # more are not exact where numbers are floats, as in JSON and JSONata


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Return the batch id in ``event["key"]``, an S3 key."""
    return plan(event)


def plan(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``{"statusCode": 200, "batch_id": 7}``, or 400 and ``error``, which says what is wrong with the name."""
    name = event["key"].rpartition("/")[2]
    found = re.fullmatch(r"partition_(.*)\.csv", name, re.DOTALL)
    if not found:
        return _refused(f"{name} is not named partition_<number>.csv")
    if not re.fullmatch("[0-9]+", found[1]):
        wrong = f"{found[1]!r} is no whole number" if found[1] else "there is none"
        return _refused(f"{name} needs a number after partition_: {wrong}")
    if len(found[1]) > MOST_DIGITS:
        return _refused(f"{name} has a number of {len(found[1])} digits: {MOST_DIGITS} are the most")
    return {"statusCode": 200, "batch_id": int(found[1])}


def _refused(error: str) -> dict[str, Any]:
    return {"statusCode": 400, "error": error}
