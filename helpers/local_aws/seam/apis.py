"""What API Gateway asks of IAM and Lambda: who signed a request, and a function's answer to it."""

from collections.abc import Mapping
from typing import Any

from helpers.local_aws.seam.functions import FunctionHooks
from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.seam.identity import Identity
from helpers.local_aws.wire import Caller, Site


class ApiCalls:
    """The signatures of requests for an API, and the functions behind it."""

    def __init__(self, site: Site, ministack: Ministack, identity: Identity, functions: FunctionHooks) -> None:
        self._site, self._ministack, self._identity = site, ministack, identity
        self._functions = functions

    def authenticate(self, scope: Mapping[str, Any], body: bytes) -> tuple[Caller, str]:
        """Return who signed a request, and the id of the principal, such as AROA…:session. Raises AwsError."""
        caller = self._identity.authenticate(scope, body)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        key = self._ministack.router.extract_access_key_id(headers, {})
        found = self._ministack.evaluator.resolve_credential(key, self._site.account_id)
        return caller, found.principal_id

    def invoke(self, principal: str, function_arn: str, event: object, source_arn: str) -> tuple[Any, bool]:
        """Invoke a function on behalf of an AWS service and wait for its result; and whether that is an error.

        Raises AwsError when the function does not exist or its resource policy does not let the service in.
        """
        self._functions.require_for(principal, function_arn, source_arn)
        return self._functions.run(function_arn, event)
