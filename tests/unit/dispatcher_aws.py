"""The dispatcher's modules, and CodeCommit, S3 and Step Functions in memory for its tests.

Every call and every answer of the fakes is held against botocore's model, so
that a parameter which AWS would refuse fails the test.
"""

import hashlib
import io
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from function_modules import load_function

from helpers import functions

HERE = Path(__file__).parent
FUNCTION_ARN = "arn:aws:lambda:us-east-1:123456789012:function:demo-exp-pipeline-dispatcher"
REPOSITORY, BUCKET, PREFIX = "demo-exp-project1", "demo-exp-project1-123456789012", "demo-exp"
MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:demo-exp-preprocess-train-predict-evaluate"
PLAN_MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:demo-exp-sweep"
DATA = "dataset/census-income.csv"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"
STEPS = ("preprocess", "train", "predict", "evaluate")


experiment, repository, dispatcher, bucket = load_function(
    functions.SOURCES / "pipeline_dispatcher", "planning.experiment", "repository", "lambda_function", "bucket"
)


def event(name: str) -> dict[str, Any]:
    """Return the event ``events/{name}.json``."""
    return json.loads((HERE / "events" / f"{name}.json").read_text())


def tip(an_event: dict[str, Any], reference: int = 0) -> str:
    """Return the commit of one of the event's references."""
    return an_event["Records"][0]["codecommit"]["references"][reference]["commit"]


def experiment_yml(**changes: str) -> str:
    """Return a valid experiment.yml; ``train_InstanceType="x"`` changes one value, None leaves the key out."""
    values = {
        "comment": "first try",
        "pipeline_stateMachineArn": MACHINE,
        "pipeline_input_data_uri": f"s3://{BUCKET}/{DATA}",
    }
    for step in STEPS:
        values |= {
            f"{step}_code": f"{step}.py",
            f"{step}_ImageUri": IMAGE,
            f"{step}_InstanceCount": "1",
            f"{step}_InstanceType": "ml.t3.medium",
            f"{step}_VolumeSizeInGB": "10",
        }
    values = {key: value for key, value in (values | changes).items() if value is not None}
    lines = [f"comment: {values['comment']}"] if "comment" in values else []
    for section in ("pipeline", *STEPS):
        lines.append(f"{section}:")
        lines += [f"  {key.partition('_')[2]}: {v}" for key, v in values.items() if key.startswith(f"{section}_")]
    return "\n".join(lines) + "\n"


def project(**changes: str) -> dict[str, bytes]:
    """Return the files of a repository that runs: experiment.yml (see there), four scripts and a sibling module."""
    files = {f"{step}.py": f"import lib.features  # {step}\n".encode() for step in STEPS}
    return files | {"experiment.yml": experiment_yml(**changes).encode(), "lib/features.py": b"COLUMNS = 9\n"}


class World(NamedTuple):
    """An account: the three services, with the data set and the state machine in place."""

    codecommit: "FakeCodeCommit"
    s3: "FakeS3"
    states: "FakeStates"

    def deliver(self, an_event: dict[str, Any]) -> list[dict[str, Any]]:
        """Have the dispatcher answer ``an_event``; return its answers."""
        pushes = dispatcher.plan(an_event, FUNCTION_ARN)
        clients = dispatcher.Clients(self.codecommit, self.s3, self.states)
        return [answer for push in pushes for answer in dispatcher.dispatch(push, BUCKET, PREFIX, clients)]

    def inputs(self) -> list[dict[str, Any]]:
        """Return the inputs of the executions that were started."""
        return [json.loads(text) for text in self.states.executions.values()]


def new_world() -> World:
    """Return an account in which an experiment can run."""
    return World(FakeCodeCommit(), FakeS3({DATA: b"age\n"}), FakeStates({MACHINE, PLAN_MACHINE}))


@cache
def _model(service: str) -> ServiceModel:
    return ServiceModel(Loader().load_service_model(service, "service-2"), service)


class Fake:
    """Base of the fakes: ``client.get_commit(…)`` runs ``do_get_commit(params)`` between two checks."""

    service = ""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failures: list[tuple[str, str]] = []  # (operation, error code): each fails one call

    def __getattr__(self, method: str) -> Any:
        if method.startswith(("_", "do_")):
            raise AttributeError(method)
        operation = next(name for name in _model(self.service).operation_names if xform_name(name) == method)
        model, run = _model(self.service).operation_model(operation), getattr(self, f"do_{method}")

        def call(**params: Any) -> dict[str, Any]:
            _check(operation, params, model.input_shape)
            self.calls.append(operation)
            for failure in self.failures:
                if failure[0] == operation:
                    self.failures.remove(failure)
                    raise error(operation, failure[1])
            answer = run(params)
            _check(operation, answer, model.output_shape)
            return answer

        return call


