# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 08d · Train with SageMaker
#
# Let a state machine prepare, run and judge a training job, written with the Data Science SDK; then compare all four ways.
#
# **For** the MLOps engineer · **Time** 30 minutes ·
# **Cost on AWS** about $0.01 (two training jobs on spot capacity) ·
# **Needs first** [08a](08a_activity_to_lambda.ipynb), [08b](08b_activity_to_fargate.ipynb),
# [08c](08c_activity_to_batch.ipynb)

# %% [markdown]
# **You will**
#
# - **write** a state machine in Python objects instead of JSON,
# - **train** a model in the contract of SageMaker's training containers,
# - **run** the same work in four places,
# - **choose** between them.

# %%
import sys

sys.path[:0] = [".."]  # the project's folder, for `helpers`
import json

import boto3

from helpers import connect, dataset, executions, machines, processing, roles, sdk

workshop = connect()
sdk.prepare_data_science_sdk()
BUCKET = workshop.bucket_for("processing")
PREPARE, FINISH, TRAINING = map(workshop.name, ("prepare-training", "finish-training", "training"))
TRAINING_LOGS = "/aws/sagemaker/TrainingJobs"  # the log group, and the namespace of metrics
account = f"{workshop.region}:{workshop.account_id}"

# %% [markdown]
# ## What you will build
#
# ```mermaid
# flowchart LR
#   prepare[Lambda prepare-training] -- hyper-parameters --> job["sagemaker:createTrainingJob.sync, on spot"]
#   job -- "metrics, model.tar.gz" --> finish[Lambda finish-training]
#   parts[(parts in S3)] --> job --> models[(models in S3)]
# ```
#
# The first function checks what it was given before an instance is paid for. The last one looks whether there are metrics
# and a model.
#
# This notebook needs the SageMaker Python SDK in version 2, because the Data Science SDK was written for it. Where Studio
# brings version 3, the first cell says what to do. On AWS a new account may have a quota of 0 for `ml.m5.large for spot training job
# usage`: ask for 1 or more.
#
# ## Step 0: permissions and data

# %%
from helpers import permissions, storage

iam, s3 = boto3.client("iam"), boto3.client("s3")
for policy in permissions.POLICIES:
    permissions.ensure_policy(iam, workshop, policy)
bucket = storage.ensure_bucket(s3, BUCKET, region=workshop.region, tags=workshop.tag_list)
parts = processing.upload_parts(s3, BUCKET, dataset.fetch(), count=20)
print(len(parts), "parts:", parts[0], "to", parts[-1])

# %% [markdown]
# ## Step 1: roles
#
# The job's role reads the data and its code, and writes models, its log and its metrics. It also pulls images: SageMaker's own for the training,
# and ours of 08b for the comparison at the end.

# %%
PULL = "ecr:BatchCheckLayerAvailability ecr:GetDownloadUrlForLayer ecr:BatchGetImage"
theirs = f"arn:aws:ecr:{workshop.region}:*:repository/sagemaker-scikit-learn"
ours = f"arn:aws:ecr:{account}:repository/{workshop.name('processing')}"
needed = [
    roles.allow("s3:ListBucket", bucket.arn),
    roles.allow("s3:GetObject", f"{bucket.arn}/parts/*", f"{bucket.arn}/code/*"),
    roles.allow("s3:PutObject", f"{bucket.arn}/models/*"),
    roles.allow("ecr:GetAuthorizationToken", "*"),
    roles.allow(PULL, theirs, ours),
    roles.allow_log(workshop, TRAINING_LOGS),
    roles.allow("logs:DescribeLogStreams", f"arn:aws:logs:{account}:log-group:{TRAINING_LOGS}:*"),
    roles.allow("cloudwatch:PutMetricData", "*", equals={"cloudwatch:namespace": TRAINING_LOGS}),
]
job_role = roles.ensure_service_role(iam, workshop, "training-job", "sagemaker", *needed)
print(job_role)

# %% [markdown]
# The functions: *prepare* needs nothing but its log, *finish* looks at the job and at the model.

# %%
JOBS = f"{workshop.short_name}-training"  # how the names of training jobs begin
jobs_arn = f"arn:aws:sagemaker:{account}:training-job/{JOBS}-*"
needed = {
    PREPARE: [],
    FINISH: [
        roles.allow("sagemaker:DescribeTrainingJob", jobs_arn),
        roles.allow("s3:GetObject", f"{bucket.arn}/models/*"),
        roles.allow("s3:ListBucket", bucket.arn, like={"s3:prefix": ["models/*"]}),
    ],
}
variables = {PREPARE: {"JOB_PREFIX": JOBS}, FINISH: {}}

