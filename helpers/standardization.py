"""Standardization on upload: its state machine, its input files, and what its executions came to."""

import io
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from helpers import dataset
from helpers.histories import FINAL
from helpers.pipeline import RESOURCE, ROOT
from helpers.states_language import INVOKE, LAMBDA_ERRORS, jsonata, retry

SCRIPT = Path(__file__).resolve().parents[1] / "code" / "standardization" / "standardize.py"
SCRIPT_KEY = "code/standardize.py"
PROBE = "meta-data/probe.csv"
INSTANCE_TYPE = "ml.t3.medium"
JOB_SECONDS = 300
TASK_SECONDS = JOB_SECONDS + 900  # the job's own limit, and the minutes that an instance takes to start
LONGEST_PROJECT = 19  # of a job name's 63 characters, 15 are for the batch, 24 for the execution, 3 for a retry
RUN_SECONDS = 6 * 3600  # with the hours for which a quota may keep jobs waiting
# A number as short as "0" becomes one of up to 23 characters: of a file's size, what the job needs at most.
OUTPUT_RATIO = 13

KEY = "$states.context.Execution.Input.object.key"
COLUMNS = ("file", "batch", "status", "reason")


def state_machine(
    *, project: str, bucket: str, image: str, batch_id_arn: str, job_role_arn: str, tags: Mapping[str, str]
) -> dict[str, Any]:
    """Return the definition in the Amazon States Language, with JSONata.

    Raises ValueError where ``project`` makes job names that SageMaker would refuse.
    An execution's input is the ``s3`` part of a record of an S3 event, its key decoded.
    What is refused, or fails, ends in a Fail state of its own, whose Cause names the file and the reason.
    """
    if len(project) > LONGEST_PROJECT:
        raise ValueError(f"project is {project!r}: in the names of jobs it has room for {LONGEST_PROJECT} characters")
    job = _job(project, bucket, image, job_role_arn, tags)
    return {
        "Comment": "Standardizes the numeric columns of one uploaded file",
        "QueryLanguage": "JSONata",
        "StartAt": "base name",
        "TimeoutSeconds": RUN_SECONDS,
        "States": {
            "base name": {
                "Type": "Pass",
                "Assign": {"name": jsonata(f"$split({KEY}, '/')[-1]")},
                "Next": "a partition?",
            },
            "a partition?": {
                "Type": "Choice",
                "Choices": [{"Condition": jsonata(r"$contains($name, /^partition_.*\.csv$/)"), "Next": "batch id"}],
                "Default": "wrong name",
            },
            "batch id": _batch_id(batch_id_arn),
            "a whole number?": {
                "Type": "Choice",
                "Choices": [
                    {
                        "Condition": jsonata(
                            "$type($states.input.batch_id) = 'number'"
                            " ? $states.input.batch_id >= 0 and $floor($states.input.batch_id) = $states.input.batch_id"
                            " : false"
                        ),
                        "Next": "standardize",
                    }
                ],
                "Default": "no batch id",
            },
            "standardize": job,
            "standardized": {"Type": "Succeed"},
            "wrong name": _fail("WrongName", "$name & ' is not named partition_<number>.csv'"),
            "no batch id": _fail("NoBatchId", _first_of("$states.input.error", "$name & ' has no whole number'")),
            "failed": _fail("StandardizationFailed", "$name & ': ' & $states.input.error"),
        },
    }


def _batch_id(function_arn: str) -> dict[str, Any]:
    error = "$states.errorOutput.Error & ': ' & $states.errorOutput.Cause"
    return {
        "Type": "Task",
        "Resource": INVOKE,
        "TimeoutSeconds": 60,
        "Arguments": {"FunctionName": function_arn, "Payload": {"key": jsonata(KEY)}},
        "Output": jsonata("$states.result.Payload"),
        "Retry": [
            {
                "ErrorEquals": list(LAMBDA_ERRORS),
                "IntervalSeconds": 2,
                "MaxAttempts": 6,
                "BackoffRate": 2.0,
            }
        ],
        "Catch": [
            {
                "ErrorEquals": ["States.ALL"],
                "Output": {"error": jsonata(f"$name & ': the function failed: ' & {error}")},
                "Next": "no batch id",
            }
        ],
        "Next": "a whole number?",
    }


