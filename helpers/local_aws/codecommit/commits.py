"""Making commits and moving branches, with compare-and-set on the reference."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from stat import S_ISDIR
from typing import Any

from dulwich.file import FileLocked
from dulwich.object_store import commit_tree_changes
from dulwich.objects import Blob, Commit, ObjectID, Tree
from dulwich.refs import Ref
from dulwich.repo import Repo

from helpers.local_aws.codecommit import rules
from helpers.local_aws.codecommit.objects import (
    MODES,
    SUBMODULE,
    branch_ref,
    branches,
    entry_at,
    find_object,
    mode_name,
    tip,
)
from helpers.local_aws.codecommit.rules import error

NO_COMMIT = "0" * 40


@dataclass(frozen=True)
class RefChange:
    """A reference that moved: ``old`` or ``new`` is 40 zeros when it was created or deleted."""

    ref: str
    old: str
    new: str


@dataclass(frozen=True)
class Edit:
    """One file to write (``content``) or to delete (``content`` is None)."""

    path: str
    content: bytes | None
    mode: str = "NORMAL"


@dataclass(frozen=True)
class Signature:
    """Who commits, and the message."""

    name: str
    email: str
    message: str

    @classmethod
    def of(cls, params: Mapping[str, Any], arn: str, default: str) -> "Signature":
        """Read author and message of a call. Raises the errors of their limits."""
        name = params.get("authorName") or params.get("name") or arn
        email, message = params.get("email", ""), params.get("commitMessage") or default
        if len(name) > 1024 or set(name) & set("<>\n\0"):
            raise error("NameLengthExceededException", "An author name has up to 1,024 characters and no < or >")
        if len(email) > 256 or set(email) & set("<>\n\0"):
            raise error("InvalidEmailException", "An email address has up to 256 characters and no < or >")
        if len(message.encode()) > rules.MAX_MESSAGE_BYTES:
            raise error("CommitMessageLengthExceededException", "Commit messages are limited to 256 KB")
        return cls(name, email, message)


@dataclass(frozen=True)
class Made:
    """A commit that was made, with the file entries that AWS returns."""

    commit: Commit
    change: RefChange
    added: list[dict[str, str]]
    updated: list[dict[str, str]]
    deleted: list[dict[str, str]]


def make_commit(
    repo: Repo, branch: str, parent_id: str | None, edits: Sequence[Edit], signature: Signature, unchanged: str
) -> Made:
    """Commit ``edits`` on the tip of ``branch``; in an empty repository the branch is created.

    Raises the documented errors: ``unchanged`` when nothing would change, and
    ParentCommitIdOutdatedException when the branch is not, or no longer, at ``parent_id``.
    """
    parent = _parent(repo, branch, parent_id)
    _check_edits(edits)
    base = parent.tree if parent else _add(repo, Tree())
    tree_id, touched = _apply(repo, base, edits)
    if parent and tree_id == parent.tree:
        raise error(unchanged, "The commit would change nothing")
    commit = Commit()
    commit.tree = tree_id
    commit.parents = [parent.id] if parent else []
    commit.author = commit.committer = f"{signature.name} <{signature.email}>".encode()
    commit.author_time = commit.commit_time = int(time.time())
    commit.author_timezone = commit.commit_timezone = 0
    commit.encoding, commit.message = b"UTF-8", signature.message.encode()
    _add(repo, commit)
    old, new = parent.id.decode() if parent else NO_COMMIT, commit.id.decode()
    change = RefChange(f"refs/heads/{branch}", old, new)
    if not move(repo, change):
        raise error("ParentCommitIdOutdatedException", f"{branch} is no longer at {old}")
    return Made(commit, change, *touched)


def move(repo: Repo, change: RefChange) -> bool:
    """Create, update or delete a reference if it is still where ``change.old`` says; tell whether it was.

    Raises InvalidBranchNameException when the name clashes with another reference's folder.
    """
    ref, old, new = (Ref(change.ref.encode()), ObjectID(change.old.encode()), ObjectID(change.new.encode()))
    try:
        if change.new == NO_COMMIT:
            return repo.refs.remove_if_equals(ref, old)
        if change.old == NO_COMMIT:
            return repo.refs.add_if_new(ref, new)
        return repo.refs.set_if_equals(ref, old, new)
    except FileLocked:  # a git push is moving this very reference
        return False
    except (NotADirectoryError, IsADirectoryError, FileExistsError):
        raise error("InvalidBranchNameException", f"{change.ref} clashes with another branch's name") from None


def _parent(repo: Repo, branch: str, parent_id: str | None) -> Commit | None:
    current = tip(repo, branch_ref(branch))
    if current is None and tip(repo, Ref(f"refs/tags/{branch}".encode())):
        raise error("BranchNameIsTagNameException", f"{branch} is a tag")
    if current is None and branches(repo):
        raise error("BranchDoesNotExistException", f"Branch {branch} does not exist")
    if not parent_id:
        if current:
            raise error("ParentCommitIdRequiredException", f"{branch} has commits: a parent commit ID is required")
        return None
    if not rules.is_commit_id(parent_id):
        raise error("InvalidParentCommitIdException", f"{parent_id!r} is not a full commit ID")
    parent = find_object(repo, parent_id)
    if not isinstance(parent, Commit):
        raise error("ParentCommitDoesNotExistException", f"Commit {parent_id} does not exist in the repository")
    if parent_id != current:
        raise error("ParentCommitIdOutdatedException", f"{parent_id} is not the tip of {branch}, {current} is")
    return parent


def _check_edits(edits: Sequence[Edit]) -> None:
    if not edits:
        raise error("FileEntryRequiredException", "A commit needs at least one file to add, update or delete")
    if len(edits) > rules.MAX_FILE_ENTRIES:
        raise error("MaximumFileEntriesExceededException", f"A commit takes up to {rules.MAX_FILE_ENTRIES} files")
    paths = [edit.path for edit in edits]
    if len(set(paths)) < len(paths):
        raise error("SamePathRequestException", "The commit names the same file more than once")
    puts = {edit.path for edit in edits if edit.content is not None}
    for path in puts:
        parts = path.split("/")
        if any("/".join(parts[:n]) in puts for n in range(1, len(parts))):
            raise error("PutFileEntryConflictException", f"{path} lies in a folder that the commit writes as a file")
    sizes = [len(edit.content or b"") for edit in edits]
    if max(sizes) > rules.MAX_FILE_BYTES or sum(sizes) > rules.MAX_COMMIT_BYTES:
        raise error("FileContentSizeLimitExceededException", "Files are limited to 6 MB each and 7 MB together")


def _apply(repo: Repo, base: ObjectID, edits: Sequence[Edit]) -> tuple[ObjectID, tuple[list, list, list]]:
    """Return the new root tree and what was added, updated and deleted."""
    added: list[dict[str, str]] = []
    updated: list[dict[str, str]] = []
    deleted: list[dict[str, str]] = []
    removals: list[tuple[bytes, int | None, ObjectID | None]] = []
    for edit in (edit for edit in edits if edit.content is None):
        entry = entry_at(repo, base, edit.path)
        if entry is None or S_ISDIR(entry[0]):
            raise error("FileDoesNotExistException", f"The file {edit.path} does not exist")
        removals.append((edit.path.encode(), None, None))
        deleted.append(_touched(edit.path, entry[1], entry[0]))
    tree_id = commit_tree_changes(repo.object_store, base, removals) if removals else base
    writes: list[tuple[bytes, int | None, ObjectID | None]] = []
    for edit in (edit for edit in edits if edit.content is not None):
        was = _place(repo, tree_id, edit.path)
        blob_id = _add(repo, Blob.from_string(edit.content or b""))
        mode = MODES[edit.mode]
        writes.append((edit.path.encode(), mode, blob_id))
        if was is None:
            added.append(_touched(edit.path, blob_id, mode))
        elif was != (mode, blob_id):
            updated.append(_touched(edit.path, blob_id, mode))
    tree_id = commit_tree_changes(repo.object_store, tree_id, writes) if writes else tree_id
    return tree_id, (added, updated, deleted)


def _place(repo: Repo, tree_id: ObjectID, path: str) -> tuple[int, ObjectID] | None:
    """Return what a write to ``path`` replaces. Raises when files, folders or submodules are in the way."""
    parts = path.split("/")
    for n in range(1, len(parts)):
        above = entry_at(repo, tree_id, "/".join(parts[:n]))
        if above and above[0] == SUBMODULE:
            raise error("FilePathConflictsWithSubmodulePathException", f"{path} points into a submodule")
        if above and not S_ISDIR(above[0]):
            raise error("DirectoryNameConflictsWithFileNameException", f"{'/'.join(parts[:n])} is a file")
    entry = entry_at(repo, tree_id, path)
    if entry and S_ISDIR(entry[0]):
        raise error("FileNameConflictsWithDirectoryNameException", f"{path} is a folder")
    if entry and entry[0] == SUBMODULE:
        raise error("FilePathConflictsWithSubmodulePathException", f"{path} is a submodule")
    return entry


def _touched(path: str, blob_id: ObjectID, mode: int) -> dict[str, str]:
    return {"absolutePath": path, "blobId": blob_id.decode(), "fileMode": mode_name(mode)}


def _add(repo: Repo, item: Blob | Tree | Commit) -> ObjectID:
    repo.object_store.add_object(item)
    return item.id
