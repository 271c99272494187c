"""SageMaker training through boto3 and the SageMaker Python SDK: jobs that really train."""

import hashlib
import io
import json
import tarfile
import uuid
from pathlib import Path
from typing import Any

import pytest
from clients import IMAGE, allow, arn, eventually, refused

GROUP = "/aws/sagemaker/TrainingJobs"
FINAL = ("Completed", "Failed", "Stopped")
SCRIPT = """
import argparse, os
import joblib, pandas
from sklearn.linear_model import LinearRegression
parser = argparse.ArgumentParser()
parser.add_argument("--fit-intercept", type=int)
parser.add_argument("--title")
arguments = parser.parse_args()
data = pandas.read_csv(os.path.join(os.environ["SM_CHANNEL_TRAIN"], "part-0.csv"))
model = LinearRegression(fit_intercept=bool(arguments.fit_intercept)).fit(data[["x"]], data["y"])
print(f"{arguments.title}: slope={model.coef_[0]:.3f}")
joblib.dump(model, os.path.join(os.environ["SM_MODEL_DIR"], "model.joblib"))
"""
METRICS = [{"Name": "slope", "Regex": "slope=([0-9.]+)"}]


class Lab:
    """A bucket with data, a role of training jobs, and short ways to run one."""

    def __init__(self, embedded: Any) -> None:
        self.embedded = embedded
        self.s3, self.sagemaker, self.logs = (embedded.client(name) for name in ("s3", "sagemaker", "logs"))
        self.bucket = f"training-{uuid.uuid4().hex[:8]}"
        self.s3.create_bucket(Bucket=self.bucket)
        self.s3.put_object(Bucket=self.bucket, Key="parts/part-0.csv", Body=b"x,y\n1,2\n2,4\n3,6\n")
        everything = f"arn:aws:s3:::{self.bucket}"
        pulling = "ecr:BatchCheckLayerAvailability ecr:BatchGetImage ecr:GetDownloadUrlForLayer"
        self.statements = {
            "list": allow("s3:ListBucket", everything),
            "get": allow("s3:GetObject", f"{everything}/*"),
            "put": allow("s3:PutObject", f"{everything}/models/*"),
            "pull": allow(f"ecr:GetAuthorizationToken {pulling}"),
            "logs": allow(
                "logs:CreateLogGroup logs:CreateLogStream logs:DescribeLogStreams logs:PutLogEvents",
                f"arn:aws:logs:*:*:log-group:{GROUP}*",
            ),
        }
        self.role = embedded.make_role(list(self.statements.values()))

    def request(self, *command: str, **more: Any) -> dict[str, Any]:
        """Return the parameters of a job that runs a command on the data."""
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{self.bucket}/parts/"}
        return {
            "TrainingJobName": f"job-{uuid.uuid4().hex[:12]}",
            "RoleArn": self.role,
            "AlgorithmSpecification": {
                "TrainingImage": IMAGE,
                "TrainingInputMode": "File",
                "ContainerEntrypoint": list(command),
                "MetricDefinitions": METRICS,
            },
            "InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
            "OutputDataConfig": {"S3OutputPath": f"s3://{self.bucket}/models"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            **more,
        }

    def run(self, *command: str, **more: Any) -> dict[str, Any]:
        request = self.request(*command, **more)
        self.sagemaker.create_training_job(**request)
        return self.ended(request["TrainingJobName"])

    def ended(self, name: str) -> dict[str, Any]:
        def final() -> dict[str, Any] | None:
            job = self.sagemaker.describe_training_job(TrainingJobName=name)
            return job if job["TrainingJobStatus"] in FINAL else None

        return eventually(final)

    def lines(self, name: str) -> list[str]:
        found = self.logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=f"{name}/")["logStreams"]
        streams = [stream["logStreamName"] for stream in found]
        assert all(stream.startswith(f"{name}/algo-1-") for stream in streams)
        return [
            event["message"]
            for stream in streams
            for event in self.logs.get_log_events(logGroupName=GROUP, logStreamName=stream)["events"]
        ]

    def model(self, job: dict[str, Any]) -> list[str]:
        key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix(f"s3://{self.bucket}/")
        body = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            return archive.getnames()


def push(ecr: Any, repository: str, files: dict[str, str], settings: dict[str, Any]) -> None:
    """Push an image of one layer, as Docker would."""

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        upload = ecr.initiate_layer_upload(repositoryName=repository)["uploadId"]
        whole = {"partFirstByte": 0, "partLastByte": len(data) - 1, "layerPartBlob": data}
        ecr.upload_layer_part(repositoryName=repository, uploadId=upload, **whole)
        ecr.complete_layer_upload(repositoryName=repository, uploadId=upload, layerDigests=[digest])
        return {"mediaType": f"application/vnd.docker.{kind}", "size": len(data), "digest": digest}

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": blob(json.dumps({"config": settings}).encode(), "container.image.v1+json"),
        "layers": [blob(layer.getvalue(), "image.rootfs.diff.tar.gzip")],
    }
    ecr.put_image(repositoryName=repository, imageManifest=json.dumps(manifest), imageTag="latest")


