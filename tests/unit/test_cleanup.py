"""Clean-up finds what is ours and only that, and deletes it in an order in which nothing starts anew."""

import boto3
import pytest
from answers import ACCOUNT, REGION, Aws, in_turn, refuse

from helpers import cleanup, permissions
from helpers.cleanup import Resource
from helpers.connection import Connection

ROLE = f"arn:aws:iam::{ACCOUNT}:role/service-role/Studio"
TAG = {"workshop": "demo-exp"}
TAGS = [{"Key": "workshop", "Value": "demo-exp"}]
ABSENT = refuse("ResourceNotFoundException", status=404)
NOTHING = {
    "codecommit:ListRepositories": {"repositories": []},
    "stepfunctions:ListStateMachines": {"stateMachines": []},
    "sagemaker:ListProcessingJobs": {"ProcessingJobSummaries": []},
    "events:DescribeRule": ABSENT,
    "lambda:ListFunctions": {"Functions": []},
    "iam:ListRoles": {"Roles": []},
    "logs:DescribeLogGroups": {"logGroups": []},
    "logs:DescribeLogStreams": ABSENT,
    "s3:GetBucketTagging": refuse("NoSuchBucket", status=404),
    "cloudformation:ListStacks": {"StackSummaries": []},
    "ec2:DescribeInstances": {"Reservations": []},
    "sqs:ListQueues": {},
    "apigatewayv2:GetApis": {"Items": []},
    "events:ListRules": {"Rules": []},
    "stepfunctions:ListActivities": {"activities": []},
    "sagemaker:ListTrainingJobs": {"TrainingJobSummaries": []},
    "batch:DescribeJobQueues": {"jobQueues": []},
    "batch:DescribeComputeEnvironments": {"computeEnvironments": []},
    "batch:DescribeJobDefinitions": {"jobDefinitions": []},
    "ecs:ListClusters": {"clusterArns": []},
    "ecs:ListTaskDefinitionFamilies": {"families": []},
    "codebuild:ListProjects": {"projects": []},
    "ecr:DescribeRepositories": {"repositories": []},
}


@pytest.fixture
def account(monkeypatch, tmp_path):
    """Return an account with nothing in it but what ``answers`` gives, and a workshop in it."""
    monkeypatch.setenv("WORKSHOP_STATE_DIR", str(tmp_path / "state"))
    workshop = Connection("local", REGION, ACCOUNT, ROLE)

    def make(**answers):
        given = {name.replace("__", ":"): answer for name, answer in answers.items()}
        aws = Aws({**NOTHING, **given})
        monkeypatch.setattr(boto3, "client", aws.client)
        return aws, workshop

    return make


def only_the_first(answer):
    """Return an answer for the workshop's own bucket: those of notebooks 06 and 07 are not there."""
    return lambda params: (answer if "project1" in params["Bucket"] else refuse("NoSuchBucket", status=404))(params)


def only_if(member, value, answer, otherwise):
    """Return an answer to calls whose ``member`` has this value; all others get the other one."""

    def chosen(params):
        given = answer if params[member] == value else otherwise
        return given(params) if callable(given) else given

    return chosen


def machine(name):
    arn = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{name}"
    return {"name": name, "stateMachineArn": arn, "type": "STANDARD", "creationDate": 0}


def function(name):
    return {"FunctionName": name, "FunctionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"}


def found(workshop):
    return [(resource.kind, resource.name, resource.ours) for resource in cleanup.find_resources(workshop)]


def test_an_empty_account_has_nothing_to_delete(account):
    _, workshop = account()
    assert cleanup.find_resources(workshop) == []


