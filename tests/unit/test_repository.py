"""Clones, commits and pushes against a bare repository on disk."""

import subprocess
import sys

import pytest
from answers import Aws

from helpers import repository
from helpers.repository import GitError, Pushed, commit_and_push, ensure_clone, git

WHO = {"author": "Dana", "email": "dana@example.com"}


@pytest.fixture(autouse=True)
def _own_git(monkeypatch, tmp_path):
    """Nobody's own git settings: no hooks, no signing, no other name of the first branch."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "none"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)


def make_bare(folder):
    subprocess.run(["git", "init", "--quiet", "--bare", str(folder)], check=True)
    return f"file://{folder}"


@pytest.fixture
def url(tmp_path):
    return make_bare(tmp_path / "server.git")


@pytest.fixture
def clone(url, tmp_path):
    folder = tmp_path / "work" / "clone"
    assert ensure_clone(url, folder, **WHO)
    return folder


def commit(clone, text, name="experiment.yml"):
    (clone / name).write_text(text)
    return commit_and_push(clone, text)


def on_server(tmp_path):
    return git("rev-parse", "main", cwd=tmp_path / "server.git")


def test_an_empty_repository_is_cloned_on_its_branch(clone):
    assert git("branch", "--show-current", cwd=clone) == "main"


def test_git_asks_only_the_aws_cli_for_a_password(clone):
    settings = (clone / ".git" / "config").read_text().splitlines()
    helpers = [line.partition("=")[2].strip() for line in settings if line.strip().startswith("helper")]
    assert helpers[0] == "", "an empty helper sets the machine's own aside"
    assert "codecommit credential-helper --ignore-host-check get" in helpers[1]
    assert git("config", "--local", "credential.UseHttpPath", cwd=clone) == "true"


def test_a_clone_that_is_there_is_found_and_brought_up_to_date(url, clone):
    commit(clone, "C: 1")
    git("config", "--add", "credential.helper", "!/gone/aws", cwd=clone)
    assert not ensure_clone(url, clone, author="Sam", email="sam@example.com")
    assert git("config", "user.name", cwd=clone) == "Sam"
    assert "/gone/aws" not in git("config", "--get-all", "credential.helper", cwd=clone)
    assert (clone / "experiment.yml").read_text() == "C: 1"


def test_a_clone_of_another_repository_is_replaced(clone, tmp_path):
    other = make_bare(tmp_path / "other.git")
    assert ensure_clone(other, clone, **WHO)
    assert git("remote", "get-url", "origin", cwd=clone) == other


def test_a_clone_of_a_repository_that_was_made_anew_is_replaced(url, clone, tmp_path):
    commit(clone, "C: 1")
    (tmp_path / "server.git").rename(tmp_path / "deleted.git")
    make_bare(tmp_path / "server.git")
    assert ensure_clone(url, clone, **WHO)
    assert not (clone / "experiment.yml").exists()


def test_a_push_reaches_the_server(clone, tmp_path):
    pushed = commit(clone, "C: 1")
    assert pushed.new
    assert pushed.commit == on_server(tmp_path)


def test_deleted_files_are_deleted_in_the_commit(clone, tmp_path):
    commit(clone, "x = 1", "extra.py")
    (clone / "extra.py").unlink()
    commit(clone, "C: 2")
    assert git("ls-tree", "--name-only", "main", cwd=tmp_path / "server.git") == "experiment.yml"


def test_the_same_files_again_are_the_same_commit(clone, tmp_path):
    first = commit(clone, "C: 1")
    assert commit(clone, "C: 1") == Pushed(first.commit, new=False)
    second = commit(clone, "C: 2")
    assert commit(clone, "C: 1") == Pushed(first.commit, new=False)
    assert on_server(tmp_path) == second.commit, "the branch stays where it was"
    assert commit(clone, "C: 3").new


def test_a_commit_that_never_left_this_machine_is_pushed_when_it_is_asked_for_again(clone, tmp_path):
    commit(clone, "C: 1")
    (clone / "experiment.yml").write_text("C: 2")
    git("commit", "--quiet", "--all", "--message", "by hand", cwd=clone)
    local = git("rev-parse", "HEAD", cwd=clone)
    assert commit_and_push(clone, "C: 2") == Pushed(local, new=False)
    assert on_server(tmp_path) == local


def test_a_push_that_the_server_refuses_says_why(clone, url, tmp_path):
    commit(clone, "C: 1")
    colleague = tmp_path / "colleague"
    ensure_clone(url, colleague, **WHO)
    commit(colleague, "C: 2")
    with pytest.raises(GitError, match="push"):
        commit(clone, "C: 3")


def test_git_never_asks_on_a_terminal(monkeypatch):
    monkeypatch.delenv("GIT_TERMINAL_PROMPT", raising=False)
    assert git("-c", "alias.show-prompt=!echo $GIT_TERMINAL_PROMPT", "show-prompt") == "0"


def test_the_aws_cli_beside_this_python_is_taken_first(monkeypatch, tmp_path):
    beside = tmp_path / "with space" / "aws"
    beside.parent.mkdir()
    beside.write_text("#!/bin/sh\n")
    beside.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(beside.parent / "python"))
    assert repository.aws_command() == str(beside)


def test_a_missing_aws_cli_is_said_plainly(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match="AWS CLI"):
        repository.aws_command()


@pytest.mark.parametrize(("parents", "before"), [([], None), (["0" * 40, "1" * 40], "0" * 40)])
def test_comments_are_looked_for_between_a_commit_and_its_first_parent(parents, before):
    thread = {"comments": [{"content": "Experiment started"}]}
    aws = Aws(
        {
            "codecommit:GetCommit": {"commit": {"parents": parents}},
            "codecommit:GetCommentsForComparedCommit": {"commentsForComparedCommitData": [thread]},
        }
    )
    assert repository.read_comments(aws.client("codecommit"), "demo", "a" * 40) == ["Experiment started"]
    (asked,) = aws.asked("codecommit:GetCommentsForComparedCommit")
    assert asked.get("beforeCommitId") == before
