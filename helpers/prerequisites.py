"""What must be there before the workshop can start, each with the way to mend it."""

import importlib.util
import shutil
from dataclasses import dataclass
from typing import Any

import boto3
import pandas as pd
from botocore.exceptions import ClientError

from helpers import permissions, roles
from helpers.connection import Connection
from helpers.repository import GitError, aws_command

PACKAGES = ("boto3", "pandas", "sklearn", "matplotlib", "yaml", "sagemaker")
INSTANCE_TYPE = "ml.t3.medium"


@dataclass(frozen=True)
class Prerequisite:
    """One thing that must be there: whether it is, and if not, what to do."""

    name: str
    ok: bool
    remedy: str = ""


def check(workshop: Connection) -> pd.DataFrame:
    """Return a row for each prerequisite: name, ok ("yes" or "no"), remedy (empty where it is met)."""
    found = [_packages(), _git(), _credential_helper(), _permissions(workshop), *_services(workshop), _quota(workshop)]
    rows = [{"prerequisite": one.name, "ok": "yes" if one.ok else "no", "remedy": one.remedy} for one in found]
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
        if not roles.find_missing_actions(iam, workshop.role_arn, may_grant):
            return Prerequisite(name, True)
        missing = roles.find_missing_actions(iam, workshop.role_arn, permissions.notebook_statements(workshop))
    except ClientError as error:
        return Prerequisite(name, False, f"allow this role iam:SimulatePrincipalPolicy on itself: {error}")
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
        if code not in ("AccessDenied", "AccessDeniedException"):
            return Prerequisite(name, False, f"{service} answers {code} in {region}: choose another region")
    return Prerequisite(name, True)


def _quota(workshop: Connection) -> Prerequisite:
    """At least one instance for processing jobs. New accounts often have a quota of 0."""
    name = f"quota: {INSTANCE_TYPE} for processing jobs"
    if workshop.target == "local":
        return Prerequisite(name, True)  # the embedded AWS runs jobs on this machine and has no quotas
    wanted = f"{INSTANCE_TYPE} for processing job usage"
    pages = boto3.client("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
    try:
        quotas = {quota["QuotaName"]: quota["Value"] for page in pages for quota in page["Quotas"]}
    except ClientError as error:
        return Prerequisite(name, False, f"cannot be read, look it up in the Service Quotas console: {error}")
    ok = quotas.get(wanted, 0) >= 1
    remedy = f"ask for an increase of '{wanted}' to 1 or more in the Service Quotas console (it takes hours to days)"
    return Prerequisite(name, ok, "" if ok else remedy)
