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
# # 08c · Queue the work with Batch
#
# Let a queue decide when work runs: more jobs than places, arrays, retries, and a search for the best hyper-parameters.
#
# **For** the MLOps engineer · **Time** 30 minutes ·
# **Cost on AWS** about $0.03 (some fifty small containers on spot capacity, a minute or two each) ·
# **Needs first** [08b · Run the work on Fargate](08b_activity_to_fargate.ipynb)

# %% [markdown]
# **You will**
#
# - **create** a compute environment on spot capacity, queues and job definitions,
# - **submit** single jobs, arrays, and jobs that fail at first,
# - **combine** what many jobs found with a state machine,
# - **search** hyper-parameters, and let a function pick the best.

# %%
import sys

sys.path[:0] = [".."]  # the project's folder, for `helpers`
import json

import boto3
import pandas as pd

from helpers import connect, containers, dataset, executions, images, machines, processing, roles

workshop = connect()
BUCKET = workshop.bucket_for("processing")
ENVIRONMENT, NORMAL, URGENT = map(workshop.name, ("spot", "normal", "urgent"))
account = f"{workshop.region}:{workshop.account_id}"
pd.set_option("display.max_colwidth", None)  # reasons in full

# %% [markdown]
# ## What you will build
#
# A task of Fargate starts at once, or not at all. A Batch *job* waits: in a *queue*, for room in a *compute
# environment*, behind jobs of queues with a higher priority. What it runs is said by a *job definition*.
#
# ```mermaid
# flowchart LR
#   normal[queue normal] -- then --> spot[compute environment, spot, 4 vCPUs at most]
#   urgent[queue urgent] -- first --> spot
#   spot --> containers[containers of the image from 08b]
#   subgraph machine[Step Functions]
#     sets["sets of hyper-parameters in S3"] --> train["batch:submitJob.sync, one for each set"] --> best[Lambda best-set]
#   end
#   train --> normal
# ```
#
# ## Step 0: permissions, data and image
#
# The policies and the data are those of 08a and 08b, and the image is the one that 08b has built.

# %%
from helpers import permissions, storage

iam, s3, ecr = boto3.client("iam"), boto3.client("s3"), boto3.client("ecr")
for policy in permissions.POLICIES:
    permissions.ensure_policy(iam, workshop, policy)
bucket = storage.ensure_bucket(s3, BUCKET, region=workshop.region, tags=workshop.tag_list)
parts = processing.upload_parts(s3, BUCKET, dataset.fetch(), count=20)
(repository,) = ecr.describe_repositories(repositoryNames=[workshop.name("processing")])["repositories"]
IMAGE = f"{repository['repositoryUri']}:{images.image_tag()}"
assert images.is_pushed(ecr, workshop.name("processing"), images.image_tag()), "run 08b first"
print(len(parts), "parts, and the image of 08b")

# %% [markdown]
# ## Step 1: two roles
#
# The containers of Batch are tasks of ECS, and their roles are as in 08b: one pulls the image and writes the log, the
# other one is what the program may do.

# %%
from helpers import loggroups

JOB_LOGS = workshop.log_groups[2]
loggroups.ensure_log_group(boto3.client("logs"), JOB_LOGS, tags=workshop.tags)
PULL = "ecr:BatchCheckLayerAvailability ecr:GetDownloadUrlForLayer ecr:BatchGetImage"
execution_statements = [
    roles.allow("ecr:GetAuthorizationToken", "*"),
    roles.allow(PULL, repository["repositoryArn"]),
    roles.allow_log(workshop, JOB_LOGS),
]
execution_role = roles.ensure_service_role(
    iam, workshop, "job-execution", "ecs-tasks", *execution_statements
)
print(execution_role)

# %%
job_role = roles.ensure_service_role(
    iam,
    workshop,
    "job",
    "ecs-tasks",
    roles.allow("s3:ListBucket", bucket.arn),
    roles.allow("s3:GetObject", f"{bucket.arn}/parts/*", f"{bucket.arn}/lists/*"),
    roles.allow("s3:PutObject", f"{bucket.arn}/summaries/*", f"{bucket.arn}/models/*"),
)
print(job_role)

# %% [markdown]
# ## Step 2: where jobs run, and in which order
#
# `FARGATE_SPOT` is spare capacity: about 70 % cheaper, and AWS may take it back at two minutes' notice. `maxvCpus` bounds
# what runs at once, and so what an hour can cost. Nothing costs anything while no job runs.

# %%
from helpers import queues

