"""git over HTTP against CodeCommit alone: stock git and the AWS CLI's credential helper, on a small server."""

import asyncio
import base64
import datetime as dt
import gzip
import http.client
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config

from helpers.local_aws.codecommit import CodeCommit, GitHttp
from helpers.local_aws.codecommit.git_credentials import sign
from helpers.local_aws.wire import AwsError, Caller, Permission, Site

REGION, ACCOUNT = "us-east-1", "123456789012"
KEY, SECRET, TOKEN = "AKIDEXAMPLE", "example-secret", "session/token+with=signs"
USER = f"arn:aws:sts::{ACCOUNT}:assumed-role/notebook/session"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:dispatcher"
HELPER = f"!{Path(sys.executable).with_name('aws')} codecommit credential-helper --ignore-host-check $@"


class Server:
    """CodeCommit and its git front on a port of their own, for one caller."""

    def __init__(self, folder: Path) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.folder = folder
        self.denied: Callable[[Permission], bool] = lambda permission: False
        self.events: list[dict[str, Any]] = []
        site = Site(folder / "state", f"http://127.0.0.1:{self.port}", REGION, ACCOUNT)
        self.service = CodeCommit(site, lambda function, event, source: self.events.append(event))
        self.caller = Caller(USER, self._decide)
        self.call("CreateRepository", repositoryName="repo")
        self.url = f"{site.endpoint_url}/v1/repos/repo"
        config = Config()
        config.bind = [f"fd://{listener.detach()}"]
        config.accesslog = config.errorlog = None
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        app = GitHttp(self.service, self._verify)

        async def asgi(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await app(scope, receive, send)

        async def run() -> None:
            await serve(asgi, config, shutdown_trigger=self._stop.wait)

        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(run(),))
        self._thread.start()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def _decide(self, permission: Permission) -> None:
        if self.denied(permission):
            raise AwsError("AccessDeniedException", f"{USER} is not authorized to perform: {permission.action}")

    def _verify(self, access_key_id: str, session_token: str) -> tuple[str, Caller]:
        if (access_key_id, session_token) != (KEY, TOKEN):
            raise AwsError("UnrecognizedClientException", "The security token included in the request is invalid", 403)
        return SECRET, self.caller

    def call(self, operation: str, **params: Any) -> dict[str, Any]:
        return self.service.call(operation, params, self.caller)

    def watch(self, **more: Any) -> None:
        trigger = {"name": "push", "destinationArn": FUNCTION, "branches": [], "events": ["all"], **more}
        self.call("PutRepositoryTriggers", repositoryName="repo", triggers=[trigger])

    def references(self) -> list[list[dict[str, Any]]]:
        found = [event["Records"][0]["codecommit"]["references"] for event in self.events]
        self.events.clear()
        return found

    def git(
        self,
        *arguments: str,
        cwd: Path | None = None,
        fails: bool | None = False,
        helper: bool = False,
        **environment: str,
    ) -> str:
        """Run stock git and return what it prints.

        It signs with the AWS CLI's credential helper, which is slow to start, or with a header that is made likewise.
        """
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "GIT_CONFIG_NOSYSTEM": "1"}
        env |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}
        env |= {"AWS_DEFAULT_REGION": REGION, "GIT_TERMINAL_PROMPT": "0", **environment}
        settings = ["-c", f"http.extraHeader=Authorization: {self.signed()}"]
        if helper:
            settings = ["-c", f"credential.helper={HELPER}", "-c", "credential.UseHttpPath=true"]
        settings += ["-c", "user.name=Ana", "-c", "user.email=ana@example.com", "-c", "init.defaultBranch=main"]
        done = subprocess.run(
            ["git", *settings, *arguments], cwd=cwd or self.folder, env=env, capture_output=True, text=True, check=False
        )
        assert fails is None or (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def work_tree(self, **files: str) -> Path:
        """Return a new local repository with one commit of ``files`` and the server as origin."""
        folder = self.folder / "work"
        self.git("init", "-q", str(folder))
        self.git("remote", "add", "origin", self.url, cwd=folder)
        return self.write(folder, **(files or {"a": "1"}))

    def write(self, folder: Path, **files: str) -> Path:
        for name, text in files.items():
            (folder / name).write_text(text)
        self.git("add", "-A", cwd=folder)
        self.git("commit", "-qm", "change", cwd=folder)
        return folder

    def head(self, folder: Path, revision: str = "HEAD") -> str:
        return self.git("rev-parse", revision, cwd=folder).strip()

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str]]:
        """Send one HTTP request (underscores in header names stand for dashes); return status and headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=180)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): v for name, v in headers.items()})
            response = connection.getresponse()
            response.read()
            return response.status, {name.lower(): value for name, value in response.getheaders()}
        finally:
            connection.close()

    def signed(self, secret: str = SECRET, *, age: dt.timedelta = dt.timedelta(), path: str = "/v1/repos/repo") -> str:
        """Return an Authorization header as the credential helper makes it."""
        stamp = (dt.datetime.now(dt.UTC) - age).strftime("%Y%m%dT%H%M%S")
        password = f"{stamp}Z{sign(secret, stamp, f'127.0.0.1:{self.port}', path, REGION)}"
        return "Basic " + base64.b64encode(f"{KEY}%{TOKEN}:{password}".encode()).decode()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    yield running
    running.close()


REFS = "/v1/repos/repo/info/refs?service=git-upload-pack"


# --- clone, fetch, push ---


def test_a_push_arrives_and_can_be_cloned_fetched_and_read_through_the_api(server: Server) -> None:
    server.watch()
    work = server.work_tree(a="1")
    server.git("push", "-q", "origin", "main", cwd=work, helper=True)
    assert server.call("GetFile", repositoryName="repo", filePath="a")["fileContent"] == b"1"
    server.git("clone", "-q", server.url, "clone", helper=True)
    first = server.head(work)
    assert server.head(server.folder / "clone") == first
    made = server.call(
        "PutFile", repositoryName="repo", branchName="main", filePath="b", fileContent=b"2", parentCommitId=first
    )
    server.git("pull", "-q", "--ff-only", "origin", "main", cwd=work)
    assert (work / "b").read_text() == "2"
    assert server.head(work) == made["commitId"]
    assert server.references() == [
        [{"commit": first, "ref": "refs/heads/main", "created": True}],
        [{"commit": made["commitId"], "ref": "refs/heads/main"}],
    ]


def test_an_empty_repository_can_be_cloned(server: Server) -> None:
    assert "empty repository" in server.git("clone", server.url, "clone")


def test_one_push_of_several_references_is_one_event(server: Server) -> None:
    server.watch()
    work = server.work_tree()
    server.git("branch", "dev", cwd=work)
    server.git("tag", "-a", "v1", "-m", "release", cwd=work)
    server.git("push", "-q", "origin", "main", "dev", "v1", cwd=work)
    [references] = server.references()
    assert {r["ref"] for r in references} == {"refs/heads/main", "refs/heads/dev", "refs/tags/v1"}
    assert all(r["created"] for r in references)
    server.git("push", "-q", "origin", ":dev", cwd=work)
    assert server.references() == [[{"commit": server.head(work), "ref": "refs/heads/dev", "deleted": True}]]
    release = server.call("GetFile", repositoryName="repo", filePath="a", commitSpecifier="v1")
    assert release["commitId"] == server.head(work)


def test_only_references_that_git_accepted_fire(server: Server) -> None:
    work = server.work_tree()
    server.git("push", "-q", "origin", "main", cwd=work)
    behind = server.head(work)
    server.write(work, a="2")
    server.git("push", "-q", "origin", "main", cwd=work)
    server.watch()
    server.git("reset", "-q", "--hard", behind, cwd=work)
    server.write(work, a="3")
    told = server.git("push", "origin", "main", "main:dev", cwd=work, fails=True)
    assert "non-fast-forward" in told
    assert server.references() == [[{"commit": server.head(work), "ref": "refs/heads/dev", "created": True}]]
    # CodeCommit allows a forced push, and keeps its default branch
    server.git("push", "-qf", "origin", "main", cwd=work)
    assert server.references() == [[{"commit": server.head(work), "ref": "refs/heads/main"}]]
    server.git("push", "origin", ":main", cwd=work, fails=True)
    assert server.references() == []


def test_the_first_branch_pushed_becomes_the_default_one(server: Server) -> None:
    work = server.work_tree()
    server.git("push", "-q", "origin", "main:trunk", cwd=work)
    metadata = server.call("GetRepository", repositoryName="repo")["repositoryMetadata"]
    assert metadata["defaultBranch"] == "trunk"
    server.git("clone", "-q", server.url, "clone")
    assert server.git("branch", "--show-current", cwd=server.folder / "clone").strip() == "trunk"


def test_a_large_push_is_chunked_and_arrives_whole(server: Server) -> None:
    work = server.work_tree()
    big = os.urandom(3 * 2**20)
    (work / "big").write_bytes(big)
    server.write(work, a="2")
    server.git("-c", "http.postBuffer=65536", "push", "-q", "origin", "main", cwd=work)
    assert server.call("GetFile", repositoryName="repo", filePath="big")["fileContent"] == big
    server.git("clone", "-q", server.url, "clone")
    assert (server.folder / "clone" / "big").read_bytes() == big


def test_a_compressed_negotiation_is_understood(server: Server) -> None:
    work = server.work_tree()
    server.git("push", "-q", "origin", "main", cwd=work)
    server.git("clone", "-q", server.url, "clone")
    clone = server.folder / "clone"
    for number in range(40):  # newer than what both have: enough "have" lines for git to compress its request
        date = f"2099-01-01T00:00:{number:02}Z"
        server.git("commit", "-q", "--allow-empty", "-m", f"local {number}", cwd=clone, GIT_COMMITTER_DATE=date)
    server.write(work, a="2")
    server.git("push", "-q", "origin", "main", cwd=work)
    trace = server.git("fetch", "origin", cwd=clone, GIT_CURL_VERBOSE="1")
    assert "content-encoding: gzip" in trace.lower()
    assert server.head(clone, "origin/main") == server.head(work)


def test_a_compressed_push_is_inflated_whole(server: Server) -> None:
    work = server.work_tree()
    stored = ("-c", "core.compression=0")  # so that it is the transport's gzip that shrinks it
    (work / "zeros").write_bytes(bytes(500_000))
    server.git(*stored, "add", "-A", cwd=work)
    server.git("commit", "-qm", "zeros", cwd=work)
    server.git(*stored, "pack-objects", "-q", "--revs", "--all", "out", cwd=work)
    [pack] = work.glob("out-*.pack")
    command = f"{'0' * 40} {server.head(work)} refs/heads/main\0report-status".encode()
    body = gzip.compress(f"{len(command) + 4:04x}".encode() + command + b"0000" + pack.read_bytes())
    headers = {"Authorization": server.signed(), "Content_Type": "application/x-git-receive-pack-request"}
    assert len(body) < 10_000
    assert server.request("POST", "/v1/repos/repo/git-receive-pack", body, Content_Encoding="gzip", **headers)[0] == 200
    assert server.call("GetFile", repositoryName="repo", filePath="zeros")["fileSize"] == 500_000


def test_pushes_and_api_commits_at_once_lose_nothing(server: Server) -> None:
    work = server.work_tree()
    server.git("push", "-q", "origin", "main", cwd=work)
    server.watch()
    first = server.head(work)
    server.write(work, a="2")
    put = {"filePath": "b", "fileContent": b"2", "parentCommitId": first}
    outcome: list[str] = []

    def commit() -> None:
        try:
            outcome.append(server.call("PutFile", repositoryName="repo", branchName="main", **put)["commitId"])
        except AwsError as problem:
            outcome.append(problem.code)

    other = threading.Thread(target=commit)
    other.start()
    told = server.git("push", "origin", "main", cwd=work, fails=None)
    other.join()
    tip = server.call("GetBranch", repositoryName="repo", branchName="main")["branch"]["commitId"]
    lost = "rejected" in told
    assert lost or "main -> main" in told
    assert tip == (outcome[0] if lost else server.head(work))
    assert lost or outcome == ["ParentCommitIdOutdatedException"]
    assert server.references() == [[{"commit": tip, "ref": "refs/heads/main"}]]


def test_a_client_that_expects_to_be_told_to_continue_is_told(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=180) as client:
        head = f"POST /v1/repos/repo/git-receive-pack HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        head += f"Authorization: {server.signed()}\r\nContent-Type: application/x-git-receive-pack-request\r\n"
        client.sendall(f"{head}Expect: 100-continue\r\nContent-Length: 4\r\n\r\n".encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 100")
        client.sendall(b"0000")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")


def test_half_a_push_changes_nothing(server: Server) -> None:
    server.watch()
    command = f"{'0' * 40} {'1' * 40} refs/heads/main\0report-status".encode()
    body = f"{len(command) + 4:04x}".encode() + command + b"0000" + b"PACK"
    headers = {"Authorization": server.signed(), "Content_Type": "application/x-git-receive-pack-request"}
    assert server.request("POST", "/v1/repos/repo/git-receive-pack", body, **headers)[0] == 200
    assert server.call("ListBranches", repositoryName="repo")["branches"] == []
    assert server.references() == []


# --- who may ---


def test_without_credentials_the_server_asks_for_them(server: Server) -> None:
    status, headers = server.request("GET", REFS)
    assert status == 401
    assert headers["www-authenticate"].startswith("Basic ")


def test_a_signature_must_be_right_and_recent(server: Server) -> None:
    minutes = dt.timedelta(minutes=1)
    assert server.request("GET", REFS, Authorization=server.signed())[0] == 200
    assert server.request("GET", REFS, Authorization=server.signed(age=14 * minutes))[0] == 200
    assert server.request("GET", REFS, Authorization=server.signed(age=16 * minutes))[0] == 403
    assert server.request("GET", REFS, Authorization=server.signed(age=-16 * minutes))[0] == 403
    assert server.request("GET", REFS, Authorization=server.signed(SECRET[::-1]))[0] == 403
    assert server.request("GET", REFS, Authorization=server.signed(path="/v1/repos/other"))[0] == 403
    for wrong in (f"{KEY}%{TOKEN}:20260101T000000Z{'0' * 64}", f"{KEY}:x", "who:20269999T000000Zzz"):
        basic = "Basic " + base64.b64encode(wrong.encode()).decode()
        assert server.request("GET", REFS, Authorization=basic)[0] == 403
    assert server.request("GET", REFS, Authorization="Basic ???")[0] == 401


def test_git_with_a_wrong_secret_is_refused(server: Server) -> None:
    told = server.git("ls-remote", server.url, fails=True, helper=True, AWS_SECRET_ACCESS_KEY=SECRET[::-1])
    assert "403" in told


def test_pull_and_push_are_separate_permissions(server: Server) -> None:
    work = server.work_tree()
    server.denied = lambda permission: permission.action == "codecommit:GitPush"
    assert "GitPush" in server.git("push", "origin", "main", cwd=work, fails=True)
    server.git("ls-remote", server.url)
    server.denied = lambda permission: permission.action == "codecommit:GitPull"
    server.git("push", "-q", "origin", "main", cwd=work)
    assert "GitPull" in server.git("clone", server.url, "clone", fails=True)


def test_a_policy_can_protect_a_branch(server: Server) -> None:
    work = server.work_tree()
    server.denied = lambda permission: permission.context.get("codecommit:References") == "refs/heads/main"
    server.git("push", "origin", "main", cwd=work, fails=True)
    server.git("push", "-q", "origin", "main:dev", cwd=work)
    assert server.call("ListBranches", repositoryName="repo")["branches"] == ["dev"]


# --- what is not served ---


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/repos/nope/info/refs?service=git-upload-pack", 404),
        ("GET", "/v1/repos/../info/refs?service=git-upload-pack", 404),
        ("GET", "/v1/repos/repo/HEAD", 404),
        ("GET", "/v1/repos/repo/objects/info/packs", 404),
        ("GET", "/v1/repos/repo/info/refs", 403),
        ("GET", "/v1/repos/repo/info/refs?service=git-upload-archive", 403),
        ("GET", "/v1/repos/repo/git-receive-pack", 405),
        ("POST", "/v1/repos/repo/git-upload-archive", 404),
        ("POST", "/v1/repos/repo/git-receive-pack", 415),
    ],
)
def test_nothing_but_the_smart_protocol_is_served(server: Server, method: str, path: str, status: int) -> None:
    name = path.split("/")[3]
    signed = server.signed(path=f"/v1/repos/{name}")
    assert server.request(method, path, b"" if method == "POST" else None, Authorization=signed)[0] == status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"zzzz",
        b"0003",
        b"00100000",
        b"0014not a command!!!0000",
        b"0072" + b"0" * 40 + b" " + b"1" * 40 + b" refs/heads/\xff\xfe\0 report-status0000",
        b"0020" + b"x" * 28 + b"0000",
        b"ffff" + b"x" * 9,
    ],
)
def test_a_broken_push_is_a_bad_request(server: Server, body: bytes) -> None:
    headers = {"Authorization": server.signed(), "Content_Type": "application/x-git-receive-pack-request"}
    assert server.request("POST", "/v1/repos/repo/git-receive-pack", body, **headers)[0] == 400
    packed = gzip.compress(body)
    assert (
        server.request("POST", "/v1/repos/repo/git-receive-pack", packed, Content_Encoding="gzip", **headers)[0] == 400
    )
    torn = server.request("POST", "/v1/repos/repo/git-receive-pack", b"junk", Content_Encoding="gzip", **headers)
    assert torn[0] == 400


def test_hooks_and_the_servers_environment_do_not_reach_git(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = server.work_tree()
    [folder] = (tmp_path / "state" / "codecommit" / "repositories").iterdir()
    hook = folder / "git" / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    forbid_pushes = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.receivepack", "GIT_CONFIG_VALUE_0": "false"}
    for name, value in forbid_pushes.items():
        monkeypatch.setenv(name, value)
    server.git("push", "-q", "origin", "main", cwd=work)
