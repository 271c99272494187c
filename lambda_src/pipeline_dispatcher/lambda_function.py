"""Start an experiment for every pushed commit that asks for one.

A CodeCommit trigger invokes this function with the references that a push
changed. For each commit that is an experiment (docs/decisions/0003), the
repository's tree goes to ``s3://BUCKET/runs/{repository}/{commit}/``, the state
machine that experiment.yml names is started, and the answer, "started" or
everything that is wrong, is posted on the commit and kept as ``dispatch.json``.

Everything may happen twice without harm: names and contents depend on the
commit alone. So an error of AWS raises, and Lambda's asynchronous retries run
the event again.

Environment: BUCKET (of the runs), PREFIX (of the state machines' names).

IAM actions, and nothing else:
    codecommit:GetCommit, GetDifferences, GetFile, GetFolder, GetBlob,
        PostCommentForComparedCommit            on the repository
    s3:PutObject, s3:GetObject                  on BUCKET/runs/* and BUCKET/dispatcher/*
    s3:ListBucket                               on BUCKET, without a prefix condition: makes a missing
                                                key a 404, and finds a misspelt input_data_uri
    states:StartExecution                       on stateMachine:PREFIX-*
"""

import json
import os
import re
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import boto3
from botocore.exceptions import ClientError
from experiment import CODE_ROOT, STEPS, Experiment, Place, closest, read_experiment
from repository import (
    THREADS,
    Commit,
    Tree,
    download,
    error_code,
    read_experiment_file,
    read_history,
    read_tree,
)
from yaml_nodes import FILE_NAME, UnreadableError, quote

MAX_INPUT_BYTES = 262_144  # of an execution, as Step Functions documents
MAX_COMMENT = 10_000  # CodeCommit takes 10,240 characters


@dataclass(frozen=True)
class Push:
    """One reference of an event. ``ignored`` says why it starts nothing, if so."""

    partition: str
    region: str
    account: str
    repository: str
    ref: str
    commit: str
    pusher: str
    ignored: str = ""


@dataclass(frozen=True)
class Candidate:
    """A commit to answer.

    ``is_experiment``: it runs if it holds an experiment.yml. Otherwise it is
    refused for the ``misplaced`` files, which only look like one.
    """

    commit: Commit
    is_experiment: bool
    misplaced: tuple[str, ...] = ()


@dataclass(frozen=True)
class Clients:
    """The three services that the dispatcher calls."""

    codecommit: Any
    s3: Any
    states: Any


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer every reference of a CodeCommit event."""
    pushes = plan(event, context.invoked_function_arn)
    bucket, prefix = os.environ["BUCKET"], os.environ["PREFIX"]
    return {"answers": [answer for push in pushes for answer in dispatch(push, bucket, prefix, clients())]}


@cache
def clients() -> Clients:
    """Return the boto3 clients, made once in the life of the worker."""
    return Clients(boto3.client("codecommit"), boto3.client("s3"), boto3.client("stepfunctions"))


def plan(event: Mapping[str, Any], function_arn: str) -> list[Push]:
    """Return every reference of every record of ``event``.

    Raises ValueError for a record that is not of a CodeCommit repository in the
    account and region of the function.
    """
    partition, _, region, account = function_arn.split(":")[1:5]
    pushes = []
    for record in event["Records"]:
        arn = record["eventSourceARN"]
        found = re.fullmatch(rf"arn:{partition}:codecommit:{region}:{account}:([\w.-]{{1,100}})", arn)
        if not found:
            raise ValueError(f"{arn} is not a CodeCommit repository of account {account} in {region}")
        for reference in record["codecommit"]["references"]:
            push = Push(
                partition=partition,
                region=region,
                account=account,
                repository=found[1],
                ref=reference["ref"],
                commit=reference.get("commit", ""),
                pusher=pusher_name(record.get("userIdentityARN") or ""),
                ignored=_why_ignored(record, reference),
            )
            pushes.append(push)
    return pushes


def pusher_name(arn: str) -> str:
    """Return who pushed: a user's name, ``root``, or ``role/session``; an ARN of another form as it is."""
    kind, _, rest = arn.rpartition(":")[2].partition("/")
    if not arn.startswith("arn:") or not (rest or kind == "root"):
        return arn
    names = {"root": "root", "user": rest.rpartition("/")[2], "federated-user": rest}
    if kind == "assumed-role":
        return "/".join(rest.split("/")[-2:])  # a path may stand before the role's name
    return names.get(kind, arn)


