"""The EC2 API: instances, their tags, images and types, the default network and its security groups."""

import base64
import re
import time
from collections.abc import Callable

from botocore import xform_name

from helpers.local_aws.ec2 import groups, launching, parameters, query, tags
from helpers.local_aws.ec2.describing import Descriptions
from helpers.local_aws.ec2.instances import Instances, Start
from helpers.local_aws.ec2.network import Network
from helpers.local_aws.ec2.permissions import Permissions, require
from helpers.local_aws.ec2.store import Store
from helpers.local_aws.ec2.views import state, tag_set
from helpers.local_aws.wire import AwsError, Caller, Params, Site

CONTENT_TYPE = "text/xml;charset=UTF-8"
_INSTANCE_ID = re.compile("i-([0-9a-f]{8}|[0-9a-f]{17})")


class Ec2:
    """Answer EC2's operations; what is not here is refused by name.

    ``start(ended)`` makes the machines behind the instances (see ``Machines``);
    ``find_profile(name, arn)`` looks an instance profile of IAM up.
    """

    def __init__(self, site: Site, start: Start, find_profile: launching.FindProfile) -> None:
        self._store = Store(site.state_dir / "ec2" / "records.json", Network(site))
        self._permissions = Permissions(site, self._store)
        self._describe = Descriptions(site, self._store)
        self._find_profile = find_profile
        self._instances = Instances(site, self._store, start)

    def answer(self, body: bytes, caller: Caller) -> bytes:
        """Answer one request: a form. Returns XML; raises AwsError."""
        fields = query.form(body)
        operation = fields.get("Action", "")
        if not operation:
            raise AwsError("MissingAction", "The request must contain the parameter Action")
        return query.xml(operation, self.call(operation, fields, caller))

    def call(self, operation: str, fields: dict[str, str], caller: Caller) -> Params:
        """Validate, authorize and run ``operation`` with the fields of a form. Raises AwsError."""
        if operation not in parameters.OPERATIONS:
            raise AwsError("NotImplemented", f"the embedded AWS does not support ec2:{operation:.100}", 501)
        params = query.parse(fields, parameters.OPERATIONS[operation], operation)
        for name in parameters.REQUIRED.get(operation, ()):
            if params.get(name) in (None, "", []):
                raise AwsError("MissingParameter", f"The request must contain the parameter {name}")
        _check_ids(params)
        name = xform_name(operation)
        with self._store.lock:
            if operation.startswith("Describe"):
                describe: Callable[[Params], Params] = getattr(self._describe, name)
                self._authorize(operation, params, caller)
                return describe(params)
            run: Callable[[Params, Caller], Params] = getattr(self, name)
            return run(params, caller)

    def close(self) -> None:
        """End every instance. Nothing of them outlives this call."""
        self._instances.close()

    def zone(self, subnet_id: str) -> str:
        """Return the availability zone of a subnet. Raises AwsError (InvalidSubnetID.NotFound)."""
        return self._store.network.subnet(subnet_id).zone.name

    def require_group(self, group_id: str) -> None:
        """Raise AwsError (InvalidGroup.NotFound) unless there is this security group."""
        with self._store.lock:
            self._store.group(group_id)

    def run_instances(self, params: Params, caller: Caller) -> Params:
        """Launch instances. They are pending in the answer, and run as soon as their processes do."""
        order = launching.read(self._store, params, self._find_profile)
        require(caller, *self._permissions.run(order))
        _dry_run(params)
        return self._describe.views.reservation(self._instances.launch(order))

    def terminate_instances(self, params: Params, caller: Caller) -> Params:
        """End instances with everything that they started."""
        self._authorize("TerminateInstances", params, caller)
        return {
            "instancesSet": [
                {
                    "instanceId": each.instance_id,
                    "currentState": state(each.state),
                    "previousState": state(before),
                }
                for each, before in self._instances.terminate(params["InstanceId"])
            ]
        }

    def get_console_output(self, params: Params, caller: Caller) -> Params:
        """Return what an instance has printed, as base64."""
        self._authorize("GetConsoleOutput", params, caller)
        instance = self._store.instance(params["InstanceId"])
        if params.get("Latest") and instance.instance_type.startswith("t2."):
            raise AwsError(
                "UnsupportedOperation", f"The instance type {instance.instance_type} has no latest console output"
            )
        output = self._instances.console(params["InstanceId"])
        return {
            "instanceId": params["InstanceId"],
            "timestamp": query.moment(time.time()),
            "output": base64.b64encode(output).decode() if output else None,
        }

    def create_tags(self, params: Params, caller: Caller) -> Params:
        """Put tags on resources: on all of them, or on none."""
        wanted = tags.checked(params["Tag"])
        for each in params["ResourceId"]:
            tags.require_resource(self._store, each)
        self._authorize("CreateTags", params, caller)
        for each in params["ResourceId"]:
            tags.bounded({**self._store.tags_of(each), **wanted})
        for each in params["ResourceId"]:
            self._store.tags[each] = {**self._store.tags_of(each), **wanted}
        self._store.save()
        return {"return": True}

    def delete_tags(self, params: Params, caller: Caller) -> Params:
        """Take tags off resources."""
        for each in params["ResourceId"]:
            tags.require_resource(self._store, each)
        self._authorize("DeleteTags", params, caller)
        for each in params["ResourceId"]:
            tags.remove(self._store, each, params.get("Tag"))
        self._store.save()
        return {"return": True}

    def create_security_group(self, params: Params, caller: Caller) -> Params:
        """Make a security group in the default VPC."""
        wanted = tags.of_specification(params.get("TagSpecification", []), "security-group")
        self._authorize("CreateSecurityGroup", params, caller)
        group = groups.create(self._store, params)
        if wanted:
            self._store.tags[group.group_id] = wanted
        self._store.save()
        arn = self._permissions.arn(group.group_id)
        return {"return": True, "groupId": group.group_id, "tagSet": tag_set(wanted), "securityGroupArn": arn}

    def delete_security_group(self, params: Params, caller: Caller) -> Params:
        """Remove a security group that nothing uses."""
        group = self._group("DeleteSecurityGroup", params, caller)
        groups.delete(self._store, group)
        self._store.save()
        return {"return": True, "groupId": group.group_id}

    def authorize_security_group_ingress(self, params: Params, caller: Caller) -> Params:
        """Add rules for what comes in."""
        return self._authorize_rules("AuthorizeSecurityGroupIngress", params, caller)

    def authorize_security_group_egress(self, params: Params, caller: Caller) -> Params:
        """Add rules for what goes out."""
        return self._authorize_rules("AuthorizeSecurityGroupEgress", params, caller)

    def revoke_security_group_ingress(self, params: Params, caller: Caller) -> Params:
        """Remove rules for what comes in."""
        return self._revoke_rules("RevokeSecurityGroupIngress", params, caller)

    def revoke_security_group_egress(self, params: Params, caller: Caller) -> Params:
        """Remove rules for what goes out."""
        return self._revoke_rules("RevokeSecurityGroupEgress", params, caller)

    def _authorize(self, operation: str, params: Params, caller: Caller) -> None:
        require(caller, *self._permissions.of(operation, params))
        _dry_run(params)

    def _group(self, operation: str, params: Params, caller: Caller) -> groups.Group:
        group = groups.find(self._store, params)
        require(caller, self._permissions.on(operation, group.group_id))
        _dry_run(params)
        return group

    def _authorize_rules(self, operation: str, params: Params, caller: Caller) -> Params:
        group = self._group(operation, params, caller)
        rules = groups.authorize(self._store, group, params, egress=operation.endswith("Egress"))
        self._store.save()
        return {"return": True, "securityGroupRuleSet": [self._describe.views.rule(group, each) for each in rules]}

    def _revoke_rules(self, operation: str, params: Params, caller: Caller) -> Params:
        group = self._group(operation, params, caller)
        rules = groups.revoke(self._store, group, params, egress=operation.endswith("Egress"))
        self._store.save()
        shown = [self._describe.views.revoked(group, each) for each in rules]
        return {"return": True, "revokedSecurityGroupRuleSet": shown}


def _dry_run(params: Params) -> None:
    if params.get("DryRun"):
        raise AwsError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)


def _check_ids(params: Params) -> None:
    """Raise InvalidInstanceID.Malformed for what cannot be the id of an instance."""
    asked = params.get("InstanceId", [])
    for each in [asked] if isinstance(asked, str) else asked:
        if not each.startswith("i-"):
            raise AwsError("InvalidInstanceID.Malformed", f'Invalid id: "{each:.100}" (expecting "i-...")')
        if not _INSTANCE_ID.fullmatch(each):
            raise AwsError("InvalidInstanceID.Malformed", f'Invalid id: "{each:.100}"')
