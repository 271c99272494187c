"""The data scientist's git: a clone of the CodeCommit repository, commits and pushes."""

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Pushed:
    """A commit that is on the server, and whether this push brought it there."""

    commit: str = field(repr=False)
    new: bool


class GitError(Exception):
    """git refused; the message is what it said."""


def git(*arguments: str, cwd: Path | None = None) -> str:
    """Run git and return what it printed. Raises GitError with its own words."""
    # A sign-in that fails is an error to report, not a question on a terminal that nobody looks at.
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    done = subprocess.run(["git", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GitError(f"git {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def ensure_clone(url: str, folder: Path, *, author: str, email: str, branch: str = "main") -> bool:
    """Clone ``url`` into ``folder``, or find the clone that is there. Returns whether it was cloned now.

    The clone remembers how to sign in: git asks the AWS CLI, which signs with the
    credentials of the environment. The same helper serves CodeCommit on AWS and the
    embedded AWS, whose host is not Amazon's. A clone of a repository that was deleted
    and made anew since is replaced.
    """
    # git also asks to store what it got, after each push: the CLI would take most of a second to do nothing.
    ask = f"{shlex.quote(aws_command())} codecommit credential-helper --ignore-host-check get"
    sign_in = f'!f() {{ test "$1" != get || {ask}; }}; f'
    settings = [
        ("credential.helper", ""),  # an empty one first: it sets the machine's own helpers aside
        ("credential.helper", sign_in),
        ("credential.UseHttpPath", "true"),
        ("user.name", author),
        ("user.email", email),
    ]
    if (folder / ".git").exists():
        known: set[str] = set()
        for key, value in settings:
            git("config", "--add" if key in known else "--replace-all", key, value, cwd=folder)
            known.add(key)
        if _is_clone_of(url, folder, branch):
            return False
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    options = [part for key, value in settings for part in ("--config", f"{key}={value}")]
    git("clone", "--quiet", *options, url, str(folder))
    if git("branch", "--show-current", cwd=folder) != branch:
        there = git("for-each-ref", f"refs/remotes/origin/{branch}", cwd=folder)
        git("switch", "--quiet", *([] if there else ["--orphan"]), branch, cwd=folder)
    return True


def commit_and_push(folder: Path, message: str, *, branch: str = "main") -> Pushed:
    """Commit everything in ``folder`` and push it.

    When the history already has a commit with exactly these files, nothing is
    committed and that commit is returned: the same experiment is not run twice.
    """
    git("add", "--all", cwd=folder)
    tree = git("write-tree", cwd=folder)
    if _has_commits(folder):
        for line in git("log", "--format=%T %H", branch, cwd=folder).splitlines():
            known, _, commit = line.partition(" ")
            if known == tree:
                if not git("for-each-ref", f"refs/remotes/origin/{branch}", "--contains", commit, cwd=folder):
                    git("push", "--quiet", "origin", branch, cwd=folder)  # an earlier push did not get through
                return Pushed(commit, new=False)
    git("commit", "--quiet", "--message", message, cwd=folder)
    git("push", "--quiet", "--set-upstream", "origin", branch, cwd=folder)
    return Pushed(git("rev-parse", "HEAD", cwd=folder), new=True)


def read_comments(codecommit: Any, repository: str, commit: str) -> list[str]:
    """Return the comments on a commit, oldest first. ``codecommit``: a client.

    CodeCommit keeps a comment with the pair of commits that it compares: a commit and its first parent.
    """
    parents = codecommit.get_commit(repositoryName=repository, commitId=commit)["commit"]["parents"]
    pair = {"afterCommitId": commit, **({"beforeCommitId": parents[0]} if parents else {})}
    pages = codecommit.get_paginator("get_comments_for_compared_commit").paginate(repositoryName=repository, **pair)
    threads = [thread for page in pages for thread in page["commentsForComparedCommitData"]]
    return [comment["content"] for thread in threads for comment in thread["comments"]]


def _is_clone_of(url: str, folder: Path, branch: str) -> bool:
    if git("remote", "get-url", "origin", cwd=folder) != url:
        return False
    pushed = git("for-each-ref", f"refs/remotes/origin/{branch}", cwd=folder)
    return not pushed or bool(git("ls-remote", "--heads", "origin", branch, cwd=folder))


def _has_commits(folder: Path) -> bool:
    done = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", "HEAD"], cwd=folder, capture_output=True, check=False
    )
    return done.returncode == 0


def aws_command() -> str:
    """Return the AWS CLI: the one beside this Python, or the one on the PATH."""
    beside = Path(sys.executable).parent / "aws"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("aws")
    if not found:
        raise GitError("the AWS CLI is not installed; git needs it to sign in to CodeCommit")
    return found