batch = boto3.client("batch")
network = processing.find_default_network(boto3.client("ec2"))
resources = {
    "type": "FARGATE_SPOT",
    "maxvCpus": 4,
    "subnets": list(network.subnets),
    "securityGroupIds": [network.security_group],
}
settings = {"type": "MANAGED", "computeResources": resources, "tags": workshop.tags}

# %%
if not batch.describe_compute_environments(computeEnvironments=[ENVIRONMENT])["computeEnvironments"]:
    batch.create_compute_environment(computeEnvironmentName=ENVIRONMENT, **settings)
environment = queues.wait_for_environment(batch, ENVIRONMENT)
print(ENVIRONMENT, "is valid")

# %% [markdown]
# Two queues share it. The job at the head of the queue with the higher priority goes first.

# %%
order, queue_arns = [{"order": 1, "computeEnvironment": environment}], {}
for name, priority in ((URGENT, 10), (NORMAL, 1)):
    wanted = {"priority": priority, "computeEnvironmentOrder": order}
    if batch.describe_job_queues(jobQueues=[name])["jobQueues"]:
        batch.update_job_queue(jobQueue=name, **wanted)
    else:
        batch.create_job_queue(jobQueueName=name, tags=workshop.tags, **wanted)
    queue_arns[name] = queues.wait_for_queue(batch, name)
    print(name, "is valid")

# %% [markdown]
# ## Step 3: what jobs run
#
# A job definition is a task definition with more: how often to try, which exit codes are worth another try, and how long
# an attempt may take. Exit code 75 means "try again later" since the days of mail servers; a container whose spot capacity
# is taken back is tried again, too.

# %%
RETRY = {
    "attempts": 3,
    "evaluateOnExit": [
        {"onExitCode": "75", "action": "RETRY"},
        {"onStatusReason": "Your Spot Task was interrupted*", "action": "RETRY"},
        {"onReason": "*", "action": "EXIT"},
    ],
}
container = {
    "image": IMAGE,
    "jobRoleArn": job_role.arn,
    "executionRoleArn": execution_role.arn,
    "networkConfiguration": {"assignPublicIp": "ENABLED"},
    "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": JOB_LOGS}},
}

# %% [markdown]
# Two definitions from one image: a quarter of a vCPU is enough to summarize, training gets a whole one.

# %%
from helpers.propagation import retry_until_propagated

settings = {"type": "container", "platformCapabilities": ["FARGATE"], "retryStrategy": RETRY}
settings |= {"timeout": {"attemptDurationSeconds": 600}, "tags": workshop.tags}


def register(suffix, script, vcpu, memory):
    """Register a job definition that runs one of the image's scripts."""
    needs = [{"type": "VCPU", "value": vcpu}, {"type": "MEMORY", "value": memory}]
    given = {**container, "command": [script], "resourceRequirements": needs}
    return retry_until_propagated(
        lambda: batch.register_job_definition(
            jobDefinitionName=workshop.name(suffix), containerProperties=given, **settings
        )
    )["jobDefinitionArn"]


# %%
summarize = register("summarize", "summarize.py", "0.25", "512")
train = register("train", "train.py", "1", "4096")
print(*(arn.rpartition("/")[2].partition(":")[0] for arn in (summarize, train)), sep="\n")

# %% [markdown]
# ## Submit a job, and one that fails at first
#
# Three jobs: one that works, one whose first attempt ends with exit code 75, and one that fails whenever it is tried.


# %%
def submit(name, queue=NORMAL, *, environment, needs=(), **more):
    """Submit a job that summarizes, with some variables set; returns its id."""
    given = {"BUCKET": BUCKET, **environment}
    overrides = {"environment": [{"name": key, "value": value} for key, value in given.items()]}
    if needs:
        overrides["resourceRequirements"] = needs
    return batch.submit_job(
        jobName=name, jobQueue=queue, jobDefinition=summarize, containerOverrides=overrides, **more
    )["jobId"]


# %%
one = {"PART": parts[0], "OUTPUT": "summaries/single"}
jobs = [
    submit("good", environment=one),
    submit("fails-at-first", environment={**one, "FAIL_FIRST_ATTEMPT": "yes"}),
    submit("fails", environment={**one, "FAIL": "the disk is full"}),
]
containers.wait_for_jobs(batch, jobs)

# %% [markdown]
# The second one was tried twice, for its exit code. The third one was not: its exit code, 1, is no reason to hope. Why it
# failed is in its log.

# %%
logs = boto3.client("logs")
print(*containers.job_log(logs, batch, jobs[2], group=JOB_LOGS, lines=1))

