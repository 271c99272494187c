"""CodeCommit's limits and the error code that each broken rule has.

Codes and limits: CodeCommit API reference and the quotas page of its user guide.
"""

import base64
import json
import re
from collections.abc import Sequence
from typing import TypeVar

from dulwich.refs import Ref, check_ref_format

from helpers.local_aws.wire import AwsError

MAX_FILE_BYTES = 6 * 1024 * 1024
MAX_COMMIT_BYTES = 7 * 1024 * 1024
MAX_FILE_ENTRIES = 100
MAX_MESSAGE_BYTES = 256 * 1024
MAX_COMMENT_CHARACTERS = 10_240
MAX_TRIGGERS = 10
MAX_TRIGGER_BRANCHES = 10
MAX_BATCH_COMMITS = 100
MAX_TAGS = 50
MAX_PATH_DEPTH = 20
MAX_PATH_CHARACTERS = 4096

_COMMIT_ID = re.compile(r"[0-9a-f]{40}")
_REPOSITORY_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")

# Last name in the member's path -> (code when it is absent, code when it breaks a constraint).
_CODES = {
    "repositoryName": ("RepositoryNameRequiredException", "InvalidRepositoryNameException"),
    "repositoryDescription": ("", "InvalidRepositoryDescriptionException"),
    "branchName": ("BranchNameRequiredException", "InvalidBranchNameException"),
    "defaultBranchName": ("BranchNameRequiredException", "InvalidBranchNameException"),
    "branches": ("RepositoryTriggerBranchNameListRequiredException", "InvalidRepositoryTriggerBranchNameException"),
    "triggers": ("RepositoryTriggersListRequiredException", ""),
    "name": ("RepositoryTriggerNameRequiredException", "InvalidRepositoryTriggerNameException"),
    "destinationArn": (
        "RepositoryTriggerDestinationArnRequiredException",
        "InvalidRepositoryTriggerDestinationArnException",
    ),
    "events": ("RepositoryTriggerEventsListRequiredException", "InvalidRepositoryTriggerEventsException"),
    "commitId": ("CommitIdRequiredException", "InvalidCommitIdException"),
    "afterCommitId": ("CommitIdRequiredException", "InvalidCommitIdException"),
    "commitIds": ("CommitIdsListRequiredException", ""),
    "afterCommitSpecifier": ("CommitRequiredException", "InvalidCommitException"),
    "parentCommitId": ("ParentCommitIdRequiredException", "InvalidParentCommitIdException"),
    "blobId": ("BlobIdRequiredException", "InvalidBlobIdException"),
    "filePath": ("PathRequiredException", "InvalidPathException"),
    "folderPath": ("PathRequiredException", "InvalidPathException"),
    "fileContent": ("FileContentRequiredException", "FileContentSizeLimitExceededException"),
    "fileMode": ("FileModeRequiredException", "InvalidFileModeException"),
    "content": ("CommentContentRequiredException", ""),
    "commentId": ("CommentIdRequiredException", "InvalidCommentIdException"),
    "inReplyTo": ("CommentIdRequiredException", "InvalidCommentIdException"),
    "relativeFileVersion": ("", "InvalidRelativeFileVersionEnumException"),
    "resourceArn": ("ResourceArnRequiredException", "InvalidResourceArnException"),
    "tags": ("TagsMapRequiredException", "InvalidTagsMapException"),
    "tagKeys": ("TagKeysListRequiredException", "InvalidTagKeysListException"),
    "sortBy": ("", "InvalidSortByException"),
    "order": ("", "InvalidOrderException"),
}

Item = TypeVar("Item")


def error(code: str, message: str) -> AwsError:
    """Return a client error (HTTP 400), which every documented CodeCommit error of ours is."""
    return AwsError(code, message)


def broken(member: str, problem: str) -> AwsError:
    """Return CodeCommit's error for a member that is absent or breaks a constraint of the model."""
    names = [part for part in re.split(r"\.", member) if not part.isdigit() and part not in ("member", "key")]
    absent = problem.endswith("Member must not be null")
    for name in reversed(names):
        code = _CODES.get(name, ("", ""))[0 if absent else 1]
        if code:
            rule = problem.rpartition("failed to satisfy constraint: ")[2]  # without the value: it may be 6 MB
            return error(code, f"{member}: {rule}")
    return error("ValidationException", f"1 validation error detected: {problem[:2000]}")


def repository_name(name: str) -> None:
    """Raise InvalidRepositoryNameException unless ``name`` may name a repository."""
    if not _REPOSITORY_NAME.fullmatch(name) or name.endswith(".git"):
        message = "A repository name has letters, digits, periods, underscores and dashes, and does not end in .git"
        raise error("InvalidRepositoryNameException", message)


def branch_name(name: str, code: str = "InvalidBranchNameException") -> None:
    """Raise ``code`` unless ``name`` may name a branch."""
    fits = 1 <= len(name) <= 256 and not is_commit_id(name) and not name.startswith(("-", "refs/"))
    if not fits or not check_ref_format(Ref(f"refs/heads/{name}".encode())):
        raise error(code, f"{name} is not a valid branch name")


def is_commit_id(text: str) -> bool:
    """Tell whether ``text`` is a full object id."""
    return bool(_COMMIT_ID.fullmatch(text))


def clean_path(path: str) -> str:
    """Return ``path`` without the leading slash that AWS allows ("" is the root). Raises InvalidPathException."""
    clean = path[1:] if path.startswith("/") else path
    parts = clean.split("/") if clean else []
    forbidden = any(part in ("", ".", "..") or part.lower() == ".git" for part in parts) or "\0" in clean
    if forbidden or len(parts) > MAX_PATH_DEPTH + 1 or len(clean) > MAX_PATH_CHARACTERS:
        raise error("InvalidPathException", f"{path[:200]!r} is not a valid path")
    return clean


def file_path(path: str) -> str:
    """Return ``path`` of a file, cleaned. Raises PathRequiredException, InvalidPathException."""
    if not path:
        raise error("PathRequiredException", "A file path is required")
    clean = clean_path(path)
    if not clean or path.startswith("//"):
        raise error("InvalidPathException", f"{path!r} names no file")
    return clean


def tags(keys: Sequence[str]) -> None:
    """Raise InvalidSystemTagUsageException for keys that belong to AWS."""
    if any(key.lower().startswith("aws:") for key in keys):
        raise error("InvalidSystemTagUsageException", "Tag keys cannot start with aws:")


def paged(items: Sequence[Item], token: str | None, size: int, *, of: str) -> tuple[list[Item], dict[str, str]]:
    """Return the page of ``items`` that ``token`` asks for, and ``{"nextToken": …}`` while more follow.

    ``of`` names the listing: a token of another one raises InvalidContinuationTokenException.
    """
    listing, start = of, 0
    if token:
        try:
            listing, start = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
        except (ValueError, TypeError):
            listing = ""
        if listing != of or not isinstance(start, int) or start < 0:
            raise error("InvalidContinuationTokenException", "The continuation token is not valid")
    end = start + size
    following = base64.urlsafe_b64encode(json.dumps([of, end]).encode()).decode()
    return list(items[start:end]), {"nextToken": following} if end < len(items) else {}