def choose(history: list[Commit]) -> list[Candidate]:
    """Return the commits of ``history`` (newest first) that are experiments or look like one, oldest first.

    A commit is an experiment when it adds or modifies experiment.yml at the
    root; the tip is one too when Python code or requirements changed since.
    """
    candidates, code_changed = [], False
    for commit in reversed(history):
        is_experiment = FILE_NAME in commit.written
        code_changed = not is_experiment and (code_changed or any(map(_is_code, commit.written | commit.removed)))
        misplaced = tuple(sorted(filter(_is_misplaced, commit.written)))
        runs_code = code_changed and commit is history[0]
        if is_experiment or misplaced or runs_code:
            candidates.append(Candidate(commit, is_experiment or runs_code, misplaced))
    return candidates


def execution_name(repository: str, commit_id: str) -> str:
    """Return the name of a commit's execution; with a step's name and a number it still fits a processing job."""
    return f"{re.sub('[^A-Za-z0-9-]', '-', repository)[:32].strip('-') or 'run'}-{commit_id[:12]}"


def dispatch(push: Push, bucket: str, prefix: str, aws: Clients) -> list[dict[str, Any]]:
    """Answer each experiment of ``push`` that has no answer yet, and return these answers.

    The commits are marked as seen last of all, the tip after the others: until
    then a repeated event does everything again, with the same outcome.
    """
    if push.ignored:
        _log("ignored", push, reason=push.ignored)
        return []
    seen = f"dispatcher/{push.repository}/seen"
    history = read_history(
        aws.codecommit, push.repository, push.commit, lambda commit: _exists(aws.s3, bucket, f"{seen}/{commit}")
    )
    place = Place(push.partition, push.region, push.account, prefix, bucket)
    answers = [answer for candidate in choose(history) if (answer := _answer(push, candidate, place, aws))]
    for commit in reversed(history):
        aws.s3.put_object(Bucket=bucket, Key=f"{seen}/{commit.id}", Body=b"")
    _log("seen", push, commits=len(history), answers=len(answers))
    return answers


def _answer(push: Push, candidate: Candidate, place: Place, aws: Clients) -> dict[str, Any] | None:
    """Start or refuse one commit's experiment; None when it has been answered before or is none."""
    commit = candidate.commit
    run = f"runs/{push.repository}/{commit.id}"
    if _exists(aws.s3, place.bucket, f"{run}/dispatch.json"):
        _log("answered before", push, commit=commit.id)
        return None
    answer = _start_or_refuse(push, candidate, f"s3://{place.bucket}/{run}", place, aws)
    if answer is None:
        _log("no experiment", push, commit=commit.id)
        return None
    _comment(push.repository, commit, answer, f"s3://{place.bucket}/{run}/", aws.codecommit)
    # Last, so that its presence means that everything above is done
    body = json.dumps(answer, indent=2, ensure_ascii=False).encode()
    aws.s3.put_object(Bucket=place.bucket, Key=f"{run}/dispatch.json", Body=body, ContentType="application/json")
    _log(answer["status"], push, commit=commit.id, execution=answer["execution"], problems=answer["problems"])
    return answer


