"""Clusters: a name under which tasks run."""

from collections.abc import Mapping, Sequence
from typing import Any

from helpers.local_aws.ecs import names, tags
from helpers.local_aws.ecs.errors import client, cluster_not_found, invalid, unsupported
from helpers.local_aws.ecs.pages import page
from helpers.local_aws.ecs.store import Record, Store
from helpers.local_aws.wire import AwsError, Params, Site

PROVIDERS = ("FARGATE", "FARGATE_SPOT")
_NO_ROLE = "Unable to assume the service linked role. Please verify that the ECS service linked role exists."
_NEVER_STARTED = ("PROVISIONING", "PENDING", "ACTIVATING")
_LAUNCH_TYPES = ("EC2", "Fargate")


class Clusters:
    """The clusters of a site. The methods named for operations answer them."""

    def __init__(self, site: Site, store: Store) -> None:
        self._site, self._store = site, store

    def create(self, params: Params, *, linked: bool) -> Params:
        """Make a cluster, or find that it is there already, just so.

        ``linked``: whether the account has ECS's service-linked role, which capacity providers need.
        """
        name = params.get("clusterName") or "default"
        if not names.is_name(name):
            raise client("The cluster name contains invalid characters.")
        wanted = self._wanted(params)
        if wanted["capacityProviders"] and not linked:
            raise invalid(_NO_ROLE)
        with self._store.lock:
            found = self._store.clusters.get(name)
            if found and found["status"] == "ACTIVE":
                if any(member in params and found[member] != wanted[member] for member in wanted):
                    raise invalid(
                        "Arguments on this idempotent request are inconsistent with arguments used in previous "
                        "request(s)."
                    )
            else:
                found = {"clusterArn": self.arn(name), "clusterName": name, "status": "ACTIVE", **wanted}
                self._store.clusters[name] = found
                self._store.save_clusters()
            return {"cluster": self._view(found, ("SETTINGS", "TAGS"))}

    def describe(self, params: Params) -> Params:
        """Return clusters; those that are not there are failures."""
        asked = params.get("clusters") or ["default"]
        if len(asked) > 100:
            raise invalid("Clusters cannot have more than 100 elements.")
        found, failures = [], []
        with self._store.lock:
            for name in dict.fromkeys(names.cluster(self._site, each) for each in asked):
                if name in self._store.clusters:
                    found.append(self._view(self._store.clusters[name], params.get("include", [])))
                else:
                    failures.append({"arn": self.arn(name), "reason": "MISSING"})
        return {"clusters": found, "failures": failures}

    def list_arns(self, params: Params) -> Params:
        """List the clusters that were not deleted."""
        with self._store.lock:
            found = [each["clusterArn"] for each in self._store.clusters.values() if each["status"] == "ACTIVE"]
        return page("clusterArns", sorted(found), params)

    def delete(self, params: Params) -> Params:
        """Make a cluster INACTIVE: it can still be described, and made anew."""
        with self._store.lock:
            record = self.find(params["cluster"])
            if self._store.active_tasks(record["clusterArn"]):
                raise AwsError("ClusterContainsTasksException", "The Cluster cannot be deleted while Tasks are active.")
            record.update(status="INACTIVE", tags=[])
            self._store.save_clusters()
            return {"cluster": self._view(record, ())}

    def find(self, reference: str | None) -> Record:
        """Return a cluster, the default one without a reference. Raises ClusterNotFoundException."""
        record = self._store.clusters.get(names.cluster(self._site, reference))
        if record is None:
            raise cluster_not_found()
        return record

    def to_run(self, reference: str | None, *, linked: bool) -> Record:
        """Return the cluster that a task is to be run in. Raises AwsError."""
        record = self.find(reference)
        if record["status"] != "ACTIVE":
            raise AwsError("ClusterNotFoundException", "The referenced cluster was inactive.")
        if not linked:
            raise invalid(_NO_ROLE)
        return record

    def arn(self, name: str) -> str:
        """Return the ARN of a cluster."""
        return self._site.arn("ecs", f"cluster/{name}")

    def _wanted(self, params: Params) -> dict[str, Any]:
        for member in ("configuration", "serviceConnectDefaults"):
            if params.get(member):
                raise unsupported("CreateCluster", member)
        settings = params.get("settings", [])
        for each in settings:
            if each.get("value") not in ("enabled", "enhanced", "disabled"):
                raise invalid("containerInsights must be one of enabled, enhanced or disabled.")
            if each["value"] != "disabled":
                raise unsupported("CreateCluster", f"containerInsights {each['value']}: there are no metrics here")
        providers = params.get("capacityProviders", [])
        for each in providers:
            if each not in PROVIDERS:
                raise invalid(f"The specified capacity provider {each:.300} was not found.")
        strategy = params.get("defaultCapacityProviderStrategy", [])
        require_strategy(strategy, providers)
        return {
            "settings": settings or [{"name": "containerInsights", "value": "disabled"}],
            "capacityProviders": providers,
            "defaultCapacityProviderStrategy": [{"weight": 0, "base": 0, **each} for each in strategy],
            "tags": tags.checked(params.get("tags", [])),
        }

    def _view(self, record: Record, include: Sequence[str]) -> Params:
        tasks = self._store.active_tasks(record["clusterArn"])
        pending = sum(task["lastStatus"] in _NEVER_STARTED for task in tasks)
        shown = {
            "clusterArn": record["clusterArn"],
            "clusterName": record["clusterName"],
            "status": record["status"],
            "registeredContainerInstancesCount": 0,
            "runningTasksCount": len(tasks) - pending,
            "pendingTasksCount": pending,
            "activeServicesCount": 0,
            "statistics": [],
            "tags": record["tags"] if "TAGS" in include else [],
            "settings": record["settings"] if "SETTINGS" in include else [],
            "capacityProviders": record["capacityProviders"],
            "defaultCapacityProviderStrategy": record["defaultCapacityProviderStrategy"],
        }
        if "STATISTICS" in include:
            counts = {"runningFargateTasksCount": len(tasks) - pending, "pendingFargateTasksCount": pending}
            shown["statistics"] = _statistics(counts)
        return shown


def require_strategy(strategy: Sequence[Mapping[str, Any]], associated: Sequence[str]) -> None:
    """Raise InvalidParameterException unless a capacity provider strategy names providers that a cluster has."""
    for each in strategy:
        if each["capacityProvider"] not in associated:
            raise invalid(
                "The specified capacity provider strategy cannot contain a capacity provider that is not associated "
                "with the cluster. Associate the capacity provider with the cluster and try again."
            )
    if sum(bool(each.get("base")) for each in strategy) > 1:
        raise invalid(
            "There are multiple capacity providers in the specified capacity provider strategy with a base value "
            "defined"
        )
    if strategy and len(strategy) > 1 and not any(each.get("weight") for each in strategy):
        raise invalid(
            "There are no capacity providers in the capacity provider strategy with a weight value greater than zero"
        )


def _statistics(counts: Mapping[str, int]) -> list[dict[str, str]]:
    known = [
        f"{state}{kind}{what}Count"
        for what, states in (("Tasks", ("running", "pending")), ("Service", ("active", "draining")))
        for state in states
        for kind in _LAUNCH_TYPES
    ]
    return [{"name": name, "value": str(counts.get(name, 0))} for name in known]
