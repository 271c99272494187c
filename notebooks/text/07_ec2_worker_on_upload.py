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
# # 07 · Run an EC2 worker on upload
#
# Give each uploaded unit of work a machine of its own, and end that machine whatever happens.
#
# **For** the MLOps engineer · **Time** 40 minutes · **Cost on AWS** about $0.02 (five instances for some minutes each) ·
# **Needs first** [02 · Build the experiment pipeline](02_build_experiment_pipeline.ipynb)

# %% [markdown]
# **You will**
#
# - **deploy** a stack with CloudFormation, after a look at what it will change,
# - **upload** three units: one succeeds, one fails, one hangs,
# - **follow** them in a table, in messages and in their histories,
# - **prove** that no machine is left running.

# %%
import sys

sys.path[:0] = [".."]  # the project's folder, for `helpers`
import json

import boto3
import pandas as pd

from helpers import connect, dataset, deployer, functions, permissions, roles, stacks, units

workshop = connect()
STACK, BUCKET = workshop.name("ec2-worker"), workshop.bucket_for("units")
FOLDER = functions.SOURCES / "ec2_worker"
pd.set_option("display.max_colwidth", None)  # reasons in full

# %% [markdown]
# ## What you will build
#
# A device collects data, or a training takes hours: work that wants a machine of its own, for as long as it lasts. Its
# data are uploaded below `{device}/{unit}/`, and last of all `metainfo.json`, which says that the unit is complete.
#
# ```mermaid
# flowchart LR
#   upload((metainfo.json)) --> bucket[(S3)] --> register[Lambda<br/>register]
#   register -- "one execution<br/>per upload" --> machine[Step Functions]
#   machine -- "launches,<br/>ends" --> worker[EC2 worker]
#   worker -. "watched by" .-> reaper[Lambda<br/>reaper]
#   machine -- how it ended --> topic[SNS topic] --> queue[SQS queue]
#   worker -- "status,<br/>heartbeats" --> table[(DynamoDB)]
#   machine -. "is it final?" .-> table
# ```
#
# A machine that nobody ends costs money until somebody notices. So every path of the state machine leads through
# *finish*, the worker must be heard of every few seconds, and a reaper looks after those whose state machine is gone.
#
# The queue and the workers apart, all of it is one *stack*: resources that CloudFormation makes, changes and deletes
# together, as a *template* describes them, here `template.yaml`.
#
# ## Step 0: permissions
#
# The notebook's role needs what this notebook calls, besides what 02 gave it: the same policy as in 06.

# %%
iam = boto3.client("iam")
print(permissions.ensure_policy(iam, workshop, "notebook-uploads").name, "is attached")

# %% [markdown]
# ## Step 1: the functions' package
#
# Five functions share one package. Its key holds a hash of its content: CloudFormation updates a function when its
# *template* changes, and would not notice other bytes under the same key.

# %%
import hashlib

s3 = boto3.client("s3")
code = functions.package(FOLDER)
code_key = f"functions/ec2_worker-{hashlib.sha256(code).hexdigest()[:16]}.zip"
s3.put_object(Bucket=workshop.bucket, Key=code_key, Body=code)
print("uploaded:", *sorted(path.name for path in FOLDER.iterdir() if path.is_file()))

# %% [markdown]
# Five of these files are functions, and `worker.py` is what the instance runs. `launch` hands it over as `user_data`,
# within the script `user_data.sh`, which works the same on Amazon Linux and on the embedded AWS. The script asks the
# instance's metadata service who and where it is, installs what is missing, and starts the worker; if any of that
# fails, it writes the reason into the unit's record in DynamoDB. This is its end:

# %%
script = (FOLDER / "user_data.sh").read_text()
print(script[script.index('step="it was asking') :])

# %% [markdown]
# ## Step 2: a role for CloudFormation
#
# Whoever deploys a stack needs every permission that its resources need, unless CloudFormation acts in a role of its own.
# This one may touch what bears the stack's name, and hand on only those roles that the stack makes.

# %%
statements = deployer.deployer_statements(workshop, STACK, bucket=BUCKET, code_key="functions/*")
deployer_role = roles.ensure_role(
    iam,
    workshop.name("deployer"),
    trusted="cloudformation.amazonaws.com",
    statements=statements,
    tags=workshop.tag_list,
)
print(deployer_role)
print(*sorted({action.partition(":")[0] for statement in statements for action in statement["Action"]}))

