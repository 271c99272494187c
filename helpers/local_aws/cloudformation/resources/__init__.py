"""The types of resources that stacks can have."""

from collections.abc import Mapping

from helpers.local_aws.cloudformation.resources import compute, messaging, network, roles, settings, storage, workflows
from helpers.local_aws.cloudformation.resources.base import ResourceType

TYPES: Mapping[str, ResourceType] = {
    kind.type: kind
    for module in (compute, messaging, network, roles, settings, storage, workflows)
    for kind in module.TYPES
}
