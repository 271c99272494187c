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
# # 05 · Sweep and compare
#
# Try many variants with one push, compute nothing twice, and know what each number comes from and costs.
#
# **For** both · **Time** 40 minutes ·
# **Cost on AWS** about $0.25 (some fifty short processing jobs) · **Needs first** [04 · Run experiments](04_run_experiments.ipynb)

# %% [markdown]
# **You will**
#
# - **build** a second state machine, which runs the jobs of a plan,
# - **sweep** two arguments with one push, after a look at what it will cost,
# - **compare** the variants in a table and in plots, and follow a metric back to its data,
# - **share** the work of one step among four machines.

# %%
import sys

sys.path[:0] = [".."]  # the project's folder, for `helpers`
import json
from pathlib import Path

import boto3

from helpers import connect, executions, lineage, plots, repository, runs, sdk

workshop = connect()
REPOSITORY, CLONE = workshop.name(workshop.project), workshop.work_dir / workshop.name(workshop.project)
SWEEP, RECORDER = workshop.name("sweep"), workshop.name("run-recorder")
account = f"{workshop.region}:{workshop.account_id}"
bucket_arn = f"arn:aws:s3:::{workshop.bucket}"

# %% [markdown]
# ## A plan in place of four states
#
# The state machine of [02](02_build_experiment_pipeline.ipynb) runs every step of every push, even if only the last one
# changed. The second one takes a **plan**. For each job the dispatcher computes a *key* from everything that decides
# the job's output: script, the modules it imports, image, arguments, environment, and the keys of its inputs. Outputs
# lie under that key. A key whose output is complete is not computed again, in this run or any other.
#
# ```mermaid
# flowchart LR
#   push((git push)) --> dispatcher -- plan: jobs that must run --> machine[sweep]
#   machine --> preprocess["preprocess<br/>1 job"] --> train["train<br/>a job per variant"]
#   train --> predict["predict<br/>a job per variant"] --> evaluate["evaluate<br/>a job per variant"]
#   evaluate --> recorder[run-recorder] -- manifest --> bucket[(S3)]
# ```
#
# ## Step 1: a function that records the run
#
# When all jobs have ended, a function writes one manifest: how each job and each variant ended, with metrics, times and
# costs. Tables are made of manifests alone.

# %%
from helpers import roles

