"""ECS's errors, in its words."""

from helpers.local_aws.wire import AwsError


def client(message: str) -> AwsError:
    """Return a ClientException: what was asked for cannot be done."""
    return AwsError("ClientException", message)


def invalid(message: str) -> AwsError:
    """Return an InvalidParameterException."""
    return AwsError("InvalidParameterException", message)


def unsupported(operation: str, what: str) -> AwsError:
    """Return the refusal of something that ECS does and the embedded AWS does not."""
    return AwsError("NotImplemented", f"the embedded AWS does not support ecs:{operation} with {what}", 501)


def cluster_not_found() -> AwsError:
    """Return the answer to a cluster that is not there."""
    return AwsError("ClusterNotFoundException", "Cluster not found.")


def unassumable(role_arn: str) -> AwsError:
    """Return the answer to a role that does not exist, or does not trust ecs-tasks.amazonaws.com."""
    return client(
        f"ECS was unable to assume the role '{role_arn}' that was provided for this task. Please verify that the role "
        "being passed has the proper trust relationship and permissions and that your IAM user has permissions to pass "
        "this role."
    )
