"""The life of Batch jobs: states, attempts, dependencies, arrays, cancelling and terminating, a stop and a start."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_api import ACCOUNT, Api, arn, eventually, refused, role, sized

from helpers.local_aws.containers import End


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path).ready()
    yield made
    made.service.close()


def attempts(job: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (each["statusReason"], each["container"].get("exitCode"), each["container"].get("reason"))
        for each in job["attempts"]
    ]


def test_a_job_that_exits_with_0_has_succeeded_and_says_when(api: Api) -> None:
    job_id = api.submit()
    running = api.becomes(job_id, "RUNNING")
    assert running["startedAt"] >= running["createdAt"]
    assert running["attempts"] == []
    stream = running["container"]["logStreamName"]
    assert re.fullmatch(r"work/default/[0-9a-f]{32}", stream)
    api.end(job_id)
    ended = api.becomes(job_id, "SUCCEEDED")
    assert ended["statusReason"] == "Essential container in task exited"
    assert ended["stoppedAt"] >= ended["startedAt"]
    assert (ended["container"]["exitCode"], ended["container"]["logStreamName"]) == (0, stream)
    assert attempts(ended) == [("Essential container in task exited", 0, None)]
    assert "taskArn" not in ended["container"]  # there is no ECS task behind it
    assert ended["jobArn"] == arn(f"job/{job_id}")


def test_the_container_gets_the_order_the_roles_and_the_variables_of_batch(api: Api) -> None:
    overrides = {
        "command": ["train", "Ref::alpha", "Ref::depth", "x-Ref::alpha"],
        "environment": [{"name": "A", "value": "2"}, {"name": "B", "value": "3"}],
        "resourceRequirements": [{"type": "MEMORY", "value": "4096"}],
    }
    environment = [{"name": "A", "value": "1"}, {"name": "C", "value": "4"}]
    api.definition(
        "fit",
        {"environment": environment},
        parameters={"alpha": "1", "depth": "2"},
        timeout={"attemptDurationSeconds": 60},
    )
    job_id = api.submit(definition="fit", parameters={"alpha": "9"}, containerOverrides=overrides)
    container = api.container(job_id)
    assert container.argv == ["entry", "train", "9", "2", "x-Ref::alpha"]
    assert container.environment == {
        "A": "2", "B": "3", "C": "4", "AWS_BATCH_JOB_ID": job_id, "AWS_BATCH_JOB_ATTEMPT": "1",
        "AWS_BATCH_CE_NAME": "spot", "AWS_BATCH_JQ_NAME": "normal", "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
    }  # fmt: skip
    assert (container.timeout, container.grace, container.role_arn) == (60, 30, role("job"))
    assert container.metadata["task"]["Limits"] == {"CPU": 1.0, "Memory": 4096}
    assert container.credentials is not None
    assert container.credentials()["AWS_ACCESS_KEY_ID"] == role("job")
    assert container.log is not None
    assert (container.log.group, container.log.create_group) == ("/aws/batch/job", False)
    assert container.log.credentials["AWS_ACCESS_KEY_ID"] == role("execution")
    assert "/aws/batch/job" in api.groups
    assert api.job(job_id)["container"]["resourceRequirements"] == sized("1", "4096")


def test_without_a_command_the_images_own_is_run(api: Api) -> None:
    api.definition("own", {"command": None})
    assert api.container(api.submit(definition="own")).argv == ["entry", "default"]


def test_a_log_group_of_ones_own_is_made_only_if_that_is_asked_for(api: Api) -> None:
    for create in ("false", "true"):
        options = {"awslogs-group": "/mine", "awslogs-stream-prefix": "p", "awslogs-create-group": create}
        api.definition("mine", {"logConfiguration": {"logDriver": "awslogs", "options": options}})
        log = api.container(api.submit(definition="mine")).log
        assert log is not None
        assert (log.group, log.stream[:10], log.create_group) == ("/mine", "p/default/", create == "true")
    assert api.groups == []


def test_without_a_log_there_is_no_job(api: Api) -> None:
    """Containers find it out when they start."""
    said = "ResourceInitializationError: failed to validate logger args: no such group"
    job_id = api.submit()
    task = api.container(job_id).run_id
    api.containers.end(task, End("failed", None, said, "no such group"))
    assert attempts(api.becomes(job_id, "FAILED")) == [(said, None, None)]


def test_a_failing_job_is_tried_as_often_as_its_strategy_says(api: Api) -> None:
    job_id = api.submit(retryStrategy={"attempts": 3})
    for number in ("1", "2", "3"):
        eventually(lambda number=number: api.container(job_id).environment["AWS_BATCH_JOB_ATTEMPT"] == number)
        api.end(job_id, code=int(number))
    failed = api.becomes(job_id, "FAILED")
    assert [code for _, code, _ in attempts(failed)] == [1, 2, 3]
    assert failed["container"]["exitCode"] == 3
    streams = {each["container"]["logStreamName"] for each in failed["attempts"]}
    assert len(streams) == 3


CONDITIONS = [
    {"action": "EXIT", "onExitCode": "2*"},
    {"action": "RETRY", "onExitCode": "1", "onStatusReason": "Essential*"},
    {"action": "EXIT", "onReason": "*"},
]


@pytest.mark.parametrize(("code", "tried"), [(2, 1), (23, 1), (1, 3), (11, 1)])
def test_the_first_condition_that_fits_decides_about_a_retry(api: Api, code: int, tried: int) -> None:
    api.containers.code = code
    failed = api.becomes(api.submit(retryStrategy={"attempts": 3, "evaluateOnExit": CONDITIONS}), "FAILED")
    assert len(failed["attempts"]) == tried


def test_without_a_condition_that_fits_a_job_is_tried_again(api: Api) -> None:
    api.containers.code = 5
    only = [{"action": "EXIT", "onExitCode": "7"}]
    failed = api.becomes(api.submit(retryStrategy={"attempts": 2, "evaluateOnExit": only}), "FAILED")
    assert len(failed["attempts"]) == 2


def test_a_timeout_is_not_tried_again(api: Api) -> None:
    job_id = api.submit(retryStrategy={"attempts": 3}, timeout={"attemptDurationSeconds": 60})
    api.end(job_id, code=137, reason="timeout")
    failed = api.becomes(job_id, "FAILED")
    assert attempts(failed) == [("Job attempt duration exceeded timeout", 137, None)]


def test_an_image_that_is_not_there_is_the_reason_of_the_container(api: Api) -> None:
    api.definition("gone", {"image": "missing:1"})
    failed = api.becomes(api.submit(definition="gone"), "FAILED")
    assert attempts(failed) == [("Task failed to start", None, "CannotPullContainerError: missing:1 not found")]
    assert "startedAt" not in failed


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("ecr:GetAuthorizationToken", "ResourceInitializationError: unable to pull secrets or registry auth"),
        ("ecr:BatchGetImage", "CannotPullContainerError: pull image manifest has been retried"),
    ],
)
def test_what_the_execution_role_may_not_do_fails_the_job(api: Api, action: str, said: str) -> None:
    api.missing.add(action)
    failed = api.becomes(api.submit(), "FAILED")
    assert said in failed["statusReason"] + failed["container"].get("reason", "")
    assert api.containers.started == []


@pytest.mark.parametrize("name", ["job", "execution"])
def test_a_role_that_does_not_trust_ecs_tasks_fails_the_job(api: Api, name: str) -> None:
    api.untrusting.add(role(name))
    failed = api.becomes(api.submit(), "FAILED")
    assert f"ECS was unable to assume the role '{role(name)}'" in failed["statusReason"]


def test_without_a_public_address_nothing_reaches_the_registry(api: Api) -> None:
    api.definition("private", {"networkConfiguration": None})
    failed = api.becomes(api.submit(definition="private"), "FAILED")
    assert "Check your task network configuration" in failed["statusReason"]


def test_a_terminated_job_ends_with_the_reason_and_is_not_tried_again(api: Api) -> None:
    job_id = api.submit(retryStrategy={"attempts": 3})
    api.container(job_id)
    api.terminate_job(jobId=job_id, reason="no longer needed")
    failed = api.becomes(job_id, "FAILED")
    assert (failed["statusReason"], failed["isTerminated"]) == ("no longer needed", True)
    assert attempts(failed) == [("no longer needed", 143, None)]
    api.terminate_job(jobId=job_id, reason="again")  # an ended job is no error
    assert api.job(job_id)["statusReason"] == "no longer needed"


def test_a_job_that_waits_is_cancelled_and_one_that_runs_is_not(api: Api) -> None:
    running, other = api.submit(), api.submit()
    waiting = api.submit()
    for job_id in (running, other):
        api.becomes(job_id, "RUNNING")
    api.becomes(waiting, "RUNNABLE")
    for job_id in (running, waiting):
        api.cancel_job(jobId=job_id, reason="too many")
    failed = api.becomes(waiting, "FAILED")
    assert (failed["statusReason"], failed["isCancelled"], failed["attempts"]) == ("too many", True, [])
    assert api.status(running) == "RUNNING"


def test_a_job_waits_for_those_that_it_depends_on(api: Api) -> None:
    first, second = api.submit("first"), api.submit("second")
    third = api.submit("third", dependsOn=[{"jobId": first}, {"jobId": second}])
    api.becomes(third, "PENDING")
    api.end(first)
    api.becomes(first, "SUCCEEDED")
    assert api.status(third) == "PENDING"
    api.end(second)
    api.becomes(third, "RUNNING")


def test_a_job_whose_dependency_fails_fails_and_so_on(api: Api) -> None:
    first = api.submit("first")
    second = api.submit("second", dependsOn=[{"jobId": first}])
    third = api.submit("third", dependsOn=[{"jobId": second}])
    api.end(first, code=1)
    for job_id in (second, third):
        failed = api.becomes(job_id, "FAILED")
        assert (failed["statusReason"], failed["attempts"]) == ("Dependent Job failed", [])
    late = api.submit("late", dependsOn=[{"jobId": first}])
    assert api.becomes(late, "FAILED")["statusReason"] == "Dependent Job failed"


def test_a_pending_job_that_is_cancelled_ends_after_its_dependencies(api: Api) -> None:
    first = api.submit("first")
    second = api.submit("second", dependsOn=[{"jobId": first}])
    api.becomes(second, "PENDING")
    api.cancel_job(jobId=second, reason="changed my mind")
    api.becomes(first, "RUNNING")
    assert api.status(second) == "PENDING"
    api.end(first)
    assert api.becomes(second, "FAILED")["statusReason"] == "changed my mind"


def test_a_pending_job_that_is_terminated_ends_at_once(api: Api) -> None:
    first = api.submit("first")
    second = api.submit("second", dependsOn=[{"jobId": first}])
    api.becomes(second, "PENDING")
    api.terminate_job(jobId=second, reason="stop")
    assert api.becomes(second, "FAILED")["statusReason"] == "stop"


def summary(api: Api, job_id: str) -> dict[str, int]:
    counted = api.job(job_id)["arrayProperties"]["statusSummary"]
    return {status: number for status, number in counted.items() if number}


def test_an_array_is_as_many_jobs_which_know_their_index(api: Api) -> None:
    job_id = api.submit(arrayProperties={"size": 3})
    api.becomes(f"{job_id}:1", "RUNNING")
    assert api.status(job_id) == "PENDING"
    assert summary(api, job_id) == {"RUNNING": 2, "RUNNABLE": 1}
    for index in range(3):
        variables = api.container(f"{job_id}:{index}").environment
        assert (variables["AWS_BATCH_JOB_ARRAY_INDEX"], variables["AWS_BATCH_JOB_ARRAY_SIZE"]) == (str(index), "3")
        api.end(f"{job_id}:{index}")
    api.becomes(job_id, "SUCCEEDED")
    assert summary(api, job_id) == {"SUCCEEDED": 3}
    assert api.job(f"{job_id}:2")["arrayProperties"] == {"index": 2}
    assert api.job(f"{job_id}:2")["jobArn"] == arn(f"job/{job_id}:2")


def test_an_array_with_a_failed_child_fails_when_all_have_ended(api: Api) -> None:
    job_id = api.submit(arrayProperties={"size": 3})
    api.end(f"{job_id}:0", code=4)
    api.becomes(f"{job_id}:0", "FAILED")
    assert api.status(job_id) == "PENDING"
    for index in (1, 2):
        api.end(f"{job_id}:{index}")
    failed = api.becomes(job_id, "FAILED")
    assert failed["statusReason"] == "Array Child Job failed"
    assert summary(api, job_id) == {"SUCCEEDED": 2, "FAILED": 1}


def test_a_sequential_array_runs_one_child_after_the_other(api: Api) -> None:
    job_id = api.submit(arrayProperties={"size": 3}, dependsOn=[{"type": "SEQUENTIAL"}])
    for index in range(2):
        now = api.container(f"{job_id}:{index}")
        assert list(api.containers.running) == [now.run_id]
        assert api.status(f"{job_id}:{index + 1}") == "PENDING"
        api.end(f"{job_id}:{index}", code=index)
    assert api.becomes(f"{job_id}:2", "FAILED")["statusReason"] == "Dependent Job failed"
    api.becomes(job_id, "FAILED")


@pytest.mark.parametrize("first", ["there", "later"])
def test_the_children_of_an_array_wait_for_those_of_another(api: Api, first: str) -> None:
    """Also where the other array does not have its children yet, since it waits itself."""
    gate = api.submit("gate")
    needs = [{"jobId": gate}] if first == "later" else []
    one = api.submit("one", arrayProperties={"size": 2}, dependsOn=needs)
    two = api.submit("two", arrayProperties={"size": 2}, dependsOn=[{"type": "N_TO_N", "jobId": one}])
    api.becomes(f"{two}:0", "PENDING")
    api.end(gate)
    api.end(f"{one}:1")
    api.becomes(f"{two}:1", "RUNNING")
    assert api.status(f"{two}:0") == "PENDING"
    api.end(f"{one}:0", code=1)
    assert api.becomes(f"{two}:0", "FAILED")["statusReason"] == "Dependent Job failed"
    api.end(f"{two}:1")
    api.becomes(two, "FAILED")


def test_a_job_can_wait_for_a_whole_array_or_for_one_of_its_children(api: Api) -> None:
    array = api.submit(arrayProperties={"size": 2})
    api.becomes(array, "PENDING")
    whole = api.submit("whole", dependsOn=[{"jobId": array}])
    part = api.submit("part", dependsOn=[{"jobId": f"{array}:0"}])
    api.end(f"{array}:0")
    api.becomes(part, "RUNNING")
    assert api.status(whole) == "PENDING"
    api.end(f"{array}:1")
    api.becomes(whole, "RUNNING")


def test_an_array_is_terminated_with_its_children(api: Api) -> None:
    job_id = api.submit(arrayProperties={"size": 4})
    api.container(f"{job_id}:1")
    api.terminate_job(jobId=job_id, reason="enough")
    failed = api.becomes(job_id, "FAILED")
    assert (failed["statusReason"], failed["isTerminated"]) == ("enough", True)
    assert {api.job(f"{job_id}:{index}")["statusReason"] for index in range(4)} == {"enough"}
    assert api.containers.running == {}


def test_a_cancelled_array_ends_when_its_running_children_have(api: Api) -> None:
    job_id = api.submit(arrayProperties={"size": 3})
    api.becomes(f"{job_id}:1", "RUNNING")
    api.cancel_job(jobId=job_id, reason="enough")
    assert api.becomes(f"{job_id}:2", "FAILED")["statusReason"] == "enough"
    assert api.status(job_id) == "PENDING"
    for index in (0, 1):
        api.end(f"{job_id}:{index}")
    assert api.becomes(job_id, "FAILED")["statusReason"] == "enough"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"arrayProperties": {"size": 1}}, "Array size must be between 2 and 10000"),
        ({"arrayProperties": {"size": 10001}}, "Array size must be between 2 and 10000"),
        ({"timeout": {"attemptDurationSeconds": 59}}, "at least 60 seconds"),
        ({"retryStrategy": {"attempts": 11}}, "between 1 and 10"),
        ({"retryStrategy": {}}, "RetryAttempts must be provided with retry strategy"),
        ({"dependsOn": [{"jobId": "nobody"}]}, "Job nobody does not exist"),
        ({"dependsOn": [{"jobId": str(n)} for n in range(21)]}, "maximum of 20 jobs"),
        ({"dependsOn": [{"type": "SEQUENTIAL"}]}, "Only an array job"),
        ({"containerOverrides": {"command": ["Ref::none"]}}, "No parameter found for reference none"),
        ({"shareIdentifier": "a"}, "submitted to job queue with fair share scheduling policy."),
        ({"containerOverrides": {"vcpus": 1}}, "Use resource requirements instead."),
        ({"containerOverrides": {"command": ["a", ""]}}, "empty string"),
        ({"containerOverrides": {"environment": [{"name": "AWS_BATCH_X", "value": "1"}]}}, "cannot start with"),
        ({"containerOverrides": {"resourceRequirements": sized("3", "2048")}}, "(3.00 vCPU, 2048 MiB) not valid."),
        ({"jobName": "-job"}, "Job name should match valid pattern"),
        ({"jobQueue": "other"}, "JobQueue other not found."),
        ({"jobDefinition": "other"}, "JobDefinition name other does not exist or is not in ACTIVE status"),
        ({"tags": {"aws:x": "1"}}, "reserved for AWS"),
    ],
)  # fmt: skip
def test_a_job_that_batch_would_not_take_is_refused(api: Api, more: dict[str, Any], said: str) -> None:
    code, message = refused(api.submit_job, **{"jobName": "job", "jobQueue": "normal", "jobDefinition": "work", **more})
    assert code == "ClientException"
    assert said in message
    assert api.containers.started == []


@pytest.mark.parametrize("name", ["nodeOverrides", "ecsPropertiesOverride", "eksPropertiesOverride"])
def test_what_is_not_built_is_refused_by_name(api: Api, name: str) -> None:
    content: dict[str, Any] = {
        "nodeOverrides": {"numNodes": 2},
        "ecsPropertiesOverride": {"taskProperties": [{"containers": []}]},
        "eksPropertiesOverride": {"podProperties": {"containers": []}},
    }
    code, message = refused(api.submit, **{name: content[name]})
    assert (code, name in message) == ("NotImplemented", True)


def test_what_ecs_finds_too_long_fails_the_job(api: Api) -> None:
    long = [{"name": "A", "value": "x" * 8192}]
    failed = api.becomes(api.submit(containerOverrides={"environment": long}), "FAILED")
    assert failed["statusReason"] == "Container Overrides length must be at most 8192"


def test_jobs_are_listed_by_status_and_by_filters(api: Api) -> None:
    ids = [api.submit(name) for name in ("alpha", "Alpine", "beta")]
    array = api.submit("alphas", arrayProperties={"size": 2})
    api.becomes(ids[2], "RUNNABLE")
    api.becomes(f"{array}:1", "RUNNABLE")

    def listed(**params: Any) -> list[str]:
        return [each["jobId"] for each in api.list_jobs(**params)["jobSummaryList"]]

    def filtered(name: str, value: str) -> list[str]:
        return listed(jobQueue="normal", filters=[{"name": name, "values": [value]}])

    assert listed(jobQueue="normal") == [ids[1], ids[0]]  # those that run
    assert listed(jobQueue=arn("job-queue/normal"), jobStatus="RUNNABLE") == [ids[2]]
    assert listed(jobQueue="normal", jobStatus="PENDING") == [array]
    assert listed(arrayJobId=array, jobStatus="RUNNABLE") == [f"{array}:0", f"{array}:1"]
    assert filtered("JOB_NAME", "ALP*") == [array, ids[1], ids[0]]
    assert filtered("JOB_NAME", "alpha") == [ids[0]]
    assert filtered("JOB_DEFINITION", "work") == [array, *reversed(ids)]
    assert filtered("JOB_DEFINITION", arn("job-definition/work:2")) == []
    assert filtered("AFTER_CREATED_AT", "1") == [array, *reversed(ids)]
    assert filtered("BEFORE_CREATED_AT", "1") == []
    first = api.list_jobs(jobQueue="normal", maxResults=1)
    rest = api.list_jobs(jobQueue="normal", maxResults=1, nextToken=first["nextToken"])
    assert [each["jobId"] for each in (*first["jobSummaryList"], *rest["jobSummaryList"])] == [ids[1], ids[0]]
    assert "nextToken" not in rest
    assert refused(api.list_jobs)[0] == "ClientException"
    assert refused(api.list_jobs, jobQueue="normal", arrayJobId=array)[0] == "ClientException"


def test_at_most_100_jobs_are_described_and_unknown_ones_left_out(api: Api) -> None:
    assert api.describe_jobs(jobs=["nobody"])["jobs"] == []
    code, message = refused(api.describe_jobs, jobs=["x"] * 101)
    assert (code, "Maximum number of jobs supported is  100" in message) == ("ClientException", True)


def test_what_was_wished_of_an_array_counts_after_a_kill(api: Api) -> None:
    array = api.submit(arrayProperties={"size": 200}, retryStrategy={"attempts": 2})
    api.becomes(f"{array}:1", "RUNNING")
    api.containers.stop = lambda run_id: None  # type: ignore[method-assign]
    with api.service._jobs.lock:  # nothing of it is done yet
        api.terminate_job(jobId=array, reason="enough")
        api.service._jobs._closing = True
    api.reopen(lose=False)
    assert api.becomes(array, "FAILED")["statusReason"] == "enough"
    assert summary(api, array) == {"FAILED": 200}
    assert len(api.job(f"{array}:1")["attempts"]) == 1


def test_waiting_for_a_job_ends_with_it(api: Api) -> None:
    job_id = api.submit()
    assert api.service.wait(job_id, timeout=0.01) is False
    api.end(job_id)
    assert api.service.wait(job_id, timeout=180) is True
    assert api.status(job_id) == "SUCCEEDED"


def test_jobs_that_waited_go_on_after_a_start_and_those_that_ran_are_tried_again_or_have_failed(api: Api) -> None:
    once, twice = api.submit("once"), api.submit("twice", retryStrategy={"attempts": 2})
    waiting = api.submit("waiting")
    pending = api.submit("pending", dependsOn=[{"jobId": waiting}])
    api.becomes(once, "RUNNING")
    api.becomes(twice, "RUNNING")
    api.becomes(pending, "PENDING")
    api.reopen()
    failed = api.becomes(once, "FAILED")
    assert attempts(failed) == [("The embedded AWS was stopped while the job was running.", None, None)]
    assert api.container(twice).environment["AWS_BATCH_JOB_ATTEMPT"] == "2"
    api.end(waiting)
    api.becomes(pending, "RUNNING")


def test_a_kill_loses_no_job(api: Api) -> None:
    """Nothing could be written down at the end: jobs that ran are found RUNNING in their files."""
    array = api.submit(arrayProperties={"size": 3}, retryStrategy={"attempts": 2})
    api.end(f"{array}:0")
    api.becomes(f"{array}:0", "SUCCEEDED")
    api.becomes(f"{array}:2", "RUNNING")
    api.reopen(lose=False)
    assert api.status(f"{array}:0") == "SUCCEEDED"
    assert api.status(array) == "PENDING"
    for index in (1, 2):
        assert api.container(f"{array}:{index}").environment["AWS_BATCH_JOB_ATTEMPT"] == "2"
        api.end(f"{array}:{index}")
    api.becomes(array, "SUCCEEDED")


def test_jobs_that_ended_a_week_ago_are_forgotten(api: Api) -> None:
    api.containers.code = 0
    old, new = api.submit(), api.submit()
    api.becomes(old, "SUCCEEDED")
    api.becomes(new, "SUCCEEDED")
    file = api.site.state_dir / "batch" / "jobs" / f"{old}.json"
    file.write_text(re.sub(r'"stopped":\d+', '"stopped":1000', file.read_text()))
    api.reopen()
    assert api.describe_jobs(jobs=[old])["jobs"] == []
    assert api.status(new) == "SUCCEEDED"
    assert not file.exists()


def test_the_tags_of_a_job_can_be_changed_and_stay(api: Api) -> None:
    job_id = api.submit(tags={"a": "1", "b": "2"})
    name = arn(f"job/{job_id}")
    api.tag_resource(resourceArn=name, tags={"b": "3", "c": "4"})
    api.untag_resource(resourceArn=name, tagKeys=["a", "x"])
    api.reopen()
    assert api.list_tags_for_resource(resourceArn=name)["tags"] == {"b": "3", "c": "4"}
    assert api.job(job_id)["tags"] == {"b": "3", "c": "4"}
    array = api.submit(arrayProperties={"size": 2})
    child = f"arn:aws:batch:us-east-1:{ACCOUNT}:job/{array}:0"
    assert refused(api.list_tags_for_resource, resourceArn=child)[0] == "ClientException"


def test_a_container_that_tells_its_end_twice_or_late_changes_nothing(api: Api) -> None:
    job_id = api.submit(retryStrategy={"attempts": 2})
    first = api.container(job_id)
    ended = api.containers.running[first.run_id][1]
    api.end(job_id, code=1)
    eventually(lambda: api.container(job_id).run_id != first.run_id)
    ended(End("exited", 0))
    assert api.becomes(job_id, "RUNNING")["attempts"][0]["container"]["exitCode"] == 1
