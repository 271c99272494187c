"""The state machines of notebooks 08b and 08c: a table's parts go through containers, and a function combines them.

On Fargate and on Batch alike: list the parts, work on each in a container, wait for all, combine. What differs
is how a container is started, and what is known of one that failed.

Input of an execution, all of it optional: ``{"prefix": "parts/", "trouble": {"parts/part-3.csv": {"FAIL": "why"}}}``.
The trouble is for trying out what a failure comes to: see processing_image/summarize.py. A run is named after
its execution: ``summaries/<name>/`` and ``results/<name>/`` hold what it wrote.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from helpers.states_language import INVOKE, LAMBDA_ERRORS, MOST_AT_ONCE, READ, jsonata, retry

RUN_TASK = "arn:aws:states:::ecs:runTask"
SUBMIT_JOB = "arn:aws:states:::batch:submitJob.sync"

CONTAINER = "summarize"  # the container's name in the task definition
PARTS = "parts/"
TROUBLES = ("FAIL", "STALL_SECONDS", "FAIL_FIRST_ATTEMPT")
TASK_SECONDS = 900  # of one container: its work, and the minute or two that it takes to start
RUN_SECONDS = 3600
HEARTBEAT_SECONDS = 180  # the first heartbeat comes after the start, and pulling an image takes its time
LONGEST_CAUSE = 30_000  # characters; a Fail state takes 32,768

EXECUTION = "$states.context.Execution"
CAUSE = "$states.errorOutput.Cause"

# Errors that pass: the service was busy or throttled, or had no room. A container that failed is not among them.
# RunTask answers "no capacity" with success and a list of failures, which Step Functions calls AmazonECS.Unknown.
ECS_ERRORS = ("ECS.AmazonECSException", "ECS.ServerException", "ECS.ThrottlingException", "AmazonECS.Unknown")
BATCH_ERRORS = ("Batch.AWSBatchException", "Batch.ServerException", "Batch.TooManyRequestsException")

# Why something failed, of the description that the service gave. A container's own reason is that of its being
# killed, for the memory that it took, or of its never having started.
_FUNCTION_REASON = "$found.errorMessage"
_TASK_REASON = (
    "($container := $found.Containers[0]; $exists($container.ExitCode)"
    " ? 'exit code ' & $string($container.ExitCode) & ', '"
    " & ($exists($container.Reason) ? $container.Reason : 'see its log')"
    " : $join([$found.StoppedReason, $container.Reason], ': '))"
)
_JOB_REASON = (
    "$exists($found.Container.ExitCode)"
    " ? 'exit code ' & $string($found.Container.ExitCode) & ' in attempt ' & $string($count($found.Attempts)) & ', '"
    " & ($exists($found.Container.Reason) ? $found.Container.Reason : 'see its log')"
    " : $join([$found.StatusReason, $found.Container.Reason], ': ')"
)

State = dict[str, Any]


def fargate(
    *,
    bucket: str,
    list_arn: str,
    combine_arn: str,
    cluster: str,
    task_definition: str,
    subnets: Sequence[str],
    security_groups: Sequence[str],
    max_concurrency: int = 10,
) -> State:
    """Return the definition that runs an ECS task for each part and waits for its end.

    ``list_arn``, ``combine_arn``: of the functions. ``cluster``, ``task_definition``: ARNs; without a
    revision, ECS takes the newest. A task that ends with another exit code than 0 has failed.
    """
    arguments = _task(cluster, task_definition, subnets, security_groups, _environment(bucket))
    work = {
        "Resource": f"{RUN_TASK}.sync",
        "TimeoutSeconds": TASK_SECONDS,
        "Arguments": arguments,
        "Retry": [retry(*ECS_ERRORS, seconds=5, attempts=6, most=60)],
    }
    comment = "Runs an ECS task for each part of a table, and combines what they found"
    return _map_and_reduce(comment, bucket, list_arn, combine_arn, work, _TASK_REASON, max_concurrency)


def fargate_with_token(
    *,
    bucket: str,
    list_arn: str,
    combine_arn: str,
    cluster: str,
    task_definition: str,
    subnets: Sequence[str],
    security_groups: Sequence[str],
    heartbeat_seconds: int = HEARTBEAT_SECONDS,
    max_concurrency: int = 10,
) -> State:
    """Return the definition that gives each ECS task a token, and waits until it is reported with.

    The program in the container says itself how it ended, and why. What ends without a word is found by the
    missing heartbeat: ``heartbeat_seconds`` are without one at most, from the start of the task on.
    """
    environment = _environment(
        bucket,
        "{'Name': 'TASK_TOKEN', 'Value': $states.context.Task.Token}",
        f"{{'Name': 'HEARTBEAT_SECONDS', 'Value': '{max(1, heartbeat_seconds // 6)}'}}",
    )
    work = {
        "Resource": f"{RUN_TASK}.waitForTaskToken",
        "TimeoutSeconds": TASK_SECONDS,
        "HeartbeatSeconds": heartbeat_seconds,
        "Arguments": _task(cluster, task_definition, subnets, security_groups, environment),
        "Retry": [retry(*ECS_ERRORS, seconds=5, attempts=6, most=60)],
    }
    comment = "Hands each part of a table to an ECS task with a token, and combines what they report"
    return _map_and_reduce(comment, bucket, list_arn, combine_arn, work, "", max_concurrency)


def batch(
    *,
    bucket: str,
    list_arn: str,
    combine_arn: str,
    queue: str,
    job_definition: str,
    max_concurrency: int = 10,
) -> State:
    """Return the definition that submits a Batch job for each part and waits for its end.

    ``queue``, ``job_definition``: ARNs. Retries of a failed job are the job definition's business.
    """
    work = {
        "Resource": SUBMIT_JOB,
        "TimeoutSeconds": TASK_SECONDS,
        "Arguments": {
            "JobName": jsonata("'summarize-' & $string($states.input.index)"),
            "JobQueue": queue,
            "JobDefinition": job_definition,
            "ContainerOverrides": {"Environment": jsonata(_environment(bucket))},
        },
        "Retry": [retry(*BATCH_ERRORS, seconds=5, attempts=6, most=60)],
    }
    comment = "Submits a Batch job for each part of a table, and combines what they found"
    return _map_and_reduce(comment, bucket, list_arn, combine_arn, work, _JOB_REASON, max_concurrency)


def batch_sets(
    *, bucket: str, best_arn: str, queue: str, job_definition: str, data: str = PARTS, max_concurrency: int = 10
) -> State:
    """Return the definition that trains a model for each set of hyper-parameters in a list in S3, and picks the best.

    An execution's input: ``{"sets": "sets/first.json"}``, the key of the list. ``data``: where the training data
    is, a prefix of keys. The Map is a distributed one, which reads the list itself: its 10,000 sets need not
    fit into an execution's input. A set that fails does not end the others.
    """
    item = "$states.input"
    output = f"'models/' & {item}.run & '/' & $string({item}.number)"
    kept = f"'number': {item}.number, 'set': {item}.set"
    environment = ", ".join(
        f"{{'Name': '{name}', 'Value': {value}}}"
        for name, value in (
            ("BUCKET", f"'{bucket}'"),
            ("DATA", f"'{data}'"),
            ("SET", f"$string({item}.set)"),
            ("OUTPUT", output),
        )
    )
    train = {
        "Type": "Task",
        "Resource": SUBMIT_JOB,
        "TimeoutSeconds": RUN_SECONDS,
        "Arguments": {
            "JobName": jsonata(f"'train-' & $string({item}.number)"),
            "JobQueue": queue,
            "JobDefinition": job_definition,
            "ContainerOverrides": {"Environment": jsonata(f"[{environment}]")},
        },
        "Output": jsonata(f"{{{kept}, 'output': {output}}}"),
        "Retry": [retry(*BATCH_ERRORS, seconds=5, attempts=6, most=60)],
        "Catch": [_catch(jsonata(f"{{{kept}, 'error': {_reason(_JOB_REASON)}}}"), "set failed")],
        "End": True,
    }
    sets = {
        "Type": "Map",
        "Label": "sets",
        "ItemReader": {
            "Resource": READ,
            "ReaderConfig": {"InputType": "JSON"},
            "Arguments": {"Bucket": bucket, "Key": jsonata(f"{EXECUTION}.Input.sets")},
        },
        "ItemSelector": {
            "number": jsonata("$states.context.Map.Item.Index"),
            "set": jsonata("$states.context.Map.Item.Value"),
            "run": jsonata(f"{EXECUTION}.Name"),  # a child execution has a name of its own
        },
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
            "StartAt": "train",
            "States": {"train": train, "set failed": {"Type": "Pass", "End": True}},
        },
        "MaxConcurrency": max_concurrency,
        "Catch": [_catch_error()],
        "Next": "best set",
    }
    payload = {"bucket": bucket, "run": jsonata(f"{EXECUTION}.Name"), "sets": jsonata("$states.input")}
    return {
        "Comment": "Trains a model for each set of hyper-parameters, and picks the best",
        "QueryLanguage": "JSONata",
        "StartAt": "train the sets",
        "TimeoutSeconds": 2 * RUN_SECONDS,
        "States": {"train the sets": sets, "best set": _invoke(best_arn, payload), **_endings()},
    }


def _map_and_reduce(
    comment: str,
    bucket: str,
    list_arn: str,
    combine_arn: str,
    work: Mapping[str, Any],
    reason: str,
    max_concurrency: int,
) -> State:
    if not 1 <= max_concurrency <= MOST_AT_ONCE:
        raise ValueError(f"max_concurrency is 1 to {MOST_AT_ONCE}, not {max_concurrency}")
    prefix = f"{EXECUTION}.Input.prefix"
    listing = {"bucket": bucket, "prefix": jsonata(f"$exists({prefix}) ? {prefix} : '{PARTS}'")}
    combining = {"bucket": bucket, "run": jsonata(f"{EXECUTION}.Name"), "parts": jsonata("$parts")}
    failed, reasons = "$states.result[$exists(error)]", "part & ': ' & error"
    key = jsonata("$states.input.key")
    part = {
        "Type": "Task",
        **work,
        "Output": {"part": key},
        # One part that fails does not end the others: all are worked on, and then it is told which failed.
        "Catch": [
            _catch({"part": key, "error": error}, "part failed", name)
            for name, error in (*_timeouts(work), ("States.ALL", jsonata(_reason(reason))))
        ],
        "End": True,
    }
    return {
        "Comment": comment,
        "QueryLanguage": "JSONata",
        "StartAt": "list parts",
        "TimeoutSeconds": RUN_SECONDS,
        "States": {
            "list parts": {
                **_invoke(list_arn, listing),
                "Assign": {"parts": jsonata("$states.result.Payload.parts")},
                "Next": "summarize",
            },
            "summarize": {
                "Type": "Map",
                "Items": jsonata("$parts"),
                "MaxConcurrency": max_concurrency,
                "ItemProcessor": {
                    "ProcessorConfig": {"Mode": "INLINE"},
                    "StartAt": "summarize part",
                    "States": {"summarize part": part, "part failed": {"Type": "Pass", "End": True}},
                },
                "Output": {"failed": jsonata(f"$count({failed})"), "reasons": jsonata(f"[{failed}.({reasons})]")},
                "Next": "all parts?",
            },
            "all parts?": {
                "Type": "Choice",
                "Choices": [{"Condition": jsonata("$states.input.failed > 0"), "Next": "parts failed"}],
                "Default": "combine",
            },
            "combine": _invoke(combine_arn, combining),
            "parts failed": {
                "Type": "Fail",
                "Error": "PartsFailed",
                "Cause": jsonata(f"$substring($join($states.input.reasons, '; '), 0, {LONGEST_CAUSE})"),
            },
            **_endings(),
        },
    }


def _task(
    cluster: str, task_definition: str, subnets: Sequence[str], security_groups: Sequence[str], environment: str
) -> State:
    return {
        "LaunchType": "FARGATE",
        "Cluster": cluster,
        "TaskDefinition": task_definition,
        "NetworkConfiguration": {
            "AwsvpcConfiguration": {
                "Subnets": list(subnets),
                "SecurityGroups": list(security_groups),
                "AssignPublicIp": "ENABLED",  # in a default VPC the way to ECR and S3 leads through the internet
            }
        },
        "Overrides": {"ContainerOverrides": [{"Name": CONTAINER, "Environment": jsonata(environment)}]},
    }


def _environment(bucket: str, *more: str) -> str:
    """Return a JSONata expression of a container's environment: what to do, and the trouble that was asked for."""
    known = [
        f"{{'Name': 'BUCKET', 'Value': '{bucket}'}}",
        "{'Name': 'PART', 'Value': $states.input.key}",
        f"{{'Name': 'OUTPUT', 'Value': 'summaries/' & {EXECUTION}.Name}}",
        *more,
    ]
    names = ", ".join(f"'{name}'" for name in TROUBLES)
    asked = f"$lookup($lookup({EXECUTION}.Input.trouble, $states.input.key), $name)"
    trouble = (
        f"[$map([{names}], function($name) {{ ($value := {asked};"
        " $exists($value) ? {'Name': $name, 'Value': $string($value)}) })]"
    )
    return f"$append([{', '.join(known)}], {trouble})"