# %% [markdown]
# ## An array: one job, twenty children
#
# One call submits them all. Each child finds its number in `AWS_BATCH_JOB_ARRAY_INDEX`, and takes that one of a list in
# S3. A job that depends on the array waits until all children are through. The array itself runs nothing, so it has no
# attempt and no exit code.

# %%
processing.put_json(s3, BUCKET, "lists/parts.json", parts)
array = submit(
    "array",
    environment={"PARTS": "lists/parts.json", "OUTPUT": "summaries/array"},
    arrayProperties={"size": len(parts)},
)
after = submit("after", environment=one, dependsOn=[{"jobId": array}])
containers.wait_for_jobs(batch, [array, after])

# %%
children = containers.wait_for_jobs(batch, containers.array_children(batch, array))
print("children:", children["status"].value_counts().to_dict())
written = s3.list_objects_v2(Bucket=BUCKET, Prefix="summaries/array/")["KeyCount"]
print("summaries:", written)

# %% [markdown]
# ## Who goes first?
#
# One job takes all four vCPUs, and would keep them for minutes. Behind it wait two normal jobs, and, submitted last of
# all, two urgent ones. When all are in line, the first one is ended.

# %%
large = {
    "needs": [{"type": "VCPU", "value": "4"}, {"type": "MEMORY", "value": "8192"}],
    "environment": one,
}
line = [submit("first", **{**large, "environment": {**one, "STALL_SECONDS": "500"}})]
queues.wait_for_status(batch, line, "RUNNING")
line += [submit(f"normal-{number}", **large) for number in (1, 2)]
line += [submit(f"urgent-{number}", URGENT, **large) for number in (1, 2)]
queues.wait_for_status(batch, line[1:], "RUNNABLE")
batch.terminate_job(jobId=line[0], reason="make room")
containers.wait_for_jobs(batch, line)
in_order = queues.started_in_order(batch, line)
print(*in_order, sep="\n")

# %% [markdown]
# ## Step 4: a state machine of jobs
#
# The shape of 08b, with jobs in place of tasks. `batch:submitJob.sync` submits, and waits until the job has ended. The
# machine's role needs three calls of Batch, of which two are for jobs whose ids nobody knows beforehand, and a rule of
# EventBridge.

# %%
LIST, COMBINE, BEST = map(workshop.name, ("list-parts", "combine", "best-set"))
below = {"s3:prefix": ["parts/*", "summaries/*", "models/*"]}
may_list = roles.allow("s3:ListBucket", bucket.arn, like=below)
may_write = roles.allow("s3:PutObject", f"{bucket.arn}/results/*")
needed = {
    LIST: [may_list],
    COMBINE: [may_list, may_write, roles.allow("s3:GetObject", f"{bucket.arn}/summaries/*")],
    BEST: [may_list, may_write, roles.allow("s3:GetObject", f"{bucket.arn}/models/*")],
}

# %% [markdown]
# The functions of 08b, and one that picks the best, each with a role of its own.

# %%
from helpers import functions

client = boto3.client("lambda")
made = {"timeout": 60, "memory": 256, "variables": {}, "tags": workshop.tags}
for name, statements in needed.items():
    suffix, log = (
        name.removeprefix(f"{workshop.prefix}-"),
        roles.allow_log(workshop, f"/aws/lambda/{name}"),
    )
    role = roles.ensure_service_role(iam, workshop, suffix, "lambda", *statements, log)
    code = functions.package(functions.SOURCES / suffix.replace("-", "_"))
    print(functions.ensure_function(client, name, role_arn=role.arn, code=code, **made))

# %%
definitions = [arn.rpartition(":")[0] for arn in (summarize, train)]
rule_arn = f"arn:aws:events:{account}:rule/StepFunctionsGetEventsForBatchJobsRule"
list_arn, combine_arn, best_arn = (f"arn:aws:lambda:{account}:function:{name}" for name in needed)
jobs_statements = [
    roles.allow(
        "batch:SubmitJob", queue_arns[NORMAL], *definitions, *(f"{arn}:*" for arn in definitions)
    ),
    roles.allow("batch:DescribeJobs batch:TerminateJob", "*"),
    roles.allow("events:PutTargets events:PutRule events:DescribeRule", rule_arn),
]
may_invoke = roles.allow("lambda:InvokeFunction", list_arn, combine_arn)
machine_role = roles.ensure_service_role(
    iam, workshop, "batch-machine", "states", *jobs_statements, may_invoke
)
print(machine_role)

# %%
from helpers import diagrams, processing_machines

