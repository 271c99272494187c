"""The one module that touches ministack, the base of the embedded AWS.

ministack publishes no plug-in interface, so its version is pinned and every
name of its that we use or replace is listed in ``HOOKS``; ``check_hooks``
fails with the list of those that are gone. ``boot`` configures and imports it
in this process, puts our hooks in and returns its ASGI application.
"""

import contextlib
import contextvars
import importlib
import itertools
import json
import logging
import math
import os
import re
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from helpers.local_aws import authorization, policies
from helpers.local_aws.lambdas import Functions, Outcome
from helpers.local_aws.states import definition as asl
from helpers.local_aws.states import tasks
from helpers.local_aws.wire import AwsError, Caller, Params, Permission, Site

# The services that ministack answers. Its others either pretend to run things or
# have not been held against AWS's permissions yet: they are refused by name.
SERVICES = ("s3", "iam", "sts", "lambda", "states", "logs", "events")

EXECUTION_NAME = re.compile(r"""[^\s\x00-\x1f\x7f-\x9f<>{}\[\]?*"#%\\^|~`$&,;:/]{1,80}""")
LAST_EVENTS = ("ExecutionSucceeded", "ExecutionFailed", "ExecutionAborted", "ExecutionTimedOut")
MAX_INPUT = 262_144  # characters of an execution's input
FUNCTION_SESSION_SECONDS = 6 * 3600  # half of what a session lasts

# Operations of these services that make one service act on another, or on an address outside, where
# ministack asks nobody for permission (events start executions, API destinations reach the internet).
REFUSED_ACTIONS = {
    "events:CreateApiDestination", "events:CreateArchive", "events:CreateConnection", "events:CreateEndpoint",
    "events:PutTargets", "events:StartReplay", "lambda:CreateEventSourceMapping", "lambda:CreateFunctionUrlConfig",
    "lambda:PutFunctionEventInvokeConfig", "lambda:UpdateFunctionEventInvokeConfig", "logs:CreateDelivery",
    "logs:CreateExportTask", "logs:PutDestination", "logs:PutSubscriptionFilter", "s3:PutBucketNotification",
    "s3:PutReplicationConfiguration",
}  # fmt: skip

HOOKS = {
    "ministack.app": ["app", "AUTH", "SERVICE_HANDLERS", "_reset_all_state"],
    "ministack.core.iam_actions": ["extract_iam_action", "extract_resource_arn", "identity_denial_message"],
    "ministack.core.iam_evaluator": [
        "AuthError", "CredentialResolutionError", "EvalContext", "_gather_role_policies", "_gather_user_policies",
        "authenticate", "enforce", "evaluate", "evaluate_resource_policy", "is_root_access_key", "pin_signed_body",
        "pin_signed_request", "resolve_credential", "resolve_principal",
    ],
    "ministack.core.router": ["extract_access_key_id"],
    "ministack.services.cloudwatch_logs": [
        "_create_log_group", "_create_log_stream", "_log_groups", "_put_log_events",
    ],
    "ministack.services.eventbridge": ["_ensure_default_bus", "_put_rule", "_rule_key", "_rules"],
    "ministack.services.iam": [
        "_IAM_HANDLERS", "_access_keys", "_aws_managed_policies", "_make_aws_managed_record", "_p", "_roles", 
        "_xml",
    ],
    "ministack.services.lambda_svc": [
        "_create_function", "_execute_function_dispatch", "_get_func_record_for_ref", "_update_config",
        "invoke_async_with_retry",
    ],
    "ministack.services.stepfunctions": [
        "_ExecutionError", "_SERVICE_DISPATCH", "_add_event", "_call_lambda", "_create_state_machine",
        "_emit_execution_status_event", "_error_matches", "_execute_task", "_executions", "_fail_execution",
        "_invoke_resource", "_invoke_resource_with_timeout", "_start_execution", "_state_machines", "_stop_execution",
        "_update_state_machine", "_validate_state_machine_definition", "now_iso",
    ],
    "ministack.services.sts": ["_sessions", "get_state", "load_persisted_state", "register_session"],
}  # fmt: skip


logger = logging.getLogger(__name__)


def check_hooks(hooks: Mapping[str, Sequence[str]] = HOOKS) -> None:
    """Raise RuntimeError naming every hook that this version of ministack no longer has."""
    missing = [
        f"{module}.{name}"
        for module, names in hooks.items()
        for name in names
        if not hasattr(importlib.import_module(module), name)
    ]
    if missing:
        raise RuntimeError(f"ministack has changed; the embedded AWS needs: {', '.join(missing)}")


