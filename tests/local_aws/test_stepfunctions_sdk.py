"""The Step Functions Data Science SDK, as notebook 08d uses it: its own calls, on a machine that really trains."""

import io
import json
import tarfile
import uuid
import warnings
from pathlib import Path
from typing import Any

import pytest
from clients import IMAGE, allow, arn, function_settings
from lab import Lab

PREPARE = """
def handler(event, context):
    return {"slope": str(event["slope"])}
"""
FINISH = """
def handler(event, context):
    metrics = {item["MetricName"]: item["Value"] for item in event["FinalMetricDataList"]}
    return {"model": event["ModelArtifacts"]["S3ModelArtifacts"].rsplit("/", 1)[1], "metrics": metrics}
"""
TRAIN = """
import argparse, os
parser = argparse.ArgumentParser()
parser.add_argument("--slope", type=float)
arguments = parser.parse_args()
with open(os.path.join(os.environ["SM_MODEL_DIR"], "model.txt"), "w") as file:
    file.write(str(arguments.slope))
print(f"slope={arguments.slope:.1f}")
"""
RULE = "StepFunctionsGetEventsForSageMakerTrainingJobsRule"


class SdkLab(Lab):
    """Functions, a script in S3 and the roles of such a machine."""

    def __init__(self, embedded: Any) -> None:
        super().__init__(embedded)
        self.functions = [self._function(source) for source in (PREPARE, FINISH)]
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            entry = tarfile.TarInfo("train.py")
            entry.size = len(TRAIN)
            archive.addfile(entry, io.BytesIO(TRAIN.encode()))
        self.s3.put_object(Bucket=self.bucket, Key="code/sourcedir.tar.gz", Body=packed.getvalue())
        jobs = arn("sagemaker", "training-job/*")
        passing = {"condition": {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}}
        calls = "CreateTrainingJob DescribeTrainingJob StopTrainingJob AddTags"
        self.machine_role = embedded.make_role(
            [
                allow("lambda:InvokeFunction", *(arn("lambda", f"function:{name}") for name in self.functions)),
                allow(" ".join(f"sagemaker:{call}" for call in calls.split()), jobs),
                allow("iam:PassRole", self.job_role, **passing),
                allow("events:PutTargets events:PutRule events:DescribeRule", arn("events", f"rule/{RULE}")),
            ],
            service="states.amazonaws.com",
        )

    def _function(self, source: str) -> str:
        name = f"sdk-{uuid.uuid4().hex[:8]}"
        role = self.embedded.make_role([], service="lambda.amazonaws.com")
        self.embedded.client("lambda").create_function(**function_settings(name, role, source))
        return name


