"""The pipeline of notebook 02, built on the embedded AWS as the notebook's role, with the notebook's own statements."""

import ast
import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from clients import ACCOUNT, REGION

from helpers import functions, permissions, pipeline, roles, storage
from helpers.connection import Connection
from helpers.local_aws import control, credentials

NOTEBOOK = control.PROJECT / "notebooks" / "text" / "02_build_experiment_pipeline.py"
SAMPLE = control.PROJECT / "dataset" / "sample.csv"


@cache
def _assignments(source: Path = NOTEBOOK) -> dict[str, ast.expr]:
    found = {}
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
    return found


def statements(name: str, source: Path = NOTEBOOK, **names: Any) -> list[dict[str, Any]]:
    """Return the statements that a notebook, 02 unless told, assigns to ``name``; ``names`` are those that it uses."""
    return eval(compile(ast.Expression(_assignments(source)[name]), source.name, "eval"), dict(names))  # noqa: S307


class Workshop:
    """Names, clients of the notebook's role, and everything that notebook 02 makes."""

    def __init__(self, embedded: Any, prefix: str) -> None:
        self.embedded = embedded
        self.connection = Connection("local", REGION, ACCOUNT, credentials.NOTEBOOK_ROLE_ARN, prefix=prefix)
        self.variables = credentials.environment(embedded.server)
        self.repository = self.connection.name(self.connection.project)
        self.dispatcher = self.connection.name("pipeline-dispatcher")
        self.machine = self.connection.name("preprocess-train-predict-evaluate")
        self.machine_arn = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{self.machine}"
        self.bucket = self.connection.bucket

    def client(self, service: str) -> Any:
        """Return a client of the notebook's role."""
        return self.embedded.client(service, self.variables)

    def names(self) -> dict[str, Any]:
        """Return the names that the notebook's statements use."""
        account = f"{REGION}:{ACCOUNT}"
        return {
            "workshop": self.connection,
            "account": account,
            "permissions": permissions,
            "DISPATCHER": self.dispatcher,
            "bucket": SimpleNamespace(arn=f"arn:aws:s3:::{self.bucket}"),
            "repository": {"Arn": f"arn:aws:codecommit:{account}:{self.repository}"},
            "job_role": SimpleNamespace(arn=f"arn:aws:iam::{ACCOUNT}:role/{self.connection.name('jobs')}"),
        }

    def statements(self, name: str) -> list[dict[str, Any]]:
        """Return the statements of one of the notebook's roles: dispatcher, job or machine."""
        return statements(f"{name}_statements", **self.names())

    def build(self) -> "Workshop":
        """Do what the notebook does, as its role."""
        iam, tags = self.client("iam"), self.connection.tag_list
        iam.put_role_policy(
            RoleName=self.connection.role_arn.rpartition("/")[2],
            PolicyName=self.connection.name("notebook"),
            PolicyDocument=roles.policy_json(permissions.notebook_statements(self.connection)),
        )
        made = {
            kind: roles.ensure_role(
                iam, self.connection.name(suffix), trusted=trusted, statements=self.statements(kind), tags=tags
            ).arn
            for kind, suffix, trusted in (
                ("dispatcher", "dispatcher", "lambda.amazonaws.com"),
                ("job", "jobs", "sagemaker.amazonaws.com"),
                ("machine", "states", "states.amazonaws.com"),
            )
        }
        s3 = self.client("s3")
        storage.ensure_bucket(s3, self.bucket, region=REGION, tags=tags)
        storage.ensure_upload(s3, SAMPLE, self.bucket, "dataset/census-income.csv")
        self._build_dispatcher(made["dispatcher"])
        definition = pipeline.state_machine(job_role_arn=made["job"], tags=self.connection.tags)
        self.client("stepfunctions").create_state_machine(
            name=self.machine,
            definition=json.dumps(definition),
            roleArn=made["machine"],
            tags=self.connection.state_tags,
        )
        return self

    def _build_dispatcher(self, role: str) -> None:
        codecommit, client = self.client("codecommit"), self.client("lambda")
        codecommit.create_repository(repositoryName=self.repository, tags=self.connection.tags)
        function = functions.ensure_function(
            client,
            self.dispatcher,
            role_arn=role,
            code=functions.package(functions.SOURCES / "pipeline_dispatcher", functions.PLANNING),
            timeout=900,  # for a busy machine, too
            memory=512,
            variables={"BUCKET": self.bucket, "PREFIX": self.connection.prefix},
            tags=self.connection.tags,
        )
        source = self.names()["repository"]["Arn"]
        principal = "codecommit.amazonaws.com"
        functions.allow_invoke(client, self.dispatcher, principal=principal, source_arn=source, account_id=ACCOUNT)
        trigger = {"name": "dispatch", "destinationArn": function.arn, "branches": ["main"]}
        trigger["events"] = ["updateReference", "createReference"]
        codecommit.put_repository_triggers(repositoryName=self.repository, triggers=[trigger])
