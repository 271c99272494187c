"""The SageMaker API: processing jobs and their tags."""

import base64
import binascii
import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from helpers.local_aws.sagemaker import images
from helpers.local_aws.sagemaker import request as requests
from helpers.local_aws.sagemaker.hosts import Requests
from helpers.local_aws.sagemaker.jobs import Jobs
from helpers.local_aws.sagemaker.records import Job
from helpers.local_aws.wire import AwsError, Caller, Params, Permission, Service, Site
from helpers.local_aws.workers.forkserver import Forkserver

GRACE = 120.0  # seconds between SIGTERM and SIGKILL, as SageMaker documents
_MOST_TAGS = 50
_SUMMARIES = "ProcessingJobSummaries"

Entry = tuple[str, str, float, float]  # name, status, time of creation, time of modification
Assume = Callable[[str, str], dict[str, str]]
Require = Callable[[str, Sequence[Permission]], None]


class SageMaker(Service):
    """Run processing jobs as isolated processes of this machine.

    ``assume(role_arn, session_name)`` returns the AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN with which sagemaker.amazonaws.com
    acts in a role, and raises AwsError where the role does not let it.
    ``require(role_arn, permissions)`` raises AwsError unless the role has them.
    ``host_requests`` makes the HTTP requests of the jobs' hosts.
    """

    name: ClassVar[str] = "sagemaker"

    def __init__(
        self,
        site: Site,
        assume: Assume,
        require: Require,
        *,
        host_requests: Requests,
        forkserver: Forkserver | None = None,
        grace: float = GRACE,
    ) -> None:
        super().__init__(site)
        self._assume, self._require = assume, require
        self._jobs = Jobs(site, grace, host_requests, forkserver or Forkserver())

    def permissions(self, operation: str, params: Params) -> Sequence[Permission]:
        """Return what SageMaker's authorization reference demands for the operation."""
        action = f"sagemaker:{operation}"
        if operation == "CreateProcessingJob":
            arn = self._arn(params["ProcessingJobName"])
            needed = [Permission(action, arn, self._create_context(params))]
            if params.get("Tags"):
                needed.append(Permission("sagemaker:AddTags", arn))
            service = {"iam:PassedToService": "sagemaker.amazonaws.com"}
            return [*needed, Permission("iam:PassRole", params["RoleArn"], service)]
        if "ResourceArn" in params:
            return [Permission(action, params["ResourceArn"])]
        if "ProcessingJobName" in params:
            return [Permission(action, self._arn(params["ProcessingJobName"]))]
        return [Permission(action)]

    def wait(self, name: str, timeout: float | None = None) -> bool:
        """Block until the processing job ``name`` is final, woken by its end; False after ``timeout`` seconds.

        Raises ValidationException when there is no such job.
        """
        self._require_known(name)
        return self._jobs.wait(name, timeout)

    def knows(self, name: str) -> bool:
        """Tell whether a job has, or had, this name."""
        return self._jobs.known(name)

    def warm_up(self) -> None:
        """Load packages before the first job needs them; returns at once."""
        self._jobs.warm_up()

    def resume(self) -> None:
        """Run the jobs that waited when the embedded AWS was stopped; one whose role is gone fails."""
        for name in self._jobs.waiting():
            role = self._find(name)["request"]["RoleArn"]
            try:
                self._jobs.run(name, self._assume(role, "SageMaker"))
            except AwsError as error:
                self._jobs.fail(name, f"ClientError: {error.message}")

    def close(self) -> None:
        """End every job that runs, and the warm process."""
        self._jobs.close()

    def create_processing_job(self, params: Params, caller: Caller) -> Params:
        """Record and start a job. Names stay taken for ever, as on AWS."""
        request = requests.complete(params)
        name, arn = request["ProcessingJobName"], self._arn(params["ProcessingJobName"])
        tags = _merge([], request.pop("Tags", []))
        if self._jobs.known(name):
            raise self._taken(arn)
        try:
            credentials = self._assume(request["RoleArn"], "SageMaker")
        except AwsError as error:
            raise AwsError(
                "ValidationException",
                f"Could not assume role {request['RoleArn']}. Please ensure that the role exists and allows principal "
                "'sagemaker.amazonaws.com' to assume the role.",
            ) from error
        if not self._jobs.add(request, arn, tags):
            raise self._taken(arn)
        try:
            self._require(request["RoleArn"], images.pull_permissions(request["AppSpecification"]["ImageUri"]))
        except AwsError as error:  # AWS finds out when the instance is up: the job exists, and fails
            self._jobs.fail(name, f"ClientError: the image cannot be pulled: {error.message}")
        else:
            self._jobs.run(name, credentials)
        return {"ProcessingJobArn": arn}

    def describe_processing_job(self, params: Params, caller: Caller) -> Params:
        """Return everything about a job, as it was asked for and as it went."""
        job = self._find(params["ProcessingJobName"])
        return {**job["request"], **_state(job), **_times(job, started="ProcessingStartTime")}

    def list_processing_jobs(self, params: Params, caller: Caller) -> Params:
        """List jobs by the documented filters, newest first unless asked otherwise."""
        found = [entry for entry in self._jobs.index() if _matches(entry, params)]
        keys: dict[str, Callable[[Entry], Any]] = {
            "Name": lambda entry: entry[0],
            "Status": lambda entry: (entry[1], entry[2]),
            "CreationTime": lambda entry: entry[2],
        }
        descending = params.get("SortOrder", "Descending") == "Descending"
        found.sort(key=keys[params.get("SortBy", "CreationTime")], reverse=descending)
        page = _page(_SUMMARIES, found, params, 10)
        return page | {_SUMMARIES: [_summary(self._find(entry[0])) for entry in page[_SUMMARIES]]}

    def stop_processing_job(self, params: Params, caller: Caller) -> Params:
        """Send SIGTERM to a job's entrypoint, SIGKILL when it takes too long."""
        name = params["ProcessingJobName"]
        self._require_known(name)
        status = self._jobs.stop(name)
        if status not in ("InProgress", "Stopping"):
            raise AwsError(
                "ValidationException",
                f"The request was rejected because the processing job is in status {status}.",
            )
        return {}

    def add_tags(self, params: Params, caller: Caller) -> Params:
        """Add tags to a job, or change their values."""
        name, job = self._tagged(params["ResourceArn"])
        tags = _merge(job["tags"], params["Tags"])
        self._jobs.tag(name, tags)
        return {"Tags": tags}

    def list_tags(self, params: Params, caller: Caller) -> Params:
        """List the tags of a job."""
        _, job = self._tagged(params["ResourceArn"])
        return _page("Tags", job["tags"], params, _MOST_TAGS)

    def delete_tags(self, params: Params, caller: Caller) -> Params:
        """Remove tags from a job; keys that it does not have are no error."""
        name, job = self._tagged(params["ResourceArn"])
        self._jobs.tag(name, [tag for tag in job["tags"] if tag["Key"] not in params["TagKeys"]])
        return {}

    def _arn(self, name: str) -> str:
        return self.site.arn("sagemaker", f"processing-job/{name.lower()}")

    def _create_context(self, params: Params) -> dict[str, Any]:
        cluster = params["ProcessingResources"]["ClusterConfig"]
        tags = params.get("Tags", [])
        context: dict[str, Any] = {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in tags}
        if "InstanceType" in cluster:
            context["sagemaker:InstanceTypes"] = [cluster["InstanceType"]]
        return context | ({"aws:TagKeys": [tag["Key"] for tag in tags]} if tags else {})

    def _find(self, name: str) -> Job:
        job = self._jobs.find(name)
        if job is None:
            raise self._unknown(name)
        return job

    def _require_known(self, name: str) -> None:
        if not self._jobs.known(name):
            raise self._unknown(name)

    def _unknown(self, name: str) -> AwsError:
        return AwsError("ValidationException", f"Could not find requested job with name: {name}")

    def _tagged(self, arn: str) -> tuple[str, Job]:
        kind, _, name = arn.split(":", 5)[5].partition("/")
        if kind != "processing-job":
            raise AwsError("NotImplemented", f"the embedded AWS does not support tags of {arn}", 501)
        known = self._jobs.named(name)
        job = self._find(known) if known else None
        if known is None or job is None or job["arn"] != arn:
            raise self._unknown(name)
        return known, job

    def _taken(self, arn: str) -> AwsError:
        return AwsError(
            "ResourceInUse",
            "Job name must be unique within an AWS account and region, "
            f"and a job with this name already exists ({arn})",
        )


