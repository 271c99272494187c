"""The embedded AWS as one ASGI application on 127.0.0.1.

A request is routed by the service that its signature names: to our services,
or to ministack. What is not signed, or signed for a service that is not here,
is refused before anything reads its body.
"""

import asyncio
import json
import logging
import os
import re
import signal
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config

from helpers.local_aws import batch, seam
from helpers.local_aws.apis import EXECUTE_PATH, Apis, Gateway
from helpers.local_aws.asgi import Receive, Scope, Send, read_body, send_answer, send_error
from helpers.local_aws.cloudformation import CloudFormation
from helpers.local_aws.codebuild import REPORT_PATH, CodeBuild
from helpers.local_aws.codecommit import CodeCommit, GitHttp
from helpers.local_aws.containers import Containers, Slots
from helpers.local_aws.ec2 import Ec2
from helpers.local_aws.ec2.machines import Machines
from helpers.local_aws.ec2.service import CONTENT_TYPE as EC2_CONTENT
from helpers.local_aws.ecr import REGISTRY_PATH, Ecr, Registry
from helpers.local_aws.ecs import Ecs
from helpers.local_aws.lambdas import Functions
from helpers.local_aws.polls import until_left
from helpers.local_aws.prefork import Warm
from helpers.local_aws.rest import CONTENT_TYPE as REST_CONTENT
from helpers.local_aws.rest import RestService
from helpers.local_aws.sagemaker import SageMaker
from helpers.local_aws.states.jobs import JobTasks
from helpers.local_aws.wire import AwsError, Service, Site, dump, service_model

HEALTH_PATH = "/_embedded_aws/health"
GIT_PATH = "/v1/repos/"

EVENTS_SECONDS = 5  # in which what is under way with an event has to end, once no function runs any more

ADMIN_USER = "workshop-admin"
NOTEBOOK_ROLE = "AmazonSageMaker-ExecutionRole-workshop"
NOTEBOOK_ROLE_PATH = "/service-role/"

# What a request to each service looks like. ministack routes some paths and hosts, and every
# X-Amz-Target, before it looks at a signature: a request of another form never gets that far.
JSON_MODELS = {"states": "stepfunctions", "logs": "logs", "events": "events"} | {
    name: name for name in ("codebuild", "codecommit", "sagemaker", "dynamodb", "ecr", "ecs", "sqs", "ssm")
}
PATHS = {
    "s3": re.compile(r"/(?!health$|logout$|oauth2/|iceberg|v20180820/)([a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?)?", re.S),
    "lambda": re.compile(r"/20\d\d-\d\d-\d\d/(?!microvm|network-connectors).*", re.S),
    "apigateway": re.compile(r"/v2/.*", re.S),
    "batch": re.compile(r"/v1/([a-z]+|tags/.+)", re.S),
}
ONLY_ONCE = (b"authorization", b"host", b"x-amz-target")


logger = logging.getLogger(__name__)


