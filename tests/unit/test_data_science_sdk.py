"""The Data Science SDK is only imported with the SageMaker SDK that it was written for, and tells nobody of its use."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from helpers import sdk

READY = """
import json, os, sys, warnings
warnings.simplefilter("error")
from helpers import sdk
sdk.prepare_data_science_sdk()
import sagemaker, stepfunctions.steps, stepfunctions.workflow
print(json.dumps([sagemaker.__version__.split(".")[0], os.environ["SAGEMAKER_USER_CONFIG_OVERRIDE"]]))
"""


@pytest.mark.parametrize(("package", "found"), [("sagemaker", "3.1.0"), ("stepfunctions", None)])
def test_another_version_is_refused_with_the_command_that_helps(monkeypatch, package, found):
    installed = metadata.version

    def version(name):
        if name == package and found is None:
            raise metadata.PackageNotFoundError
        return found if name == package else installed(name)

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(ImportError, match=r"pip install 'sagemaker<3' 'stepfunctions==2\.3\.0'") as problem:
        sdk.prepare_data_science_sdk()
    assert f"{package} is {found or 'not installed'}" in str(problem.value)


def test_both_are_ready_without_a_word_and_without_telemetry():
    # In a fresh interpreter: the warnings come with the first import only.
    done = subprocess.run(
        [sys.executable, "-c", READY],
        cwd=Path(sdk.__file__).parents[1],
        env={**os.environ, "AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    version, settings = json.loads(done.stdout)
    assert version == "2"
    told = json.loads(Path(settings).read_text())
    assert told["SageMaker"]["PythonSDK"]["Modules"]["TelemetryOptOut"] is True
