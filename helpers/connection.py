"""Decide where the notebooks' calls go: to AWS, or to the embedded AWS on this machine."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

import boto3

STUDIO_METADATA = Path("/opt/ml/metadata/resource-metadata.json")

Target = Literal["aws", "local"]
TARGETS = get_args(Target)


class ConnectionProblem(Exception):
    """The notebook cannot work against its target; the message says what to do."""


@dataclass(frozen=True)
class Connection:
    """Where the calls go and who makes them.

    ``role_arn`` is the principal of this notebook: on Studio and on the embedded AWS
    an IAM role, elsewhere perhaps an IAM user.
    """

    target: Target
    region: str
    account_id: str
    role_arn: str
    prefix: str = "demo-exp"
    project: str = "project1"

    def name(self, suffix: str) -> str:
        """Return the name of one of this workshop's resources."""
        return f"{self.prefix}-{suffix}"

    @property
    def bucket(self) -> str:
        """The bucket's name. Bucket names are global, so it ends in the account id."""
        return f"{self.prefix}-{self.project}-{self.account_id}"

    @property
    def tags(self) -> dict[str, str]:
        """The tag that every resource carries, and by which clean-up finds it."""
        return {"workshop": self.prefix}

    @property
    def tag_list(self) -> list[dict[str, str]]:
        """``tags`` in the form that most services take."""
        return [{"Key": key, "Value": value} for key, value in self.tags.items()]

    @property
    def state_tags(self) -> list[dict[str, str]]:
        """``tags`` in the form of Step Functions, which spells the members in small letters."""
        return [{"key": key, "value": value} for key, value in self.tags.items()]

    @property
    def work_dir(self) -> Path:
        """Where clones go: with the state of the embedded AWS, so that they vanish together, or in ``build``."""
        if self.target == "aws":
            return Path(__file__).resolve().parents[1] / "build" / "work"
        from helpers.local_aws import control

        return control.default_state_dir().resolve() / "work"


def connect() -> Connection:
    """Point boto3 at this notebook's target, say which one, and return the connection.

    Creates nothing on AWS. Locally it starts the embedded AWS where it does not run
    yet, and sets the ``AWS_*`` variables so that ``boto3.client("s3")`` reaches it.
    Raises ConnectionProblem.
    """
    target = choose_target(os.environ)
    found = _connect_local() if target == "local" else _connect_aws()
    where = "embedded AWS on this machine, no cost" if target == "local" else "AWS, calls may cost money"
    print(f"target: {target} ({where}), region {found.region}, account {found.account_id}")
    return found


def choose_target(environment: Mapping[str, str], studio_metadata: Path = STUDIO_METADATA) -> Target:
    """Return the target: ``WORKSHOP_TARGET`` if it is set, else "aws" inside Studio and "local" elsewhere."""
    wanted = environment.get("WORKSHOP_TARGET")
    if wanted in TARGETS:
        return cast(Target, wanted)
    if wanted:
        raise ConnectionProblem(f"WORKSHOP_TARGET is {wanted!r}; it can be 'aws' or 'local'")
    return "aws" if studio_metadata.exists() else "local"


def _connect_local() -> Connection:
    from helpers.local_aws import control, credentials  # not needed, and perhaps not installed, in Studio

    server, _ = control.start(control.default_state_dir().resolve())
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        os.environ.pop(name, None)
    os.environ.update(credentials.environment(server))
    boto3.setup_default_session()  # a session made before the variables were set would keep the old ones
    return _named("local", server.region, control.ACCOUNT_ID, credentials.NOTEBOOK_ROLE_ARN)


def _connect_aws() -> Connection:
    if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://127.0.0.1"):
        raise ConnectionProblem("this kernel was connected to the embedded AWS before: restart it to work on AWS")
    session = boto3.session.Session()
    if not session.region_name:
        raise ConnectionProblem("no region is set: set AWS_DEFAULT_REGION")
    os.environ.setdefault("AWS_DEFAULT_REGION", session.region_name)
    identity = session.client("sts").get_caller_identity()
    return _named("aws", session.region_name, identity["Account"], _principal(session, identity["Arn"]))


def _principal(session: boto3.session.Session, arn: str) -> str:
    """Return the IAM role or user behind a caller's ARN; a role's path is not in it."""
    if ":assumed-role/" not in arn:
        return arn
    if STUDIO_METADATA.exists():
        known = json.loads(STUDIO_METADATA.read_text()).get("ExecutionRoleArn")
        if known:
            return known
    role = arn.split("/")[1]
    iam = session.client("iam")
    try:
        return iam.get_role(RoleName=role)["Role"]["Arn"]
    except iam.exceptions.ClientError as error:
        raise ConnectionProblem(f"cannot look up the role {role}, allow it iam:GetRole on itself: {error}") from error


def _named(target: Target, region: str, account_id: str, role_arn: str) -> Connection:
    return Connection(
        target,
        region,
        account_id,
        role_arn,
        prefix=os.environ.get("WORKSHOP_PREFIX") or "demo-exp",
        project=os.environ.get("WORKSHOP_PROJECT") or "project1",
    )
