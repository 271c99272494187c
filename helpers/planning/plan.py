"""Turn a commit's experiment into a plan: the jobs of each step, and which of them must run.

A job's key is a digest of all that determines its output, so the same key means the
same output: it lies under ``steps/{step}/{key}/``, and is complete once the marker
``done.json`` is there. Everything here is a pure function of its arguments.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .experiment import CODE_ROOT, STEPS
from .modules import SourceError, imported_files, search_path
from .patterns import matches
from .sweep import apply, describe, variants

# What each step reads besides the code: the data set, and the outputs of earlier steps
INPUTS: dict[str, tuple[str, ...]] = {
    "preprocess": ("data",),
    "train": ("preprocess",),
    "predict": ("preprocess", "train"),
    "evaluate": ("preprocess", "train", "predict"),
}
REQUIREMENTS = "requirements.txt"
MAX_INPUT_BYTES = 262_144  # of an execution, as Step Functions documents
INPUT_ROOT = "/opt/ml/processing/input"
PLANNED_ONLY = ("cached", "code", "inputs")  # parts of an item that the plan keeps and no state reads

Item = dict[str, Any]
Document = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """Whose plan it is. ``prefix``: of the names of jobs."""

    id: str
    comment: str
    repository: str
    commit: str
    ref: str
    author: str
    pusher: str
    bucket: str
    prefix: str

    @property
    def folder(self) -> str:
        """Return the prefix of the run's keys, without a slash at its end."""
        return f"runs/{self.repository}/{self.commit}"

    @property
    def uri(self) -> str:
        """Return where the run lies in S3."""
        return f"s3://{self.bucket}/{self.folder}"


@dataclass(frozen=True)
class DataObject:
    """An object of the data set, as S3 lists it."""

    key: str
    etag: str
    size: int


@dataclass(frozen=True)
class Data:
    """The data set: every object that a job downloads for ``uri``."""

    uri: str
    objects: tuple[DataObject, ...]

    @property
    def version(self) -> str:
        """Return a digest of the objects, 12 hexadecimal digits."""
        return digest(self.listed())[:12]

    def listed(self) -> list[list[Any]]:
        """Return [key, ETag, size] of each object, sorted."""
        return sorted([item.key, item.etag, item.size] for item in self.objects)


@dataclass(frozen=True)
class Draft:
    """Every job of the experiment, before it is known which have run: by step, key to item."""

    run: Run
    data: Data
    items: dict[str, dict[str, Item]]
    variants: list[dict[str, Any]]

    def markers(self) -> dict[str, list[str]]:
        """Return the keys of the objects that tell whether jobs are complete, by step."""
        return {step: [item["marker"] for item in items.values()] for step, items in self.items.items()}

    def complete(self, existing: Collection[str]) -> Document:
        """Return the plan, as ``plan.json`` keeps it. ``existing``: the markers that are there."""
        steps: dict[str, list[Item]] = {}
        for step, items in self.items.items():
            steps[step] = [item | {"cached": item["marker"] in existing} for item in items.values()]
        to_run = {item["marker"] for items in steps.values() for item in items if not item["cached"]}
        for item in (item for items in steps.values() for item in items):
            earlier = [marker(step, key) for step, key in item["inputs"].items() if marker(step, key) in to_run]
            item["needs"] = earlier[-1] if earlier else ""
        run = self.run
        objects = [asdict(item) for item in sorted(self.data.objects, key=lambda item: item.key)]
        return {
            "id": run.id,
            **{name: getattr(run, name) for name in ("comment", "repository", "commit", "ref", "author", "pusher")},
            "bucket": run.bucket,
            "run": run.folder,
            "run_uri": run.uri,
            "steps": steps,
            "variants": self.variants,
            "data": {"uri": self.data.uri, "version": self.data.version, "objects": objects},
        }


@dataclass(frozen=True)
class Started:
    """The input of an execution, and the files that it reads: key to the items of a step."""

    input: str
    files: dict[str, list[Item]] = field(default_factory=dict)


