"""SageMaker Processing through boto3 and the AWS CLI: jobs that really run."""

import json
import os
import secrets
import signal
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from clients import IMAGE, eventually

from helpers.local_aws import control

GROUP = "/aws/sagemaker/ProcessingJobs"
INPUT, OUTPUT = "/opt/ml/processing/input", "/opt/ml/processing/output"


def allow(resource: str | list[str], *actions: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource}


class Lab:
    """A bucket, a job role, and short ways to run a script as a job."""

    def __init__(self, embedded: Any) -> None:
        self.embedded = embedded
        self.s3, self.sagemaker, self.logs = (embedded.client(name) for name in ("s3", "sagemaker", "logs"))
        self.bucket = f"processing-{uuid.uuid4().hex[:8]}"
        self.s3.create_bucket(Bucket=self.bucket)
        everything = f"arn:aws:s3:::{self.bucket}"
        self.statements = {
            "list": allow(everything, "s3:ListBucket"),
            "get": allow(f"{everything}/*", "s3:GetObject"),
            "put": allow(f"{everything}/out/*", "s3:PutObject"),
            "pull": allow(
                "*",
                "ecr:GetAuthorizationToken",
                "ecr:BatchCheckLayerAvailability",
                "ecr:BatchGetImage",
                "ecr:GetDownloadUrlForLayer",
            ),
            "logs": allow(
                f"arn:aws:logs:*:*:log-group:{GROUP}*",
                "logs:CreateLogGroup",
                "logs:CreateLogStream",
                "logs:DescribeLogStreams",
                "logs:PutLogEvents",
            ),
        }
        self.role = embedded.make_role(list(self.statements.values()))

    def request(self, script: str, **more: Any) -> dict[str, Any]:
        """Return a request for a job that runs ``script``, which is uploaded."""
        name = f"job-{uuid.uuid4().hex[:12]}"
        self.s3.put_object(Bucket=self.bucket, Key=f"code/{name}/main.py", Body=script.encode())
        count = more.pop("count", 1)
        arguments = {"ContainerArguments": more.pop("arguments")} if "arguments" in more else {}
        entrypoint = more.pop("entrypoint", ["python3", f"{INPUT}/code/main.py"])
        return {
            "ProcessingJobName": name,
            "RoleArn": self.role,
            "AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": entrypoint, **arguments},
            "ProcessingResources": {
                "ClusterConfig": {"InstanceCount": count, "InstanceType": "ml.t3.medium", "VolumeSizeInGB": 1}
            },
            "ProcessingInputs": [self.input("code", f"code/{name}/"), *more.pop("inputs", [])],
            "ProcessingOutputConfig": {"Outputs": [self.output(name, more.pop("mode", "EndOfJob"))]},
            **more,
        }

    def input(self, name: str, key: str, **more: str) -> dict[str, Any]:
        source = {"S3Uri": f"s3://{self.bucket}/{key}", "LocalPath": f"{INPUT}/{name}"}
        return {"InputName": name, "S3Input": {**source, "S3DataType": "S3Prefix", "S3InputMode": "File", **more}}

    def output(self, name: str, mode: str) -> dict[str, Any]:
        place = {"S3Uri": f"s3://{self.bucket}/out/{name}/", "LocalPath": OUTPUT, "S3UploadMode": mode}
        return {"OutputName": "out", "S3Output": place}

    def start(self, script: str, **more: Any) -> str:
        request = self.request(script, **more)
        self.sagemaker.create_processing_job(**request)
        return request["ProcessingJobName"]

    def run(self, script: str, **more: Any) -> dict[str, Any]:
        return self.ended(self.start(script, **more))

    def ended(self, name: str) -> dict[str, Any]:
        def final() -> dict[str, Any] | None:
            job = self.sagemaker.describe_processing_job(ProcessingJobName=name)
            return None if job["ProcessingJobStatus"] in ("InProgress", "Stopping") else job

        return eventually(final)

    def lines(self, name: str) -> dict[str, list[str]]:
        """Return the log of a job by host."""
        try:
            streams = self.logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=f"{name}/")["logStreams"]
        except self.logs.exceptions.ResourceNotFoundException:
            return {}
        names = [stream["logStreamName"] for stream in streams]
        events = {
            name: self.logs.get_log_events(logGroupName=GROUP, logStreamName=name, startFromHead=True)["events"]
            for name in names
        }
        return {
            name.partition("/")[2].rpartition("-")[0]: [event["message"] for event in found]
            for name, found in events.items()
        }

    def outputs(self, name: str) -> dict[str, str]:
        prefix = f"out/{name}/"
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        keys = [item["Key"] for item in found]
        return {
            key.removeprefix(prefix): self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read().decode()
            for key in keys
        }