@pytest.fixture(scope="module")
def lab(embedded: Any) -> Lab:
    return Lab(embedded)


def test_a_job_reads_s3_prints_to_cloudwatch_and_leaves_a_model(lab: Lab) -> None:
    show = "wc -l < /opt/ml/input/data/train/part-0.csv; echo slope=2.5; echo m > /opt/ml/model/m"
    job = lab.run("bash", "-c", show, Tags=[{"Key": "workshop", "Value": "demo-exp"}])
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert lab.lines(job["TrainingJobName"]) == ["4", "slope=2.5"]
    assert lab.model(job) == ["m"]
    assert [(item["MetricName"], item["Value"]) for item in job["FinalMetricDataList"]] == [("slope", 2.5)]
    tags = lab.sagemaker.list_tags(ResourceArn=job["TrainingJobArn"])["Tags"]
    assert tags == [{"Key": "workshop", "Value": "demo-exp"}]
    listed = lab.sagemaker.list_training_jobs(NameContains=job["TrainingJobName"])["TrainingJobSummaries"]
    assert [found["SecondaryStatus"] for found in listed] == ["Completed"]


@pytest.mark.parametrize(
    ("without", "reason"),
    [
        ("list", "AccessDenied"),
        ("get", "AccessDenied"),
        ("put", "Artifact upload failed:AccessDenied"),
        ("pull", "Cannot pull algorithm container"),
        ("logs", ""),
    ],
)
def test_the_role_of_a_job_needs_each_permission(lab: Lab, without: str, reason: str) -> None:
    statements = [statement for name, statement in lab.statements.items() if name != without]
    role = lab.embedded.make_role(statements)
    job = lab.run("bash", "-c", "echo hello; echo m > /opt/ml/model/m", RoleArn=role)
    if reason:
        assert (job["TrainingJobStatus"], reason in job["FailureReason"]) == ("Failed", True), job["FailureReason"]
    else:
        assert job["TrainingJobStatus"] == "Completed"
        assert lab.lines(job["TrainingJobName"]) == []


def test_who_creates_a_job_needs_each_permission_and_its_conditions(lab: Lab) -> None:
    jobs = arn("sagemaker", "training-job/*")
    small = {
        "ForAllValues:StringEquals": {"sagemaker:InstanceTypes": ["ml.m5.large"]},
        "NumericLessThanEquals": {"sagemaker:MaxRuntimeInSeconds": "600"},
    }
    statements = {
        "sagemaker:CreateTrainingJob": allow("sagemaker:CreateTrainingJob", jobs, condition=small),
        "sagemaker:AddTags": allow("sagemaker:AddTags", jobs),
        "iam:PassRole": allow(
            "iam:PassRole", lab.role, condition={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
        ),
    }

    def client(*missing: str) -> Any:
        kept = [statement for action, statement in statements.items() if action not in missing]
        return lab.embedded.client("sagemaker", lab.embedded.variables_of(kept))

    def request(**more: Any) -> dict[str, Any]:
        return lab.request("true", Tags=[{"Key": "workshop", "Value": "demo-exp"}], **more)

    for action in statements:
        narrow = client(action)
        code, message = refused(lambda narrow=narrow: narrow.create_training_job(**request()))
        assert (code, action in message) == ("AccessDeniedException", True), message
    whole = client()
    large = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1}
    long = {"MaxRuntimeInSeconds": 601}
    for more in ({"ResourceConfig": large}, {"StoppingCondition": long}):
        code, message = refused(lambda more=more: whole.create_training_job(**request(**more)))
        assert (code, "sagemaker:CreateTrainingJob" in message) == ("AccessDeniedException", True), message
    started = request()
    whole.create_training_job(**started)
    assert lab.ended(started["TrainingJobName"])["TrainingJobStatus"] == "Completed"
    describe = refused(lambda: whole.describe_training_job(TrainingJobName=started["TrainingJobName"]))
    assert describe[0] == "AccessDeniedException"


def test_an_image_of_one_s_own_trains_if_the_role_may_pull_it(lab: Lab) -> None:
    ecr, name = lab.embedded.client("ecr"), f"training-{uuid.uuid4().hex[:8]}"
    uri = ecr.create_repository(repositoryName=name)["repository"]["repositoryUri"]
    main = "import os, sys; open('/opt/ml/model/m', 'w').write(sys.argv[1]); print(os.getcwd(), os.environ['SET'])"
    push(
        ecr, name, {"app/main.py": main}, {"Entrypoint": ["python", "main.py"], "WorkingDir": "/app", "Env": ["SET=1"]}
    )
    algorithm = {"TrainingImage": f"{uri}:latest", "TrainingInputMode": "File"}
    job = lab.run(AlgorithmSpecification=algorithm)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert lab.lines(job["TrainingJobName"]) == ["/app 1"]
    assert lab.model(job) == ["m"]
    statements = [statement for name, statement in lab.statements.items() if name != "pull"]
    elsewhere = allow("ecr:GetAuthorizationToken ecr:BatchGetImage", arn("ecr", "repository/other"))
    denied = lab.run(AlgorithmSpecification=algorithm, RoleArn=lab.embedded.make_role([*statements, elsewhere]))
    assert (denied["TrainingJobStatus"], "Cannot pull" in denied["FailureReason"]) == ("Failed", True)
    missing = lab.request(AlgorithmSpecification={**algorithm, "TrainingImage": f"{uri}:none"})
    code, message = refused(lambda: lab.sagemaker.create_training_job(**missing))
    assert (code, f"Requested image {uri}:none not found" in message) == ("ValidationException", True), message