# %%
from helpers import functions

client = boto3.client("lambda")
for name, statements in needed.items():
    suffix = name.removeprefix(f"{workshop.prefix}-")
    statements = [*statements, roles.allow_log(workshop, f"/aws/lambda/{name}")]
    role = roles.ensure_service_role(iam, workshop, suffix, "lambda", *statements)
    code = functions.package(functions.SOURCES / suffix.replace("-", "_"))
    made = {"timeout": 60, "memory": 256, "variables": variables[name], "tags": workshop.tags}
    print(functions.ensure_function(client, name, role_arn=role.arn, code=code, **made))

# %% [markdown]
# ## Step 2: an estimator
#
# The SageMaker SDK describes a training job with an *estimator*: which script, which image, which machine. In *script
# mode* SageMaker's image runs your script with the hyper-parameters as arguments; where data and model lie, it says in
# variables such as `SM_CHANNEL_TRAIN` and `SM_MODEL_DIR`. The script is the one that Batch ran in 08c.
#
# `use_spot_instances` takes spare capacity, and `max_wait` bounds how long the job may wait for it. SageMaker looks for
# metrics in what the script prints, with regular expressions.

# %%
import sagemaker
from sagemaker.sklearn import SKLearn

sklearn = {"version": "1.4-2", "instance_type": "ml.m5.large"}
metrics = [{"Name": name, "Regex": rf"{name}=([0-9.]+);"} for name in ("roc_auc", "accuracy")]
settings = {
    "image_uri": sdk.image_uri("sklearn", region=workshop.region, **sklearn),
    "role": job_role.arn,
    "instance_type": "ml.m5.large",
    "metric_definitions": metrics,
    "output_path": f"s3://{BUCKET}/models",
    "sagemaker_session": sagemaker.Session(boto3.Session(), default_bucket=BUCKET),
}

# %%
source = processing.upload_source(s3, BUCKET)
spot = {"use_spot_instances": True, "max_run": 600, "max_wait": 1200}
estimator = SKLearn(entry_point="train.py", source_dir=source, **settings, **spot)
print(estimator.entry_point, "on", estimator.instance_type)

# %% [markdown]
# ## Step 3: the state machine, in Python objects
#
# Each step is an object. What one step gives out another one refers to, and the SDK makes a path of it. `Chain` puts them
# in a row. Calls that SageMaker throttles are tried again.

# %%
from stepfunctions.steps import Chain, LambdaStep, Retry, TrainingStep

given = {"execution.$": "$$.Execution.Id", "input.$": "$$.Execution.Input"}
invoke = {"FunctionName": PREPARE, "Payload": given}
prepare = LambdaStep("prepare", parameters=invoke, output_path="$.Payload")
invoke = {"FunctionName": FINISH, "Payload": {"job_name.$": "$.TrainingJobName"}}
finish = LambdaStep("finish", parameters=invoke, output_path="$.Payload")
error = "SageMaker.AmazonSageMakerException"
retry = Retry(error_equals=[error], interval_seconds=2, max_attempts=3)

# %%
from sagemaker.inputs import TrainingInput

prepared = prepare.output()
names = ("C", "class-weight", "max-iter", "test-size", "seed")
train = TrainingStep(
    "train",
    estimator,
    job_name=prepared["job_name"],
    data={"train": TrainingInput(f"s3://{BUCKET}/parts/", content_type="text/csv")},
    hyperparameters={name: prepared["hyper_parameters"][name] for name in names},
    tags=workshop.tags,
)
train.add_retry(retry)
chain = Chain([prepare, train, finish])
print(*(type(step).__name__ for step in chain.steps))

# %% [markdown]
# The machine's role: two functions, training jobs of our name, the job's role to pass on, and the rule through which Step
# Functions hears that a job has ended.

# %%
function_arns = [f"arn:aws:lambda:{account}:function:{name}" for name in needed]
rule_arn = f"arn:aws:events:{account}:rule/StepFunctionsGetEventsForSageMakerTrainingJobsRule"
calls = ("CreateTrainingJob", "DescribeTrainingJob", "StopTrainingJob", "AddTags")
to_jobs = {"iam:PassedToService": "sagemaker.amazonaws.com"}
statements = [
    roles.allow("lambda:InvokeFunction", *function_arns),
    roles.allow(" ".join(f"sagemaker:{call}" for call in calls), jobs_arn),
    roles.allow("iam:PassRole", job_role.arn, equals=to_jobs),
    roles.allow("events:PutTargets events:PutRule events:DescribeRule", rule_arn),
]
machine_role = roles.ensure_service_role(iam, workshop, "training-machine", "states", *statements)
print(machine_role)