@pytest.fixture(scope="module")
def lab(embedded: Any) -> Lab:
    return Lab(embedded)


def test_a_nonce_goes_in_and_comes_out(lab: Lab) -> None:
    nonce = secrets.token_hex(8)
    lab.s3.put_object(Bucket=lab.bucket, Key="data/nonce.txt", Body=nonce.encode())
    script = """
import os, sys
text = open("/opt/ml/processing/input/data/nonce.txt").read()
os.makedirs("/opt/ml/processing/output/deep/er")
open("/opt/ml/processing/output/deep/er/result.txt", "w").write(text[::-1])
print("arguments", sys.argv[1:], os.environ["COLOUR"])
"""
    data = lab.input("data", "data/nonce.txt")
    job = lab.run(script, inputs=[data], arguments=["--test-size", "0.2"], Environment={"COLOUR": "blue"})
    assert job["ProcessingJobStatus"] == "Completed"
    assert lab.outputs(job["ProcessingJobName"]) == {"deep/er/result.txt": nonce[::-1]}
    assert lab.lines(job["ProcessingJobName"]) == {"algo-1": ["arguments ['--test-size', '0.2'] blue"]}
    assert job["ProcessingInputs"][1]["S3Input"] == {
        **data["S3Input"],
        "S3DataDistributionType": "FullyReplicated",
        "S3CompressionType": "None",
    }


def test_a_model_is_trained(lab: Lab) -> None:
    script = """
import json
import numpy as np
from sklearn.linear_model import LogisticRegression
x = np.random.default_rng(0).normal(size=(200, 3))
y = x[:, 0] > 0
json.dump({"accuracy": LogisticRegression().fit(x, y).score(x, y)}, open("/opt/ml/processing/output/m.json", "w"))
"""
    job = lab.run(script)
    assert json.loads(lab.outputs(job["ProcessingJobName"])["m.json"])["accuracy"] > 0.95


def test_a_script_that_fails_leaves_its_traceback(lab: Lab) -> None:
    job = lab.run("open('/opt/ml/processing/output/partial', 'w').write('x')\nraise RuntimeError('no rows')\n")
    assert job["ProcessingJobStatus"] == "Failed"
    assert job["FailureReason"] == "AlgorithmError: , exit code: 1"
    assert lab.lines(job["ProcessingJobName"])["algo-1"] == [
        "Traceback (most recent call last):",
        f'  File "{INPUT}/code/main.py", line 2, in <module>',
        "    raise RuntimeError('no rows')",
        "RuntimeError: no rows",
    ]
    assert lab.outputs(job["ProcessingJobName"]) == {}


def test_lines_can_be_read_while_the_job_runs(lab: Lab) -> None:
    name = lab.start("import time; print('first'); time.sleep(3000)")
    assert eventually(lambda: lab.lines(name).get("algo-1")) == ["first"]
    assert lab.sagemaker.describe_processing_job(ProcessingJobName=name)["ProcessingJobStatus"] == "InProgress"
    lab.sagemaker.stop_processing_job(ProcessingJobName=name)
    assert lab.ended(name)["ProcessingJobStatus"] == "Stopped"


