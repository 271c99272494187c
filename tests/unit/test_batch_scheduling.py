"""Which Batch job starts next: the vCPUs of compute environments, the priority of queues, the order of submission."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_api import Api, eventually, sized


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path)
    yield made
    made.service.close()


def held(api: Api, name: str = "spot") -> None:
    """Let a compute environment take no jobs."""
    api.update_compute_environment(computeEnvironment=name, state="DISABLED")
    eventually(lambda: api.described(name)["status"] == "VALID")


def release(api: Api, name: str = "spot") -> None:
    api.update_compute_environment(computeEnvironment=name, state="ENABLED")


def order(api: Api) -> list[str]:
    return [each.environment["AWS_BATCH_JQ_NAME"] for each in list(api.containers.started)]


def running(api: Api) -> list[str]:
    return [each.environment["AWS_BATCH_JOB_ID"] for each, _ in list(api.containers.running.values())]


def test_100_jobs_on_two_slots_end_in_the_order_of_their_queues_priority(api: Api) -> None:
    api.environment(vcpus=2)
    api.definition()
    for name, priority in (("low", 1), ("urgent", 10), ("normal", 5)):
        api.queue(name, priority)
    held(api)
    api.containers.code = 0
    ids: dict[str, list[str]] = {"low": [], "normal": [], "urgent": []}
    for number in range(100):
        queue = ("low", "normal", "urgent")[number % 3]
        ids[queue].append(api.submit(f"job-{number}", queue=queue))
    assert api.containers.started == []
    release(api)
    for job_id in ids["low"]:
        api.becomes(job_id, "SUCCEEDED")
    assert order(api) == ["urgent"] * 33 + ["normal"] * 33 + ["low"] * 34
    started = [each.environment["AWS_BATCH_JOB_ID"] for each in api.containers.started]
    assert started == [*ids["urgent"], *ids["normal"], *ids["low"]]  # within a queue: as they were submitted
    assert api.containers.most <= 2


def test_the_vcpus_of_a_compute_environment_are_a_bound_that_holds(api: Api) -> None:
    api.ready(vcpus=1, resourceRequirements=sized("0.25", "512"))
    jobs = [api.submit() for _ in range(6)]
    api.becomes(jobs[3], "RUNNING")
    assert api.becomes(jobs[4], "RUNNABLE")
    assert len(running(api)) == 4
    api.end(jobs[1])
    api.becomes(jobs[4], "RUNNING")
    api.becomes(jobs[5], "RUNNABLE")
    assert api.containers.most == 4


def test_a_large_urgent_job_is_not_overtaken_by_small_ones(api: Api) -> None:
    api.ready(vcpus=2)
    api.queue("urgent", 10)
    api.definition("large", {"resourceRequirements": sized("2", "4096")})
    small = [api.submit() for _ in range(4)]
    api.becomes(small[1], "RUNNING")
    large = api.submit(queue="urgent", definition="large")
    api.becomes(large, "RUNNABLE")
    api.end(small[0])
    api.becomes(small[0], "SUCCEEDED")
    api.becomes(small[2], "RUNNABLE")  # one vCPU is free, and kept for the large one
    api.end(small[1])
    api.becomes(large, "RUNNING")
    api.end(large)
    api.becomes(small[3], "RUNNING")


def test_a_job_that_fits_nowhere_says_so_and_blocks_its_own_queue_only(api: Api) -> None:
    api.ready(vcpus=1)
    api.queue("urgent", 10)
    api.definition("large", {"resourceRequirements": sized("2", "4096")})
    large, behind, other = api.submit(queue="urgent", definition="large"), api.submit(queue="urgent"), api.submit()
    api.becomes(other, "RUNNING")
    assert api.job(large)["statusReason"].startswith("MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE")
    api.becomes(behind, "RUNNABLE")
    api.update_compute_environment(computeEnvironment="spot", computeResources={"maxvCpus": 3})
    api.becomes(large, "RUNNING")
    assert "statusReason" not in api.job(large)


def test_compute_environments_are_tried_in_their_order(api: Api) -> None:
    for name in ("first", "second"):
        api.environment(name, vcpus=1)
    api.definition()
    api.queue(environments=["second", "first"])
    jobs = [api.submit() for _ in range(3)]
    api.becomes(jobs[1], "RUNNING")
    places = [api.container(job_id).environment["AWS_BATCH_CE_NAME"] for job_id in jobs[:2]]
    assert places == ["second", "first"]
    api.becomes(jobs[2], "RUNNABLE")


def test_queues_of_equal_priority_take_turns_as_jobs_were_submitted(api: Api) -> None:
    api.environment(vcpus=1)
    api.definition()
    for name in ("one", "two"):
        api.queue(name, 1)
    held(api)
    api.containers.code = 0
    queues = ["two", "one", "one", "two", "one"]
    jobs = [api.submit(queue=name) for name in queues]
    release(api)
    api.becomes(jobs[-1], "SUCCEEDED")
    assert order(api) == queues


def test_a_job_that_is_tried_again_keeps_its_place(api: Api) -> None:
    api.ready(vcpus=1)
    first, second = api.submit(retryStrategy={"attempts": 2}), api.submit()
    api.end(first, code=1)
    eventually(lambda: len(api.job(first)["attempts"]) == 1)
    api.becomes(first, "RUNNING")
    api.becomes(second, "RUNNABLE")


def test_a_disabled_queue_takes_no_jobs_but_ends_those_it_has(api: Api) -> None:
    api.ready(vcpus=1)
    first, second = api.submit(), api.submit()
    api.update_job_queue(jobQueue="normal", state="DISABLED")
    api.end(first)
    api.becomes(second, "RUNNING")


def test_many_jobs_that_cannot_start_end_one_after_the_other(api: Api) -> None:
    api.ready(image="missing:1")
    array = api.submit(arrayProperties={"size": 2000})
    api.becomes(array, "FAILED")
    assert api.containers.started == []


def test_a_terminated_job_never_starts_once_its_container_is_on_its_way(api: Api) -> None:
    """It is ended again when it has arrived at the containers, where nobody knew it before."""
    api.ready()
    begin = api.containers.start

    def late(container: object, **more: object) -> None:
        api.terminate_job(jobId=container.environment["AWS_BATCH_JOB_ID"], reason="late")  # type: ignore[attr-defined]
        begin(container, **more)  # type: ignore[arg-type]

    api.containers.start = late  # type: ignore[method-assign, assignment]
    failed = api.becomes(api.submit(), "FAILED")
    assert failed["statusReason"] == "late"
    assert api.containers.running == {}