def _job(project: str, bucket: str, image: str, job_role_arn: str, tags: Mapping[str, str]) -> dict[str, Any]:
    identifier = "$string($states.input.batch_id)"
    output = f"'s3://{bucket}/prediction-data/' & {identifier} & '/'"
    source = f"'s3://' & $states.context.Execution.Input.bucket.name & '/' & {KEY}"
    size = "$states.context.Execution.Input.object.size"
    # A name can never be used twice: a retry whose first attempt did make a job would fail for that alone.
    attempt = "($states.context.State.RetryCount > 0 ? '-' & $string($states.context.State.RetryCount) : '')"
    cause = "$states.errorOutput.Cause"
    other = f"$states.errorOutput.Error & ': ' & {cause}"
    # A job that failed is described as JSON, with what the script itself had to say.
    of_job = f"($job := $parse({cause}); {_first_of('$job.ExitMessage', '$job.FailureReason', other)})"
    return {
        "Type": "Task",
        "Resource": RESOURCE,
        "TimeoutSeconds": TASK_SECONDS,
        "Arguments": {
            "ProcessingJobName": jsonata(
                f"'{project}-' & {identifier} & '-' & $states.context.Execution.Name & {attempt}"
            ),
            "RoleArn": job_role_arn,
            "AppSpecification": {
                "ImageUri": image,
                "ContainerEntrypoint": ["python3", f"{ROOT}/input/code/standardize.py"],
                "ContainerArguments": ["--file", jsonata("$name")],
            },
            "ProcessingResources": {
                "ClusterConfig": {
                    "InstanceCount": 1,
                    "InstanceType": INSTANCE_TYPE,
                    # 1 GB, unless the file is so large that what comes of it might not fit.
                    "VolumeSizeInGB": jsonata(f"$max([1, $ceil({size} * {OUTPUT_RATIO} / 1000000000)])"),
                }
            },
            "ProcessingInputs": [
                _input("code", f"s3://{bucket}/{SCRIPT_KEY}", f"{ROOT}/input/code"),
                _input("data", jsonata(source), f"{ROOT}/input"),
            ],
            "ProcessingOutputConfig": {
                "Outputs": [
                    {
                        "OutputName": "output",
                        "S3Output": {
                            "S3Uri": jsonata(output),
                            "LocalPath": f"{ROOT}/output",
                            "S3UploadMode": "EndOfJob",
                        },
                    }
                ]
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": JOB_SECONDS},
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        },
        "Output": {
            "file": jsonata("$name"),
            "batch_id": jsonata("$states.input.batch_id"),
            "output": jsonata(output),
            "job": jsonata("$states.result.ProcessingJobName"),
        },
        "Retry": [
            # A quota of instances that other jobs are using up: they will end.
            retry("SageMaker.ResourceLimitExceededException", seconds=30, attempts=60, most=120),
            # Throttling.
            retry("SageMaker.AmazonSageMakerException", seconds=2, attempts=4, most=30),
        ],
        "Catch": [
            {
                "ErrorEquals": ["States.ALL"],
                "Output": {"error": jsonata(f"$substring({cause}, 0, 1) = '{{' ? {of_job} : {other}")},
                "Next": "failed",
            }
        ],
        "Next": "standardized",
    }


def _input(name: str, uri: str, local_path: str) -> dict[str, Any]:
    place = {"S3Uri": uri, "LocalPath": local_path, "S3DataType": "S3Prefix", "S3InputMode": "File"}
    return {"InputName": name, "S3Input": {**place, "S3DataDistributionType": "FullyReplicated"}}


def _fail(error: str, cause: str) -> dict[str, Any]:
    return {"Type": "Fail", "Error": error, "Cause": jsonata(cause)}


def _first_of(*expressions: str) -> str:
    """Return an expression for the first of these that there is; the last one always is."""
    *optional, last = expressions
    return " : ".join([*(f"$exists({expression}) ? {expression}" for expression in optional), last])


def partitions(table: Path, folder: Path, count: int) -> list[Path]:
    """Write the numeric columns of the data set as ``partition_1.csv`` to ``partition_<count>.csv``. Returns them.

    The numbers stay as they are written in ``table``, and the rows in their order.
    Raises ValueError when there are more partitions than rows.
    """
    names = [name for name in dataset.COLUMNS if name in (*dataset.WHOLE_NUMBERS, dataset.WEIGHT)]
    rows = pd.read_csv(table, usecols=names, dtype=str, keep_default_na=False, skipinitialspace=True)[names]
    if not 1 <= count <= len(rows):
        raise ValueError(f"{table} has {len(rows):,} rows: it cannot be cut into {count} partitions")
    files = [folder / f"partition_{number}.csv" for number in range(1, count + 1)]
    for number, file in enumerate(files):
        first, after = (place * len(rows) // count for place in (number, number + 1))
        rows.iloc[first:after].to_csv(file, index=False)
    return files


def write_large(partition: Path, target: Path, *, size: int, seed: int = 0) -> pd.DataFrame:
    """Write a file of at least ``size`` bytes: a partition with a little noise, again and again.

    Returns the rows that are repeated: mean and standard deviation of the file are theirs.
    """
    table = pd.read_csv(partition)
    table = table + np.random.default_rng(seed).normal(size=table.shape)
    rows = table.to_csv(index=False, header=False).encode()
    with target.open("wb") as file:
        file.write(table.iloc[:0].to_csv(index=False).encode())
        while file.tell() < size:
            file.write(rows)
    return table


def known_executions(states: Any, machine_arn: str) -> frozenset[str]:
    """Return the ARNs of all executions of a machine. ``states``: a Step Functions client."""
    pages = states.get_paginator("list_executions").paginate(stateMachineArn=machine_arn)
    return frozenset(execution["executionArn"] for page in pages for execution in page["executions"])


def wait_for_executions(
    states: Any,
    machine_arn: str,
    count: int,
    *,
    known: Collection[str],
    seconds: float = RUN_SECONDS,
    live: bool = True,
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Return the ARNs of the executions that are not ``known``, oldest first, once ``count`` of them have ended.

    Shows how many have, if ``live``. Raises TimeoutError after ``seconds``.
    """
    heading = Markdown("Executions:")
    shown = display(heading, display_id=True) if live else None
    waited, every = 0.0, 0.2
    while True:
        new = _new_executions(states, machine_arn, known)
        ended = sum(status in FINAL for status in new.values())
        if ended >= count and ended == len(new):
            break
        if waited >= seconds:
            raise TimeoutError(f"{ended} executions have ended within {seconds:g} seconds, not {count}")
        if shown is not None:
            shown.update(Markdown(f"{ended} of {max(count, len(new))} executions have ended"))
        sleep(every)
        waited += every
        every = min(every * 1.5, 5)  # often at first; AWS limits the rate of calls
    if shown is not None:
        shown.update(heading)  # what stays is the same at every run: nbval compares it
    return list(new)[::-1]


def wait_for_notification(
    s3: Any,
    bucket: str,
    states: Any,
    machine_arn: str,
    *,
    seconds: float = 900,
    every: float = 30,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Upload ``PROBE`` until it starts an execution, which refuses its name; then every upload will start one.

    S3 may take five minutes to heed a new notification, and tells nobody of what is uploaded
    meanwhile. ``every``: seconds between two uploads. Raises TimeoutError after ``seconds``.
    """
    known, waited = known_executions(states, machine_arn), 0.0
    while not _new_executions(states, machine_arn, known):
        if waited >= seconds:
            raise TimeoutError(f"no upload to {bucket} has started an execution within {seconds:g} seconds")
        if waited % every == 0:
            s3.put_object(Bucket=bucket, Key=PROBE, Body=b"")
        sleep(1)
        waited += 1
    wait_for_executions(states, machine_arn, 1, known=known, live=False, sleep=sleep)


def _new_executions(states: Any, machine_arn: str, known: Collection[str]) -> dict[str, str]:
    """Return the status of each execution that is not known, newest first, as AWS lists them."""
    new: dict[str, str] = {}
    for page in states.get_paginator("list_executions").paginate(stateMachineArn=machine_arn):
        found = {item["executionArn"]: item["status"] for item in page["executions"]}
        new |= {arn: status for arn, status in found.items() if arn not in known}
        if found and not found.keys() - known:
            break  # what follows is older still
    return new


def overview(states: Any, arns: Iterable[str]) -> pd.DataFrame:
    """Return executions as a table, by file: batch and status, and the reason where there is no result.

    A batch is empty where an execution did not get as far as to have one.
    """
    table = pd.DataFrame([_row(states.describe_execution(executionArn=arn)) for arn in arns], columns=list(COLUMNS))
    # partition_10 after partition_9
    return table.sort_values("file", key=lambda files: files.map(_in_order), ignore_index=True)


def _row(execution: Mapping[str, Any]) -> tuple[str, str, str, str]:
    key = json.loads(execution["input"])["object"]["key"]
    batch = str(json.loads(execution["output"])["batch_id"]) if "output" in execution else ""
    reason = ": ".join(filter(None, [execution.get("error"), execution.get("cause")]))
    return key, batch, execution["status"], reason


def _in_order(name: str) -> tuple[int, str]:
    digits = "".join(filter(str.isdigit, name.rpartition("/")[2]))
    return int(digits or 0), name


def results(s3: Any, bucket: str, batch_id: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a batch's standardized table and its statistics. ``s3``: an S3 client."""
    prefix = f"prediction-data/{batch_id}"
    table, statistics = (
        s3.get_object(Bucket=bucket, Key=f"{prefix}/{name}")["Body"].read()
        for name in ("standardized.csv", "statistics.json")
    )
    return pd.read_csv(io.BytesIO(table)), json.loads(statistics)


def treated(statistics: Mapping[str, Any], *treatments: str) -> Sequence[str]:
    """Return the columns that were treated so: standardized, constant or not numeric."""
    return [column["name"] for column in statistics["columns"] if column["treatment"] in treatments]
