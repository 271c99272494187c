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
# # 08b · Run the work on Fargate
#
# Build an image without a Docker of your own, and let a state machine run it in many containers at once.
#
# **For** the MLOps engineer · **Time** 30 minutes ·
# **Cost on AWS** about $0.03 (a build of three minutes, some forty small containers for a minute each) ·
# **Needs first** [02 · Build the experiment pipeline](02_build_experiment_pipeline.ipynb)

# %% [markdown]
# **You will**
#
# - **build** an image with CodeBuild,
# - **run** it as a task on Fargate,
# - **combine** the results of many tasks with a state machine,
# - **compare** the two ways in which a state machine can wait.

# %%
import sys

sys.path[:0] = [".."]  # the project's folder, for `helpers`
import boto3
import pandas as pd

from helpers import connect, containers, dataset, executions, images, machines, processing, roles
from helpers.propagation import retry_until_propagated

workshop = connect()
BUCKET, IMAGE = workshop.bucket_for("processing"), workshop.name("processing")
BUILD_LOGS, TASK_LOGS, _ = workshop.log_groups
account = f"{workshop.region}:{workshop.account_id}"
pd.set_option("display.max_colwidth", None)  # reasons in full

# %% [markdown]
# ## What you will build
#
# ```mermaid
# flowchart LR
#   folder["folder with<br/>Dockerfile"] -- zip --> bucket[(S3)] --> build[CodeBuild] -- push --> images[(ECR)]
#   subgraph machine[Step Functions]
#     list[Lambda list-parts] --> tasks["ecs:runTask, one for each part"] --> combine[Lambda combine]
#   end
#   images --> tasks
#   tasks -- a summary of each part --> results[(S3)] --> combine
# ```
#
# *ECS* is the service of AWS that runs containers, and with *Fargate* it needs no machines of yours. One run is a
# *task*. The container's image is built by *CodeBuild* and kept in *ECR*, a registry of images.
#
# Each container summarizes one part of the census data: count, sum, sum of squares of every numeric column. From the
# summaries of all parts follow mean and standard deviation of the whole, exactly. That is a map and a reduce.
#
# ## Step 0: permissions and data
#
# As in 08a: the policies of the notebook's role, and a bucket with the data set in twenty parts.

# %%
from helpers import permissions, storage

iam, s3 = boto3.client("iam"), boto3.client("s3")
for policy in permissions.POLICIES:
    permissions.ensure_policy(iam, workshop, policy)
bucket = storage.ensure_bucket(s3, BUCKET, region=workshop.region, tags=workshop.tag_list)
parts = processing.upload_parts(s3, BUCKET, dataset.fetch(), count=20)
print(bucket)
print(len(parts), "parts:", parts[0], "to", parts[-1])

# %% [markdown]
# ## Step 1: a place for the image
#
# A repository of ECR. Tags that cannot be moved make sure that a tag means the same image for ever; the tag here is made
# of the folder's content.

# %%
ecr = boto3.client("ecr")
try:
    made = ecr.create_repository(
        repositoryName=IMAGE, imageTagMutability="IMMUTABLE", tags=workshop.tag_list
    )["repository"]
    print(f"{IMAGE}: created")
except ecr.exceptions.RepositoryAlreadyExistsException:
    (made,) = ecr.describe_repositories(repositoryNames=[IMAGE])["repositories"]
    print(f"{IMAGE}: found")
repository_uri, repository_arn = made["repositoryUri"], made["repositoryArn"]

# %% [markdown]
# The image is made from a folder of the project. Six kinds of instructions are enough for most work in Python.

# %%
print((images.FOLDER / "Dockerfile").read_text())

# %% [markdown]
# ## Step 2: a build project
#
# SageMaker Studio often has no Docker. CodeBuild has one: it takes the folder as a zip from the bucket, and follows its
# `buildspec.yml`. On the embedded AWS the same build runs on your machine, without Docker: `docker build` understands
# the instructions that this file needs, and refuses the others by name and line.

# %%
print((images.FOLDER / "buildspec.yml").read_text())

# %%
TAG = images.image_tag()
s3.put_object(Bucket=BUCKET, Key="images/processing.zip", Body=images.archive())
print("images/processing.zip is in the bucket")

# %% [markdown]
# The project's role reads the zip, pushes to this repository alone, and writes its log.