def test_everything_is_found_in_the_order_of_deletion(account):
    _, workshop = account(
        codecommit__ListRepositories={"repositories": [{"repositoryName": "demo-exp-project1"}]},
        codecommit__ListTagsForResource={"tags": TAG},
        stepfunctions__ListStateMachines={"stateMachines": [machine("demo-exp-pipeline")]},
        stepfunctions__ListTagsForResource={"tags": [{"key": "workshop", "value": "demo-exp"}]},
        sagemaker__ListProcessingJobs={
            "ProcessingJobSummaries": [{"ProcessingJobName": "demo-exp-project1-a-train-0"}]
        },
        events__DescribeRule=only_if("Name", permissions.MANAGED_RULE, {"Name": permissions.MANAGED_RULE}, ABSENT),
        lambda__ListFunctions={"Functions": [function("demo-exp-dispatcher")]},
        lambda__ListTags={"Tags": TAG},
        iam__ListRoles={"Roles": [{"RoleName": "demo-exp-jobs"}, {"RoleName": "demo-exp-dispatcher"}]},
        iam__ListRoleTags={"Tags": TAGS},
        logs__DescribeLogGroups=only_if(
            "logGroupNamePrefix",
            "/aws/lambda/demo-exp-",
            {"logGroups": [{"logGroupName": "/aws/lambda/demo-exp-dispatcher"}]},
            {"logGroups": []},
        ),
        logs__DescribeLogStreams=only_if(
            "logGroupName",
            "/aws/sagemaker/ProcessingJobs",
            {"logStreams": [{"logStreamName": "demo-exp-project1-a-train-0/algo-1"}]},
            ABSENT,
        ),
        s3__GetBucketTagging=only_the_first(lambda params: {"TagSet": TAGS}),
    )
    (workshop.work_dir / "demo-exp-project1").mkdir(parents=True)
    resources = found(workshop)
    assert [kind for kind, _, _ in resources] == [
        "repository",
        "clone",
        "state machine",
        "running job",
        "managed rule",
        "function",
        "role",
        "role",
        "log group",
        "log stream",
        "bucket",
    ]
    assert all(ours for _, _, ours in resources)


STACK = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/demo-exp-ec2-worker/1"


def stack(**answers):
    summary = {"StackName": "demo-exp-ec2-worker", "StackId": STACK, "StackStatus": "CREATE_COMPLETE"}
    summary["CreationTime"] = 0
    return {
        "cloudformation__ListStacks": {"StackSummaries": [summary, {**summary, "StackStatus": "DELETE_COMPLETE"}]},
        "cloudformation__DescribeStacks": {"Stacks": [{**summary, "Tags": TAGS}]},
        **answers,
    }


def test_what_a_stack_made_goes_with_the_stack(account):
    part = {"RoleName": "demo-exp-ec2-worker-LaunchRole-AB12"}
    _, workshop = account(
        **stack(),
        iam__ListRoles={"Roles": [part, {"RoleName": "demo-exp-deployer"}]},
        iam__ListRoleTags={"Tags": TAGS},
    )
    assert found(workshop) == [("stack", "demo-exp-ec2-worker", True), ("role", "demo-exp-deployer", True)]


def test_a_stack_is_deleted_after_what_would_hold_it_back(account):
    resources = [
        {"ResourceType": "AWS::S3::Bucket", "PhysicalResourceId": "demo-exp-units"},
        {"ResourceType": "AWS::StepFunctions::StateMachine", "PhysicalResourceId": machine("m")["stateMachineArn"]},
        {"ResourceType": "AWS::SNS::Topic"},  # it was never made
    ]
    execution = {"executionArn": f"arn:aws:states:{REGION}:{ACCOUNT}:execution:m:e", "status": "RUNNING"}
    instance = {"InstanceId": "i-0123456789abcdef0", "State": {"Name": "terminated"}}
    running = {"Reservations": [{"Instances": [instance]}]}
    aws, workshop = account(
        **stack(
            cloudformation__ListStackResources={"StackResourceSummaries": resources},
            cloudformation__DeleteStack={},
            stepfunctions__ListExecutions={"executions": [execution]},
            stepfunctions__StopExecution={"stopDate": 0},
            ec2__DescribeInstances=running,
            ec2__TerminateInstances={},
            s3__ListObjectVersions={"Versions": [{"Key": "a", "VersionId": "null"}]},
            s3__DeleteObjects={},
        ),
    )
    aws.answers["cloudformation:DescribeStacks"] = {"Stacks": [{"StackName": "s", "StackStatus": "DELETE_COMPLETE"}]}
    cleanup.delete_resource(workshop, Resource("stack", "demo-exp-ec2-worker"))
    changes = [name for name, _ in aws.calls if not name.partition(":")[2].startswith(("List", "Describe"))]
    assert changes == [
        "stepfunctions:StopExecution",
        "ec2:TerminateInstances",
        "s3:DeleteObjects",
        "cloudformation:DeleteStack",
    ]


def test_what_has_the_prefix_but_not_the_tag_is_reported_and_never_deleted(account):
    _, workshop = account(
        iam__ListRoles={"Roles": [{"RoleName": "demo-exp-mine"}, {"RoleName": "other"}]},
        iam__ListRoleTags={"Tags": [{"Key": "workshop", "Value": "demo-exp-anna"}]},
    )
    (resource,) = cleanup.find_resources(workshop)
    assert resource == Resource("role", "demo-exp-mine", ours=False)
    assert "left alone" in str(resource)
    with pytest.raises(ValueError, match="by hand"):
        cleanup.delete_resource(workshop, resource)