# %% [markdown]
# ## Step 3: where the instances go
#
# A subnet of the default VPC, in a zone that has the instance type: not every zone has every type.

# %%
ec2 = boto3.client("ec2")
INSTANCE_TYPE = "t3.micro"
offered = ec2.describe_instance_type_offerings(
    LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": [INSTANCE_TYPE]}]
)["InstanceTypeOfferings"]
found = ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
zones = {offer["Location"] for offer in offered}
subnet = next((one for one in found if one["AvailabilityZone"] in zones), None)
assert subnet, "there is no default subnet: name a subnet and its VPC of your own here"
print(f"{INSTANCE_TYPE} in {subnet['AvailabilityZone']}")

# %% [markdown]
# ## Step 4: what would change
#
# A change set is CloudFormation's answer to *what would you do?* Nothing happens until it is executed. The parameters
# say where things are, and how patient the state machine is: it looks at a unit's record every 5 seconds, gives up a
# worker that has been silent for 20, and any unit after half an hour.

# %%
parameters = {
    "BucketName": BUCKET,
    "SubnetId": subnet["SubnetId"],
    "VpcId": subnet["VpcId"],
    "CodeBucket": workshop.bucket,
    "CodeKey": code_key,
    "Workshop": workshop.prefix,
    "InstanceType": INSTANCE_TYPE,
    "HeartbeatSeconds": "20",
    "PollSeconds": "5",
    "LimitSeconds": "1800",
}

# %%
settings = {
    "TemplateBody": (FOLDER / "template.yaml").read_text(),
    "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    "Capabilities": ["CAPABILITY_IAM"],  # yes, it makes roles
    "RoleARN": deployer_role.arn,
    "Tags": workshop.tag_list,
}

# %%
import uuid

from helpers.propagation import retry_until_propagated

cloudformation = boto3.client("cloudformation")
kind = stacks.change_set_type(cloudformation, STACK)  # CREATE or UPDATE
change_set = {"StackName": STACK, "ChangeSetName": f"{kind.lower()}-{uuid.uuid4().hex[:8]}"}
retry_until_propagated(
    lambda: cloudformation.create_change_set(**change_set, ChangeSetType=kind, **settings)
)
changing = stacks.wait_for_change_set(cloudformation, STACK, change_set["ChangeSetName"])
stacks.changes(
    cloudformation, STACK, change_set["ChangeSetName"]
) if changing else "nothing would change"

# %% [markdown]
# Roles and functions, a bucket that notifies, a table, a topic, a schedule, a security group that lets nothing in. The
# image is not in it: its id differs from region to region and changes with every release, so the template asks the public
# parameter of Amazon Linux 2023.
#
# ## Step 5: deploy

# %%
if changing:
    cloudformation.execute_change_set(**change_set)
    changing = False
made = stacks.follow(cloudformation, STACK)
print(len(made), "resources:", ", ".join(sorted(set(made.status.str.partition("_")[2]))))
outputs = stacks.outputs(cloudformation, STACK)
dynamodb = boto3.client("dynamodb")
units.wait_for_notification(s3, BUCKET, dynamodb, outputs["Table"])

# %% [markdown]
# If one of them could not be made, CloudFormation would take back the others, and the cell would say which one and why.
# On AWS it takes S3 up to five minutes to heed a new notification, and nobody hears of uploads meanwhile: the last line
# uploads a unit that is refused, until one is heard of.
#
# This is the state machine that it made. Whatever happens in *launch* or *poll*, the next state is *finish*, which ends the
# instance: there is no other way out.

# %%
from helpers import diagrams

states = boto3.client("stepfunctions")
machine = states.describe_state_machine(stateMachineArn=outputs["Machine"])
diagrams.draw(json.loads(machine["definition"]))

# %% [markdown]
# ## Step 6: subscribe to the results
#
# The topic tells how each unit ended. A queue collects what it says; the queue's policy lets this topic in and nobody
# else. In production this would be a mail, a chat, or the next pipeline.

