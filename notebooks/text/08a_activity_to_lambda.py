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
# # 08a · Hand activities to a Lambda function
#
# Let a state machine wait for work that something else does, without a machine that polls all day.
#
# **For** the MLOps engineer · **Time** 30 minutes ·
# **Cost on AWS** below $0.05 (some hundred short function calls) ·
# **Needs first** [02 · Build the experiment pipeline](02_build_experiment_pipeline.ipynb)

# %% [markdown]
# **You will**
#
# - **report** a task by hand, with its token,
# - **build** a checker that hands waiting tasks to a function, and an API that starts the work,
# - **watch** twenty tasks that wait at once,
# - **break** it in each way that an activity can break.

# %%
import sys

sys.path[:0] = [".."]  # the project's folder, for `helpers`
import json

import boto3
import pandas as pd

from helpers import activities, connect, dataset, diagrams, executions, machines, processing, roles

workshop = connect()
BUCKET = workshop.bucket_for("processing")
START, CHECKER, WORKER = map(workshop.name, ("activity-start", "activity-checker", "activity-worker"))
account = f"{workshop.region}:{workshop.account_id}"
pd.set_option("display.max_colwidth", None)  # reasons in full

# %% [markdown]
# ## What you will build
#
# An *activity* is a task that Step Functions does not do itself. A state waits; whoever asks the activity for work gets
# the state's input and a *task token*, and reports with that token when the work is done. Who asks can run anywhere: on
# a machine in a laboratory, or, as here, in a function that a schedule wakes up.
#
# ```mermaid
# flowchart TD
#   you((you)) -- signed request --> api[API Gateway] --> start[Lambda start] --> machine[Step Functions]
#   machine -- task --> activity{{activity}}
#   schedule[EventBridge, every minute] --> checker[Lambda checker]
#   activity -- token, input --> checker
#   checker -- asynchronously --> worker[Lambda worker]
#   worker -- heartbeats, success or failure --> machine
#   worker -- summary --> bucket[(S3)]
# ```
#
# The work is to summarize one part of the census data. Notebooks 08b to 08d let the same work be done on Fargate, by
# Batch and as a SageMaker training job.
#
# ## Step 0: permissions
#
# What notebooks 08a to 08d call, besides what 02 gave to the notebook's role.

# %%
from helpers import permissions

iam = boto3.client("iam")
for policy in permissions.POLICIES:
    print(permissions.ensure_policy(iam, workshop, policy))

# %% [markdown]
# ## Step 1: the data, in parts
#
# A bucket of its own, with the data set in twenty parts.

# %%
from helpers import storage

s3 = boto3.client("s3")
bucket = storage.ensure_bucket(s3, BUCKET, region=workshop.region, tags=workshop.tag_list)
parts = processing.upload_parts(s3, BUCKET, dataset.fetch(), count=20)
print(bucket)
print(len(parts), "parts:", parts[0], "to", parts[-1])

# %% [markdown]
# ## Step 2: an activity, and a state machine that waits for it
#
# An activity is a name, no more. The state that uses it gets two limits, which count from when somebody takes the task:
# `TimeoutSeconds` bounds the work, and `HeartbeatSeconds` the silence between two *heartbeats*, with which a worker
# says that it is still at it. A task that nobody takes waits as long as its machine may run. Heartbeats begin when the
# worker does: where only ten functions may run at once, as in many new accounts, the twentieth task needs some
# patience.

# %%
states = boto3.client("stepfunctions")
by_hand, summarize = (
    states.create_activity(name=workshop.name(name), tags=workshop.state_tags)["activityArn"]
    for name in ("by-hand", "summarize")
)
print(by_hand.rpartition(":")[2], summarize.rpartition(":")[2], sep="\n")

# %%
definition = activities.definition(summarize, timeout_seconds=300, heartbeat_seconds=60)
diagrams.draw(definition)

