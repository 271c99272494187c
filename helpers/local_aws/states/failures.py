"""How tasks fail, and the names that handlers know an error by."""

import uuid

from helpers.local_aws.wire import service_model

TIMEOUT, HEARTBEAT = "States.Timeout", "States.HeartbeatTimeout"
# The names of the SDK's clients, as errors of SDK integrations begin.
_SDK_NAMES = {"s3": "S3", "sagemaker": "SageMaker", "ecs": "Ecs", "batch": "Batch"}


class TaskFailed(Exception):
    """A task's failure: ``error`` and ``cause`` as a Catch sees them.

    ``handled_as``: the name by which Retry and Catch look for it, where that is not ``error``.
    """

    def __init__(self, error: str, cause: str | None, *, handled_as: str = "") -> None:
        super().__init__(f"{error}: {cause}")
        self.error, self.cause, self.handled_as = error, cause, handled_as or error


def timed_out(*, heartbeat: bool = False) -> TaskFailed:
    """Return the failure of a task whose time was over, or whose ``heartbeat`` did not come.

    Step Functions writes States.Timeout for both, without a cause. Handlers may
    name a missing heartbeat States.HeartbeatTimeout as well.
    """
    return TaskFailed(TIMEOUT, None, handled_as=HEARTBEAT if heartbeat else "")


def sdk_error(service: str, code: str, message: str, status: int) -> TaskFailed:
    """Return an error of an SDK integration: named after the SDK's exception, or its general one."""
    name = _SDK_NAMES[service]
    modelled = {shape.name for shape in service_model(service).error_shapes} - {"AccessDenied"}
    known = code.removesuffix("Exception") if code in modelled else name
    detail = f"(Service: {name}, Status Code: {status}, Request ID: {uuid.uuid4()})"
    return TaskFailed(f"{name}.{known}Exception", f"{message} {detail}".strip())
