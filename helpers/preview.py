"""What a push would run and cost, told before the push: the dispatcher's own plan, made of the files in a clone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import manifests
from helpers.connection import Connection
from helpers.planning import plan as plans
from helpers.planning.costs import Estimate, count, dollars, estimate, explain
from helpers.planning.experiment import Place, read_experiment
from helpers.planning.yaml_nodes import FILE_NAME
from helpers.repository import git


@dataclass(frozen=True)
class Preview:
    """What would run: by step how many jobs of how many, in how many variants, and what they cost on AWS.

    ``problems``: why the dispatcher would refuse the push, each with its line; then nothing would run.
    """

    problems: tuple[str, ...] = ()
    variants: int = 0
    jobs: tuple[tuple[str, int, int], ...] = ()  # step, to run, in all
    estimate: Estimate | None = None
    target: str = "aws"

    def __str__(self) -> str:
        if self.problems or self.estimate is None:
            return "\n".join(["The push would be refused:", *(f"- {problem}" for problem in self.problems)])
        steps = ", ".join(f"{step} {to_run} of {known}" for step, to_run, known in self.jobs)
        return f"{count(self.variants, 'variant')}. Jobs to run: {steps}\n{explain(self.estimate, self.target)}"


def preview(s3: Any, clone: Path, workshop: Connection, repository: str) -> Preview:
    """Return what a push of ``clone`` as it stands would run, for a state machine that takes plans.

    Nothing is committed, uploaded or started. A job whose output is in the bucket does not run. What only the
    dispatcher can see (whether the state machine exists, whether it takes plans) is not checked.
    """
    blobs = _blobs(clone)
    place = Place("aws", workshop.region, workshop.account_id, workshop.prefix, workshop.bucket)
    if FILE_NAME not in blobs:
        return Preview((f"{FILE_NAME} is missing",))
    found = read_experiment((clone / FILE_NAME).read_bytes(), blobs, {}, place)
    if found.problems:
        return Preview(tuple(found.problems))
    values = found.values
    data = _data(s3, workshop.bucket, values["pipeline"]["input_data_uri"])
    if not data.objects:
        return Preview((found.problem("pipeline.input_data_uri", f"there is no object {data.uri}"),))
    sources = {path: (clone / path).read_bytes() for path in blobs if path.endswith(".py")}
    covered, problems = plans.cover(values, blobs, sources)
    if problems:
        return Preview(tuple(problems))
    drafted = plans.draft(values, blobs, covered, data, _run(clone, workshop, repository))
    plan = drafted.complete(_complete(s3, workshop.bucket, drafted))
    to_run = plans.to_run(plan)
    predicted = estimate(to_run, region=workshop.region)
    budget = values["budget"]
    if budget is not None and not predicted.usd <= budget:  # true as well when a price is not known
        too_much = f"the run is estimated at {dollars(predicted.usd)}, the budget is {dollars(budget)}"
        return Preview((found.problem("budget", too_much),))
    jobs = tuple((step, len(to_run[step]), len(items)) for step, items in plan["steps"].items())
    return Preview((), len(plan["variants"]), jobs, predicted, workshop.target)


def _blobs(clone: Path) -> dict[str, str]:
    """Return the files that a commit of everything would hold, with git's ids of their contents."""
    listed = git("ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=clone)
    paths = sorted({path for path in listed.split("\0") if path and (clone / path).is_file()})
    ids = git("hash-object", "--", *paths, cwd=clone).split() if paths else []
    return dict(zip(paths, ids, strict=True))


def _data(s3: Any, bucket: str, uri: str) -> plans.Data:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=uri.removeprefix(f"s3://{bucket}/"))
    listed = [entry for page in pages for entry in page.get("Contents", ()) if not entry["Key"].endswith("/")]
    objects = (plans.DataObject(entry["Key"], entry["ETag"].strip('"'), entry["Size"]) for entry in listed)
    return plans.Data(uri, tuple(objects))


def _run(clone: Path, workshop: Connection, repository: str) -> plans.Run:
    """Return the run of a commit that is yet to be made."""
    author = git("config", "user.name", cwd=clone)
    return plans.Run(
        id="preview",
        comment="",
        repository=repository,
        commit="0" * 40,
        ref="",
        author=author,
        pusher=author,
        bucket=workshop.bucket,
        prefix=workshop.prefix,
    )


def _complete(s3: Any, bucket: str, drafted: plans.Draft) -> set[str]:
    """Return the markers that are there. A key is looked for by listing it, as the dispatcher does."""

    def is_there(marker: str) -> bool:
        found = s3.list_objects_v2(Bucket=bucket, Prefix=marker, MaxKeys=1).get("Contents", ())
        return any(entry["Key"] == marker for entry in found)

    markers = [marker for step in drafted.markers().values() for marker in step]
    return {marker for marker, there in zip(markers, manifests.at_once(s3, is_there, markers), strict=True) if there}