class EmbeddedAws:
    """The ASGI application: our services in front, ministack behind."""

    def __init__(self, site: Site, admin_key: tuple[str, str], warm: Warm) -> None:
        """Start every service. ``admin_key``: access key id and secret of the administrator."""
        self._site, self._admin_key = site, admin_key
        self._loop = asyncio.get_running_loop()
        self.seam = seam.Seam(site)
        slots = Slots()
        self._containers = Containers(site, warm.jobs, self._request_of_host, slots)
        ecr = Ecr(site)
        self._sagemaker = SageMaker(
            site,
            lambda role, session: self.seam.identity.assume(role, "sagemaker.amazonaws.com", session),
            lambda role, needed: self.seam.identity.role_caller(role, "sagemaker.amazonaws.com", "SageMaker").require(
                *needed
            ),
            host_requests=self._request_of_host,
            forkserver=warm.jobs,
            slots=slots,
            built=ecr.images,
        )
        self._functions = Functions(site.state_dir / "lambda", site.endpoint_url, zygote=warm.functions)
        codecommit = CodeCommit(
            site, lambda arn, event, source: self.seam.invoke_for("codecommit.amazonaws.com", arn, event, source)
        )
        self._ec2 = Ec2(
            site,
            lambda ended: Machines(
                site,
                warm.jobs,
                lambda role, instance: self.seam.identity.assume(role, "ec2.amazonaws.com", instance),
                ended,
            ),
            self.seam.instance_profiles.find,
        )
        stack_credentials = self.seam.stack_credentials
        self._cloudformation = CloudFormation(site, stack_credentials.of_role, stack_credentials.of_key)
        apis = Apis(site, lambda api: f"{site.endpoint_url}{EXECUTE_PATH}{api}")
        self._gateway = Gateway(site, apis.records, self.seam.api_calls)
        self._ecs = Ecs(
            site,
            lambda role, session: self.seam.identity.assume(role, "ecs-tasks.amazonaws.com", session),
            lambda role, needed: self.seam.identity.role_caller(role, "ecs-tasks.amazonaws.com", "ECS").require(
                *needed
            ),
            containers=self._containers,
            images=ecr.images,
            networks=self._ec2,
            linked_roles=self.seam.linked_roles,
        )
        self._batch = batch.Batch(
            site,
            batch.Around(
                containers=self._containers,
                images=ecr.images,
                networks=self._ec2,
                linked_roles=self.seam.linked_roles,
                assume=lambda role, session: self.seam.identity.assume(role, "ecs-tasks.amazonaws.com", session),
                require=lambda role, needed: self.seam.identity.role_caller(
                    role, "ecs-tasks.amazonaws.com", "ECS"
                ).require(*needed),
                try_service_role=lambda role: self.seam.identity.assume(role, batch.PRINCIPAL, "aws-batch"),
                make_log_group=self.seam.log_groups.ensure,
            ),
        )
        self._codebuild = CodeBuild(
            site,
            lambda role, session: self.seam.identity.assume(role, "codebuild.amazonaws.com", session),
            self._containers,
        )
        self._services: dict[str, Service] = {
            "apigateway": apis,
            "batch": self._batch,
            "codebuild": self._codebuild,
            "codecommit": codecommit,
            "ecr": ecr,
            "ecs": self._ecs,
            "sagemaker": self._sagemaker,
            "cloudformation": self._cloudformation,
        }
        self._git, self._registry = GitHttp(codecommit, self.seam.identity.credential), Registry(ecr)
        self.seam.install(self._functions, JobTasks(self._services))
        self._hosts = {site.endpoint_url.removeprefix("http://"), f"localhost:{site.endpoint_url.rpartition(':')[2]}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event, as ASGI defines it."""
        if scope["type"] == "lifespan":
            await self.seam.asgi(scope, receive, self._after_startup(send))
        elif scope["type"] == "http":
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            try:
                await self._route(scope, headers, receive, send)
            except AwsError as error:
                await send_error(send, error, headers)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def warm_up(self) -> None:
        """Let the processes of jobs and functions load what these need: what a start does not have to wait for.

        And deliver the events that the last stop left waiting.
        """
        self.seam.events.start()
        self._sagemaker.warm_up()
        self._functions.warm_up()

    def close(self) -> None:
        """End every job and function. Nothing of theirs outlives this call."""
        self._gateway.close()
        self._cloudformation.close()
        self.seam.close()
        self.seam.events.stop()
        self._ec2.close()
        self._ecs.close()
        self._batch.close()
        self._containers.close()
        self._sagemaker.close()
        self._functions.close()
        self.seam.events.join(EVENTS_SECONDS)

    def _request_of_host(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Serve the request of a job's host, from another thread, as one over TCP. Returns status and body."""
        return asyncio.run_coroutine_threadsafe(self._request(method, target, headers, body), self._loop).result()

    async def _request(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        raw_path, _, query = target.partition("?")
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(raw_path),
            "raw_path": raw_path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [*pairs, (b"content-length", str(len(body)).encode())],
            "client": ("127.0.0.1", 0),
        }
        answer: dict[str, Any] = {}
        parts: list[bytes] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            answer.update(message)
            parts.append(message.get("body", b""))

        await self(scope, receive, send)
        return answer["status"], parts[-1] if len(parts) == 2 else b"".join(parts)

    async def _route(self, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send) -> None:
        sent = [name.lower() for name, _ in scope["headers"]]
        if any(sent.count(name) > 1 for name in ONLY_ONCE):
            raise AwsError("BadRequest", "a header that decides who is asked, or by whom, was sent twice")
        if headers.get("host") not in self._hosts:
            # A foreign Host means a page in a browser (DNS rebinding) or ministack's host-based routes.
            raise AwsError("AccessDenied", f"the host {headers.get('host')!r} is not served here", 403)
        if scope["path"] == HEALTH_PATH:
            await send_answer(send, 200, b'{"status":"ready"}')
        elif scope["path"].startswith(GIT_PATH):
            await self._git(scope, receive, send)
        elif scope["raw_path"].startswith(EXECUTE_PATH.encode()):
            await self._gateway(scope, receive, send)
        elif scope["path"].startswith(REPORT_PATH):
            body = await read_body(receive)
            said = await asyncio.to_thread(self._codebuild.report, scope["path"], scope["method"], body)
            await send_answer(send, 200, said)
        elif scope["path"].startswith(REGISTRY_PATH) and not headers.get("authorization", "").startswith("AWS4-"):
            await self._registry(scope, receive, send)
        else:
            service = signing_service(headers, scope["query_string"].decode("latin-1"))
            if service not in (*self._services, *seam.SERVICES, "ec2"):
                raise AwsError("NotImplemented", f"the embedded AWS does not have the service {service!r}", 501)
            require_form(service, scope, headers)
            if service in self._services:
                await self._serve(self._services[service], scope, headers, receive, send)
            elif service == "ec2":
                await self._serve_ec2(scope, headers, receive, send)
            elif headers.get("x-amz-target", "").endswith(".GetActivityTask"):
                await until_left(self.seam.asgi, scope, receive, send)
            else:
                await self.seam.asgi(scope, receive, send)

    async def _serve(
        self, service: Service, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send
    ) -> None:
        require_region(headers, self._site.region)
        body = await read_body(receive)
        caller = self.seam.identity.authenticate(scope, body)
        target = headers.get("x-amz-target", "")
        if service is self._cloudformation:
            key = headers["authorization"].partition("Credential=")[2].partition("/")[0]
            await send_answer(send, 200, await self._cloudformation.answer_in_pool(body, caller, key), kind="text/xml")
        elif isinstance(service, RestService):
            sent = scope["method"], scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
            status, answer = await asyncio.to_thread(service.answer_rest, *sent, body, caller)
            await send_answer(send, status, answer, kind=REST_CONTENT)
        else:
            await send_answer(send, 200, dump(await asyncio.to_thread(service.answer, target, body, caller)))

    async def _serve_ec2(self, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send) -> None:
        require_region(headers, self._site.region)
        body = await read_body(receive)
        try:
            caller = self.seam.identity.authenticate(scope, body)
        except AwsError as error:
            said = f"AWS was not able to validate the provided access credentials ({error.message})"
            raise AwsError("AuthFailure", said, 401) from error
        await send_answer(send, 200, await asyncio.to_thread(self._ec2.answer, body, caller), kind=EC2_CONTENT)

    def _after_startup(self, send: Send) -> Send:
        async def send_after(message: dict[str, Any]) -> None:
            if message["type"] == "lifespan.startup.complete":
                await self._make_principals()
                self._sagemaker.resume()
                self._ecs.resume()
                self._batch.resume()
                self.seam.resume()
            await send(message)

        return send_after

    async def _make_principals(self) -> None:
        """Make the administrator and the notebook's role, which an AWS account with Studio has from the start."""
        key, secret = self._admin_key
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {
                        "Service": "sagemaker.amazonaws.com",
                        "AWS": f"arn:aws:iam::{self._site.account_id}:user/{ADMIN_USER}",
                    },
                    "Action": "sts:AssumeRole",
                }
            ],
        }
        policy = "arn:aws:iam::aws:policy/"
        for action, parameters in (
            ("CreateUser", {"UserName": ADMIN_USER}),
            ("AttachUserPolicy", {"UserName": ADMIN_USER, "PolicyArn": f"{policy}AdministratorAccess"}),
            (
                "CreateRole",
                {
                    "RoleName": NOTEBOOK_ROLE,
                    "Path": NOTEBOOK_ROLE_PATH,
                    "MaxSessionDuration": 43200,
                    "AssumeRolePolicyDocument": json.dumps(trust),
                },
            ),
            ("AttachRolePolicy", {"RoleName": NOTEBOOK_ROLE, "PolicyArn": f"{policy}IAMFullAccess"}),
        ):
            await self.seam.bootstrap_call("iam", urlencode({"Action": action, **parameters}))
        self.seam.identity.add_access_key(ADMIN_USER, key, secret)


