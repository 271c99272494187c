"""helpers.sdk finds images with the SageMaker SDK v2 and v3, and says what is wrong where it cannot.

This environment holds v2; v3 has one of its own, because the two cannot be installed together.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from environments import ROOT, python_with

from helpers import notebooks, sdk

pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # in the sources of v2

REGIONS = ("us-east-1", "eu-central-1", "ap-northeast-1")
REQUIREMENTS_V3 = Path(__file__).with_name("requirements-v3.txt")

# Only what stands in PYTHONPATH can be imported: -S leaves out the installed packages.
FIND = "import sdk; print(sdk.image_uri('sklearn', region='us-east-1', version='1.4-2'))"


def named_in_notebooks() -> list[tuple[str, str]]:
    """Return the versions and instance types that the notebooks ask for."""
    call = re.compile(r'image_uri\("sklearn", .*version="([^"]+)", instance_type="([^"]+)"\)')
    return sorted({found for twin in notebooks.twins() for found in call.findall(twin.read_text())})


def find_alone(*folders: Path) -> subprocess.CompletedProcess[str]:
    """Look an image up where nothing but ``folders`` could hold an SDK."""
    path = os.pathsep.join(map(str, (ROOT / "helpers", *folders)))
    command = [sys.executable, "-S", "-c", FIND]
    return subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, text=True, check=False)


def write_sdk(folder: Path, module: str, source: str) -> Path:
    """Make a package of which ``module`` holds ``source``. Returns the folder to import it from."""
    *packages, name = module.split(".")
    inner = folder.joinpath(*packages)
    inner.mkdir(parents=True)
    (inner / f"{name}.py").write_text(source)
    return folder


def test_both_versions_name_the_same_image() -> None:
    wanted = [(region, *found) for region in REGIONS for found in named_in_notebooks()]
    assert wanted
    code = f"""
from helpers import sdk
for region, version, instance_type in {wanted}:
    print(sdk.image_uri("sklearn", region=region, version=version, instance_type=instance_type))
import sagemaker.core  # version 3 it was
"""
    done = subprocess.run(
        [python_with(REQUIREMENTS_V3), "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ours = [
        sdk.image_uri("sklearn", region=region, version=version, instance_type=instance_type)
        for region, version, instance_type in wanted
    ]
    assert done.stdout.splitlines() == ours
    assert ours[0] == "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"


def test_a_version_that_is_not_listed_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"9\.9"):
        sdk.image_uri("sklearn", region="us-east-1", version="9.9", instance_type="ml.t3.medium")


def test_where_both_can_be_imported_version_3_answers(tmp_path: Path) -> None:
    write_sdk(tmp_path, "sagemaker.image_uris", "def retrieve(**_): return 'two'")
    write_sdk(tmp_path, "sagemaker.core.image_uris", "def retrieve(**_): return 'three'")
    assert find_alone(tmp_path).stdout == "three\n"


def test_no_sdk_is_an_import_error_that_says_what_to_install() -> None:
    done = find_alone()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: the SageMaker Python SDK is not installed")


@pytest.mark.parametrize("module", ["sagemaker.core.image_uris", "sagemaker.image_uris"])
@pytest.mark.parametrize(
    ("source", "reported"),
    [
        ("import pandsa", "ModuleNotFoundError: No module named 'pandsa'"),
        ("from json import lodas", "ImportError: cannot import name 'lodas'"),
        ("import sagemaker.core.missing", "ModuleNotFoundError: No module named 'sagemaker.core"),
    ],
)
def test_a_broken_install_is_reported_and_not_swallowed(
    tmp_path: Path, module: str, source: str, reported: str
) -> None:
    done = find_alone(write_sdk(tmp_path, module, source))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(reported)
