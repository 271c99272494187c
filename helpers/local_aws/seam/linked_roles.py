"""The service-linked roles that services act in, in ministack's IAM."""

import json
from typing import Any

from helpers.local_aws.authorization import LINKED_ROLES
from helpers.local_aws.seam.hooks import Ministack

_OPERATION = "CreateServiceLinkedRole"


class LinkedRoles:
    """Make and find service-linked roles."""

    def __init__(self, account_id: str, ministack: Ministack) -> None:
        """Have ``iam:CreateServiceLinkedRole`` give AWS's names."""
        self._account_id, self._iam = account_id, ministack.iam
        self._others = self._iam._IAM_HANDLERS[_OPERATION]
        self._iam._IAM_HANDLERS[_OPERATION] = self._handle

    def arn(self, service: str) -> str:
        """Return the ARN of a service's role."""
        return f"arn:aws:iam::{self._account_id}:role/aws-service-role/{service}/{LINKED_ROLES[service]}"

    def exists(self, service: str) -> bool:
        """Tell whether the account has the role of ``service``."""
        role = self._iam._roles.get(LINKED_ROLES[service])
        return role is not None and role["Arn"] == self.arn(service)

    def create(self, service: str) -> None:
        """Make the role of ``service``, or find that it is there. Whoever asks for it has been let."""
        self._make(service)

    def _handle(self, params: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        service = self._iam._p(params, "AWSServiceName")
        if service not in LINKED_ROLES:  # ministack makes up a name
            return self._others(params)
        if self.exists(service):
            taken = f"Service role name {LINKED_ROLES[service]} has been taken in this account"
            said = f"{taken}, please try a different suffix."
            problem = f"<Error><Type>Sender</Type><Code>InvalidInput</Code><Message>{said}</Message></Error>"
            return self._iam._xml(400, "ErrorResponse", problem, ns="iam")
        status, headers, body = self._make(service)
        return status, headers, body.replace(b"CreateRole", _OPERATION.encode())

    def _make(self, service: str) -> tuple[int, dict[str, str], bytes]:
        trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        wanted = {
            "RoleName": LINKED_ROLES[service],
            "Path": f"/aws-service-role/{service}/",
            "AssumeRolePolicyDocument": json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        }
        return self._iam._IAM_HANDLERS["CreateRole"]({name: [value] for name, value in wanted.items()})