# %%
sqs, sns = boto3.client("sqs"), boto3.client("sns")
queue = sqs.create_queue(QueueName=workshop.name("units"), tags=workshop.tags)["QueueUrl"]
attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
statement = {
    "Effect": "Allow",
    "Principal": {"Service": "sns.amazonaws.com"},
    "Action": "sqs:SendMessage",
    "Resource": attributes["QueueArn"],
    "Condition": {"ArnEquals": {"aws:SourceArn": outputs["Topic"]}},
}
sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": roles.policy_json([statement])})
sns.subscribe(TopicArn=outputs["Topic"], Protocol="sqs", Endpoint=attributes["QueueArn"])
inbox = {}  # what was taken from the queue
print("the queue is subscribed")

# %% [markdown]
# ## Upload three units
#
# Each device has a part of the data set. The worker trains a model on it that predicts the income from the other columns.

# %%
table = pd.read_csv(dataset.fetch(), skipinitialspace=True)
numbers = [name for name in table.columns if table[name].dtype.kind in "if" and name != "year"]
table["income"] = (table["income"] != "- 50000.").astype(int)
sample = table[[*numbers, "income"]].sample(30_000, random_state=0)
parts = {f"device-{number + 1}": sample[number::3] for number in range(3)}
print({device: part.shape for device, part in parts.items()})


# %%
def upload(device, unit, part, **metainfo):
    """Upload a unit: its data first, metainfo.json last."""
    told = {"device": device, "unit": unit, "data": ["data.csv"], "target": "income", **metainfo}
    s3.put_object(
        Bucket=BUCKET, Key=f"{device}/{unit}/data.csv", Body=part.to_csv(index=False).encode()
    )
    s3.put_object(Bucket=BUCKET, Key=f"{device}/{unit}/metainfo.json", Body=json.dumps(told).encode())
    return f"{device}/{unit}"


def new(name):
    """Return a name for a unit that nobody has used."""
    return f"{name}-{uuid.uuid4().hex[:6]}"


# %% [markdown]
# The first is as it should be. The second lacks the column that it is to be trained on. The third will hang: its
# `stall_seconds` make the worker stand still, as a disk that does not answer would. Names are new each time, because a
# unit that was finished is not worked on again with the same content.

# %%
names = {
    "good": upload("device-1", new("good"), parts["device-1"]),
    "bad": upload("device-2", new("bad"), parts["device-2"].drop(columns="income")),
    "hanging": upload("device-3", new("hanging"), parts["device-3"], stall_seconds=900),
}
print(len(names), "units uploaded")

# %% [markdown]
# ## Follow them
#
# The table shows each unit's status as it changes: `Received`, `WorkerStarting`, `WorkerRunning`, and then one of two ends.


# %%
def shown(frame):
    """Return a table of units without what differs from run to run."""
    return frame.rename(index=lambda unit: unit.partition("/")[2].partition("-")[0])


overview = units.follow(dynamodb, outputs["Table"], names.values())
shown(overview).round(3).convert_dtypes()

# %% [markdown]
# The good unit has metrics. The bad one says what it lacks. The hanging one was not heard of for more than 20 seconds:
# nobody had to wait for its fifteen minutes, or to look.
#
# The records keep every status with its time, and the reason of a failure. The times differ from run to run: to see
# them, give `history` also `times=True`.

# %%
pd.concat({name: units.history(dynamodb, outputs["Table"], unit) for name, unit in names.items()})

# %% [markdown]
# ## Read the messages
#
# The queue has what the topic published: one message for each unit.

# %%
messages = units.receive(sqs, queue, names.values(), inbox=inbox)
shown(messages)[["status", "reason"]]

# %% [markdown]
# ## Prove that no machine is left
#
# The state machine has ended each instance: also the one that hung.

# %%
left = units.wait_until_none_left(ec2, STACK)
print("instances left:", len(left))
filters = [{"Name": "tag:unit", "Values": list(names.values())}]
reservations = ec2.describe_instances(Filters=filters)["Reservations"]
print("ended:", [one["State"]["Name"] for group in reservations for one in group["Instances"]])

# %% [markdown]
# The results of the good unit are in the bucket: a model and its metrics.

# %%
objects = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"results/{names['good']}/")["Contents"]
print(*sorted(one["Key"].rpartition("/")[2] for one in objects), sep="\n")

# %% [markdown]
# ## What if the state machine itself is gone?
#
# Somebody stops an execution in the console, and *finish* never runs. Here is a unit whose worker would stand still for a
# quarter of an hour; as soon as it runs, its execution is stopped.

