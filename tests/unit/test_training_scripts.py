"""Scripts in the scikit-learn image: parameters, variables, source folders, and what the toolkit reports of them."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from training_room import Plain, Room, channel

from helpers.local_aws.workers import package, scriptmode

RESOURCES = {
    "current_host": "algo-1",
    "current_instance_type": "ml.m5.large",
    "current_group_name": "homogeneousCluster",
    "hosts": ["algo-1", "algo-2"],
    "instance_groups": [
        {
            "instance_group_name": "homogeneousCluster",
            "instance_type": "ml.m5.large",
            "hosts": ["algo-1", "algo-2"],
        }
    ],
    "network_interface_name": "eth0",
}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    made = Room(tmp_path_factory.mktemp("scripts"))
    yield made
    made.service.close()


def read(**parameters: Any) -> scriptmode.Script:
    texts = {"sagemaker_program": '"train.py"', **parameters}
    return scriptmode.Script.read(texts, "/opt/ml/code")


def test_parameters_become_sorted_arguments() -> None:
    script = read(
        **{"max-depth": "5", "C": "0.1", "name": '"two words"', "plain": "as it is", "on": "true", "none": "null"},
        sets='{"b": 2, "a": 1}',
    )
    assert script.arguments() == [
        "-C", "0.1", "--max-depth", "5", "--name", "two words", "--none", "", "--on", "True", "--plain", "as it is",
        "--sets", "a=1,b=2",
    ]  # fmt: skip
    assert script.command(Path("/nowhere")) == ["python3", "train.py", *script.arguments()]


def test_a_program_that_is_not_python_is_run_by_a_shell() -> None:
    script = read(sagemaker_program='"run.sh"', name='"two words"')
    assert script.command(Path("/nowhere")) == ["/bin/sh", "-c", "./run.sh --name 'two words'"]


def test_a_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "setup.py").touch()
    with pytest.raises(scriptmode.ScriptError, match=r"setup\.py"):
        read().command(tmp_path)


def test_the_variables_of_the_toolkit() -> None:
    script = read(
        C="0.1",
        **{"max-depth": "5"},
        sagemaker_submit_directory='"s3://b/source.tar.gz"',
        sagemaker_job_name='"job"',
        sagemaker_region='"us-east-1"',
        sagemaker_container_log_level="10",
        sagemaker_mpi_enabled="false",
    )
    channels = {"train": {"TrainingInputMode": "File"}, "test": {"TrainingInputMode": "File"}}
    found = script.variables(scriptmode.Setting("/opt/ml", "job", RESOURCES, channels))
    expected = {
        "SM_MODEL_DIR": "/opt/ml/model",
        "SM_OUTPUT_DIR": "/opt/ml/output",
        "SM_OUTPUT_DATA_DIR": "/opt/ml/output/data",
        "SM_OUTPUT_INTERMEDIATE_DIR": "/opt/ml/output/intermediate",
        "SM_INPUT_DIR": "/opt/ml/input",
        "SM_INPUT_CONFIG_DIR": "/opt/ml/input/config",
        "SM_CHANNELS": '["test","train"]',
        "SM_CHANNEL_TRAIN": "/opt/ml/input/data/train",
        "SM_CHANNEL_TEST": "/opt/ml/input/data/test",
        "SM_HPS": '{"C":0.1,"max-depth":5}',
        "SM_HP_C": "0.1",
        "SM_HP_MAX-DEPTH": "5",
        "SM_USER_ARGS": '["-C","0.1","--max-depth","5"]',
        "SM_USER_ENTRY_POINT": "train.py",
        "SM_MODULE_NAME": "train",
        "SM_MODULE_DIR": "s3://b/source.tar.gz",
        "SM_FRAMEWORK_MODULE": "sagemaker_sklearn_container.training:main",
        "SM_FRAMEWORK_PARAMS": '{"sagemaker_mpi_enabled":false}',
        "SM_HOSTS": '["algo-1","algo-2"]',
        "SM_CURRENT_HOST": "algo-1",
        "SM_CURRENT_INSTANCE_TYPE": "ml.m5.large",
        "SM_NETWORK_INTERFACE_NAME": "eth0",
        "SM_LOG_LEVEL": "10",
        "SM_NUM_GPUS": "0",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert int(found["SM_NUM_CPUS"]) >= 1
    whole = json.loads(found["SM_TRAINING_ENV"])
    assert (whole["is_master"], whole["job_name"], whole["channel_input_dirs"]["train"]) == (
        True,
        "job",
        "/opt/ml/input/data/train",
    )


def test_without_a_program_there_is_nothing_to_run() -> None:
    with pytest.raises(scriptmode.ScriptError, match="sagemaker_program"):
        scriptmode.Script.read({"C": "1"}, "/opt/ml/code")
    assert scriptmode.Script.read({"sagemaker_program": "a.py"}, "/opt/ml/code", "b.py").program == "b.py"


@pytest.mark.parametrize(
    ("requirements", "missing"),
    [
        ("pandas\n# nothing else\n", []),
        ("boto3>=1.0 # the SDK\n\npandas>=1\n", []),
        ("pandas>=999\nno-such-package-anywhere==1\n", ["pandas>=999", "no-such-package-anywhere==1"]),
        ('no-such-package; python_version < "3"\n', []),
        ("-r other.txt\n./here\n", ["-r other.txt", "./here"]),
        ("pandas[performance]\n", ["pandas[performance]"]),
    ],
)
def test_requirements_are_looked_up_line_by_line(requirements: str, missing: list[str]) -> None:
    assert scriptmode.unmet(requirements) == missing


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as files:
        for entry, content in members:
            entry.size = len(content)
            files.addfile(entry, io.BytesIO(content))
    packed.seek(0)
    return packed


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    return entry, b""


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    entry, content = link(name, target)
    entry.type = tarfile.LNKTYPE
    return entry, content


@pytest.mark.parametrize(
    "member",
    [
        (tarfile.TarInfo("../out"), b"x"),
        (tarfile.TarInfo("a/../../out"), b"x"),
        link("up", "../out"),
        link("root", "/"),
    ],
)
def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path: Path, member: tuple[Any, bytes]) -> None:
    code = tmp_path / "code"
    code.mkdir()
    with pytest.raises(scriptmode.ScriptError, match="cannot be unpacked"):
        scriptmode.unpack(archive(member), code, 1000)
    assert not (tmp_path / "out").exists()
    assert not list(code.iterdir())


@pytest.mark.parametrize(
    "members",
    [
        [link("in", "code"), (tarfile.TarInfo("in/x"), b"x")],
        [link("in", "code"), (tarfile.TarInfo("in"), b"x")],
        [link("in", "code"), link("in/deeper", "x")],
        [(tarfile.TarInfo("code/x"), b""), link("in", "code"), hard_link("out", "in/x")],
    ],
)
def test_nothing_of_an_archive_is_put_or_found_behind_a_link(tmp_path: Path, members: list[Any]) -> None:
    with pytest.raises(scriptmode.ScriptError, match="behind a link"):
        scriptmode.unpack(archive(*members), tmp_path, 1000)


@pytest.mark.parametrize("broken", ["size", "header", "data"])
def test_an_archive_whose_headers_are_wrong_is_given_up(tmp_path: Path, broken: str) -> None:
    entry = tarfile.TarInfo("a")
    if broken == "size":  # back to where this member begins
        entry.pax_headers = {"size": "-1536"}
    if broken == "header":
        entry.pax_headers = {"comment": "x" * 2**21}
    data = archive((tarfile.TarInfo("first"), b"x" * 600), (entry, b"")).getvalue()
    if broken == "data":
        data = data[:40] + b"\xff" * 20 + data[60:]
    with pytest.raises(scriptmode.ScriptError, match="cannot be unpacked"):
        scriptmode.unpack(io.BytesIO(data), tmp_path, 1000)


def test_an_archive_larger_than_the_volume_is_refused(tmp_path: Path) -> None:
    with pytest.raises(scriptmode.ScriptError, match="more than the volume"):
        scriptmode.unpack(archive((tarfile.TarInfo("big"), bytes(1001))), tmp_path, 1000)
    assert not list(tmp_path.iterdir())


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(scriptmode.ScriptError, match="cannot be unpacked"):
        scriptmode.unpack(io.BytesIO(b"no archive"), tmp_path, 1000)


def test_a_name_in_several_folders_is_packed_once(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}/same").write_text(f"{number}")
    into = io.BytesIO()
    package.pack([tmp_path / "1", tmp_path / "2"], into)
    with tarfile.open(fileobj=into) as files:
        assert [member.name for member in files] == ["same"]
        same = files.extractfile("same")
        assert same
        assert same.read() == b"1"


SCRIPT = """
import argparse, json, os
import helper
parser = argparse.ArgumentParser()
parser.add_argument("-C", type=float)
parser.add_argument("--name")
parser.add_argument("--train", default=os.environ["SM_CHANNEL_TRAIN"])
arguments = parser.parse_args()
rows = open(os.path.join(arguments.train, "a.csv")).read().splitlines()
print(f"rows={len(rows)};", os.getcwd())
with open(os.path.join(os.environ["SM_MODEL_DIR"], "model.json"), "w") as file:
    json.dump([arguments.C, arguments.name, helper.DOUBLE * len(rows)], file)
