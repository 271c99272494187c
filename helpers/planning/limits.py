"""SageMaker's limits on the values of an experiment.yml, from botocore's model of the service.

They are kept in ``limits.json``: the whole model has megabytes, and reading it would
be most of a function's cold start. A test holds the file against botocore;
``python -m helpers.planning.limits`` writes it anew.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("limits.json")
BOUNDED = (
    "ContainerArgument",
    "ContainerArguments",
    "ContainerEntrypointString",
    "ImageUri",
    "ProcessingEnvironmentKey",
    "ProcessingEnvironmentMap",
    "ProcessingEnvironmentValue",
    "ProcessingInstanceCount",
    "ProcessingVolumeSizeInGB",
    "S3Uri",
)
LISTED = ("ProcessingInstanceType",)


def limit(shape: str, bound: str) -> int:
    """Return the ``bound``, "min" or "max", of one of the shapes in BOUNDED."""
    return _limits()[shape][bound]


def instance_types() -> list[str]:
    """Return the instance types that processing jobs take."""
    return _limits()["ProcessingInstanceType"]["enum"]


def read_model() -> dict[str, dict[str, Any]]:
    """Return from botocore's model what ``limits.json`` holds."""
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    model = ServiceModel(Loader().load_service_model("sagemaker", "service-2"), "sagemaker")
    bounds = {name: {key: model.shape_for(name).metadata[key] for key in ("min", "max")} for name in BOUNDED}
    return bounds | {name: {"enum": list(model.shape_for(name).metadata["enum"])} for name in LISTED}


@cache
def _limits() -> dict[str, dict[str, Any]]:
    return json.loads(FILE.read_text())


if __name__ == "__main__":
    FILE.write_text(json.dumps(read_model(), indent=1) + "\n")
