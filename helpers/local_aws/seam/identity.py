"""Who is calling, what they may do, and services that act in roles."""

import contextvars
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

from helpers.local_aws import authorization, operations, policies
from helpers.local_aws.patterns import wildcard
from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.seam.simulator import install_simulator
from helpers.local_aws.wire import AwsError, Caller, Permission, Site

# What a service answers to a denial, where it is not AccessDeniedException with status 400.
DENIALS = {
    **dict.fromkeys(("s3", "iam", "sts", "sqs", "cloudformation"), ("AccessDenied", 403)),
    "sns": ("AuthorizationError", 403),
    "ec2": ("UnauthorizedOperation", 403),
    "lambda": ("AccessDeniedException", 403),
}

SESSION_SECONDS = 24 * 3600


class Identity:
    """ministack's IAM and STS: no key is root, no action passes unchecked, and resources are AWS's."""

    def __init__(self, site: Site, ministack: Ministack) -> None:
        """Put the hooks in."""
        self.site, self.ministack = site, ministack
        self._requester: contextvars.ContextVar[str] = contextvars.ContextVar("requester", default="")
        self._asked: contextvars.ContextVar[authorization.Asked | None] = contextvars.ContextVar("asked", default=None)
        self._enforce = ministack.evaluator.enforce
        # What ``assume`` gave out: until when it is given out again, by role, service and session name.
        self._held: dict[tuple[str, str, str, str], tuple[float, dict[str, str]]] = {}
        self._held_lock = threading.Lock()
        # What the task token of a request was made for; set by whoever makes tokens.
        self.token_resource: Callable[[str], str | None] = lambda token: None
        self._install_identity()
        self._keep_sessions()
        self._end_sessions_of_former_roles()
        self._add_managed_policies()
        install_simulator(site, ministack)

    def authenticate(self, scope: Mapping[str, Any], body: bytes) -> Caller:
        """Return who signed the request. Raises AwsError when nobody did, or the signature is wrong."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = parse_qs(scope["query_string"].decode(), keep_blank_values=True)
        key = self.ministack.router.extract_access_key_id(headers, query) or ""
        self.ministack.evaluator.pin_signed_request(
            scope["method"], scope["raw_path"].decode("latin-1"), query, scope["headers"]
        )
        self.ministack.evaluator.pin_signed_body(body)
        checked = self.ministack.evaluator.authenticate(key, self.site.account_id)
        if checked is None or isinstance(checked, self.ministack.evaluator.AuthError):
            code = checked.code if checked else "MissingAuthenticationTokenException"
            message = checked.message if checked else "Request is missing Authentication Token"
            raise AwsError(code, message, 403)
        return self.caller(key, checked.principal_arn)

    def credential(self, access_key: str, session_token: str | None) -> tuple[str, Caller]:
        """Return the secret of an access key, and its owner. Raises AwsError for an unknown key or token."""
        found = self.ministack.evaluator.resolve_credential(access_key, self.site.account_id, session_token or "")
        if isinstance(found, self.ministack.evaluator.CredentialResolutionError):
            raise AwsError(found.code, found.message, 403)
        return found.secret_access_key, self.caller(access_key, found.principal_arn)

    def assume(self, role_arn: str, service: str, session_name: str) -> dict[str, str]:
        """Return credentials of ``service`` acting in a role, as AWS_* variables.

        Whoever asks again for the same gets the same, good for half a session's life at least.
        Raises AwsError (AccessDenied) when the role does not exist or does not trust the service.
        """
        known = self._assumable(role_arn, service)
        wanted = (role_arn, known["RoleId"], service, session_name)
        with self._held_lock:
            renewed, credentials = self._held.get(wanted, (0.0, {}))
            if renewed < time.time() or credentials["AWS_ACCESS_KEY_ID"] not in self.ministack.sts._sessions:
                credentials = self._register(known, session_name)
                self._held = {key: held for key, held in self._held.items() if held[0] > time.time()}
                self._held[wanted] = time.time() + SESSION_SECONDS / 2, credentials
        return dict(credentials)

    def role_caller(self, role_arn: str, service: str, session_name: str) -> Caller:
        """Return ``service`` acting in a role, for calls made inside this process. Raises AwsError."""
        key = self.assume(role_arn, service, session_name)["AWS_ACCESS_KEY_ID"]
        return self.caller(key, self._session_arn(role_arn, session_name))

    def open_session(self, role_arn: str, service: str, session_name: str) -> "RoleSession":
        """Return a session of ``service`` in a role that ends when it is closed."""
        return RoleSession(self, role_arn, service, session_name)

    def _assumable(self, role_arn: str, service: str) -> dict[str, Any]:
        known = self._role(role_arn)
        if known is None or not self.trusts(role_arn, service):
            raise AwsError("AccessDenied", f"{service} is not authorized to perform: sts:AssumeRole on {role_arn}", 403)
        return known

    def _register(self, role: dict[str, Any], session_name: str) -> dict[str, str]:
        key = f"ASIA{secrets.token_hex(8).upper()}"
        secret, token = secrets.token_urlsafe(30), secrets.token_urlsafe(48)
        self.ministack.sts.register_session(
            key,
            {
                "Arn": self._session_arn(role["Arn"], session_name),
                "UserId": f"{role['RoleId']}:{session_name}",
                "SecretAccessKey": secret,
                "SessionToken": token,
                "Expiration": time.time() + SESSION_SECONDS,
            },
        )
        return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token}

    def _session_arn(self, role_arn: str, session_name: str) -> str:
        return f"arn:aws:sts::{self.site.account_id}:assumed-role/{role_arn.rpartition('/')[2]}/{session_name}"

    def has_requester(self) -> bool:
        """Tell whether a request is being served, and not work of the embedded AWS itself."""
        return bool(self._requester.get())

    def require_of_requester(self, *permissions: Permission) -> None:
        """Ask for more permissions of whoever made the request that is being served. Raises AwsError."""
        key = self._requester.get()
        credential = self.ministack.evaluator.resolve_credential(key, self.site.account_id)
        self.caller(key, credential.principal_arn).require(*permissions)

    def caller(self, access_key: str, arn: str) -> Caller:
        def decide(permission: Permission) -> None:
            denied = self._enforce(
                access_key,
                permission.action,
                permission.action.partition(":")[0],
                self.site.region,
                resource_arn=permission.resource,
                service_context=dict(permission.context),
            )
            if denied is None:
                return
            if isinstance(denied, self.ministack.evaluator.AuthError):
                raise AwsError(denied.code, denied.message, 403)
            message = self.ministack.actions.identity_denial_message(
                permission.action, arn, permission.resource, denied.decision == "Deny"
            )
            raise AwsError("AccessDeniedException", message)

        return Caller(arn, decide)

    def trusts(self, role_arn: str, service: str) -> bool:
        role = self._role(role_arn)
        if role is None:
            return False
        return self.policy_lets(role["AssumeRolePolicyDocument"], service, "sts:AssumeRole", "*", {})

    def policy_lets(self, document: Any, service: str, action: str, resource: str, context: dict[str, Any]) -> bool:
        """Whether a resource policy lets an AWS service act."""
        source = self.ministack.evaluator.EvalContext(
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
        decision = self.ministack.evaluator.evaluate_resource_policy({"Statement": statements}, source, service=service)
        return decision.decision == "Allow"

    def add_access_key(self, user: str, key: str, secret: str) -> None:
        """Give an IAM user this access key (IAM itself only makes random ones)."""
        self.ministack.iam._access_keys[key] = {
            "AccessKeyId": key, "SecretAccessKey": secret, "UserName": user, "Status": "Active",
            "CreateDate": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }  # fmt: skip

    def _role(self, role_arn: str) -> dict[str, Any] | None:
        role = self.ministack.iam._roles.get(role_arn.rpartition("/")[2])
        return role if role and role["Arn"] == role_arn else None

    def _install_identity(self) -> None:
        """No key is root, no action passes unchecked, resources are AWS's, and a request remembers its caller."""
        actions, known = (
            self.ministack.actions,
            authorization.Known(self._role_arn, self._partition_key, lambda token: self.token_resource(token)),
        )
        find_action, find_arn = actions.extract_iam_action, actions.extract_resource_arn

        def action(service: str, method: str, path: str, *args: Any) -> str:
            if service == "lambda":  # where ministack knows few paths, and takes some for other operations
                operation = authorization.lambda_action(method, path)
            else:
                operation = (find_action(service, method, path, *args) or "").partition(":")[2]
            return operations.iam_action(service, operation or "UnknownOperation")

        def arn(service: str, method: str, path: str, headers: Any, body: bytes, params: Any, *scope: str) -> str:
            if service == "lambda":
                operation = authorization.lambda_action(method, path)
            else:
                operation = (find_action(service, method, path, headers, body, params) or "").partition(":")[2]
            request = authorization.Request(service, operation, path, body, params, *scope)
            operations.require_supported(request)
            asked = authorization.asked(request, known)
            self._asked.set(asked)
            return asked.resource or find_arn(service, method, path, headers, body, params, *scope)

        self.ministack.evaluator.enforce = self._enforce_all
        self.ministack.evaluator.is_root_access_key = lambda key: False
        # ministack's own takes ever longer, the more * there are in a policy.
        self.ministack.evaluator._fnmatch_compile = lambda pattern, ignore: wildcard(pattern, ignore_case=ignore)
        self.ministack.sts.is_root_access_key = lambda key: False
        actions.extract_iam_action = action
        actions.extract_resource_arn = arn
        actions.access_denied_response = self._denial(actions.access_denied_response)
        actions._TAG_OPERATIONS.update(operations.TAGGING)
        tagging = self.ministack.module("tagging")
        tagging._RESOURCE_TAG_COLLECTORS["events"] = tagging._collect_eventbridge

    def _enforce_all(
        self, access_key: str, action: str, service: str, *args: Any, service_context: Any = None, **more: Any
    ) -> Any:
        """Decide one of ministack's questions about a request, and with the first of them whatever else AWS asks."""
        self._requester.set(access_key)
        asked = self._asked.get() or authorization.Asked()
        context = {**(service_context or {}), **asked.context}
        denied = self._enforce(access_key, action, service, *args, service_context=context, **more)
        if denied is None and asked.more:
            self._asked.set(authorization.Asked(context=asked.context))
            try:
                self.require_of_requester(*asked.more)
            except AwsError as error:
                raise AwsError(*_denial_of(service, error)) from error
        return denied

    def _denial(self, respond: Any) -> Any:
        """Have a denial name the resource, whichever the service."""

        def denial(
            service: str, action: str, principal: str, *args: Any, message: str = "", error_code: str = "", **more: Any
        ) -> Any:
            explicit, resource = more.get("explicit_deny", False), more.get("resource_arn", "*")
            if not message and not error_code and not more.get("resource_policy_arn"):
                message = self.ministack.actions.identity_denial_message(action, principal, resource, explicit)
            return respond(service, action, principal, *args, message=message, error_code=error_code, **more)

        return denial

    def _role_arn(self, name: str) -> str | None:
        return (self.ministack.iam._roles.get(name) or {}).get("Arn")

    def _partition_key(self, table: str, index: str) -> str | None:
        found = self.ministack.module("dynamodb")._tables.get(table) or {}
        indexes = [*found.get("GlobalSecondaryIndexes", []), *found.get("LocalSecondaryIndexes", [])]
        named = [one for one in indexes if one["IndexName"] == index] if index else [found]
        keys = [key["AttributeName"] for one in named for key in one.get("KeySchema", []) if key["KeyType"] == "HASH"]
        return keys[0] if keys else None

    def _keep_sessions(self) -> None:
        """Save sessions with the rest of the state: a notebook holds its own for hours, over a restart too."""
        sts = self.ministack.sts
        sts.get_state = lambda: {"sessions": dict(sts._sessions)}
        sts.load_persisted_state = lambda data: sts._sessions.update(data.get("sessions", {}))

    def _end_sessions_of_former_roles(self) -> None:
        """Let a role that is made again under its name not be that of sessions from before: AWS knows it by its id."""
        create, sessions = self.ministack.iam._IAM_HANDLERS["CreateRole"], self.ministack.sts._sessions

        def create_role(params: Any) -> Any:
            answer = create(params)
            name = self.ministack.iam._p(params, "RoleName")
            if answer[0] == 200:
                former = f":assumed-role/{name}/"
                own = f"{self.ministack.iam._roles[name]['RoleId']}:"
                for key, session in list(sessions.items()):
                    if former in session["Arn"] and not session["UserId"].startswith(own):
                        sessions.pop(key, None)
            return answer

        self.ministack.iam._IAM_HANDLERS["CreateRole"] = create_role

    def _add_managed_policies(self) -> None:
        for name, (path, document) in policies.MANAGED.items():
            full = f"{path.strip('/')}/{name}".lstrip("/")
            record = self.ministack.iam._make_aws_managed_record(full, json.dumps(document))
            self.ministack.iam._aws_managed_policies[record["Arn"]] = record


