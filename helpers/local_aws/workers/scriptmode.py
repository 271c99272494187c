"""What SageMaker's training toolkit does in its framework containers before it runs a script.

It turns hyper-parameters into arguments and SM_* variables, brings the source
folder to /opt/ml/code and looks at requirements.txt. The rules are those of the
``sagemaker-training`` package, which the scikit-learn image runs as ``train``.
"""

import json
import os
import shlex
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from helpers.local_aws.archives import Item, behind_link

FRAMEWORK = "sagemaker_sklearn_container.training:main"
REQUIREMENTS = "requirements.txt"
_PREFIX = "sagemaker_"
_INFO = 20  # the level of logging.INFO
# Of the parameters that begin with sagemaker_: those that the toolkit knows itself, and does not hand to a framework.
_KNOWN = (
    "sagemaker_program",
    "sagemaker_submit_directory",
    "sagemaker_enable_cloudwatch_metrics",
    "sagemaker_container_log_level",
    "sagemaker_job_name",
    "sagemaker_region",
    "sagemaker_s3_output",
)


class ScriptError(Exception):
    """A script that cannot be run; the text is what the toolkit writes to /opt/ml/output/failure."""


@dataclass(frozen=True)
class Setting:
    """Where a script runs: ``root`` is the folder that it sees as /opt/ml."""

    root: str
    job_name: str
    resources: Mapping[str, Any]  # resourceconfig.json
    channels: Mapping[str, Any]  # inputdataconfig.json


@dataclass(frozen=True)
class Script:
    """A script with its parameters, read from hyper-parameters as the API has them: texts, most of them JSON."""

    program: str
    source: str
    parameters: Mapping[str, Any]  # the user's own
    framework: Mapping[str, Any]
    log_level: Any = _INFO

    @classmethod
    def read(cls, hyperparameters: Mapping[str, str], code: str, program: str = "") -> "Script":
        """Return what the parameters describe; the source is the folder ``code`` unless they name another.

        ``program`` counts more than the one that they name: it is the variable
        SAGEMAKER_PROGRAM. Raises ScriptError where there is neither.
        """
        values = {name: _value(text) for name, text in hyperparameters.items()}
        ours = {name: value for name, value in values.items() if name.startswith(_PREFIX)}
        program = program or str(ours.get("sagemaker_program") or "")
        if not program:
            raise ScriptError("The hyper-parameter sagemaker_program, which names the script, is missing.")
        return cls(
            program,
            str(ours.get("sagemaker_submit_directory") or code),
            {name: value for name, value in values.items() if name not in ours},
            {name: value for name, value in ours.items() if name not in _KNOWN},
            ours.get("sagemaker_container_log_level", _INFO),
        )

    @property
    def module(self) -> str:
        """The program's name as a module."""
        return self.program.removesuffix(".py")

    def arguments(self) -> list[str]:
        """Return the user's parameters as ``--name value``, sorted by name; a name of one letter gets one dash."""
        arguments: list[str] = []
        for name in sorted(self.parameters):
            dashes = "--" if len(name) > 1 else "-"
            arguments += [f"{dashes}{name}" if name else "", _argument(self.parameters[name])]
        return arguments

    def command(self, code: Path) -> list[str]:
        """Return how the program in the folder ``code`` is run. Raises ScriptError for a package.

        Anything that is not Python is run by a shell.
        """
        if (code / "setup.py").exists():
            raise ScriptError("setup.py: the embedded AWS does not install a source folder as a package.")
        if self.program.endswith(".py"):
            return ["python3", self.program, *self.arguments()]
        return ["/bin/sh", "-c", " ".join([f"./{self.program}", *map(shlex.quote, self.arguments())])]

    def variables(self, setting: Setting) -> dict[str, str]:
        """Return the SM_* variables."""
        root, resources = setting.root, setting.resources
        channels = {name: f"{root}/input/data/{name}" for name in setting.channels}
        groups = {group["instance_group_name"]: group for group in resources["instance_groups"]}
        own = groups[resources["current_group_name"]]
        shared = {
            "current_host": resources["current_host"],
            "current_instance_group": resources["current_group_name"],
            "current_instance_group_hosts": own["hosts"],
            "current_instance_type": resources["current_instance_type"],
            "distribution_instance_groups": [],
            "framework_module": FRAMEWORK,
            "hosts": resources["hosts"],
            "input_config_dir": f"{root}/input/config",
            "input_data_config": setting.channels,
            "input_dir": f"{root}/input",
            "instance_groups": sorted(groups),
            "instance_groups_dict": groups,
            "is_hetero": False,
            "log_level": self.log_level,
            "model_dir": f"{root}/model",
            "module_dir": self.source,
            "module_name": self.module,
            "network_interface_name": resources["network_interface_name"],
            "num_cpus": os.cpu_count() or 1,
            "num_gpus": 0,
            "output_data_dir": f"{root}/output/data",
            "output_dir": f"{root}/output",
            "output_intermediate_dir": f"{root}/output/intermediate",
            "resource_config": resources,
            "user_entry_point": self.program,
        }
        whole = shared | {
            "additional_framework_parameters": self.framework,
            "channel_input_dirs": channels,
            "hyperparameters": self.parameters,
            "is_master": resources["current_host"] == resources["hosts"][0],
            "job_name": setting.job_name,
            "master_hostname": resources["hosts"][0],
        }
        values = shared | {
            "channels": sorted(channels),
            "framework_params": self.framework,
            "hps": self.parameters,
            "training_env": whole,
            "user_args": self.arguments(),
            **{f"channel_{name}": path for name, path in channels.items()},
            **{f"hp_{name}": value for name, value in self.parameters.items()},
        }
        return {f"SM_{name.upper()}": _text(value) for name, value in values.items()}