def configure(site: Site, port: int) -> None:
    """Set the environment that ministack reads at import. Must run before anything imports it."""
    state = site.state_dir / "ministack"
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]  # ministack treats AWS_ACCESS_KEY_ID as root, and the server needs no credentials
    os.environ.update(
        AUTH="true",
        BIND_HOST="127.0.0.1",
        GATEWAY_PORT=str(port),
        MINISTACK_HOST="127.0.0.1",
        MINISTACK_ACCOUNT_ID=site.account_id,
        MINISTACK_REGION=site.region,
        SERVICES=",".join(SERVICES),
        PERSIST_STATE="1",
        STATE_DIR=str(state / "services"),
        S3_PERSIST="1",
        S3_DATA_DIR=str(state / "s3"),
        SFTP_ENABLED="0",
        IOT_MTLS_ENABLED="0",
        DOCKER_HOST="unix:///nonexistent",  # ministack removes containers that it thinks are its own
        LOG_LEVEL=os.environ.get("LOG_LEVEL", "WARNING"),
    )
    for folder in ("services", "s3"):
        (state / folder).mkdir(parents=True, exist_ok=True, mode=0o700)


class Seam:
    """ministack behind a small interface: who is calling, may they, act as a role, run things."""

    def __init__(self, site: Site) -> None:
        """Import ministack (``configure`` ran before), check the hooks and put the identity hooks in."""
        self.site = site
        check_hooks()
        self._app: Any = importlib.import_module("ministack.app")
        self._actions: Any = importlib.import_module("ministack.core.iam_actions")
        self._iam_core: Any = importlib.import_module("ministack.core.iam_evaluator")
        self._iam: Any = importlib.import_module("ministack.services.iam")
        self._sts: Any = importlib.import_module("ministack.services.sts")
        self._lambda: Any = importlib.import_module("ministack.services.lambda_svc")
        self._logs: Any = importlib.import_module("ministack.services.cloudwatch_logs")
        self._states: Any = importlib.import_module("ministack.services.stepfunctions")
        self._events: Any = importlib.import_module("ministack.services.eventbridge")
        self._running: contextvars.ContextVar[_Running | None] = contextvars.ContextVar("running", default=None)
        self._requester: contextvars.ContextVar[str] = contextvars.ContextVar("requester", default="")
        self._sessions: dict[tuple[str, str], tuple[float, dict[str, str]]] = {}
        self._sessions_lock = threading.Lock()
        self._install_identity()
        self._keep_sessions()
        self._install_simulator()
        self._add_managed_policies()

    @property
    def asgi(self) -> Callable[..., Any]:
        """ministack's ASGI application."""
        return self._app.app

    # -- identity and permissions ------------------------------------------------------------------

    def authenticate(self, scope: Mapping[str, Any], body: bytes) -> Caller:
        """Return who signed the request. Raises AwsError when nobody did, or the signature is wrong."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = parse_qs(scope["query_string"].decode(), keep_blank_values=True)
        key = importlib.import_module("ministack.core.router").extract_access_key_id(headers, query) or ""
        self._iam_core.pin_signed_request(scope["method"], scope["raw_path"].decode("latin-1"), query, scope["headers"])
        self._iam_core.pin_signed_body(body)
        checked = self._iam_core.authenticate(key, self.site.account_id)
        if checked is None or isinstance(checked, self._iam_core.AuthError):
            code = checked.code if checked else "MissingAuthenticationTokenException"
            message = checked.message if checked else "Request is missing Authentication Token"
            raise AwsError(code, message, 403)
        return self._caller(key, checked.principal_arn)

    def credential(self, access_key: str, session_token: str | None) -> tuple[str, Caller]:
        """Return the secret of an access key, and its owner. Raises AwsError for an unknown key or token."""
        found = self._iam_core.resolve_credential(access_key, self.site.account_id, session_token or "")
        if isinstance(found, self._iam_core.CredentialResolutionError):
            raise AwsError(found.code, found.message, 403)
        return found.secret_access_key, self._caller(access_key, found.principal_arn)

    def assume(self, role_arn: str, service: str, session_name: str) -> dict[str, str]:
        """Return credentials of ``service`` acting in a role, as AWS_* variables.

        Raises AwsError (AccessDenied) when the role does not exist or does not trust the service.
        """
        known = self._role(role_arn)
        if known is None or not self._trusts(role_arn, service):
            raise AwsError("AccessDenied", f"{service} is not authorized to perform: sts:AssumeRole on {role_arn}", 403)
        role = role_arn.rpartition("/")[2]
        key = f"ASIA{secrets.token_hex(8).upper()}"
        secret, token = secrets.token_urlsafe(30), secrets.token_urlsafe(48)
        self._sts.register_session(
            key,
            {
                "Arn": f"arn:aws:sts::{self.site.account_id}:assumed-role/{role}/{session_name}",
                "UserId": f"{known['RoleId']}:{session_name}",
                "SecretAccessKey": secret,
                "SessionToken": token,
                "Expiration": time.time() + 12 * 3600,
            },
        )
        return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token}

    def role_caller(self, role_arn: str, service: str, session_name: str) -> Caller:
        """Return ``service`` acting in a role, for calls made inside this process. Raises AwsError."""
        key = self.assume(role_arn, service, session_name)["AWS_ACCESS_KEY_ID"]
        role = role_arn.rpartition("/")[2]
        return self._caller(key, f"arn:aws:sts::{self.site.account_id}:assumed-role/{role}/{session_name}")

    def add_access_key(self, user: str, key: str, secret: str) -> None:
        """Give an IAM user this access key (IAM itself only makes random ones)."""
        self._iam._access_keys[key] = {
            "AccessKeyId": key, "SecretAccessKey": secret, "UserName": user, "Status": "Active",
            "CreateDate": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }  # fmt: skip

    async def bootstrap_call(self, service: str, form: str) -> None:
        """Make a Query-protocol call without asking IAM: for what must exist before any principal does."""
        headers = {"content-type": "application/x-www-form-urlencoded"}
        status, _, body = await self._app.SERVICE_HANDLERS[service]("POST", "/", headers, form.encode(), {})
        if status >= 400 and b"EntityAlreadyExists" not in body:
            raise RuntimeError(f"{service}: {body.decode()}")

    def reset(self) -> None:
        """Forget everything that ministack holds."""
        self._app._reset_all_state()

    def _caller(self, access_key: str, arn: str) -> Caller:
        def decide(permission: Permission) -> None:
            denied = self._iam_core.enforce(
                access_key,
                permission.action,
                permission.action.partition(":")[0],
                self.site.region,
                resource_arn=permission.resource,
                service_context=dict(permission.context),
            )
            if denied is None:
                return
            if isinstance(denied, self._iam_core.AuthError):
                raise AwsError(denied.code, denied.message, 403)
            message = self._actions.identity_denial_message(
                permission.action, arn, permission.resource, denied.decision == "Deny"
            )
            raise AwsError("AccessDeniedException", message)

        return Caller(arn, decide)

    def _role(self, role_arn: str) -> dict[str, Any] | None:
        role = self._iam._roles.get(role_arn.rpartition("/")[2])
        return role if role and role["Arn"] == role_arn else None

    def _trusts(self, role_arn: str, service: str) -> bool:
        role = self._role(role_arn)
        if role is None:
            return False
        return self._policy_lets(role["AssumeRolePolicyDocument"], service, "sts:AssumeRole", "*", {})

    def _policy_lets(self, document: Any, service: str, action: str, resource: str, context: dict[str, Any]) -> bool:
        """Whether a resource policy lets an AWS service act."""
        source = self._iam_core.EvalContext(
            principal_arn="",
            principal_type="Service",
            principal_account="",
            action=action,
            resource_arn=resource,
            region=self.site.region,
            service_context=context,
        )
        document = json.loads(document) if isinstance(document, str) else document
        statements = document["Statement"] if isinstance(document["Statement"], list) else [document["Statement"]]
        # A trust policy has no Resource; the evaluator wants one.
        statements = [{"Resource": "*", **statement} for statement in statements]
        decision = self._iam_core.evaluate_resource_policy({"Statement": statements}, source, service=service)
        return decision.decision == "Allow"

    def _install_identity(self) -> None:
        """No key is root, no action passes unchecked, resources are AWS's, and a request remembers its caller."""
        enforce, find_action, find_arn = (
            self._iam_core.enforce, self._actions.extract_iam_action, self._actions.extract_resource_arn,
        )  # fmt: skip

        def remember_and_enforce(access_key: str, *args: Any, **kwargs: Any) -> Any:
            self._requester.set(access_key)
            return enforce(access_key, *args, **kwargs)

        def action(service: str, method: str, path: str, *args: Any) -> str:
            if service == "lambda":  # where ministack knows few paths, and takes some for other operations
                found = authorization.lambda_action(method, path)
            else:
                found = find_action(service, method, path, *args)
            found = found or f"{service}:UnknownOperation"
            if found in REFUSED_ACTIONS:
                raise AwsError("NotImplemented", f"the embedded AWS does not support {found}", 501)
            return found

        def arn(service: str, method: str, path: str, headers: Any, body: bytes, params: Any, *scope: str) -> str:
            name = action(service, method, path, headers, body, params).partition(":")[2]
            request = authorization.Request(service, name, path, body, params, *scope)
            found = authorization.resource_arn(request, lambda role: (self._iam._roles.get(role) or {}).get("Arn"))
            return found or find_arn(service, method, path, headers, body, params, *scope)

        self._iam_core.enforce = remember_and_enforce
        self._iam_core.is_root_access_key = lambda key: False
        self._sts.is_root_access_key = lambda key: False
        self._actions.extract_iam_action = action
        self._actions.extract_resource_arn = arn

    def _keep_sessions(self) -> None:
        """Save sessions with the rest of the state: a notebook holds its own for hours, over a restart too."""
        sts = self._sts
        sts.get_state = lambda: {"sessions": dict(sts._sessions)}
        sts.load_persisted_state = lambda data: sts._sessions.update(data.get("sessions", {}))

    def _install_simulator(self) -> None:
        """Simulate as AWS does: roles with a path, several resources, and the context that the caller gives."""
        iam = self._iam

        def members(params: dict, name: str, *suffix: str) -> list[str]:
            wanted = (iam._p(params, ".".join((name, "member", str(n), *suffix))) for n in itertools.count(1))
            return list(itertools.takewhile(bool, wanted))

        def simulate(params: dict) -> tuple:
            source = iam._p(params, "PolicySourceArn")
            kind, _, name = source.rpartition(":")[2].partition("/")
            name = name.rpartition("/")[2]
            gather = self._iam_core._gather_user_policies if kind == "user" else self._iam_core._gather_role_policies
            found = gather(name, self.site.account_id)
            context = {
                key.lower(): members(params, f"ContextEntries.member.{n}.ContextKeyValues")
                for n, key in enumerate(members(params, "ContextEntries", "ContextKeyName"), 1)
            }
            results = []
            for action, resource in itertools.product(
                members(params, "ActionNames"), members(params, "ResourceArns") or ["*"]
            ):
                question = self._iam_core.EvalContext(
                    principal_arn=source,
                    principal_type="User" if kind == "user" else "AssumedRole",
                    principal_account=self.site.account_id,
                    action=action,
                    resource_arn=resource,
                    region=self.site.region,
                    service_context=context,
                )
                decision = self._iam_core.evaluate(question, found).decision
                decision = {"Allow": "allowed", "Deny": "explicitDeny"}.get(decision, "implicitDeny")
                answer = {"EvalActionName": action, "EvalResourceName": resource, "EvalDecision": decision}
                inner = "".join(f"<{tag}>{escape(text)}</{tag}>" for tag, text in answer.items())
                results.append(f"<member>{inner}</member>")
            body = f"<EvaluationResults>{''.join(results)}</EvaluationResults><IsTruncated>false</IsTruncated>"
            name = "SimulatePrincipalPolicy"
            return iam._xml(200, f"{name}Response", f"<{name}Result>{body}</{name}Result>", ns="iam")

        iam._IAM_HANDLERS["SimulatePrincipalPolicy"] = simulate

    def _add_managed_policies(self) -> None:
        for name, (path, document) in policies.MANAGED.items():
            full = f"{path.strip('/')}/{name}".lstrip("/")
            record = self._iam._make_aws_managed_record(full, json.dumps(document))
            self._iam._aws_managed_policies[record["Arn"]] = record

    def require_of_requester(self, permission: Permission) -> None:
        """Ask for one more permission of whoever made the request that is being served. Raises AwsError."""
        key = self._requester.get()
        credential = self._iam_core.resolve_credential(key, self.site.account_id)
        self._caller(key, credential.principal_arn).require(permission)

    # -- Lambda ------------------------------------------------------------------------------------

    def install_lambda(self, functions: Functions) -> None:
        """Run functions in our workers, and check what AWS checks when one is made or invoked."""
        create, update, invoke_async = (
            self._lambda._create_function, self._lambda._update_config, self._lambda.invoke_async_with_retry,
        )  # fmt: skip
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

        def check_role(data: dict) -> None:
            role_arn = data.get("Role")
            if role_arn is None:
                return
            self.require_of_requester(
                Permission("iam:PassRole", role_arn, {"iam:PassedToService": "lambda.amazonaws.com"})
            )
            if not self._trusts(role_arn, "lambda.amazonaws.com"):
                message = "The role defined for the function cannot be assumed by Lambda."
                raise AwsError("InvalidParameterValueException", message)

        self._lambda._execute_function_dispatch = dispatch
        self._lambda.invoke_async_with_retry = invoke_async_under_one_id
        self._lambda._create_function = self._guarded(check_role, create)
        self._lambda._update_config = self._guarded(check_role, update, position=1)

    def _write_log(self, config: Mapping[str, Any], stream: str, lines: Sequence[str]) -> None:
        """Write to a function's log with the function's own role: without permission, no log."""
        logs, group = self._logs, _log_group(config)
        place = {"logGroupName": group, "logStreamName": stream}
        arn = self.site.arn("logs", f"log-group:{group}:log-stream:")
        try:
            caller = self._caller(self._function_session(config)["AWS_ACCESS_KEY_ID"], config["Role"])
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
                session = self.assume(config["Role"], "lambda.amazonaws.com", config["FunctionName"][:64])
                known = self._sessions[wanted] = time.monotonic() + FUNCTION_SESSION_SECONDS, session
            return known[1]

    def invoke_function(self, principal: str, function_arn: str, event: dict, source_arn: str) -> None:
        """Invoke a function asynchronously on behalf of an AWS service.

        ``principal``: such as codecommit.amazonaws.com. Raises AwsError when the
        function does not exist or its resource policy does not let the service in.
        """
        func, config, _ = self._lambda._get_func_record_for_ref(function_arn)
        if not func or not config:
            raise AwsError("ResourceNotFoundException", f"Function not found: {function_arn}", 404)
        context = {"aws:sourcearn": source_arn, "aws:sourceaccount": self.site.account_id}
        if not self._policy_lets(func["policy"], principal, "lambda:InvokeFunction", function_arn, context):
            message = f"{principal} is not authorized to perform: lambda:InvokeFunction on resource: {function_arn}"
            raise AwsError("AccessDeniedException", message, 403)
        self._lambda.invoke_async_with_retry(func, event)

    # -- Step Functions ----------------------------------------------------------------------------

    def install_states(self, processing: tasks.ProcessingTasks) -> None:
        """Add the SageMaker integration, the checks on creation, and true stops and timeouts."""
        self._install_tasks(processing)
        self._install_function_tasks()
        self._install_endings()
        self._install_definitions()
        self._install_executions(processing)

    def _execution_role(self) -> tuple[str, Caller]:
        """Return the execution whose task this thread runs, and its machine's role. Raises ministack's error."""
        current = self._running.get()
        if current is None:
            raise self._states._ExecutionError("States.Runtime", "a task ran outside of an execution")
        try:
            return current.arn, self.role_caller(current.role_arn, "states.amazonaws.com", current.name[:64])
        except AwsError as error:
            raise self._states._ExecutionError("States.Runtime", error.message) from error

    def _install_tasks(self, processing: tasks.ProcessingTasks) -> None:
        """Run processing jobs as tasks, and no task in an execution that has ended."""
        states = self._states
        execute_task, invoke = states._execute_task, states._invoke_resource
        with_timeout = states._invoke_resource_with_timeout

        def run_task(state: dict, task_input: Any, execution: dict, ctx: dict) -> Any:
            machine = states._state_machines[execution["stateMachineArn"]]
            self._running.set(_Running(execution["executionArn"], machine["roleArn"], execution["name"]))
            return execute_task(state, task_input, execution, ctx)

        def process(resource: str, params: Params, timeout: float | None = None) -> Params:
            execution, caller = self._execution_role()
            try:
                return processing.run(resource, params, execution=execution, role=caller, timeout=timeout)
            except tasks.TaskFailed as failure:
                raise states._ExecutionError(failure.error, failure.cause) from failure

        def require_running() -> None:
            current = self._running.get()
            if current and states._executions[current.arn]["status"] != "RUNNING":
                # No Retry matches this error: nothing starts in an execution that has ended.
                raise states._ExecutionError("States.Runtime", "the execution has ended")

        def invoke_while_running(resource: str, params: Any) -> Any:
            require_running()
            try:
                tasks.require_supported([resource])
            except AwsError as error:  # TestState, and machines of a state folder from before
                raise states._ExecutionError("States.Runtime", error.message) from error
            return invoke(resource, params)

        def invoke_with_timeout(resource: str, params: Any, timeout: float) -> Any:
            require_running()
            if resource.startswith(tasks.PREFIX):
                return process(resource, params, timeout)
            return with_timeout(resource, params, timeout)

        states._execute_task = run_task
        states._SERVICE_DISPATCH[tasks.PREFIX] = process
        states._invoke_resource, states._invoke_resource_with_timeout = invoke_while_running, invoke_with_timeout

    def _install_function_tasks(self) -> None:
        call_lambda = self._states._call_lambda

        def invoke_lambda(func_ref: str, event: Any) -> Any:
            _, _, name = self._lambda._get_func_record_for_ref(func_ref)
            _, caller = self._execution_role()
            try:
                arn = self.site.arn("lambda", f"function:{name}")
                caller.require(Permission("lambda:InvokeFunction", arn))
            except AwsError as error:
                raise self._states._ExecutionError("Lambda.AWSLambdaException", error.message) from error
            return call_lambda(func_ref, event)

        self._states._call_lambda = invoke_lambda

    def _install_endings(self) -> None:
        """Keep how an execution ended: its thread goes on until its task returns."""
        states = self._states
        add_event, fail, error_matches = states._add_event, states._fail_execution, states._error_matches

        def add_event_until_the_end(execution: dict, kind: str, details: dict | None = None) -> dict:
            ended = execution["events"] and execution["events"][-1]["type"] in LAST_EVENTS
            return {} if ended else add_event(execution, kind, details)

        def fail_if_running(execution: dict, error: str, cause: str) -> None:
            if execution["status"] == "RUNNING":
                fail(execution, error, cause)

        def matches(names: Sequence[str], error: str) -> bool:
            # On AWS too these end an execution: States.ALL and States.TaskFailed do not match them.
            if error in ("States.Runtime", "States.DataLimitExceeded"):
                return error in names
            return error_matches(names, error)

        states._add_event, states._fail_execution, states._error_matches = (
            add_event_until_the_end, fail_if_running, matches,
        )  # fmt: skip

    def _install_definitions(self) -> None:
        """Refuse what CreateStateMachine refuses: bad definitions, roles it may not or cannot use."""

        def check(data: dict) -> None:
            text = data.get("definition")
            if text is not None and (problems := asl.problems(text)):
                raise AwsError("InvalidDefinition", f"Invalid State Machine Definition: '{', '.join(problems)}'")
            if text is not None:
                tasks.require_supported(tasks.resources_in(json.loads(text)))
            known = self._states._state_machines.get(data.get("stateMachineArn", "")) or {}
            role_arn = data.get("roleArn") or known.get("roleArn", "")
            if "roleArn" in data:
                passed = {"iam:PassedToService": "states.amazonaws.com"}
                self.require_of_requester(Permission("iam:PassRole", role_arn, passed))
            if not self._trusts(role_arn, "states.amazonaws.com"):
                raise AwsError(
                    "AccessDeniedException",
                    "Neither the global service principal states.amazonaws.com, nor the regional one is authorized "
                    "to assume the provided role.",
                )
            if text is not None and tasks.needs_managed_rule(asl.task_resources(text)):
                self._ensure_managed_rule(role_arn)

        for name in ("_create_state_machine", "_update_state_machine"):
            setattr(self._states, name, self._guarded(check, getattr(self._states, name)))

        def validate(data: dict) -> tuple:
            found = [
                {"severity": "ERROR", "code": problem.partition(":")[0], "message": problem}
                for problem in asl.problems(data.get("definition", ""))
            ]
            answer = {"result": "FAIL" if found else "OK", "diagnostics": found, "truncated": False}
            return 200, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(answer).encode()

        self._states._validate_state_machine_definition = validate

    def _ensure_managed_rule(self, role_arn: str) -> None:
        caller = self.role_caller(role_arn, "states.amazonaws.com", "managed-rule")
        try:
            caller.require(*tasks.managed_rule_permissions(self.site))
        except AwsError as error:
            raise AwsError(
                "AccessDeniedException", f"'{role_arn}' is not authorized to create managed-rule."
            ) from error
        pattern = {"source": ["aws.sagemaker"], "detail-type": ["SageMaker Processing Job State Change"]}
        self._events._ensure_default_bus()
        made = self._events._put_rule(
            {
                "Name": tasks.MANAGED_RULE,
                "EventPattern": json.dumps(pattern),
                "Description": "This rule is used to notify Step Functions regarding integrated SageMaker jobs",
            }
        )
        if made[0] != 200:
            raise RuntimeError(f"the managed rule could not be made: {made[2].decode()}")
        self._events._rules[self._events._rule_key(tasks.MANAGED_RULE, "default")]["ManagedBy"] = "states.amazonaws.com"

    def _install_executions(self, processing: tasks.ProcessingTasks) -> None:
        """Starting twice is harmless, stopping stops the jobs, and a machine's own timeout ends it."""
        states = self._states
        start, stop, emit = states._start_execution, states._stop_execution, states._emit_execution_status_event
        timers: dict[str, threading.Timer] = {}

        def start_execution(data: dict) -> tuple:
            arn = _execution_arn(data)
            known = states._executions.get(arn) if arn else None
            if known and known["status"] == "RUNNING" and known["input"] == data.get("input", "{}"):
                answer = {"executionArn": arn, "startDate": known["startDate"]}
                return 200, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(answer).encode()
            result = start(data)
            if result[0] == 200:
                watch(json.loads(result[2])["executionArn"])
            return result

        def watch(arn: str) -> None:
            machine = states._state_machines[states._executions[arn]["stateMachineArn"]]
            seconds = json.loads(machine["definition"]).get("TimeoutSeconds")
            if seconds:
                context = contextvars.copy_context()
                timer = threading.Timer(seconds, context.run, (time_out, arn))
                timer.daemon = True
                timers[arn] = timer
                timer.start()

        def emit_and_forget(execution: dict) -> None:
            if execution["status"] != "RUNNING" and (timer := timers.pop(execution["executionArn"], None)):
                timer.cancel()
            emit(execution)

        def time_out(arn: str) -> None:
            execution = states._executions.get(arn)
            if not execution or execution["status"] != "RUNNING":
                return
            execution.update(status="TIMED_OUT", stopDate=states.now_iso(), error="States.Timeout")
            states._add_event(execution, "ExecutionTimedOut", {"executionTimedOutEventDetails": {}})
            states._emit_execution_status_event(execution)
            processing.stop(arn)

        def stop_execution(data: dict) -> tuple:
            result = stop(data)
            if result[0] == 200:
                processing.stop(data["executionArn"])
            return result

        states._start_execution = self._guarded(_check_start, start_execution)
        states._stop_execution = stop_execution
        states._emit_execution_status_event = emit_and_forget

    def _guarded(self, check: Callable[[dict], None], call: Callable[..., tuple], position: int = 0) -> Callable:
        """Return ``call`` with ``check`` before it, an AwsError answered as the service would."""

        def guarded(*args: Any) -> tuple:
            try:
                check(args[position])
            except AwsError as error:
                body = json.dumps({"__type": error.code, "message": error.message}).encode()
                return error.status, {"Content-Type": "application/json", "x-amzn-errortype": error.code}, body
            return call(*args)

        return guarded


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


@dataclass(frozen=True)
class _Running:
    """The execution whose task a thread is running."""

    arn: str
    role_arn: str
    name: str


def _check_start(data: dict) -> None:
    """Refuse what StartExecution refuses: a name or an input that is none. Raises AwsError."""
    name, text = data.get("name"), data.get("input", "{}")
    if name is not None and not EXECUTION_NAME.fullmatch(name):
        raise AwsError("InvalidName", f"Invalid Name: '{name}'")
    if len(text) > MAX_INPUT:
        problem = f"Member must have length less than or equal to {MAX_INPUT}"
        raise AwsError(
            "ValidationException",
            f"1 validation error detected: Value at 'input' failed to satisfy constraint: {problem}",
        )
    try:
        json.loads(text)
    except ValueError as error:
        raise AwsError("InvalidExecutionInput", f"Invalid State Machine Execution Input: '{error}'") from None


def _execution_arn(data: dict) -> str | None:
    if not data.get("name"):
        return None
    return f"{data.get('stateMachineArn', '').replace(':stateMachine:', ':execution:')}:{data['name']}"