def _invoke(function_arn: str, payload: Mapping[str, Any]) -> State:
    return {
        "Type": "Task",
        "Resource": INVOKE,
        "TimeoutSeconds": 120,
        "Arguments": {"FunctionName": function_arn, "Payload": dict(payload)},
        "Output": jsonata("$states.result.Payload"),
        "Retry": [retry(*LAMBDA_ERRORS, seconds=2, attempts=6, most=30)],
        "Catch": [_catch_error()],
        "Next": "done",
    }


def _endings() -> dict[str, State]:
    failed = {"Type": "Fail", "Error": jsonata("$states.input.error"), "Cause": jsonata("$states.input.cause")}
    return {"done": {"Type": "Succeed"}, "failed": failed}


def _timeouts(work: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return how a task runs out of time, which has no cause, and what to say of it.

    A missing heartbeat comes first: States.Timeout would also match it.
    """
    silent, slow = work.get("HeartbeatSeconds"), work["TimeoutSeconds"]
    found = [("States.HeartbeatTimeout", f"no heartbeat for {silent} seconds")] if silent else []
    return [*found, ("States.Timeout", f"not done after {slow} seconds")]


def _catch(output: Any, following: str, error: str = "States.ALL") -> State:
    return {"ErrorEquals": [error], "Output": output, "Next": following}


def _catch_error() -> State:
    """Return the Catch of a step without which nothing goes on. A function's error comes as JSON in its Cause."""
    cause = jsonata(_reason(_FUNCTION_REASON, with_error=False))
    return _catch({"error": jsonata("$states.errorOutput.Error"), "cause": cause}, "failed")


def _reason(of_description: str, *, with_error: bool = True) -> str:
    """Return an expression for why something failed: of a cause in JSON what ``of_description`` finds in $found."""
    otherwise = f"$states.errorOutput.Error & ': ' & {CAUSE}" if with_error else f"$string({CAUSE}) & ''"
    if not of_description:
        return otherwise
    described = f"$substring({CAUSE}, 0, 1) = '{{' ? ($found := $parse({CAUSE}); {of_description})"
    return f"($reason := {described}; $length($reason) > 0 ? $reason : {otherwise})"
