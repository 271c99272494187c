"""What IAM has to allow for ECS's operations, as AWS's Service Authorization Reference says.

A task is named by its cluster and its id, and one that is to be made by
``task/{cluster}/*``. Describing, listing and deregistering task definitions
knows no resources. Who registers or runs a task passes its roles on.
"""

from collections.abc import Iterator
from typing import Any

from helpers.local_aws.ecs import names, orders, tags
from helpers.local_aws.ecs.clusters import Clusters
from helpers.local_aws.ecs.definitions import Definitions
from helpers.local_aws.ecs.store import Record, Store
from helpers.local_aws.wire import Params, Permission, Site

PRINCIPAL = "ecs-tasks.amazonaws.com"


class Permissions:
    """The permissions of a site's ECS operations."""

    def __init__(self, site: Site, store: Store, clusters: Clusters, definitions: Definitions) -> None:
        self._site, self._store = site, store
        self._clusters, self._definitions = clusters, definitions

    def of(self, operation: str, params: Params) -> list[Permission]:
        """Return the permissions of an operation. Raises AwsError for what it names and is not there."""
        with self._store.lock:
            return list(self._of(operation, params))

    def _of(self, operation: str, params: Params) -> Iterator[Permission]:
        action = f"ecs:{operation}"
        if operation == "CreateCluster":
            yield from self._create_cluster(params)
        elif operation == "RegisterTaskDefinition":
            yield from self._register(params)
        elif operation == "RunTask":
            yield from self._run(params)
        elif "resourceArn" in params:
            context = self._about(params["resourceArn"]) | tags.requested(params.get("tags", []))
            if "tagKeys" in params:
                context["aws:TagKeys"] = list(params["tagKeys"])
            yield Permission(action, params["resourceArn"], context)
        elif operation in ("DeleteCluster", "DescribeClusters"):
            for each in [params["cluster"]] if "cluster" in params else params.get("clusters") or ["default"]:
                arn = self._clusters.arn(names.cluster(self._site, each))
                yield Permission(action, arn, self._about(arn))
        elif operation == "DeleteTaskDefinitions":
            for each in params["taskDefinitions"]:
                family, revision = names.definition(self._site, each)
                arn = self._definitions.arn(family, revision or "*")
                yield Permission(action, arn, self._about(arn))
        elif operation in ("StopTask", "DescribeTasks", "ListTasks"):
            yield from self._on_tasks(operation, params)
        else:
            yield Permission(action)

    def _create_cluster(self, params: Params) -> Iterator[Permission]:
        arn = self._clusters.arn(params.get("clusterName") or "default")
        context: dict[str, Any] = tags.requested(params.get("tags", []))
        if params.get("capacityProviders"):
            context["ecs:capacity-provider"] = self._providers(params["capacityProviders"])
        yield Permission("ecs:CreateCluster", arn, context)
        yield from self._tagging(arn, "CreateCluster", params.get("tags", []))

    def _register(self, params: Params) -> Iterator[Permission]:
        arn = self._definitions.arn(params["family"], "*")
        context: dict[str, Any] = {
            **tags.requested(params.get("tags", [])),
            "ecs:compute-compatibility": params.get("requiresCompatibilities", []),
            "ecs:privileged": "false",
        }
        for member in ("cpu", "memory"):
            if str(params.get(member, "")).isdecimal():
                context[f"ecs:task-{member}"] = params[member]
        yield Permission("ecs:RegisterTaskDefinition", arn, context)
        yield from self._tagging(arn, "RegisterTaskDefinition", params.get("tags", []))
        yield from self._passing(orders.with_role_arns(self._site, params))

    def _run(self, params: Params) -> Iterator[Permission]:
        cluster = names.cluster(self._site, params.get("cluster"))
        definition = self._definitions.to_run(params["taskDefinition"])
        given = orders.task_tags(params, cluster, definition)
        context: dict[str, Any] = {
            **tags.of_resource(definition["tags"]),
            **tags.requested(given),
            "ecs:cluster": self._clusters.arn(cluster),
            "ecs:enable-execute-command": str(bool(params.get("enableExecuteCommand"))).lower(),
            "ecs:enable-ebs-volumes": str(bool(params.get("volumeConfigurations"))).lower(),
        }
        if strategy := params.get("capacityProviderStrategy"):
            context["ecs:capacity-provider"] = self._providers([each["capacityProvider"] for each in strategy])
        yield Permission("ecs:RunTask", definition["taskDefinitionArn"], context)
        yield from self._tagging(self._site.arn("ecs", f"task/{cluster}/*"), "RunTask", given)
        overrides = orders.with_role_arns(self._site, params.get("overrides", {}))
        yield from self._passing(orders.roles(definition, overrides))

    def _on_tasks(self, operation: str, params: Params) -> Iterator[Permission]:
        cluster = names.cluster(self._site, params.get("cluster"))
        context = {"ecs:cluster": self._clusters.arn(cluster)}
        if operation == "ListTasks":
            instances = self._site.arn("ecs", f"container-instance/{cluster}/*")
            yield Permission("ecs:ListTasks", instances, context)
            return
        for each in [params["task"]] if operation == "StopTask" else params["tasks"]:
            arn = self._site.arn("ecs", f"task/{cluster}/{names.task(self._site, each, cluster)}")
            yield Permission(f"ecs:{operation}", arn, {**context, **self._about(arn)})

    def _tagging(self, arn: str, creating: str, given: Any) -> Iterator[Permission]:
        if given:
            yield Permission("ecs:TagResource", arn, {**tags.requested(given), "ecs:CreateAction": creating})

    def _passing(self, params: Params) -> Iterator[Permission]:
        for member in ("executionRoleArn", "taskRoleArn"):
            if params.get(member):
                yield Permission("iam:PassRole", params[member], {"iam:PassedToService": PRINCIPAL})

    def _providers(self, given: list[str]) -> list[str]:
        return [self._site.arn("ecs", f"capacity-provider/{name}") for name in given]

    def _about(self, arn: str) -> dict[str, Any]:
        """Return the condition keys of a resource that exists: its tags."""
        found = self.tagged(arn)
        return dict(tags.of_resource(found["tags"])) if found else {}

    def tagged(self, arn: str) -> Record | None:
        """Return the record of a cluster, task definition or task by its ARN, or None."""
        kind, name = names.resource(self._site, arn)
        if kind == "cluster":
            return self._store.clusters.get(name)
        if kind == "task-definition":
            return self._store.definitions.get(name)
        if kind == "task":
            task = self._store.tasks.get(name.rpartition("/")[2])
            return task if task and task["taskArn"] == arn else None
        return None
