"""An embedded AWS as the tests see it: where it is, and clients and credentials of its principals."""

import json
import os
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from helpers.local_aws import control, credentials

# A poll for an activity's task is held for a minute, which is also how long a client waits unless it is told.
PATIENT = Config(retries={"max_attempts": 1}, read_timeout=180)


@dataclass(frozen=True)
class Embedded:
    """A running embedded AWS, and sessions of its principals."""

    server: control.Server

    @property
    def endpoint_url(self) -> str:
        """Where it listens."""
        return self.server.endpoint_url

    @property
    def state_dir(self) -> Path:
        """Its state folder."""
        return self.server.state_dir

    def environment(self, *, admin: bool = True) -> dict[str, str]:
        """Return an environment for git, the AWS CLI and other programs: this one's, with the credentials."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**kept, "PATH": path, **credentials.environment(self.server, admin=admin)}

    def client(self, service: str, variables: dict[str, str] | None = None) -> Any:
        """Return a boto3 client: the administrator's, or that of other AWS_* ``variables``."""
        variables = variables or credentials.environment(self.server, admin=True)
        session = boto3.session.Session(
            variables["AWS_ACCESS_KEY_ID"],
            variables["AWS_SECRET_ACCESS_KEY"],
            variables.get("AWS_SESSION_TOKEN"),
            region_name=self.server.region,
        )
        return session.client(service, endpoint_url=self.endpoint_url, config=PATIENT)

    def make_role(self, statements: list[dict[str, Any]], *, service: str = "sagemaker.amazonaws.com") -> str:
        """Make a role that ``service`` and the administrator may assume, with one inline policy. Returns its ARN."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        administrator = f"arn:aws:iam::{control.ACCOUNT_ID}:user/workshop-admin"
        principal = {"Service": service, "AWS": administrator}
        trust = {"Statement": [{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}]}
        iam = self.client("iam")
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", **trust}))
        if statements:
            policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
            iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=policy)
        return role["Role"]["Arn"]

    def variables_of(self, statements: list[dict[str, Any]]) -> dict[str, str]:
        """Return AWS_* variables of a new principal that may do just what ``statements`` allow."""
        arn = self.make_role(statements)
        made = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_DEFAULT_REGION": self.server.region,
            "AWS_ACCESS_KEY_ID": made["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"],
            "AWS_SESSION_TOKEN": made["SessionToken"],
        }