# %% [markdown]
# The machine's role needs no permission: Step Functions waits, others come. Three machines of this shape: one for the work,
# one with little patience, to see what goes wrong without long waits, and one for trying by hand, with an activity that no
# function asks.

# %%
machine_role = roles.ensure_service_role(iam, workshop, "activity-machine", "states")
made = {"role_arn": machine_role.arn, "tags": workshop.state_tags}
machine = machines.ensure_state_machine(states, workshop.name("activity"), definition, **made)
short = activities.definition(summarize, timeout_seconds=20, heartbeat_seconds=8)
name = workshop.name("activity-impatient")
impatient = machines.ensure_state_machine(states, name, short, **made)
of_hand = activities.definition(by_hand)
hand_machine = machines.ensure_state_machine(states, workshop.name("by-hand"), of_hand, **made)
print(machine_role, machine, impatient, hand_machine, sep="\n")

# %% [markdown]
# ## Be the worker yourself
#
# Start an execution and ask the activity for work. `get_activity_task` waits up to 60 seconds for a task: a client that
# gives up earlier may lose one. Whoever has the token speaks for the task: it is a secret, and belongs in no log. You say
# that you are at work, and then that you are done. The output has to be JSON.

# %%
from botocore.config import Config

patient = boto3.client("stepfunctions", config=Config(read_timeout=70))
given = {"bucket": BUCKET, "key": parts[0], "run": "by-hand"}
execution = machines.start(states, hand_machine.arn, given)
task = patient.get_activity_task(activityArn=by_hand, workerName="me")
states.send_task_heartbeat(taskToken=task["taskToken"])
states.send_task_success(taskToken=task["taskToken"], output=json.dumps({"rows": 42}))
print("the input:", json.loads(task["input"])["key"])

# %%
print("the output:", executions.follow(states, execution).output)

# %% [markdown]
# A token is good for one report. The second one is refused.

# %%
try:
    states.send_task_success(taskToken=task["taskToken"], output="{}")
except states.exceptions.TaskTimedOut as error:
    print(error.response["Error"]["Code"])

# %% [markdown]
# ## Step 3: three functions
#
# *start* begins an execution. *checker* asks Step Functions how many tasks wait, asks the activity that often, and hands
# each task to *worker*, without waiting for it. Each has a role with just what it does.

# %%
worker_arn = f"arn:aws:lambda:{account}:function:{WORKER}"
both = [machine.arn, impatient.arn]
of_both = [arn.replace(":stateMachine:", ":execution:") + ":*" for arn in both]
needed = {
    START: [roles.allow("states:StartExecution", machine.arn)],
    CHECKER: [
        roles.allow("states:ListExecutions", *both),
        roles.allow("states:GetExecutionHistory", *of_both),
        roles.allow("states:GetActivityTask states:SendTaskFailure", summarize),
        roles.allow("lambda:InvokeFunction", worker_arn),
    ],
}

# %% [markdown]
# The worker may also list the bucket: S3 says "denied" of a missing object to those who may not.

# %%
needed[WORKER] = [
    roles.allow("s3:ListBucket", bucket.arn),
    roles.allow("s3:GetObject", f"{bucket.arn}/parts/*"),
    roles.allow("s3:PutObject", f"{bucket.arn}/summaries/*"),
    roles.allow("states:SendTaskSuccess states:SendTaskFailure states:SendTaskHeartbeat", summarize),
]
function_roles = {}
for name, statements in needed.items():
    log = roles.allow_log(workshop, f"/aws/lambda/{name}")
    suffix = name.removeprefix(f"{workshop.prefix}-")
    function_roles[name] = roles.ensure_service_role(iam, workshop, suffix, "lambda", *statements, log)
print(*function_roles.values(), sep="\n")

# %%
from helpers import functions

