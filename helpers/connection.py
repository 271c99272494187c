"""Decide where the notebooks' calls go: to AWS, or to the embedded AWS on this machine."""

import json
import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import boto3
from botocore.exceptions import ClientError, NoCredentialsError

STUDIO_METADATA = Path("/opt/ml/metadata/resource-metadata.json")

Target = Literal["aws", "local"]
TARGETS = get_args(Target)

# A run's execution is named after the first 32 characters of its repository, and policies name its jobs by the prefix.
LONGEST_PREFIX = 32
LONGEST_BUCKET = 63
LONGEST_SHORT_NAME = 19  # a job of notebook 06 is named after it, a batch (15 digits), an execution (24) and a retry
PURPOSES = ("partitions", "units", "processing")  # of the buckets beside the workshop's own: notebooks 06, 07, 08
OTHERS_SETTINGS = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
RESERVED_BY_S3 = ("sthree-", "amzn-s3-demo-")


class ConnectionProblem(Exception):
    """The notebook cannot work against its target; the message says what to do."""


@dataclass(frozen=True)
class Connection:
    """Where the calls go and who makes them.

    ``role_arn`` is the principal of this notebook: on Studio and on the embedded AWS
    an IAM role, elsewhere perhaps an IAM user. Raises ConnectionProblem when prefix
    and project make names that a service would refuse later.
    """

    target: Target
    region: str
    account_id: str
    role_arn: str
    prefix: str = "demo-exp"
    project: str = "project1"

    def __post_init__(self) -> None:
        for variable, value in (("WORKSHOP_PREFIX", self.prefix), ("WORKSHOP_PROJECT", self.project)):
            if not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", value):
                raise ConnectionProblem(
                    f"{variable} is {value!r}; it takes small letters, digits, and single hyphens between them"
                )
        if len(self.prefix) > LONGEST_PREFIX:
            raise ConnectionProblem(f"WORKSHOP_PREFIX is {self.prefix!r}; it has at most {LONGEST_PREFIX} characters")
        if len(self.bucket) > LONGEST_BUCKET:
            raise ConnectionProblem(
                f"the bucket would be named {self.bucket!r}, {len(self.bucket)} characters; S3 takes {LONGEST_BUCKET}: "
                "choose a shorter WORKSHOP_PREFIX or WORKSHOP_PROJECT"
            )
        if self.bucket.startswith(RESERVED_BY_S3):
            raise ConnectionProblem(f"WORKSHOP_PREFIX is {self.prefix!r}; S3 keeps names that begin so for itself")

    def name(self, suffix: str) -> str:
        """Return the name of one of this workshop's resources."""
        return f"{self.prefix}-{suffix}"

    @property
    def bucket(self) -> str:
        """The bucket's name. Bucket names are global, so it ends in the account id."""
        return f"{self.prefix}-{self.project}-{self.account_id}"

    def bucket_for(self, purpose: str) -> str:
        """Return the name of a bucket beside the workshop's own, for the files of one notebook."""
        return f"{self.prefix}-{purpose}-{self.account_id}"

    @property
    def log_groups(self) -> tuple[str, ...]:
        """The log groups of notebook 08 that are not a function's: of builds, of tasks, of Batch jobs."""
        return (
            f"/aws/codebuild/{self.name('image')}",
            f"/ecs/{self.name('summarize')}",
            f"/aws/batch/{self.name('jobs')}",
        )

    @property
    def short_name(self) -> str:
        """The prefix, cut where names have little room."""
        return self.prefix[:LONGEST_SHORT_NAME].rstrip("-")

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
    forget_other_endpoints(os.environ)
    os.environ.update(credentials.environment(server))
    boto3.setup_default_session()  # a session made before the variables were set would keep the old ones
    return _named("local", server.region, control.ACCOUNT_ID, credentials.NOTEBOOK_ROLE_ARN)


def forget_other_endpoints(environment: MutableMapping[str, str]) -> None:
    """Take out what would send calls elsewhere than to 127.0.0.1: a profile, one service's endpoint, a proxy."""
    for name in list(environment):
        if name.startswith("AWS_ENDPOINT_URL") or name in OTHERS_SETTINGS:
            del environment[name]
    known = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    hosts = [host for host in known.split(",") if host and host != "127.0.0.1"]
    # Some clients read the one, some the other.
    environment["NO_PROXY"] = environment["no_proxy"] = ",".join([*hosts, "127.0.0.1"])


def _connect_aws() -> Connection:
    if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://127.0.0.1"):
        raise ConnectionProblem("this kernel was connected to the embedded AWS before: restart it to work on AWS")
    session = boto3.session.Session()
    if not session.region_name:
        raise ConnectionProblem("no region is set: set AWS_DEFAULT_REGION")
    os.environ.setdefault("AWS_DEFAULT_REGION", session.region_name)
    try:
        identity = session.client("sts").get_caller_identity()
    except (NoCredentialsError, ClientError) as error:
        raise ConnectionProblem(f"AWS does not know who you are, sign in first: {error}") from error
    if not identity["Arn"].startswith("arn:aws:"):
        raise ConnectionProblem(f"these notebooks are written for AWS's commercial regions, not for {identity['Arn']}")
    return _named("aws", session.region_name, identity["Account"], find_principal(session, identity["Arn"]))


def find_principal(session: Any, arn: str, studio_metadata: Path = STUDIO_METADATA) -> str:
    """Return the ARN of the IAM role or user behind a caller's ARN, which has not got a role's path in it.

    ``session``: a boto3 session. Raises ConnectionProblem for other principals, and
    when the role cannot be looked up.
    """
    if ":user/" in arn:
        return arn
    if ":assumed-role/" not in arn:
        raise ConnectionProblem(f"you are {arn}; work as an IAM role or an IAM user, which policies can be given to")
    role = arn.split("/")[1]
    # Studio notes its role with the path. Other credentials may be set all the same, so the names have to agree.
    known = json.loads(studio_metadata.read_text()).get("ExecutionRoleArn") if studio_metadata.exists() else None
    if known and known.rpartition("/")[2] == role:
        return known
    try:
        return session.client("iam").get_role(RoleName=role)["Role"]["Arn"]
    except ClientError as error:
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
