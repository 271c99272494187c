"""Which errors mean "not known yet", and how long they are waited for."""

import pytest
from botocore.exceptions import ClientError

from helpers.propagation import is_propagation_error, retry_until_propagated

NOT_YET = ("InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda.")


def error(code, message):
    return ClientError({"Error": {"Code": code, "Message": message}}, "Operation")


class Call:
    """Fails as told, then returns "done"."""

    def __init__(self, *errors):
        self.errors, self.times = list(errors), 0

    def __call__(self):
        self.times += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_a_call_that_succeeds_is_made_once_without_waiting():
    call, pauses = Call(), []
    assert retry_until_propagated(call, sleep=pauses.append) == "done"
    assert (call.times, pauses) == (1, [])


def test_a_role_that_is_not_known_yet_is_waited_for():
    call, pauses = Call(error(*NOT_YET), error(*NOT_YET)), []
    assert retry_until_propagated(call, sleep=pauses.append) == "done"
    assert call.times == 3
    assert pauses == sorted(pauses)


def test_any_other_error_is_raised_at_once():
    call, pauses = Call(error("ResourceConflictException", "Function already exist")), []
    with pytest.raises(ClientError, match="already exist"):
        retry_until_propagated(call, sleep=pauses.append)
    assert (call.times, pauses) == (1, [])


def test_the_wait_is_bounded_and_the_last_error_is_raised_as_it_came():
    call, pauses = Call(*(error(NOT_YET[0], f"{NOT_YET[1]} ({number})") for number in range(100))), []
    with pytest.raises(ClientError, match=r"\(\d+\)"):
        retry_until_propagated(call, seconds=60, sleep=pauses.append)
    assert sum(pauses) == 60


@pytest.mark.parametrize(
    ("code", "message"),
    [
        NOT_YET,
        (
            "InvalidParameterValueException",
            "Lambda was unable to configure access to your environment variables because the KMS key is invalid for "
            "CreateGrant. KMS Message: ARN does not refer to a valid principal",
        ),
        ("AccessDeniedException", "User: arn:aws:sts::1:assumed-role/x is not authorized to perform: codecommit:Get"),
        ("AccessDeniedException", "'arn:aws:iam::1:role/states' is not authorized to create managed-rule."),
        (
            "AccessDeniedException",
            "Neither the global service principal states.amazonaws.com, nor the regional one is authorized to assume "
            "the provided role.",
        ),
        ("AccessDenied", "User: arn:aws:sts::1:assumed-role/x is not authorized to perform: s3:CreateBucket"),
        ("AccessDenied", "Access Denied"),
        ("ValidationException", "Could not assume role arn:aws:iam::1:role/jobs."),
        (
            "InvalidInputException",
            "CodeBuild is not authorized to perform: sts:AssumeRole on service role. Please verify",
        ),
        ("ClientException", "Role is not valid"),
        (
            "ClientException",
            "ECS was unable to assume the role 'arn:aws:iam::1:role/task' that was provided for this task. Please "
            "verify that the role being passed has the proper trust relationship and permissions and that your IAM "
            "user has permissions to pass this role.",
        ),
        (
            "InvalidParameterException",
            "Unable to assume the service linked role. Please verify that the ECS service linked role exists.",
        ),
    ],
)
def test_what_the_services_say_of_a_new_role_or_policy_is_recognized(code, message):
    assert is_propagation_error(error(code, message))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("InvalidParameterValueException", "Value for Timeout must be at most 900."),
        ("ValidationException", "1 validation error detected"),
        ("ExpiredToken", "The security token included in the request is expired"),
        ("InvalidArn", "Invalid Role Arn"),
    ],
)
def test_mistakes_are_not_waited_for(code, message):
    assert not is_propagation_error(error(code, message))
