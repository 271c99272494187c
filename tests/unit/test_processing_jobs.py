"""The life of a processing job in the SageMaker API; jobs run for real, without S3 and without logs."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from helpers.local_aws.containers import Slots
from helpers.local_aws.sagemaker import SageMaker
from helpers.local_aws.wire import AwsError, Caller, Params, Permission, Site

ROLE = "arn:aws:iam::123456789012:role/demo-exp-jobs"
SECONDS = 180  # that a busy machine may take
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"


def unreachable(method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    """Answer the requests of hosts as an AWS that is down."""
    return 503, b"{}"


CALLER = Caller("arn:aws:iam::123456789012:role/notebook", lambda permission: None)


def assume(role_arn: str, session_name: str) -> dict[str, str]:
    if role_arn != ROLE:
        raise AwsError("AccessDenied", "no such role", 403)
    return {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"}


def make(site: Site, *, grace: float = SECONDS, slots: Slots | None = None) -> SageMaker:
    """``grace``: the seconds that a job which is stopped has for its end."""
    return SageMaker(site, assume, lambda role, needed: None, host_requests=unreachable, grace=grace, slots=slots)


def site_in(folder: Path) -> Site:
    return Site(folder, "http://127.0.0.1:9", "us-east-1", "123456789012")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site_in(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def sagemaker(site: Site) -> Iterator[SageMaker]:
    service = make(site)
    yield service
    service.close()


def request(name: str, *command: str, **more: Any) -> Params:
    return {
        "ProcessingJobName": name,
        "RoleArn": ROLE,
        "AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": list(command)},
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.t3.medium", "VolumeSizeInGB": 1}
        },
        **more,
    }


def create(service: SageMaker, name: str, *command: str, **more: Any) -> str:
    return service.call("CreateProcessingJob", request(name, *command, **more), CALLER)["ProcessingJobArn"]


def describe(service: SageMaker, name: str) -> Params:
    return service.call("DescribeProcessingJob", {"ProcessingJobName": name}, CALLER)


def host_of(name: str, site: Site) -> int:
    """Return the process that is the host of a job with a single one: the one that leads to its scratch folder."""
    mine = []
    for pid in offspring("aws-hosts"):
        with suppress(OSError):  # a host of the last job that ended by itself meanwhile
            if f"scratch/{name}/" in Path(f"/proc/{pid}/mountinfo").read_text():
                mine.append(pid)
    return min(mine)


def offspring(name: str) -> list[int]:
    """Return the processes of that name which this one started, directly or not."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        except OSError:
            continue  # it ended meanwhile
        if not lines["State"].startswith("Z"):  # it ended, and nobody has asked yet
            parents[int(lines["Pid"])] = int(lines["PPid"]), lines["Name"]

    def mine(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and mine(parents[pid][0]))

    return [pid for pid, (_, called) in parents.items() if called == name and mine(pid)]


def ended(service: SageMaker, name: str, *command: str, **more: Any) -> Params:
    create(service, name, *command, **more)
    assert service.wait(name, SECONDS)
    return describe(service, name)


def test_a_job_that_ends_well_is_completed_with_its_times(sagemaker: SageMaker) -> None:
    job = ended(sagemaker, "well", "bash", "-c", "printf done > /opt/ml/output/message", Environment={"A": "1"})
    assert job["ProcessingJobStatus"] == "Completed"
    assert job["ExitMessage"] == "done"
    assert job["Environment"] == {"A": "1"}
    assert "FailureReason" not in job
    assert job["CreationTime"] <= job["ProcessingStartTime"] <= job["ProcessingEndTime"] <= job["LastModifiedTime"]


@pytest.mark.parametrize(
    ("name", "command", "code"),
    [("exit3", "exit 3", 3), ("killed", "kill -9 $$", 137), ("missing", "exec no-such-program", 127)],
)
def test_a_job_fails_with_the_exit_code_of_its_container(
    sagemaker: SageMaker, name: str, command: str, code: int
) -> None:
    job = ended(sagemaker, name, "bash", "-c", f"echo because > /opt/ml/output/message; {command}")
    assert job["ProcessingJobStatus"] == "Failed"
    assert job["FailureReason"] == f"AlgorithmError: , exit code: {code}"
    assert job["ExitMessage"] == "because\n"


def test_only_the_first_kilobyte_of_the_message_is_kept(sagemaker: SageMaker) -> None:
    write = "printf 'é%.0s' {1..900} > /opt/ml/output/message"
    assert ended(sagemaker, "long-message", "bash", "-c", write)["ExitMessage"] == "é" * 512