def test_logs_of_a_workshop_whose_prefix_begins_with_ours_are_left_alone(account):
    groups = [{"logGroupName": f"/aws/lambda/demo-exp-{name}"} for name in ("anna-dispatcher", "dispatcher", "gone")]
    upload = f"7-{'0a' * 12}"
    jobs = [f"demo-exp-{name}" for name in ("anna-project1-a-train-0", "project1-a-train-0", upload, f"2-{upload}")]
    _, workshop = account(
        lambda__ListFunctions={"Functions": [function("demo-exp-anna-dispatcher"), function("demo-exp-dispatcher")]},
        lambda__ListTags=lambda params: {"Tags": {} if "anna" in params["Resource"] else TAG},
        logs__DescribeLogGroups={"logGroups": groups},
        logs__DescribeLogStreams={"logStreams": [{"logStreamName": f"{job}/algo-1"} for job in jobs]},
    )
    names = [name for kind, name, _ in found(workshop) if kind.startswith("log ")]
    assert names == [
        "/aws/lambda/demo-exp-dispatcher",
        "/aws/lambda/demo-exp-gone",
        f"demo-exp-7-{'0a' * 12}/algo-1",
        "demo-exp-project1-a-train-0/algo-1",
    ]


def test_clones_of_other_workshops_are_left_alone(account):
    _, workshop = account()
    for name in ("demo-exp-project1", "demo-exp-anna-project1"):
        (workshop.work_dir / name).mkdir(parents=True)
    assert found(workshop) == [("clone", "demo-exp-project1", True)]
    cleanup.delete_resource(workshop, Resource("clone", "demo-exp-project1"))
    assert [folder.name for folder in workshop.work_dir.iterdir()] == ["demo-exp-anna-project1"]


def test_the_rule_stays_while_somebody_elses_state_machine_may_need_it(account):
    _, workshop = account(
        stepfunctions__ListStateMachines={"stateMachines": [machine("of-others")]},
        events__DescribeRule={"Name": permissions.MANAGED_RULE},
    )
    assert found(workshop) == []


def test_the_rule_stays_for_the_machines_of_a_workshop_whose_prefix_begins_with_ours(account):
    tags = [{"key": "workshop", "value": "demo-exp-2"}]
    _, workshop = account(
        stepfunctions__ListStateMachines={"stateMachines": [machine("demo-exp-2-fargate")]},
        stepfunctions__ListTagsForResource={"tags": tags},
        events__DescribeRule={"Name": permissions.MANAGED_RULE},
    )
    assert found(workshop) == [("state machine", "demo-exp-2-fargate", False)]


def test_a_bucket_without_tags_is_not_ours(account):
    _, workshop = account(s3__GetBucketTagging=only_the_first(refuse("NoSuchTagSet", status=404)))
    assert found(workshop) == [("bucket", workshop.bucket, False)]


def test_running_executions_are_stopped_before_their_machine_goes(account):
    execution = {
        "executionArn": f"arn:aws:states:{REGION}:{ACCOUNT}:execution:demo-exp-m:run",
        "stateMachineArn": machine("demo-exp-m")["stateMachineArn"],
        "name": "run",
        "status": "RUNNING",
        "startDate": 0,
    }
    aws, workshop = account(
        stepfunctions__ListExecutions={"executions": [execution]},
        stepfunctions__StopExecution={},
        stepfunctions__DeleteStateMachine={},
    )
    cleanup.delete_resource(workshop, Resource("state machine", "demo-exp-m"))
    assert [name.partition(":")[2] for name in aws.names()] == ["ListExecutions", "StopExecution", "DeleteStateMachine"]
    assert aws.asked("stepfunctions:ListExecutions")[0]["statusFilter"] == "RUNNING"


def test_a_job_that_ended_meanwhile_is_no_error(account):
    ended = refuse("ValidationException", "The request was rejected because the processing job is in status Completed.")
    _, workshop = account(sagemaker__StopProcessingJob=ended)
    cleanup.delete_resource(workshop, Resource("running job", "demo-exp-project1-a-train-0"))


