"""ECR of the embedded AWS: a registry that holds real images, and what they are as containers."""

from helpers.local_aws.ecr.images import ImageProblem, Images
from helpers.local_aws.ecr.pulling import CannotPull, Require, Source, pull
from helpers.local_aws.ecr.registry import PATH as REGISTRY_PATH
from helpers.local_aws.ecr.registry import Registry
from helpers.local_aws.ecr.service import Ecr

__all__ = [
    "REGISTRY_PATH",
    "CannotPull",
    "Ecr",
    "ImageProblem",
    "Images",
    "Registry",
    "Require",
    "Source",
    "pull",
]
