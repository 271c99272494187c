"""The one place that knows where the SageMaker Python SDK keeps things: v3 moved what v2 had."""

import logging
import os
from importlib import import_module
from typing import Any

# v3 first: where both are importable, v3's list of images is the newer one.
_IMAGE_URIS = ("sagemaker.core.image_uris", "sagemaker.image_uris")


def image_uri(framework: str, *, region: str, version: str, instance_type: str | None = None) -> str:
    """Return the ECR URI of one of SageMaker's own container images.

    Raises ImportError when no SDK is installed, ValueError for a version that the
    installed SDK does not list.
    """
    arguments: dict[str, Any] = {"framework": framework, "region": region, "version": version}
    if instance_type:
        arguments["instance_type"] = instance_type
    return _image_uris().retrieve(**arguments)


def _image_uris() -> Any:
    os.environ.setdefault("SAGEMAKER_SUPPRESS_V2_WARNING", "1")  # its long notice would be stored with the notebook
    logging.getLogger("sagemaker.config").setLevel(logging.WARNING)  # names of configuration files that do not exist
    for name in _IMAGE_URIS:
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            # Only "that module is not in this version" leads on; a broken install is reported.
            if not name.startswith(error.name or "?"):
                raise
    raise ImportError("the SageMaker Python SDK is not installed: pip install 'sagemaker>=2'")
