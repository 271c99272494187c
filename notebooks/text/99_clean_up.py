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
# # 99 · Clean up
#
# Delete everything that the notebooks made, and prove that nothing is left.
#
# **For** the MLOps engineer · **Time** 5 minutes · **Cost on AWS** none; it ends all cost · **Needs first** nothing

# %% [markdown]
# **You will**
#
# - **list** everything with the workshop's name,
# - **delete** it, in an order in which nothing starts anew,
# - **prove** that nothing is left.

# %%
import sys

sys.path[:0] = [".."]  # the project's folder, for `helpers`
import textwrap

import boto3

from helpers import cleanup, connect, permissions

workshop = connect()

# %% [markdown]
# ## Permissions
#
# Looking for things and deleting them needs the policies of notebooks 02, 06 and 08a. If this role gave them back
# before, or never had them, it takes them now.

# %%
iam = boto3.client("iam")
for policy in permissions.POLICIES:
    permissions.ensure_policy(iam, workshop, policy)
print("missing: nothing")

# %% [markdown]
# ## What is there
#
# Found by name, and by tag: what has the prefix but not the workshop's tag is not ours, and stays. Services make log
# groups and streams without tags; these go by their writer's name.

# %%
found = cleanup.find_resources(workshop)
for kind in dict.fromkeys(resource.kind for resource in found):
    names = ", ".join(resource.name for resource in found if resource.kind == kind)
    of_jobs = kind in ("log stream", "training log", "job definition", "task definition")
    line = f"{kind}: " + ("one for each job, or more" if of_jobs else names)
    print(textwrap.fill(line, 100, subsequent_indent="    ", break_on_hyphens=False))

# %% [markdown]
# ## Delete it
#
# First what starts things: the repository and your clone of it, the API, the schedule. Then the stack of notebook 07,
# with its instances and all else that it made; the state machines with their running executions; queues with their
# jobs, clusters with their tasks, builds and images; rules, functions and roles; then logs; the buckets last, with
# every version of every object. Everything in them is lost: the data set can be fetched again, the runs cannot.

# %%
for resource in found:
    if resource.ours:
        cleanup.delete_resource(workshop, resource)
    else:
        print(resource)
print("all deleted" if found else "there was nothing to delete")

# %% [markdown]
# ## Prove it
#
# The same search again. AWS takes a moment to delete a state machine, so the search is repeated until it agrees.

# %%
left = cleanup.wait_until_gone(workshop)
print("left:", *left or ["nothing"])

# %% [markdown]
# Last of all the notebook gives back its own permissions.

# %%
taken = cleanup.delete_notebook_policies(workshop)
print("the notebook's policies:", "deleted" if taken else "were not there")

# %% [markdown]
# ## Check yourself

# %%
assert not [resource for resource in left if resource.ours], f"still there: {left}"
print("nothing is left")

# %% [markdown]
# ## Exercise
#
# Somebody in your team made a bucket by hand whose name begins with your prefix. Would this notebook have deleted it?
#
# <details><summary>Solution</summary>
#
# No. It looks for its buckets by their full names, and deletes one only if it carries the tag `workshop` with your prefix.
# A role `demo-exp-mine` without the tag would have been listed, and left alone.
#
# </details>

# %% [markdown]
# ## What you built
#
# - A **list** of what the workshop had made,
# - all of it **deleted**,
# - and the **proof**.
#
# Left running: nothing.
#
# Back to [00 · Start here](00_start_here.ipynb).
