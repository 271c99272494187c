"""How AWS Batch words what it refuses."""

import uuid

from helpers.local_aws.wire import AwsError


def client(message: str) -> AwsError:
    """Return Batch's error for a request that it does not take."""
    return AwsError("ClientException", message)


def executing(problem: str) -> AwsError:
    """Return the error for a problem that Batch finds while it carries a request out, in the words it has for these."""
    return client(f"Error executing request, Exception : {problem}, RequestId: {uuid.uuid4()}")


def unsupported(what: str) -> AwsError:
    """Return the refusal of something that Batch on AWS does and the embedded one does not."""
    return AwsError("NotImplemented", f"the embedded AWS does not support batch with {what}", 501)
