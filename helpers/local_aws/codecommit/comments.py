"""Comments on the comparison of two commits, and replies to them."""

import time
import uuid
from collections.abc import Iterable
from stat import S_ISDIR
from typing import Any

from dulwich.repo import Repo

from helpers.local_aws.codecommit import rules
from helpers.local_aws.codecommit.objects import entry_at, find_commit, read_blob
from helpers.local_aws.codecommit.rules import error
from helpers.local_aws.codecommit.store import Repository
from helpers.local_aws.wire import Params

# A stored comment holds what AWS returns of it under "comment", and what it is about under "comparison".
Stored = dict[str, Any]


def post(repository: Repository, comparison: Params, content: str, author_arn: str, token: str | None) -> Stored:
    """Store a comment and return it, or return the one that the same call with the same token stored before.

    Raises IdempotencyParameterMismatchException when the token came with other parameters.
    """
    if not content.strip():
        raise error("CommentContentRequiredException", "A comment needs content")
    if len(content) > rules.MAX_COMMENT_CHARACTERS:
        raise error("CommentContentSizeLimitExceededException", "Comments are limited to 10,240 characters")
    with repository.lock:
        for stored in repository.comments if token else []:
            if stored["comment"].get("clientRequestToken") == token and stored["comment"]["authorArn"] == author_arn:
                if stored["comparison"] != comparison or stored["comment"]["content"] != content:
                    message = f"The token {token} was used with other parameters"
                    raise error("IdempotencyParameterMismatchException", message)
                return stored
        now = time.time()
        comment: Params = {"commentId": f"{uuid.uuid4()}:{uuid.uuid4()}", "content": content, "authorArn": author_arn}
        comment |= {"creationDate": now, "lastModifiedDate": now, "deleted": False}
        comment |= {"callerReactions": [], "reactionCounts": {}}
        if token:
            comment["clientRequestToken"] = token
        if "inReplyTo" in comparison:
            comment["inReplyTo"] = comparison["inReplyTo"]
        stored = {"comparison": comparison, "comment": comment}
        repository.comments.append(stored)
        repository.save_comments()
        return stored


def comparison(repo: Repo, params: Params) -> Params:
    """Return what a new comment is about: the two commits, and where in them. Raises the documented errors."""
    about = commits_of(repo, params)
    if "beforeCommitId" not in about and find_commit(repo, about["afterCommitId"]).parents:
        message = "A before commit ID is required unless the commit is the first one"
        raise error("CommitIdRequiredException", message)
    location = params.get("location")
    if location is None:
        return about
    path = rules.file_path(location.get("filePath") or "")
    versions = {}
    for side in ("before", "after"):
        commit = find_commit(repo, about[f"{side}CommitId"]) if f"{side}CommitId" in about else None
        entry = entry_at(repo, commit.tree, path) if commit else None
        if entry and not S_ISDIR(entry[0]):
            versions[side] = entry[1]
            about[f"{side}BlobId"] = entry[1].decode()
    if not versions:
        raise error("PathDoesNotExistException", f"{path} exists in neither commit")
    about["location"] = {**location, "filePath": path}
    if "filePosition" in location:
        side = location.get("relativeFileVersion", "").lower()
        if side not in versions:
            message = "relativeFileVersion must name a version that has the file"
            raise error("InvalidRelativeFileVersionEnumException", message)
        lines = len(read_blob(repo, versions[side]).splitlines())
        if not 1 <= location["filePosition"] <= lines:
            raise error("InvalidFilePositionException", f"{path} has {lines} lines")
    return about


def commits_of(repo: Repo, params: Params) -> Params:
    """Return the compared commits of a call, checked. Raises the documented errors."""
    about = {key: params[key] for key in ("beforeCommitId", "afterCommitId") if params.get(key)}
    for commit_id in about.values():
        find_commit(repo, commit_id)
    if about.get("beforeCommitId") == about["afterCommitId"]:
        message = "The before and the after commit are the same"
        raise error("BeforeCommitIdAndAfterCommitIdAreSameException", message)
    return {"repositoryName": params["repositoryName"], **about}


def threads(repository: Repository, about: Params) -> list[Params]:
    """Return the comments on a comparison, grouped by location, replies behind what they answer."""
    with repository.lock:
        stored = list(repository.comments)
    grouped: list[Params] = []
    for item in stored:
        where = item["comparison"]
        commits = {key: where.get(key) for key in ("beforeCommitId", "afterCommitId")}
        if "inReplyTo" in where or commits != {key: about.get(key) for key in commits}:
            continue
        group = next((g for g in grouped if g.get("location") == where.get("location")), None)
        if group is None:
            group = {**where, "comments": []}
            grouped.append(group)
        group["comments"].extend(_with_replies(item, stored))
    return grouped


def _with_replies(item: Stored, stored: list[Stored]) -> list[Params]:
    found = [item["comment"]]
    for reply in stored:
        if reply["comparison"].get("inReplyTo") == item["comment"]["commentId"]:
            found.extend(_with_replies(reply, stored))
    return found


def find(repositories: Iterable[Repository], comment_id: str) -> tuple[Repository, Stored] | None:
    """Return the comment with this id and its repository, or None."""
    for repository in repositories:
        with repository.lock:
            for stored in repository.comments:
                if stored["comment"]["commentId"] == comment_id:
                    return repository, stored
    return None
