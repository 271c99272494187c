"""What the definitions of our state machines share, in the Amazon States Language."""

from typing import Any

INVOKE = "arn:aws:states:::lambda:invoke"
READ = "arn:aws:states:::s3:getObject"  # how a Distributed Map reads its items
MOST_AT_ONCE = 40  # iterations that an inline Map runs at once, at most

# Errors of an invocation that pass. What a function itself raises is not among them.
LAMBDA_ERRORS = (
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
)


def jsonata(expression: str) -> str:
    """Return an expression as a state's fields take it."""
    return f"{{% {expression} %}}"


def retry(*errors: str, seconds: int, attempts: int, most: int | None = None) -> dict[str, Any]:
    """Return a Retry of these errors, ``most`` seconds apart. Jitter spreads calls that were refused together."""
    longest = {"MaxDelaySeconds": most} if most else {}
    return {
        "ErrorEquals": list(errors),
        "IntervalSeconds": seconds,
        "MaxAttempts": attempts,
        "BackoffRate": 2.0,
        **longest,
        "JitterStrategy": "FULL",
    }