def error(operation: str, code: str) -> ClientError:
    """Return the exception that a client raises for an error of AWS."""
    return ClientError({"Error": {"Code": code, "Message": code}}, operation)


def _check(operation: str, value: dict[str, Any], shape: Any) -> None:
    report = ParamValidator().validate(value, shape)
    unknown = set(value) - set(shape.members) if shape else set(value)
    assert not report.has_errors(), f"{operation}: {report.generate_report()}"
    assert not unknown, f"{operation}: unknown {unknown}"


class FakeCodeCommit(Fake):
    """One repository, whose commits are whole trees: path to content."""

    service = "codecommit"
    page_size = 100
    author = "Ada L."

    def __init__(self) -> None:
        super().__init__()
        self.commits: dict[str, dict[str, Any]] = {}
        self.blobs: dict[str, bytes] = {}
        self.comments: dict[str, dict[str, Any]] = {}  # by clientRequestToken
        self.renames_as_modification = False

    def commit(
        self, commit_id: str, files: dict[str, bytes], *parents: str, links: dict[str, str] | None = None
    ) -> str:
        """Add a commit; ``links`` are paths that are no files: "symbolicLinks" or "subModules". Return its id."""
        self.commits[commit_id] = {
            "files": files,
            "parents": list(parents),
            "links": links or {},
            "author": self.author,
        }
        self.blobs |= {_blob_id(content): content for content in files.values()}
        return commit_id

    def texts(self) -> list[str]:
        return [comment["content"] for comment in self.comments.values()]

    def _at(self, commit_id: str) -> dict[str, Any]:
        if commit_id not in self.commits:
            raise error("GetCommit", "CommitDoesNotExistException")
        return self.commits[commit_id]

    def do_get_commit(self, params: dict[str, Any]) -> dict[str, Any]:
        commit = self._at(params["commitId"])
        author = {"name": commit["author"], "email": "ada@example.com", "date": "1767225600 +0000"}
        return {"commit": {"commitId": params["commitId"], "parents": commit["parents"], "author": author}}

    def do_get_differences(self, params: dict[str, Any]) -> dict[str, Any]:
        after = self._at(params["afterCommitSpecifier"])["files"]
        before = self._at(params["beforeCommitSpecifier"])["files"] if "beforeCommitSpecifier" in params else {}
        changes = [(path, path) for path in sorted(after | before) if after.get(path) != before.get(path)]
        if self.renames_as_modification:
            changes = _pair_renames(changes, before, after)
        start = int(params.get("NextToken", "0"))
        page = changes[start : start + self.page_size]
        answer: dict[str, Any] = {"differences": [_difference(old, new, before, after) for old, new in page]}
        if start + self.page_size < len(changes):
            answer["NextToken"] = str(start + self.page_size)
        return answer

    def do_get_file(self, params: dict[str, Any]) -> dict[str, Any]:
        files, path = self._at(params["commitSpecifier"])["files"], params["filePath"]
        if path not in files:
            raise error("GetFile", "FileDoesNotExistException")
        return {
            "commitId": params["commitSpecifier"],
            "blobId": _blob_id(files[path]),
            "filePath": path,
            "fileMode": "NORMAL",
            "fileSize": len(files[path]),
            "fileContent": files[path],
        }

    def do_get_folder(self, params: dict[str, Any]) -> dict[str, Any]:
        commit, folder = self._at(params["commitSpecifier"]), params["folderPath"].strip("/")
        prefix = f"{folder}/" if folder else ""
        answer: dict[str, Any] = {
            "commitId": params["commitSpecifier"],
            "folderPath": folder,
            "subFolders": [],
            "files": [],
        }
        answer |= {"symbolicLinks": [], "subModules": []}
        for path in sorted(commit["files"]):
            name, _, rest = path.removeprefix(prefix).partition("/")
            place = {"absolutePath": prefix + name, "relativePath": name}
            if not path.startswith(prefix):
                continue
            if rest and place not in answer["subFolders"]:
                answer["subFolders"].append(place)
            elif not rest:
                answer["files"].append(place | {"blobId": _blob_id(commit["files"][path]), "fileMode": "NORMAL"})
        for path, sort in commit["links"].items():
            if path.rpartition("/")[0] == folder:
                answer[sort].append({"absolutePath": path, "relativePath": path.rpartition("/")[2]})
        return answer

    def do_get_blob(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"content": self.blobs[params["blobId"]]}

    def do_post_comment_for_compared_commit(self, params: dict[str, Any]) -> dict[str, Any]:
        self._at(params["afterCommitId"])
        assert len(params["content"]) <= 10_240
        if self._at(params["afterCommitId"])["parents"]:
            assert params["beforeCommitId"] in self._at(params["afterCommitId"])["parents"]
        known = self.comments.setdefault(params["clientRequestToken"], params)
        assert known == params, "IdempotencyParameterMismatchException"
        return {"afterCommitId": params["afterCommitId"], "comment": {"content": params["content"]}}