def test_the_managed_rule_goes_with_its_targets_and_by_force(account):
    aws, workshop = account(
        events__ListTargetsByRule={"Targets": [{"Id": "one", "Arn": "arn"}]},
        events__RemoveTargets={},
        events__DeleteRule={},
    )
    cleanup.delete_resource(workshop, Resource("managed rule", permissions.MANAGED_RULE))
    assert aws.asked("events:RemoveTargets") == [{"Rule": permissions.MANAGED_RULE, "Ids": ["one"], "Force": True}]
    assert aws.asked("events:DeleteRule") == [{"Name": permissions.MANAGED_RULE, "Force": True}]


@pytest.mark.parametrize("rest", [{"logStreams": [{"logStreamName": "of-others"}]}, {"logStreams": []}])
def test_the_log_group_that_jobs_share_goes_only_when_it_is_empty(account, rest):
    aws, workshop = account(
        logs__DeleteLogStream={}, logs__DescribeLogStreams=rest, logs__DeleteLogGroup={}
    )  # fmt: skip
    cleanup.delete_resource(workshop, Resource("log stream", "demo-exp-project1-a-train-0/algo-1"))
    assert len(aws.asked("logs:DeleteLogGroup")) == (0 if rest["logStreams"] else 1)


@pytest.mark.parametrize(
    ("kind", "calls"),
    [
        ("function", {"lambda:DeleteFunction": ABSENT}),
        ("log group", {"logs:DeleteLogGroup": ABSENT}),
        ("log stream", {"logs:DeleteLogStream": ABSENT}),
        ("role", {"iam:ListAttachedRolePolicies": refuse("NoSuchEntity", status=404)}),
        (
            "bucket",
            {
                "s3:ListObjectVersions": refuse("NoSuchBucket", status=404),
                "s3:DeleteBucket": refuse("NoSuchBucket", status=404),
            },
        ),
        ("repository", {"codecommit:DeleteRepository": {}}),
        ("stack", {"cloudformation:ListStackResources": refuse("ValidationError", "Stack with id s does not exist")}),
        ("queue", {"sqs:GetQueueUrl": refuse("AWS.SimpleQueueService.NonExistentQueue")}),
    ],
)
def test_what_is_gone_already_is_no_error(account, kind, calls):
    aws, workshop = account(**{name.replace(":", "__"): answer for name, answer in calls.items()})
    cleanup.delete_resource(workshop, Resource(kind, "demo-exp-x"))
    assert set(calls) <= set(aws.names())


def test_what_aws_deletes_in_its_own_time_is_looked_for_again(account):
    _, workshop = account(
        stepfunctions__ListStateMachines=in_turn(
            {"stateMachines": [machine("demo-exp-m")]}, NOTHING["stepfunctions:ListStateMachines"]
        ),
        stepfunctions__ListTagsForResource={"tags": [{"key": "workshop", "value": "demo-exp"}]},
    )
    pauses = []
    assert cleanup.wait_until_gone(workshop, sleep=pauses.append) == []
    assert len(pauses) == 1


def test_what_stays_is_returned_and_what_is_not_ours_not_waited_for(account):
    _, workshop = account(
        iam__ListRoles={"Roles": [{"RoleName": "demo-exp-x"}]}, iam__ListRoleTags=in_turn({"Tags": TAGS})
    )
    pauses = []
    assert [resource.name for resource in cleanup.wait_until_gone(workshop, seconds=4, sleep=pauses.append)] == [
        "demo-exp-x"
    ]
    assert sum(pauses) == 4
    _, workshop = account(iam__ListRoles={"Roles": [{"RoleName": "demo-exp-x"}]}, iam__ListRoleTags={"Tags": []})
    assert len(cleanup.wait_until_gone(workshop, sleep=pytest.fail)) == 1


def test_the_notebooks_own_policies_go_last_and_only_once(account):
    gone = refuse("NoSuchEntity", status=404)
    versions = [
        {"VersionId": "v2", "IsDefaultVersion": True},
        {"VersionId": "v1", "IsDefaultVersion": False},
    ]
    aws, workshop = account(
        iam__DetachRolePolicy=in_turn({}, gone),
        iam__ListPolicyVersions={"Versions": versions},
        iam__DeletePolicyVersion={},
        iam__DeletePolicy={},
        iam__DeleteRolePolicy=in_turn({}, {}, gone, gone),
    )
    inline = ["demo-exp-notebook-uploads", "demo-exp-notebook"]
    assert cleanup.delete_notebook_policies(workshop) == ["demo-exp-notebook-processing", *inline]
    assert cleanup.delete_notebook_policies(workshop) == []
    assert [asked["PolicyName"] for asked in aws.asked("iam:DeleteRolePolicy")] == inline + inline
    assert [asked["VersionId"] for asked in aws.asked("iam:DeletePolicyVersion")] == ["v1"]