# %%
PULL = "ecr:BatchCheckLayerAvailability ecr:GetDownloadUrlForLayer ecr:BatchGetImage"
PUSH = "ecr:InitiateLayerUpload ecr:UploadLayerPart ecr:CompleteLayerUpload ecr:PutImage"
build_role = roles.ensure_service_role(
    iam,
    workshop,
    "image-build",
    "codebuild",
    roles.allow("s3:GetObject s3:GetObjectVersion", f"{bucket.arn}/images/*"),
    roles.allow("ecr:GetAuthorizationToken", "*"),
    roles.allow(f"{PULL} {PUSH}", repository_arn),
    roles.allow_log(workshop, BUILD_LOGS),
)
print(build_role)

# %%
codebuild = boto3.client("codebuild")
project = {
    "name": workshop.name("image"),
    "source": {"type": "S3", "location": f"{BUCKET}/images/processing.zip"},
    "artifacts": {"type": "NO_ARTIFACTS"},
    "environment": {
        "type": "LINUX_CONTAINER",
        "image": "aws/codebuild/amazonlinux-x86_64-standard:5.0",
        "computeType": "BUILD_GENERAL1_SMALL",
        "privilegedMode": True,  # Docker needs it
    },
    "serviceRole": build_role.arn,
    "timeoutInMinutes": 15,
    "tags": workshop.state_tags,
}

# %%
try:
    retry_until_propagated(lambda: codebuild.create_project(**project))
    print(project["name"] + ": created")
except codebuild.exceptions.ResourceAlreadyExistsException:
    retry_until_propagated(lambda: codebuild.update_project(**project))
    print(project["name"] + ": found, brought up to date")

# %% [markdown]
# ## Step 3: build
#
# A tag that is there already need not be built again. A new account may build one image at a time.

# %%
variables = {"REPOSITORY_URI": repository_uri, "IMAGE_TAG": TAG}
override = [{"name": name, "value": value} for name, value in variables.items()]
if images.is_pushed(ecr, IMAGE, TAG):
    print("the image is there already")
else:
    build = codebuild.start_build(projectName=project["name"], environmentVariablesOverride=override)
    images.wait_for_build(codebuild, build["build"]["id"], logs=boto3.client("logs"))
    print("built and pushed")

# %%
from IPython.display import Markdown

latest = codebuild.list_builds_for_project(projectName=project["name"])["ids"][:1]
(build,) = codebuild.batch_get_builds(ids=latest)["builds"]
(image,) = ecr.describe_images(repositoryName=IMAGE, imageIds=[{"imageTag": TAG}])["imageDetails"]
print("the image's tag is the folder's:", image["imageTags"] == [TAG])
Markdown(images.phases(build))

# %% [markdown]
# ## Step 4: a task definition
#
# It says what runs: which image, how much of a processor and of memory, where the log goes. Two roles, and it matters
# which is which. The *execution role* is for ECS, to pull the image and write the log; the *task role* is what the program
# in the container may do.

# %%
execution_role = roles.ensure_service_role(
    iam,
    workshop,
    "task-execution",
    "ecs-tasks",
    roles.allow("ecr:GetAuthorizationToken", "*"),
    roles.allow(PULL, repository_arn),
    roles.allow_log(workshop, TASK_LOGS),
)
print(execution_role)

# %%
token_arn = f"arn:aws:states:{account}:stateMachine:{workshop.name('fargate-token')}"
task_role = roles.ensure_service_role(
    iam,
    workshop,
    "task",
    "ecs-tasks",
    roles.allow("s3:ListBucket", bucket.arn),  # else S3 says "denied" of what is missing
    roles.allow("s3:GetObject", f"{bucket.arn}/parts/*"),
    roles.allow("s3:PutObject", f"{bucket.arn}/summaries/*"),
    roles.allow("states:SendTaskSuccess states:SendTaskFailure states:SendTaskHeartbeat", token_arn),
)
print(task_role)

# %% [markdown]
# A cluster is a name under which tasks run; with Fargate there are no machines in it. And a task's log group is made by
# nobody else, so it is made here.

# %%
from helpers import loggroups

ecs, logs = boto3.client("ecs"), boto3.client("logs")
CLUSTER = workshop.name("tasks")
made = {"clusterName": CLUSTER, "tags": workshop.state_tags}
cluster = retry_until_propagated(lambda: ecs.create_cluster(**made))["cluster"]
loggroups.ensure_log_group(logs, TASK_LOGS, tags=workshop.tags)
print(cluster["clusterName"], cluster["status"])

# %% [markdown]
# The container: our image, and a log stream for each task. Its command is the image's own.

# %%
from helpers import processing_machines

container = {
    "name": processing_machines.CONTAINER,
    "image": f"{repository_uri}:{TAG}",
    "essential": True,
    "logConfiguration": {
        "logDriver": "awslogs",
        "options": {
            "awslogs-group": TASK_LOGS,
            "awslogs-region": workshop.region,
            "awslogs-stream-prefix": "part",
        },
    },
}

