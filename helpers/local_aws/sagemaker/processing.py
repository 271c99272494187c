"""Processing jobs as a kind of job."""

from collections.abc import Sequence

from helpers.local_aws.sagemaker import request as requests
from helpers.local_aws.sagemaker.hosts import End
from helpers.local_aws.sagemaker.kinds import LIMIT, Kind, first_failure
from helpers.local_aws.sagemaker.records import Job
from helpers.local_aws.wire import AwsError, Params


class Processing(Kind):
    """Inputs, an entrypoint, outputs."""

    noun = "processing job"
    name = "ProcessingJobName"
    folder = "processing-jobs"
    scratch = "scratch"

    def hosts(self, request: Params) -> int:
        """Return on how many hosts a job runs."""
        return request["ProcessingResources"]["ClusterConfig"]["InstanceCount"]

    def task(self, job: Job, host: str, hosts: Sequence[str]) -> Params:
        """Return the configuration that the container sees."""
        return {"config": requests.container_config(job["request"], job["arn"])}

    def network(self, request: Params) -> bool:
        """Tell whether the job has a network."""
        return not request.get("NetworkConfig", {}).get("EnableNetworkIsolation", False)

    def outcome(self, job: Job, ends: Sequence[End]) -> Params:
        """Return how a job ended, with the exit message of its hosts."""
        message = "".join(end["message"] for end in ends)[:LIMIT]
        changes: Params = {"message": message} if message else {}
        failure = first_failure(ends)
        if job["status"] == "Stopping":
            return changes | {"status": "Stopped"}
        if failure:
            return changes | {"status": "Failed", "failure": failure}
        if any(end["stopped"] for end in ends):
            seconds = job["request"]["StoppingCondition"]["MaxRuntimeInSeconds"]
            reason = f"ClientError: The job exceeded its MaxRuntimeInSeconds of {seconds}."
            return changes | {"status": "Stopped", "failure": reason}
        return changes | {"status": "Completed"}

    def taken(self, arn: str) -> AwsError:
        """Return the refusal of a name that was used before."""
        return AwsError(
            "ResourceInUse",
            "Job name must be unique within an AWS account and region, "
            f"and a job with this name already exists ({arn})",
        )

    def unknown(self, name: str) -> AwsError:
        """Return the refusal of a name that no job has."""
        return AwsError("ValidationException", f"Could not find requested job with name: {name}")
