"""Read what the dispatcher needs from CodeCommit: the commits of a push, and the tree of one commit."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from planning.yaml_nodes import FILE_NAME, UnreadableError, has_control_characters, quote

MAX_COMMITS = 20
MAX_FILES = 1_000
MAX_FOLDERS = 1_000  # equal subtrees may be nested, so that few objects make endlessly many paths
MAX_BLOB = 20 * 1024**2
MAX_TREE = 100 * 1024**2
MAX_PATH_BYTES = 800  # an S3 key has at most 1,024 bytes, and the run's prefix needs some of them
THREADS = 4  # each may hold a blob twice in memory, as base64 and decoded


@dataclass(frozen=True)
class Commit:
    """A commit with the paths that it changed against its first parent (the root commit: against nothing)."""

    id: str
    parent: str | None = None
    author: str = ""
    written: frozenset[str] = frozenset()  # added or modified
    removed: frozenset[str] = frozenset()


@dataclass
class Tree:
    """The files of a commit: path to blob id; what is left out, with the reason; what makes it unusable."""

    files: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def error_code(error: ClientError) -> str:
    """Return the code of an error that AWS answered."""
    return error.response["Error"]["Code"]


def read_history(
    codecommit: Any, repository: str, tip: str, is_seen: Callable[[str], bool], pool: Executor
) -> list[Commit]:
    """Return the commits from ``tip`` along first parents to the last one seen before, newest first.

    The commit that ``is_seen`` is not among them. The root commit ends the
    history, and so do MAX_COMMITS commits.
    """
    history: list[Commit] = []
    commit_id: str | None = tip
    seen = pool.submit(is_seen, tip)
    while commit_id and len(history) < MAX_COMMITS:
        commit = codecommit.get_commit(repositoryName=repository, commitId=commit_id)["commit"]
        if seen.result():
            break
        parent = next(iter(commit.get("parents", ())), None)
        if parent:
            seen = pool.submit(is_seen, parent)  # while the differences are read
        author = commit.get("author", {})
        written, removed = _read_differences(codecommit, repository, commit_id, parent)
        history.append(Commit(commit_id, parent, author.get("name") or author.get("email", ""), written, removed))
        commit_id = parent if parent and not seen.result() else None
    return history


def read_experiment_file(codecommit: Any, repository: str, commit_id: str) -> bytes | None:
    """Return the experiment.yml at the root of ``commit_id``, or None where there is none.

    Raises UnreadableError when CodeCommit does not hand it out for its size.
    """
    try:
        answer = codecommit.get_file(repositoryName=repository, commitSpecifier=commit_id, filePath=FILE_NAME)
    except ClientError as error:
        if error_code(error) == "FileDoesNotExistException":
            return None
        if error_code(error) == "FileTooLargeException":
            raise UnreadableError(f"{FILE_NAME}: the file is far too large") from None
        raise
    return answer["fileContent"]


def read_tree(codecommit: Any, repository: str, commit_id: str) -> Tree:
    """List every file of ``commit_id``; only the top where that has no experiment.yml, since then nothing runs.

    Symbolic links, submodules and unusable names are skipped.
    """
    tree, folders, seen_folders = Tree(), ["/"], 1
    while folders:
        answer = codecommit.get_folder(repositoryName=repository, commitSpecifier=commit_id, folderPath=folders.pop(0))
        for link in answer.get("symbolicLinks", ()):
            tree.skipped[_path(link)] = "it is a symbolic link"
        for module in answer.get("subModules", ()):
            tree.skipped[_path(module)] = "it is a submodule"
        for file in answer.get("files", ()):
            unusable = _why_unusable(_path(file))
            if unusable:
                tree.skipped[_path(file)] = unusable
            else:
                tree.files[_path(file)] = file["blobId"]
        if FILE_NAME not in tree.files and FILE_NAME not in tree.skipped:
            break
        subfolders = [folder["absolutePath"] for folder in answer.get("subFolders", ())]
        folders += subfolders
        seen_folders += len(subfolders)
        if len(tree.files) > MAX_FILES or seen_folders > MAX_FOLDERS:
            last = subfolders[-1] if seen_folders > MAX_FOLDERS else list(tree.files)[-1]
            tree.problems.append(
                f"{quote(last)}: the commit has more than {MAX_FILES:,} files or {MAX_FOLDERS:,} folders: "
                "take data and generated files out of the repository"
            )
            break
    return tree


def download(codecommit: Any, repository: str, files: Mapping[str, str], folder: Path) -> list[str]:
    """Write the blobs of ``files`` to ``folder``, named 0, 1, … in their order; return what is too large.

    After MAX_TREE bytes nothing more is asked for.
    """
    problems, total = list[str](), 0
    with ThreadPoolExecutor(THREADS) as pool:
        fetched = [
            pool.submit(_fetch, codecommit, repository, blob, folder / str(number))
            for number, blob in enumerate(files.values())
        ]
        for path, size in zip(files, (future.result() for future in fetched), strict=True):
            if size > MAX_BLOB:
                problems.append(f"{quote(path)}: the file is larger than {MAX_BLOB // 1024**2} MB")
            total += min(size, MAX_BLOB)
            if total > MAX_TREE:
                pool.shutdown(wait=False, cancel_futures=True)
                most = f"{MAX_TREE // 1024**2} MB"
                return [*problems, f"{quote(path)}: with this file the commit's files exceed {most} in all"]
    return problems


def _fetch(codecommit: Any, repository: str, blob: str, target: Path) -> int:
    """Write one blob to ``target`` unless it is too large; return its size, or MAX_BLOB + 1 for "too large"."""
    try:
        content = codecommit.get_blob(repositoryName=repository, blobId=blob)["content"]
    except ClientError as error:
        if error_code(error) == "FileTooLargeException":
            return MAX_BLOB + 1
        raise
    if len(content) <= MAX_BLOB:
        target.write_bytes(content)
    return len(content)


def _read_differences(
    codecommit: Any, repository: str, commit_id: str, parent: str | None
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the paths written and removed. A rename is one of each, however CodeCommit tells of it."""
    before, after = set(), set()
    query = {"repositoryName": repository, "afterCommitSpecifier": commit_id}
    if parent:
        query["beforeCommitSpecifier"] = parent
    while True:
        page = codecommit.get_differences(**query)
        for difference in page.get("differences", ()):
            before.add(difference.get("beforeBlob", {}).get("path"))
            after.add(difference.get("afterBlob", {}).get("path"))
        if not page.get("NextToken"):
            return frozenset(after - {None}), frozenset(before - after - {None})
        query["NextToken"] = page["NextToken"]  # this operation's capitals, unlike the others'


def _path(entry: Mapping[str, str]) -> str:
    return entry["absolutePath"].lstrip("/")


def _why_unusable(path: str) -> str:
    """Return why ``path`` cannot be a key of a run and a file of a job, or nothing."""
    if ":" in path or "+" in path:
        return "its name holds ':' or '+', which the keys of a run never do"
    if "\\" in path or "\n" in path or has_control_characters(path):
        return "its name holds a backslash or a control character"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "its name leads out of the repository"
    if len(path.encode()) > MAX_PATH_BYTES:
        return f"its name has more than {MAX_PATH_BYTES} bytes"
    return ""
