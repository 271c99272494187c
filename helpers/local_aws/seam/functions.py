"""Lambda: functions run in our workers, as their roles, and write their own logs."""

import contextlib
import contextvars
import json
import logging
import math
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from helpers.local_aws.lambdas import Functions, Outcome
from helpers.local_aws.seam.guard import guarded
from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.seam.identity import Identity
from helpers.local_aws.wire import AwsError, Permission, Site

FUNCTION_SESSION_SECONDS = 6 * 3600  # half of what a session lasts

logger = logging.getLogger(__name__)


class FunctionHooks:
    """What differs from ministack's Lambda."""

    def __init__(self, site: Site, ministack: Ministack, identity: Identity) -> None:
        self._site, self._ministack, self._identity = site, ministack, identity
        self._sessions: dict[tuple[str, str], tuple[float, dict[str, str]]] = {}
        self._sessions_lock = threading.Lock()

    def install(self, functions: Functions) -> None:
        """Run functions in our workers, and check what AWS checks when one is made or invoked."""
        lambdas = self._ministack.functions
        create, update, invoke_async = lambdas._create_function, lambdas._update_config, lambdas.invoke_async_with_retry
        event_id: contextvars.ContextVar[str] = contextvars.ContextVar("event_id", default="")

        def dispatch(func: dict, config: dict, event: Any, request_id: str, started: float) -> dict:
            # In place of all of ministack's ways to run a function: some forward events to any URL or invent an answer.
            request_id = event_id.get() or request_id
            try:
                credentials = self._function_session(config)
                outcome = functions.invoke(
                    config, func.get("code_zip") or b"", event, credentials=credentials, request_id=request_id
                )
            except AwsError as error:
                refused = {"errorType": error.code, "errorMessage": error.message}
                return {"body": refused, "error": True, "log": str(error)}
            lines = _log_lines(config, outcome, request_id)
            self._write_log(config, outcome.stream, lines)
            body: Any = outcome.payload  # a function may answer with bytes that are not JSON
            with contextlib.suppress(ValueError):
                body = json.loads(body)
            return {"body": body, "error": outcome.error, "log": "\n".join(lines)}

        def invoke_async_under_one_id(func: dict, event: Any) -> None:
            before = event_id.set(str(uuid.uuid4()))  # the thread that tries and tries again inherits it
            invoke_async(func, event)
            event_id.reset(before)

        def check_creation(data: dict) -> None:
            check_role(data)
            if data.get("Tags"):
                arn = self._site.arn("lambda", f"function:{data.get('FunctionName')}")
                self._identity.require_of_requester(Permission("lambda:TagResource", arn))

        def check_role(data: dict) -> None:
            role_arn = data.get("Role")
            if role_arn is None:
                return
            self._identity.require_of_requester(
                Permission("iam:PassRole", role_arn, {"iam:PassedToService": "lambda.amazonaws.com"})
            )
            if not self._identity.trusts(role_arn, "lambda.amazonaws.com"):
                message = "The role defined for the function cannot be assumed by Lambda."
                raise AwsError("InvalidParameterValueException", message)

        lambdas._execute_function_dispatch = dispatch
        lambdas.invoke_async_with_retry = invoke_async_under_one_id
        lambdas._create_function = guarded(check_creation, create)
        lambdas._update_config = guarded(check_role, update, position=1)

    def invoke_for(self, principal: str, function_arn: str, event: dict, source_arn: str) -> None:
        """Invoke a function asynchronously on behalf of an AWS service.

        ``principal``: such as codecommit.amazonaws.com. Raises AwsError when the
        function does not exist or its resource policy does not let the service in.
        """
        func, config, _ = self._ministack.functions._get_func_record_for_ref(function_arn)
        if not func or not config:
            raise AwsError("ResourceNotFoundException", f"Function not found: {function_arn}", 404)
        context = {"aws:sourcearn": source_arn, "aws:sourceaccount": self._site.account_id}
        if not self._identity.policy_lets(func["policy"], principal, "lambda:InvokeFunction", function_arn, context):
            message = f"{principal} is not authorized to perform: lambda:InvokeFunction on resource: {function_arn}"
            raise AwsError("AccessDeniedException", message, 403)
        self._ministack.functions.invoke_async_with_retry(func, event)

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