states, queue = boto3.client("stepfunctions"), queue_arns[NORMAL]
arns = {
    "list_arn": list_arn,
    "combine_arn": combine_arn,
    "queue": queue,
    "job_definition": definitions[0],
}
definition = processing_machines.batch(bucket=BUCKET, **arns)
made = {"role_arn": machine_role.arn, "tags": workshop.state_tags}
machine = machines.ensure_state_machine(states, workshop.name("batch"), definition, **made)
print(machine)
diagrams.draw(definition)

# %% [markdown]
# Four vCPUs hold sixteen such jobs; the Map has ten under way at a time.

# %%
execution = machines.start(states, machine.arn, {})
ended = executions.follow(states, execution)

# %%
found = processing.statistics(s3, BUCKET, execution.rpartition(":")[2])
expected = processing.expected_statistics(dataset.fetch())
difference = processing.largest_difference(found, expected)
print("columns:", len(found), "- the largest difference is below 1e-9:", difference < 1e-9)

# %% [markdown]
# ## Search hyper-parameters
#
# Seven sets in a list in S3, a job for each, and a function that picks the best. The Map reads the list itself: it may be
# far longer than what fits into an execution's input. One set cannot work, to see what becomes of it.

# %%
sets = processing.hyper_parameter_sets(C=[0.01, 0.1, 1.0], class_weight=["balanced", "none"])
sets.append({"C": -1})
key = processing.put_json(s3, BUCKET, "sets/first.json", sets)
print(len(sets), "sets in", key)

# %% [markdown]
# A Distributed Map runs each item as an execution of its own, so the machine's role may start this machine.

# %%
sets_name = workshop.name("batch-sets")
children = f"arn:aws:states:{account}:execution:{sets_name}"
sets_role = roles.ensure_service_role(
    iam,
    workshop,
    "batch-sets-machine",
    "states",
    *jobs_statements,
    roles.allow("lambda:InvokeFunction", best_arn),
    roles.allow("s3:GetObject", f"{bucket.arn}/sets/*"),
    roles.allow("states:StartExecution", f"arn:aws:states:{account}:stateMachine:{sets_name}"),
    roles.allow("states:DescribeExecution states:StopExecution", f"{children}:*", f"{children}/*"),
)
print(sets_role)

# %%
definition = processing_machines.batch_sets(
    bucket=BUCKET, best_arn=best_arn, queue=queue, job_definition=definitions[1]
)
made = {"role_arn": sets_role.arn, "tags": workshop.state_tags}
sets_machine = machines.ensure_state_machine(states, sets_name, definition, **made)
print(sets_machine)
diagrams.draw(definition)

# %%
searched = executions.follow(states, machines.start(states, sets_machine.arn, {"sets": key}))
best = json.loads(searched.output)
processing.ranking(best).round(3).fillna({"error": ""})

# %% [markdown]
# The best set is in the first row. The one that cannot work is in the last, with the reason; it did not end the others.
# The best one's model lies in the bucket, beside those of all the others.

# %%
print(best["best"]["set"], "- its model is there:", best["best"]["model"].endswith("/model.joblib"))

# %% [markdown]
# ## Check yourself

# %%
assert in_order[:3] == ["first", "urgent-1", "urgent-2"], f"the urgent ones had to wait: {in_order}"
assert written == len(parts), "a child of the array wrote nothing"
assert difference < 1e-9, "the statistics are wrong"
assert searched.status == "SUCCEEDED", searched.cause
assert len(best["ranking"]) == 6, "a set is missing"
assert len(best["failed"]) == 1, "the set that cannot work did not fail"
assert best["best"]["roc_auc"] > 0.84, "the best is not good"
print("priorities kept, an array complete, the best of seven sets found")

# %% [markdown]
# ## Exercise
#
# A hundred jobs in the normal queue, and your boss wants three results now. What do you do, and what would you have to
# change to let the urgent ones start at once, without waiting for a running job to end?
#
# <details><summary>Solution</summary>
#
# Submit the three to the urgent queue: they go next. Batch does not end what runs to make room. For that you need room
# that the normal queue cannot take: a second compute environment, which only the urgent queue uses, in its
# `computeEnvironmentOrder` after the shared one. It costs nothing while it is empty.
#
# </details>

# %% [markdown]
# ## What you built
#
# - A compute environment on spot capacity, two queues and two job definitions, **created** with boto3,
# - single jobs and arrays, **submitted**: some failed, one at first only,
# - what twenty jobs found, **combined**,
# - and seven sets of hyper-parameters, **searched** for the best.
#
# Left running: nothing. Queues, definitions and an empty compute environment cost nothing.
#
# Next: [08d · Train with SageMaker](08d_activity_to_training.ipynb), and compare all four ways.
