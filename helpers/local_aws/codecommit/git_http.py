"""git's smart HTTP for the repositories, as an ASGI application around `git http-backend`."""

import asyncio
import logging
import os
import re
import zlib
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from helpers.local_aws.codecommit.commits import RefChange
from helpers.local_aws.codecommit.git_credentials import Verify, authenticate
from helpers.local_aws.codecommit.git_protocol import accepted, read_commands
from helpers.local_aws.codecommit.service import CodeCommit
from helpers.local_aws.codecommit.store import Repository
from helpers.local_aws.wire import AwsError, Caller, Permission

log = logging.getLogger(__name__)

Message = dict[str, Any]
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PREFIX = "/v1/repos/"
_PATH = re.compile(PREFIX + r"([A-Za-z0-9_.-]{1,100})/(info/refs|git-upload-pack|git-receive-pack)")
_CHUNK = 64 * 1024


@dataclass(frozen=True)
class _Request:
    """A request of one of the four forms that git's smart protocol has."""

    name: str
    service: str  # git-upload-pack or git-receive-pack
    posts: bool
    headers: Mapping[str, str]

    @property
    def pushes(self) -> bool:
        return self.service == "git-receive-pack"


class GitHttp:
    """Serves clone, fetch and push under ``PREFIX`` to callers that sign and may ``codecommit:GitPull`` or ``GitPush``.

    ``verify(access_key_id, session_token)`` returns the secret key and the caller.
    """

    def __init__(self, service: CodeCommit, verify: Verify) -> None:
        self.service, self.verify = service, verify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        body = _Body(receive)
        try:
            request = _read(scope)
            caller, repository = await asyncio.to_thread(self._admit, request)
            body.encoding = request.headers.get("content-encoding", "")
            head, changes = b"", list[RefChange]()
            if request.pushes and request.posts:
                head, changes = await read_commands(body.chunks)
                await asyncio.to_thread(self._admit_changes, request, caller, changes)
        except AwsError as problem:
            await body.drain()
            await _refuse(send, problem)
            return
        await self._run(request, repository, caller, head, body, changes, send)

    def _admit(self, request: _Request) -> tuple[Caller, Repository]:
        site, headers = self.service.site, request.headers
        path = f"{PREFIX}{request.name}"
        authorization = headers.get("authorization", "")
        caller = authenticate(authorization, headers.get("host", ""), path, site.region, self.verify)
        action = "codecommit:GitPush" if request.pushes else "codecommit:GitPull"
        caller.require(Permission(action, site.arn("codecommit", request.name)))
        repository = self.service.store.find(request.name)
        if repository is None:
            raise AwsError("RepositoryDoesNotExistException", f"repository {request.name} not found", 404)
        return caller, repository

    def _admit_changes(self, request: _Request, caller: Caller, changes: list[RefChange]) -> None:
        """Ask again for each reference: policies may limit pushes to branches by codecommit:References."""
        arn = self.service.site.arn("codecommit", request.name)
        for change in changes:
            caller.require(Permission("codecommit:GitPush", arn, {"codecommit:References": change.ref}))

    async def _run(
        self,
        request: _Request,
        repository: Repository,
        caller: Caller,
        head: bytes,
        body: "_Body",
        changes: list[RefChange],
        send: Send,
    ) -> None:
        process = await asyncio.create_subprocess_exec(
            "git", "http-backend", stdin=PIPE, stdout=PIPE, stderr=PIPE, env=self._environment(request, repository)
        )
        assert process.stdout
        assert process.stderr
        feeding = asyncio.create_task(_feed(process, head, body))
        complaints = asyncio.create_task(process.stderr.read())
        try:
            await send(await _response_start(process.stdout))
            report = bytearray()
            while chunk := await process.stdout.read(_CHUNK):
                if changes:
                    report += chunk
                if not body.client_gone:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                elif not changes:
                    return  # nobody reads this clone any more; a push is carried to its end
            await process.wait()
            if changes:  # before the answer ends: when `git push` returns, its triggers have been sent
                await asyncio.to_thread(self._pushed, repository, caller, changes, bytes(report))
            await send({"type": "http.response.body", "body": b""})
        finally:
            feeding.cancel()
            if process.returncode is None:
                process.terminate()
                await process.wait()
            if text := (await complaints).strip():
                log.warning("git http-backend for %s: %s", request.name, text.decode(errors="replace"))

    def _pushed(self, repository: Repository, caller: Caller, changes: list[RefChange], report: bytes) -> None:
        try:
            done = accepted(report)
            self.service.refs_changed(repository, [c for c in changes if c.ref in done and c.old != c.new], caller)
        except AwsError as problem:  # the push has happened: the answer must say so
            log.error("after the push to %s: %s", repository.name, problem)

    def _environment(self, request: _Request, repository: Repository) -> dict[str, str]:
        """Return all that git sees: nothing of ours but PATH, and configuration from the state folder only."""
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.service.store.home),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_PROJECT_ROOT": str(repository.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_ADDR": "127.0.0.1",
            "REQUEST_METHOD": "POST" if request.posts else "GET",
            "PATH_INFO": f"/git/{request.service}" if request.posts else "/git/info/refs",
            "QUERY_STRING": "" if request.posts else f"service={request.service}",
        }
        if request.posts:
            environment["CONTENT_TYPE"] = f"application/x-{request.service}-request"
        if re.fullmatch(r"version=[0-2]", request.headers.get("git-protocol", "")):
            environment["GIT_PROTOCOL"] = request.headers["git-protocol"]
        return environment


