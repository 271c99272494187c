"""What the warm process has loaded before it is forked."""

import atexit
import importlib
import shutil
import warnings

import boto3
import botocore.session
from botocore.client import BaseClient
from botocore.config import Config

_PACKAGES = (
    "encodings.idna",
    "stringprep",
    "numpy",
    "pandas",
    "scipy.sparse",
    "scipy.stats",
    "joblib",
    "sklearn.compose",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.model_selection",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "yaml",
)
_CONFIG = Config(retries={"total_max_attempts": 2})  # the server is on this machine: there, or gone
session = botocore.session.get_session()


def load() -> None:
    """Import what scripts import, and read botocore's models of S3 and CloudWatch Logs.

    Nothing is computed here: a process that has used OpenMP threads cannot be
    forked safely. boto3's default session shares the models that were read, and
    looks at the environment only when a script makes a client.
    """
    boto3.setup_default_session(botocore_session=session)
    client("s3", "http://127.0.0.1", "us-east-1", {})
    client("logs", "http://127.0.0.1", "us-east-1", {})
    with warnings.catch_warnings():
        for package in _PACKAGES:
            try:
                importlib.import_module(package)
            except ModuleNotFoundError:  # an environment without it: jobs that need it fail, others run
                continue
        _load_matplotlib()


def client(service: str, endpoint_url: str, region: str, credentials: dict[str, str]) -> BaseClient:
    """Return a botocore client; ``credentials`` is keyed like the AWS_* environment variables."""
    return session.create_client(
        service,
        region_name=region,
        endpoint_url=endpoint_url,
        aws_access_key_id=credentials.get("AWS_ACCESS_KEY_ID", "none"),
        aws_secret_access_key=credentials.get("AWS_SECRET_ACCESS_KEY", "none"),
        aws_session_token=credentials.get("AWS_SESSION_TOKEN"),
        config=_CONFIG,
    )


def _load_matplotlib() -> None:
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        return
    mpl.use("Agg")
    importlib.import_module("matplotlib.pyplot")
    atexit.unregister(shutil.rmtree)  # of its cache where HOME is not writable: it is not a job's to remove