def _start_or_refuse(
    push: Push, candidate: Candidate, run_uri: str, place: Place, aws: Clients
) -> dict[str, Any] | None:
    commit = candidate.commit
    try:
        content = read_experiment_file(aws.codecommit, push.repository, commit.id) if candidate.is_experiment else None
    except UnreadableError as error:
        return _refused(push, commit, [str(error)], Tree())
    if content is None:
        problems = [
            f"{path}: the file must be named {FILE_NAME} and lie at the root of the repository"
            for path in candidate.misplaced
        ]
        return _refused(push, commit, problems, Tree()) if problems else None
    tree = read_tree(aws.codecommit, push.repository, commit.id)
    if FILE_NAME in tree.skipped:
        return _refused(push, commit, [f"{FILE_NAME}: {tree.skipped[FILE_NAME]}: it must be a file"], tree)
    experiment = read_experiment(content, tree.files, tree.skipped, place)
    problems = [*experiment.problems, *_data_problems(experiment, aws.s3, place.bucket), *tree.problems]
    with tempfile.TemporaryDirectory() as folder:
        if not tree.problems:
            problems += download(aws.codecommit, push.repository, tree.files, Path(folder))
        if problems:
            return _refused(push, commit, problems, tree)
        execution_input = make_input(push, commit, experiment, run_uri)
        if len(execution_input.encode()) > MAX_INPUT_BYTES:
            too_long = f"{FILE_NAME}: with it the execution's input exceeds {MAX_INPUT_BYTES:,} bytes: shorten it"
            return _refused(push, commit, [too_long], tree)
        _upload(aws.s3, run_uri, content, tree, Path(folder))
    return _start(push, commit, experiment, execution_input, tree, aws.states)