def test_two_jobs_at_once_have_their_own_opt_ml(lab: Lab) -> None:
    script = f"""
import boto3, os, time
open("{OUTPUT}/" + os.environ["MARK"], "w").close()
print("ready")
s3 = boto3.client("s3")
while not s3.list_objects_v2(Bucket="{lab.bucket}", Prefix="go")["KeyCount"]:
    time.sleep(0.02)
"""
    names = {mark: lab.start(script, Environment={"MARK": mark}) for mark in "ab"}
    for name in names.values():
        eventually(lambda name=name: lab.lines(name))
    lab.s3.put_object(Bucket=lab.bucket, Key="go", Body=b"")
    for mark, name in names.items():
        assert lab.ended(name)["ProcessingJobStatus"] == "Completed"
        assert lab.outputs(name) == {mark: ""}


def test_hosts_share_objects_by_key_and_log_apart(lab: Lab) -> None:
    for number in range(5):
        lab.s3.put_object(Bucket=lab.bucket, Key=f"parts/{number}.csv", Body=b"x")
    script = f"""
import json, os
host = json.load(open("/opt/ml/config/resourceconfig.json"))["current_host"]
open(f"{OUTPUT}/{{host}}", "w").write(" ".join(sorted(os.listdir("{INPUT}/parts"))))
print(host)
"""
    job = lab.run(script, inputs=[lab.input("parts", "parts/", S3DataDistributionType="ShardedByS3Key")], count=2)
    name = job["ProcessingJobName"]
    assert lab.outputs(name) == {"algo-1": "0.csv 2.csv 4.csv", "algo-2": "1.csv 3.csv"}
    assert lab.lines(name) == {"algo-1": ["algo-1"], "algo-2": ["algo-2"]}


def test_four_hosts_at_once_each_see_only_their_own_shard(lab: Lab) -> None:
    for number in range(6):
        lab.s3.put_object(Bucket=lab.bucket, Key=f"shards/part-{number}.csv", Body=str(number).encode())
    script = f"""
import boto3, json, os, pathlib, time
host = json.load(open("/opt/ml/config/resourceconfig.json"))["current_host"]
s3 = boto3.client("s3")
s3.put_object(Bucket="{lab.bucket}", Key=f"out/meet/{{host}}", Body=b"")
while s3.list_objects_v2(Bucket="{lab.bucket}", Prefix="out/meet/")["KeyCount"] < 4:
    time.sleep(0.02)  # until all four run
parts = sorted(pathlib.Path("{INPUT}/shards").iterdir())
pathlib.Path(f"{OUTPUT}/{{host}}").write_text(" ".join(part.read_text() for part in parts))
"""
    shards = lab.input("shards", "shards/", S3DataDistributionType="ShardedByS3Key")
    job = lab.run(script, inputs=[shards], count=4)
    assert job["ProcessingJobStatus"] == "Completed"
    assert lab.outputs(job["ProcessingJobName"]) == {"algo-1": "0 4", "algo-2": "1 5", "algo-3": "2", "algo-4": "3"}


def test_hosts_without_a_share_run_with_an_empty_folder(lab: Lab) -> None:
    lab.s3.put_object(Bucket=lab.bucket, Key="lonely/part.csv", Body=b"x")
    lonely = lab.input("lonely", "lonely/", S3DataDistributionType="ShardedByS3Key")
    job = lab.run(f"import os; print(os.listdir('{INPUT}/lonely'))", inputs=[lonely], count=2)
    assert job["ProcessingJobStatus"] == "Completed"
    assert lab.lines(job["ProcessingJobName"]) == {"algo-1": ["['part.csv']"], "algo-2": ["[]"]}


def test_one_failing_host_fails_the_job_and_no_other_uploads(lab: Lab) -> None:
    script = f"""
import json, sys, time
host = json.load(open("/opt/ml/config/resourceconfig.json"))["current_host"]
open(f"{OUTPUT}/{{host}}", "w").write("half")
sys.exit(5) if host == "algo-2" else time.sleep(3000)
"""
    job = lab.run(script, count=3)
    assert (job["ProcessingJobStatus"], job["FailureReason"]) == ("Failed", "AlgorithmError: , exit code: 5")
    assert lab.outputs(job["ProcessingJobName"]) == {}


