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
# # 06 · Standardize on upload
#
# Let an upload to a bucket start a pipeline, and find out that no upload can break it.
#
# **For** the MLOps engineer · **Time** 30 minutes ·
# **Cost on AWS** about $0.15 (some 35 short processing jobs; waiting for them takes an hour more) ·
# **Needs first** [02 · Build the experiment pipeline](02_build_experiment_pipeline.ipynb)

# %% [markdown]
# **You will**
#
# - **build** a bucket whose uploads start a state machine,
# - **watch** twenty uploads become twenty executions,
# - **check** the results against scikit-learn,
# - **try** every upload that could break it.

# %%
import sys

sys.path[:0] = [".."]  # the project's folder, for `helpers`
import json

import boto3
import pandas as pd

from helpers import connect, dataset, diagrams, functions, permissions, roles, standardization, storage

workshop = connect()
BUCKET = workshop.bucket_for("partitions")
TRIGGER, BATCH_ID, MACHINE = map(workshop.name, ("standardize-trigger", "batch-id", "standardize"))
account = f"{workshop.region}:{workshop.account_id}"
pd.set_option("display.max_colwidth", None)  # reasons in full

# %% [markdown]
# ## What you will build
#
# Data arrives as files, when it pleases. Each file `partition_<number>.csv` is to be standardized, column by column: the
# mean is taken away, and the rest divided by the standard deviation.
#
# ```mermaid
# flowchart LR
#   upload((upload)) -- "meta-data/partition_7.csv" --> bucket[(S3)]
#   bucket -- notification --> trigger[Lambda trigger]
#   trigger -- an execution per upload --> machine[Step Functions]
#   machine -- which batch? --> batch[Lambda batch-id]
#   machine -- standardize --> job[SageMaker Processing]
#   job -- "prediction-data/7/" --> bucket
# ```
#
# ## Step 0: permissions
#
# The notebook's role needs what this notebook and the next one call, besides what 02 gave it.

# %%
iam = boto3.client("iam")
print(permissions.ensure_policy(iam, workshop, "notebook-uploads"))

# %% [markdown]
# ## Step 1: the bucket and the script
#
# A bucket of its own, because a bucket has one configuration of notifications: whoever writes it replaces what was
# there. The script reads its file twice, in blocks, so that its memory does not grow with the file.

# %%
s3 = boto3.client("s3")
bucket = storage.ensure_bucket(s3, BUCKET, region=workshop.region, tags=workshop.tag_list)
s3.upload_file(str(standardization.SCRIPT), BUCKET, standardization.SCRIPT_KEY)
print(bucket)

# %% [markdown]
# ## Step 2: four roles
#
# One for each thing that acts, with just what it does. The trigger starts executions; the second function only computes,
# so it may do nothing but write its log.


# %%
def log_statement(function):
    """Return what a function needs to write its log."""
    return {"Effect": "Allow", "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
            "Resource": f"arn:aws:logs:{account}:log-group:/aws/lambda/{function}:*"}  # fmt: skip


machine_arn = f"arn:aws:states:{account}:stateMachine:{MACHINE}"
start_statement = {"Effect": "Allow", "Action": "states:StartExecution", "Resource": machine_arn}
needed = {TRIGGER: [start_statement, log_statement(TRIGGER)], BATCH_ID: [log_statement(BATCH_ID)]}

# %%
settings = {"trusted": "lambda.amazonaws.com", "tags": workshop.tag_list}
trigger_role = roles.ensure_role(iam, TRIGGER, statements=needed[TRIGGER], **settings)
batch_id_role = roles.ensure_role(iam, BATCH_ID, statements=needed[BATCH_ID], **settings)
print(trigger_role, batch_id_role, sep="\n")

# %% [markdown]
# The job reads uploads and its script, and writes results. It also pulls its image and writes its log.

