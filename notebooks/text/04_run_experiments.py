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
# # 04 · Run experiments
#
# Push code and an `experiment.yml`, watch the pipeline run, and compare what comes back.
#
# **For** the data scientist · **Time** 20 minutes ·
# **Cost on AWS** about $0.05 (eleven short processing jobs) · **Needs first** [02 · Build the experiment pipeline](02_build_experiment_pipeline.ipynb)

# %% [markdown]
# **You will**
#
# - **push** an experiment with git and follow it live,
# - **compare** runs in which one argument differs,
# - **stop** an experiment that you no longer want,
# - **understand** why an experiment was refused, and why a step failed.

# %%
import sys

sys.path[:0] = [".."]  # the project's folder, for `helpers`
from pathlib import Path

import boto3
import yaml

from helpers import connect, executions, repository, runs, sdk

workshop = connect()
REPOSITORY = workshop.name(workshop.project)
CLONE = workshop.work_dir / REPOSITORY
s3, states = boto3.client("s3"), boto3.client("stepfunctions")
logs, codecommit = boto3.client("logs"), boto3.client("codecommit")

# %% [markdown]
# ## Clone the repository
#
# Plain git over HTTPS. git asks the AWS CLI for a password, and the CLI signs one with your role's credentials: there is
# no password to keep.

# %%
url = codecommit.get_repository(repositoryName=REPOSITORY)["repositoryMetadata"]["cloneUrlHttp"]
cloned = repository.ensure_clone(url, CLONE, author="Dana Scientist", email="dana@example.com")
print(f"{REPOSITORY}: {'cloned' if cloned else 'found the clone'}")
print("branch:", repository.git("branch", "--show-current", cwd=CLONE))

# %% [markdown]
# ## Add the scripts
#
# The four scripts of [03](03_modularize_experiment.ipynb) and the module that they share, unchanged. The pipeline
# copies the whole repository to every job, so scripts may import each other.

# %%
import shutil

for script in sorted(Path("../code").glob("*.py")):
    shutil.copy(script, CLONE / script.name)
print(*sorted(path.name for path in CLONE.glob("*.py")), sep="\n")

# %% [markdown]
# ## Describe the experiment
#
# `experiment.yml` says which pipeline, which data, and for each step: script, image, instance and arguments. Three of
# its values belong to your account; fill them in.

# %%
experiment = yaml.safe_load(Path("../code/experiment.yml").read_text())
machine = workshop.name("preprocess-train-predict-evaluate")
experiment["pipeline"] = {
    "stateMachineArn": f"arn:aws:states:{workshop.region}:{workshop.account_id}:stateMachine:{machine}",
    "input_data_uri": f"s3://{workshop.bucket}/dataset/census-income.csv",
}
image = sdk.image_uri("sklearn", region=workshop.region, version="1.4-2", instance_type="ml.t3.medium")
for step in ("preprocess", "train", "predict", "evaluate"):
    experiment[step]["ImageUri"] = image
print(yaml.safe_dump(experiment["train"], sort_keys=False))

# %% [markdown]
# ## Push
#
# Write the file, commit, push — and wait for the dispatcher's answer, which it leaves in the bucket beside the run. If
# exactly these files were pushed before, there is nothing to commit, and that commit's run is used again.


# %%
def push(comment):
    """Push the experiment and return the commit and what the dispatcher answered."""
    experiment["comment"] = comment
    (CLONE / "experiment.yml").write_text(yaml.safe_dump(experiment, sort_keys=False))
    pushed = repository.commit_and_push(CLONE, comment)
    answer = runs.wait_for_answer(s3, workshop.bucket, REPOSITORY, pushed.commit)
    how = "pushed" if pushed.new else "was pushed before, its run is reused"
    print(f"{comment}: {how}, {answer['status']}")
    return pushed.commit, answer


# %%
experiment["train"]["args"] = ["--C", "1.0"]
first, answer = push("C = 1")

# %% [markdown]
# The dispatcher also answered where your team will look for it: as a comment on the commit.

# %%
comment = repository.read_comments(codecommit, REPOSITORY, first)[0]
print(
    comment.replace(first, "<commit>")
    .replace(first[:12], "<commit>")
    .replace(workshop.account_id, "<account>")
)

# %% [markdown]
# ## Watch it run
#
# `follow` colours each state as it changes, and shows what the running job prints. On AWS an instance takes a
# few minutes to start for each step, so that a run lasts about twenty and this notebook an hour and more; on the embedded
# AWS the whole run takes seconds. Interrupting the cell stops the watching, not the run.

# %%
execution = executions.follow(states, answer["executionArn"], logs=logs)
assert execution.status == "SUCCEEDED", f"{execution.error}: {execution.cause}"

# %% [markdown]
# ## Read a step's log
#
# What a script prints goes to CloudWatch Logs. The job's name is the execution's, the step's, and how often the step was
# tried again.

# %%
for line in executions.job_log(logs, f"{answer['execution']}-train-0"):
    print(line)