@pytest.fixture
def lab(embedded: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SdkLab:
    for name, value in embedded.environment().items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    # The SDK would report to its makers what it is used for; nothing leaves this machine.
    quiet = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
    (tmp_path / "config.yaml").write_text(json.dumps(quiet))
    monkeypatch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", str(tmp_path / "config.yaml"))
    monkeypatch.setenv("SAGEMAKER_SUPPRESS_V2_WARNING", "1")
    return SdkLab(embedded)


def estimator(lab: SdkLab) -> Any:
    import boto3
    import sagemaker
    from sagemaker.sklearn import SKLearn

    return SKLearn(
        entry_point="train.py",
        source_dir=f"s3://{lab.bucket}/code/sourcedir.tar.gz",
        role=lab.job_role,
        instance_type="ml.m5.large",
        instance_count=1,
        image_uri=IMAGE,
        metric_definitions=[{"Name": "slope", "Regex": "slope=([0-9.]+)"}],
        use_spot_instances=True,
        max_run=600,
        max_wait=1200,
        output_path=f"s3://{lab.bucket}/models",
        sagemaker_session=sagemaker.Session(boto3.Session(), default_bucket=lab.bucket),
    )


def test_a_chain_of_functions_and_training_is_made_run_listed_stopped_and_deleted(lab: SdkLab) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the SDK's own: it was last released in 2022
        from stepfunctions import steps
        from stepfunctions.inputs import ExecutionInput
        from stepfunctions.workflow import Workflow

    wanted = ExecutionInput(schema={"slope": float, "job": str})
    prepare = steps.LambdaStep(
        "Prepare", parameters={"FunctionName": lab.functions[0], "Payload": {"slope": wanted["slope"]}}
    )
    train = steps.TrainingStep(
        "Train", estimator(lab), job_name=wanted["job"], tags={"workshop": "demo-exp"},
        hyperparameters={"slope": prepare.output()["Payload"]["slope"]},
    )  # fmt: skip
    finish = steps.LambdaStep(
        "Finish", parameters={"FunctionName": lab.functions[1], "Payload.$": "$"}, output_path="$.Payload"
    )
    chain = steps.Chain([prepare, train, finish])
    name = f"sdk-{uuid.uuid4().hex[:8]}"
    workflow = Workflow(name, chain, lab.machine_role, execution_input=wanted, client=lab.states)
    made = workflow.create()
    assert made == arn("states", f"stateMachine:{name}")
    assert workflow.create() == made

    job = f"sdk-{uuid.uuid4().hex[:8]}"
    execution = workflow.execute(inputs={"slope": 2.5, "job": job})
    output = execution.get_output(wait=True)
    assert output == {"model": "model.tar.gz", "metrics": {"slope": 2.5}}, execution.describe()
    assert execution.get_input() == {"slope": 2.5, "job": job}
    assert execution.describe()["status"] == "SUCCEEDED"
    types = [event["type"] for event in execution.list_events()]
    assert (types.count("TaskSucceeded"), types.count("TaskSubmitted"), types[-1]) == (3, 1, "ExecutionSucceeded")
    assert [event["type"] for event in execution.list_events(reverse_order=True)] == types[::-1]
    trained = lab.sagemaker.describe_training_job(TrainingJobName=job)
    assert (trained["EnableManagedSpotTraining"], trained["HyperParameters"]["slope"]) == (True, "2.5")
    tags = {tag["Key"]: tag["Value"] for tag in lab.sagemaker.list_tags(ResourceArn=trained["TrainingJobArn"])["Tags"]}
    assert tags == {"workshop": "demo-exp", "MANAGED_BY_AWS": "STARTED_BY_STEP_FUNCTIONS"}

    (listed,) = workflow.list_executions()
    assert (listed.execution_arn, listed.status) == (execution.execution_arn, "SUCCEEDED")
    assert any(item["name"] == name for item in Workflow.list_workflows(client=lab.states))
    shown = [workflow.render_graph(), execution.render_progress(), workflow.list_executions(html=True)]
    # Not list_events(html=True): the SDK stumbles over the inputDetails that events have, on AWS too.
    shown.append(Workflow.list_workflows(html=True, client=lab.states))
    assert all(item is None or "<" in item.data for item in shown)

    attached = Workflow.attach(made, client=lab.states)
    again = Workflow(name, steps.Chain([steps.Wait("Wait", seconds=300)]), lab.machine_role, client=lab.states)
    assert again.create() == made  # of the same name, with another definition: the SDK takes the ARN from the error
    attached.update(definition=steps.Chain([steps.Wait("Wait", seconds=300)]))
    waiting = attached.execute()
    assert waiting.get_output() is None
    assert "stopDate" in waiting.stop(error="Mine", cause="enough")
    assert (waiting.describe()["status"], waiting.describe()["error"]) == ("ABORTED", "Mine")
    assert json.loads(attached.definition.to_json())["States"].keys() == {"Wait"}
    attached.delete()
    assert not any(item["name"] == name for item in Workflow.list_workflows(client=lab.states))


def test_a_step_catches_and_tries_again_as_it_is_told(lab: SdkLab) -> None:
    from stepfunctions import steps
    from stepfunctions.workflow import Workflow

    train = steps.TrainingStep("Train", estimator(lab), job_name="a_b")  # which SageMaker refuses
    train.add_retry(steps.Retry(error_equals=["SageMaker.ResourceLimitExceededException"], max_attempts=1))
    train.add_catch(
        steps.Catch(error_equals=["States.ALL"], next_step=steps.Fail("Refused", error="Mine", cause="why"))
    )
    workflow = Workflow(f"sdk-{uuid.uuid4().hex[:8]}", steps.Chain([train]), lab.machine_role, client=lab.states)
    workflow.create()
    execution = workflow.execute()
    assert execution.get_output(wait=True) is None
    assert (execution.describe()["status"], execution.describe()["error"]) == ("FAILED", "Mine")
    workflow.delete()