# %% [markdown]
# The definition around it. Each time it is registered, it gets another revision; who names none, gets the latest.

# %%
FAMILY = workshop.name("summarize")
settings = {
    "requiresCompatibilities": ["FARGATE"],
    "networkMode": "awsvpc",
    "cpu": "256",  # a quarter of a vCPU
    "memory": "512",  # MB
    "executionRoleArn": execution_role.arn,
    "taskRoleArn": task_role.arn,
}
definition = retry_until_propagated(
    lambda: ecs.register_task_definition(
        family=FAMILY, containerDefinitions=[container], tags=workshop.state_tags, **settings
    )
)["taskDefinition"]
print(definition["family"], definition["status"])

# %% [markdown]
# ## Run one by hand
#
# A task of Fargate has an address in your network. In the default VPC it needs a public one, to reach ECR and S3.

# %%
network = processing.find_default_network(boto3.client("ec2"))
vpc = {
    "subnets": list(network.subnets),
    "securityGroups": [network.security_group],
    "assignPublicIp": "ENABLED",
}
where = {"launchType": "FARGATE", "networkConfiguration": {"awsvpcConfiguration": vpc}}


# %%
def run(**environment):
    """Run one task with some variables set, and return its ARN."""
    variables = [{"name": name, "value": value} for name, value in environment.items()]
    overrides = {"containerOverrides": [{"name": container["name"], "environment": variables}]}
    task = {"cluster": CLUSTER, "taskDefinition": FAMILY, "overrides": overrides, **where}
    answer = retry_until_propagated(lambda: ecs.run_task(**task))
    assert not answer["failures"], answer["failures"]
    return answer["tasks"][0]["taskArn"]


# %%
good = run(BUCKET=BUCKET, PART=parts[0], OUTPUT="summaries/by-hand")
bad = run(BUCKET=BUCKET, PART="parts/none.csv", OUTPUT="summaries/by-hand")
containers.wait_for_tasks(ecs, CLUSTER, [good, bad])

# %% [markdown]
# The exit code is all that ECS knows. What went wrong is in the log, if the program says it.

# %%
for task in (good, bad):
    lines = containers.task_log(logs, TASK_LOGS, task, prefix="part", container=container["name"])
    print(lines[-1])

# %% [markdown]
# ## Step 5: the state machine
#
# Two functions, the map and the reduce: *list-parts* lists what there is to do, *combine* puts the summaries together.

# %%
LIST, COMBINE = workshop.name("list-parts"), workshop.name("combine")
below = {"s3:prefix": ["parts/*", "summaries/*"]}
may_list = roles.allow("s3:ListBucket", bucket.arn, like=below)
needed = {
    LIST: [may_list],
    COMBINE: [
        may_list,
        roles.allow("s3:GetObject", f"{bucket.arn}/summaries/*"),
        roles.allow("s3:PutObject", f"{bucket.arn}/results/*"),
    ],
}

# %% [markdown]
# Each function with a role of its own, as in the notebooks before.

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

# %% [markdown]
# `ecs:runTask.sync` starts a task and waits until it has stopped. Step Functions hears of that through a rule of
# EventBridge that AWS makes, and the machine's role has to be allowed to use it. It also has to pass on the two roles of
# the task.

# %%
list_arn, combine_arn = (f"arn:aws:lambda:{account}:function:{name}" for name in (LIST, COMBINE))
rule_arn = f"arn:aws:events:{account}:rule/StepFunctionsGetEventsForECSTaskRule"
to_tasks = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
machine_statements = [
    roles.allow("lambda:InvokeFunction", list_arn, combine_arn),
    roles.allow("ecs:RunTask", f"arn:aws:ecs:{account}:task-definition/{FAMILY}:*"),
    roles.allow("ecs:StopTask ecs:DescribeTasks", f"arn:aws:ecs:{account}:task/{CLUSTER}/*"),
    roles.allow("events:PutTargets events:PutRule events:DescribeRule", rule_arn),
    roles.allow("iam:PassRole", execution_role.arn, task_role.arn, equals=to_tasks),
]
machine_role = roles.ensure_service_role(
    iam, workshop, "fargate-machine", "states", *machine_statements
)
print(machine_role)

# %%
common = {
    "bucket": BUCKET,
    "list_arn": list_arn,
    "combine_arn": combine_arn,
    "cluster": cluster["clusterArn"],
    "task_definition": FAMILY,
    "subnets": network.subnets,
    "security_groups": [network.security_group],
}
fargate = processing_machines.fargate(**common)
print(fargate["States"]["summarize"]["ItemProcessor"]["States"]["summarize part"]["Resource"])

