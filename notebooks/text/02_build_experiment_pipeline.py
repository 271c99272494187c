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
# # 02 · Build the experiment pipeline
#
# Build, with boto3 alone, a pipeline in which a `git push` runs an experiment.
#
# **For** the MLOps engineer · **Time** 25 minutes · **Cost on AWS** about $0.01 a month for storage until you clean up ·
# **Needs first** [00 · Start here](00_start_here.ipynb)

# %% [markdown]
# **You will**
#
# - **grant** four roles just what each of them does,
# - **deploy** a dispatcher function that answers every push,
# - **define** a state machine of four SageMaker Processing jobs,
# - **check** that the parts may talk to each other, before the first push.

# %%
import sys

sys.path[:0] = [".."]  # the project's folder, for `helpers`
import json

import boto3

from helpers import connect, dataset, diagrams, functions, permissions, pipeline, roles, sdk, storage
from helpers.propagation import retry_until_propagated

workshop = connect()
REPOSITORY = workshop.name(workshop.project)
DISPATCHER = workshop.name("pipeline-dispatcher")
MACHINE = workshop.name("preprocess-train-predict-evaluate")

# %% [markdown]
# ```mermaid
# flowchart LR
#   scientist((data scientist)) -- git push --> repository[CodeCommit]
#   repository -- trigger --> dispatcher[Lambda dispatcher]
#   dispatcher -- code, experiment.yml --> bucket[(S3 bucket)]
#   dispatcher -- start --> machine[Step Functions]
#   machine --> jobs["four jobs:<br/>preprocess, train,<br/>predict, evaluate"]
#   jobs -- metrics.json --> bucket
# ```
#
# Every resource has the workshop's prefix in its name and a tag, so that every cell finds it again, you can run any
# cell twice, and [99 · Clean up](99_clean_up.ipynb) leaves nothing behind.

# %% [markdown]
# ## Step 0: let this notebook do its work
#
# The role of this notebook needs permissions for what the notebooks call: no `FullAccess`, and nothing outside the
# prefix. It gives them to itself if it may change roles.

# %%
iam = boto3.client("iam")
statements = permissions.notebook_statements(workshop)
try:
    iam.put_role_policy(
        RoleName=workshop.role_arn.rpartition("/")[2],
        PolicyName=workshop.name("notebook"),
        PolicyDocument=roles.policy_json(statements),
    )
    print(f"policy {workshop.name('notebook')} attached: {len(statements)} statements")
except iam.exceptions.ClientError as refused:
    print(
        f"{refused.response['Error']['Code']}: this notebook may not change its permissions: see below"
    )

# %% [markdown]
# IAM's simulator tells what is allowed without trying it out. A new policy takes a moment to be known, so the cell asks
# again for half a minute. Where something is still missing, hand the printed policy to an
# administrator with the printed command.

# %%
missing = roles.wait_for_actions(iam, workshop.role_arn, statements)
if missing:
    print("missing:", *missing, sep="\n  ")
    print(roles.policy_json(statements))
    print(f"save it as policy.json; an administrator runs: {permissions.admin_command(workshop)}")
assert not missing, "this notebook's role lacks permissions: see above"
print("nothing is missing")

# %% [markdown]
# ## Step 1: the bucket and the data set
#
# The bucket holds the data set, every run's code, and every result. The data set is streamed from its file in parts;
# reading 100 MB as text first would only waste memory.

# %%
s3 = boto3.client("s3")
bucket = retry_until_propagated(
    lambda: storage.ensure_bucket(s3, workshop.bucket, region=workshop.region, tags=workshop.tag_list)
)
print(bucket)

# %%
file = dataset.fetch()
uploaded = storage.ensure_upload(s3, file, workshop.bucket, "dataset/census-income.csv")
size = s3.head_object(Bucket=workshop.bucket, Key="dataset/census-income.csv")["ContentLength"]
print(f"dataset/census-income.csv: {size:,} bytes {'uploaded' if uploaded else 'already there'}")

# %% [markdown]
# ## Step 2: the repository
#
# The data scientist pushes here. CodeCommit keeps the code in the account, and its triggers call our function.

# %%
codecommit = boto3.client("codecommit")
try:
    settings = {"repositoryDescription": "Experiments of the ML workshop", "tags": workshop.tags}
    retry_until_propagated(lambda: codecommit.create_repository(repositoryName=REPOSITORY, **settings))
    print(f"{REPOSITORY}: created")
except codecommit.exceptions.RepositoryNameExistsException:
    print(f"{REPOSITORY}: found")
repository = codecommit.get_repository(repositoryName=REPOSITORY)["repositoryMetadata"]