"""


def test_a_script_runs_as_under_the_toolkit(room: Room) -> None:
    room.cloud.objects["bucket/parts/a.csv"] = b"1\n2\n3\n"
    job = room.script(
        "script",
        SCRIPT,
        {"C": 0.5, "name": "two words"},
        files={"helper.py": "DOUBLE = 2\n", "requirements.txt": "pandas\n"},
        InputDataConfig=[channel("train", "s3://bucket/parts/")],
        metrics=[{"Name": "rows", "Regex": "rows=([0-9]+);"}],
    )
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    model = room.cloud.archive("bucket/models/script/output/model.tar.gz")
    assert json.loads(model["model.json"]) == [0.5, "two words", 6]
    assert job["FinalMetricDataList"][0]["Value"] == 3
    assert room.cloud.log("script") == [
        "Invoking script with the following command:",
        "python3 train.py -C 0.5 --name two words",
        "rows=3; /opt/ml/code",
    ]


def test_a_script_s_failure_is_reported_as_the_toolkit_does(room: Room) -> None:
    job = room.script("fails", "import sys; print('why'); sys.exit(3)", {"C": 1})
    assert job["FailureReason"] == (
        'AlgorithmError: ExecuteUserScriptError:\nExitCode 3\nErrorMessage ""\nCommand "python3 train.py -C 1",'
        " exit code: 1"
    )
    assert "why" in room.cloud.log("fails")


def test_a_script_can_say_itself_why_it_failed(room: Room) -> None:
    source = "open('/opt/ml/output/failure', 'w').write('no rows'); raise SystemExit(2)"
    assert room.script("says", source)["FailureReason"] == "AlgorithmError: no rows, exit code: 1"


def test_missing_requirements_fail_the_job_by_name(room: Room) -> None:
    job = room.script("requires", "pass", files={"requirements.txt": "pandas\nno-such-package==1\n"})
    assert job["TrainingJobStatus"] == "Failed"
    assert "no-such-package==1" in job["FailureReason"]
    assert "no-such-package==1" in " ".join(room.cloud.log("requires"))


def test_a_source_archive_that_is_not_there_fails_the_job(room: Room) -> None:
    texts = {"sagemaker_program": "train.py", "sagemaker_submit_directory": "s3://bucket/none.tar.gz"}
    job = room.run("no-source", HyperParameters=texts)
    assert job["FailureReason"].startswith("ClientError: Data download failed:NoSuchKey (404)")


def test_the_source_may_come_through_a_channel(room: Room) -> None:
    room.cloud.objects["bucket/source/train.py"] = b"print('from the channel')"
    texts = {"sagemaker_program": '"train.py"', "sagemaker_submit_directory": '"/opt/ml/input/data/code"'}
    job = room.run("by-channel", HyperParameters=texts, InputDataConfig=[channel("code", "s3://bucket/source/")])
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert room.cloud.log("by-channel")[-1] == "from the channel"


def test_without_namespaces_a_script_finds_its_folders_by_variables(tmp_path: Path) -> None:
    plain = Plain()
    room = Room(tmp_path, forkserver=plain)
    try:
        room.cloud.objects["bucket/parts/a.csv"] = b"1\n2\n3\n"
        inputs = [channel("train", "s3://bucket/parts/")]
        job = room.script("plain", SCRIPT, {"C": 1}, files={"helper.py": "DOUBLE = 2\n"}, InputDataConfig=inputs)
        assert job["TrainingJobStatus"] == "Completed", room.cloud.log("plain")
        assert json.loads(room.cloud.archive("bucket/models/plain/output/model.tar.gz")["model.json"]) == [1.0, None, 6]
        assert "see SAGEMAKER_BASE_DIR" in room.cloud.log("plain")[0]
    finally:
        room.service.close()