def test_a_manifest_chooses_objects(lab: Lab) -> None:
    for key in ("m/a.csv", "m/b.csv"):
        lab.s3.put_object(Bucket=lab.bucket, Key=key, Body=b"x")
    manifest = json.dumps([{"prefix": f"s3://{lab.bucket}/m/"}, "b.csv"])
    lab.s3.put_object(Bucket=lab.bucket, Key="m/manifest", Body=manifest.encode())
    job = lab.run(
        f"import os; print(os.listdir('{INPUT}/some'))",
        inputs=[lab.input("some", "m/manifest", S3DataType="ManifestFile")],
    )
    assert lab.lines(job["ProcessingJobName"])["algo-1"] == ["['b.csv']"]


def test_continuous_outputs_arrive_before_the_end(lab: Lab) -> None:
    name = lab.start(f"import time; open('{OUTPUT}/early', 'w').write('x'); time.sleep(3000)", mode="Continuous")
    assert eventually(lambda: lab.outputs(name)) == {"early": "x"}
    assert lab.sagemaker.describe_processing_job(ProcessingJobName=name)["ProcessingJobStatus"] == "InProgress"
    lab.sagemaker.stop_processing_job(ProcessingJobName=name)
    lab.ended(name)


def test_network_isolation_cuts_the_script_off_but_not_its_inputs_and_outputs(lab: Lab) -> None:
    script = f"""
import os, socket
host, _, port = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://").partition(":")
try:
    socket.create_connection((host, int(port)), 180)
except OSError as error:
    open("{OUTPUT}/error", "w").write(type(error).__name__)
"""
    job = lab.run(script, NetworkConfig={"EnableNetworkIsolation": True})
    assert lab.outputs(job["ProcessingJobName"]) == {"error": "ConnectionRefusedError"}


