"""ECS: clusters, task definitions, and Fargate tasks that really run."""

from helpers.local_aws.ecs.service import Ecs

__all__ = ["Ecs"]
