"""Lambda: functions run in our workers, as their roles, and write their own logs."""

import contextlib
import contextvars
import json
import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from helpers.local_aws.lambdas import Functions, Invocation, Invocations, Outcome, Verdict
from helpers.local_aws.lambdas.invocations import LARGEST_EVENT, PER_FUNCTION
from helpers.local_aws.seam.guard import guarded, refusal
from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.seam.identity import Identity
from helpers.local_aws.wire import AwsError, Permission, Site

FUNCTION_SESSION_SECONDS = 6 * 3600  # half of what a session lasts
# They name a source's ARN but not its account: a condition on aws:SourceAccount keeps them out.
_WITHOUT_SOURCE_ACCOUNT = ("events.amazonaws.com", "apigateway.amazonaws.com")

logger = logging.getLogger(__name__)


class FunctionHooks:
    """What differs from ministack's Lambda."""

    def __init__(self, site: Site, ministack: Ministack, identity: Identity) -> None:
        self._site, self._ministack, self._identity = site, ministack, identity
        self._sessions: dict[tuple[str, str], tuple[float, dict[str, str]]] = {}
        self._sessions_lock = threading.Lock()
        self._event_id: contextvars.ContextVar[str] = contextvars.ContextVar("event_id", default="")
        self.queue = Invocations(site.state_dir / "lambda" / "events", self._attempt, at_once=self._at_once)

    def install(self, functions: Functions) -> None:
        """Run functions in our workers, and check what AWS checks when one is made or invoked."""
        lambdas = self._ministack.functions

        def dispatch(func: dict, config: dict, event: Any, new_id: str, started: float) -> dict:
            # In place of all of ministack's ways to run a function: some forward events to any URL or invent an answer.
            event_id = self._event_id.get() or new_id
            try:
                credentials = self._function_session(config)
                outcome = functions.invoke(
                    config, func.get("code_zip") or b"", event, credentials=credentials, request_id=event_id
                )
            except AwsError as error:
                refused = {"errorType": error.code, "errorMessage": error.message}
                return {"body": refused, "error": True, "log": str(error)}
            lines = _log_lines(config, outcome, event_id)
            self._write_log(config, outcome.stream, lines)
            body: Any = outcome.payload  # a function may answer with bytes that are not JSON
            with contextlib.suppress(ValueError):
                body = json.loads(body)
            return {"body": body, "error": outcome.error, "log": "\n".join(lines)}

        lambdas._execute_function_dispatch = dispatch
        lambdas._create_function = guarded(self._check_creation, lambdas._create_function)
        lambdas._update_code = guarded(self._check_code, lambdas._update_code, position=1)
        lambdas._update_config = guarded(self._check_settings, lambdas._update_config, position=1)
        self._install_invocations()

    def _install_invocations(self) -> None:
        """Put asynchronous events into the queue, and let an invocation have one id for all who see it."""
        lambdas, app = self._ministack.functions, self._ministack.app
        invoke, serve = lambdas._invoke, app._dispatch_service_request
        request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")

        def enqueue(func: dict, event: Any) -> None:
            # In place of a thread for each event, which a stop would end for good.
            body = _body(event)
            if len(body) > LARGEST_EVENT:
                text = f"{len(body)} byte payload is too large for the Event invocation type"
                raise AwsError("RequestTooLargeException", f"{text} (limit {LARGEST_EVENT} bytes)", 413)
            self.queue.put((func.get("config") or func)["FunctionArn"], body, self._event_id.get())

        async def serve_with_id(*request: Any) -> tuple:
            request_id.set(request[-1])
            return await serve(*request)

        async def invoke_under_one_id(*request: Any) -> tuple:
            # The id that the caller gets is the one that the function sees and its log has.
            self._event_id.set(request_id.get())
            try:
                return await invoke(*request)
            except AwsError as error:
                return refusal(error)

        lambdas.invoke_async_with_retry, lambdas._invoke = enqueue, invoke_under_one_id
        app._dispatch_service_request = serve_with_id

    def _check_creation(self, data: dict) -> None:
        self._check_settings(data)
        self._check_code(data.get("Code") or {})
        if data.get("Tags"):
            arn = self._site.arn("lambda", f"function:{data.get('FunctionName')}")
            self._identity.require_of_requester(Permission("lambda:TagResource", arn))

    def _check_code(self, code: dict) -> None:
        """Lambda fetches a package as whoever names it."""
        if code.get("S3Bucket") and code.get("S3Key"):
            action = "s3:GetObjectVersion" if code.get("S3ObjectVersion") else "s3:GetObject"
            self._identity.require_of_requester(Permission(action, f"arn:aws:s3:::{code['S3Bucket']}/{code['S3Key']}"))

    def _check_settings(self, data: dict) -> None:
        if (data.get("DeadLetterConfig") or {}).get("TargetArn"):
            text = "the embedded AWS does not support lambda functions with a DeadLetterConfig"
            raise AwsError("NotImplemented", text, 501)
        role_arn = data.get("Role")
        if role_arn is None:
            return
        self._identity.require_of_requester(
            Permission("iam:PassRole", role_arn, {"iam:PassedToService": "lambda.amazonaws.com"})
        )
        if not self._identity.trusts(role_arn, "lambda.amazonaws.com"):
            message = "The role defined for the function cannot be assumed by Lambda."
            raise AwsError("InvalidParameterValueException", message)

    def invoke_for(self, principal: str, function_arn: str, event: dict, source_arn: str) -> None:
        """Invoke a function asynchronously on behalf of an AWS service.

        ``principal``: such as codecommit.amazonaws.com. The event is on disk when this returns.
        Raises AwsError when the function does not exist or its resource policy does not let the service in.
        """
        self.require_for(principal, function_arn, source_arn)
        self.queue.put(function_arn, _body(event))

    def require_for(self, principal: str, function_arn: str, source_arn: str) -> None:
        """Raise AwsError unless a function exists and its resource policy lets a service invoke it for a source."""
        lambdas = self._ministack.functions
        if not lambdas._get_func_record_for_ref(function_arn)[1]:
            raise AwsError("ResourceNotFoundException", f"Function not found: {function_arn}", 404)
        func, _, _ = lambdas._get_base_func_record_for_ref(function_arn)  # which has the policies of its versions too
        context = {"aws:sourcearn": source_arn}
        if principal not in _WITHOUT_SOURCE_ACCOUNT:
            context["aws:sourceaccount"] = self._site.account_id
        if not self._identity.policy_lets(func["policy"], principal, "lambda:InvokeFunction", function_arn, context):
            message = f"{principal} is not authorized to perform: lambda:InvokeFunction on resource: {function_arn}"
            raise AwsError("AccessDeniedException", message, 403)

    def _attempt(self, invocation: Invocation) -> Verdict:
        """Run a function on an event of the queue."""
        lambdas = self._ministack.functions
        func, config, _ = lambdas._get_func_record_for_ref(invocation.function)
        if not func or not config:
            logger.warning("event %s is dropped: there is no %s", invocation.request_id, invocation.function)
            return Verdict.DROPPED
        reserved = self._reserved(invocation.function)
        if reserved == 0:
            logger.warning("event %s is dropped: %s may not run at all", invocation.request_id, invocation.function)
            return Verdict.DROPPED
        before = self._event_id.set(invocation.request_id)
        try:
            result = self._execute(invocation.function, func, config, json.loads(invocation.event))
        finally:
            self._event_id.reset(before)
        if result.get("throttle"):
            return Verdict.THROTTLED
        return Verdict.FAILED if result.get("error") else Verdict.DONE

    def run(self, function_arn: str, event: object) -> tuple[Any, bool]:
        """Run a function that exists and wait for its result; and whether that is an error, or there was no room."""
        func, config, _ = self._ministack.functions._get_func_record_for_ref(function_arn)
        result = self._execute(function_arn, func, config, event)
        return result.get("body"), bool(result.get("error") or result.get("throttle"))

    def _execute(self, function_arn: str, func: dict, config: dict, event: object) -> dict:
        record = {
            **func,
            "concurrency": self._reserved(function_arn),
            "config": {**config, "FunctionArn": function_arn},
        }
        return self._ministack.functions._execute_function(record, event)

    def _at_once(self, function_arn: str) -> int:
        """Return how many events of a function may run at the same time."""
        reserved = self._reserved(function_arn)
        return PER_FUNCTION if reserved is None else min(PER_FUNCTION, max(1, reserved))

    def _reserved(self, function_arn: str) -> int | None:
        func, _, _ = self._ministack.functions._get_base_func_record_for_ref(function_arn)
        return (func or {}).get("concurrency")

    def _write_log(self, config: Mapping[str, Any], stream: str, lines: Sequence[str]) -> None:
        """Write to a function's log with the function's own role: without permission, no log."""
        logs, group = self._ministack.logs, _log_group(config)
        place = {"logGroupName": group, "logStreamName": stream}
        arn = self._site.arn("logs", f"log-group:{group}:log-stream:")
        try:
            caller = self._identity.caller(self._function_session(config)["AWS_ACCESS_KEY_ID"], config["Role"])
            if group not in logs._log_groups:
                caller.require(Permission("logs:CreateLogGroup", arn))
                logs._create_log_group({"logGroupName": group})
            if stream not in logs._log_groups[group]["streams"]:
                caller.require(Permission("logs:CreateLogStream", arn + stream))
                logs._create_log_stream(place)
            caller.require(Permission("logs:PutLogEvents", arn + stream))
        except AwsError as error:
            logger.info("%s: %s", group, error.message)
            return
        now = int(time.time() * 1000)
        logs._put_log_events({**place, "logEvents": [{"timestamp": now, "message": line} for line in lines]})

    def _function_session(self, config: Mapping[str, Any]) -> dict[str, str]:
        """Return the session of a function's role, a new one every few hours: other credentials mean a cold start.

        ministack's own sessions have secrets that follow from the function's name. Raises AwsError.
        """
        wanted = config["FunctionArn"], config["Role"]
        with self._sessions_lock:
            known = self._sessions.get(wanted)
            if known is None or known[0] < time.monotonic():
                session = self._identity.assume(config["Role"], "lambda.amazonaws.com", config["FunctionName"][:64])
                known = self._sessions[wanted] = time.monotonic() + FUNCTION_SESSION_SECONDS, session
            return known[1]


def _body(event: Any) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode(errors="surrogatepass")


def _log_group(config: Mapping[str, Any]) -> str:
    return (config.get("LoggingConfig") or {}).get("LogGroup") or f"/aws/lambda/{config['FunctionName']}"


def _log_lines(config: Mapping[str, Any], outcome: Outcome, request_id: str) -> list[str]:
    """Return what Lambda logs of one invocation, an item an event."""
    init = [] if outcome.init_ms is None else [f"Init Duration: {outcome.init_ms:.2f} ms"]
    report = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {outcome.duration_ms:.2f} ms",
        f"Billed Duration: {math.ceil(outcome.duration_ms)} ms",
        f"Memory Size: {config['MemorySize']} MB",
        f"Max Memory Used: {outcome.memory_mb} MB",
        *init,
    ]
    start = f"START RequestId: {request_id} Version: {config.get('Version', '$LATEST')}"
    return [start, *outcome.events, f"END RequestId: {request_id}", "\t".join(report)]