def test_a_users_policy_is_an_administrators_to_take(account):
    aws, _ = account()
    assert not cleanup.delete_notebook_policies(Connection("aws", REGION, ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/dana"))
    assert aws.calls == []


# What AWS takes its time for


@pytest.mark.parametrize(
    "listed",
    [
        {
            "stepfunctions__ListStateMachines": {"stateMachines": [machine("demo-exp-gone")]},
            "stepfunctions__ListTagsForResource": refuse("ResourceNotFound"),
        },
        {"lambda__ListFunctions": {"Functions": [function("demo-exp-gone")]}, "lambda__ListTags": ABSENT},
        {"iam__ListRoles": {"Roles": [{"RoleName": "demo-exp-gone"}]}, "iam__ListRoleTags": refuse("NoSuchEntity")},
        {
            "sqs__ListQueues": {"QueueUrls": ["https://sqs/1/demo-exp-gone"]},
            "sqs__ListQueueTags": refuse("AWS.SimpleQueueService.NonExistentQueue"),
        },
        {
            "codecommit__ListRepositories": {"repositories": [{"repositoryName": "demo-exp-gone"}]},
            "codecommit__ListTagsForResource": refuse("RepositoryDoesNotExistException"),
        },
    ],
)
def test_what_is_still_listed_but_gone_is_not_found(account, listed):
    _, workshop = account(**listed)
    assert found(workshop) == []


def test_a_resource_whose_tags_may_not_be_read_is_an_error(account):
    _, workshop = account(
        lambda__ListFunctions={"Functions": [function("demo-exp-x")]}, lambda__ListTags=refuse("AccessDeniedException")
    )
    with pytest.raises(Exception, match="AccessDeniedException"):
        cleanup.find_resources(workshop)


def test_a_stack_and_its_instances_have_half_an_hour_to_go(account, monkeypatch):
    waited = []
    monkeypatch.setattr("botocore.waiter.time.sleep", waited.append)
    ending = {"Reservations": [{"Instances": [{"InstanceId": "i-1", "State": {"Name": "shutting-down"}}]}]}
    gone = {"Reservations": [{"Instances": [{"InstanceId": "i-1", "State": {"Name": "terminated"}}]}]}
    stack = {"StackName": "demo-exp-s", "CreationTime": "2026-11-22T12:00:00Z"}
    _, workshop = account(
        cloudformation__ListStackResources={"StackResourceSummaries": []},
        cloudformation__DeleteStack={},
        cloudformation__DescribeStacks=in_turn(
            *[{"Stacks": [stack | {"StackStatus": "DELETE_IN_PROGRESS"}]}] * 800,
            {"Stacks": [stack | {"StackStatus": "DELETE_COMPLETE"}]},
        ),
        ec2__TerminateInstances={},
        ec2__DescribeInstances=in_turn(*[ending] * 200, gone),
    )
    cleanup.delete_resource(workshop, Resource("stack", "demo-exp-s"))
    assert sum(waited) > 30 * 60


def test_what_notebook_08_made_is_found_before_the_roles_that_it_needs(account):
    tags = [{"key": "workshop", "value": "demo-exp"}]
    job_queue = {"jobQueueName": "demo-exp-normal", "status": "VALID", "tags": TAG}
    environment = {"computeEnvironmentName": "demo-exp-spot", "status": "VALID", "tags": TAG}
    definition = {"jobDefinitionName": "demo-exp-train", "revision": 3, "tags": TAG}
    family = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/demo-exp-summarize:2"
    rule = {"Name": "demo-exp-activity-checker", "Arn": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/demo-exp-any"}
    activity = {"name": "demo-exp-summarize", "activityArn": f"arn:aws:states:{REGION}:{ACCOUNT}:activity:demo-exp-any"}
    images = {"repositoryName": "demo-exp-processing", "repositoryArn": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/a"}
    _, workshop = account(
        apigatewayv2__GetApis={"Items": [{"Name": "demo-exp-start", "ApiId": "a", "Tags": TAG}]},
        events__ListRules={"Rules": [rule]},
        events__ListTagsForResource={"Tags": TAGS},
        stepfunctions__ListActivities={"activities": [activity]},
        stepfunctions__ListTagsForResource={"tags": tags},
        batch__DescribeJobQueues={"jobQueues": [job_queue]},
        batch__DescribeComputeEnvironments={"computeEnvironments": [environment]},
        batch__DescribeJobDefinitions={"jobDefinitions": [definition]},
        ecs__ListClusters={"clusterArns": [f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/demo-exp"]},
        ecs__DescribeClusters={"clusters": [{"clusterName": "demo-exp", "status": "ACTIVE", "tags": tags}]},
        ecs__ListTaskDefinitionFamilies={"families": ["demo-exp-summarize"]},
        ecs__ListTaskDefinitions={"taskDefinitionArns": [family]},
        ecs__DescribeTaskDefinition={"tags": tags},
        codebuild__ListProjects={"projects": ["demo-exp-image", "others"]},
        codebuild__BatchGetProjects={"projects": [{"name": "demo-exp-image", "tags": tags}]},
        ecr__DescribeRepositories={"repositories": [images]},
        ecr__ListTagsForResource={"tags": TAGS},
        iam__ListRoles={"Roles": [{"RoleName": "demo-exp-task"}]},
        iam__ListRoleTags={"Tags": TAGS},
    )
    assert [(kind, name) for kind, name, ours in found(workshop) if ours] == [
        ("API", "demo-exp-start"),
        ("schedule", "demo-exp-activity-checker"),
        ("activity", "demo-exp-summarize"),
        ("job queue", "demo-exp-normal"),
        ("compute environment", "demo-exp-spot"),
        ("job definition", "demo-exp-train:3"),
        ("cluster", "demo-exp"),
        ("task definition", "demo-exp-summarize:2"),
        ("build project", "demo-exp-image"),
        ("image repository", "demo-exp-processing"),
        ("role", "demo-exp-task"),
    ]


def test_a_job_queue_is_disabled_emptied_and_waited_for(account):
    there = {"jobQueueName": "demo-exp-normal", "status": "VALID", "tags": TAG}
    updating = {"jobQueues": [{**there, "status": "UPDATING"}]}
    aws, workshop = account(
        batch__UpdateJobQueue={},
        batch__ListJobs=only_if("jobStatus", "RUNNABLE", {"jobSummaryList": [{"jobId": "j", "jobName": "n"}]}, {}),
        batch__TerminateJob={},
        batch__DescribeJobQueues=in_turn(updating, {"jobQueues": [there]}, {"jobQueues": []}),
        batch__DeleteJobQueue={},
    )
    cleanup.delete_resource(workshop, Resource("job queue", "demo-exp-normal"))
    done = [name for name, _ in aws.calls if name not in ("batch:ListJobs", "batch:DescribeJobQueues")]
    assert done == ["batch:UpdateJobQueue", "batch:TerminateJob", "batch:DeleteJobQueue"]


def test_a_training_job_of_others_is_not_asked_for_its_tags(account):
    jobs = [
        {"TrainingJobName": name, "TrainingJobArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{name}",
         "CreationTime": 0, "TrainingJobStatus": "InProgress"}
        for name in ("demo-exp-training-1", "of-demo-exp-lovers")
    ]  # fmt: skip
    aws, workshop = account(
        sagemaker__ListTrainingJobs={"TrainingJobSummaries": jobs}, sagemaker__ListTags={"Tags": TAGS}
    )
    assert found(workshop) == [("running training job", "demo-exp-training-1", True)]
    assert [asked["ResourceArn"].rpartition("/")[2] for asked in aws.asked("sagemaker:ListTags")] == [
        "demo-exp-training-1"
    ]


def test_builds_have_stopped_before_they_are_deleted(account, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    running = {"builds": [{"id": "demo-exp-image:1", "buildStatus": "IN_PROGRESS"}]}
    stopped = {"builds": [{"id": "demo-exp-image:1", "buildStatus": "STOPPED"}]}
    aws, workshop = account(
        codebuild__ListBuildsForProject={"ids": ["demo-exp-image:1"]},
        codebuild__BatchGetBuilds=in_turn(running, running, stopped),
        codebuild__StopBuild={},
        codebuild__BatchDeleteBuilds={},
        codebuild__DeleteProject={},
    )
    cleanup.delete_resource(workshop, Resource("build project", "demo-exp-image"))
    assert [name.partition(":")[2] for name in aws.names()] == [
        "ListBuildsForProject",
        "BatchGetBuilds",
        "StopBuild",
        "BatchGetBuilds",
        "BatchGetBuilds",
        "BatchDeleteBuilds",
        "DeleteProject",
    ]