# %%
from helpers import diagrams

states = boto3.client("stepfunctions")
made = {"role_arn": machine_role.arn, "tags": workshop.state_tags}
machine = machines.ensure_state_machine(states, workshop.name("fargate"), fargate, **made)
print(machine)
diagrams.draw(fargate)

# %% [markdown]
# *summarize* is a Map: it runs a state for each item of a list, here ten tasks at a time. A part that fails ends
# nothing but itself; what failed, and why, is said at the end.

# %%
execution = machines.start(states, machine.arn, {})
ended = executions.follow(states, execution)

# %% [markdown]
# Is it right? The same with pandas, which has the whole table in memory.

# %%
RUN = execution.rpartition(":")[2]
found = processing.statistics(s3, BUCKET, RUN)
expected = processing.expected_statistics(dataset.fetch())
print(
    "columns:",
    len(found),
    "- the largest difference is below 1e-9:",
    processing.largest_difference(found, expected) < 1e-9,
)
found[["count", "mean", "std"]].round(3)

# %% [markdown]
# ## The same with a task token
#
# With `.sync`, ECS says how a task ended: an exit code. With `.waitForTaskToken` the state gives the program a token,
# as an activity does in 08a, and the program reports with it: a result or a reason, and heartbeats that show that it is
# alive. In exchange, nobody else says anything: a container that dies without a word is noticed by its missing
# heartbeat.

# %%
fargate_token = processing_machines.fargate_with_token(**common)
token_machine = machines.ensure_state_machine(
    states, workshop.name("fargate-token"), fargate_token, **made
)
print(token_machine)

# %% [markdown]
# Both machines, with nine parts, of which one is in trouble. What do they know of it?

# %%
trouble = {"prefix": "parts/part-0", "trouble": {parts[4]: {"FAIL": "the disk is full"}}}
both = [machines.start(states, arn, trouble) for arn in (machine.arn, token_machine.arn)]
for arn in both:
    executions.follow(states, arn)

# %%
ends = [states.describe_execution(executionArn=arn) for arn in both]
pd.DataFrame([{"error": end["error"], "cause": end["cause"]} for end in ends], index=["sync", "token"])

# %% [markdown]
# With `.sync` you learn the exit code; the reason is in the log of the one task that failed. With a token the reason is in
# the execution.
#
# ## Check yourself

# %%
assert ended.status == "SUCCEEDED", ended.cause
assert processing.largest_difference(found, expected) < 1e-9, "the statistics are wrong"
assert [end["status"] for end in ends] == ["FAILED", "FAILED"], "a failure went unnoticed"
assert "the disk is full" in ends[1]["cause"], "the token's failure lacks its reason"
containers.wait_for_tasks(ecs, CLUSTER, ecs.list_tasks(cluster=CLUSTER)["taskArns"])
assert not ecs.list_tasks(cluster=CLUSTER)["taskArns"], "tasks are still running"
print("one image, forty tasks, the right statistics, nothing left running")

# %% [markdown]
# ## Exercise
#
# Somebody stops an execution halfway. What happens to its tasks: with `.sync`, and with a token? Try it: give a part
# `{"STALL_SECONDS": "60"}` in `trouble`, stop the execution while it runs, and look at `list_tasks`.
#
# <details><summary>Solution</summary>
#
# ```python
# import time
#
# given = {"prefix": parts[0], "trouble": {parts[0]: {"STALL_SECONDS": "60"}}}
# for arn in (machine.arn, token_machine.arn):
#     execution = machines.start(states, arn, given)
#     while not ecs.list_tasks(cluster=CLUSTER)["taskArns"]:
#         time.sleep(1)
#     states.stop_execution(executionArn=execution)
#     time.sleep(20)  # stopping a task takes a moment
#     print("still running:", len(ecs.list_tasks(cluster=CLUSTER)["taskArns"]))
# ```
#
# None with `.sync`: Step Functions stops the tasks that it waits for; that is what `ecs:StopTask` in its role is for.
# With a token one is: Step Functions started it and knows no more of it. It works on, and its report is refused. Stop
# those yourself.
#
# </details>

# %% [markdown]
# ## What you built
#
# - An image, **built** by CodeBuild from a folder,
# - which **ran** as a task of Fargate, once well and once not,
# - twenty results, **combined** by a state machine,
# - and two ways to wait, **compared** where it hurts.
#
# Left running: nothing. The image costs less than three cents a month in ECR; cluster and task definition cost nothing.
#
# Next: [08c · Queue the work with Batch](08c_activity_to_batch.ipynb), for more work than there is room.
