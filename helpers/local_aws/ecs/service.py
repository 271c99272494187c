"""The ECS API: clusters, task definitions and tasks on Fargate."""

import copy
import logging
from collections.abc import Sequence
from typing import ClassVar, Protocol

from helpers.local_aws import ecr
from helpers.local_aws.ecs import names, orders, tags
from helpers.local_aws.ecs.clusters import Clusters
from helpers.local_aws.ecs.definitions import Definitions
from helpers.local_aws.ecs.errors import client, invalid, unassumable, unsupported
from helpers.local_aws.ecs.launch import Assume
from helpers.local_aws.ecs.orders import Networks, Order
from helpers.local_aws.ecs.pages import page
from helpers.local_aws.ecs.permissions import Permissions
from helpers.local_aws.ecs.store import Record, Store
from helpers.local_aws.ecs.tasks import Running, Tasks
from helpers.local_aws.ecs.views import task_view
from helpers.local_aws.wire import AwsError, Caller, Params, Permission, Service, Site

PRINCIPAL = "ecs.amazonaws.com"
_MOST_DESCRIBED = 100
_log = logging.getLogger(__name__)


class LinkedRoles(Protocol):
    """Service-linked roles: in that of ECS the network interfaces of tasks are made."""

    def arn(self, service: str) -> str:
        """Return the ARN of a service's role."""

    def exists(self, service: str) -> bool:
        """Tell whether the account has it."""

    def create(self, service: str) -> None:
        """Make it."""