def _read(scope: Scope) -> _Request:
    """Return the request, or raise AwsError for anything that git's smart protocol does not have."""
    match = _PATH.fullmatch(scope["path"])
    if match is None:
        raise AwsError("NotFound", "not found", 404)
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    name, action = match.groups()
    posts = action != "info/refs"
    if scope["method"] != ("POST" if posts else "GET"):
        raise AwsError("MethodNotAllowed", "method not allowed", 405)
    service = action if posts else parse_qs(scope["query_string"].decode("latin-1")).get("service", [""])[0]
    if service not in ("git-upload-pack", "git-receive-pack"):
        raise AwsError("AccessDenied", "only git's smart HTTP protocol is served", 403)
    if posts and headers.get("content-type") != f"application/x-{service}-request":
        raise AwsError("UnsupportedMediaType", "unsupported content type", 415)
    return _Request(name, service, posts, headers)


class _Body:
    """The body of one request, read piece by piece.

    ``chunks`` is one iterator for everybody: the push's commands come off it first, then git gets the rest.
    """

    def __init__(self, receive: Receive) -> None:
        self.receive, self.encoding = receive, ""
        self.chunks = self._chunks()
        self.complete = self.client_gone = False
        self._inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)

    async def _chunks(self) -> AsyncIterator[bytes]:
        """Yield what is left, inflated. It ends early when the client goes away: git refuses half a pack."""
        while not self.complete:
            chunk = await self._next()
            if self.encoding not in ("gzip", "x-gzip"):
                if chunk:
                    yield chunk
                continue
            plain = self._inflate(chunk)
            while plain:  # in bounded pieces: a small body may inflate to a huge one
                yield plain
                plain = self._inflate(self._inflater.unconsumed_tail)

    async def drain(self) -> None:
        """Read the rest: a client that still sends would miss the answer, and its connection would stay."""
        while not self.complete:
            await self._next()

    async def wait_until_gone(self) -> None:
        """Return when the client has closed its connection."""
        while not self.client_gone:
            await self._next()

    def _inflate(self, data: bytes) -> bytes:
        try:
            return self._inflater.decompress(data, _CHUNK)
        except zlib.error as problem:
            raise AwsError("BadRequest", f"the body is not gzip: {problem}", 400) from None

    async def _next(self) -> bytes:
        message = await self.receive()
        self.client_gone = message["type"] == "http.disconnect"
        self.complete = self.client_gone or not message.get("more_body", False)
        return message.get("body", b"")


async def _feed(process: Process, head: bytes, body: _Body) -> None:
    """Pass the body to git, no faster than git reads it; then watch the client."""
    assert process.stdin
    try:
        process.stdin.write(head)
        async for chunk in body.chunks:
            process.stdin.write(chunk)
            await process.stdin.drain()
    except (ConnectionError, AwsError) as problem:  # git stopped reading, or the body is broken: git reports it
        log.debug("the request body ended early: %s", problem)
    finally:
        process.stdin.close()
    await body.wait_until_gone()


async def _response_start(output: asyncio.StreamReader) -> Message:
    """Read the CGI headers and return the start of the HTTP response."""
    status, headers = 200, []
    while line := (await output.readline()).rstrip(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"status":
            status = int(value.split()[0])
        else:
            headers.append((name.lower(), value.strip()))
    if not headers:  # git ended without an answer; what it complained about is logged
        status = 500
    return {"type": "http.response.start", "status": status, "headers": headers}


async def _refuse(send: Send, problem: AwsError) -> None:
    """Answer an error; git prints a text/plain body to its user."""
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    if problem.status == 401:
        headers.append((b"www-authenticate", b'Basic realm="CodeCommit"'))
    # IAM refuses with 400 on the AWS JSON protocol; git understands 403
    refused = problem.status == 400 and problem.code != "BadRequest"
    status = 403 if refused else problem.status
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{problem.message}\n".encode()})
