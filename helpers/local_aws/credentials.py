"""Credentials for the embedded AWS: the notebook role's, or the administrator's."""

import boto3
from botocore.config import Config

from helpers.local_aws import control
from helpers.local_aws.control import Server

NOTEBOOK_ROLE = "AmazonSageMaker-ExecutionRole-workshop"
NOTEBOOK_ROLE_PATH = "/service-role/"
NOTEBOOK_ROLE_ARN = f"arn:aws:iam::{control.ACCOUNT_ID}:role{NOTEBOOK_ROLE_PATH}{NOTEBOOK_ROLE}"
SESSION_NAME = "SageMaker"  # what Studio names its sessions
HOURS = 12


def environment(server: Server, *, admin: bool = False) -> dict[str, str]:
    """Return the AWS_* variables with which any AWS client talks to ``server``.

    The notebook role's session lasts 12 hours, the longest that STS gives.
    """
    key, secret = control.admin_key(server.state_dir)
    common = {
        "AWS_ENDPOINT_URL": server.endpoint_url,
        "AWS_DEFAULT_REGION": server.region,
        "AWS_REGION": server.region,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if admin:
        return {**common, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    sts = boto3.session.Session(key, secret, region_name=server.region).client(
        "sts", endpoint_url=server.endpoint_url, config=Config(retries={"max_attempts": 1}, proxies={})
    )
    session = sts.assume_role(RoleArn=NOTEBOOK_ROLE_ARN, RoleSessionName=SESSION_NAME, DurationSeconds=HOURS * 3600)[
        "Credentials"
    ]
    return {
        **common,
        "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
        "AWS_SESSION_TOKEN": session["SessionToken"],
    }