class FakeS3(Fake):
    """One bucket: key to content."""

    service = "s3"
    page_size = 1000

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__()
        self.objects = objects

    def json(self, key: str) -> Any:
        return json.loads(self.objects[key])

    def do_put_object(self, params: dict[str, Any]) -> dict[str, Any]:
        assert params["Bucket"] == BUCKET
        if params.get("IfNoneMatch") == "*" and params["Key"] in self.objects:
            raise error("PutObject", "PreconditionFailed")
        self.objects[params["Key"]] = params["Body"]
        return {}

    def do_get_object(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"Body": io.BytesIO(self.objects[params["Key"]])}

    def do_head_object(self, params: dict[str, Any]) -> dict[str, Any]:
        if params["Key"] not in self.objects:
            raise error("HeadObject", "404")  # the answer to a HEAD has no body that could name an error
        return {"ContentLength": len(self.objects[params["Key"]])}

    def do_list_objects_v2(self, params: dict[str, Any]) -> dict[str, Any]:
        prefix, after = params["Prefix"], params.get("ContinuationToken", "")
        entries: dict[str, dict[str, Any]] = {}
        for key in sorted(key for key in self.objects if key.startswith(prefix)):
            folder, slash, _ = key[len(prefix) :].partition("/")
            if slash and params.get("Delimiter") == "/":
                entries[f"{prefix}{folder}/"] = {"Prefix": f"{prefix}{folder}/"}
            else:
                etag = hashlib.md5(self.objects[key], usedforsecurity=False).hexdigest()
                entries[key] = {"Key": key, "ETag": f'"{etag}"', "Size": len(self.objects[key])}
        names = [name for name in entries if name > after]
        page = names[: params.get("MaxKeys", self.page_size)]
        answer: dict[str, Any] = {"IsTruncated": len(page) < len(names)}
        for kind, member in (("Contents", "Key"), ("CommonPrefixes", "Prefix")):
            if found := [entries[name] for name in page if member in entries[name]]:
                answer[kind] = found
        return answer | ({"NextContinuationToken": page[-1]} if answer["IsTruncated"] else {})


class FakeStates(Fake):
    """State machines whose executions never end, unless ``closed``."""

    service = "stepfunctions"

    def __init__(self, machines: set[str]) -> None:
        super().__init__()
        self.machines = machines
        self.executions: dict[str, str] = {}  # name: input
        self.closed = False

    def do_list_tags_for_resource(self, params: dict[str, Any]) -> dict[str, Any]:
        if params["resourceArn"] not in self.machines:
            raise error("ListTagsForResource", "ResourceNotFound")
        tags = {"workshop": PREFIX} | ({"input": "plan"} if params["resourceArn"] == PLAN_MACHINE else {})
        return {"tags": [{"key": key, "value": value} for key, value in tags.items()]}

    def do_start_execution(self, params: dict[str, Any]) -> dict[str, Any]:
        if params["stateMachineArn"] not in self.machines:
            raise error("StartExecution", "StateMachineDoesNotExist")
        known = self.executions.get(params["name"])
        if known is not None and (self.closed or known != params["input"]):
            raise error("StartExecution", "ExecutionAlreadyExists")
        self.executions[params["name"]] = params["input"]
        arn = params["stateMachineArn"].replace(":stateMachine:", ":execution:")
        return {"executionArn": f"{arn}:{params['name']}", "startDate": 1767225600}


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _difference(old: str, new: str, before: dict[str, bytes], after: dict[str, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = {"changeType": "M" if old in before and new in after else "A" if new in after else "D"}
    if old in before:
        found["beforeBlob"] = {"blobId": _blob_id(before[old]), "path": old, "mode": "100644"}
    if new in after:
        found["afterBlob"] = {"blobId": _blob_id(after[new]), "path": new, "mode": "100644"}
    return found


def _pair_renames(changes: list, before: dict[str, bytes], after: dict[str, bytes]) -> list[tuple[str, str]]:
    """Tell of a file that moved unchanged as one modification with two paths."""
    gone = {before[path]: path for path, _ in changes if path not in after}
    moved = {path: gone[after[path]] for path, _ in changes if path not in before and after[path] in gone}
    return [(moved.get(path, path), path) for path, _ in changes if path not in moved.values()]