def _state(job: Job) -> Params:
    members = {"ProcessingJobArn": job["arn"], "ProcessingJobStatus": job["status"]}
    optional = {"FailureReason": job.get("failure"), "ExitMessage": job.get("message")}
    return members | {name: value for name, value in optional.items() if value}


def _times(job: Job, **more: str) -> Params:
    members = {"created": "CreationTime", "modified": "LastModifiedTime", "ended": "ProcessingEndTime", **more}
    return {member: dt.datetime.fromtimestamp(job[key], dt.UTC) for key, member in members.items() if key in job}


def _summary(job: Job) -> Params:
    return {"ProcessingJobName": job["request"]["ProcessingJobName"], **_state(job), **_times(job)}


def _matches(entry: Entry, params: Params) -> bool:
    name, status, created, modified = entry
    if params.get("NameContains", "").lower() not in name.lower():
        return False
    if params.get("StatusEquals", status) != status:
        return False
    for member, when in (("CreationTime", created), ("LastModifiedTime", modified)):
        after, before = params.get(f"{member}After"), params.get(f"{member}Before")
        if (after is not None and when <= _epoch(after)) or (before is not None and when >= _epoch(before)):
            return False
    return True


def _epoch(value: Any) -> float:
    """Read a time as the wire (a number), Step Functions (text) or Python gives it."""
    try:
        if isinstance(value, (int, float)):
            return float(value)
        moment = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(value)
    except ValueError:
        raise AwsError("ValidationException", f"'{value}' is not a time") from None
    return moment.timestamp()


def _merge(tags: list[dict[str, str]], new: list[dict[str, str]]) -> list[dict[str, str]]:
    merged = {tag["Key"]: tag["Value"] for tag in (*tags, *new)}
    if len(merged) > _MOST_TAGS:
        raise AwsError("ValidationException", f"A resource can have at most {_MOST_TAGS} tags.")
    return [{"Key": key, "Value": value} for key, value in merged.items()]


def _page(member: str, items: list[Any], params: Params, size: int) -> Params:
    """Return one page of ``items``; the token says where the next one begins."""
    try:
        start = int(base64.urlsafe_b64decode(params.get("NextToken", "MA==")))
    except (binascii.Error, ValueError):
        raise AwsError("ValidationException", "The pagination token is not valid.") from None
    end = start + params.get("MaxResults", size)
    more = {"NextToken": base64.urlsafe_b64encode(str(end).encode()).decode()} if end < len(items) else {}
    return {member: items[start:end], **more}