def test_a_job_talks_to_aws_as_its_role_unless_it_is_isolated(lab: Lab) -> None:
    ask = (
        "import boto3; from botocore.config import Config; "
        "one = Config(retries={'max_attempts': 0}); "
        "print('role', boto3.client('sts', config=one).get_caller_identity()['Arn'])"
    )
    job = lab.run("python3", "-c", ask)
    role = lab.role.rpartition("/")[2]
    assert any(
        f"role arn:aws:sts::123456789012:assumed-role/{role}/" in line for line in lab.lines(job["TrainingJobName"])
    )
    alone = lab.run("python3", "-c", ask, EnableNetworkIsolation=True)
    assert (alone["TrainingJobStatus"], alone["EnableNetworkIsolation"]) == ("Failed", True)
    assert any("EndpointConnectionError" in line for line in lab.lines(alone["TrainingJobName"]))


def test_a_running_job_is_stopped(lab: Lab) -> None:
    trap = "trap 'echo saved > /opt/ml/model/m; exit 0' TERM; echo slope=1; sleep 3000 & wait"
    request = lab.request("bash", "-c", trap)
    name = request["TrainingJobName"]
    lab.sagemaker.create_training_job(**request)

    def printed() -> bool:
        return bool(lab.lines(name))

    eventually(printed)
    lab.sagemaker.stop_training_job(TrainingJobName=name)
    job = lab.ended(name)
    assert (job["TrainingJobStatus"], lab.model(job)) == ("Stopped", ["m"])


def test_an_unknown_job_is_not_found(lab: Lab) -> None:
    code, message = refused(lambda: lab.sagemaker.describe_training_job(TrainingJobName="none"))
    assert (code, message) == ("ValidationException", "Requested resource not found.")


def test_s3_takes_the_account_s_own_key_where_none_is_named(lab: Lab) -> None:
    """The SDK uploads source code so."""
    lab.s3.put_object(Bucket=lab.bucket, Key="encrypted", Body=b"x", ServerSideEncryption="aws:kms")
    found = lab.s3.get_object(Bucket=lab.bucket, Key="encrypted")
    assert (found["Body"].read(), found["ServerSideEncryption"]) == (b"x", "aws:kms")
    assert found["SSEKMSKeyId"].startswith(arn("kms", "key/"))


def test_the_sagemaker_sdk_trains_and_the_step_functions_sdk_asks_for_the_same(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in lab.embedded.environment().items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    # The SDK would report to its makers what it is used for; nothing leaves this machine.
    (tmp_path / "config.yaml").write_text(
        json.dumps({"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}})
    )
    monkeypatch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", str(tmp_path / "config.yaml"))
    monkeypatch.setenv("SAGEMAKER_SUPPRESS_V2_WARNING", "1")
    import boto3
    import sagemaker
    from sagemaker.sklearn import SKLearn
    from stepfunctions.steps import TrainingStep

    (tmp_path / "source").mkdir()
    (tmp_path / "source/train.py").write_text(SCRIPT)
    (tmp_path / "source/requirements.txt").write_text("pandas\n")
    estimator = SKLearn(
        entry_point="train.py",
        source_dir=str(tmp_path / "source"),
        role=lab.role,
        instance_type="ml.m5.large",
        instance_count=1,
        framework_version="1.2-1",
        hyperparameters={"fit-intercept": 0, "title": "two words"},
        metric_definitions=METRICS,
        use_spot_instances=True,
        max_run=600,
        max_wait=1200,
        output_path=f"s3://{lab.bucket}/models",
        sagemaker_session=sagemaker.Session(boto3.Session(), default_bucket=lab.bucket),
    )
    data = {"train": f"s3://{lab.bucket}/parts/"}
    estimator.fit(data, wait=False)
    name = estimator.latest_training_job.name
    assert lab.ended(name)["TrainingJobStatus"] == "Completed", lab.ended(name)
    estimator.latest_training_job.wait(logs="All")
    said = capsys.readouterr().out
    assert "two words: slope=2.000" in said
    assert "Managed Spot Training savings: 0.0%" in said
    assert estimator.model_data == f"s3://{lab.bucket}/models/{name}/output/model.tar.gz"
    assert lab.model(lab.ended(name)) == ["model.joblib"]

    step = TrainingStep("Train", estimator, job_name=f"{name}-again", data=data, tags={"workshop": "demo-exp"})
    lab.sagemaker.create_training_job(**step.to_dict()["Parameters"])
    again = lab.ended(f"{name}-again")
    assert again["TrainingJobStatus"] == "Completed", again.get("FailureReason")
    assert [item["Value"] for item in again["FinalMetricDataList"]] == [2.0]