recorder_statements = [
    {"Effect": "Allow", "Action": "s3:GetObject",
     "Resource": [f"{bucket_arn}/runs/*/plan.json", f"{bucket_arn}/runs/*/failures/*",
                  f"{bucket_arn}/steps/*/done.json", f"{bucket_arn}/steps/evaluate/*/output/metrics.json"]},
    {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"{bucket_arn}/runs/*/manifest.json"},
    {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": bucket_arn},
    {"Effect": "Allow", "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
     "Resource": f"arn:aws:logs:{account}:log-group:/aws/lambda/{RECORDER}:*"},
]  # fmt: skip

# %%
iam = boto3.client("iam")
recorder_role = roles.ensure_role(
    iam,
    RECORDER,
    trusted="lambda.amazonaws.com",
    statements=recorder_statements,
    tags=workshop.tag_list,
)
print(recorder_role)

# %%
from helpers import functions

recorder = functions.ensure_function(
    boto3.client("lambda"),
    RECORDER,
    role_arn=recorder_role.arn,
    code=functions.package(functions.SOURCES / "run_recorder", functions.PLANNING),
    timeout=300,
    memory=512,
    variables={},
    tags=workshop.tags,
)
print(recorder, f"({functions.RUNTIME})")

# %% [markdown]
# ## Step 2: the role of the state machine
#
# It may do what the role of 02 may, and four things more: look whether an output is complete, write that it is, invoke
# the recorder, and, for plans too big for an execution's input, start executions of itself, one for each job.

# %%
from helpers import permissions

job_role_arn = iam.get_role(RoleName=workshop.name("jobs"))["Role"]["Arn"]
sweep_statements = [
    {"Effect": "Allow",
     "Action": ["sagemaker:CreateProcessingJob", "sagemaker:DescribeProcessingJob",
                "sagemaker:StopProcessingJob", "sagemaker:AddTags"],
     "Resource": f"arn:aws:sagemaker:{account}:processing-job/{workshop.prefix}-*"},
    {"Effect": "Allow", "Action": "iam:PassRole", "Resource": job_role_arn,
     "Condition": {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}},
    {"Effect": "Allow", "Action": ["events:PutTargets", "events:PutRule", "events:DescribeRule"],
     "Resource": f"arn:aws:events:{account}:rule/{permissions.MANAGED_RULE}"},
]  # fmt: skip

# %%
sweep_arn = f"arn:aws:states:{account}:stateMachine:{SWEEP}"
children = f"arn:aws:states:{account}:execution:{SWEEP}"
plan_statements = [
    {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": bucket_arn,
     "Condition": {"StringLike": {"s3:prefix": "steps/*"}}},
    {"Effect": "Allow", "Action": "s3:PutObject",
     "Resource": [f"{bucket_arn}/steps/*/done.json", f"{bucket_arn}/runs/*/failures/*"]},
    {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": recorder.arn},
    {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"{bucket_arn}/runs/*/jobs/*.json"},
    {"Effect": "Allow", "Action": "states:StartExecution", "Resource": sweep_arn},
    {"Effect": "Allow", "Action": ["states:DescribeExecution", "states:StopExecution"],
     "Resource": [f"{children}:*", f"{children}/*"]},
]  # fmt: skip

# %%
sweep_role = roles.ensure_role(
    iam,
    SWEEP,
    trusted="states.amazonaws.com",
    statements=[*sweep_statements, *plan_statements],
    tags=workshop.tag_list,
)
print(sweep_role)

# %% [markdown]
# ## Step 3: the state machine
#
# A `Map` runs the same states for every job of a list, ten at once here: pass `max_concurrency` if your account's quota
# of instances is smaller; jobs beyond the quota wait, and are tried again. There are four Maps for plans in the
# execution's input, and four *distributed* ones, which read their list from S3.

# %%
from helpers import diagrams, sweeps

definition = sweeps.state_machine(
    job_role_arn=job_role_arn, recorder_arn=recorder.arn, tags=workshop.tags
)
diagrams.draw(definition)

# %% [markdown]
# What happens to one job? It is not run if its output is complete, nor if its input was not made. After a job that
# ended well, `done` writes the marker, last of all: what a job left that was killed halfway does not count. Every error
# is caught, so that a variant that fails stops no other.

# %%
train = definition["States"]["train"]["ItemProcessor"]
print(*train["States"], sep="\n")

# %%
from helpers.propagation import retry_until_propagated

states = boto3.client("stepfunctions")
settings = {"definition": json.dumps(definition), "roleArn": sweep_role.arn}
takes_a_plan = {"key": "input", "value": "plan"}
try:
    states.describe_state_machine(stateMachineArn=sweep_arn)
    retry_until_propagated(lambda: states.update_state_machine(stateMachineArn=sweep_arn, **settings))
    print(f"{SWEEP}: found, brought up to date")
except states.exceptions.StateMachineDoesNotExist:
    tags = [*workshop.state_tags, takes_a_plan]
    retry_until_propagated(lambda: states.create_state_machine(name=SWEEP, tags=tags, **settings))
    print(f"{SWEEP}: created")

# %% [markdown]
# The tag `input: plan` tells the dispatcher what to send. That is all that the data scientist notices: another name
# behind `stateMachineArn`.
#
# ## Describe a sweep
#
# From here on you are the data scientist. First the clone and the scripts, as in 04.

# %%
import shutil

import yaml

s3, codecommit, logs = boto3.client("s3"), boto3.client("codecommit"), boto3.client("logs")
url = codecommit.get_repository(repositoryName=REPOSITORY)["repositoryMetadata"]["cloneUrlHttp"]
repository.ensure_clone(url, CLONE, author="Dana Scientist", email="dana@example.com")
for script in sorted(Path("../code").glob("*.py")):
    shutil.copy(script, CLONE / script.name)
print(*sorted(path.name for path in CLONE.glob("*.py")), sep=", ")

# %% [markdown]
# Then `experiment.yml`, with the other state machine.

# %%
image = sdk.image_uri("sklearn", region=workshop.region, version="1.4-2", instance_type="ml.t3.medium")
experiment = yaml.safe_load(Path("../code/experiment.yml").read_text())
experiment["pipeline"] = {
    "stateMachineArn": sweep_arn,
    "input_data_uri": f"s3://{workshop.bucket}/dataset/census-income.csv",
}
for step in ("preprocess", "train", "predict", "evaluate"):
    experiment[step]["ImageUri"] = image

# %% [markdown]
# `sweep` names arguments and their values; every combination is a variant. Eight here: four values of `C`, with and
# without balanced classes.

# %%
experiment["sweep"] = {
    "grid": {"train": {"--C": ["0.0001", "0.001", "0.01", "1"], "--class-weight": ["balanced", "none"]}}
}


def write(comment):
    """Write experiment.yml into the clone."""
    experiment["comment"] = comment
    (CLONE / "experiment.yml").write_text(yaml.safe_dump(experiment, sort_keys=False))


write("regularization and class weights")
print(yaml.safe_dump({"sweep": experiment["sweep"]}))

# %% [markdown]
# ## Know what it costs, before
#
# `preview` makes the plan that the dispatcher would make, of the files as they are in the clone, and estimates it with
# the prices in [`prices.json`](../helpers/planning/prices.json), which you can edit. The four minutes that an instance
# takes to start are counted; the eight variants share one `preprocess`.

# %%
from helpers.preview import preview

print(preview(s3, CLONE, workshop, REPOSITORY))


# %% [markdown]
# ## Push
#
# One push, one execution.


# %%
def push(comment):
    """Push the experiment and return the commit and what the dispatcher answered."""
    write(comment)
    pushed = repository.commit_and_push(CLONE, comment)
    answer = runs.wait_for_answer(s3, workshop.bucket, REPOSITORY, pushed.commit)
    how = "pushed" if pushed.new else "was pushed before, its run is reused"
    print(f"{comment}: {how}, {answer['status']}")
    return pushed.commit, answer


# %%
swept, answer = push("regularization and class weights")
jobs = answer["jobs"]
print(f"{answer['variants']} variants: {jobs['run']} jobs to run, {jobs['cached']} cached")

# %% [markdown]
# `follow` colours the states as they change and counts the jobs of each Map; with a client for logs it also shows the
# last lines of a job that runs.

# %%
execution = executions.follow(states, answer["executionArn"], logs=logs)
assert execution.status == "SUCCEEDED", f"{execution.error}: {execution.cause}"

# %% [markdown]
# ## Compare
#
# A row for each variant; `changed` says what is different in it. The table has a column for each argument that varies,
# so that pandas and plots can work with it.


# %%
def rows_of(commit):
    """Return the table's rows of one run."""
    table = runs.table(s3, workshop.bucket, REPOSITORY, region=workshop.region)
    return table[table.commit == commit[:8]].reset_index(drop=True)


table = rows_of(swept)
METRICS = {"roc_auc": 3, "recall": 3, "precision": 3}  # and their decimals
table[["train --C", "train --class-weight", "status", *METRICS]].round(METRICS)

# %%
plots.metric_by(table, "train --C", metric="roc_auc", lines="train --class-weight")

# %% [markdown]
# Little regularization is best, and class weights hardly matter for the ROC curve: it does not depend on where the line
# between the classes is drawn. They matter for what is *predicted* at a probability of one half:

# %%
best = table[table["train --C"] == 1]
plots.confusion(s3, workshop.bucket, best, names=("below", "above"))

# %%
plots.roc(s3, workshop.bucket, table[table["train --class-weight"] == "balanced"])

# %%
plots.precision_recall(s3, workshop.bucket, best)

# %% [markdown]
# ## Change one thing, run only what depends on it
#
# Another threshold for a prediction needs no other model. What will run?

# %%
experiment["sweep"]["grid"]["predict"] = {"--threshold": ["0.3"]}
write("a lower threshold")
print(preview(s3, CLONE, workshop, REPOSITORY))

# %%
lower, answer = push("a lower threshold")
execution = executions.follow(states, answer["executionArn"], logs=logs)

# %%
columns = ["train --C", "train --class-weight", "predict --threshold", "recall", "precision", "cached"]
rows_of(lower)[columns].round(METRICS)

# %% [markdown]
# `preprocess` and the eight models were there. Recall rises and precision falls, as they must. The manifest also tells
# what the run cost on AWS, start-up not counted, and what the jobs that were there already would have cost.


# %%
def manifest_of(commit):
    """Return what the recorder wrote of one run."""
    key = f"runs/{REPOSITORY}/{commit}/manifest.json"
    return json.loads(s3.get_object(Bucket=workshop.bucket, Key=key)["Body"].read())


cost = manifest_of(lower)["cost"]
print("known of its cost:", ", ".join(cost))
print("the cache saved something:", cost["saved_usd"] > 0)

# %% [markdown]
# ## When a variant fails
#
# A sweep can also be a list. The second variant asks for the impossible.

# %%
experiment["sweep"] = {"list": [{"train": {"--C": "10"}}, {"train": {"--C": "-1"}}]}
mixed, answer = push("one good, one bad")
execution = executions.follow(states, answer["executionArn"], logs=logs)

# %% [markdown]
# The good one came to its end. Of the other, the manifest says where it stopped and why, and its later steps were
# skipped: there was nothing for them to read.

# %%
manifest = manifest_of(mixed)
for variant in manifest["variants"]:
    print(variant["changed"], variant["status"], variant["reason"])
for step in ("predict", "evaluate"):
    for job in manifest["jobs"][step].values():
        print(f"{step}: {job['status']}", job["reason"])

# %% [markdown]
# ## Set a limit
#
# `budget` is in US dollars. What is estimated to cost more is refused before anything starts.

# %%
experiment["sweep"] = {
    "random": {"samples": 100, "seed": 0, "train": {"--C": {"log_uniform": [0.0001, 10]}}}
}
experiment["budget"] = 0.50
_, answer = push("a hundred random values")
print(*answer["problems"], sep="\n")

# %% [markdown]
# ## Share a step among machines
#
# A data set that is too large for one machine is stored as parts, and `preprocess` runs on several: SageMaker gives each
# machine its share of the parts, and says in `/opt/ml/config/resourceconfig.json` who else is there. The data set is not
# that large, but the way is the same. Cut it into eight parts and upload them.

# %%
import tempfile

from helpers import dataset, storage

with tempfile.TemporaryDirectory() as folder:
    for part in dataset.write_parts(dataset.fetch(), Path(folder), 8):
        new = storage.ensure_upload(s3, part, workshop.bucket, f"dataset/parts/{part.name}")
        print(f"dataset/parts/{part.name}", "uploaded" if new else "already there")

# %% [markdown]
# `preprocess` on four machines, then. What can be done with a part alone is done where it is: read, clean. What needs
# all rows is not: bins and scales come from the whole training set, and so the rows meet in `train`, in the order of the
# parts' names. Whoever had which part, the result is the same to the last bit.

# %%
experiment.pop("sweep", None)
experiment.pop("budget", None)
experiment["pipeline"]["input_data_uri"] = f"s3://{workshop.bucket}/dataset/parts/"
experiment["preprocess"]["InstanceCount"] = 4
shared, answer = push("preprocess on four machines")
execution = executions.follow(states, answer["executionArn"], logs=logs)

# %%
balanced = table[table["train --class-weight"] == "balanced"]
one, four = balanced[balanced["train --C"] == 1].iloc[0], rows_of(shared).iloc[0]
print(f"ROC-AUC on one machine {one.roc_auc:.6f}, on four {four.roc_auc:.6f}")

# %%
job = lineage.of_metrics(s3, workshop.bucket, REPOSITORY, shared).jobs[0]
print(job.step, "on", job.instances, "machines")
print(*sorted(executions.job_log(logs, job.name)), sep="\n")

# %% [markdown]
# ## Where does this number come from?
#
# Backwards: from a metric to commit, author, data, code, image, arguments and jobs. `origin` also has the commit and the
# version of the data, a digest of its objects' ETags: other content, another version.

# %%
found = lineage.of_metrics(s3, workshop.bucket, REPOSITORY, swept, variant=7)
origin = found.origin().set_index("what")["value"]
print(origin[["author", "experiment", "variant", "data"]].to_string())

# %%
found.steps()[["step", "script", "modules", "arguments", "image", "machines", "status"]]

# %% [markdown]
# Forwards: from an object of the data to every variant that used it. What would have to be run again, should this file
# turn out to be wrong?

# %%
used = lineage.runs_of_data(s3, workshop.bucket, REPOSITORY, "dataset/parts/part-1.csv")
used[["experiment", "variant", "status"]].drop_duplicates("experiment")

# %% [markdown]
# ## Check yourself

# %%
assert len(table) == 8, "the sweep has eight variants"
assert (rows_of(lower)["cached"].str.startswith("2 of 4")).all(), "preprocess and train were not cached"
assert list(rows_of(mixed).status) == ["finished", "failed"], "one variant finishes, one fails"
assert one.roc_auc == four.roc_auc, "four machines give another result than one"
print("nothing computed twice, nothing stopped by a failure, the same result on four machines")

# %% [markdown]
# ## Exercise
#
# A grid spends as many jobs on `C` between 0.0001 and 0.001 as anywhere else. Try ten random values between 0.001 and 1
# instead, drawn so that each decade gets its share. How much of it is new work? Look before you push.
#
# <details><summary>Solution</summary>
#
# ```python
# experiment["pipeline"]["input_data_uri"] = f"s3://{workshop.bucket}/dataset/census-income.csv"
# experiment["preprocess"]["InstanceCount"] = 1
# experiment["sweep"] = {"random": {"samples": 10, "seed": 1, "train": {"--C": {"log_uniform": [0.001, 1]}}}}
# write("ten random values")
# print(preview(s3, CLONE, workshop, REPOSITORY))
# commit, answer = push("ten random values")
# executions.follow(states, answer["executionArn"], logs=logs)
# plots.metric_by(rows_of(commit), "train --C")
# ```
#
# `preprocess` is there already; ten models, predictions and evaluations are new: 30 jobs.
#
# </details>

# %% [markdown]
# ## What you built
#
# - A second state machine, **built** with boto3, that runs each job of a plan once,
# - two arguments, **swept** with one push whose price you knew, with a limit that holds,
# - variants **compared** in a table and in plots, and metrics followed back to data, code and jobs,
# - one step, **shared** among four machines with the same result.
#
# Left running: nothing. The bucket keeps some 15 MB for each different preprocessing, and less than a megabyte for each
# variant.
#
# Next: [06 · Standardize on upload](06_standardize_on_upload.ipynb), another way to start a pipeline, or
# [99 · Clean up](99_clean_up.ipynb) when you are done.