# %%
job_statements = [
    {"Effect": "Allow", "Action": "s3:GetObject",
     "Resource": [f"{bucket.arn}/meta-data/*", f"{bucket.arn}/{standardization.SCRIPT_KEY}"]},
    {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"{bucket.arn}/prediction-data/*"},
    {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": bucket.arn},
    {"Effect": "Allow",
     "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
     "Resource": f"arn:aws:logs:{account}:log-group:/aws/sagemaker/ProcessingJobs:*"},
    {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
    {"Effect": "Allow",
     "Action": ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
     "Resource": f"arn:aws:ecr:{workshop.region}:*:repository/sagemaker-scikit-learn"},
]  # fmt: skip

# %%
job_role = roles.ensure_role(
    iam,
    workshop.name("standardize-job"),
    trusted="sagemaker.amazonaws.com",
    statements=job_statements,
    tags=workshop.tag_list,
)
print(job_role)

# %% [markdown]
# The state machine asks the function for the batch, and runs the job as the job's role.

# %%
batch_id_arn = f"arn:aws:lambda:{account}:function:{BATCH_ID}"
machine_statements = [
    {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": batch_id_arn},
    {"Effect": "Allow",
     "Action": ["sagemaker:CreateProcessingJob", "sagemaker:DescribeProcessingJob",
                "sagemaker:StopProcessingJob", "sagemaker:AddTags"],
     "Resource": f"arn:aws:sagemaker:{account}:processing-job/{workshop.short_name}-*"},
    {"Effect": "Allow", "Action": "iam:PassRole", "Resource": job_role.arn,
     "Condition": {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}},
    {"Effect": "Allow", "Action": ["events:PutTargets", "events:PutRule", "events:DescribeRule"],
     "Resource": f"arn:aws:events:{account}:rule/{permissions.MANAGED_RULE}"},
]  # fmt: skip

# %%
machine_role = roles.ensure_role(
    iam,
    workshop.name("standardize-machine"),
    trusted="states.amazonaws.com",
    statements=machine_statements,
    tags=workshop.tag_list,
)
print(machine_role)

# %% [markdown]
# ## Step 3: two functions
#
# `batch_id` takes the number out of a file's name. A name without a number is no error of the function: it answers 400
# and the reason, and the state machine decides what that means.

# %%
client = boto3.client("lambda")
settings = {"timeout": 30, "memory": 256, "tags": workshop.tags}
batch_id = functions.ensure_function(
    client,
    BATCH_ID,
    role_arn=batch_id_role.arn,
    code=functions.package(functions.SOURCES / "batch_id"),
    variables={},
    **settings,
)
print(batch_id)

# %%
for key in ("meta-data/partition_7.csv", "meta-data/partition_.csv"):
    answer = client.invoke(FunctionName=BATCH_ID, Payload=json.dumps({"key": key}))
    print(key, json.load(answer["Payload"]), sep="\n  ")

# %% [markdown]
# The trigger starts one execution for each record of an event, and names it after what happened: bucket, key, content,
# and the *sequencer*, S3's number for the order of writes. S3 delivers an event at least once, now and then twice; the
# second time the name is in use, and nothing starts.

# %%
trigger = functions.ensure_function(
    client,
    TRIGGER,
    role_arn=trigger_role.arn,
    code=functions.package(functions.SOURCES / "standardize_trigger"),
    variables={"state_machine_name": MACHINE},
    **settings,
)
print(trigger)

# %% [markdown]
# ## Step 4: the state machine
#
# What cannot be standardized ends in a *Fail* state of its own, which says what was wrong. The definition is written with
# JSONata, the newer of the two query languages of Step Functions: `$name` is a variable, set in the first state.

# %%
from helpers import sdk

image = sdk.image_uri("sklearn", region=workshop.region, version="1.4-2", instance_type="ml.t3.medium")
definition = standardization.state_machine(
    project=workshop.short_name,
    bucket=BUCKET,
    image=image,
    batch_id_arn=batch_id.arn,
    job_role_arn=job_role.arn,
    tags=workshop.tags,
)
diagrams.draw(definition)

# %% [markdown]
# The name is tested without its folders: `partition_3/notes.csv` is no partition. A job's name can be used once in the
# life of an account; this one ends in the execution's name.

# %%
print(*definition["States"]["a partition?"]["Choices"], sep="\n")
print(definition["States"]["standardize"]["Arguments"]["ProcessingJobName"])
print(definition["States"]["wrong name"])

# %%
from helpers.propagation import retry_until_propagated

states = boto3.client("stepfunctions")
machine = {"definition": json.dumps(definition), "roleArn": machine_role.arn}
try:
    states.describe_state_machine(stateMachineArn=machine_arn)
    retry_until_propagated(lambda: states.update_state_machine(stateMachineArn=machine_arn, **machine))
    print(f"{MACHINE}: found, brought up to date")
except states.exceptions.StateMachineDoesNotExist:
    retry_until_propagated(
        lambda: states.create_state_machine(name=MACHINE, tags=workshop.state_tags, **machine)
    )
    print(f"{MACHINE}: created")

# %% [markdown]
# ## Step 5: the notification
#
# Two sides have to agree, as with the repository in 02: the function lets S3 invoke it, and the bucket's configuration
# says when to. S3 checks the first when it is told the second: without the permission,
# `put_bucket_notification_configuration` is refused. On AWS it takes S3 up to five minutes to heed what it was told,
# and uploads start nothing meanwhile: `wait_for_notification` uploads `probe.csv` until one starts an execution.

# %%
new = functions.allow_invoke(
    client,
    TRIGGER,
    principal="s3.amazonaws.com",
    source_arn=bucket.arn,
    account_id=workshop.account_id,
)
print("S3 may invoke the trigger:", "permission added" if new else "permission found")

# %%
rules = [{"Name": "prefix", "Value": "meta-data/"}, {"Name": "suffix", "Value": ".csv"}]
notification = {
    "Id": "standardize",
    "LambdaFunctionArn": trigger.arn,
    "Events": ["s3:ObjectCreated:Put", "s3:ObjectCreated:CompleteMultipartUpload"],
    "Filter": {"Key": {"FilterRules": rules}},
}
configuration = {"LambdaFunctionConfigurations": [notification]}
retry_until_propagated(
    lambda: s3.put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration=configuration
    )
)
standardization.wait_for_notification(s3, BUCKET, states, machine_arn)
print("uploads to meta-data/*.csv invoke", TRIGGER)

# %% [markdown]
# Results go to `prediction-data/`, outside of the filter: a pipeline whose output starts it again has no end, and a bill.
#
# ## Upload twenty files at once
#
# The numeric columns of the data set, cut into twenty files, and three short functions for all that follows: upload a file,
# note which executions there are, wait for new ones.

# %%
folder = workshop.work_dir / "partitions"
folder.mkdir(parents=True, exist_ok=True)
files = standardization.partitions(dataset.fetch(), folder, 20)
print(len(files), "files:", files[0].name, "to", files[-1].name)

# %%
from concurrent.futures import ThreadPoolExecutor


def upload(file, key=None):
    """Upload a file below meta-data/."""
    s3.upload_file(str(file), BUCKET, f"meta-data/{key or file.name}")


# %%
def executions():
    """Return the executions that there are."""
    return standardization.known_executions(states, machine_arn)


def new_executions(count, known):
    """Wait until ``count`` executions beside those ``known`` have ended, and return them as a table."""
    arns = standardization.wait_for_executions(states, machine_arn, count, known=known)
    return standardization.overview(states, arns)


# %%
known = executions()
with ThreadPoolExecutor(20) as pool:
    list(pool.map(upload, files))
new_executions(20, known)

# %% [markdown]
# Twenty uploads, twenty executions, twenty batches. Is the result right? Here is the same with scikit-learn, for every
# batch.

# %%
from sklearn.preprocessing import StandardScaler

differences = []
for number, file in enumerate(files, 1):
    table, statistics = standardization.results(s3, BUCKET, number)
    before = pd.read_csv(file)
    expected = StandardScaler().fit_transform(before)
    differences.append(abs(table[before.columns].to_numpy() - expected).max())
print(f"{len(differences)} batches, {len(before.columns)} columns each")
print("largest difference below 1e-9:", max(differences) < 1e-9)

# %% [markdown]
# Before, the columns could hardly be drawn in one picture; afterwards each has mean 0 and standard deviation 1. The
# shape of a distribution stays as it is: a column with few large values still has them. Dots are means, thick lines one
# standard deviation to both sides, thin lines go from the smallest to the largest value. Both scales are linear from
# -10 to 10, and logarithmic beyond.

# %%
from helpers import plots

table, statistics = standardization.results(s3, BUCKET, 1)
plots.before_and_after(pd.read_csv(files[0]), table)

# %% [markdown]
# ## Wrong names
#
# Everybody may upload anything. What begins with `meta-data/` and ends in `.csv` starts an execution, and that execution
# says what it thinks of the name. `notes.txt` starts nothing.

# %%
known = executions()
for key in ("part_7.csv", "partition_.csv", "partition_x.csv", "partition_3/notes.csv", "notes.txt"):
    upload(files[0], key)
new_executions(4, known)

# %% [markdown]
# ## Wrong contents
#
# An empty file and one with nothing but a header cannot be standardized, and a word among numbers is a mistake that
# nobody should guess about. Missing values are common: they stay missing and are not counted. So are constant columns,
# which have no standard deviation, and columns of text: the first become 0, the second stay as they are.

# %%
broken = {
    "partition_101.csv": "",
    "partition_102.csv": "age,weeks\n",
    "partition_103.csv": "age,weeks\n39,52\n50,many\n41,40\n",
    "partition_104.csv": "age,one,name\n39,1,anna\n,1,\n50,1,bert\nNA,1,carla\n",
}
known = executions()
for name, text in broken.items():
    s3.put_object(Bucket=BUCKET, Key=f"meta-data/{name}", Body=text.encode())
new_executions(4, known)

# %%
table, statistics = standardization.results(s3, BUCKET, 104)
print(table)
pd.DataFrame(statistics["columns"])[["name", "treatment", "count", "missing", "mean", "std"]]

# %% [markdown]
# ## Twice
#
# The same object put twice is two uploads: the second may hold something new, and S3 gives it another sequencer.

# %%
known = executions()
upload(files[1])
upload(files[1])
new_executions(2, known)

# %% [markdown]
# The same *event* delivered twice is one upload. Here is an event as S3 sends it, handed to the trigger twice: one
# execution.

# %%
head = s3.head_object(Bucket=BUCKET, Key="meta-data/partition_3.csv")
record = {
    "eventName": "ObjectCreated:Put",
    "s3": {
        "bucket": {"name": BUCKET, "arn": bucket.arn},
        "object": {"key": "meta-data/partition_3.csv", "size": head["ContentLength"],
                   "eTag": head["ETag"].strip('"'), "sequencer": f"{len(known):016X}"},
    },
}  # fmt: skip
known = executions()
for _ in ("first", "second"):
    client.invoke(FunctionName=TRIGGER, Payload=json.dumps({"Records": [record]}))
new_executions(1, known)

# %% [markdown]
# Even now that it has ended, its name stays taken for 90 days.

# %%
answer = client.invoke(FunctionName=TRIGGER, Payload=json.dumps({"Records": [record]}))
print({kind: len(names) for kind, names in json.load(answer["Payload"]).items()})

# %% [markdown]
# ## Names with everything in them
#
# In an event a key is encoded like a form in a web page: a blank is `+`, a plus is `%2B`. A function that forgets to
# decode works for years, until somebody uploads a folder named like these.

# %%
known = executions()
for number, name in enumerate(("a b", "1+1", "100%", "größe", "données & été"), 201):
    upload(files[4], f"{name}/partition_{number}.csv")
new_executions(5, known)

# %% [markdown]
# ## Larger than memory
#
# Five hundred megabytes, for which the job may take 300 MB of memory. The file is one partition with a little noise,
# again and again, so its mean and standard deviation are known without reading it.

# %%
large = folder / "large.csv"
repeated = standardization.write_large(files[0], large, size=500_000_000)
known = executions()
upload(large, "partition_301.csv")
print(f"{large.stat().st_size / 1e6:,.0f} MB")
large.unlink()
new_executions(1, known)

# %%
body = s3.get_object(Bucket=BUCKET, Key="prediction-data/301/statistics.json")["Body"]
statistics = json.load(body)
print("memory below 300 MB:", statistics["peak_memory_mb"] < 300)
found = pd.DataFrame(statistics["columns"]).set_index("name")
print("means are right:", abs(found["mean"] / repeated.mean() - 1).max() < 1e-9)
print("deviations are right:", abs(found["std"] / repeated.std(ddof=0) - 1).max() < 1e-9)

# %% [markdown]
# ## Check yourself

# %%
everything = standardization.overview(states, executions())
succeeded = set(everything[everything.status == "SUCCEEDED"].batch.astype(int))
wanted = {*range(1, 21), 104, *range(201, 206), 301}
assert max(differences) < 1e-9, "scikit-learn finds something else"
assert wanted <= succeeded, f"not standardized: {wanted - succeeded}"
assert set(everything.status) == {"SUCCEEDED", "FAILED"}, "something is still running"
assert everything[everything.status == "FAILED"].reason.str.len().min() > 20, (
    "a failure without a reason"
)
print("every upload has an execution, and every failure says why")

# %% [markdown]
# ## Exercise
#
# A colleague uploads `partition_8.csv.gz`. What happens, and what would you change so that it is standardized?
#
# <details><summary>Solution</summary>
#
# Nothing: the suffix does not match, so S3 sends no event. Add a second configuration with the suffix `.csv.gz` to the
# notification (two for the same prefix may not overlap, and these do not), allow `.gz` in the choice *a partition?* and
# in the function *batch-id*, and let the script open the file with `gzip.open` when its name ends so: it reads in
# blocks, so nothing has to be unpacked before. The job's disk is as large as the uploaded file's size asks for; a
# packed file needs more.
#
# </details>

# %% [markdown]
# ## What you built
#
# - A bucket, two functions and a state machine, **built** so that an upload starts them,
# - twenty uploads, **watched** as they became twenty executions,
# - results **checked** against scikit-learn, to nine decimals,
# - and names, contents, repetitions and sizes **tried** that break pipelines.
#
# Left running: nothing. The bucket keeps what was uploaded and what came of it, about 1.1 GB: $0.03 a month on AWS.
#
# Next: [07 · Run an EC2 worker on upload](07_ec2_worker_on_upload.ipynb), for work that needs a machine of its own.
