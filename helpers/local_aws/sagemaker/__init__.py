"""SageMaker of the embedded AWS: processing and training jobs that really run."""

from helpers.local_aws.sagemaker.service import SageMaker

__all__ = ["SageMaker"]
