"""What IAM is asked before Batch does something."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_api import IMAGE, Api, arn, refused, role

LINKED = "arn:aws:iam::123456789012:role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path)
    yield made
    made.service.close()


def context(api: Api, action: str) -> dict[str, object]:
    return dict(next(each.context for each in api.asked if each.action == action))


def test_the_first_compute_environment_needs_the_service_linked_role(api: Api) -> None:
    api.environment("first")
    asked = api.permissions()
    assert ("batch:CreateComputeEnvironment", arn("compute-environment/first")) in asked
    assert ("iam:CreateServiceLinkedRole", LINKED) in asked
    api.environment("second")
    assert "iam:CreateServiceLinkedRole" not in {action for action, _ in api.permissions()}


def test_without_the_permission_no_role_and_no_compute_environment_is_made(api: Api) -> None:
    api.denied.add("iam:CreateServiceLinkedRole")
    code, message = refused(api.environment)
    assert (code, LINKED in message) == ("AccessDeniedException", True)
    assert api.linked_roles.made == []
    assert api.describe_compute_environments()["computeEnvironments"] == []


def test_a_service_role_is_passed_to_batch_and_makes_the_linked_role_needless(api: Api) -> None:
    api.environment(serviceRole="service")
    asked = next(each for each in api.asked if each.action == "iam:PassRole")
    assert (asked.resource, asked.context) == (role("service"), {"iam:PassedToService": "batch.amazonaws.com"})
    assert api.linked_roles.made == []


def test_a_queue_is_asked_about_with_its_compute_environments(api: Api) -> None:
    api.environment()
    api.permissions()
    api.queue()
    assert api.permissions()[:2] == [
        ("batch:CreateJobQueue", arn("job-queue/normal")),
        ("batch:CreateJobQueue", arn("compute-environment/spot")),
    ]


def test_a_definition_passes_its_roles_to_ecs_tasks(api: Api) -> None:
    logs = {"logDriver": "awslogs", "options": {"awslogs-group": "/mine", "awslogs-create-group": "true"}}
    api.definition(container={"logConfiguration": logs}, tags={"team": "ml"})
    about = context(api, "batch:RegisterJobDefinition")
    assert about == {
        "aws:RequestTag/team": "ml", "aws:TagKeys": ["team"], "batch:Image": IMAGE, "batch:LogDriver": "awslogs",
        "batch:AWSLogsGroup": "/mine", "batch:AWSLogsCreateGroup": "true",
    }  # fmt: skip
    assert context(api, "iam:PassRole") == {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
    assert api.permissions() == [
        ("batch:RegisterJobDefinition", arn("job-definition/work")),
        ("batch:TagResource", arn("job-definition/work:1")),
        ("iam:PassRole", role("job")),
        ("iam:PassRole", role("execution")),
    ]


@pytest.mark.parametrize("action", ["batch:RegisterJobDefinition", "batch:TagResource", "iam:PassRole"])
def test_each_of_these_is_needed(api: Api, action: str) -> None:
    api.denied.add(action)
    code, message = refused(api.definition, tags={"team": "ml"})
    assert (code, action in message) == ("AccessDeniedException", True)
    assert api.describe_job_definitions()["jobDefinitions"] == []


def test_a_job_needs_the_queue_and_the_revision_that_it_gets_and_passes_no_role(api: Api) -> None:
    api.ready()
    api.definition()
    api.permissions()
    api.submit()
    assert api.permissions() == [
        ("batch:SubmitJob", arn("job-definition/work:2")),
        ("batch:SubmitJob", arn("job-queue/normal")),
    ]
    api.submit(definition="work:1", tags={"a": "1"})
    assert api.permissions() == [
        ("batch:SubmitJob", arn("job-definition/work:1")),
        ("batch:SubmitJob", arn("job-queue/normal")),
        ("batch:TagResource", arn("job/*")),
    ]


def test_tags_of_what_is_there_are_condition_keys(api: Api) -> None:
    api.ready()
    job_id = api.submit(tags={"owner": "dana"})
    name = arn(f"job/{job_id}")
    for call, params in (
        (api.cancel_job, {"jobId": job_id, "reason": "r"}),
        (api.terminate_job, {"jobId": job_id, "reason": "r"}),
        (api.list_tags_for_resource, {"resourceArn": name}),
    ):
        api.asked.clear()
        call(**params)
        assert (api.asked[0].resource, api.asked[0].context) == (name, {"aws:ResourceTag/owner": "dana"})
    api.asked.clear()
    api.untag_resource(resourceArn=name, tagKeys=["owner"])
    assert api.asked[0].context == {"aws:ResourceTag/owner": "dana", "aws:TagKeys": ["owner"]}


def test_describing_and_listing_know_no_resources(api: Api) -> None:
    api.ready()
    api.permissions()
    api.describe_jobs(jobs=["x"])
    api.list_jobs(jobQueue="normal")
    api.describe_job_definitions()
    assert api.permissions() == [
        ("batch:DescribeJobs", "*"), ("batch:ListJobs", "*"), ("batch:DescribeJobDefinitions", "*"),
    ]  # fmt: skip
