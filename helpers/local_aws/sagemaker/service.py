"""The SageMaker API: processing jobs, training jobs, and their tags."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

from helpers.local_aws.containers.model import Image
from helpers.local_aws.containers.slots import Slots
from helpers.local_aws.ecr import ImageProblem
from helpers.local_aws.sagemaker import access, answers, images, training_request
from helpers.local_aws.sagemaker import request as processing_request
from helpers.local_aws.sagemaker.hosts import Requests
from helpers.local_aws.sagemaker.jobs import Jobs
from helpers.local_aws.sagemaker.processing import Processing
from helpers.local_aws.sagemaker.records import Job
from helpers.local_aws.sagemaker.training import Training
from helpers.local_aws.wire import AwsError, Caller, Params, Permission, Service, Site
from helpers.local_aws.workers.forkserver import Forkserver

GRACE = 120.0  # seconds between SIGTERM and SIGKILL, as SageMaker documents
# SageMaker says no more than this; which permission it was comes after it here.
_CANNOT_PULL = (
    "ClientError: Cannot pull algorithm container. Either the image does not exist or its permissions are incorrect."
)
_END_SECONDS = 30.0  # for the threads of killed jobs to write down that they have failed

Assume = Callable[[str, str], dict[str, str]]
Require = Callable[[str, Sequence[Permission]], None]


class Images(Protocol):
    """The images that somebody built: ``resolve`` raises ImageProblem for one that is not there."""

    def resolve(self, uri: str, /) -> Image: ...
    def pull_permissions(self, uri: str, /) -> list[Permission]: ...


class SageMaker(Service):
    """Run processing and training jobs as isolated processes of this machine.

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
        slots: Slots | None = None,
        built: Images | None = None,
        grace: float = GRACE,
    ) -> None:
        """``forkserver`` is ended with ``close``. ``built``: where training jobs find images other than SageMaker's."""
        super().__init__(site)
        self._assume, self._require, self._built = assume, require, built
        self._forkserver = forkserver or Forkserver()
        shared = site, grace, host_requests, self._forkserver, slots or Slots()
        self._processing = Jobs(Processing(), *shared)
        self._training = Jobs(Training(self._built_image), *shared)
        self._kinds = {"processing-job": self._processing, "training-job": self._training}

    def permissions(self, operation: str, params: Params) -> Sequence[Permission]:
        """Return what SageMaker's authorization reference demands for the operation."""
        return access.needed(operation, params, self._arn)

    def wait(self, name: str, timeout: float | None = None) -> bool:
        """Block until the processing job ``name`` is final, woken by its end; False after ``timeout`` seconds.

        Raises ValidationException when there is no such job.
        """
        return self._wait(self._processing, name, timeout)

    def wait_training(self, name: str, timeout: float | None = None) -> bool:
        """Block until the training job ``name`` is final; as ``wait``."""
        return self._wait(self._training, name, timeout)

    def warm_up(self) -> None:
        """Load packages before the first job needs them; returns at once."""
        self._forkserver.warm_up()

    def resume(self) -> None:
        """Run the jobs that waited when the embedded AWS was stopped; one whose role is gone fails."""
        for jobs in self._kinds.values():
            for name in jobs.waiting():
                role = self._find(jobs, name)["request"]["RoleArn"]
                try:
                    jobs.run(name, self._assume(role, "SageMaker"))
                except AwsError as error:
                    jobs.fail(name, f"ClientError: {error.message}")

    def close(self) -> None:
        """End every job that runs, and the warm processes. Jobs that still wait for a slot go on waiting."""
        ended = [(jobs, jobs.end()) for jobs in self._kinds.values()]
        self._forkserver.close()
        for jobs, names in ended:
            for name in names:
                jobs.wait(name, _END_SECONDS)

    def create_processing_job(self, params: Params, caller: Caller) -> Params:
        """Record and start a job. Names stay taken for ever, as on AWS."""
        request = processing_request.complete(params)
        pull = images.pull_permissions(request["AppSpecification"]["ImageUri"])
        return {"ProcessingJobArn": self._create(self._processing, "processing-job", request, pull)}

    def describe_processing_job(self, params: Params, caller: Caller) -> Params:
        """Return everything about a job, as it was asked for and as it went."""
        return answers.processing_description(self._find(self._processing, params["ProcessingJobName"]))

    def list_processing_jobs(self, params: Params, caller: Caller) -> Params:
        """List jobs by the documented filters, newest first unless asked otherwise."""
        return self._list(self._processing, "ProcessingJobSummaries", params, answers.processing_summary)

    def stop_processing_job(self, params: Params, caller: Caller) -> Params:
        """Send SIGTERM to a job's entrypoint, SIGKILL when it takes too long."""
        return self._stop(self._processing, params["ProcessingJobName"])

    def create_training_job(self, params: Params, caller: Caller) -> Params:
        """Record and start a job. Names stay taken for ever, as on AWS."""
        request = training_request.complete(params)
        uri = request["AlgorithmSpecification"]["TrainingImage"]
        if images.is_known(uri):
            pull = images.pull_permissions(uri)
        else:
            self._built_image(uri)
            assert self._built is not None, "the image was found there"
            pull = self._built.pull_permissions(uri)
        return {"TrainingJobArn": self._create(self._training, "training-job", request, pull)}

    def describe_training_job(self, params: Params, caller: Caller) -> Params:
        """Return everything about a job, as it was asked for and as it went."""
        return answers.training_description(self._find(self._training, params["TrainingJobName"]))

    def list_training_jobs(self, params: Params, caller: Caller) -> Params:
        """List jobs by the documented filters, newest first unless asked otherwise."""
        for member in ("WarmPoolStatusEquals", "TrainingPlanArnEquals"):
            if member in params:
                raise AwsError("NotImplemented", f"the embedded AWS does not support ListTrainingJobs by {member}", 501)
        return self._list(self._training, "TrainingJobSummaries", params, answers.training_summary)

    def stop_training_job(self, params: Params, caller: Caller) -> Params:
        """Send SIGTERM to a job's algorithm, SIGKILL when it takes too long; its model is kept."""
        return self._stop(self._training, params["TrainingJobName"])

    def add_tags(self, params: Params, caller: Caller) -> Params:
        """Add tags to a job, or change their values."""
        jobs, name, job = self._tagged(params["ResourceArn"])
        tags = answers.merged(job["tags"], params["Tags"])
        jobs.tag(name, tags)
        return {"Tags": tags}

    def list_tags(self, params: Params, caller: Caller) -> Params:
        """List the tags of a job."""
        _, _, job = self._tagged(params["ResourceArn"])
        return answers.page("Tags", job["tags"], params, answers.MOST_TAGS)

    def delete_tags(self, params: Params, caller: Caller) -> Params:
        """Remove tags from a job; keys that it does not have are no error."""
        jobs, name, job = self._tagged(params["ResourceArn"])
        jobs.tag(name, [tag for tag in job["tags"] if tag["Key"] not in params["TagKeys"]])
        return {}

    def _create(self, jobs: Jobs, resource: str, request: Params, pull: Sequence[Permission]) -> str:
        """Record and start a job whose image asks for the permissions ``pull``; return its ARN."""
        name, role = request[jobs.kind.name], request["RoleArn"]
        arn = self._arn(resource, name)
        tags = answers.merged([], request.pop("Tags", []))
        if jobs.known(name):
            raise jobs.kind.taken(arn)
        try:
            credentials = self._assume(role, "SageMaker")
        except AwsError as error:
            raise AwsError(
                "ValidationException",
                f"Could not assume role {role}. Please ensure that the role exists and allows principal "
                "'sagemaker.amazonaws.com' to assume the role.",
            ) from error
        if not jobs.add(request, arn, tags):
            raise jobs.kind.taken(arn)
        try:
            self._require(role, pull)
        except AwsError as error:  # AWS finds out when the instance is up: the job exists, and fails
            jobs.fail(name, f"{_CANNOT_PULL} {error.message}")
        else:
            jobs.run(name, credentials)
        return arn

    def _list(self, jobs: Jobs, member: str, params: Params, summary: Callable[[Job], Params]) -> Params:
        page = answers.page(member, answers.listed(jobs.index(), params), params)
        return page | {member: [summary(self._find(jobs, name)) for name in page[member]]}

    def _stop(self, jobs: Jobs, name: str) -> Params:
        self._find(jobs, name)
        status = jobs.stop(name)
        if status not in ("InProgress", "Stopping"):
            raise AwsError(
                "ValidationException", f"The request was rejected because the {jobs.kind.noun} is in status {status}."
            )
        return {}

    def _wait(self, jobs: Jobs, name: str, timeout: float | None) -> bool:
        if not jobs.known(name):
            raise jobs.kind.unknown(name)
        return jobs.wait(name, timeout)

    def _built_image(self, uri: str) -> Image:
        """Return an image out of ECR. Raises ValidationException."""
        if self._built is None or not images.in_ecr(uri):
            raise AwsError("ValidationException", f"The training image {uri} is not in Amazon ECR.")
        try:
            return self._built.resolve(uri)
        except ImageProblem as error:
            raise AwsError("ValidationException", f"Requested image {uri} not found. ({error})") from error

    def _arn(self, resource: str, name: str) -> str:
        return self.site.arn("sagemaker", f"{resource}/{name.lower()}")

    def _find(self, jobs: Jobs, name: str) -> Job:
        job = jobs.find(name)
        if job is None:
            raise jobs.kind.unknown(name)
        return job

    def _tagged(self, arn: str) -> tuple[Jobs, str, dict[str, Any]]:
        resource, _, name = arn.split(":", 5)[5].partition("/")
        if resource not in self._kinds:
            raise AwsError("NotImplemented", f"the embedded AWS does not support tags of {arn}", 501)
        jobs = self._kinds[resource]
        known = jobs.named(name)
        job = self._find(jobs, known) if known else None
        if known is None or job is None or job["arn"] != arn:
            raise jobs.kind.unknown(name)
        return jobs, known, job