def make_plan(
    values: Mapping[str, Any],
    blobs: Mapping[str, str],
    sources: Mapping[str, bytes],
    data: Data,
    existing: Collection[str],
    run: Run,
) -> Document:
    """Return the plan of an experiment, as ``plan.json`` keeps it (see ``draft`` and ``Draft.complete``)."""
    covered, problems = cover(values, blobs, sources)
    if problems:
        raise ValueError("; ".join(problems))
    return draft(values, blobs, covered, data, run).complete(existing)


def cover(
    values: Mapping[str, Any], paths: Iterable[str], sources: Mapping[str, bytes]
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the files that each step's jobs see, and a problem for each module that is not Python.

    ``values``: of a valid experiment. ``paths``: of the repository's files; ``sources``: of those, the contents of
    the Python ones.
    """
    paths, covered, problems = list(paths), {}, dict[str, None]()
    for step in STEPS:
        script, environment = values[step]["code"], values[step].get("environment", {})
        try:
            found = imported_files(script, sources, search_path(script, environment, CODE_ROOT))
        except SourceError as error:
            problems[str(error)] = None
            continue
        found |= {path for path in paths for pattern in values[step].get("files", ()) if matches(pattern, path)}
        covered[step] = sorted(found | ({REQUIREMENTS} & set(paths)))
    return covered, list(problems)


def draft(
    values: Mapping[str, Any], blobs: Mapping[str, str], covered: Mapping[str, Sequence[str]], data: Data, run: Run
) -> Draft:
    """Return every job of an experiment; variants share those that would give the same output.

    ``values``: of a valid experiment; ``blobs``: path to git's blob id; ``covered``: see ``cover``.
    """
    items: dict[str, dict[str, Item]] = {step: {} for step in STEPS}
    listed: dict[tuple[str, ...], dict[str, Any]] = {}
    for changes in variants(values["sweep"]):
        jobs: dict[str, str] = {}
        for step in STEPS:
            settings = values[step] | {"args": apply(values[step]["args"], changes.get(step, {}))}
            code = {path: blobs[path] for path in covered[step]}
            inputs = {source: jobs[source] for source in INPUTS[step] if source != "data"}
            cached = settings.get("cache", values["cache"])
            key = jobs[step] = job_key(step, settings, code, inputs, data, None if cached else run)
            if key not in items[step]:
                items[step][key] = _item(step, key, settings, list(code), inputs, data, run)
        listed.setdefault(tuple(jobs.values()), {"changed": describe(changes), "jobs": jobs})
    return Draft(run, data, items, list(listed.values()))


def job_key(
    step: str,
    settings: Mapping[str, Any],
    code: Mapping[str, str],
    inputs: Mapping[str, str],
    data: Data,
    run: Run | None,
) -> str:
    """Return the digest of what determines a job's output, 32 hexadecimal digits.

    ``code``: path to blob id of the files that the job sees. ``inputs``: keys of earlier steps' jobs. ``run``: of a
    job that is not to be cached, whose output stays with its commit.
    """
    determined = {
        "step": step,
        "script": settings["code"],
        "code": dict(code),
        "image": settings["ImageUri"],
        "args": list(settings["args"]),
        "environment": settings.get("environment", {}),
        "instances": settings["InstanceCount"],
        "inputs": dict(inputs),
    }
    if "data" in INPUTS[step]:
        determined["data"] = [data.uri, data.listed()]  # the URI decides the names under which a job finds them
    if run:
        determined["run"] = [run.repository, run.commit]
    return digest(determined)[:32]


def digest(value: Any) -> str:
    """Return the SHA-256 of ``value`` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def marker(step: str, key: str) -> str:
    """Return the key of the object that tells that a job is complete."""
    return f"steps/{step}/{key}/done.json"


def to_run(plan: Document) -> dict[str, list[Item]]:
    """Return the items of a plan whose jobs must run, by step."""
    return {step: [item for item in items if not item["cached"]] for step, items in plan["steps"].items()}


def start(plan: Document, *, max_bytes: int = MAX_INPUT_BYTES) -> Started:
    """Return what an execution is started with.

    "inline" while the jobs that must run fit its input; else "distributed": the input is without them, and a file
    for each step holds all its items. Raises ValueError when even that input is too long.
    """
    head = {name: value for name, value in plan.items() if name not in ("steps", "variants", "data", "estimate")}
    steps = {step: [_executed(item) for item in items] for step, items in to_run(plan).items()}
    text = _dump({**head, "mode": "inline", "steps": steps})
    if len(text.encode()) <= max_bytes:
        return Started(text)
    text = _dump({**head, "mode": "distributed"})
    if len(text.encode()) > max_bytes:
        raise ValueError(f"the execution's input exceeds {max_bytes:,} bytes")
    files = {
        f"{plan['run']}/jobs/{step}.json": [_executed(item) for item in items] for step, items in plan["steps"].items()
    }
    return Started(text, files)


def manifests(run: Run, covered: Mapping[str, Sequence[str]]) -> dict[str, list[Any]]:
    """Return the manifest of each step's code, by key: the files that its jobs see."""
    prefix = {"prefix": f"{run.uri}/code/"}
    return {_manifest_key(run, step): [prefix, *paths] for step, paths in covered.items()}


def _manifest_key(run: Run, step: str) -> str:
    return f"{run.folder}/manifests/{step}.json"


def _item(
    step: str,
    key: str,
    settings: Mapping[str, Any],
    code: list[str],
    inputs: dict[str, str],
    data: Data,
    run: Run,
) -> Item:
    name = f"{run.prefix}-{step}-{key[:12]}"
    return {
        "step": step,
        "key": key,
        "job": name,
        "again": f"{name}-{run.commit[:6]}",
        "bucket": run.bucket,
        "marker": marker(step, key),
        "needs": "",
        "failure": f"{run.folder}/failures/{step}/{key}.json",
        "run": run.id,
        "ImageUri": settings["ImageUri"],
        "ContainerEntrypoint": ["python3", f"{CODE_ROOT}/{settings['code']}"],
        "ContainerArguments": settings["args"],
        "Environment": settings.get("environment", {}),
        **{name: settings[name] for name in ("InstanceCount", "InstanceType", "VolumeSizeInGB")},
        "ProcessingInputs": _processing_inputs(step, settings["InstanceCount"], inputs, data, run),
        "OutputUri": f"s3://{run.bucket}/steps/{step}/{key}/output/",
        "code": code,
        "inputs": inputs,
    }


def _processing_inputs(
    step: str, instances: int, inputs: Mapping[str, str], data: Data, run: Run
) -> list[dict[str, Any]]:
    found = [_input("code", f"s3://{run.bucket}/{_manifest_key(run, step)}", CODE_ROOT, kind="ManifestFile")]
    if "data" in INPUTS[step]:
        shared = data.uri.endswith("/") and instances > 1
        found.append(_input("data", data.uri, INPUT_ROOT, spread="ShardedByS3Key" if shared else "FullyReplicated"))
    for source, key in inputs.items():
        found.append(_input(source, f"s3://{run.bucket}/steps/{source}/{key}/output/", f"{INPUT_ROOT}/{source}"))
    return found


def _input(
    name: str, uri: str, local_path: str, *, kind: str = "S3Prefix", spread: str = "FullyReplicated"
) -> dict[str, Any]:
    s3_input = {"S3Uri": uri, "LocalPath": local_path, "S3DataType": kind, "S3InputMode": "File"}
    return {"InputName": name, "S3Input": s3_input | {"S3DataDistributionType": spread}}


def _executed(item: Item) -> Item:
    return {name: value for name, value in item.items() if name not in PLANNED_ONLY}


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