def _denial_of(service: str, error: AwsError) -> tuple[str, str, int]:
    code, status = DENIALS.get(service, (error.code, error.status))
    return (code if error.code == "AccessDeniedException" else error.code), error.message, status


class RoleSession:
    """A service acting in a role for one piece of work, such as an execution: one session, however many calls."""

    def __init__(self, identity: Identity, role_arn: str, service: str, session_name: str) -> None:
        self.role_arn = role_arn
        self._identity, self._service, self._name = identity, service, session_name
        self._lock = threading.Lock()
        self._key, self._until = "", 0.0

    def caller(self) -> Caller:
        """Return the role as it is now. Raises AwsError when it is gone or no longer trusts the service."""
        identity = self._identity
        role = identity._assumable(self.role_arn, self._service)
        with self._lock:
            gone = self._key not in identity.ministack.sts._sessions  # the role was made again
            if gone or self._until < time.time():  # half of its life: calls that are under way may take the other half
                self._key = identity._register(role, self._name)["AWS_ACCESS_KEY_ID"]
                self._until = time.time() + SESSION_SECONDS / 2
            return identity.caller(self._key, identity._session_arn(self.role_arn, self._name))

    def close(self) -> None:
        """End the session: its credentials are no more."""
        with self._lock:
            self._identity.ministack.sts._sessions.pop(self._key, None)
            self._until = 0.0
