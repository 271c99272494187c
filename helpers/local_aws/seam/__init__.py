"""The one package that touches ministack, the base of the embedded AWS.

ministack publishes no plug-in interface, so its version is pinned, and every
name of its that we use or replace is listed in ``hooks.HOOKS``; ``check_hooks``
fails with the list of those that are gone. ``configure`` sets it up before it is
imported; ``Seam`` imports it in this process and puts our hooks in.
"""

from collections.abc import Callable
from typing import Any

from helpers.local_aws.lambdas import Functions
from helpers.local_aws.seam import expressions, memory
from helpers.local_aws.seam.apis import ApiCalls
from helpers.local_aws.seam.executions import ExecutionHooks
from helpers.local_aws.seam.functions import FunctionHooks
from helpers.local_aws.seam.hooks import HOOKS, SERVICES, Ministack, check_hooks, configure
from helpers.local_aws.seam.identity import Identity
from helpers.local_aws.seam.instances import InstanceProfiles
from helpers.local_aws.seam.linked_roles import LinkedRoles
from helpers.local_aws.seam.log_groups import LogGroups
from helpers.local_aws.seam.messaging import Messaging
from helpers.local_aws.seam.notifications import NotificationHooks
from helpers.local_aws.seam.objects import ObjectHooks
from helpers.local_aws.seam.schedules import Schedules
from helpers.local_aws.seam.stacks import StackCredentials
from helpers.local_aws.seam.tables import Tables
from helpers.local_aws.states.jobs import JobTasks
from helpers.local_aws.wire import Site

__all__ = ["HOOKS", "SERVICES", "Seam", "check_hooks", "configure"]


class Seam:
    """ministack behind a small interface: who is calling, may they, act as a role, run things."""

    def __init__(self, site: Site) -> None:
        """Import ministack (``configure`` ran before), check the hooks and put those of IAM in."""
        self._site, self._ministack = site, Ministack()
        self.identity = Identity(site, self._ministack)
        self.instance_profiles = InstanceProfiles(self._ministack)
        self.linked_roles = LinkedRoles(site.account_id, self._ministack)
        self.log_groups = LogGroups(self._ministack)
        self.stack_credentials = StackCredentials(site, self._ministack, self.identity)
        self._functions = FunctionHooks(site, self._ministack, self.identity)
        self.invoke_for, self.events = self._functions.invoke_for, self._functions.queue
        self.api_calls = ApiCalls(site, self._ministack, self.identity, self._functions)

    @property
    def asgi(self) -> Callable[..., Any]:
        """ministack's ASGI application."""
        return self._ministack.app.app

    def install(self, functions: Functions, jobs: JobTasks) -> None:
        """Run functions in our workers, and jobs and containers as tasks of executions."""
        self._functions.install(functions)
        ObjectHooks(self._site, self._ministack, self.identity).install()
        NotificationHooks(self._site, self._ministack, self.identity, self._functions).install()
        Messaging(self._ministack, self.invoke_for).install()
        Tables(self._ministack).install()
        self._schedules = Schedules(self._site, self._ministack, self.invoke_for)
        self._schedules.install()
        memory.install(self._ministack)
        expressions.install(self._ministack)
        self._executions = ExecutionHooks(self._site, self._ministack, self.identity)
        self._executions.install(jobs)

    def resume(self) -> None:
        """Go on with what was running when the embedded AWS was stopped."""
        self._executions.resume()

    def close(self) -> None:
        """Hold what is running as it is, before the processes that do its work are ended."""
        self._schedules.close()
        self._executions.close()

    async def bootstrap_call(self, service: str, form: str) -> None:
        """Make a Query-protocol call without asking IAM: for what must exist before any principal does."""
        headers = {"content-type": "application/x-www-form-urlencoded"}
        status, _, body = await self._ministack.app.SERVICE_HANDLERS[service]("POST", "/", headers, form.encode(), {})
        if status >= 400 and b"EntityAlreadyExists" not in body:
            raise RuntimeError(f"{service}: {body.decode()}")
