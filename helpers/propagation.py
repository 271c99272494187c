"""Wait for IAM: a new role or policy takes seconds to be known everywhere on AWS."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError

# What the services answer while a role or its policy has not reached them. A real mistake
# gives the same errors, so the wait is bounded and the last error is raised as it came.
NOT_PROPAGATED = {
    # The caller's own permission, and Step Functions about the role that it was given.
    "AccessDeniedException": ("not authorized to", "is authorized to assume the provided role"),
    "AccessDenied": ("not authorized to perform", "Access Denied"),
    # Lambda, about a function's role; the second where the function has environment variables.
    "InvalidParameterValueException": ("cannot be assumed by Lambda", "KMS key is invalid for CreateGrant"),
    # S3, about a function that does not let it in yet.
    "InvalidArgument": ("Unable to validate the following destination configurations",),
    # CloudFormation, about the role that it is to act in.
    "ValidationError": ("is invalid or cannot be assumed",),
    # SageMaker, about a job's role.
    "ValidationException": ("Could not assume role",),
    # CodeBuild, about a project's role.
    "InvalidInputException": ("CodeBuild is not authorized to perform: sts:AssumeRole",),
    # ECS, about a task's roles, and about its own role, which the first cluster of an account brings about.
    "ClientException": ("Role is not valid", "unable to assume the role"),
    "InvalidParameterException": ("Unable to assume the service linked role",),
}


def retry_until_propagated(
    call: Callable[[], Any], *, seconds: float = 60, sleep: Callable[[float], None] = time.sleep
) -> Any:
    """Return ``call()``, tried again for up to ``seconds`` while the error means "not known yet".

    Any other error is raised at once.
    """
    for pause in _pauses(seconds):
        try:
            return call()
        except ClientError as error:
            if not is_propagation_error(error):
                raise
            sleep(pause)
    return call()


def is_propagation_error(error: ClientError) -> bool:
    """Whether an error may come from a role or policy that has not spread yet."""
    code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
    return any(phrase in message for phrase in NOT_PROPAGATED.get(code, ()))


def _pauses(seconds: float) -> Iterator[float]:
    pause = 0.5
    while seconds > 0:
        yield min(pause, seconds)
        seconds -= pause
        pause = min(pause * 2, 8)
