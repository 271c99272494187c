"""The CloudFormation API."""

import asyncio
import contextlib
import contextvars
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from helpers.local_aws.cloudformation import (
    answers,
    changesets,
    checks,
    operations,
    parameters,
    permissions,
    query,
    requests,
    targets,
)
from helpers.local_aws.cloudformation.deployment import Deployment
from helpers.local_aws.cloudformation.errors import invalid, unsupported
from helpers.local_aws.cloudformation.operations import Failing, Operations
from helpers.local_aws.cloudformation.reading import Reading
from helpers.local_aws.cloudformation.records import Data, Stack
from helpers.local_aws.cloudformation.session import Session
from helpers.local_aws.cloudformation.targets import Around, Target
from helpers.local_aws.cloudformation.template import Template, parse
from helpers.local_aws.wire import AwsError, Caller, Params, Permission, Site, service_model

_AT_ONCE = 4  # requests; those that look something up call the embedded AWS again, from threads that are not its own
_UPDATABLE = {"CREATE_COMPLETE", "CREATE_FAILED", "UPDATE_COMPLETE", "UPDATE_FAILED", "UPDATE_ROLLBACK_COMPLETE"}
_DELETABLE = _UPDATABLE | {"CREATE_IN_PROGRESS", "DELETE_FAILED", "REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE",
                           "ROLLBACK_FAILED", "UPDATE_ROLLBACK_FAILED"}  # fmt: skip


@dataclass(frozen=True)
class Requester(Caller):
    """Who makes a request, and the access key that it is signed with."""

    access_key: str = ""


