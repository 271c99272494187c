"""What the dispatcher answers to a commit: as a record in the bucket, and as a comment on the commit."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from planning.costs import Estimate, count
from planning.experiment import STEPS
from planning.plan import Document
from planning.yaml_nodes import quote
from pushes import Push
from repository import Commit, Tree

MAX_COMMENT = 10_000  # CodeCommit takes 10,240 characters

Answer = dict[str, Any]


def refused(push: Push, commit: Commit, problems: Sequence[str], tree: Tree) -> Answer:
    """Return the answer to a commit whose experiment is not started, for these reasons."""
    return _answer("refused", push, commit, tree, problems=problems)


def started(push: Push, commit: Commit, tree: Tree, execution: str, arn: str, plan: Document | None) -> Answer:
    """Return the answer to a commit whose ``execution`` has been started; ``plan``: of a machine that takes one."""
    answer = _answer("started", push, commit, tree, execution=execution, arn=arn)
    if plan:
        cached = [item["cached"] for items in plan["steps"].values() for item in items]
        answer["variants"] = len(plan["variants"])
        answer["jobs"] = {"run": cached.count(False), "cached": cached.count(True)}
        answer["estimate"] = plan["estimate"]
    return answer


def post(codecommit: Any, repository: str, commit: Commit, answer: Answer, results: str) -> None:
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
        head = f"**Experiment started: {answer['execution']}**\n\n{_work(answer)}\nResults: {results}\n"
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


def _work(answer: Mapping[str, Any]) -> str:
    steps = f"Steps: {' → '.join(STEPS)}\n"
    if "jobs" not in answer:
        return steps
    jobs = answer["jobs"]
    work = f"{count(jobs['run'], 'job')} to run, {jobs['cached']:,} complete already"
    estimate = "\n".join(Estimate.from_dict(answer["estimate"]).lines())
    return f"{steps}\n{count(answer['variants'], 'variant')}: {work}\n\n{estimate}\n"


def _answer(
    status: str,
    push: Push,
    commit: Commit,
    tree: Tree,
    *,
    execution: str | None = None,
    arn: str | None = None,
    problems: Sequence[str] = (),
) -> Answer:
    return {
        "status": status,
        "execution": execution,
        "executionArn": arn,
        "commit": commit.id,
        "ref": push.ref,
        "author": commit.author,
        "pusher": push.pusher,
        "problems": list(problems),
        "skipped": [f"{quote(path)}: {reason}" for path, reason in sorted(tree.skipped.items())],
    }
