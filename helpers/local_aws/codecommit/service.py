"""The CodeCommit API: one method per operation, on the repositories of the store."""

import uuid
from collections.abc import Iterable, Sequence
from typing import ClassVar

from dulwich.objects import Blob, ObjectID
from dulwich.refs import Ref

from helpers.local_aws.codecommit import comments, permissions, rules, triggers
from helpers.local_aws.codecommit.commits import NO_COMMIT, Edit, Made, RefChange, Signature, make_commit, move
from helpers.local_aws.codecommit.objects import (
    branch_ref,
    branches,
    default_branch,
    describe_commit,
    differences,
    file_at,
    find_commit,
    find_object,
    folder_at,
    read_blob,
    resolve,
    tip,
)
from helpers.local_aws.codecommit.rules import error
from helpers.local_aws.codecommit.store import Repository, Store
from helpers.local_aws.wire import AwsError, Caller, Params, Permission, Service, Site

_PAGE = 100


class CodeCommit(Service):
    """CodeCommit over bare git repositories under ``site.state_dir``.

    ``invoke(function_arn, event, source_arn)`` starts a trigger's Lambda function
    as codecommit.amazonaws.com; it raises AwsError when it cannot.
    """

    name: ClassVar[str] = "codecommit"

    def __init__(self, site: Site, invoke: triggers.Invoke) -> None:
        super().__init__(site)
        self.store = Store(site.state_dir / "codecommit")
        self.triggers = triggers.Triggers(site, invoke)

    # --- what every call goes through ---

    def permissions(self, operation: str, params: Params) -> Sequence[Permission]:
        """Return the operation's own action on the repository's ARN, with the documented condition keys."""
        return permissions.needed(self.site, self.store, operation, params)

    def call(self, operation: str, params: Params, caller: Caller) -> Params:
        """Run an operation. JSON can carry half a surrogate pair, which git's UTF-8 cannot: that is refused."""
        try:
            return super().call(operation, params, caller)
        except UnicodeEncodeError:
            raise AwsError("SerializationException", "a string of the request is not valid Unicode") from None

    def invalid(self, operation: str, member: str, problem: str) -> AwsError:
        """Return CodeCommit's own error code for a broken constraint."""
        return rules.broken(member, problem)

    def refs_changed(self, repository: Repository, changes: Sequence[RefChange], caller: Caller) -> None:
        """Note that references moved, by a call or a push: default branch, time of modification, triggers."""
        if not changes:
            return
        with repository.lock:
            with repository.open() as repo:
                # CodeCommit makes the first branch the default one
                first = next((change.ref for change in changes if change.ref.startswith("refs/heads/")), None)
                if first and default_branch(repo) is None and tip(repo, Ref(first.encode())):
                    repo.refs.set_symbolic_ref(Ref(b"HEAD"), Ref(first.encode()))
            repository.save()
            record = dict(repository.record)
        self.triggers.fire(record, changes, caller.arn)

    def _arn(self, name: str) -> str:
        return self.site.arn("codecommit", name)

    def _repository(self, params: Params) -> Repository:
        if "repositoryName" not in params:
            raise error("RepositoryNameRequiredException", "A repository name is required")
        rules.repository_name(params["repositoryName"])
        return self.store.get(params["repositoryName"])

    # --- repositories ---

    def create_repository(self, params: Params, caller: Caller) -> Params:
        """Make an empty repository."""
        rules.repository_name(params["repositoryName"])
        if "kmsKeyId" in params:
            raise AwsError("NotImplemented", "codecommit:CreateRepository with kmsKeyId is not supported", 501)
        tags = params.get("tags", {})
        _check_tags(tags, {})
        repository = self.store.create(params["repositoryName"], params.get("repositoryDescription", ""), tags)
        return {"repositoryMetadata": self._metadata(repository)}

    def get_repository(self, params: Params, caller: Caller) -> Params:
        """Describe a repository."""
        return {"repositoryMetadata": self._metadata(self._repository(params))}

    def list_repositories(self, params: Params, caller: Caller) -> Params:
        """List names and ids, 1,000 a page."""
        found = self.store.all()
        if params.get("sortBy") == "lastModifiedDate":
            found.sort(key=lambda repository: repository.record["modified"])
        if params.get("order") == "descending":
            found.reverse()
        page, following = rules.paged(found, params.get("nextToken"), 1000, of="repositories")
        return {"repositories": [{"repositoryName": r.name, "repositoryId": r.record["id"]} for r in page], **following}

    def delete_repository(self, params: Params, caller: Caller) -> Params:
        """Delete a repository; one that is not there is no error."""
        rules.repository_name(params["repositoryName"])
        repository_id = self.store.delete(params["repositoryName"])
        return {"repositoryId": repository_id} if repository_id else {}

    def update_repository_description(self, params: Params, caller: Caller) -> Params:
        """Replace the description; without one it is removed."""
        repository = self._repository(params)
        with repository.lock:
            repository.record["description"] = params.get("repositoryDescription", "")
            repository.save()
        return {}

    def _metadata(self, repository: Repository) -> Params:
        with repository.lock, repository.open() as repo:
            record, branch = dict(repository.record), default_branch(repo)
        name = record["name"]
        metadata = {
            "accountId": self.site.account_id,
            "repositoryId": record["id"],
            "repositoryName": name,
            "lastModifiedDate": record["modified"],
            "creationDate": record["created"],
            "cloneUrlHttp": f"{self.site.endpoint_url}/v1/repos/{name}",
            "cloneUrlSsh": f"ssh://git-codecommit.{self.site.region}.amazonaws.com/v1/repos/{name}",
            "Arn": self._arn(name),
        }
        optional = {"repositoryDescription": record["description"], "defaultBranch": branch}
        return metadata | {key: value for key, value in optional.items() if value}

    # --- tags ---

    def tag_resource(self, params: Params, caller: Caller) -> Params:
        """Add or replace tags."""
        repository = self._tagged(params)
        with repository.lock:
            _check_tags(params["tags"], repository.record["tags"])
            repository.record["tags"] = {**repository.record["tags"], **params["tags"]}
            repository.save()
        return {}

    def untag_resource(self, params: Params, caller: Caller) -> Params:
        """Remove tags; keys that are not there are no error."""
        repository = self._tagged(params)
        rules.tags(params["tagKeys"])
        with repository.lock:
            kept = {k: v for k, v in repository.record["tags"].items() if k not in params["tagKeys"]}
            repository.record["tags"] = kept
            repository.save()
        return {}

    def list_tags_for_resource(self, params: Params, caller: Caller) -> Params:
        """Return all tags."""
        return {"tags": dict(self._tagged(params).record["tags"])}

    def _tagged(self, params: Params) -> Repository:
        arn = params["resourceArn"]
        name = arn.removeprefix(self._arn(""))
        if name == arn:
            raise error("InvalidResourceArnException", f"{arn[:200]!r} is not the ARN of a repository")
        rules.repository_name(name)
        return self.store.get(name)

    # --- branches ---

    def create_branch(self, params: Params, caller: Caller) -> Params:
        """Create a branch at a commit."""
        repository, branch = self._repository(params), params["branchName"]
        rules.branch_name(branch)
        change = RefChange(f"refs/heads/{branch}", NO_COMMIT, params["commitId"])
        with repository.open() as repo:
            find_commit(repo, params["commitId"])
            if not move(repo, change):
                raise error("BranchNameExistsException", f"Branch {branch} already exists")
        self.refs_changed(repository, [change], caller)
        return {}

    def get_branch(self, params: Params, caller: Caller) -> Params:
        """Return the commit at the tip of a branch."""
        repository = self._repository(params)
        if "branchName" not in params:
            raise error("BranchNameRequiredException", "A branch name is required")
        return {"branch": {"branchName": params["branchName"], "commitId": self._tip(repository, params["branchName"])}}

    def list_branches(self, params: Params, caller: Caller) -> Params:
        """List the branches' names."""
        repository = self._repository(params)
        with repository.open() as repo:
            names = branches(repo)
        page, following = rules.paged(names, params.get("nextToken"), 1000, of=repository.record["id"])
        return {"branches": page, **following}

    def delete_branch(self, params: Params, caller: Caller) -> Params:
        """Delete a branch other than the default one; one that is not there is no error."""
        repository, branch = self._repository(params), params["branchName"]
        rules.branch_name(branch)
        with repository.lock, repository.open() as repo:
            if default_branch(repo) == branch:
                raise error("DefaultBranchCannotBeDeletedException", f"{branch} is the default branch")
            commit_id = tip(repo, branch_ref(branch))
            if commit_id is None:
                return {}
            change = RefChange(f"refs/heads/{branch}", commit_id, NO_COMMIT)
            if not move(repo, change):
                raise error("ConcurrentReferenceUpdateException", f"{branch} is being updated; try again")
        self.refs_changed(repository, [change], caller)
        return {"deletedBranch": {"branchName": branch, "commitId": commit_id}}

    def update_default_branch(self, params: Params, caller: Caller) -> Params:
        """Make an existing branch the default one."""
        repository, branch = self._repository(params), params["defaultBranchName"]
        self._tip(repository, branch)
        with repository.lock, repository.open() as repo:
            repo.refs.set_symbolic_ref(Ref(b"HEAD"), branch_ref(branch))
            repository.save()
        return {}

    def _tip(self, repository: Repository, branch: str) -> str:
        rules.branch_name(branch)
        with repository.open() as repo:
            commit_id = tip(repo, branch_ref(branch))
        if commit_id is None:
            raise error("BranchDoesNotExistException", f"Branch {branch} does not exist")
        return commit_id

    # --- commits that the API makes ---

    def create_commit(self, params: Params, caller: Caller) -> Params:
        """Commit several files and deletions at once."""
        for member in ("setFileModes", "keepEmptyFolders"):
            if params.get(member):
                raise AwsError("NotImplemented", f"codecommit:CreateCommit with {member} is not supported", 501)
        edits = [_put(entry) for entry in params.get("putFiles", [])]
        edits += [Edit(rules.file_path(entry["filePath"]), None) for entry in params.get("deleteFiles", [])]
        made = self._commit(params, caller, edits, "Updated several files")
        lists = {"filesAdded": made.added, "filesUpdated": made.updated, "filesDeleted": made.deleted}
        return {"commitId": made.commit.id.decode(), "treeId": made.commit.tree.decode(), **lists}

    def put_file(self, params: Params, caller: Caller) -> Params:
        """Commit one file."""
        if not params["fileContent"]:
            raise error("FileContentRequiredException", "Empty files cannot be added with this API")
        path = rules.file_path(params["filePath"])
        edit = Edit(path, params["fileContent"], params.get("fileMode", "NORMAL"))
        made = self._commit(params, caller, [edit], f"Added {path}", unchanged="SameFileContentException")
        blob_id = (made.added + made.updated)[0]["blobId"]
        return {"commitId": made.commit.id.decode(), "blobId": blob_id, "treeId": made.commit.tree.decode()}

    def delete_file(self, params: Params, caller: Caller) -> Params:
        """Commit the deletion of one file."""
        if params.get("keepEmptyFolders"):
            raise AwsError("NotImplemented", "codecommit:DeleteFile with keepEmptyFolders is not supported", 501)
        path = rules.file_path(params["filePath"])
        made = self._commit(params, caller, [Edit(path, None)], f"Deleted {path}")
        answer = {"commitId": made.commit.id.decode(), "blobId": made.deleted[0]["blobId"]}
        return {**answer, "treeId": made.commit.tree.decode(), "filePath": path}

    def _commit(
        self, params: Params, caller: Caller, edits: list[Edit], message: str, unchanged: str = "NoChangeException"
    ) -> Made:
        repository, branch = self._repository(params), params["branchName"]
        rules.branch_name(branch)
        signature = Signature.of(params, caller.arn, message)
        with repository.open() as repo:
            made = make_commit(repo, branch, params.get("parentCommitId"), edits, signature, unchanged)
        self.refs_changed(repository, [made.change], caller)
        return made

    # --- reading ---

    def get_file(self, params: Params, caller: Caller) -> Params:
        """Return a file's content at a commit."""
        path = rules.file_path(params["filePath"])
        with self._repository(params).open() as repo:
            return file_at(repo, resolve(repo, params.get("commitSpecifier")), path)

    def get_folder(self, params: Params, caller: Caller) -> Params:
        """List one level of a folder at a commit; "/" and "" are the root."""
        path = rules.clean_path(params["folderPath"].rstrip("/"))
        with self._repository(params).open() as repo:
            return folder_at(repo, resolve(repo, params.get("commitSpecifier")), path)

    def get_blob(self, params: Params, caller: Caller) -> Params:
        """Return a blob's content."""
        blob_id = params["blobId"]
        if not rules.is_commit_id(blob_id):
            raise error("InvalidBlobIdException", f"{blob_id!r} is not a full blob ID")
        with self._repository(params).open() as repo:
            if not isinstance(find_object(repo, blob_id), Blob):
                raise error("BlobIdDoesNotExistException", f"Blob {blob_id} does not exist in the repository")
            return {"content": read_blob(repo, ObjectID(blob_id.encode()))}

    def get_commit(self, params: Params, caller: Caller) -> Params:
        """Describe a commit, by its full id."""
        with self._repository(params).open() as repo:
            return {"commit": describe_commit(find_commit(repo, params["commitId"], "CommitIdDoesNotExistException"))}

    def batch_get_commits(self, params: Params, caller: Caller) -> Params:
        """Describe up to 100 commits; those that cannot be found are listed as errors."""
        ids = params["commitIds"]
        if not ids:
            raise error("CommitIdsListRequiredException", "At least one commit ID is required")
        if len(ids) > rules.MAX_BATCH_COMMITS:
            raise error("CommitIdsLimitExceededException", f"At most {rules.MAX_BATCH_COMMITS} commit IDs are allowed")
        found, failed = [], []
        with self._repository(params).open() as repo:
            for commit_id in ids:
                try:
                    found.append(describe_commit(find_commit(repo, commit_id, "CommitIdDoesNotExistException")))
                except AwsError as problem:
                    failed.append({"commitId": commit_id, "errorCode": problem.code, "errorMessage": problem.message})
        return {"commits": found, "errors": failed}

    def get_differences(self, params: Params, caller: Caller) -> Params:
        """List what changed between two commits, 100 a page. This operation spells MaxResults and NextToken so."""
        size = params.get("MaxResults", _PAGE)
        if size < 1:
            raise error("InvalidMaxResultsException", "MaxResults must be at least 1")
        paths = [rules.clean_path(params.get(key, "").rstrip("/")) for key in ("beforePath", "afterPath")]
        before_path, after_path = paths[0] or paths[1], paths[1] or paths[0]
        with self._repository(params).open() as repo:
            specifier = params.get("beforeCommitSpecifier")
            before = resolve(repo, specifier) if specifier else None
            after = resolve(repo, params["afterCommitSpecifier"])
            changes = differences(repo, before, after, before_path, after_path)
        listing = f"{before.id.decode() if before else ''}:{before_path}:{after.id.decode()}:{after_path}"
        page, following = rules.paged(changes, params.get("NextToken"), size, of=listing)
        return {"differences": page, **({"NextToken": following["nextToken"]} if following else {})}

    # --- triggers ---

    def put_repository_triggers(self, params: Params, caller: Caller) -> Params:
        """Replace all triggers."""
        repository = self._repository(params)
        triggers.check(params["triggers"], self.site.region)
        with repository.lock:
            repository.record["triggers"] = params["triggers"]
            repository.record["configuration_id"] = str(uuid.uuid4())
            repository.save()
            return {"configurationId": repository.record["configuration_id"]}

    def get_repository_triggers(self, params: Params, caller: Caller) -> Params:
        """Return the triggers as they were put."""
        record = self._repository(params).record
        return {"configurationId": record["configuration_id"], "triggers": record["triggers"]}

    def test_repository_triggers(self, params: Params, caller: Caller) -> Params:
        """Send each given trigger an event about the newest commit; nothing is stored."""
        repository = self._repository(params)
        triggers.check(params["triggers"], self.site.region)
        with repository.open() as repo:
            branch = default_branch(repo) or "main"
            reference = {"commit": tip(repo, branch_ref(branch)) or NO_COMMIT, "ref": f"refs/heads/{branch}"}
        return self.triggers.test(repository.record, params["triggers"], reference, caller.arn)

    # --- comments ---

    def post_comment_for_compared_commit(self, params: Params, caller: Caller) -> Params:
        """Comment on the comparison of two commits; a repeated clientRequestToken stores nothing new."""
        repository = self._repository(params)
        with repository.open() as repo:
            about = comments.comparison(repo, params)
        stored = comments.post(repository, about, params["content"], caller.arn, params.get("clientRequestToken"))
        return {**stored["comparison"], "comment": stored["comment"]}

    def post_comment_reply(self, params: Params, caller: Caller) -> Params:
        """Answer a comment."""
        repository, _ = self._comment(params["inReplyTo"])
        about = {"inReplyTo": params["inReplyTo"]}
        stored = comments.post(repository, about, params["content"], caller.arn, params.get("clientRequestToken"))
        return {"comment": stored["comment"]}

    def get_comment(self, params: Params, caller: Caller) -> Params:
        """Return one comment."""
        return {"comment": self._comment(params["commentId"])[1]["comment"]}

    def get_comments_for_compared_commit(self, params: Params, caller: Caller) -> Params:
        """Return the comments on exactly this pair of commits (none before: on the first commit)."""
        size = params.get("maxResults", _PAGE)
        if not 1 <= size <= 500:
            raise error("InvalidMaxResultsException", "maxResults must be between 1 and 500")
        repository = self._repository(params)
        with repository.open() as repo:
            about = comments.commits_of(repo, params)
        found = comments.threads(repository, about)
        listing = f"{about.get('beforeCommitId')}:{about['afterCommitId']}"
        page, following = rules.paged(found, params.get("nextToken"), size, of=listing)
        return {"commentsForComparedCommitData": page, **following}

    def _comment(self, comment_id: str) -> tuple[Repository, comments.Stored]:
        found = comments.find(self.store.all(), comment_id)
        if found is None:
            raise error("CommentDoesNotExistException", f"Comment {comment_id[:100]!r} does not exist")
        return found


def _put(entry: Params) -> Edit:
    if "sourceFile" in entry:
        if "fileContent" in entry:
            raise error("FileContentAndSourceFileSpecifiedException", "Give either a source file or the content")
        raise AwsError("NotImplemented", "codecommit:CreateCommit with putFiles.sourceFile is not supported", 501)
    if "fileContent" not in entry:
        raise error("SourceFileOrContentRequiredException", f"{entry['filePath']} has no content")
    return Edit(rules.file_path(entry["filePath"]), entry["fileContent"], entry.get("fileMode", "NORMAL"))


def _check_tags(new: dict[str, str], old: Iterable[str]) -> None:
    rules.tags(list(new))
    if len({*new, *old}) > rules.MAX_TAGS:
        raise error("TooManyTagsException", f"A repository has at most {rules.MAX_TAGS} tags")
