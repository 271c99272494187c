"""Whose credentials CloudFormation makes its calls with."""

from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.seam.identity import Identity
from helpers.local_aws.wire import AwsError, Site

SERVICE = "cloudformation.amazonaws.com"


class StackCredentials:
    """The credentials of a service role, or of whoever signed a request."""

    def __init__(self, site: Site, ministack: Ministack, identity: Identity) -> None:
        self._site, self._ministack, self._identity = site, ministack, identity

    def of_role(self, role_arn: str) -> dict[str, str]:
        """Return AWS_* credentials of CloudFormation in a role. Raises AwsError."""
        return self._identity.assume(role_arn, SERVICE, "AWSCloudFormation")

    def of_key(self, access_key: str) -> dict[str, str]:
        """Return the AWS_* credentials with which a request was signed. Raises AwsError.

        AWS goes on with a session of the caller's, which ends when the caller's does: so do these.
        """
        found = self._ministack.evaluator.resolve_credential(access_key, self._site.account_id)
        if isinstance(found, self._ministack.evaluator.CredentialResolutionError):
            raise AwsError(found.code, found.message, 403)
        token = {"AWS_SESSION_TOKEN": found.session_token} if found.session_token else {}
        return {
            "AWS_ACCESS_KEY_ID": found.access_key_id,
            "AWS_SECRET_ACCESS_KEY": found.secret_access_key,
            **token,
        }
