"""The life of a training job in the SageMaker API; jobs run for real, over an S3 and logs of the test's own."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from training_room import BUILT, CALLER, IMAGE, ROLE, Room, channel, request

from helpers.local_aws.containers import Slots
from helpers.local_aws.wire import AwsError, Caller, Permission
from helpers.local_aws.workers.training import Metrics


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    made = Room(tmp_path_factory.mktemp("training"))
    yield made
    made.service.close()


def phases(job: dict[str, Any]) -> list[str]:
    return [entry["Status"] for entry in job["SecondaryStatusTransitions"]]


def until(check: Any) -> None:
    deadline = time.monotonic() + 180
    while not check():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_a_job_reads_channels_and_leaves_a_model(room: Room) -> None:
    room.cloud.objects["bucket/parts/a.csv"] = b"1,2\n"
    save = "cd /opt/ml; mkdir -p model/deep; cp input/data/train/a.csv model/deep/; echo x > output/data/y"
    inputs = [channel("train", "s3://bucket/parts/")]
    job = room.run("leaves-a-model", "bash", "-c", save, InputDataConfig=inputs)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Completed", "Completed")
    assert job["ModelArtifacts"] == {"S3ModelArtifacts": "s3://bucket/models/leaves-a-model/output/model.tar.gz"}
    assert room.cloud.archive("bucket/models/leaves-a-model/output/model.tar.gz") == {"deep/a.csv": b"1,2\n"}
    assert room.cloud.archive("bucket/models/leaves-a-model/output/output.tar.gz") == {"y": b"x\n"}
    assert phases(job) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert all(entry["StatusMessage"] and "EndTime" in entry for entry in job["SecondaryStatusTransitions"])
    assert job["CreationTime"] <= job["TrainingStartTime"] <= job["TrainingEndTime"] <= job["LastModifiedTime"]
    assert job["TrainingTimeInSeconds"] == job["BillableTimeInSeconds"] >= 1
    assert job["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3DataDistributionType"] == "FullyReplicated"


def test_the_same_model_is_packed_to_the_same_bytes(room: Room) -> None:
    for name in ("same-1", "same-2"):
        room.run(name, "bash", "-c", "cd /opt/ml/model; for each in c a b; do echo $each > $each; done")
    one, two = (room.cloud.objects[f"bucket/models/{name}/output/model.tar.gz"] for name in ("same-1", "same-2"))
    assert one == two
    assert "bucket/models/same-1/output/output.tar.gz" not in room.cloud.objects, "an archive of nothing is not made"


def test_links_are_packed_as_links_and_lead_nowhere(room: Room) -> None:
    (room.site.state_dir / "secret").write_text("secret")
    link = f"ln -s {room.site.state_dir}/secret /opt/ml/model/s; rm -r /opt/ml/output/data; ln -s / /opt/ml/output/data"
    job = room.run("links", "bash", "-c", link)
    assert job["TrainingJobStatus"] == "Completed"
    assert room.cloud.archive("bucket/models/links/output/model.tar.gz") == {}
    assert "bucket/models/links/output/output.tar.gz" not in room.cloud.objects


def test_the_container_finds_the_documented_files_and_variables(room: Room) -> None:
    room.cloud.objects["bucket/parts/a.csv"] = b"1,2\n"
    show = "cd /opt/ml/input/config; cat hyperparameters.json inputdataconfig.json resourceconfig.json; echo; env"
    job = room.run(
        "contract",
        "bash",
        "-c",
        show,
        HyperParameters={"C": "0.1"},
        Environment={"MINE": "1"},
        InputDataConfig=[{**channel("train", "s3://bucket/parts"), "ContentType": "text/csv"}],
    )
    said = room.cloud.log("contract")
    decoder = json.JSONDecoder()
    text, files = said[0], []
    while text:
        value, end = decoder.raw_decode(text)
        files.append(value)
        text = text[end:]
    assert files[0] == {"C": "0.1"}
    assert files[1] == {
        "train": {
            "ContentType": "text/csv",
            "TrainingInputMode": "File",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        }
    }
    assert (files[2]["current_host"], files[2]["hosts"]) == ("algo-1", ["algo-1"])
    assert files[2]["current_instance_type"] == "ml.m5.large"
    variables = dict(line.split("=", 1) for line in said[1:] if "=" in line)
    assert variables["TRAINING_JOB_NAME"] == "contract"
    assert variables["TRAINING_JOB_ARN"] == job["TrainingJobArn"]
    assert (variables["AWS_REGION"], variables["MINE"]) == ("us-east-1", "1")
    assert variables["AWS_SESSION_TOKEN"] == "c"


@pytest.mark.parametrize(
    ("name", "command", "reason"),
    [
        ("exit3", "exit 3", "AlgorithmError: , exit code: 3"),
        ("said", "echo because > /opt/ml/output/failure; exit 1", "AlgorithmError: because\n, exit code: 1"),
        ("killed", "kill -9 $$", "AlgorithmError: , exit code: 137"),
    ],
)
def test_a_failed_job_says_what_its_algorithm_wrote(room: Room, name: str, command: str, reason: str) -> None:
    job = room.run(f"fails-{name}", "bash", "-c", f"echo half > /opt/ml/model/half; {command}")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"], job["FailureReason"]) == ("Failed", "Failed", reason)
    assert "ModelArtifacts" not in job
    assert not [key for key in room.cloud.objects if key.startswith(f"bucket/models/fails-{name}/")]


def test_a_long_failure_is_cut_but_for_the_exit_code(room: Room) -> None:
    job = room.run("long-failure", "bash", "-c", "printf 'é%.0s' {1..2000} > /opt/ml/output/failure; exit 7")
    assert len(job["FailureReason"]) == 1024
    assert job["FailureReason"].endswith("éé, exit code: 7")


def test_a_channel_without_objects_fails_the_job(room: Room) -> None:
    job = room.run("no-data", "true", InputDataConfig=[channel("train", "s3://bucket/nothing/")])
    assert job["TrainingJobStatus"] == "Failed"
    assert 'No S3 objects found under S3 URL "s3://bucket/nothing/"' in job["FailureReason"]
    assert phases(job) == ["Starting", "Downloading", "Failed"]


def test_a_model_that_cannot_be_stored_fails_the_job(room: Room) -> None:
    room.cloud.denied = "bucket/models/denied/"
    job = room.run("denied", "bash", "-c", "echo 1 > /opt/ml/model/m")
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: Artifact upload failed:AccessDenied (403)")


def test_the_last_value_of_each_metric_is_kept(room: Room) -> None:
    metrics = [
        {"Name": "train:loss", "Regex": r"loss=([0-9.]+)"},
        {"Name": "auc", "Regex": r"auc: (\S+)"},
        {"Name": "never", "Regex": r"never=(\d+)"},
    ]
    said = "printf 'loss=0.9 auc: 0.5\\nloss=0.5\\nauc: none\\nepoch 3 loss=0.25'"
    job = room.run("metrics", "bash", "-c", said, metrics=metrics)
    found = {item["MetricName"]: item["Value"] for item in job["FinalMetricDataList"]}
    assert found == {"train:loss": 0.25, "auc": 0.5}
    assert all(item["Timestamp"] >= job["TrainingStartTime"] for item in job["FinalMetricDataList"])
    assert job["AlgorithmSpecification"]["EnableSageMakerMetricsTimeSeries"] is True


def test_a_metric_whose_search_has_no_end_is_given_up(room: Room) -> None:
    metrics = [{"Name": "endless", "Regex": "(a|aa)+$"}, {"Name": "auc", "Regex": r"auc=(\S+)"}]
    job = room.run("endless", "bash", "-c", f"echo {'a' * 80}!; echo {'a' * 80}!; echo auc=0.5", metrics=metrics)
    assert job["TrainingJobStatus"] == "Completed"
    assert [(item["MetricName"], item["Value"]) for item in job["FinalMetricDataList"]] == [("auc", 0.5)]
    (told,) = [line for line in room.cloud.log("endless") if "metric" in line]
    assert told == "The metric endless is given up: its Regex took 2 seconds for one line."


def test_metrics_are_found_in_output_without_an_end_of_line() -> None:
    metrics = Metrics([{"Name": "auc", "Regex": "auc=([0-9.]+);"}], pytest.fail)
    for _ in range(9):
        metrics.feed(b"auc=0.5;" + b"." * 65_000)
    assert metrics.last["auc"][0] == 0.5, "what is held of a line has a limit"


def test_a_stopped_job_gets_sigterm_and_its_model_is_kept(room: Room) -> None:
    trap = "trap 'echo saved > /opt/ml/model/m; exit 0' TERM; touch /opt/ml/ready; sleep 600 & wait"
    room.call("CreateTrainingJob", **request("stopped", "bash", "-c", trap))
    until(lambda: list(room.site.state_dir.glob("sagemaker/training/stopped/algo-1/ml/ready")))
    room.call("StopTrainingJob", TrainingJobName="stopped")
    assert room.service.wait_training("stopped", 180)
    job = room.describe("stopped")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert phases(job) == ["Starting", "Training", "Stopping", "Uploading", "Stopped"]
    assert room.cloud.archive("bucket/models/stopped/output/model.tar.gz") == {"m": b"saved\n"}
    with pytest.raises(AwsError, match="training job is in status Stopped"):
        room.call("StopTrainingJob", TrainingJobName="stopped")


def test_a_job_that_runs_too_long_is_stopped_and_keeps_its_model(room: Room) -> None:
    trap = "trap 'echo saved > /opt/ml/model/m; exit 9' TERM; echo ready; sleep 600 & wait"
    for seconds in (1, 10, 60):  # on a busy machine the shell may need longer until it handles the signal
        name = f"too-long-{seconds}"
        job = room.run(name, "bash", "-c", trap, StoppingCondition={"MaxRuntimeInSeconds": seconds})
        if "ready" in room.cloud.log(name):
            break
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert "FailureReason" not in job
    assert room.cloud.archive(f"bucket/models/{name}/output/model.tar.gz") == {"m": b"saved\n"}


def test_a_spot_job_whose_wait_is_over_is_not_started(tmp_path: Path) -> None:
    room = Room(tmp_path, slots=Slots(1, longest=600))
    spot = {
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": 1, "MaxWaitTimeInSeconds": 1},
    }
    try:
        room.slots.take(lambda: False)
        room.call("CreateTrainingJob", **request("waits", "true", **spot))
        created = room.describe("waits")["CreationTime"].timestamp()
        until(lambda: time.time() > created + 1.1)
        room.slots.look()
        assert room.service.wait_training("waits", 180)
        job = room.describe("waits")
        assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxWaitTimeExceeded")
        assert "TrainingStartTime" not in job
    finally:
        room.slots.give()
        room.service.close()


def test_checkpoints_are_brought_and_kept_also_of_a_job_that_fails(room: Room) -> None:
    config = {"S3Uri": "s3://bucket/checkpoints/mine", "LocalPath": "/opt/ml/checkpoints"}
    count = 'cd /opt/ml/checkpoints; n=$(cat n || echo 0); echo $((n+1)) > n; test "$n" != 0'
    assert room.run("checkpoint-1", "bash", "-c", count, CheckpointConfig=config)["TrainingJobStatus"] == "Failed"
    assert room.cloud.objects["bucket/checkpoints/mine/n"] == b"1\n"
    assert room.run("checkpoint-2", "bash", "-c", count, CheckpointConfig=config)["TrainingJobStatus"] == "Completed"
    assert room.cloud.objects["bucket/checkpoints/mine/n"] == b"2\n"


def test_several_hosts_share_the_data_and_leave_one_model(room: Room) -> None:
    for number in range(4):
        room.cloud.objects[f"bucket/shards/{number}.csv"] = b"x"
    source = channel("train", "s3://bucket/shards/", S3DataDistributionType="ShardedByS3Key")
    script = (
        "import json, os; host = json.load(open('/opt/ml/input/config/resourceconfig.json'))['current_host']; "
        "json.dump(sorted(os.listdir('/opt/ml/input/data/train')), open(f'/opt/ml/model/{host}', 'w'))"
    )
    job = room.run("sharded", "python3", "-c", script, count=2, InputDataConfig=[source])
    assert job["TrainingJobStatus"] == "Completed"
    packed = {
        name: json.loads(text) for name, text in room.cloud.archive("bucket/models/sharded/output/model.tar.gz").items()
    }
    assert packed == {"algo-1": ["0.csv", "2.csv"], "algo-2": ["1.csv", "3.csv"]}


def test_an_image_of_one_s_own_is_run_with_train(room: Room) -> None:
    app = room.built.folder / "app"
    app.mkdir()
    (app / "main.py").write_text("import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['FROM_IMAGE'])\n")
    (room.built.folder / "opt/ml/code").mkdir(parents=True)
    (room.built.folder / "opt/ml/code/theirs.txt").write_text("kept")
    room.built.entrypoint = ("python3", "/app/main.py")
    assert room.run("own-image", image=BUILT)["TrainingJobStatus"] == "Completed"
    assert room.cloud.log("own-image") == ["['train'] /app yes"]
    assert [needed.action for needed in room.required] == ["ecr:BatchGetImage"]
    copy = "cp /opt/ml/code/theirs.txt /opt/ml/model/; ls /opt/ml/input/config"
    job = room.run("own-entrypoint", "bash", "-c", copy, image=BUILT)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert room.cloud.archive("bucket/models/own-entrypoint/output/model.tar.gz") == {"theirs.txt": b"kept"}
    assert not (app / "__pycache__").exists(), "a job has a copy of the image's files"


def test_an_image_that_cannot_be_laid_out_fails_the_job_and_says_why(tmp_path: Path) -> None:
    room = Room(tmp_path)
    (room.built.folder / "etc").mkdir()
    try:
        job = room.run("over-etc", "true", image=BUILT)
        assert job["TrainingJobStatus"] == "Failed"
        assert "/etc" in job["FailureReason"]
    finally:
        room.service.close()


def test_a_working_directory_is_never_made_among_the_machines_folders(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.built.working_directory = "/etc/no-such-folder/of-a-training-job"
    try:
        job = room.run("somewhere", "true", image=BUILT)
    finally:
        room.service.close()
    assert job["TrainingJobStatus"] == "Failed"
    assert "the working directory /etc/no-such-folder/of-a-training-job does not exist" in job["FailureReason"]
    assert not Path("/etc/no-such-folder").exists()


def test_an_image_without_the_command_fails_the_job_as_a_client_error(room: Room) -> None:
    job = room.run("no-train", "no-such-train", image=BUILT)
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: ")
    assert 'exec: "no-such-train": executable file not found in $PATH' in job["FailureReason"]


def test_an_image_that_is_not_there_is_refused(room: Room) -> None:
    with pytest.raises(AwsError, match=r"Requested image .*:other not found") as refused:
        room.call("CreateTrainingJob", **request("no-image", image=BUILT.replace("latest", "other")))
    assert refused.value.code == "ValidationException"
    with pytest.raises(AwsError, match="is not in Amazon ECR"):
        room.call("CreateTrainingJob", **request("no-image", image="python:3.12"))


def test_a_job_name_can_be_used_once_but_processing_jobs_have_their_own(room: Room) -> None:
    room.run("once", "true")
    with pytest.raises(AwsError, match="Training job names must be unique") as refused:
        room.run("once", "true")
    assert refused.value.code == "ResourceInUse"
    with pytest.raises(AwsError):
        room.call("DescribeProcessingJob", ProcessingJobName="once")


def test_a_role_that_cannot_be_assumed_is_a_validation_error(room: Room) -> None:
    with pytest.raises(AwsError, match="Could not assume role") as refused:
        room.run("other-role", "true", RoleArn=ROLE + "-other")
    assert refused.value.code == "ValidationException"


@pytest.mark.parametrize("operation", ["DescribeTrainingJob", "StopTrainingJob"])
def test_an_unknown_job_is_a_validation_error(room: Room, operation: str) -> None:
    with pytest.raises(AwsError, match="Requested resource not found") as refused:
        room.call(operation, TrainingJobName="none")
    assert refused.value.code == "ValidationException"
    with pytest.raises(AwsError, match="Requested resource not found"):
        room.service.wait_training("none", 0)


def test_tags_are_those_of_the_training_job(room: Room) -> None:
    arn = room.run("Tagged", "true", Tags=[{"Key": "a", "Value": "1"}])["TrainingJobArn"]
    assert arn == "arn:aws:sagemaker:us-east-1:123456789012:training-job/tagged"
    room.call("AddTags", ResourceArn=arn, Tags=[{"Key": key, "Value": "2"} for key in "ab"])
    room.call("DeleteTags", ResourceArn=arn, TagKeys=["b"])
    assert room.call("ListTags", ResourceArn=arn) == {"Tags": [{"Key": "a", "Value": "2"}]}


def test_jobs_are_listed_by_filter_order_and_page(room: Room) -> None:
    for number in range(3):
        room.run(f"page-{number}", "true" if number else "false")

    def names(**params: Any) -> list[str]:
        page = room.call("ListTrainingJobs", NameContains="page", **params)
        return [job["TrainingJobName"] for job in page["TrainingJobSummaries"]]

    assert names() == ["page-2", "page-1", "page-0"]
    assert names(StatusEquals="Failed") == ["page-0"]
    page = room.call("ListTrainingJobs", NameContains="page", SortBy="Name", SortOrder="Ascending", MaxResults=2)
    assert page["TrainingJobSummaries"][0]["SecondaryStatus"] == "Failed"
    assert names(SortBy="Name", SortOrder="Ascending", MaxResults=2, NextToken=page["NextToken"]) == ["page-2"]
    with pytest.raises(AwsError, match="WarmPoolStatusEquals") as refused:
        names(WarmPoolStatusEquals="InUse")
    assert refused.value.code == "NotImplemented"


def test_creating_needs_the_job_its_tags_and_the_role(room: Room) -> None:
    params = request("any", Tags=[{"Key": "workshop", "Value": "demo-exp"}], EnableNetworkIsolation=True)
    create, tag, passed = room.service.permissions("CreateTrainingJob", params)
    arn = "arn:aws:sagemaker:us-east-1:123456789012:training-job/any"
    assert (create.action, create.resource) == ("sagemaker:CreateTrainingJob", arn)
    assert dict(create.context) == {
        "aws:RequestTag/workshop": "demo-exp",
        "aws:TagKeys": ["workshop"],
        "sagemaker:InstanceTypes": ["ml.m5.large"],
        "sagemaker:MaxRuntimeInSeconds": "600",
        "sagemaker:NetworkIsolation": "true",
    }
    assert (tag.action, tag.resource) == ("sagemaker:AddTags", arn)
    assert (passed.action, passed.resource) == ("iam:PassRole", ROLE)
    assert passed.context == {"iam:PassedToService": "sagemaker.amazonaws.com"}


def test_without_pass_role_nothing_is_created(room: Room) -> None:
    def decide(permission: Permission) -> None:
        if permission.action == "iam:PassRole":
            raise AwsError("AccessDeniedException", permission.action)

    with pytest.raises(AwsError, match="iam:PassRole"):
        room.service.call("CreateTrainingJob", request("unpassed", "true"), Caller("arn", decide))
    with pytest.raises(AwsError, match="Requested resource not found"):
        room.describe("unpassed")


def test_a_job_that_ran_has_failed_after_a_stop_and_one_that_waited_runs(tmp_path: Path) -> None:
    room = Room(tmp_path, slots=Slots(1, longest=600))
    room.call("CreateTrainingJob", **request("ran", "bash", "-c", "touch /opt/ml/ready; sleep 600"))
    until(lambda: list(room.site.state_dir.glob("sagemaker/training/ran/algo-1/ml/ready")))
    room.call("CreateTrainingJob", **request("waited", "bash", "-c", "echo 1 > /opt/ml/model/m"))
    room.service.close()
    ran = room.describe("ran")
    assert ran["TrainingJobStatus"] == "Failed"
    assert "was stopped while the job was running" in ran["FailureReason"]
    assert room.describe("waited")["TrainingJobStatus"] == "InProgress"
    room.slots = Slots(1)
    room.service = room.make()
    try:
        room.service.resume()
        assert room.service.wait_training("waited", 180)
        assert room.describe("waited")["TrainingJobStatus"] == "Completed"
        assert room.cloud.archive("bucket/models/waited/output/model.tar.gz") == {"m": b"1\n"}
    finally:
        room.service.close()


def test_the_scikit_learn_image_is_known_to_the_role(room: Room) -> None:
    room.service.call("CreateTrainingJob", request("pulls", "true", image=IMAGE), CALLER)
    assert "ecr:GetAuthorizationToken" in [needed.action for needed in room.required]
    assert room.service.wait_training("pulls", 180)