client = boto3.client("lambda")
settings = {
    START: {"timeout": 15, "variables": {"STATE_MACHINE_ARN": machine.arn, "BUCKET": BUCKET}},
    CHECKER: {
        "timeout": 300,
        "variables": {
            "ACTIVITY_ARN": summarize,
            "STATE_MACHINE_ARNS": " ".join(both),
            "WORKER": WORKER,
        },
    },
    WORKER: {"timeout": 300, "variables": {"HEARTBEAT_SECONDS": "2"}},
}


# %%
def ensure(name, *shared):
    """Create one of the three functions, or bring it up to date."""
    folder = name.removeprefix(f"{workshop.prefix}-").replace("-", "_")
    code = functions.package(functions.SOURCES / folder, *shared)
    role_arn, more = function_roles[name].arn, {"memory": 256, "tags": workshop.tags, **settings[name]}
    return functions.ensure_function(client, name, role_arn=role_arn, code=code, **more)


start, checker, worker = ensure(START), ensure(CHECKER), ensure(WORKER, processing.SUMMARIZE)
print(start, checker, worker, sep="\n")

# %% [markdown]
# ## Step 4: the schedule
#
# Once a minute EventBridge invokes the checker. Where nothing waits, that is one short call of Step Functions; the
# activity is not even asked, so that no run of the function sits in a long poll for nothing.

# %%
events = boto3.client("events")
rule = events.put_rule(Name=CHECKER, ScheduleExpression="rate(1 minute)", Tags=workshop.tag_list)[
    "RuleArn"
]
functions.allow_invoke(
    client, CHECKER, principal="events.amazonaws.com", source_arn=rule, account_id=workshop.account_id
)
targets = [{"Id": "checker", "Arn": checker.arn}]
failed = events.put_targets(Rule=CHECKER, Targets=targets)["FailedEntryCount"]
print(CHECKER, "runs every minute; targets that failed:", failed)

# %% [markdown]
# ## Step 5: an API that starts the work
#
# An HTTP API with one route. `AWS_IAM` means that a request has to be signed, by somebody who may `execute-api:Invoke`
# this route. API Gateway in turn needs leave to invoke the function. `ensure_api` makes the API with `create_api`, an
# integration, a route and a stage, or finds the one there is.

# %%
from helpers import apis

ROUTE = "POST /start"
gateway = boto3.client("apigatewayv2")
api = apis.ensure_api(gateway, START, route_key=ROUTE, function_arn=start.arn, tags=workshop.tags)
source = apis.source_arn(api.api_id, ROUTE, region=workshop.region, account_id=workshop.account_id)
gateway_may = {"principal": "apigateway.amazonaws.com", "source_arn": source}
functions.allow_invoke(client, START, **gateway_may, account_id=workshop.account_id)
print(api)

# %%
(route,) = gateway.get_routes(ApiId=api.api_id)["Items"]
print(route["RouteKey"], "is for", route["AuthorizationType"])
print("unsigned:", apis.call_unsigned(f"{api.endpoint}/start", {"key": parts[0]}))

# %% [markdown]
# Without a signature nobody gets as far as the function. You may: the policy of step 0 has `execute-api:Invoke`. The
# function looks at what it is told before it starts anything.


# %%
def call(key, run, **trouble):
    """Ask the API, signed, to start the work on a part; a new API may take some seconds to be ready."""
    document = {"key": key, "run": run, **trouble}
    return apis.call(
        boto3.Session(), f"{api.endpoint}/start", document, region=workshop.region, seconds=60
    )


print(call("secrets.txt", "any"))

# %% [markdown]
# ## Twenty tasks at once
#
# All parts in one go. A run has a name: an execution is named after run and part, so that the same request twice starts
# one.

# %%
import uuid
from concurrent.futures import ThreadPoolExecutor

run = f"run-{uuid.uuid4().hex[:8]}"
with ThreadPoolExecutor(5) as pool:
    answers = list(pool.map(lambda key: call(key, run), parts))