# %% [markdown]
# `Workflow` is the SDK's word for a state machine. It creates one, or is attached to one that there is and updates it.

# %%
from stepfunctions.workflow import Workflow

states = boto3.client("stepfunctions")


def machines_there():
    """Return the ARNs of the state machines that there are, by name."""
    listed = Workflow.list_workflows(max_items=1000, client=states)
    return {one["name"]: one["stateMachineArn"] for one in listed}


# %%
from helpers import diagrams
from helpers.propagation import retry_until_propagated

there = machines_there().get(TRAINING)
if there:
    workflow = Workflow.attach(there, client=states)
    retry_until_propagated(lambda: workflow.update(chain, role=machine_role.arn))
else:
    settings = {"tags": workshop.state_tags, "client": states}
    workflow = Workflow(TRAINING, chain, machine_role.arn, **settings)
    retry_until_propagated(workflow.create)
definition = json.loads(workflow.definition.to_json())
diagrams.draw(definition)

# %% [markdown]
# What came out is the same language that the other notebooks wrote by hand.

# %%
state = definition["States"]["train"]
parameters = state["Parameters"]
print(state["Resource"])
print(
    json.dumps(
        {name: parameters[name] for name in ("EnableManagedSpotTraining", "StoppingCondition")},
        indent=2,
    )
)

# %% [markdown]
# ## Train
#
# A wrong value first: the function refuses it, and no job is started.

# %%
refused = workflow.execute(inputs={"hyper_parameters": {"C": -1}})
cause = executions.follow(states, refused.execution_arn).cause
print(json.loads(cause)["errorMessage"])

# %%
trained = workflow.execute(inputs={"hyper_parameters": {"C": 0.1}})
executions.follow(states, trained.execution_arn)
result = trained.get_output(wait=True)
found = {name: round(value, 3) for name, value in result["metrics"].items()}
print(found, result["model"].rpartition("/")[2])

# %%
sagemaker_client = boto3.client("sagemaker")
job = sagemaker_client.describe_training_job(TrainingJobName=result["job_name"])
print("spot:", job["EnableManagedSpotTraining"])
print(*(step["Status"] for step in job["SecondaryStatusTransitions"]), sep=" -> ")

# %% [markdown]
# The script ran on one instance, in a place where `/opt/ml` has data, hyper-parameters and model. What it left in
# `/opt/ml/model` came back as `model.tar.gz`.
#
# ## The same work in four places
#
# The image of 08b can be a training job, too: a container that reads `/opt/ml/input/data` and writes `/opt/ml/model`. Here
# is the state, as plain JSON this time.

# %%
from helpers import images

registry = f"{workshop.account_id}.dkr.ecr.{workshop.region}.amazonaws.com"
container = {
    "TrainingImage": f"{registry}/{workshop.name('processing')}:{images.image_tag()}",
    "TrainingInputMode": "File",
    "ContainerEntrypoint": ["python", "/app/summarize.py"],
}
one_part = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{parts[0]}"}
channel = {"ChannelName": "part", "DataSource": {"S3DataSource": one_part}}

# %%
parameters = {
    "TrainingJobName.$": "$.job",
    "RoleArn": job_role.arn,
    "AlgorithmSpecification": container,
    "InputDataConfig": [channel],
    "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/models/summaries"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 1200},
    "Tags": workshop.tag_list,
}
resource = "arn:aws:states:::sagemaker:createTrainingJob.sync"
retry = {"ErrorEquals": [error], "IntervalSeconds": 2, "MaxAttempts": 3}
state = {"Type": "Task", "Resource": resource, "Parameters": parameters, "Retry": [retry], "End": True}
plain = {"StartAt": "summarize", "TimeoutSeconds": 3600, "States": {"summarize": state}}

# %%
name = workshop.name("summarize-training")
made = {"role_arn": machine_role.arn, "tags": workshop.state_tags}
print(machines.ensure_state_machine(states, name, plain, **made))

