"""The services that the dispatcher calls, and the threads it calls them from."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
from botocore.config import Config

THREADS = 16  # calls under way at once
POOL = ThreadPoolExecutor(THREADS)  # for calls that wait for no other call of the pool


@dataclass(frozen=True)
class Clients:
    """The three services."""

    codecommit: Any
    s3: Any
    states: Any


@cache
def clients() -> Clients:
    """Return the boto3 clients, made once in the life of the worker."""
    many = Config(max_pool_connections=THREADS)
    return Clients(
        boto3.client("codecommit", config=many),
        boto3.client("s3", config=many),
        boto3.client("stepfunctions", config=many),
    )