def failure(command: Sequence[str], code: int) -> str:
    """Return what the toolkit reports of a script that ended with ``code``."""
    return f'ExecuteUserScriptError:\nExitCode {code}\nErrorMessage ""\nCommand "{" ".join(command)}"'


def unpack(archive: IO[bytes], code: Path, most: int) -> None:
    """Unpack a ``.tar.gz`` into the folder ``code``, at most ``most`` bytes. Raises ScriptError.

    Nothing in it may lead out of the folder.
    """
    if not hasattr(tarfile, "data_filter"):
        raise ScriptError("This Python cannot unpack archives safely: 3.11.4 is the first that can.")
    try:
        # As a stream: a size that is wrong cannot send the reader back, where it would begin again for ever.
        with tarfile.open(fileobj=archive, mode="r|gz", tarinfo=Item) as files:
            left = most
            for member in files:
                left -= max(member.size, 1)
                if left < 0:
                    raise ScriptError(f"The source archive holds more than the volume of the job: {most} bytes.")
                # Links lead out of the folder past the filter, in Pythons that are not the newest.
                if any(behind_link(code, name) for name in (member.name, member.linkname)[: 1 + member.islnk()]):
                    raise ScriptError(f"The source archive cannot be unpacked: {member.name} lies behind a link")
                files.extract(member, code, filter="data")
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        raise ScriptError(f"The source archive cannot be unpacked: {error}") from error


def unmet(requirements: str) -> list[str]:
    """Return what of a requirements.txt this Python environment does not have, line by line."""
    lines = (line.partition(" #")[0].strip() for line in requirements.replace("\\\n", "").splitlines())
    return [line for line in lines if line and not line.startswith("#") and not _met(line)]


def _met(line: str) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement  # only some jobs need it

    try:
        wanted = Requirement(line)
    except InvalidRequirement:  # an option, a path or an address: nothing that is here already
        return False
    if wanted.url or wanted.extras:
        return False
    if wanted.marker and not wanted.marker.evaluate():
        return True
    try:
        return wanted.specifier.contains(metadata.version(wanted.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _argument(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}={item}" for name, item in sorted(value.items()))
    return "" if value is None else str(value)


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
