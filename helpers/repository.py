"""The data scientist's git: a clone of the CodeCommit repository, commits and pushes."""

import base64
import datetime as dt
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest


@dataclass(frozen=True)
class Pushed:
    """A commit that is on the server, and whether this push brought it there."""

    commit: str = field(repr=False)
    new: bool


class GitError(Exception):
    """git refused; the message is what it said."""


def git(*arguments: str, cwd: Path | None = None, remote: str = "") -> str:
    """Run git and return what it printed. Raises GitError with its own words.

    ``remote``: the URL that the command talks to, for which it is signed in.
    """
    # A sign-in that fails is an error to report, not a question on a terminal that nobody looks at.
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", **sign_in(remote)}
    done = subprocess.run(["git", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GitError(f"git {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def sign_in(url: str) -> dict[str, str]:
    """Return environment variables with which git is signed in to CodeCommit's ``url``; none where it cannot sign.

    They hold for 15 minutes. The signature is the one of the AWS CLI's credential helper, which takes most of a
    second to start and is only asked after a first refusal; this one goes with the first request. An environment,
    unlike a command line or a file, is readable by the same user alone.
    """
    place = urlsplit(url)
    settings = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    session = _session(settings) if place.scheme in ("http", "https") else None
    credentials = session.get_credentials() if session else None
    region = _region(place.hostname or "") or (session.region_name if session else None)
    if not credentials or not region:
        return {}
    keys = credentials.get_frozen_credentials()
    user = f"{keys.access_key}%{keys.token}" if keys.token else keys.access_key
    basic = base64.b64encode(f"{user}:{_password(keys, region, place.hostname or '', place.path)}".encode()).decode()
    number = int(os.environ.get("GIT_CONFIG_COUNT") or 0)  # settings that the environment has already
    return {
        "GIT_CONFIG_COUNT": str(number + 1),
        f"GIT_CONFIG_KEY_{number}": f"http.{url}.extraHeader",
        f"GIT_CONFIG_VALUE_{number}": f"Authorization: Basic {basic}",
    }


def ensure_clone(url: str, folder: Path, *, author: str, email: str, branch: str = "main") -> bool:
    """Clone ``url`` into ``folder``, or find the clone that is there. Returns whether it was cloned now.

    The clone remembers how to sign in from a terminal: git asks the AWS CLI, which signs
    with the credentials of the environment. The same helper serves CodeCommit on AWS and
    the embedded AWS, whose host is not Amazon's. A clone of a repository that was deleted
    and made anew since is replaced.
    """
    # git also asks to store what it got, after each push: the CLI would take most of a second to do nothing.
    ask = f"{shlex.quote(aws_command())} codecommit credential-helper --ignore-host-check get"
    helper = f'!f() {{ test "$1" != get || {ask}; }}; f'
    settings = [
        ("credential.helper", ""),  # an empty one first: it sets the machine's own helpers aside
        ("credential.helper", helper),
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
    git("clone", "--quiet", *options, url, str(folder), remote=url)
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
    origin = git("remote", "get-url", "origin", cwd=folder)
    tree = git("write-tree", cwd=folder)
    if _has_commits(folder):
        for line in git("log", "--format=%T %H", branch, cwd=folder).splitlines():
            known, _, commit = line.partition(" ")
            if known == tree:
                if not git("for-each-ref", f"refs/remotes/origin/{branch}", "--contains", commit, cwd=folder):
                    # An earlier push did not get through
                    git("push", "--quiet", "origin", branch, cwd=folder, remote=origin)
                return Pushed(commit, new=False)
    git("commit", "--quiet", "--message", message, cwd=folder)
    git("push", "--quiet", "--set-upstream", "origin", branch, cwd=folder, remote=origin)
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
    return not pushed or bool(git("ls-remote", "--heads", "origin", branch, cwd=folder, remote=url))


@lru_cache(maxsize=4)
def _session(settings: tuple[tuple[str, str], ...]) -> boto3.Session:
    """Return a session for the environment's ``settings``: making one takes longer than a signature."""
    return boto3.Session()


def _region(host: str) -> str:
    """Return the region in the name of a host of CodeCommit on AWS, or nothing."""
    found = re.fullmatch(r"(vpce-.+\.)?git-codecommit(-fips)?\.([a-z0-9-]+)\.(vpce\.)?amazonaws\.com(\.cn)?", host)
    return found[3] if found else ""


def _password(keys: Any, region: str, host: str, path: str) -> str:
    """Return the time and a Signature Version 4 over host and path, as CodeCommit takes them for a password."""
    signer = SigV4Auth(keys, "codecommit", region)
    request = AWSRequest(method="GIT", url=f"https://{host}{path}")
    request.context["timestamp"] = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}"
    text = signer.string_to_sign(request, f"GIT\n{path}\n\nhost:{host}\n\nhost\n")
    return f"{request.context['timestamp']}Z{signer.signature(text, request)}"


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
