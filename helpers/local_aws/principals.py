"""The principals that an AWS account with Studio has from the start."""

import json
from urllib.parse import urlencode

from helpers.local_aws.credentials import NOTEBOOK_ROLE, NOTEBOOK_ROLE_PATH
from helpers.local_aws.seam import Seam

ADMIN_USER = "workshop-admin"


async def make_principals(seam: Seam, account_id: str, admin_key: tuple[str, str]) -> None:
    """Make the administrator, whose access key id and secret are given, and the notebook's role."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {
                    "Service": "sagemaker.amazonaws.com",
                    "AWS": f"arn:aws:iam::{account_id}:user/{ADMIN_USER}",
                },
                "Action": "sts:AssumeRole",
            }
        ],
    }
    policy = "arn:aws:iam::aws:policy/"
    for action, parameters in (
        ("CreateUser", {"UserName": ADMIN_USER}),
        ("AttachUserPolicy", {"UserName": ADMIN_USER, "PolicyArn": f"{policy}AdministratorAccess"}),
        (
            "CreateRole",
            {
                "RoleName": NOTEBOOK_ROLE,
                "Path": NOTEBOOK_ROLE_PATH,
                "MaxSessionDuration": 43200,
                "AssumeRolePolicyDocument": json.dumps(trust),
            },
        ),
        ("AttachRolePolicy", {"RoleName": NOTEBOOK_ROLE, "PolicyArn": f"{policy}IAMFullAccess"}),
    ):
        await seam.bootstrap_call("iam", urlencode({"Action": action, **parameters}))
    seam.identity.add_access_key(ADMIN_USER, *admin_key)
