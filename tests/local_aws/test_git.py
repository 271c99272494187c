"""Stock git against the embedded AWS, signing with the AWS CLI's credential helper."""

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HELPER = "!aws codecommit credential-helper --ignore-host-check $@"


class Git:
    """Runs git as one principal of the embedded AWS."""

    def __init__(self, variables: dict[str, str], home: Path) -> None:
        self.environment = {**variables, "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
        self.home = home

    def __call__(self, *arguments: str, cwd: Path | None = None, fails: bool = False) -> str:
        settings = [f"credential.helper={HELPER}", "credential.UseHttpPath=true", "init.defaultBranch=main"]
        settings += ["user.name=Ana", "user.email=ana@example.com"]
        command = ["git", *(part for setting in settings for part in ("-c", setting)), *arguments]
        done = subprocess.run(
            command, cwd=cwd or self.home, env=self.environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def repository(embedded: Any) -> Iterator[dict[str, Any]]:
    """Make a repository with a name of its own; return its metadata."""
    client, name = embedded.client("codecommit"), f"test-{uuid.uuid4().hex[:12]}"
    yield client.create_repository(repositoryName=name)["repositoryMetadata"]
    client.delete_repository(repositoryName=name)


@pytest.fixture
def work(embedded: Any, repository: dict[str, Any], tmp_path: Path) -> Path:
    """Make a local clone with one commit that is not pushed yet."""
    git, folder = Git(embedded.environment(), tmp_path), tmp_path / "work"
    git("clone", repository["cloneUrlHttp"], str(folder))
    (folder / "a.txt").write_text("1")
    git("add", "-A", cwd=folder)
    git("commit", "-qm", "first", cwd=folder)
    return folder


def principal(embedded: Any, repository: dict[str, Any], home: Path, *actions: str) -> Git:
    statements = [{"Effect": "Allow", "Action": list(actions), "Resource": repository["Arn"]}]
    return Git({**embedded.environment(), **embedded.variables_of(statements)}, home)


def test_git_and_the_api_see_the_same_repository(
    embedded: Any, repository: dict[str, Any], work: Path, tmp_path: Path
) -> None:
    git, client = Git(embedded.environment(), tmp_path), embedded.client("codecommit")
    git("push", "-q", "origin", "HEAD:main", cwd=work)
    pushed = git("rev-parse", "HEAD", cwd=work).strip()
    name = {"repositoryName": repository["repositoryName"]}
    assert client.get_branch(**name, branchName="main")["branch"]["commitId"] == pushed
    put = client.put_file(**name, branchName="main", filePath="b.txt", fileContent=b"2", parentCommitId=pushed)
    git("pull", "-q", "--ff-only", "origin", "main", cwd=work)
    assert git("rev-parse", "HEAD", cwd=work).strip() == put["commitId"]
    assert (work / "b.txt").read_text() == "2"


def test_a_role_needs_git_pull_to_read_and_git_push_to_write(
    embedded: Any, repository: dict[str, Any], work: Path, tmp_path: Path
) -> None:
    reader = principal(embedded, repository, tmp_path, "codecommit:GitPull")
    writer = principal(embedded, repository, tmp_path, "codecommit:GitPush")
    reader("push", "origin", "HEAD:main", cwd=work, fails=True)
    writer("push", "-q", "origin", "HEAD:main", cwd=work)
    writer("ls-remote", "origin", cwd=work, fails=True)
    assert "refs/heads/main" in reader("ls-remote", "origin", cwd=work)


def test_wrong_credentials_and_unknown_repositories_are_refused(
    embedded: Any, repository: dict[str, Any], tmp_path: Path
) -> None:
    wrong = Git({**embedded.environment(), "AWS_SECRET_ACCESS_KEY": "0" * 40}, tmp_path)
    assert "403" in wrong("ls-remote", repository["cloneUrlHttp"], fails=True)
    right = Git(embedded.environment(), tmp_path)
    assert "not found" in right("ls-remote", repository["cloneUrlHttp"] + "x", fails=True)
