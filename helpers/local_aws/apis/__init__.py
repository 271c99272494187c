"""API Gateway's HTTP APIs: their settings, and the requests that they hand to Lambda functions."""

from helpers.local_aws.apis.gateway import EXECUTE_PATH, Gateway
from helpers.local_aws.apis.service import Apis

__all__ = ["EXECUTE_PATH", "Apis", "Gateway"]