def test_a_message_that_is_no_utf8_fails_the_job(sagemaker: SageMaker) -> None:
    job = ended(sagemaker, "bad-message", "bash", "-c", r"printf '\xff\xff\xff\xff\xffabc' > /opt/ml/output/message")
    assert job["FailureReason"].startswith("ClientError: The exit message")


def test_a_job_name_can_be_used_once(sagemaker: SageMaker) -> None:
    ended(sagemaker, "once", "true")
    with pytest.raises(AwsError, match="Job name must be unique") as refused:
        create(sagemaker, "once", "true")
    assert refused.value.code == "ResourceInUse"


def test_stop_sends_sigterm_and_the_job_ends_as_stopped(sagemaker: SageMaker, site: Site) -> None:
    trap = "trap 'echo bye > /opt/ml/output/message; exit 0' TERM; echo ready > /opt/ml/ready; sleep 600 & wait"
    create(sagemaker, "stopped", "bash", "-c", trap)
    while not list(site.state_dir.glob("sagemaker/scratch/stopped/algo-1/ml/ready")):
        time.sleep(0.01)
    sagemaker.call("StopProcessingJob", {"ProcessingJobName": "stopped"}, CALLER)
    assert describe(sagemaker, "stopped")["ProcessingJobStatus"] in ("Stopping", "Stopped")
    assert sagemaker.wait("stopped", SECONDS)
    job = describe(sagemaker, "stopped")
    assert (job["ProcessingJobStatus"], job.get("ExitMessage")) == ("Stopped", "bye\n")
    with pytest.raises(AwsError, match="is in status Stopped"):
        sagemaker.call("StopProcessingJob", {"ProcessingJobName": "stopped"}, CALLER)


def test_stop_kills_what_ignores_it(tmp_path: Path) -> None:
    service = make(site_in(tmp_path), grace=0.3)
    try:
        create(service, "stubborn", "bash", "-c", "trap '' TERM; touch /opt/ml/ready; sleep 600")
        while not list(tmp_path.glob("sagemaker/scratch/stubborn/algo-1/ml/ready")):
            time.sleep(0.01)
        service.call("StopProcessingJob", {"ProcessingJobName": "stubborn"}, CALLER)
        assert service.wait("stubborn", SECONDS)
        assert describe(service, "stubborn")["ProcessingJobStatus"] == "Stopped"
    finally:
        service.close()


def test_a_job_that_runs_too_long_is_stopped(sagemaker: SageMaker) -> None:
    job = ended(sagemaker, "long", "sleep", "600", StoppingCondition={"MaxRuntimeInSeconds": 1})
    assert job["ProcessingJobStatus"] == "Stopped"
    assert "MaxRuntimeInSeconds of 1" in job["FailureReason"]


def test_several_hosts_run_at_the_same_time_and_know_of_each_other(sagemaker: SageMaker, site: Site) -> None:
    resources = {"ClusterConfig": {"InstanceCount": 4, "InstanceType": "ml.t3.medium", "VolumeSizeInGB": 1}}
    wait = "; while [ ! -e /opt/ml/go ]; do sleep 0.01; done"
    say = "grep -o 'algo-[0-9]' /opt/ml/config/resourceconfig.json | tr '\\n' ' ' > /opt/ml/output/message"
    create(sagemaker, "together", "bash", "-c", f"{say}; touch /opt/ml/ready{wait}", ProcessingResources=resources)
    folder = site.state_dir / "sagemaker/scratch/together"
    while len(list(folder.glob("algo-*/ml/ready"))) < 4:
        time.sleep(0.01)
    for host in folder.iterdir():
        (host / "ml/go").touch()
    assert sagemaker.wait("together", SECONDS)
    job = describe(sagemaker, "together")
    names = [f"algo-{number}" for number in (1, 2, 3, 4)]
    assert job["ProcessingJobStatus"] == "Completed"
    assert job["ExitMessage"].split() == [each for own in names for each in (own, *names)]


def test_one_host_s_failure_fails_the_job_and_stops_the_others(sagemaker: SageMaker) -> None:
    resources = {"ClusterConfig": {"InstanceCount": 3, "InstanceType": "ml.t3.medium", "VolumeSizeInGB": 1}}
    script = (
        "import json, sys, time; r = json.load(open('/opt/ml/config/resourceconfig.json')); "
        "sys.exit(3) if r['current_host'] == 'algo-2' else time.sleep(600)"
    )
    job = ended(sagemaker, "one-fails", "python3", "-c", script, ProcessingResources=resources)
    assert (job["ProcessingJobStatus"], job["FailureReason"]) == ("Failed", "AlgorithmError: , exit code: 3")


