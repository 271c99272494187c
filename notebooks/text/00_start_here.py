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
# # 00 · Start here
#
# See what you will build, where your cells run, and whether everything is there.
#
# **For** everyone · **Time** 5 minutes · **Cost on AWS** none · **Needs first** nothing

# %% [markdown]
# **You will**
#
# - **see** the pipeline and who does what,
# - **know** which target this notebook talks to,
# - **check** every prerequisite,
# - **estimate** what a run costs.

# %%
import sys

sys.path[:0] = [".."]  # the project's folder, for `helpers`
import pandas as pd

from helpers import connect, prerequisites
from helpers.pipeline import STEPS
from helpers.planning.costs import usd_per_hour

# %% [markdown]
# ## What you will build
#
# A data scientist pushes code to a repository; the push runs an experiment as four jobs, and metrics come back. The MLOps
# engineer builds it once, in notebook 02. Notebooks 06 and 07 build two neighbouring systems, started by an upload,
# and 08a to 08d hand a state machine's work to others.
#
# ```mermaid
# flowchart LR
#   subgraph scientist[data scientist]
#     explore[01 explore] --> modularize[03 modularize] --> push[04 push and compare] --> sweep[05 sweep]
#   end
#   subgraph engineer[MLOps engineer]
#     build[02 build the pipeline]
#   end
#   push -- git push --> repository[CodeCommit]
#   build -.makes.-> repository
#   repository --> dispatcher[Lambda dispatcher] --> machine[Step Functions]
#   machine --> jobs["four jobs:<br/>preprocess, train,<br/>predict, evaluate"] --> metrics[(metrics in S3)]
#   metrics --> push
# ```
#
# | notebook | for | what |
# | --- | --- | --- |
# | [01 · Explore census income](01_explore_census_income.ipynb) | data scientist | data, features, model, in notebook style |
# | [02 · Build the experiment pipeline](02_build_experiment_pipeline.ipynb) | MLOps engineer | roles, bucket, repository, function, state machine |
# | [03 · Modularize the experiment](03_modularize_experiment.ipynb) | data scientist | the notebook as four scripts |
# | [04 · Run experiments](04_run_experiments.ipynb) | data scientist | push, follow, compare, understand failures |
# | [05 · Sweep and compare](05_sweep_and_compare.ipynb) | both | many variants from one push, nothing computed twice |
# | [06 · Standardize on upload](06_standardize_on_upload.ipynb) | MLOps engineer | an upload starts a state machine |
# | [07 · Run an EC2 worker on upload](07_ec2_worker_on_upload.ipynb) | MLOps engineer | uploads launch, watch and end instances |
# | [08a · Hand activities to a Lambda function](08a_activity_to_lambda.ipynb) | MLOps engineer | work that somebody else does |
# | [08b · Run the work on Fargate](08b_activity_to_fargate.ipynb) | MLOps engineer | an image, and containers in parallel |
# | [08c · Queue the work with Batch](08c_activity_to_batch.ipynb) | MLOps engineer | queues, arrays, a search for the best |
# | [08d · Train with SageMaker](08d_activity_to_training.ipynb) | MLOps engineer | training jobs; four ways compared |
# | [99 · Clean up](99_clean_up.ipynb) | MLOps engineer | delete everything, and prove it |

# %% [markdown]
# ## Where your cells run
#
# The same cells run in two places. In SageMaker Studio they talk to AWS. Anywhere else they talk to an embedded AWS on
# your own machine: no account, no cost, and every job, function and push really runs. `WORKSHOP_TARGET=aws` or `local`
# overrides the choice.

# %%
workshop = connect()

# %% [markdown]
# Names begin with a prefix, so that several people can share an account: set `WORKSHOP_PREFIX` before you start.

# %%
print("prefix:", workshop.prefix)
print("bucket:", workshop.bucket)
print("role:  ", workshop.role_arn.rpartition("/")[2])

# %% [markdown]
# ## Is everything there?
#
# Each line is one prerequisite. Where the answer is *no*, the last column says what to do. Permissions count as there
# when this role has them, or may give them to itself in notebook 02. On AWS the instance quota matters: many new accounts
# have a quota of 0.

# %%
checked = prerequisites.check(workshop)
checked

# %% [markdown]
# ## What a run costs
#
# SageMaker bills the seconds that an instance is up. On AWS each of the four steps is up for about five minutes, nearly
# all of it start-up. On the embedded AWS a run costs nothing. Prices change: they are in `helpers/planning/prices.json`,
# with their date.

# %%
minutes = 5
types = ["ml.t3.medium", "ml.m5.large", "ml.m5.xlarge"]
hourly = {name: usd_per_hour(workshop.region, name) for name in types}
costs = pd.DataFrame({"USD an hour": hourly})
costs["USD a run"] = (costs["USD an hour"] * len(STEPS) * minutes / 60).round(3)
costs

# %% [markdown]
# Step Functions adds a fraction of a cent. Nothing that you build costs anything while it is idle, except for the bucket:
# about $0.002 a month for the data set.
#
# ## Check yourself

# %%
missing = checked[checked.ok == "no"]
assert missing.empty, f"mend these first: {missing.remedy.to_dict()}"
print("everything is there")

# %% [markdown]
# ## Exercise
#
# A sweep over ten values of an argument is ten runs. What does it cost on `ml.m5.large`, and how could it cost less?
#
# <details><summary>Solution</summary>
#
# `10 * costs.loc["ml.m5.large", "USD a run"]`, about $0.38. Nearly all of it is paid for starting instances, and nine of
# the ten preprocess steps compute the same thing: reusing its output would save almost a quarter.
#
# </details>

# %% [markdown]
# ## What you built
#
# - Nothing yet, but you have **seen** the pipeline,
# - you **know** your target,
# - you have **checked** every prerequisite,
# - and **estimated** what a run costs.
#
# Left running: nothing.
#
# Next: [01 · Explore census income](01_explore_census_income.ipynb) as a data scientist, or
# [02 · Build the experiment pipeline](02_build_experiment_pipeline.ipynb) as an MLOps engineer.