# %% [markdown]
# ## Step 3: the dispatcher's role
#
# The dispatcher reads the pushed commit, copies it to the bucket, starts the state machine and answers with a comment. A
# tag of the state machine tells it what kind of input to send.
# `s3:ListBucket` lets S3 answer *not found* for a missing object; without it S3 says *access denied*, and the two could
# not be told apart.

# %%
account = f"{workshop.region}:{workshop.account_id}"
dispatcher_statements = [
    {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"],
     "Resource": [f"{bucket.arn}/runs/*", f"{bucket.arn}/dispatcher/*"]},
    {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": bucket.arn},
    {"Effect": "Allow",
     "Action": ["codecommit:GetFile", "codecommit:GetCommit", "codecommit:GetDifferences",
                "codecommit:GetFolder", "codecommit:GetBlob", "codecommit:PostCommentForComparedCommit"],
     "Resource": repository["Arn"]},
    {"Effect": "Allow", "Action": ["states:StartExecution", "states:ListTagsForResource"],
     "Resource": f"arn:aws:states:{account}:stateMachine:{workshop.prefix}-*"},
    {"Effect": "Allow", "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
     "Resource": f"arn:aws:logs:{account}:log-group:/aws/lambda/{DISPATCHER}:*"},
]  # fmt: skip

# %%
dispatcher_role = roles.ensure_role(
    iam,
    workshop.name("dispatcher"),
    trusted="lambda.amazonaws.com",
    statements=dispatcher_statements,
    tags=workshop.tag_list,
)
print(dispatcher_role)

# %% [markdown]
# ## Step 4: the dispatcher function
#
# Its source is `lambda_src/pipeline_dispatcher/`, with what it shares with the notebooks: reading an `experiment.yml`,
# planning its jobs. The package is built the same way every time: the same files give the same bytes. `ensure_function` calls `create_function` or updates what is there, and tries again while a new role is
# not yet known to Lambda — no "wait and run this cell again".

# %%
code = functions.package(functions.SOURCES / "pipeline_dispatcher", functions.PLANNING)
function = functions.ensure_function(
    boto3.client("lambda"),
    DISPATCHER,
    role_arn=dispatcher_role.arn,
    code=code,
    timeout=120,
    memory=512,
    variables={"BUCKET": workshop.bucket, "PREFIX": workshop.prefix},
    tags=workshop.tags,
)
print(function, f"({functions.RUNTIME})")

# %% [markdown]
# ## Step 5: the trigger
#
# Two sides have to agree: Lambda must let CodeCommit in — from this repository of this account only — and CodeCommit
# must know whom to call.

# %%
new = functions.allow_invoke(
    boto3.client("lambda"),
    DISPATCHER,
    principal="codecommit.amazonaws.com",
    source_arn=repository["Arn"],
    account_id=workshop.account_id,
)
print("CodeCommit may invoke the dispatcher:", "permission added" if new else "permission found")

# %%
trigger = {
    "name": "dispatch",
    "destinationArn": function.arn,
    "branches": ["main"],
    "events": ["updateReference", "createReference"],
}
codecommit.put_repository_triggers(repositoryName=REPOSITORY, triggers=[trigger])
tested = codecommit.test_repository_triggers(repositoryName=REPOSITORY, triggers=[trigger])
print("trigger delivered:", tested["successfulExecutions"], "failed:", tested["failedExecutions"])

# %% [markdown]
# `test_repository_triggers` sends a real event, so this is proof that both sides agree. What did the dispatcher make of
# it? Its log says; should a push ever go unanswered, this is where to look.

# %%
from helpers.executions import wait_for_log

print(wait_for_log(boto3.client("logs"), DISPATCHER, "trigger was only tested"))

# %% [markdown]
# ## Step 6: a role for Step Functions, and one for the jobs
#
# Step Functions starts jobs and hands them a role. The jobs touch data, and only data. Two roles, because the one that
# may start things should not be the one that reads them.

# %%
job_statements = [
    {"Effect": "Allow", "Action": "s3:GetObject",
     "Resource": [f"{bucket.arn}/dataset/*", f"{bucket.arn}/runs/*", f"{bucket.arn}/steps/*"]},
    {"Effect": "Allow", "Action": "s3:PutObject",
     "Resource": [f"{bucket.arn}/runs/*", f"{bucket.arn}/steps/*"]},
    {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": bucket.arn},
    {"Effect": "Allow",
     "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams",
                "logs:PutLogEvents"],
     "Resource": f"arn:aws:logs:{account}:log-group:/aws/sagemaker/ProcessingJobs:*"},
    {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
    {"Effect": "Allow", "Action": ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage",
                                   "ecr:GetDownloadUrlForLayer"],
     "Resource": f"arn:aws:ecr:{workshop.region}:*:repository/sagemaker-scikit-learn"},
]  # fmt: skip

# %%
job_role = roles.ensure_role(
    iam,
    workshop.name("jobs"),
    trusted="sagemaker.amazonaws.com",
    statements=job_statements,
    tags=workshop.tag_list,
)
print(job_role)

# %% [markdown]
# `iam:PassRole` is the permission that people forget: handing a role to a service is an action of its own. The three
# `events` actions are for the rule through which Step Functions hears that a job has ended; AWS checks them as soon as
# the state machine is created.

# %%
machine_statements = [
    {"Effect": "Allow",
     "Action": ["sagemaker:CreateProcessingJob", "sagemaker:DescribeProcessingJob",
                "sagemaker:StopProcessingJob", "sagemaker:AddTags"],
     "Resource": f"arn:aws:sagemaker:{account}:processing-job/{workshop.prefix}-*"},
    {"Effect": "Allow", "Action": "iam:PassRole", "Resource": job_role.arn,
     "Condition": {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}},
    {"Effect": "Allow", "Action": ["events:PutTargets", "events:PutRule", "events:DescribeRule"],
     "Resource": f"arn:aws:events:{account}:rule/{permissions.MANAGED_RULE}"},
]  # fmt: skip

# %%
machine_role = roles.ensure_role(
    iam,
    workshop.name("states"),
    trusted="states.amazonaws.com",
    statements=machine_statements,
    tags=workshop.tag_list,
)
print(machine_role)

# %% [markdown]
# ## Step 7: the state machine
#
# Four states, each one a SageMaker Processing job that the next one waits for. The definition holds nothing of any one
# experiment: image, instance, arguments and places in the bucket are read from the execution's input with paths.

# %%
definition = pipeline.state_machine(job_role_arn=job_role.arn, tags=workshop.tags)
diagrams.draw(definition)

# %% [markdown]
# Look at one state closely. `Retry` is for what passes by itself; `Catch` leads every other error to the `failed` state,
# which reports it; `StoppingCondition` bounds what a mistake can cost; and the job's name contains the retry count,
# because a job's name can never be used twice.

# %%
print(json.dumps(definition["States"]["train"], indent=1).replace(workshop.account_id, "<account>"))

# %% [markdown]
# `create_state_machine` refuses a definition that cannot run, and checks both roles: yours to pass the role on, and the
# role's to make the rule.

# %%
states = boto3.client("stepfunctions")
machine_arn = f"arn:aws:states:{account}:stateMachine:{MACHINE}"
settings = {"definition": json.dumps(definition), "roleArn": machine_role.arn}
try:
    states.describe_state_machine(stateMachineArn=machine_arn)
    retry_until_propagated(lambda: states.update_state_machine(stateMachineArn=machine_arn, **settings))
    print(f"{MACHINE}: found, brought up to date")
except states.exceptions.StateMachineDoesNotExist:
    retry_until_propagated(
        lambda: states.create_state_machine(name=MACHINE, tags=workshop.state_tags, **settings)
    )
    print(f"{MACHINE}: created")

# %% [markdown]
# ## What the data scientist needs to know
#
# An experiment names a container image. SageMaker keeps one for scikit-learn in every region; the SageMaker SDK knows
# where.

# %%
image = sdk.image_uri("sklearn", region=workshop.region, version="1.4-2", instance_type="ml.t3.medium")
print(image)

# %% [markdown]
# ## Check yourself
#
# If a part is missing, the message says which step makes it.

# %%
pushes_to = codecommit.get_repository_triggers(repositoryName=REPOSITORY)["triggers"]
assert [trigger["destinationArn"] for trigger in pushes_to] == [function.arn], (
    "step 5: the trigger is not there"
)
described = states.describe_state_machine(stateMachineArn=machine_arn)
assert described["roleArn"] == machine_role.arn, "step 7: the state machine has another role"
assert list(json.loads(described["definition"])["States"])[:4] == list(pipeline.STEPS), (
    "step 7: other states"
)
print("a push to main reaches the dispatcher, and the dispatcher a state machine of", *pipeline.STEPS)

# %% [markdown]
# ## Exercise
#
# The dispatcher may start any state machine whose name begins with the prefix. Which one statement would you change so
# that it can start only the one that you have just made?
#
# <details><summary>Solution</summary>
#
# The fourth of `dispatcher_statements`: put `machine_arn` in place of the pattern that ends in `-*`. The price is that a
# second pipeline needs another change here.
#
# </details>

# %% [markdown]
# ## What you built
#
# - Four roles, each **granted** just what it does,
# - a dispatcher, **deployed** with its requirements, that answers every push,
# - a state machine, **defined** as four processing jobs with retries, limits and a way to fail,
# - all of it **checked** before the first push.
#
# Left running: nothing that costs by the hour. The bucket stores about 100 MB, some $0.002 a month.
#
# Next: [03 · Modularize the experiment](03_modularize_experiment.ipynb) turns the data scientist's notebook into the
# scripts that this pipeline runs.
