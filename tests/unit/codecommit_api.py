"""How the unit tests call CodeCommit: as one caller, without a server, recording what is asked and invoked."""

from pathlib import Path
from typing import Any

import pytest
from botocore.validate import ParamValidator

from helpers.local_aws.codecommit import CodeCommit
from helpers.local_aws.wire import AwsError, Caller, Permission, Site, service_model

REGION, ACCOUNT = "us-east-1", "123456789012"
ARN = f"arn:aws:codecommit:{REGION}:{ACCOUNT}:repo"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:dispatcher"
USER = f"arn:aws:sts::{ACCOUNT}:assumed-role/notebook/session"
ZEROS = "0" * 40


class Api:
    """Calls operations as one caller; records what IAM is asked and what is invoked."""

    def __init__(self, state_dir: Path) -> None:
        self.asked: list[Permission] = []
        self.invoked: list[tuple[str, dict[str, Any], str]] = []
        self.undeliverable: AwsError | None = None
        self.site = Site(state_dir, "http://127.0.0.1:4566", REGION, ACCOUNT)
        self.service = CodeCommit(self.site, self._invoke)
        self.caller = Caller(USER, self.asked.append)

    def _invoke(self, function_arn: str, event: dict[str, Any], source_arn: str) -> None:
        if self.undeliverable:
            raise self.undeliverable
        self.invoked.append((function_arn, event, source_arn))

    def __call__(self, operation: str, **params: Any) -> dict[str, Any]:
        output = self.service.call(operation, params, self.caller)
        shape = service_model("codecommit").operation_model(operation).output_shape
        if shape is None:
            assert output == {}
        else:
            report = ParamValidator().validate(output, shape)
            assert not report.has_errors(), report.generate_report()
        return output

    def fails(self, operation: str, **params: Any) -> str:
        with pytest.raises(AwsError) as caught:
            self(operation, **params)
        return caught.value.code

    def commit(
        self, parent: str | None = None, branch: str = "main", delete: tuple[str, ...] = (), **files: Any
    ) -> str:
        """Commit ``files`` (in their names, __ stands for /) and return the commit's id."""
        put = [{"filePath": path.replace("__", "/"), "fileContent": content} for path, content in files.items()]
        params: dict[str, Any] = {"repositoryName": "repo", "branchName": branch, "putFiles": put}
        params["deleteFiles"] = [{"filePath": path} for path in delete]
        if parent:
            params["parentCommitId"] = parent
        return self("CreateCommit", **params)["commitId"]

    def triggers(self, *triggers: dict[str, Any]) -> None:
        self("PutRepositoryTriggers", repositoryName="repo", triggers=list(triggers))

    def references(self) -> list[list[dict[str, Any]]]:
        """Return the references of each event so far, and forget the events."""
        found = [event["Records"][0]["codecommit"]["references"] for _, event, _ in self.invoked]
        self.invoked.clear()
        return found


def trigger(
    name: str = "push", *, events: tuple[str, ...] = ("all",), branches: tuple[str, ...] = ()
) -> dict[str, Any]:
    return {"name": name, "destinationArn": FUNCTION, "branches": list(branches), "events": list(events)}
