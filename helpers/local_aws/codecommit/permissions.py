"""What IAM has to allow for CodeCommit's operations: the operation's own action on the repository."""

from typing import Any

from helpers.local_aws import tag_keys
from helpers.local_aws.codecommit import comments
from helpers.local_aws.codecommit.store import Repository, Store
from helpers.local_aws.wire import Params, Permission, Site

# Operations whose policies may look at the branch (codecommit:References).
_BRANCH_OPERATIONS = ("CreateBranch", "CreateCommit", "DeleteBranch", "DeleteFile", "PutFile")


def needed(site: Site, store: Store, operation: str, params: Params) -> list[Permission]:
    """Return what the caller needs for an operation, with the documented condition keys."""
    action = f"codecommit:{operation}"
    if operation == "ListRepositories":
        return [Permission(action)]
    repository = _subject(store, operation, params)
    context: dict[str, Any] = tag_keys.of_resource(repository.record["tags"]) if repository else {}
    context |= tag_keys.of_request(params.get("tags", {}), params.get("tagKeys", ()))
    if operation in _BRANCH_OPERATIONS:
        context["codecommit:References"] = f"refs/heads/{params['branchName']}"
    name = repository.name if repository else params.get("repositoryName", "*")
    arn = params.get("resourceArn") or site.arn("codecommit", name)
    found = [Permission(action, arn, context)]
    if operation == "CreateRepository" and params.get("tags"):
        found.append(Permission("codecommit:TagResource", arn, context))
    return found


def _subject(store: Store, operation: str, params: Params) -> Repository | None:
    """Return the repository that the call is about, where it exists."""
    if "resourceArn" in params:
        return store.find(params["resourceArn"].rpartition(":")[2])
    if operation in ("GetComment", "PostCommentReply"):
        found = comments.find(store.all(), params.get("commentId") or params["inReplyTo"])
        return found[0] if found else None
    return store.find(params.get("repositoryName", ""))