def test_a_host_that_is_killed_fails_the_job(sagemaker: SageMaker, site: Site) -> None:
    create(sagemaker, "host-killed", "bash", "-c", "echo $PPID; touch /opt/ml/ready; sleep 600")
    while not list(site.state_dir.glob("sagemaker/scratch/host-killed/algo-1/ml/ready")):
        time.sleep(0.01)
    os.kill(host_of("host-killed", site), signal.SIGKILL)
    assert sagemaker.wait("host-killed", SECONDS)
    job = describe(sagemaker, "host-killed")
    assert job["ProcessingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("InternalServerError: The host of the job ended unexpectedly")
    while (site.state_dir / "sagemaker/scratch/host-killed").exists():  # it is removed when the job has ended
        time.sleep(0.01)


def test_jobs_go_on_after_the_warm_processes_were_killed(sagemaker: SageMaker) -> None:
    for name in ("aws-scripts", "aws-hosts"):
        for pid in offspring(name):
            with suppress(ProcessLookupError):  # a host of the last job that ended by itself meanwhile
                os.kill(pid, signal.SIGKILL)
        while offspring("aws-hosts") or offspring("aws-scripts"):  # one does not stay without the other
            time.sleep(0.01)
        job = ended(sagemaker, f"after-{name}", "true")
        assert job["ProcessingJobStatus"] == "Completed"


def test_a_job_waits_for_its_turn_and_can_be_stopped_meanwhile(tmp_path: Path) -> None:
    service = make(site_in(tmp_path), slots=Slots(1, longest=600))
    try:
        create(service, "busy", "sleep", "600")
        create(service, "behind", "true")
        create(service, "waiting", "true")
        service.call("StopProcessingJob", {"ProcessingJobName": "waiting"}, CALLER)
        assert service.wait("waiting", SECONDS)
        stopped = describe(service, "waiting")
        assert (stopped["ProcessingJobStatus"], "ProcessingStartTime" in stopped) == ("Stopped", False)
        assert describe(service, "behind")["ProcessingJobStatus"] == "InProgress"
        service.call("StopProcessingJob", {"ProcessingJobName": "busy"}, CALLER)
        assert service.wait("behind", SECONDS)
        assert describe(service, "behind")["ProcessingJobStatus"] == "Completed"
    finally:
        service.close()


def test_a_job_does_not_wait_for_its_turn_for_ever(tmp_path: Path) -> None:
    service = make(site_in(tmp_path), slots=Slots(1, longest=0.2))
    try:
        create(service, "busy", "sleep", "600")
        create(service, "behind", "true")
        assert service.wait("behind", SECONDS)
        assert describe(service, "behind")["ProcessingJobStatus"] == "Completed"
    finally:
        service.close()


def test_a_job_can_see_neither_the_state_nor_the_server_s_environment(sagemaker: SageMaker, site: Site) -> None:
    os.environ["SERVER_SECRET"] = "secret"
    script = f'test -z "$SERVER_SECRET" && test -z "$(ls -A {site.state_dir} 2>/dev/null)"'
    assert ended(sagemaker, "curious", "bash", "-c", script)["ProcessingJobStatus"] == "Completed"


def test_wait_gives_up_after_its_timeout(sagemaker: SageMaker) -> None:
    create(sagemaker, "slow", "sleep", "600")
    assert not sagemaker.wait("slow", 0.05)
    sagemaker.call("StopProcessingJob", {"ProcessingJobName": "slow"}, CALLER)
    assert sagemaker.wait("slow", SECONDS)


def test_a_role_that_cannot_be_assumed_is_a_validation_error(sagemaker: SageMaker) -> None:
    with pytest.raises(AwsError, match="Could not assume role arn:aws:iam::123456789012:role/other") as refused:
        create(sagemaker, "other-role", "true", RoleArn="arn:aws:iam::123456789012:role/other")
    assert refused.value.code == "ValidationException"


@pytest.mark.parametrize("operation", ["DescribeProcessingJob", "StopProcessingJob"])
def test_an_unknown_job_is_a_validation_error(sagemaker: SageMaker, operation: str) -> None:
    with pytest.raises(AwsError, match="Could not find requested job with name: none"):
        sagemaker.call(operation, {"ProcessingJobName": "none"}, CALLER)


def test_creating_needs_the_job_its_tags_and_the_role(sagemaker: SageMaker) -> None:
    params = request("any", "true", Tags=[{"Key": "workshop", "Value": "demo-exp"}])
    needed = sagemaker.permissions("CreateProcessingJob", params)
    job = "arn:aws:sagemaker:us-east-1:123456789012:processing-job/any"
    assert [(permission.action, permission.resource) for permission in needed] == [
        ("sagemaker:CreateProcessingJob", job),
        ("sagemaker:AddTags", job),
        ("iam:PassRole", ROLE),
    ]
    assert needed[0].context["aws:RequestTag/workshop"] == "demo-exp"
    assert needed[2].context == {"iam:PassedToService": "sagemaker.amazonaws.com"}


def test_without_pass_role_nothing_is_created(sagemaker: SageMaker) -> None:
    def decide(permission: Permission) -> None:
        if permission.action == "iam:PassRole":
            raise AwsError("AccessDeniedException", permission.action)

    with pytest.raises(AwsError, match="iam:PassRole"):
        sagemaker.call("CreateProcessingJob", request("unpassed", "true"), Caller("arn", decide))
    with pytest.raises(AwsError, match="Could not find"):
        describe(sagemaker, "unpassed")


def test_tags_are_added_changed_listed_and_removed(sagemaker: SageMaker) -> None:
    arn = create(sagemaker, "tagged", "true", Tags=[{"Key": "a", "Value": "1"}])
    sagemaker.call("AddTags", {"ResourceArn": arn, "Tags": [{"Key": k, "Value": "2"} for k in "ab"]}, CALLER)
    sagemaker.call("DeleteTags", {"ResourceArn": arn, "TagKeys": ["b", "never"]}, CALLER)
    assert sagemaker.call("ListTags", {"ResourceArn": arn}, CALLER) == {"Tags": [{"Key": "a", "Value": "2"}]}
    sagemaker.wait("tagged", SECONDS)


def test_jobs_are_listed_by_filter_order_and_page(sagemaker: SageMaker) -> None:
    for number in range(5):
        ended(sagemaker, f"page-{number}", *(["true"] if number else ["false"]))

    def names(**params: Any) -> tuple[list[str], str]:
        page = sagemaker.call("ListProcessingJobs", {"NameContains": "PAGE", **params}, CALLER)
        found = [job["ProcessingJobName"] for job in page["ProcessingJobSummaries"]]
        return found, page.get("NextToken", "")

    assert names() == ([f"page-{number}" for number in (4, 3, 2, 1, 0)], "")
    assert names(StatusEquals="Failed") == (["page-0"], "")
    first, token = names(SortBy="Name", SortOrder="Ascending", MaxResults=3)
    assert first == ["page-0", "page-1", "page-2"]
    assert names(SortBy="Name", SortOrder="Ascending", MaxResults=3, NextToken=token) == (["page-3", "page-4"], "")
    middle = describe(sagemaker, "page-2")["CreationTime"]
    assert names(CreationTimeAfter=middle.timestamp())[0] == ["page-4", "page-3"]
    assert names(CreationTimeBefore=middle)[0] == ["page-1", "page-0"]
    with pytest.raises(AwsError, match="pagination token"):
        names(NextToken="what")


def test_jobs_of_a_server_that_was_stopped_are_failed_and_their_names_stay_taken(tmp_path: Path) -> None:
    site = site_in(tmp_path)
    first = make(site)
    create(first, "interrupted", "sleep", "600")
    while "ProcessingStartTime" not in describe(first, "interrupted"):
        time.sleep(0.01)
    record = tmp_path / "sagemaker/processing-jobs/interrupted.json"
    running = record.read_text()
    first.close()
    assert describe(first, "interrupted")["ProcessingJobStatus"] == "Failed"
    record.write_text(running)  # as after a kill
    second = make(site)
    try:
        job = describe(second, "interrupted")
        assert job["ProcessingJobStatus"] == "Failed"
        assert "was stopped while the job was running" in job["FailureReason"]
        with pytest.raises(AwsError, match="Job name must be unique"):
            create(second, "interrupted", "true")
    finally:
        second.close()


def test_jobs_that_had_not_begun_when_the_server_was_stopped_run_after_its_start(tmp_path: Path) -> None:
    site = site_in(tmp_path)
    busy = 2
    first = make(site, slots=Slots(busy, longest=600))
    for number in range(busy):
        create(first, f"busy-{number}", "sleep", "600")
    create(first, "behind", "true")
    while not all("ProcessingStartTime" in describe(first, f"busy-{number}") for number in range(busy)):
        time.sleep(0.01)
    first.close()
    assert describe(first, "behind")["ProcessingJobStatus"] == "InProgress"
    second = make(site)
    try:
        second.resume()
        assert second.wait("behind", SECONDS)
        assert describe(second, "behind")["ProcessingJobStatus"] == "Completed"
        assert describe(second, "busy-0")["ProcessingJobStatus"] == "Failed"
    finally:
        second.close()