# %%
orphan = upload("device-3", new("orphan"), parts["device-3"], stall_seconds=900)
record = units.wait_for_status(dynamodb, outputs["Table"], orphan, "WorkerRunning")
states.stop_execution(executionArn=record["Execution"], cause="stopped by hand")
print("instances left:", len(units.instances_left(ec2, STACK)))

# %% [markdown]
# The reaper runs every five minutes. You need not wait: invoke it yourself. It ends instances whose unit is final, whose
# execution does not run, or which are too old, and it fails units that nobody works on any more.

# %%
answer = boto3.client("lambda").invoke(FunctionName=outputs["Reaper"])
assert "FunctionError" not in answer, answer["Payload"].read()
print("instances left:", len(units.wait_until_none_left(ec2, STACK, seconds=600)))
shown(units.overview(dynamodb, outputs["Table"], [orphan]))[["status", "reason"]]

# %% [markdown]
# ## The record decides
#
# The state machine believes the record, whoever writes it. So a unit can be ended by hand: set its `JobStatus` to
# `WorkerFinished`. Here is one more that stands still.

# %%
unit = upload("device-1", new("by-hand"), parts["device-1"], stall_seconds=900)
record = units.wait_for_status(dynamodb, outputs["Table"], unit, "WorkerRunning")
dynamodb.update_item(
    TableName=outputs["Table"],
    Key={"Unit": {"S": unit}},
    UpdateExpression="SET JobStatus = :status",
    ExpressionAttributeValues={":status": {"S": "WorkerFinished"}},
)
print("the record says WorkerFinished")

# %% [markdown]
# At its next look *poll* finds the record final, *finish* ends the instance and publishes the result, and the execution
# succeeds. The worker can write nothing more: it changes the record only while that is not final.

# %%
from helpers import executions

ended = executions.follow(states, record["Execution"])
print("instances left:", len(units.wait_until_none_left(ec2, STACK)))

# %% [markdown]
# ## Check yourself

# %%
statuses = overview.status.to_dict()
assert statuses[names["good"]] == "WorkerFinished", "the good unit did not finish"
assert statuses[names["bad"]] == statuses[names["hanging"]] == "WorkerFailed", "they should have failed"
assert overview.loc[names["good"], "accuracy"] > 0.8, "the model is worse than it should be"
assert sorted(messages.status) == ["WorkerFailed", "WorkerFailed", "WorkerFinished"], (
    "a message is missing"
)
assert not units.instances_left(ec2, STACK), "an instance is still running"
print("three units, three ends, three messages, no machine left")

# %% [markdown]
# ## Exercise
#
# A device loses its connection, and to be sure it uploads `metainfo.json` again: once while its unit is in progress, once
# when it is done. How many workers start? And what happens after a unit has failed?
#
# <details><summary>Solution</summary>
#
# ```python
# import time
#
# name = new("again")
# unit = upload("device-1", name, parts["device-1"])
# upload("device-1", name, parts["device-1"])  # while it is in progress
# units.follow(dynamodb, outputs["Table"], [unit])
# upload("device-1", name, parts["device-1"])  # when it is done
# time.sleep(15)  # in which a second worker would have started
# print(units.history(dynamodb, outputs["Table"], unit))
# filters = [{"Name": "tag:unit", "Values": [unit]}]
# print("workers:", len(ec2.describe_instances(Filters=filters)["Reservations"]))
# ```
#
# One. `register` puts the record under a condition: while a unit is in progress nothing starts, and after
# `WorkerFinished` only other content does. After `WorkerFailed` each new upload starts it again: mend the data, upload
# `metainfo.json`, and the history goes on.
#
# </details>

# %% [markdown]
# ## What you built
#
# - A stack of functions, roles, a table, a topic and a schedule, **deployed** after you saw what it would change,
# - three units, **uploaded**: one succeeded, one failed, one hung,
# - their way, **followed** in the table, in messages and in histories,
# - and no machine left running, **proven** also for an execution that was stopped.
#
# Left running: no machine. The reaper runs every five minutes, 9,000 times a month: it costs nothing within Lambda's free
# tier, and some cents without. Table, topic and queue cost what is stored and sent.
#
# Next: [08a · Hand activities to a Lambda function](08a_activity_to_lambda.ipynb).
