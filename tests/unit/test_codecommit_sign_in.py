"""How helpers.repository signs git in: with the first request, from the session's credentials, seen by nobody else."""

import base64
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_codecommit_git import KEY, REGION, SECRET, TOKEN, USER, Server

from helpers import repository
from helpers.local_aws.codecommit.git_credentials import authenticate
from helpers.local_aws.wire import AwsError, Caller
from helpers.repository import GitError, commit_and_push, ensure_clone, git, sign_in

WHO = {"author": "Dana", "email": "dana@example.com"}
CALLER = Caller(USER, lambda permission: None)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials of a session in the environment, and nobody's own settings of git and AWS."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "GIT_"))]:
        monkeypatch.delenv(name)
    found = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}
    found |= {"AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    found |= {"GIT_CONFIG_GLOBAL": str(tmp_path / "none"), "GIT_CONFIG_NOSYSTEM": "1"}
    for name, value in found.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An AWS CLI that notes that it was asked, and knows no credentials; return its note."""
    folder, note = tmp_path / "bin", tmp_path / "asked"
    folder.mkdir()
    (folder / "aws").write_text(f"#!/bin/sh\necho asked >> {note}\nexit 1\n")
    (folder / "aws").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    return note


def signed_by(url: str, region: str = REGION, token: str = TOKEN) -> Caller:
    """Return who the server takes the sender of ``sign_in(url)`` for."""
    variables = sign_in(url)
    number = int(variables["GIT_CONFIG_COUNT"]) - 1
    assert variables[f"GIT_CONFIG_KEY_{number}"] == f"http.{url}.extraHeader"
    name, _, value = variables[f"GIT_CONFIG_VALUE_{number}"].partition(": ")
    assert name == "Authorization"
    host, path = url.partition("://")[2].partition("/")[::2]

    def verify(access_key_id: str, session_token: str) -> tuple[str, Caller]:
        assert (access_key_id, session_token) == (KEY, token)
        return SECRET, CALLER

    return authenticate(value, host, f"/{path}", region, verify)


def test_the_signature_is_the_one_that_the_server_computes() -> None:
    assert signed_by("http://127.0.0.1:4566/v1/repos/demo-exp-project1").arn == USER


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("git-codecommit.eu-west-1.amazonaws.com", "eu-west-1"),
        ("git-codecommit-fips.us-west-2.amazonaws.com", "us-west-2"),
        ("git-codecommit.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("vpce-1a2b.git-codecommit.eu-west-3.vpce.amazonaws.com", "eu-west-3"),
        ("git.example.com", REGION),
    ],
)
def test_a_host_of_aws_names_the_region(host: str, region: str) -> None:
    assert signed_by(f"https://{host}/v1/repos/demo", region).arn == USER
    with pytest.raises(AwsError, match="does not match"):
        signed_by(f"https://{host}/v1/repos/demo", "ap-south-1")


def test_credentials_without_a_token_sign_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    assert signed_by("https://git-codecommit.us-east-1.amazonaws.com/v1/repos/demo", token="").arn == USER


def test_settings_that_the_environment_has_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "Sam")
    assert sign_in("http://127.0.0.1/v1/repos/demo")["GIT_CONFIG_COUNT"] == "2"
    assert git("config", "user.name", remote="http://127.0.0.1/v1/repos/demo") == "Sam"


@pytest.mark.parametrize("url", ["file:///tmp/x.git", "", "ssh://git-codecommit.us-east-1.amazonaws.com/v1/repos/x"])
def test_only_http_is_signed(url: str) -> None:
    assert sign_in(url) == {}


def test_without_credentials_git_asks_its_helper(monkeypatch: pytest.MonkeyPatch, server: Server, cli: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    assert sign_in(server.url) == {}
    with pytest.raises(GitError, match="clone"):
        ensure_clone(server.url, server.folder / "clone", **WHO)
    assert cli.exists(), "the clone's own helper, for terminals, is configured from the first request on"


def test_clone_and_push_need_no_helper(server: Server, cli: Path) -> None:
    clone = server.folder / "clone"
    assert ensure_clone(server.url, clone, **WHO)
    (clone / "a.txt").write_text("1")
    pushed = commit_and_push(clone, "first")
    assert server.call("GetBranch", repositoryName="repo", branchName="main")["branch"]["commitId"] == pushed.commit
    assert not ensure_clone(server.url, clone, **WHO)
    assert not cli.exists()


def test_a_commit_left_behind_is_pushed_signed_as_well(server: Server, cli: Path) -> None:
    clone = server.folder / "clone"
    ensure_clone(server.url, clone, **WHO)
    (clone / "a.txt").write_text("1")
    git("add", "--all", cwd=clone)
    git("commit", "--quiet", "--message", "by hand", cwd=clone)
    assert not commit_and_push(clone, "again").new
    assert server.call("GetBranch", repositoryName="repo", branchName="main")["branch"]["branchName"] == "main"
    assert not cli.exists()


def test_no_request_is_refused_first(monkeypatch: pytest.MonkeyPatch, server: Server, cli: Path) -> None:
    trace = server.folder / "trace"
    monkeypatch.setenv("GIT_TRACE_CURL", str(trace))
    monkeypatch.setenv("GIT_TRACE_CURL_NO_DATA", "1")
    git("ls-remote", server.url, remote=server.url)
    text = trace.read_text()
    assert "HTTP/1.1 200" in text
    assert "HTTP/1.1 401" not in text


def test_wrong_credentials_are_said_and_nothing_is_asked_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, server: Server, cli: Path
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(GitError, match="the signature does not match"):
        ensure_clone(server.url, server.folder / "clone", **WHO)


def test_credentials_are_on_no_command_line_and_in_no_file(
    monkeypatch: pytest.MonkeyPatch, server: Server, cli: Path
) -> None:
    log, wrapper = server.folder / "commands", server.folder / "path"
    wrapper.mkdir()
    real = shutil.which("git")
    (wrapper / "git").write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec {real} "$@"\n')
    (wrapper / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper}{os.pathsep}{os.environ['PATH']}")
    clone = server.folder / "clone"
    ensure_clone(server.url, clone, **WHO)
    (clone / "a.txt").write_text("1")
    commit_and_push(clone, "first")
    variables = sign_in(server.url)
    header = next(value for value in variables.values() if value.startswith("Authorization"))
    user = base64.b64decode(header.rpartition(" ")[2]).partition(b":")[0].decode()
    secrets = [SECRET, TOKEN, user, "Authorization", "Basic "]
    files = [path for path in clone.rglob("*") if path.is_file()]
    assert "push" in log.read_text()
    for path in (log, *files):
        assert not [secret for secret in secrets if secret.encode() in path.read_bytes()], path


def test_the_clone_keeps_its_helper_for_terminals(server: Server) -> None:
    clone = server.folder / "clone"
    ensure_clone(server.url, clone, **WHO)
    assert repository.aws_command() in git("config", "--get-all", "credential.helper", cwd=clone)
    (clone / "a.txt").write_text("1")
    git("add", "--all", cwd=clone)
    git("commit", "--quiet", "--message", "first", cwd=clone)
    git("push", "--quiet", "origin", "main", cwd=clone)  # as in a terminal: without a signature of ours
    assert server.call("GetBranch", repositoryName="repo", branchName="main")["branch"]["branchName"] == "main"
