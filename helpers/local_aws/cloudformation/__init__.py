"""CloudFormation: stacks whose resources are made with the real calls of each service."""

from helpers.local_aws.cloudformation.service import CloudFormation

__all__ = ["CloudFormation"]
