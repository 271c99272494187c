"""Reading a git repository the way CodeCommit's API shows it: specifiers, files, folders, commits, differences."""

import stat
from typing import Any

from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tag, Tree, TreeEntry, format_timezone
from dulwich.refs import Ref, SymrefLoop
from dulwich.repo import Repo

from helpers.local_aws.codecommit.rules import MAX_FILE_BYTES, error, is_commit_id
from helpers.local_aws.wire import AwsError

SUBMODULE = 0o160000
MOST_COMPARED = 100_000  # files and folders of one commit
MODE_NAMES = {0o100755: "EXECUTABLE", 0o120000: "SYMLINK"}
MODES = {"NORMAL": 0o100644, "EXECUTABLE": 0o100755, "SYMLINK": 0o120000}


def branch_ref(name: str) -> Ref:
    """Return the reference of branch ``name``."""
    return Ref(f"refs/heads/{name}".encode())


def default_branch(repo: Repo) -> str | None:
    """Return the default branch, which is what HEAD points at, or None before the first branch."""
    target = repo.refs.read_ref(Ref(b"HEAD")) or b""
    ref = Ref(target.removeprefix(b"ref: ").strip())
    return ref.decode().removeprefix("refs/heads/") if tip(repo, ref) else None


def tip(repo: Repo, ref: Ref) -> str | None:
    """Return the commit id at ``ref``, or None."""
    try:
        return repo.refs[ref].decode()
    except (KeyError, SymrefLoop):
        return None


def branches(repo: Repo) -> list[str]:
    """Return the names of all branches, sorted."""
    return sorted(name.decode() for name in repo.refs.keys(base=Ref(b"refs/heads/")))


def find_object(repo: Repo, object_id: str) -> ShaFile | None:
    """Return the object with this full id, or None."""
    try:
        return repo[ObjectID(object_id.encode())] if is_commit_id(object_id) else None
    except KeyError:
        return None


def find_commit(repo: Repo, commit_id: str, code: str = "CommitDoesNotExistException") -> Commit:
    """Return the commit with this full id. Raises InvalidCommitIdException, or ``code`` when there is none."""
    if not is_commit_id(commit_id):
        raise error("InvalidCommitIdException", f"{commit_id!r} is not a full commit ID")
    found = find_object(repo, commit_id)
    if not isinstance(found, Commit):
        raise error(code, f"Commit {commit_id} does not exist in the repository")
    return found


def resolve(repo: Repo, specifier: str | None) -> Commit:
    """Return the commit that a branch, tag, full reference, full id, "HEAD" or nothing means.

    Raises CommitDoesNotExistException.
    """
    specifier = specifier or "HEAD"
    if is_commit_id(specifier):
        return find_commit(repo, specifier)
    for prefix in ("", "refs/heads/", "refs/tags/"):
        full = f"{prefix}{specifier}"
        object_id = tip(repo, Ref(full.encode())) if full == "HEAD" or full.startswith("refs/") else None
        found = find_object(repo, object_id) if object_id else None
        while isinstance(found, Tag):
            found = find_object(repo, found.object[1].decode())
        if isinstance(found, Commit):
            return found
    raise error("CommitDoesNotExistException", f"The specifier {specifier[:256]!r} names no commit")


def entry_at(repo: Repo, tree_id: ObjectID, path: str) -> tuple[int, ObjectID] | None:
    """Return mode and id of what is at ``path`` under a tree ("" is the tree itself), or None."""
    mode, object_id = stat.S_IFDIR, tree_id
    for part in path.encode().split(b"/") if path else []:
        tree = repo[object_id] if stat.S_ISDIR(mode) else None
        if not isinstance(tree, Tree) or part not in tree:
            return None
        mode, object_id = tree[part]
    return mode, object_id


def mode_name(mode: int) -> str:
    """Return CodeCommit's name of a file mode."""
    return MODE_NAMES.get(mode, "NORMAL")


def read_blob(repo: Repo, object_id: ObjectID) -> bytes:
    """Return a blob's content. Raises FileTooLargeException above what the API carries."""
    blob = repo[object_id]
    if not isinstance(blob, Blob) or blob.raw_length() > MAX_FILE_BYTES:
        raise error("FileTooLargeException", "The API returns files of up to 6 MB; use a git client for larger ones")
    return blob.data


def file_at(repo: Repo, commit: Commit, path: str) -> dict[str, Any]:
    """Return GetFile's answer. Raises FileDoesNotExistException, FileTooLargeException."""
    entry = entry_at(repo, commit.tree, path)
    if entry is None or stat.S_ISDIR(entry[0]) or entry[0] == SUBMODULE:
        raise error("FileDoesNotExistException", f"The file {path} does not exist at {commit.id.decode()}")
    mode, blob_id = entry
    content = read_blob(repo, blob_id)
    answer = {"commitId": commit.id.decode(), "blobId": blob_id.decode(), "filePath": path}
    return {**answer, "fileMode": mode_name(mode), "fileSize": len(content), "fileContent": content}