def signing_service(headers: Mapping[str, str], query_string: str) -> str:
    """Return the service that a SigV4 signature is scoped to. Raises AwsError when there is none.

    Only S3 takes a signature in the query (presigned URLs).
    """
    query = parse_qs(query_string)
    in_query = "X-Amz-Credential" in query or "AWSAccessKeyId" in query
    if in_query and "authorization" in headers:
        raise AwsError("InvalidArgument", "Only one auth mechanism allowed")
    found = re.match(
        r"AWS4-HMAC-SHA256 Credential=[^/,]+/\d{8}/[^/,]+/([^/,]+)/aws4_request\b", headers.get("authorization", "")
    )
    if found:
        return found[1]
    scope = query.get("X-Amz-Credential", [""])[0].split("/")
    if "X-Amz-Signature" in query and len(scope) == 5 and scope[3] == "s3":
        return "s3"
    if "AWSAccessKeyId" in query:
        # What S3 says of signature version 2, which it takes for no bucket made since June 2020.
        raise AwsError(
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256"
            " (boto3: Config(signature_version='s3v4')).",
        )
    raise AwsError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)


def require_form(service: str, scope: Scope, headers: Mapping[str, str]) -> None:
    """Raise AwsError unless a request has the path, method and target that ``service`` takes."""
    method, path, target = scope["method"], scope["path"], headers.get("x-amz-target")
    if service in PATHS:
        fits = PATHS[service].fullmatch(path) and target is None and method != "OPTIONS"
    else:
        # Parameters in the query besides those in the body would leave open which of them IAM is asked about.
        fits = path == "/" and method == "POST" and not scope["query_string"]
        if service in JSON_MODELS:
            prefix = service_model(JSON_MODELS[service]).metadata["targetPrefix"]
            fits = fits and target is not None and target.rpartition(".")[0] == prefix
        else:
            fits = fits and target is None
    if not fits:
        what = f"{method} {path}" + (f" with target {target}" if target else "")
        raise AwsError("UnknownOperationException", f"{service} has no operation at {what}", 404)


def require_region(headers: Mapping[str, str], region: str) -> None:
    """Raise AwsError for a signature of another region: there its client would find other resources, on AWS."""
    found = re.match(r"AWS4-HMAC-SHA256 Credential=[^/,]+/\d{8}/([^/,]+)/", headers["authorization"])
    if found is None or found[1] != region:
        raise AwsError("InvalidSignatureException", "Credential should be scoped to a valid region.", 403)


async def serve(site: Site, admin_key: tuple[str, str], warm: Warm, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; ``ready`` is called once requests are answered."""
    application = EmbeddedAws(site, admin_key, warm)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    config = Config()
    config.bind = [site.endpoint_url.removeprefix("http://")]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 0.5
    config.shutdown_timeout = 10
    config.loglevel = "WARNING"

    async def until_stopped() -> None:
        ready()
        application.warm_up()
        await stopping.wait()
        await asyncio.to_thread(application.close)

    await hypercorn_serve(application, config, shutdown_trigger=until_stopped)  # type: ignore[arg-type]


def log_to_stderr() -> None:
    """Send the server's log to standard error, where ``start`` points at the log file."""
    logging.basicConfig(
        level=os.environ.get("LOG_LEVEL", "WARNING"),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        force=True,
    )