# %% [markdown]
# Now one part through each of the four: handed to the function of 08a, to a task, to a job in a queue, to a training job.
# The checker of 08a is woken by hand, so that its minute does not count.

# %%
ways = {
    "Lambda": workshop.name("activity"),
    "Fargate": workshop.name("fargate"),
    "Batch": workshop.name("batch"),
    "SageMaker training": workshop.name("summarize-training"),
}
known = machines_there()
missing = set(ways.values()) - known.keys()
assert not missing, f"run 08a, 08b and 08c first: {missing} are not there"

# %%
import uuid

name = uuid.uuid4().hex[:12]
inputs = {
    "Lambda": {"bucket": BUCKET, "key": parts[0], "run": f"run-{name}"},
    "Fargate": {"prefix": parts[0]},
    "Batch": {"prefix": parts[0]},
    "SageMaker training": {"job": f"{JOBS}-{name}"},
}
started = {way: machines.start(states, known[ways[way]], inputs[way]) for way in ways}
client.invoke(FunctionName=workshop.name("activity-checker"), InvocationType="Event")
print(len(started), "executions started")

# %%
ends = {way: executions.wait(states, arn) for way, arn in started.items()}
print({way: end["status"] for way, end in ends.items()})

# %% [markdown]
# How long did each take to start, and to work? Step Functions has written it down. Watch the cell: the times stay for
# five seconds, because what is stored here has to be the same at every run. To see them again, run it again.

# %%
import pandas as pd

from helpers import comparison

found = comparison.measured(states, {way: [arn] for way, arn in started.items()})
comparison.show_measured(found, seconds=5)

# %% [markdown]
# A *piece* is one activity's task, task of ECS, job of Batch or training job. On the embedded AWS all four are
# processes of your machine, and start within a moment. On AWS the differences are what decides. These are usual times,
# and prices in dollars for us-east-1, of a day that the file `helpers/comparison.json` names; edit it where your
# region's are others.

# %%
prices = comparison.prices()
prices.round(4)

# %% [markdown]
# *a run* is the workshop's: twenty small parts, for training one job on all of the data; *rank* 1 is the cheapest. That
# is so little work that starting a container or an instance costs more than the work. For *an hour* of work the order
# is another one. Lambda's thirty seconds are the wait for the checker of 08a; a function that is invoked starts within
# a second. And the limits:

# %%
pd.set_option("display.max_colwidth", None)
comparison.limits().T

# %% [markdown]
# When to use which:
#
# - **Lambda** when a piece of work takes minutes at most and should begin at once. With an activity where the workers are
#   outside of AWS; else let Step Functions invoke the function itself.
# - **Fargate** when the work needs an image or takes hours, and there is no crowd. `.sync` unless the program has to say
#   more than an exit code.
# - **Batch** when there is more work than room: queues, priorities, arrays, retries, spot.
# - **SageMaker training** when what comes out is a model: metrics, checkpoints, GPUs, many hosts, a record of each job.
#
# ## Check yourself

# %%
assert 0.84 < result["metrics"]["roc_auc"] < 0.85, "the model is not what it should be"
assert job["EnableManagedSpotTraining"], "it did not run on spot capacity"
assert {end["status"] for end in ends.values()} == {"SUCCEEDED"}, ends
assert list(found.pieces) == [1, 1, 1, 1], "a way has no measured piece of work"
summary = json.loads(ends["Lambda"]["output"])
assert summary["rows"] > 9_000, "the part was not summarized"
print("one model, one part of the data in four places")

# %% [markdown]
# ## Exercise
#
# Your team trains thirty small models every night, a minute each, and one large one on a GPU. It has no image yet, and
# nobody watches. Which of the four, and why?
#
# <details><summary>Solution</summary>
#
# The small ones with Batch, as an array on spot capacity: one call, retries for what is interrupted, nothing to pay
# between two nights, and a bound on what runs at once. As training jobs they would each pay for the start of an instance,
# three minutes for one of work. The large one as a training job: Fargate and Lambda have no GPU, checkpoints survive an
# interruption, and SageMaker's own image saves you one of your own.
#
# </details>

# %% [markdown]
# ## What you built
#
# - A state machine, **written** in Python objects,
# - a model, **trained** on spot capacity, with metrics from its log,
# - the same work, which **ran** in four places,
# - and reasons by which one is **chosen**.
#
# Left running: nothing of this notebook. The schedule of 08a goes on.
#
# Next: [99 · Clean up](99_clean_up.ipynb) deletes it with all the rest.