print(pd.Series([answer.status for answer in answers], name="answers").value_counts())
print("the same again:", call(parts[0], run).status)

# %% [markdown]
# Within a minute the schedule will wake the checker. You need not wait: invoke it yourself, asynchronously, as the schedule
# does. It hands over what waits; the work itself goes on in twenty runs of the worker.


# %%
def check_now():
    """Let the checker look for tasks now."""
    client.invoke(FunctionName=CHECKER, InvocationType="Event")


check_now()
started = [answer.document["execution"] for answer in answers]
overview = activities.wait(states, started)
overview[["part", "status", "rows", "reason"]]

# %% [markdown]
# Twenty summaries, of as many rows as the table has.

# %%
rows = overview["rows"].astype(int).sum()
print("rows in all parts:", rows, "- in the table:", len(pd.read_csv(dataset.fetch(), usecols=["age"])))

# %% [markdown]
# ## What can go wrong
#
# Three workers in trouble, for the machine with little patience. One fails and says why. One falls silent: no heartbeat
# comes any more. One works on, with heartbeats, but takes longer than the task may.

# %%
troubles = {
    parts[0]: {"fail": "the disk is full"},
    parts[1]: {"stall_seconds": 60},
    parts[2]: {"slow_seconds": 60},
}
in_trouble = [
    machines.start(states, impatient.arn, {"bucket": BUCKET, "key": key, "run": "trouble", **trouble})
    for key, trouble in troubles.items()
]
check_now()
trouble = activities.wait(states, in_trouble)
trouble[["part", "status", "reason"]]

# %% [markdown]
# Each ended for its own reason, and in time. The two workers that are still at it will find that their token is of no use
# any more, and end.
#
# ## Does the schedule run?
#
# By now it has, without you: the checker logs who woke it.

# %%
line = executions.wait_for_log(boto3.client("logs"), CHECKER, "aws.events", seconds=120)
print("woken by:", json.loads(line)["by"])

# %% [markdown]
# ## Check yourself

# %%
assert list(overview.status) == ["SUCCEEDED"] * 20, "a part was not summarized"
assert rows == 199_523, "rows are missing"
reasons = dict(zip(trouble.part, trouble.reason, strict=True))
assert "the disk is full" in reasons["part-01.csv"], "the failure's reason is missing"
assert reasons["part-02.csv"].startswith("WorkerSilent"), "the silence was not noticed"
assert reasons["part-03.csv"].startswith("TooSlow"), "the timeout was not noticed"
assert apis.call_unsigned(f"{api.endpoint}/start", {}).status == 403, "the API is open to everybody"
print("twenty parts, three failures with reasons, one closed door")

# %% [markdown]
# ## Exercise
#
# The checker looks once a minute. How long does a task wait on average, and what would it take to make that a second? When
# would you take `.waitForTaskToken` instead of an activity?
#
# <details><summary>Solution</summary>
#
# Half a minute: EventBridge's schedules have a resolution of one minute. For less, the worker has to ask all the time,
# which is the fleet that this pattern wants to do without; or nobody asks at all, and Step Functions hands the work over
# itself. That is what `.waitForTaskToken` does: the state invokes a function, sends a message or starts a container,
# with the token in its input, and waits as it does for an activity. The next notebook has it. An activity is the way for
# workers that AWS cannot reach, and which have to ask: behind a firewall, in a laboratory, on a desk.
#
# </details>

# %% [markdown]
# ## What you built
#
# - A task that you **reported** by hand,
# - a checker, a worker and an API, **built** from three functions, a schedule and a route,
# - twenty tasks at once, **watched** to their end,
# - and three that **broke**, each with its reason.
#
# Left running: the schedule. It invokes the checker 43,800 times a month, some six cents' worth, and nothing within
# Lambda's free tier. An API and an activity cost nothing while nobody calls.
#
# Next: [08b · Run the work on Fargate](08b_activity_to_fargate.ipynb) does the same work in containers.