def make_input(push: Push, commit: Commit, experiment: Experiment, run_uri: str) -> str:
    """Return the JSON input of the execution: the experiment, completed by what its author need not know."""
    steps = {
        step: {
            **experiment.values[step],
            "code": f"{run_uri}/code/",
            "ContainerEntrypoint": ["python3", f"{CODE_ROOT}/{experiment.values[step]['code']}"],
            "output_data_uri": f"{run_uri}/{step}/",
        }
        for step in STEPS
    }
    document = {
        "id": execution_name(push.repository, commit.id),
        "comment": experiment.values["comment"],
        "repository": push.repository,
        "commit": commit.id,
        "ref": push.ref,
        "author": commit.author,
        "pusher": push.pusher,
        "run_uri": run_uri,
        "pipeline": experiment.values["pipeline"],
        **steps,
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _upload(s3: Any, run_uri: str, content: bytes, tree: Tree, folder: Path) -> None:
    bucket, _, run = run_uri.removeprefix("s3://").partition("/")

    def put(item: tuple[int, str]) -> None:
        number, path = item
        s3.put_object(Bucket=bucket, Key=f"{run}/code/{path}", Body=(folder / str(number)).read_bytes())

    s3.put_object(Bucket=bucket, Key=f"{run}/{FILE_NAME}", Body=content)
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(put, enumerate(tree.files)):
            pass  # a failed upload raises here


def _start(
    push: Push, commit: Commit, experiment: Experiment, execution_input: str, tree: Tree, states: Any
) -> dict[str, Any]:
    name, machine = execution_name(push.repository, commit.id), experiment.values["pipeline"]["stateMachineArn"]
    try:
        states.start_execution(stateMachineArn=machine, name=name, input=execution_input)
    except ClientError as error:
        if error_code(error) in ("StateMachineDoesNotExist", "StateMachineDeleting"):
            there_is_none = experiment.problem("pipeline.stateMachineArn", "there is no such state machine")
            return _refused(push, commit, [there_is_none], tree)
        if error_code(error) != "ExecutionAlreadyExists":  # an earlier delivery of the event started it
            raise
    arn = f"{machine.replace(':stateMachine:', ':execution:')}:{name}"
    return _make_answer("started", push, commit, tree, execution=name, arn=arn)


def _refused(push: Push, commit: Commit, problems: list[str], tree: Tree) -> dict[str, Any]:
    return _make_answer("refused", push, commit, tree, problems=problems)


def _make_answer(
    status: str,
    push: Push,
    commit: Commit,
    tree: Tree,
    *,
    execution: str | None = None,
    arn: str | None = None,
    problems: Sequence[str] = (),
) -> dict[str, Any]:
    return {
        "status": status,
        "execution": execution,
        "executionArn": arn,
        "commit": commit.id,
        "ref": push.ref,
        "author": commit.author,
        "pusher": push.pusher,
        "problems": list(problems),
        "skipped": _skipped(tree),
    }


def _skipped(tree: Tree) -> list[str]:
    return [f"{quote(path)}: {reason}" for path, reason in sorted(tree.skipped.items())]


def _data_problems(experiment: Experiment, s3: Any, bucket: str) -> list[str]:
    """Return a problem, with a suggestion, when the experiment's input data is not in the bucket."""
    uri = (experiment.values.get("pipeline") or {}).get("input_data_uri")
    if not uri:
        return []  # the file's own problem, already noted
    key = uri.removeprefix(f"s3://{bucket}/")
    first = s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", ())
    if any(entry["Key"] == key for entry in first):  # of the keys with a prefix, the prefix itself sorts first
        return []
    folder = key.rpartition("/")[0].rpartition("/")[0]
    near = s3.list_objects_v2(Bucket=bucket, Prefix=f"{folder}/" if folder else "").get("Contents", ())
    match = closest(key, [entry["Key"] for entry in near])
    hint = f" Did you mean {quote(f's3://{bucket}/{match}', 300)}?" if match else ""
    return [experiment.problem("pipeline.input_data_uri", f"there is no object {quote(uri, 300)}.{hint}")]


def _comment(repository: str, commit: Commit, answer: dict[str, Any], results: str, codecommit: Any) -> None:
    """Post the answer on the commit, where the pusher looks for it; posting the same again does nothing."""
    content = comment_text(answer, results)
    between = {"beforeCommitId": commit.parent} if commit.parent else {}  # the root commit has nothing before it
    codecommit.post_comment_for_compared_commit(
        repositoryName=repository,
        afterCommitId=commit.id,
        content=content,
        clientRequestToken=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{repository}/{commit.id}\n{content}")),
        **between,
    )


def comment_text(answer: Mapping[str, Any], results: str) -> str:
    """Return ``answer`` in Markdown, within CodeCommit's limit for comments."""
    if answer["status"] == "started":
        head = f"**Experiment started: {answer['execution']}**\n\nSteps: {' → '.join(STEPS)}\n\nResults: {results}\n"
        title, items = "\nFiles that are not copied to the run:\n", answer["skipped"]
    else:
        head = "**Experiment not started**\n"
        title, items = "\nCorrect this, commit and push again:\n", answer["problems"]
    text = head + title if items else head
    for number, item in enumerate(items):
        if len(text) + len(item) > MAX_COMMENT:
            return f"{text}- … and {len(items) - number} more, in {results}dispatch.json\n"
        text += f"- {item}\n"
    return text


def _why_ignored(record: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    if record.get("eventName") == "TriggerEventTest":
        return "the trigger was only tested"
    if reference.get("deleted"):
        return "the reference was deleted"
    if not reference["ref"].startswith("refs/heads/"):
        return "the reference is not a branch"
    return ""


def _is_code(path: str) -> bool:
    name = PurePosixPath(path).name
    return name.endswith(".py") or name == "requirements.txt"


def _is_misplaced(path: str) -> bool:
    return path != FILE_NAME and PurePosixPath(path).name.lower() in ("experiment.yml", "experiment.yaml")


def _exists(s3: Any, bucket: str, key: str) -> bool:
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error_code(error) not in ("404", "NoSuchKey", "NotFound"):
            raise
        return False
    return True


def _log(decision: str, push: Push, **details: Any) -> None:
    """Print one line of JSON, which CloudWatch Logs Insights can query."""
    print(json.dumps({"decision": decision, "repository": push.repository, "ref": push.ref, **details}))
