"""AWS Batch: compute environments of Fargate, job queues, job definitions, and jobs that really run."""

from helpers.local_aws.batch.around import Around
from helpers.local_aws.batch.permissions import SERVICE as PRINCIPAL
from helpers.local_aws.batch.service import Batch

__all__ = ["PRINCIPAL", "Around", "Batch"]
