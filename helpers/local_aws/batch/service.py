"""The AWS Batch API: jobs on Fargate, in queues of different priority."""

import copy
from collections.abc import Callable, Sequence
from typing import ClassVar

from helpers.local_aws.batch import definitions, environments, listing
from helpers.local_aws.batch.around import Around
from helpers.local_aws.batch.errors import client, executing, unsupported
from helpers.local_aws.batch.jobs import Jobs
from helpers.local_aws.batch.launching import container_of, log_stream, run_id
from helpers.local_aws.batch.permissions import SERVICE, Permissions
from helpers.local_aws.batch.records import Job, Records
from helpers.local_aws.batch.resources import Record, Resources, check_tags
from helpers.local_aws.batch.submission import job_of
from helpers.local_aws.batch.views import job_detail, job_summary
from helpers.local_aws.rest import RestService
from helpers.local_aws.wire import AwsError, Caller, Params, Permission, Site

_MOST_DESCRIBED = 100
_LONGEST_REASON = 1024


class Batch(RestService):
    """Run jobs as containers of this machine, as many at once as their compute environments have vCPUs for."""

    name: ClassVar[str] = "batch"

    def __init__(self, site: Site, around: Around) -> None:
        super().__init__(site)
        self._around = around
        folder = site.state_dir / "batch"
        self._resources = Resources(site, folder / "resources.json")
        self._jobs = Jobs(
            self._resources, Records(folder / "jobs"), begin=self._begin, end=self._end, settle=self._settle
        )
        self._permissions = Permissions(site, self._resources, self._jobs.find)

    def permissions(self, operation: str, params: Params) -> Sequence[Permission]:
        """Return what Batch's authorization reference demands for the operation."""
        with self._jobs.lock:
            return self._permissions.of(operation, self._with_role(params))

    def invalid(self, operation: str, member: str, problem: str) -> AwsError:
        """Return Batch's error for a parameter that breaks the model's constraints."""
        return client(f"1 validation error detected: {problem}")

    def wait(self, job_id: str, timeout: float | None = None) -> bool:
        """Block until a job, or an array of jobs, has ended; False after ``timeout`` seconds.

        Raises ClientException when there is no such job.
        """
        with self._jobs.lock:
            self._job(job_id)
        return self._jobs.wait(job_id, timeout)

    def resume(self) -> None:
        """Go on with the jobs that waited when the embedded AWS was stopped."""
        self._jobs.resume()

    def close(self) -> None:
        """Start no more jobs. To be called before the containers are closed, which lose what they run."""
        self._jobs.close()

    # -- compute environments

    def create_compute_environment(self, params: Params, caller: Caller) -> Params:
        """Make a compute environment, and with the first one of an account Batch's service-linked role."""
        if not params.get("serviceRole") and not self._around.linked_roles.exists(SERVICE):
            caller.require(
                Permission(
                    "iam:CreateServiceLinkedRole",
                    self._around.linked_roles.arn(SERVICE),
                    {"iam:AWSServiceName": SERVICE},
                )
            )
            self._around.linked_roles.create(SERVICE)
        with self._jobs.changing():
            record = environments.create_environment(
                self._resources, self._with_role(params), self._around.linked_roles.arn(SERVICE)
            )
            self._resources.save()
        return _names(record, "computeEnvironment")

    def update_compute_environment(self, params: Params, caller: Caller) -> Params:
        """Change a compute environment; what runs in it goes on."""
        with self._jobs.changing():
            record = environments.update_environment(self._resources, self._with_role(params))
            self._resources.save()
        return _names(record, "computeEnvironment")

    def delete_compute_environment(self, params: Params, caller: Caller) -> Params:
        """Delete a compute environment that is DISABLED and that no queue names."""
        with self._jobs.changing():
            environments.delete_environment(self._resources, params)
            self._resources.save()
        return {}

    def describe_compute_environments(self, params: Params, caller: Caller) -> Params:
        """Describe compute environments, all or those that are named."""
        given = params.get("computeEnvironments")
        with self._jobs.lock:
            every = self._resources.environments.values()
            found = _named(given, self._resources.environment) if given else list(every)
            return _described("computeEnvironments", found, params)

    # -- job queues

    def create_job_queue(self, params: Params, caller: Caller) -> Params:
        """Make a job queue on compute environments that are VALID."""
        with self._jobs.changing():
            record = environments.create_queue(self._resources, params)
            self._resources.save()
        return _names(record, "jobQueue")

    def update_job_queue(self, params: Params, caller: Caller) -> Params:
        """Change a job queue."""
        with self._jobs.changing():
            record = environments.update_queue(self._resources, params)
            self._resources.save()
        return _names(record, "jobQueue")

    def delete_job_queue(self, params: Params, caller: Caller) -> Params:
        """Delete a job queue that is DISABLED; its jobs are ended first."""
        with self._jobs.changing():
            record = environments.delete_queue(self._resources, params)
            self._resources.save()
            if record:
                self._jobs.empty(record["jobQueueArn"])
        return {}

    def describe_job_queues(self, params: Params, caller: Caller) -> Params:
        """Describe job queues, all or those that are named."""
        given = params.get("jobQueues")
        with self._jobs.lock:
            found = _named(given, self._resources.queue) if given else list(self._resources.queues.values())
            return _described("jobQueues", found, params)

    # -- job definitions

    def register_job_definition(self, params: Params, caller: Caller) -> Params:
        """Register the next revision of a job definition."""
        with self._jobs.lock:
            record = definitions.register(self._resources, params)
            self._resources.save()
        return {**_names(record, "jobDefinition"), "revision": record["revision"]}

    def deregister_job_definition(self, params: Params, caller: Caller) -> Params:
        """Make a revision INACTIVE: its jobs go on, no more can be submitted with it."""
        with self._jobs.lock:
            definitions.deregister(self._resources, params["jobDefinition"])
            self._resources.save()
        return {}

    def describe_job_definitions(self, params: Params, caller: Caller) -> Params:
        """Describe revisions of job definitions: those that are named, or by name and status."""
        given = params.get("jobDefinitions")
        with self._jobs.lock:
            if given:
                return _described("jobDefinitions", _named(given, self._resources.definition), params)
            name, status = params.get("jobDefinitionName"), params.get("status")
            found = [
                each
                for each in self._resources.every_definition()
                if each["jobDefinitionName"] == (name or each["jobDefinitionName"])
                and each["status"] == (status or each["status"])
            ]
            found.sort(key=lambda each: (each["jobDefinitionName"], -each["revision"]))
            return _described("jobDefinitions", found, params)

    # -- jobs

    def submit_job(self, params: Params, caller: Caller) -> Params:
        """Take a job, or an array of jobs, into a queue."""
        with self._jobs.lock:
            job = job_of(self._resources, self._jobs.find, params)
            job.number = self._jobs.number()
            self._jobs.add(job)
        return {"jobArn": self._resources.arn("job", job.job_id), "jobName": job.name, "jobId": job.job_id}

    def describe_jobs(self, params: Params, caller: Caller) -> Params:
        """Describe jobs by their ids; one that is not there is left out."""
        if len(params["jobs"]) > _MOST_DESCRIBED:
            raise executing(f"Maximum number of jobs supported is  {_MOST_DESCRIBED}")
        with self._jobs.lock:
            found = [self._jobs.find(self._resources.name("job", each)) for each in params["jobs"]]
            return {"jobs": [job_detail(job, *self._shown(job)) for job in found if job]}

    def list_jobs(self, params: Params, caller: Caller) -> Params:
        """List the jobs of a queue or the children of an array: those that are RUNNING, unless asked otherwise."""
        given = [name for name in ("jobQueue", "arrayJobId", "multiNodeJobId") if params.get(name)]
        if len(given) != 1:
            raise executing("You must specify one of jobQueue, arrayJobId and multiNodeJobId.")
        if given == ["multiNodeJobId"]:
            raise unsupported("multi-node parallel jobs (multiNodeJobId)")
        with self._jobs.lock:
            if given == ["arrayJobId"]:
                jobs = self._jobs.children(self._job(params["arrayJobId"]))
            else:
                queue = environments.existing_queue(self._resources, params["jobQueue"])["jobQueueArn"]
                jobs = [job for job in self._jobs.all() if job.queue == queue and job.index < 0]
            found, more = listing.page(listing.select(jobs, params), params, listing.longest_page(params))
            return {"jobSummaryList": [job_summary(job, *self._shown(job)) for job in found], **more}

    def cancel_job(self, params: Params, caller: Caller) -> Params:
        """End a job that has not started yet."""
        _check_reason(params["reason"])
        with self._jobs.lock:
            self._jobs.cancel(self._job(params["jobId"]), params["reason"])
        return {}

    def terminate_job(self, params: Params, caller: Caller) -> Params:
        """End a job: SIGTERM, after 30 seconds SIGKILL."""
        _check_reason(params["reason"])
        with self._jobs.lock:
            self._jobs.terminate(self._job(params["jobId"]), params["reason"])
        return {}

    # -- tags

    def tag_resource(self, params: Params, caller: Caller) -> Params:
        """Put tags on a resource."""
        with self._jobs.lock:
            self._retag(params["resourceArn"], lambda tags: check_tags({**tags, **params["tags"]}))
        return {}

    def untag_resource(self, params: Params, caller: Caller) -> Params:
        """Take tags off a resource; keys that it does not have are no error."""
        gone = params["tagKeys"]
        with self._jobs.lock:
            self._retag(
                params["resourceArn"], lambda tags: {key: value for key, value in tags.items() if key not in gone}
            )
        return {}

    def list_tags_for_resource(self, params: Params, caller: Caller) -> Params:
        """List the tags of a resource."""
        with self._jobs.lock:
            return {"tags": dict(self._tagged(params["resourceArn"])[1])}

    # -- what the jobs need

    def _begin(self, job: Job, task: str) -> None:
        """Start an attempt. Raises CannotStart."""
        container = container_of(self.site, self._around, job)
        stream = log_stream(job)
        self._around.containers.start(
            container,
            started=lambda: self._jobs.started(job, task, stream),
            ended=lambda end: self._jobs.ended(job, task, end),
        )

    def _end(self, task: str) -> None:
        self._around.containers.stop(run_id(task))

    def _settle(self, jobs: Jobs) -> None:
        """Take compute environments and queues to where they are going."""
        before = [each["status"] for each in self._records()]
        for record in list(self._resources.environments.values()):
            environments.settle_environment(self._resources, record, self._problem, jobs.busy)
        for record in list(self._resources.queues.values()):
            environments.settle_queue(self._resources, record, jobs.queued)
        if before != [each["status"] for each in self._records()]:
            self._resources.save()

    def _records(self) -> list[Record]:
        return [*self._resources.environments.values(), *self._resources.queues.values()]

    def _problem(self, environment: Record) -> str:
        """Return what keeps a compute environment from being VALID, or ""."""
        if environment["serviceRole"] != self._around.linked_roles.arn(SERVICE):
            try:
                self._around.try_service_role(environment["serviceRole"])
            except AwsError as error:
                return error.message
        compute = environment["computeResources"]
        return environments.network_problem(compute, self._around.networks)

    def _with_role(self, params: Params) -> Params:
        """Return parameters whose service role, which may be given by its name, is an ARN."""
        role = params.get("serviceRole")
        if not role or role.startswith("arn:"):
            return params
        return {**params, "serviceRole": f"arn:aws:iam::{self.site.account_id}:role/{role.lstrip('/')}"}

    def _job(self, job_id: str) -> Job:
        job = self._jobs.find(job_id)
        if job is None:
            raise client(f"Job {job_id:.100} does not exist")
        return job

    def _shown(self, job: Job) -> tuple[str, list[Job]]:
        return self._resources.arn("job", job.job_id), self._jobs.children(job)

    def _tagged(self, arn: str) -> tuple[Record | Job, dict[str, str]]:
        """Return what has an ARN, and its tags. Raises ClientException."""
        record = self._resources.tagged(arn)
        if record is not None:
            return record, record["tags"]
        job = self._jobs.find(self._resources.name("job", arn))
        if job is None or job.index >= 0:
            raise client(f"{arn:.300} is not the ARN of a resource that has tags.")
        return job, job.tags

    def _retag(self, arn: str, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
        found, tags = self._tagged(arn)
        if isinstance(found, Job):
            found.tags = change(tags)
            self._jobs.save(found)
        else:
            found["tags"] = change(tags)
            self._resources.save()


def _names(record: Record, member: str) -> Params:
    return {name: record[name] for name in (f"{member}Name", f"{member}Arn")}


def _named(given: Sequence[str], find: Callable[[str], Record | None]) -> list[Record]:
    if len(given) > listing.PAGE:
        raise executing(f"Maximum number of resources supported is {listing.PAGE}")
    return [record for record in map(find, dict.fromkeys(given)) if record is not None]


def _described(member: str, found: list[Record], params: Params) -> Params:
    items, more = listing.page(found, params)
    return {member: copy.deepcopy(items), **more}


def _check_reason(reason: str) -> None:
    if not 1 <= len(reason) <= _LONGEST_REASON:
        raise executing(f"the reason must have 1 to {_LONGEST_REASON} characters.")
