"""The errors of CloudFormation."""

from helpers.local_aws.wire import AwsError


def invalid(message: str) -> AwsError:
    """Return what CloudFormation answers to a template or parameter that is wrong."""
    return AwsError("ValidationError", message)


def unsupported(what: str) -> AwsError:
    """Return the refusal of something that AWS has and this CloudFormation does not carry out."""
    return AwsError("NotImplemented", f"the embedded AWS's CloudFormation does not support {what}", 501)
