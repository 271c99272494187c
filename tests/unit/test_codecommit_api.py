"""The CodeCommit API without a server: calls go through the same validation and authorization as over HTTP."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from codecommit_api import ARN, USER, ZEROS, Api, trigger
from dulwich.objects import Commit, Tree

from helpers.local_aws.codecommit import objects
from helpers.local_aws.wire import AwsError, Caller, Permission


@pytest.fixture
def api(tmp_path: Path) -> Api:
    api = Api(tmp_path)
    api("CreateRepository", repositoryName="repo", repositoryDescription="text", tags={"workshop": "demo"})
    return api


# --- repositories ---


def test_a_repository_is_described_with_its_addresses(api: Api) -> None:
    found = api("GetRepository", repositoryName="repo")["repositoryMetadata"]
    assert found["Arn"] == ARN
    assert found["cloneUrlHttp"] == "http://127.0.0.1:4566/v1/repos/repo"
    assert found["cloneUrlSsh"] == "ssh://git-codecommit.us-east-1.amazonaws.com/v1/repos/repo"
    assert found["repositoryDescription"] == "text"
    assert "defaultBranch" not in found


def test_everything_is_there_after_a_restart(api: Api, tmp_path: Path) -> None:
    commit = api.commit(a=b"1")
    api.triggers(trigger())
    api("PostCommentForComparedCommit", repositoryName="repo", afterCommitId=commit, content="hello")
    again = Api(tmp_path)
    metadata = again("GetRepository", repositoryName="repo")["repositoryMetadata"]
    assert metadata == api("GetRepository", repositoryName="repo")["repositoryMetadata"]
    assert metadata["defaultBranch"] == "main"
    assert again("GetRepositoryTriggers", repositoryName="repo")["triggers"] == [trigger()]
    assert again("ListTagsForResource", resourceArn=ARN)["tags"] == {"workshop": "demo"}
    threads = again("GetCommentsForComparedCommit", repositoryName="repo", afterCommitId=commit)
    assert threads["commentsForComparedCommitData"][0]["comments"][0]["content"] == "hello"


def test_what_a_kill_left_half_made_is_removed(tmp_path: Path) -> None:
    half = tmp_path / "codecommit" / "repositories" / ".half"
    half.mkdir(parents=True)
    assert Api(tmp_path)("ListRepositories")["repositories"] == []
    assert not half.exists()


def test_a_lock_that_a_killed_push_left_does_not_block_its_branch(api: Api, tmp_path: Path) -> None:
    first = api.commit(a=b"1")
    [folder] = (tmp_path / "codecommit" / "repositories").iterdir()
    (folder / "git" / "refs" / "heads" / "main.lock").touch()
    put = [{"filePath": "a", "fileContent": b"2"}]
    params = {"repositoryName": "repo", "branchName": "main", "parentCommitId": first, "putFiles": put}
    assert api.fails("CreateCommit", **params) == "ParentCommitIdOutdatedException"
    assert Api(tmp_path)("CreateCommit", **params)["commitId"]


def test_text_that_is_no_unicode_is_refused(api: Api) -> None:
    api.commit(a=b"1")
    assert api.fails("GetFile", repositoryName="repo", filePath="\ud800") == "SerializationException"
    assert api.fails("GetBranch", repositoryName="repo", branchName="\ud800") == "SerializationException"


def test_a_name_is_taken_once(api: Api) -> None:
    assert api.fails("CreateRepository", repositoryName="repo") == "RepositoryNameExistsException"


@pytest.mark.parametrize("name", ["", "a b", "../up", "a/b", "x.git", "é", "x" * 101])
def test_names_that_codecommit_refuses(api: Api, name: str) -> None:
    assert api.fails("CreateRepository", repositoryName=name) == "InvalidRepositoryNameException"


def test_deleting_twice_is_no_error(api: Api, tmp_path: Path) -> None:
    assert api("DeleteRepository", repositoryName="repo")["repositoryId"]
    assert api("DeleteRepository", repositoryName="repo") == {}
    assert api.fails("GetRepository", repositoryName="repo") == "RepositoryDoesNotExistException"
    assert list((tmp_path / "codecommit" / "repositories").iterdir()) == []


def test_repositories_are_listed_in_order(api: Api) -> None:
    api("CreateRepository", repositoryName="another")
    names = [r["repositoryName"] for r in api("ListRepositories", order="descending")["repositories"]]
    assert names == ["repo", "another"]


def test_tags_come_and_go(api: Api) -> None:
    api("TagResource", resourceArn=ARN, tags={"a": "1"})
    api("UntagResource", resourceArn=ARN, tagKeys=["workshop"])
    assert api("ListTagsForResource", resourceArn=ARN)["tags"] == {"a": "1"}
    assert api.fails("TagResource", resourceArn=ARN, tags={"aws:x": "1"}) == "InvalidSystemTagUsageException"
    assert api.fails("TagResource", resourceArn="arn:aws:s3:::x", tags={}) == "InvalidResourceArnException"


def test_an_operation_that_we_lack_is_refused_by_name(api: Api) -> None:
    with pytest.raises(AwsError, match="codecommit:CreatePullRequest") as caught:
        api("CreatePullRequest", title="t", targets=[])
    assert (caught.value.code, caught.value.status) == ("NotImplemented", 501)


# --- permissions ---


def test_permissions_are_asked_on_the_repository(api: Api) -> None:
    api.asked.clear()
    api("GetRepository", repositoryName="repo")
    api("ListRepositories")
    api.commit(a_txt=b"1")
    assert api.asked[0] == Permission("codecommit:GetRepository", ARN, {"aws:ResourceTag/workshop": "demo"})
    assert api.asked[1] == Permission("codecommit:ListRepositories", "*")
    assert (api.asked[2].action, api.asked[2].resource) == ("codecommit:CreateCommit", ARN)
    assert api.asked[2].context["codecommit:References"] == "refs/heads/main"


def test_a_comment_is_authorized_on_its_own_repository(api: Api) -> None:
    commit = api.commit(a_txt=b"1")
    posted = api("PostCommentForComparedCommit", repositoryName="repo", afterCommitId=commit, content="x")
    api("GetComment", commentId=posted["comment"]["commentId"])
    assert (api.asked[-1].action, api.asked[-1].resource) == ("codecommit:GetComment", ARN)


def test_nothing_happens_without_permission(api: Api) -> None:
    def deny(permission: Permission) -> None:
        raise AwsError("AccessDeniedException", permission.action)

    with pytest.raises(AwsError, match="codecommit:DeleteRepository"):
        api.service.call("DeleteRepository", {"repositoryName": "repo"}, Caller(USER, deny))
    assert api("GetRepository", repositoryName="repo")


# --- commits ---


def test_a_commit_writes_and_deletes_several_files(api: Api) -> None:
    first = api.commit(a_txt=b"1", dir__b_txt=b"2")
    answer = api(
        "CreateCommit",
        repositoryName="repo",
        branchName="main",
        parentCommitId=first,
        authorName="Ana",
        email="ana@example.com",
        commitMessage="second",
        putFiles=[
            {"filePath": "a_txt", "fileContent": b"11"},
            {"filePath": "run.sh", "fileContent": b"#!", "fileMode": "EXECUTABLE"},
            {"filePath": "empty", "fileContent": b""},
        ],
        deleteFiles=[{"filePath": "dir/b_txt"}],
    )
    assert [f["absolutePath"] for f in answer["filesAdded"]] == ["run.sh", "empty"]
    assert [f["absolutePath"] for f in answer["filesUpdated"]] == ["a_txt"]
    assert [f["absolutePath"] for f in answer["filesDeleted"]] == ["dir/b_txt"]
    root = api("GetFolder", repositoryName="repo", folderPath="/")
    assert [f["relativePath"] for f in root["files"]] == ["a_txt", "empty", "run.sh"]
    assert root["subFolders"] == []
    assert api("GetFile", repositoryName="repo", filePath="run.sh")["fileMode"] == "EXECUTABLE"
    commit = api("GetCommit", repositoryName="repo", commitId=answer["commitId"])["commit"]
    assert commit["parents"] == [first]
    assert commit["message"] == "second"
    assert commit["author"]["name"] == "Ana"
    assert commit["author"]["email"] == "ana@example.com"
    assert commit["author"]["date"].endswith(" +0000")


def test_the_author_is_the_caller_when_none_is_named(api: Api) -> None:
    commit = api("GetCommit", repositoryName="repo", commitId=api.commit(a=b"1"))["commit"]
    assert (commit["author"]["name"], commit["author"]["email"]) == (USER, "")


def test_one_of_two_concurrent_commits_wins(api: Api) -> None:
    first = api.commit(a=b"1")
    gate, outcomes = threading.Barrier(4), []

    def commit(content: bytes) -> None:
        gate.wait()
        try:
            outcomes.append(api.commit(first, a=content))
        except AwsError as problem:
            outcomes.append(problem.code)

    threads = [threading.Thread(target=commit, args=(content,)) for content in (b"2", b"3", b"4", b"5")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("ParentCommitIdOutdatedException") == 3
    tip = api("GetBranch", repositoryName="repo", branchName="main")["branch"]["commitId"]
    assert tip in outcomes


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"parentCommitId": None}, "ParentCommitIdRequiredException"),
        ({"parentCommitId": "short"}, "InvalidParentCommitIdException"),
        ({"parentCommitId": ZEROS}, "ParentCommitDoesNotExistException"),
        ({"branchName": "other"}, "BranchDoesNotExistException"),
        ({"branchName": "a..b"}, "InvalidBranchNameException"),
        ({"branchName": None}, "BranchNameRequiredException"),
        ({"repositoryName": "nope"}, "RepositoryDoesNotExistException"),
        ({"repositoryName": None}, "RepositoryNameRequiredException"),
        ({"putFiles": []}, "FileEntryRequiredException"),
        ({"putFiles": [{"filePath": "a", "fileContent": b"1"}]}, "NoChangeException"),
        ({"putFiles": [{"filePath": "x"}]}, "SourceFileOrContentRequiredException"),
        ({"putFiles": [{"filePath": "x", "sourceFile": {"filePath": "a"}}]}, "NotImplemented"),
        ({"setFileModes": [{"filePath": "a", "fileMode": "EXECUTABLE"}]}, "NotImplemented"),
        ({"putFiles": [{"filePath": "../x", "fileContent": b"1"}]}, "InvalidPathException"),
        ({"putFiles": [{"filePath": ".git/config", "fileContent": b"1"}]}, "InvalidPathException"),
        ({"putFiles": [{"filePath": "a/x", "fileContent": b"1"}]}, "DirectoryNameConflictsWithFileNameException"),
        ({"putFiles": [{"filePath": "dir", "fileContent": b"1"}]}, "FileNameConflictsWithDirectoryNameException"),
        ({"putFiles": [{"filePath": "x", "fileContent": b"1", "fileMode": "?"}]}, "InvalidFileModeException"),
        ({"putFiles": [{"filePath": p, "fileContent": b"1"} for p in ("n", "n/m")]}, "PutFileEntryConflictException"),
        ({"putFiles": [{"filePath": "x", "fileContent": b"1"}] * 2}, "SamePathRequestException"),
        ({"putFiles": [], "deleteFiles": [{"filePath": "zzz"}]}, "FileDoesNotExistException"),
        (
            {"putFiles": [{"filePath": str(n), "fileContent": b"1"} for n in range(101)]},
            "MaximumFileEntriesExceededException",
        ),
    ],
)
def test_a_commit_that_codecommit_refuses(api: Api, change: dict[str, Any], code: str) -> None:
    parent = api.commit(a=b"1", dir__b=b"2")
    params: dict[str, Any] = {"repositoryName": "repo", "branchName": "main", "parentCommitId": parent}
    params |= {"putFiles": [{"filePath": "x", "fileContent": b"1"}]}
    params |= change
    assert api.fails("CreateCommit", **{k: v for k, v in params.items() if v is not None}) == code


def test_an_outdated_parent_is_refused(api: Api) -> None:
    first = api.commit(a=b"1")
    api.commit(first, a=b"2")
    put = [{"filePath": "a", "fileContent": b"3"}]
    params = {"repositoryName": "repo", "branchName": "main", "putFiles": put}
    assert api.fails("CreateCommit", parentCommitId=first, **params) == "ParentCommitIdOutdatedException"


def test_files_are_limited_to_6_mb(api: Api) -> None:
    params = {"repositoryName": "repo", "branchName": "main", "filePath": "big"}
    code = api.fails("PutFile", fileContent=os.urandom(1) * (6 * 2**20 + 1), **params)
    assert code == "FileContentSizeLimitExceededException"
    assert api.fails("PutFile", fileContent=b"", **params) == "FileContentRequiredException"


def test_one_file_is_put_and_deleted(api: Api) -> None:
    params = {"repositoryName": "repo", "branchName": "main", "filePath": "dir/a"}
    put = api("PutFile", fileContent=b"1", **params)
    same = api.fails("PutFile", fileContent=b"1", parentCommitId=put["commitId"], **params)
    assert same == "SameFileContentException"
    gone = api("DeleteFile", parentCommitId=put["commitId"], **params)
    assert gone["blobId"] == put["blobId"]
    assert api.fails("GetFile", repositoryName="repo", filePath="dir/a") == "FileDoesNotExistException"
    old = api("GetFile", repositoryName="repo", filePath="dir/a", commitSpecifier=put["commitId"])
    assert old["fileContent"] == b"1"


# --- reading ---


def test_a_folder_lists_one_level(api: Api) -> None:
    api.commit(top=b"1", dir__a=b"1", dir__sub__b=b"2")
    folder = api("GetFolder", repositoryName="repo", folderPath="dir", commitSpecifier="refs/heads/main")
    assert [(f["absolutePath"], f["relativePath"]) for f in folder["files"]] == [("dir/a", "a")]
    assert [f["absolutePath"] for f in folder["subFolders"]] == ["dir/sub"]
    assert api.fails("GetFolder", repositoryName="repo", folderPath="nope") == "FolderDoesNotExistException"
    assert api.fails("GetFolder", repositoryName="repo", folderPath="top") == "FolderDoesNotExistException"


def test_an_empty_repository_has_no_commit(api: Api) -> None:
    assert api.fails("GetFile", repositoryName="repo", filePath="a") == "CommitDoesNotExistException"
    assert api.fails("GetFolder", repositoryName="repo", folderPath="/") == "CommitDoesNotExistException"


def test_commit_ids_must_be_full(api: Api) -> None:
    commit = api.commit(a=b"1")
    assert api.fails("GetCommit", repositoryName="repo", commitId=commit[:8]) == "InvalidCommitIdException"
    assert api.fails("GetCommit", repositoryName="repo", commitId=ZEROS) == "CommitIdDoesNotExistException"
    batch = api("BatchGetCommits", repositoryName="repo", commitIds=[commit, ZEROS])
    assert [c["commitId"] for c in batch["commits"]] == [commit]
    assert [e["errorCode"] for e in batch["errors"]] == ["CommitIdDoesNotExistException"]


def test_a_blob_is_read_by_its_id(api: Api) -> None:
    commit = api.commit(a=b"content")
    blob = api("GetFile", repositoryName="repo", filePath="/a")["blobId"]
    assert api("GetBlob", repositoryName="repo", blobId=blob)["content"] == b"content"
    assert api.fails("GetBlob", repositoryName="repo", blobId=commit) == "BlobIdDoesNotExistException"
    assert api.fails("GetBlob", repositoryName="repo", blobId="x") == "InvalidBlobIdException"


def test_differences_come_in_pages(api: Api) -> None:
    first = api.commit(f00=b"1", f01=b"1", f02=b"1", f03=b"1", f04=b"1")
    second = api.commit(first, delete=("f00",), f01=b"2", new=b"3")
    params: dict[str, Any] = {"repositoryName": "repo", "afterCommitSpecifier": "main", "MaxResults": 2}
    found, sizes, token = [], [], None
    while True:
        page = api("GetDifferences", beforeCommitSpecifier=first, **params, **({"NextToken": token} if token else {}))
        found += page["differences"]
        sizes.append(len(page["differences"]))
        token = page.get("NextToken")
        if not token:
            break
    assert sizes == [2, 1]
    assert [(d["changeType"], (d.get("afterBlob") or d["beforeBlob"])["path"]) for d in found] == [
        ("D", "f00"),
        ("M", "f01"),
        ("A", "new"),
    ]
    assert found[1]["beforeBlob"]["mode"] == "100644"
    everything = api("GetDifferences", repositoryName="repo", afterCommitSpecifier=second)["differences"]
    assert [d["changeType"] for d in everything] == ["A"] * 5
    assert api.fails("GetDifferences", **params, NextToken="junk") == "InvalidContinuationTokenException"
    assert api.fails("GetDifferences", **(params | {"MaxResults": 0})) == "InvalidMaxResultsException"


def test_trees_that_name_each_other_without_end_are_not_compared(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "MOST_COMPARED", 1000)
    first = api.commit(a=b"1")
    with api.service.store.get("repo").open() as repo:
        tree = repo[repo[first.encode()].tree]
        for _ in range(20):  # which stand for ten times as many files each
            outer = Tree()
            for name in "0123456789":
                outer.add(name.encode(), 0o40000, tree.id)
            repo.object_store.add_object(outer)
            tree = outer
        commit = Commit()
        commit.tree, commit.parents, commit.message = tree.id, [], b"bomb"
        commit.author = commit.committer = b"a <a@b>"
        commit.author_time = commit.commit_time = commit.author_timezone = commit.commit_timezone = 0
        repo.object_store.add_object(commit)
    params = {"repositoryName": "repo", "beforeCommitSpecifier": first, "afterCommitSpecifier": commit.id.decode()}
    assert api.fails("GetDifferences", **params) == "NotImplemented"


def test_differences_of_a_folder_and_of_a_file(api: Api) -> None:
    first = api.commit(a=b"1", old__x=b"1", old__y=b"1")
    second = api.commit(first, delete=("old/x", "old/y"), a=b"2", new__x=b"1", new__y=b"2")

    def between(**paths: str) -> list[tuple[str, str]]:
        params = {"repositoryName": "repo", "beforeCommitSpecifier": first, "afterCommitSpecifier": second}
        found = api("GetDifferences", **params, **paths)["differences"]
        return [(d["changeType"], (d.get("afterBlob") or d["beforeBlob"])["path"]) for d in found]

    assert between(beforePath="old", afterPath="new") == [("M", "new/y")]
    assert between(afterPath="a") == [("M", "a")]
    assert between(afterPath="new") == [("A", "new/x"), ("A", "new/y")]
    nowhere = {"repositoryName": "repo", "beforeCommitSpecifier": first, "afterCommitSpecifier": second}
    assert api.fails("GetDifferences", afterPath="zzz", **nowhere) == "PathDoesNotExistException"


# --- branches ---


def test_branches_are_made_listed_and_deleted(api: Api) -> None:
    commit = api.commit(a=b"1")
    api("CreateBranch", repositoryName="repo", branchName="dev/x", commitId=commit)
    assert api("ListBranches", repositoryName="repo")["branches"] == ["dev/x", "main"]
    again = api.fails("CreateBranch", repositoryName="repo", branchName="dev/x", commitId=commit)
    assert again == "BranchNameExistsException"
    clash = api.fails("CreateBranch", repositoryName="repo", branchName="dev/x/y", commitId=commit)
    assert clash == "InvalidBranchNameException"
    missing = api.fails("CreateBranch", repositoryName="repo", branchName="x", commitId=ZEROS)
    assert missing == "CommitDoesNotExistException"
    default = api.fails("DeleteBranch", repositoryName="repo", branchName="main")
    assert default == "DefaultBranchCannotBeDeletedException"
    api("UpdateDefaultBranch", repositoryName="repo", defaultBranchName="dev/x")
    deleted = api("DeleteBranch", repositoryName="repo", branchName="main")["deletedBranch"]
    assert deleted == {"branchName": "main", "commitId": commit}
    assert api("DeleteBranch", repositoryName="repo", branchName="main") == {}
    assert api.fails("GetBranch", repositoryName="repo", branchName="main") == "BranchDoesNotExistException"


def test_the_first_branch_becomes_the_default_one(api: Api) -> None:
    api.commit(branch="trunk", a=b"1")
    assert api("GetRepository", repositoryName="repo")["repositoryMetadata"]["defaultBranch"] == "trunk"