def folder_at(repo: Repo, commit: Commit, path: str) -> dict[str, Any]:
    """Return GetFolder's answer for one level. Raises FolderDoesNotExistException."""
    entry = entry_at(repo, commit.tree, path)
    tree = repo[entry[1]] if entry and stat.S_ISDIR(entry[0]) else None
    if not isinstance(tree, Tree):
        raise error("FolderDoesNotExistException", f"The folder {path} does not exist at {commit.id.decode()}")
    lists: dict[str, list[dict[str, str]]] = {"subFolders": [], "files": [], "symbolicLinks": [], "subModules": []}
    for item in tree.items():
        kind, described = _described(item, path)
        lists[kind].append(described)
    return {"commitId": commit.id.decode(), "folderPath": path, "treeId": tree.id.decode(), **lists}


def _described(item: TreeEntry, folder: str) -> tuple[str, dict[str, str]]:
    name, object_id = item.path.decode(errors="replace"), item.sha.decode()
    paths = {"absolutePath": f"{folder}/{name}" if folder else name, "relativePath": name}
    if stat.S_ISDIR(item.mode):
        return "subFolders", {"treeId": object_id, **paths}
    if item.mode == SUBMODULE:
        return "subModules", {"commitId": object_id, **paths}
    kind = "symbolicLinks" if stat.S_ISLNK(item.mode) else "files"
    return kind, {"blobId": object_id, **paths, "fileMode": mode_name(item.mode)}


def describe_commit(commit: Commit) -> dict[str, Any]:
    """Return a commit as GetCommit shows it; dates are seconds and offset, as git writes them."""

    def person(identity: bytes, seconds: int, offset: int) -> dict[str, str]:
        name, _, email = identity.decode(errors="replace").rpartition(" <")
        date = f"{seconds} {format_timezone(offset).decode()}"
        return {"name": name, "email": email.rstrip(">"), "date": date}

    return {
        "commitId": commit.id.decode(),
        "treeId": commit.tree.decode(),
        "parents": [parent.decode() for parent in commit.parents],
        "message": commit.message.decode(errors="replace"),
        "author": person(commit.author, commit.author_time, commit.author_timezone),
        "committer": person(commit.committer, commit.commit_time, commit.commit_timezone),
        "additionalData": "",
    }


def differences(
    repo: Repo, before: Commit | None, after: Commit, before_path: str, after_path: str
) -> list[dict[str, Any]]:
    """Return what changed, sorted by path; a rename is a deletion and an addition.

    Without ``before`` every file of ``after`` is an addition. The paths limit each
    side to a folder or file. Raises PathDoesNotExistException when neither side has its path.
    """
    old = _files(repo, before, before_path) if before else {}
    new = _files(repo, after, after_path)
    if new is None and (old is None or before is None):
        raise error("PathDoesNotExistException", f"The path {after_path} does not exist")
    old, new = old or {}, new or {}
    changes = []
    for relative in sorted(old.keys() | new.keys()):
        was, now = old.get(relative), new.get(relative)
        if was == now:
            continue
        change: dict[str, Any] = {"changeType": "M" if was and now else "A" if now else "D"}
        if was:
            change["beforeBlob"] = _blob(was, before_path, relative)
        if now:
            change["afterBlob"] = _blob(now, after_path, relative)
        changes.append(change)
    return changes


def _files(repo: Repo, commit: Commit, path: str) -> dict[str, tuple[int, ObjectID]] | None:
    """Return every file under ``path`` by relative path ("" when the path is a file), or None without the path."""
    entry = entry_at(repo, commit.tree, path)
    if entry is None:
        return None
    if not stat.S_ISDIR(entry[0]):
        return {"": entry}
    found = {}
    # Folders count, too: a few trees that name each other many times can stand for more than fits anywhere.
    for number, item in enumerate(repo.object_store.iter_tree_contents(entry[1], include_trees=True)):
        if number > MOST_COMPARED:
            raise AwsError(
                "NotImplemented", f"the embedded AWS does not compare more than {MOST_COMPARED} files and folders", 501
            )
        if not stat.S_ISDIR(item.mode):
            found[item.path.decode(errors="replace")] = (item.mode, item.sha)
    return found


def _blob(entry: tuple[int, ObjectID], root: str, relative: str) -> dict[str, str]:
    path = "/".join(part for part in (root, relative) if part)
    return {"blobId": entry[1].decode(), "path": path, "mode": f"{entry[0]:06o}"}