# %% [markdown]
# ## Read the metrics
#
# They come from the bucket, where `evaluate` wrote them, and they are those of
# [01](01_explore_census_income.ipynb): the same code on the same data with the same seed, whether it runs in a notebook
# or as four jobs.

# %%
metrics = runs.read_metrics(s3, workshop.bucket, REPOSITORY, first)
for name in ("roc_auc", "average_precision", "accuracy", "precision", "recall", "f1"):
    print(f"{name:18} {metrics[name]:.3f}")

# %% [markdown]
# ## Change one argument, compare
#
# A hundred times more regularization. Everything else is the same, so a difference in the metrics is the argument's.

# %%
experiment["train"]["args"] = ["--C", "0.01"]
second, answer = push("C = 0.01")
execution = executions.follow(states, answer["executionArn"])

# %% [markdown]
# The table is rebuilt from the bucket alone, each time: nothing to lose, no service to keep running. It has more columns
# — commit, author, seconds, cost — than shown here.

# %%
table = runs.table(s3, workshop.bucket, REPOSITORY, region=workshop.region)
finished = table[table.status == "finished"].drop_duplicates("experiment")
finished[["experiment", "changed", "roc_auc", "average_precision", "accuracy"]].round(3)

# %% [markdown]
# This much regularization changes the third decimal: with 68,000 rows and few features, there is little to overfit.
#
# ## Stop an experiment
#
# Three machines for a step that needs one: an expensive slip of the finger. Stopping the execution stops the job that it
# waits for, on all three, and you pay no more.

# %%
experiment["train"]["args"] = ["--C", "1.0"]
experiment["preprocess"]["InstanceCount"] = 3
_, answer = push("three machines, by mistake")
job = f"{answer['execution']}-preprocess-0"
executions.wait_for_job(boto3.client("sagemaker"), job)
states.stop_execution(executionArn=answer["executionArn"], cause="one machine is enough")
print("execution:", executions.describe(states, answer["executionArn"]).status)

# %%
stopped = executions.wait_for_job(boto3.client("sagemaker"), job, until=("Stopped", "Completed"))
print("its job:", stopped["ProcessingJobStatus"])

# %% [markdown]
# ## Push a mistake
#
# Two typing errors. Nothing starts, and the answer names every problem at once, each with its line.

# %%
experiment["preprocess"]["InstanceCount"] = 1
experiment["train"]["InstanceType"] = "ml.t3.medum"
experiment["predict"]["InstnceCount"] = experiment["predict"].pop("InstanceCount", 1)
_, answer = push("two typing errors")
for problem in answer["problems"]:
    print("-", problem)

# %% [markdown]
# ## Look at a step that fails
#
# Some mistakes show only when the code runs: a regularization of less than nothing is a valid argument for a script, but
# not for the model.

# %%
experiment["train"]["InstanceType"] = "ml.t3.medium"
experiment["predict"]["InstanceCount"] = experiment["predict"].pop("InstnceCount", 1)
experiment["train"]["args"] = ["--C", "-1"]
_, answer = push("C = -1")
execution = executions.follow(states, answer["executionArn"])

# %% [markdown]
# The execution carries the failed job's description as its cause; the reason is in there, and the rest is in the log.

# %%
job = executions.failed_job(execution)
print(job["FailureReason"])
print(*executions.job_log(logs, job["ProcessingJobName"], lines=1), sep="\n")

# %% [markdown]
# ## Check yourself

# %%
assert round(metrics["roc_auc"], 3) == 0.843, (
    "the first run's ROC-AUC is not that of notebook 01: which argument differs?"
)
assert set(finished.experiment) >= {"C = 1", "C = 0.01"}, "compare at least two finished runs"
assert finished.roc_auc.between(0.83, 0.85).all(), (
    "a run is far off: look at its arguments in the table"
)
print(len(finished), "finished runs, all with a ROC-AUC near 0.84")

# %% [markdown]
# ## Exercise
#
# Does a smaller test set change the metrics? Push an experiment with `--test-size 0.1` and compare.
#
# <details><summary>Solution</summary>
#
# ```python
# experiment["train"]["args"] = ["--C", "1.0"]
# experiment["preprocess"]["args"] = ["--test-size", "0.1"]
# commit, answer = push("a smaller test set")
# executions.follow(states, answer["executionArn"])
# runs.read_metrics(s3, workshop.bucket, REPOSITORY, commit)["roc_auc"]
# ```
#
# </details>

# %% [markdown]
# ## What you built
#
# - Experiments, **pushed** with git and followed live,
# - a table that **compares** runs, rebuilt from the bucket,
# - an experiment **stopped** halfway, with its job,
# - a refused and a failed experiment, **understood** from the answer and the log.
#
# Left running: nothing. The bucket keeps a few megabytes a run.
#
# Next: [05 · Sweep and compare](05_sweep_and_compare.ipynb) tries many variants with one push and computes nothing
# twice; [99 · Clean up](99_clean_up.ipynb) when you are done.