def test_a_script_acts_as_the_job_role_and_no_further(lab: Lab) -> None:
    script = f"""
import boto3
print(boto3.client("sts").get_caller_identity()["Arn"])
try:
    boto3.client("s3").put_object(Bucket="{lab.bucket}", Key="elsewhere", Body=b"")
except Exception as error:
    print(error.response["Error"]["Code"])
"""
    job = lab.run(script)
    role = lab.role.rpartition("/")[2]
    arn = f"arn:aws:sts::{control.ACCOUNT_ID}:assumed-role/{role}/SageMaker"
    assert lab.lines(job["ProcessingJobName"])["algo-1"] == [arn, "AccessDenied"]


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("pull", "ClientError: Cannot pull algorithm container. "),
        ("list", "ClientError: Data download failed:AccessDenied (403): "),
        ("get", "ClientError: Data download failed:AccessDenied (403): "),
        ("put", "ClientError: Data upload failed:AccessDenied (403): "),
    ],
)
def test_a_job_role_without_a_permission_fails_the_job_and_says_which(lab: Lab, missing: str, reason: str) -> None:
    role = lab.embedded.make_role([lab.statements[key] for key in lab.statements if key != missing])
    job = lab.run(f"open('{OUTPUT}/x', 'w').write('x')", RoleArn=role)
    assert job["ProcessingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith(reason)


def test_a_job_role_without_logs_has_a_job_without_logs(lab: Lab) -> None:
    role = lab.embedded.make_role([lab.statements[key] for key in ("list", "get", "put", "pull")])
    job = lab.run("print('unheard')", RoleArn=role)
    assert job["ProcessingJobStatus"] == "Completed"
    assert lab.lines(job["ProcessingJobName"]) == {}


def test_a_missing_input_fails_the_job(lab: Lab) -> None:
    job = lab.run("", inputs=[lab.input("none", "no-such-prefix/")])
    assert job["FailureReason"].startswith("ClientError: Failed to download data. No S3 objects found under S3 URL")


@pytest.mark.parametrize("missing", ["sagemaker:CreateProcessingJob", "sagemaker:AddTags", "iam:PassRole"])
def test_the_caller_needs_every_permission(lab: Lab, missing: str) -> None:
    needed = {
        "sagemaker:CreateProcessingJob": f"arn:aws:sagemaker:*:{control.ACCOUNT_ID}:processing-job/job-*",
        "sagemaker:AddTags": f"arn:aws:sagemaker:*:{control.ACCOUNT_ID}:processing-job/job-*",
        "iam:PassRole": lab.role,
    }
    tags = [{"Key": "workshop", "Value": "demo-exp"}]
    may = lab.embedded.variables_of([allow(resource, action) for action, resource in needed.items()])
    request = lab.request("pass", Tags=tags)
    lab.embedded.client("sagemaker", may).create_processing_job(**request)
    assert lab.ended(request["ProcessingJobName"])["ProcessingJobStatus"] == "Completed"
    may_not = lab.embedded.variables_of(
        [allow(resource, action) for action, resource in needed.items() if action != missing]
    )
    with pytest.raises(ClientError, match=missing) as refused:
        lab.embedded.client("sagemaker", may_not).create_processing_job(**lab.request("pass", Tags=tags))
    assert refused.value.response["Error"]["Code"] == "AccessDeniedException"


def test_a_role_that_does_not_trust_sagemaker_is_refused(lab: Lab) -> None:
    role = lab.embedded.make_role([], service="lambda.amazonaws.com")
    with pytest.raises(ClientError, match="Could not assume role") as refused:
        lab.start("pass", RoleArn=role)
    assert refused.value.response["Error"]["Code"] == "ValidationException"


def test_a_name_is_taken_for_ever_and_boto3_knows_the_error(lab: Lab) -> None:
    request = lab.request("pass")
    lab.sagemaker.create_processing_job(**request)
    with pytest.raises(lab.sagemaker.exceptions.ResourceInUse):
        lab.sagemaker.create_processing_job(**request)
    lab.ended(request["ProcessingJobName"])


def test_what_is_not_supported_is_refused_by_name(lab: Lab) -> None:
    with pytest.raises(ClientError, match="ExperimentConfig") as refused:
        lab.start("pass", ExperimentConfig={"TrialName": "t"})
    assert refused.value.response["Error"]["Code"] == "NotImplemented"


def test_the_aws_cli_and_a_waiter_know_the_job(lab: Lab) -> None:
    name = lab.start("print('x')")
    waiter = lab.sagemaker.get_waiter("processing_job_completed_or_stopped")
    waiter.wait(ProcessingJobName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 180})
    command = ["aws", "sagemaker", "list-processing-jobs", "--name-contains", name, "--output", "json"]
    done = subprocess.run(command, env=lab.embedded.environment(), capture_output=True, text=True, check=True)
    (summary,) = json.loads(done.stdout)["ProcessingJobSummaries"]
    assert (summary["ProcessingJobName"], summary["ProcessingJobStatus"]) == (name, "Completed")


def processes_with(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue  # it ended meanwhile
    return [command for command in found if mark in command]


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads /proc")
def test_a_killed_server_takes_its_jobs_along_and_says_so_later(embedded: Any, tmp_path: Path) -> None:
    connected = type(embedded)
    server, _ = control.start(tmp_path / "state")
    try:
        lab = Lab(connected(server))
        mark = f"{10**9 + os.getpid()}.0625"  # seconds that nobody else sleeps
        name = lab.start("", entrypoint=["bash", "-c", f"echo half > {OUTPUT}/half; sleep {mark}"])
        eventually(lambda: processes_with(mark))
        os.kill(server.pid, signal.SIGKILL)
        eventually(lambda: not processes_with(mark))
        server, _ = control.start(tmp_path / "state")
        sagemaker = connected(server).client("sagemaker")
        job = sagemaker.describe_processing_job(ProcessingJobName=name)
        assert job["ProcessingJobStatus"] == "Failed"
        assert "was stopped while the job was running" in job["FailureReason"]
        found = connected(server).client("s3").list_objects_v2(Bucket=lab.bucket, Prefix=f"out/{name}/")
        assert found["KeyCount"] == 0, "what a job had written when it was killed is no output"
    finally:
        control.stop(tmp_path / "state")
