"""Training jobs as a kind of job."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers.local_aws.containers.model import Image
from helpers.local_aws.sagemaker import images
from helpers.local_aws.sagemaker import training_request as requests
from helpers.local_aws.sagemaker.hosts import End
from helpers.local_aws.sagemaker.kinds import Kind, first_failure
from helpers.local_aws.sagemaker.records import Job
from helpers.local_aws.wire import AwsError, Params

_GIB = 2**30
_ORDER = ("Starting", "Downloading", "Training", "Uploading")
# The secondary statuses, with the messages that SageMaker's own clients print of them.
_MESSAGES = {
    "Starting": "Preparing the instances for training",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Stopping": "Stopping the training job",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "MaxWaitTimeExceeded": "Training job waited longer than MaxWaitTimeInSeconds provided",
}


class Training(Kind):
    """Channels of data, an algorithm, a model."""

    noun = "training job"
    name = "TrainingJobName"
    folder = "training-jobs"
    scratch = "training"

    def __init__(self, image_of: Callable[[str], Image]) -> None:
        """``image_of`` finds an image that somebody built, by its URI; raises AwsError."""
        self._image_of = image_of

    def hosts(self, request: Params) -> int:
        """Return on how many hosts a job runs."""
        return request["ResourceConfig"]["InstanceCount"]

    def task(self, job: Job, host: str, hosts: Sequence[str]) -> Params:
        """Return what ``workers.training`` needs. Raises AwsError when the image is gone."""
        request = job["request"]
        algorithm = request["AlgorithmSpecification"]
        names = {"TRAINING_JOB_NAME": request[self.name], "TRAINING_JOB_ARN": job["arn"]}
        return {
            "kind": "training",
            "hyperparameters": request.get("HyperParameters", {}),
            "inputdataconfig": requests.channels_config(request),
            "resourceconfig": requests.resources_config(request, host, list(hosts)),
            "channels": {
                channel["ChannelName"]: channel["DataSource"]["S3DataSource"]
                for channel in request.get("InputDataConfig", [])
            },
            "checkpoints": request.get("CheckpointConfig"),
            "job_name": request[self.name],
            "metrics": algorithm.get("MetricDefinitions", []),
            "volume": request["ResourceConfig"]["VolumeSizeInGB"] * _GIB,
            "environment": names | request.get("Environment", {}),
            **self._program(algorithm),
        }

    def network(self, request: Params) -> bool:
        """Tell whether the job has a network."""
        return not request["EnableNetworkIsolation"]

    def seconds(self, job: Job, now: float) -> float:
        """Return how long a job may run: a spot job also ends when its wait is over."""
        return max(0.0, min(super().seconds(job, now), _last(job) - now))

    def overdue(self, job: Job, now: float) -> bool:
        """Tell whether a spot job has waited too long to be started at all."""
        return now > _last(job)

    def outcome(self, job: Job, ends: Sequence[End]) -> Params:
        """Return how a job ended, with the last values of its metrics."""
        changes: Params = {"metrics": _latest(ends)}
        if job["status"] == "Stopping":
            return changes | {"status": "Stopped"}
        if failure := first_failure(ends):
            return changes | {"status": "Failed", "failure": failure}
        if any(end["stopped"] for end in ends):
            runtime = job["request"]["StoppingCondition"]["MaxRuntimeInSeconds"]
            which = "MaxRuntime" if job.get("started", job["created"]) + runtime <= _last(job) else "MaxWaitTime"
            return changes | {"status": "Stopped", "phase": f"{which}Exceeded"}
        return changes | {"status": "Completed"}

    def packing(self, job: Job, changes: Params, hosts: Sequence[Path]) -> Params | None:
        """Return the archives to make of /opt/ml/model and /opt/ml/output/data, unless the job has failed."""
        if changes["status"] == "Failed":
            return None
        parts = [(model_uri(job["request"]), "model"), (_output(job["request"], "output.tar.gz"), "output/data")]
        # Where the image has an /opt/ml, the job has used its own copy of that.
        roots = [host / ml for host in hosts for ml in ("ml", "root/opt/ml")]
        archives = [{"uri": uri, "roots": list(map(str, roots)), "folder": folder} for uri, folder in parts]
        return {"kind": "package", "archives": archives}

    def moved(self, job: Job, changes: Params, now: float) -> Params:
        """Return what to write down, with the transition to another secondary status where there is one."""
        rest = super().moved(job, changes, now)
        phase = changes.get("phase") or changes.get("status", "")
        before = job.get("transitions", [])
        if phase not in _MESSAGES or (before and not _follows(phase, before[-1]["status"])):
            return rest
        ended = [*before[:-1], before[-1] | {"end": now}] if before else []
        entered: dict[str, Any] = {"status": phase, "start": now, "message": _MESSAGES[phase]}
        if phase not in (*_ORDER, "Stopping"):
            entered["end"] = now
        return rest | {"transitions": [*ended, entered]}

    def taken(self, arn: str) -> AwsError:
        """Return the refusal of a name that was used before."""
        return AwsError(
            "ResourceInUse",
            "Training job names must be unique within an AWS account and region, "
            f"and a training job with this name already exists ({arn})",
        )

    def unknown(self, name: str) -> AwsError:
        """Return the refusal of a name that no job has."""
        return AwsError("ValidationException", "Requested resource not found.")

    def _program(self, algorithm: Params) -> Params:
        """Return what is run: the toolkit of SageMaker's own image, or a command in somebody's."""
        uri, entrypoint = algorithm["TrainingImage"], algorithm.get("ContainerEntrypoint")
        arguments = algorithm.get("ContainerArguments")
        if images.is_known(uri):
            # Its ENTRYPOINT is none and its program ``train`` the toolkit.
            command = [*(entrypoint or []), *(arguments or [])]
            nothing = {"environment": {}, "working_directory": "/"}
            return {"toolkit": not command, "argv": command, "image": nothing}
        image = self._image_of(uri)
        if not entrypoint:
            arguments = arguments or ["train"]
        return {
            "toolkit": False,
            "argv": [*(entrypoint or image.entrypoint), *(arguments or [])],
            "image": {"environment": dict(image.environment), "working_directory": image.working_directory},
            "own_root": True,
            "copies": [[str(image.folder), "/"]] if image.folder else [],
            "folders": [image.working_directory],
        }


def model_uri(request: Params) -> str:
    """Return where the model of a job is stored."""
    return _output(request, "model.tar.gz")


def _output(request: Params, name: str) -> str:
    return f"{request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{request['TrainingJobName']}/output/{name}"


def _last(job: Job) -> float:
    """Return when the wait of a spot job is over."""
    wait = job["request"]["StoppingCondition"].get("MaxWaitTimeInSeconds")
    return job["created"] + wait if wait else float("inf")


def _follows(phase: str, before: str) -> bool:
    """Tell whether a phase comes after another: of several hosts the quickest leads, and a job never goes back."""
    if phase in _ORDER and before in _ORDER:
        return _ORDER.index(phase) > _ORDER.index(before)
    return phase != before


def _latest(ends: Sequence[End]) -> dict[str, list[float]]:
    """Return value and time of each metric, by name, from the host that wrote it last."""
    latest: dict[str, list[float]] = {}
    for end in ends:
        found: Mapping[str, list[float]] = end.get("metrics", {})
        for name, (value, when) in found.items():
            if name not in latest or when >= latest[name][1]:
                latest[name] = [value, when]
    return latest
