"""The one place that knows where the SageMaker Python SDK keeps things: v3 moved what v2 had."""

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

# v3 first: where both are importable, v3's list of images is the newer one.
_IMAGE_URIS = ("sagemaker.core.image_uris", "sagemaker.image_uris")

# What the Data Science SDK, last released in 2022, imports with.
_FITTING = {"sagemaker": "2.", "stepfunctions": "2."}
_SETTINGS = Path(__file__).resolve().parents[1] / ".cache" / "sagemaker.yaml"
_NO_TELEMETRY = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}


def image_uri(framework: str, *, region: str, version: str, instance_type: str | None = None) -> str:
    """Return the ECR URI of one of SageMaker's own container images.

    Raises ImportError when no SDK is installed, ValueError for a version that the
    installed SDK does not list.
    """
    arguments: dict[str, Any] = {"framework": framework, "region": region, "version": version}
    if instance_type:
        arguments["instance_type"] = instance_type
    return _image_uris().retrieve(**arguments)


def prepare_data_science_sdk() -> None:
    """Make the Step Functions Data Science SDK ready to be imported, with the v2 of the SageMaker SDK that it needs.

    Nothing of what they do is reported to their makers, and none of their notices gets into a notebook.
    Raises ImportError, with the command for a terminal, where one of them is not installed in a fitting version.
    """
    for package, version in _FITTING.items():
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            found = "not installed"
        if not found.startswith(version):
            raise ImportError(
                f"{package} is {found}, this notebook needs {version}x. In a terminal: "
                "pip install 'sagemaker<3' 'stepfunctions==2.3.0' 'setuptools<81', in an environment of its own, "
                "because other notebooks may want the newer one"
            )
    os.environ["SAGEMAKER_SUPPRESS_V2_WARNING"] = "1"
    logging.getLogger("sagemaker.config").setLevel(logging.WARNING)  # names of configuration files
    _SETTINGS.parent.mkdir(parents=True, exist_ok=True)
    _SETTINGS.write_text(json.dumps(_NO_TELEMETRY))
    os.environ["SAGEMAKER_USER_CONFIG_OVERRIDE"] = str(_SETTINGS)
    with _own_tracebacks(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Python has deprecated since: they come once, with the import
        for name in ("sagemaker", "sagemaker.sklearn", "stepfunctions.steps", "stepfunctions.workflow"):
            import_module(name)


def _image_uris() -> Any:
    os.environ.setdefault("SAGEMAKER_SUPPRESS_V2_WARNING", "1")  # its long notice would be stored with the notebook
    logging.getLogger("sagemaker.config").setLevel(logging.WARNING)  # names of configuration files that do not exist
    for name in _IMAGE_URIS:
        try:
            with _own_tracebacks():
                return import_module(name)
        except ModuleNotFoundError as error:
            # Only "that module is not in this version" leads on; a broken install is reported.
            if not name.startswith(error.name or "?"):
                raise
    raise ImportError("the SageMaker Python SDK is not installed: pip install 'sagemaker>=2'")


@contextmanager
def _own_tracebacks() -> Iterator[None]:
    """Keep the kernel's way of showing errors: the SDK replaces it with frames that no log or `make run` can show."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    names = ("_showtraceback", "showtraceback", "showsyntaxerror")
    kept = {name: vars(shell)[name] for name in names if name in vars(shell)} if shell else {}
    try:
        yield
    finally:
        for name in names if shell else ():
            vars(shell).pop(name, None)
            if name in kept:
                setattr(shell, name, kept[name])
