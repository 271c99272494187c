"""What must be there before the workshop can start, each with the way to mend it."""

import importlib.util
import shutil
from dataclasses import dataclass
from typing import Any

import boto3
import pandas as pd
from botocore.exceptions import ClientError, EndpointConnectionError

from helpers import permissions, roles
from helpers.connection import Connection
from helpers.repository import GitError, aws_command

PACKAGES = ("boto3", "pandas", "sklearn", "matplotlib", "yaml", "sagemaker")
INSTANCE_TYPE = "ml.t3.medium"
DENIED = ("AccessDenied", "AccessDeniedException")


@dataclass(frozen=True)
class Prerequisite:
    """One thing that must be there: whether it is (None: that cannot be seen), and if not, what to do."""

    name: str
    ok: bool | None
    remedy: str = ""


def check(workshop: Connection) -> pd.DataFrame:
    """Return a row for each prerequisite: name, ok ("yes", "no" or "unknown"), remedy (empty where it is met)."""
    found = [_packages(), _git(), _credential_helper(), _permissions(workshop), *_services(workshop), _quota(workshop)]
    words = {True: "yes", False: "no", None: "unknown"}
    rows = [{"prerequisite": one.name, "ok": words[one.ok], "remedy": one.remedy} for one in found]
    return pd.DataFrame(rows).set_index("prerequisite")


def _packages() -> Prerequisite:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    return Prerequisite("Python packages", not missing, f"install {', '.join(missing)}" if missing else "")


def _git() -> Prerequisite:
    return Prerequisite("git", bool(shutil.which("git")), "" if shutil.which("git") else "install git")


def _credential_helper() -> Prerequisite:
    try:
        aws_command()
    except GitError as error:
        return Prerequisite("AWS CLI, for git", False, str(error))
    return Prerequisite("AWS CLI, for git", True)


def _permissions(workshop: Connection) -> Prerequisite:
    """The role has everything, or may give it to itself in notebook 02."""
    name = "permissions"
    iam = boto3.client("iam")
    may_grant = [{"Effect": "Allow", "Action": ["iam:PutRolePolicy"], "Resource": [workshop.role_arn]}]
    try:
        if ":role/" in workshop.role_arn and not roles.find_missing_actions(iam, workshop.role_arn, may_grant):
            return Prerequisite(name, True)
        missing = roles.find_missing_actions(iam, workshop.role_arn, permissions.notebook_statements(workshop))
    except ClientError as error:
        return Prerequisite(name, False, f"allow {workshop.role_arn} iam:SimulatePrincipalPolicy on itself: {error}")
    remedy = f"missing: {', '.join(missing)}; notebook 02, step 0, prints the policy for an administrator"
    return Prerequisite(name, not missing, remedy if missing else "")


def _services(workshop: Connection) -> list[Prerequisite]:
    """Each service answers in this region and account; a refusal for want of permission is an answer."""
    calls = {
        "codecommit": "list_repositories",
        "lambda": "list_functions",
        "stepfunctions": "list_state_machines",
        "sagemaker": "list_processing_jobs",
    }
    return [_service(service, call, workshop.region) for service, call in calls.items()]


def _service(service: str, call: str, region: str) -> Prerequisite:
    name = f"service {service}"
    client: Any = boto3.client(service)
    try:
        getattr(client, call)()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code not in DENIED:
            return Prerequisite(name, False, f"{service} answers {code} in {region}: choose another region")
    except EndpointConnectionError:
        return Prerequisite(name, False, f"there is no {service} in {region}, or no way to it: choose another region")
    return Prerequisite(name, True)


def _quota(workshop: Connection) -> Prerequisite:
    """At least one instance for processing jobs. New accounts often have a quota of 0."""
    name = f"quota: {INSTANCE_TYPE} for processing jobs"
    if workshop.target == "local":
        return Prerequisite(name, True)  # the embedded AWS runs jobs on this machine and has no quotas
    wanted = f"{INSTANCE_TYPE} for processing job usage"
    try:
        value = _find_quota(wanted)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        reason = "only with the policy of notebook 02, step 0" if code in DENIED else str(error)
        return Prerequisite(name, None, f"cannot be read ({reason}); the Service Quotas console shows it")
    ok = value >= 1
    remedy = f"ask for an increase of '{wanted}' to 1 or more in the Service Quotas console (it takes hours to days)"
    return Prerequisite(name, ok, "" if ok else remedy)


def _find_quota(name: str) -> float:
    """Return SageMaker's quota of this name: the account's own, or the default where it has none of its own."""
    quotas = boto3.client("service-quotas")
    for listing in ("list_service_quotas", "list_aws_default_service_quotas"):
        for page in quotas.get_paginator(listing).paginate(ServiceCode="sagemaker"):
            for quota in page["Quotas"]:
                if quota["QuotaName"] == name:
                    return quota["Value"]
    return 0