class Ecs(Service):
    """Run Fargate tasks as isolated processes of this machine.

    ``assume(role_arn, session_name)`` returns the AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN with which ecs-tasks.amazonaws.com
    acts in a role, and raises AwsError where the role does not let it.
    ``require(role_arn, permissions)`` raises AwsError unless the role has them.
    """

    name: ClassVar[str] = "ecs"

    def __init__(
        self,
        site: Site,
        assume: Assume,
        require: ecr.Require,
        *,
        containers: Running,
        images: ecr.Source,
        networks: Networks,
        linked_roles: LinkedRoles,
    ) -> None:
        super().__init__(site)
        self._assume, self._networks, self._linked_roles = assume, networks, linked_roles
        self._store = Store(site.state_dir / "ecs")
        self._clusters, self._definitions = Clusters(site, self._store), Definitions(site, self._store)
        self._permissions = Permissions(site, self._store, self._clusters, self._definitions)
        self._tasks = Tasks(site, self._store, containers, images, assume, require)

    def permissions(self, operation: str, params: Params) -> Sequence[Permission]:
        """Return what ECS's authorization reference demands for the operation."""
        return self._permissions.of(operation, params)

    def invalid(self, operation: str, member: str, problem: str) -> AwsError:
        """Return ECS's error for a parameter that breaks the model's constraints."""
        return invalid(problem)

    def wait(self, task_arn: str, timeout: float | None = None) -> bool:
        """Block until a task has stopped, woken by its end; False after ``timeout`` seconds.

        Raises InvalidParameterException when there is no such task.
        """
        with self._store.lock:
            task = self._permissions.tagged(task_arn)
        if task is None or "taskId" not in task:
            raise invalid("The referenced task was not found.")
        return self._tasks.wait(task["taskId"], timeout)

    def resume(self) -> None:
        """Start the tasks that waited when the embedded AWS was stopped."""
        self._tasks.resume()

    def close(self) -> None:
        """Let no more tasks start; those that run end with their containers."""
        self._tasks.close()

    def create_cluster(self, params: Params, caller: Caller) -> Params:
        """Make a cluster, and ECS's service-linked role where the caller may.

        One who may not gets the cluster all the same, as on AWS; only no task runs in it.
        """
        roles = self._linked_roles
        if not roles.exists(PRINCIPAL):
            context = {"iam:AWSServiceName": PRINCIPAL}
            try:
                caller.require(Permission("iam:CreateServiceLinkedRole", roles.arn(PRINCIPAL), context))
                roles.create(PRINCIPAL)
            except AwsError as denied:
                _log.info("%s may not make the service-linked role of ECS: %s", caller.arn, denied.message)
        return self._clusters.create(params, linked=roles.exists(PRINCIPAL))

    def describe_clusters(self, params: Params, caller: Caller) -> Params:
        """Return clusters, deleted ones as INACTIVE."""
        return self._clusters.describe(params)

    def list_clusters(self, params: Params, caller: Caller) -> Params:
        """List the ARNs of clusters."""
        return self._clusters.list_arns(params)

    def delete_cluster(self, params: Params, caller: Caller) -> Params:
        """Delete a cluster without tasks."""
        return self._clusters.delete(params)

    def register_task_definition(self, params: Params, caller: Caller) -> Params:
        """Make a new revision of a family."""
        return self._definitions.register(params, caller.arn)

    def describe_task_definition(self, params: Params, caller: Caller) -> Params:
        """Return one revision."""
        return self._definitions.describe(params)

    def list_task_definitions(self, params: Params, caller: Caller) -> Params:
        """List the ARNs of revisions."""
        return self._definitions.list_arns(params)

    def list_task_definition_families(self, params: Params, caller: Caller) -> Params:
        """List families."""
        return self._definitions.list_families(params)

    def deregister_task_definition(self, params: Params, caller: Caller) -> Params:
        """Make a revision INACTIVE."""
        return self._definitions.deregister(params)

    def delete_task_definitions(self, params: Params, caller: Caller) -> Params:
        """Delete INACTIVE revisions."""
        return self._definitions.delete(params)

    def run_task(self, params: Params, caller: Caller) -> Params:
        """Start tasks. They are PROVISIONING in the answer, and run as soon as their images are there."""
        with self._store.lock:
            self._store.forget_old()
            cluster = self._clusters.to_run(params.get("cluster"), linked=self._linked_roles.exists(PRINCIPAL))
            definition = copy.deepcopy(self._definitions.to_run(params["taskDefinition"]))
        order = orders.read(self.site, params, cluster, definition, self._networks)
        for role in order.roles.values():
            try:
                self._assume(role, "ECS")
            except AwsError as error:
                raise unassumable(role) from error
        with self._store.lock:
            made = self._known(order) or self._tasks.run(order)
        return {"tasks": [task_view(each, with_tags=True) for each in made], "failures": []}

    def stop_task(self, params: Params, caller: Caller) -> Params:
        """Send SIGTERM to a task's container, SIGKILL when it takes too long."""
        with self._store.lock:
            cluster = self._clusters.find(params.get("cluster"))
            task = self._task(params["task"], cluster)
        if task is None:
            raise invalid("The referenced task was not found.")
        stopped = self._tasks.stop(task["taskId"], params.get("reason") or "Task stopped by user")
        return {"task": task_view(stopped, with_tags=True)}

    def describe_tasks(self, params: Params, caller: Caller) -> Params:
        """Return tasks; those that are not there, or stopped an hour ago, are failures."""
        asked = params["tasks"]
        if not asked:
            raise invalid("Tasks cannot be empty.")
        if len(asked) > _MOST_DESCRIBED:
            raise invalid(f"Tasks cannot have more than {_MOST_DESCRIBED} elements.")
        found, failures = [], []
        with self._store.lock:
            self._store.forget_old()
            cluster = self._clusters.find(params.get("cluster"))
            for each in dict.fromkeys(asked):
                if task := self._task(each, cluster):
                    found.append(task_view(copy.deepcopy(task), with_tags="TAGS" in params.get("include", [])))
                else:
                    task_id = names.task(self.site, each, cluster["clusterName"])
                    arn = self.site.arn("ecs", f"task/{cluster['clusterName']}/{task_id}")
                    failures.append({"arn": arn, "reason": "MISSING"})
        return {"tasks": found, "failures": failures}

    def list_tasks(self, params: Params, caller: Caller) -> Params:
        """List the ARNs of a cluster's tasks, those that are to run unless asked otherwise."""
        if params.get("serviceName"):
            raise AwsError("ServiceNotFoundException", "Service not found.")
        for member in ("containerInstance", "daemonName"):
            if params.get(member):
                raise unsupported("ListTasks", member)
        if params.get("startedBy") and params.get("family"):
            raise invalid("startedBy must be the only filter that is used.")
        with self._store.lock:
            self._store.forget_old()
            cluster = self._clusters.find(params.get("cluster"))
            found = [each for each in self._store.tasks.values() if _listed(each, cluster, params)]
            found.sort(key=lambda each: each["createdAt"])
            return page("taskArns", [each["taskArn"] for each in found], params)

    def tag_resource(self, params: Params, caller: Caller) -> Params:
        """Add tags to a resource, or change their values."""
        new = tags.checked(params["tags"])
        with self._store.lock:
            record = self._tagged(params["resourceArn"])
            record["tags"] = tags.merged(record["tags"], new)
            self._save(record)
        return {}

    def untag_resource(self, params: Params, caller: Caller) -> Params:
        """Remove tags from a resource; keys that it does not have are no error."""
        with self._store.lock:
            record = self._tagged(params["resourceArn"])
            record["tags"] = [tag for tag in record["tags"] if tag["key"] not in params["tagKeys"]]
            self._save(record)
        return {}

    def list_tags_for_resource(self, params: Params, caller: Caller) -> Params:
        """List the tags of a resource."""
        with self._store.lock:
            return {"tags": list(self._tagged(params["resourceArn"])["tags"])}

    def _task(self, reference: str, cluster: Record) -> Record | None:
        task = self._store.tasks.get(names.task(self.site, reference, cluster["clusterName"]))
        return task if task and task["clusterArn"] == cluster["clusterArn"] else None

    def _known(self, order: Order) -> list[Record]:
        """Return the tasks that were started with the same clientToken. Raises ConflictException."""
        if not order.token:
            return []
        cluster = order.cluster["clusterArn"]
        found = [
            each for each in self._store.tasks.values() if (each["token"], each["clusterArn"]) == (order.token, cluster)
        ]
        if any(each["digest"] != order.digest for each in found):
            raise AwsError("ConflictException", "The clientToken was used with other parameters before.")
        return copy.deepcopy(found)

    def _tagged(self, arn: str) -> Record:
        kind = names.resource(self.site, arn).kind
        if kind not in ("cluster", "task-definition", "task"):
            raise unsupported("TagResource", f"resources of the kind {kind}")
        record = self._permissions.tagged(arn)
        if record is None:
            raise client(f"The specified {kind.replace('-', ' ')} is not found.")
        if record.get("status") == "INACTIVE" and kind == "cluster":
            raise invalid("The specified cluster is inactive. Specify an active cluster and try again.")
        if record.get("lastStatus") == "STOPPED":
            raise invalid("The specified task is stopped. Specify a running task and try again.")
        return record

    def _save(self, record: Record) -> None:
        if "taskId" in record:
            self._store.save_task(record["taskId"])
        elif "revision" in record:
            self._store.save_definitions()
        else:
            self._store.save_clusters()


def _listed(task: Record, cluster: Record, params: Params) -> bool:
    wanted = {
        "desiredStatus": params.get("desiredStatus", "RUNNING"),
        "launchType": params.get("launchType", task["launchType"]),
        "startedBy": params.get("startedBy", task.get("startedBy")),
    }
    same = all(task.get(name) == value for name, value in wanted.items())
    family = params.get("family", task["definition"]["family"])
    return same and task["clusterArn"] == cluster["clusterArn"] and task["definition"]["family"] == family
