"""Start an experiment for every pushed commit that asks for one.

A CodeCommit trigger invokes this function with the references that a push
changed. For each commit that is an experiment (docs/decisions/0003), the
repository's tree goes to ``s3://BUCKET/runs/{repository}/{commit}/``, the state
machine that experiment.yml names is started, and the answer, "started" or
everything that is wrong, is posted on the commit and kept as ``dispatch.json``.

A state machine that is tagged ``input=plan`` gets a plan, the jobs that must run;
any other one the experiment itself. The plan is kept as ``plan.json``.

Everything may happen twice without harm: names and contents depend on the
commit alone, and a plan, once kept, is used again. So an error of AWS raises,
and Lambda's asynchronous retries run the event again.

Environment: BUCKET (of the runs), PREFIX (of the state machines' names).

IAM actions, and nothing else:
    codecommit:GetCommit, GetDifferences, GetFile, GetFolder, GetBlob,
        PostCommentForComparedCommit            on the repository
    s3:PutObject, s3:GetObject                  on BUCKET/runs/* and BUCKET/dispatcher/*
    s3:ListBucket                               on BUCKET, without a prefix condition: makes a missing
                                                key a 404, lists the data set, finds complete jobs and
                                                a misspelt input_data_uri
    states:StartExecution, ListTagsForResource  on stateMachine:PREFIX-*
"""

import json
import os
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from answers import Answer, post
from attempt import Ahead, Attempt, execution_name
from bucket import exists
from planning.experiment import Place
from planning.yaml_nodes import FILE_NAME
from pushes import Push, plan, pusher_name
from repository import Commit, read_experiment_file, read_history, read_tree
from services import POOL, Clients, clients

__all__ = ["Clients", "Push", "choose", "dispatch", "execution_name", "lambda_handler", "plan", "pusher_name"]


@dataclass(frozen=True)
class Candidate:
    """A commit to answer.

    ``is_experiment``: it runs if it holds an experiment.yml. Otherwise it is
    refused for the ``misplaced`` files, which only look like one.
    """

    commit: Commit
    is_experiment: bool
    misplaced: tuple[str, ...] = ()


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer every reference of a CodeCommit event."""
    pushes = plan(event, context.invoked_function_arn)
    bucket, prefix = os.environ["BUCKET"], os.environ["PREFIX"]
    return {"answers": [answer for push in pushes for answer in dispatch(push, bucket, prefix, clients())]}


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


def dispatch(push: Push, bucket: str, prefix: str, aws: Clients) -> list[Answer]:
    """Answer each experiment of ``push`` that has no answer yet, and return these answers.

    The commits are marked as seen last of all, the tip after the others: until
    then a repeated event does everything again, with the same outcome.
    """
    if push.ignored:
        _log("ignored", push, reason=push.ignored)
        return []
    seen = f"dispatcher/{push.repository}/seen"
    ahead = _look(push, push.commit, bucket, aws)  # most pushes are one commit that is an experiment
    history = read_history(
        aws.codecommit, push.repository, push.commit, lambda commit: exists(aws.s3, bucket, f"{seen}/{commit}"), POOL
    )
    place = Place(push.partition, push.region, push.account, prefix, bucket)
    answers = []
    for candidate in choose(history):
        commit = candidate.commit
        found = ahead if commit.id == push.commit else _look(push, commit.id, bucket, aws)
        answer = _answer(push, candidate, found, place, aws)
        if answer:
            answers.append(answer)
    under_way: list[Future[Any]] = [ahead.answered, ahead.content, ahead.tree]
    wait(under_way)  # a worker is frozen once it has answered
    for commit in reversed(history):
        aws.s3.put_object(Bucket=bucket, Key=f"{seen}/{commit.id}", Body=b"")
    _log("seen", push, commits=len(history), answers=len(answers))
    return answers


def _look(push: Push, commit_id: str, bucket: str, aws: Clients) -> Ahead:
    """Begin to read what the answer to a commit that is an experiment needs."""
    key = f"runs/{push.repository}/{commit_id}/dispatch.json"
    answered: Future[bool] = POOL.submit(exists, aws.s3, bucket, key)
    content = POOL.submit(read_experiment_file, aws.codecommit, push.repository, commit_id)
    return Ahead(answered, content, POOL.submit(read_tree, aws.codecommit, push.repository, commit_id))


def _answer(push: Push, candidate: Candidate, ahead: Ahead, place: Place, aws: Clients) -> Answer | None:
    """Start or refuse one commit's experiment; None when it has been answered before or is none."""
    commit = candidate.commit
    run = f"runs/{push.repository}/{commit.id}"
    if ahead.answered.result():
        _log("answered before", push, commit=commit.id)
        return None
    attempt = Attempt(push, commit, place, aws, ahead)
    answer = attempt.run() if candidate.is_experiment else None
    if answer is None and candidate.misplaced:
        problems = [
            f"{path}: the file must be named {FILE_NAME} and lie at the root of the repository"
            for path in candidate.misplaced
        ]
        answer = attempt.refuse(problems)
    if answer is None:
        _log("no experiment", push, commit=commit.id)
        return None
    post(aws.codecommit, push.repository, commit, answer, f"s3://{place.bucket}/{run}/")
    # Last, so that its presence means that everything above is done
    body = json.dumps(answer, indent=2, ensure_ascii=False).encode()
    aws.s3.put_object(Bucket=place.bucket, Key=f"{run}/dispatch.json", Body=body, ContentType="application/json")
    _log(answer["status"], push, commit=commit.id, execution=answer["execution"], problems=answer["problems"])
    return answer


def _is_code(path: str) -> bool:
    name = PurePosixPath(path).name
    return name.endswith(".py") or name == "requirements.txt"


def _is_misplaced(path: str) -> bool:
    return path != FILE_NAME and PurePosixPath(path).name.lower() in ("experiment.yml", "experiment.yaml")


def _log(decision: str, push: Push, **details: Any) -> None:
    """Print one line of JSON, which CloudWatch Logs Insights can query."""
    print(json.dumps({"decision": decision, "repository": push.repository, "ref": push.ref, **details}))


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    clients()  # while the worker starts: later they would keep the first push waiting