class CloudFormation(Reading):
    """Stacks of resources that are made with each service's real calls.

    ``assume(role_arn)`` returns AWS_* credentials of cloudformation.amazonaws.com in a service
    role and raises AwsError; ``own(access_key)`` those that a request was signed with.
    """

    def __init__(
        self, site: Site, assume: Callable[[str], Mapping[str, str]], own: Callable[[str], Mapping[str, str]]
    ) -> None:
        super().__init__(site)
        self._assume, self._own = assume, own
        self._operations = Operations()
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="cloudformation")

    async def answer_in_pool(self, body: bytes, caller: Caller, access_key: str) -> bytes:
        """Answer one request, signed with ``access_key`` of ``caller``, in a thread of CloudFormation's own.

        A request calls the embedded AWS again (an SSM parameter, a subnet): in the threads that
        serve those calls, a few requests at once would wait for each other for ever.
        """
        run, requester = contextvars.copy_context().run, Requester(caller.arn, caller.decide, access_key)
        return await asyncio.get_running_loop().run_in_executor(self._pool, run, self.answer_xml, body, requester)

    def answer_xml(self, body: bytes, caller: Caller) -> bytes:
        """Answer one request of the Query protocol in XML."""
        model = service_model(self.name)
        operation, params = query.read(model, body)
        refused = sorted(set(params) - requests.CARRIED_OUT.get(operation, set(params)))
        for name in refused:
            if params[name] not in (False, [], {}):
                raise unsupported(f"the parameter {name} of {operation}")
        return query.write(model, operation, self.call(operation, params, caller))

    def invalid(self, operation: str, member: str, problem: str) -> AwsError:
        """Return CloudFormation's error for a parameter that breaks the model's constraints."""
        return invalid(f"1 validation error detected: {problem}")

    def call(self, operation: str, params: Params, caller: Caller) -> Params:
        """Validate, authorize and run; a denial has CloudFormation's code."""
        try:
            return super().call(operation, params, caller)
        except AwsError as error:
            if error.code == "AccessDeniedException":
                raise AwsError("AccessDenied", error.message, 403) from None
            raise

    def permissions(self, operation: str, params: Params) -> Sequence[Permission]:
        """Return what CloudFormation's authorization reference demands for the operation."""
        stack = self.stacks.find(params["StackName"]) if params.get("StackName") else None
        return permissions.of(self.site, operation, params, stack)

    def close(self) -> None:
        """End every operation: its stack becomes FAILED and says why."""
        self._operations.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # -- stacks

    def create_stack(self, params: Params, caller: Caller) -> Params:
        """Begin to make a stack."""
        known = self.stacks.find(params["StackName"])
        token = params.get("ClientRequestToken", "")
        if known is not None:
            if token and known.data.get("creation_token") == token:
                return {"StackId": known.id}
            raise AwsError("AlreadyExistsException", f"Stack [{params['StackName']}] already exists")
        session = self._session(params.get("RoleARN"), caller)
        with _closing_on_error(session):
            template = self._template(params, caller, None)
            requests.require_capabilities(template, params)
            failing = requests.failing(params)
            stack = self._new_stack(params)
            target = self._target(session, stack, template, params, {})
            self._check_exports(target, stack)
            stack.data.update(
                creation_token=token, token=token, protected=params.get("EnableTerminationProtection", False)
            )
            self.stacks.add(stack, "CREATE_IN_PROGRESS")
        self._begin(stack, session, target, params, failing, operations.create)
        return {"StackId": stack.id}

    def update_stack(self, params: Params, caller: Caller) -> Params:
        """Begin to change a stack."""
        stack = self._existing(params["StackName"], "Stack [{}] does not exist")
        status = _updatable(stack)
        session = self._session(params.get("RoleARN") or stack.data["role"], caller)
        with _closing_on_error(session):
            template = self._template(params, caller, stack)
            requests.require_capabilities(template, params)
            failing = requests.failing(params)
            target = self._target(session, stack, template, params, stack.data["parameters"])
            self._check_exports(target, stack)
            if changesets.changes(self._around(session), stack, target) is None:
                raise invalid("No updates are to be performed.")
            stack.begin(status, "UPDATE_IN_PROGRESS")
        changesets.make_obsolete(stack)
        stack.change(lambda data: data.update(token=params.get("ClientRequestToken", ""), updated=time.time()))
        self._begin(stack, session, target, params, failing, operations.update)
        return {"StackId": stack.id}

    def delete_stack(self, params: Params, caller: Caller) -> Params:
        """Begin to delete a stack; one that is not there is no error."""
        stack = self.stacks.find(params["StackName"])
        if stack is None or stack.status in ("DELETE_COMPLETE", "DELETE_IN_PROGRESS"):
            return {}
        if stack.data["protected"]:
            raise invalid(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
        if stack.status not in _DELETABLE and not stack.status.endswith("ROLLBACK_COMPLETE"):
            raise invalid(f"Stack [{stack.id}] cannot be deleted while in status {stack.status}")
        kept = params.get("RetainResources", [])
        if kept and stack.status != "DELETE_FAILED":
            raise invalid("Invalid operation on stack. RetainResources can be used with stacks in DELETE_FAILED only")
        unknown = sorted(set(kept) - set(stack.resources))
        if unknown:
            raise invalid(f"Resources {unknown} of RetainResources are not in the stack")
        for output in stack.data["outputs"]:
            users = self.stacks.importers(output.get("ExportName", ""))
            if output.get("ExportName") and users:
                raise invalid(f"Delete canceled. Cannot delete export {output['ExportName']} as it is in use by "
                              f"{', '.join(user.name for user in users)}.")  # fmt: skip
        session = self._session(params.get("RoleARN") or stack.data["role"], caller)
        stack.enter("DELETE_IN_PROGRESS", "User Initiated", params.get("ClientRequestToken", ""))
        around = self._around(session)

        def work(stop: Any) -> None:
            with contextlib.closing(session):
                if stack.status != "DELETE_IN_PROGRESS":  # what was stopped for this has marked the stack
                    stack.enter("DELETE_IN_PROGRESS")
                deployment = Deployment(around, stack, session.client, stopping=stop.is_set)
                operations.delete(stack, deployment, kept)

        self._operations.start(stack, work, instead=True)
        return {}

    def continue_update_rollback(self, params: Params, caller: Caller) -> Params:
        """Try again to bring a stack back to what it was before an update."""
        stack = self._existing(params["StackName"], "Stack [{}] does not exist")
        unfinished = stack.data.get("unfinished")
        if stack.status != "UPDATE_ROLLBACK_FAILED" or not unfinished:
            raise invalid(f"Stack [{stack.id}] cannot be rolled back while in status {stack.status}")
        skipped = params.get("ResourcesToSkip", [])
        unknown = sorted(set(skipped) - {step["logical"] for step in unfinished["steps"]})
        if unknown:
            raise invalid(f"Stack [{stack.name}] has no failed resources {unknown}")
        session = self._session(params.get("RoleARN") or stack.data["role"], caller)
        stack.enter("UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
        around = self._around(session)

        def work(stop: Any) -> None:
            with contextlib.closing(session):
                deployment = Deployment(around, stack, session.client, stopping=stop.is_set)
                operations.continue_rollback(stack, deployment, skipped)

        self._operations.start(stack, work)
        return {}

    def update_termination_protection(self, params: Params, caller: Caller) -> Params:
        """Protect a stack from being deleted, or no longer."""
        stack = self._existing(params["StackName"], "Stack [{}] does not exist")
        stack.change(lambda data: data.update(protected=params["EnableTerminationProtection"]))
        return {"StackId": stack.id}

    # -- templates

    def validate_template(self, params: Params, caller: Caller) -> Params:
        """Check a template; say what parameters and capabilities it takes."""
        return answers.validated(self._read_template(params, None, caller))

    def get_template_summary(self, params: Params, caller: Caller) -> Params:
        """Say what a template holds."""
        stack = None
        if "StackName" in params:
            stack = self._existing(params["StackName"], "Stack with id {} does not exist")
        return answers.summary(self._read_template(params, stack, caller))

    # -- change sets

    def create_change_set(self, params: Params, caller: Caller) -> Params:
        """Work out what a template would change."""
        kind, name = params.get("ChangeSetType", "UPDATE"), params["ChangeSetName"]
        stack = self.stacks.find(params["StackName"])
        changesets.require_type(stack, kind, params["StackName"])
        session = self._session(params.get("RoleARN") or (stack.data["role"] if stack else ""), caller)
        with contextlib.closing(session):
            template = self._template(params, caller, stack)
            requests.require_capabilities(template, params)
            new = stack is None
            stack = stack or self._new_stack(params)
            if name in stack.data["change_sets"]:
                raise AwsError("AlreadyExistsException", f"ChangeSet {name} already exists")
            target = self._target(session, stack, template, params, stack.data["parameters"])
            self._check_exports(target, stack)
            found = changesets.changes(self._around(session), stack, target)
        record = changesets.record(self.site, stack, params, target, found)
        if new:
            self.stacks.add(stack, "REVIEW_IN_PROGRESS")
        stack.change(lambda data: data["change_sets"].update({name: record}))
        return {"Id": record["id"], "StackId": stack.id}

    def delete_change_set(self, params: Params, caller: Caller) -> Params:
        """Forget a change set; one that is not there is no error."""
        stack = self._stack_of_change_set(params)
        try:
            record = changesets.find(stack, params["ChangeSetName"])
        except AwsError:
            return {}
        if record["execution"] == "EXECUTE_IN_PROGRESS":
            raise AwsError("InvalidChangeSetStatus", f"ChangeSet [{record['id']}] cannot be deleted in current "
                           "status [EXECUTE_IN_PROGRESS]")  # fmt: skip
        stack.change(lambda data: data["change_sets"].pop(record["name"]))
        return {}

    def execute_change_set(self, params: Params, caller: Caller) -> Params:
        """Begin to make or change the stack as the change set says."""
        stack, record = self._change_set(params)
        if record["execution"] != "AVAILABLE":
            raise AwsError("InvalidChangeSetStatus", f"ChangeSet [{record['id']}] cannot be executed in its current "
                           f"execution status of [{record['execution']}]")  # fmt: skip
        status = stack.status
        new = status == "REVIEW_IN_PROGRESS"
        if not new:
            _updatable(stack)
        session = self._session(record["request"].get("RoleARN") or stack.data["role"], caller)
        with _closing_on_error(session):
            failing = requests.failing_of_change_set(record["request"], params)
            target = targets.settle(self._around(session), parse(record["template"]), record["parameters"],
                                    record["tags"], stack.id)  # fmt: skip
            stack.begin(status, "CREATE_IN_PROGRESS" if new else "UPDATE_IN_PROGRESS")
        changesets.executing(stack, record, params.get("ClientRequestToken", ""))
        work = operations.create if new else operations.update
        self._begin(stack, session, target, record["request"], failing, work)
        return {}

    # -- parts

    def _begin(
        self,
        stack: Stack,
        session: Session,
        target: Target,
        params: Params,
        failing: Failing,
        operation: Callable[..., None],
    ) -> None:
        around = self._around(session, stack)

        def settle() -> None:
            stack.change(lambda data: data.update(requests.settled(params, target, stack), imports=[]))

        def work(stop: Any) -> None:
            with contextlib.closing(session):
                deployment = Deployment(around, stack, session.client, stopping=stop.is_set)
                operation(stack, deployment, target, failing, settle)

        try:
            self._operations.start(stack, work)
        except AwsError:
            session.close()
            stack.break_off()
            raise

    def _session(self, role_arn: str | None, caller: Caller) -> Session:
        if not role_arn:
            return Session(self.site, self._own(caller.access_key if isinstance(caller, Requester) else ""))
        try:
            return Session(self.site, self._assume(role_arn))
        except AwsError as error:
            raise invalid(f"Role {role_arn} is invalid or cannot be assumed") from error

    def _around(self, session: Session, importing: Stack | None = None) -> Around:
        """Return what is around a template; ``importing`` is noted as a user of what it imports."""

        def imported(name: str) -> str:
            found = self.stacks.exporter(name)
            if found is None:
                raise invalid(f"No export named {name} found. Rollback requested by user.")
            if importing is not None and name not in importing.data["imports"]:
                importing.change(lambda data: data["imports"].append(name))
            return found[1]

        return Around(self.site, imported, session.zones)

    def _new_stack(self, params: Params) -> Stack:
        arn = self.site.arn("cloudformation", f"stack/{params['StackName']}/{uuid.uuid4()}")
        return self.stacks.blank(arn, params.get("RoleARN") or "")

    def _template(self, params: Params, caller: Caller, stack: Stack | None) -> Template:
        # Read as whoever asks: what a service role may read is not the caller's to see.
        with contextlib.ExitStack() as opened:

            def own() -> Session:
                return opened.enter_context(contextlib.closing(self._session(None, caller)))

            body = requests.body_of(params, own, self.site.endpoint_url, stack.data["template"] if stack else "")
        template = parse(body)
        checks.check(template)
        return template

    def _read_template(self, params: Params, stack: Stack | None, caller: Caller) -> Template:
        if stack is not None:
            return parse(stack.data["template"])
        return self._template(params, caller, None)

    def _target(
        self, session: Session, stack: Stack, template: Template, params: Params, kept: Mapping[str, Data]
    ) -> Target:
        settled = parameters.settle(template, params.get("Parameters", []), kept, session.lookups())
        tags = requests.tags(params, stack)
        return targets.settle(self._around(session), template, settled, tags, stack.id)

    def _check_exports(self, target: Target, stack: Stack) -> None:
        for output in target.template.outputs.values():
            name = (output.get("Export") or {}).get("Name")
            found = self.stacks.exporter(name) if isinstance(name, str) else None
            if found and found[0].id != stack.id:
                raise invalid(f"Export with name {name} is already exported by stack {found[0].name}")


def _updatable(stack: Stack) -> str:
    """Return the stack's status. Raises AwsError unless it can be updated in it."""
    status = stack.status
    if status not in _UPDATABLE:
        raise invalid(f"Stack:{stack.id} is in {status} state and can not be updated.")
    return status


@contextlib.contextmanager
def _closing_on_error(session: Session) -> Any:
    try:
        yield
    except BaseException:
        session.close()
        raise
