"""What the notebook's own role needs: exactly what the notebooks call, on this workshop's resources.

Several policies, because a managed policy, which an IAM user needs, has room for 6,144
characters. A role's inline policies share 10,240, so the last one is managed for roles too.
"""

import time
from collections.abc import Callable
from typing import Any

from helpers import roles
from helpers.connection import PURPOSES, Connection

MANAGED_RULE = "StepFunctionsGetEventsForSageMakerProcessingJobsRule"
# The rules through which Step Functions learns that what it waits for has ended, made by AWS once for each account.
MANAGED_RULES = (
    MANAGED_RULE,
    "StepFunctionsGetEventsForECSTaskRule",
    "StepFunctionsGetEventsForBatchJobsRule",
    "StepFunctionsGetEventsForSageMakerTrainingJobsRule",
)
MANAGED_POLICY = "notebook-processing"
IMAGES = "aws/service/ami-amazon-linux-latest"  # AWS's public parameters, of no account


class PermissionsMissing(Exception):
    """The notebook's role lacks permissions that it may not give to itself; the message says what to do."""


def ensure_policy(
    iam: Any, workshop: Connection, policy: str, *, sleep: Callable[[float], None] = time.sleep
) -> roles.Ensured:
    """Give the notebook's role one of ``POLICIES``, or find that it has all that this policy allows.

    Raises PermissionsMissing, with the policy and an administrator's command, where the
    role may not change itself.
    """
    statements, name = POLICIES[policy](workshop), workshop.name(policy)
    missing = roles.find_missing_actions(iam, workshop.role_arn, statements)
    created = bool(missing)
    if missing and ":role/" in workshop.role_arn:
        document, role = roles.policy_json(statements), workshop.role_arn.rpartition("/")[2]
        try:
            if policy == MANAGED_POLICY:
                arn = policy_arn(workshop, policy)
                roles.ensure_managed_policy(iam, arn, document, tags=workshop.tag_list)
                iam.attach_role_policy(RoleName=role, PolicyArn=arn)
            else:
                iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=document)
            missing = roles.wait_for_actions(iam, workshop.role_arn, statements, sleep=sleep)
        except iam.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "AccessDenied":
                raise
    if missing:
        lines = "\n  ".join(missing)
        raise PermissionsMissing(
            f"missing:\n  {lines}\nSave this as policy.json:\n{roles.policy_json(statements)}\n"
            f"and let an administrator run: {admin_command(workshop, policy)}"
        )
    return roles.Ensured(name, workshop.role_arn, created)


def notebook_statements(workshop: Connection) -> list[dict[str, Any]]:
    """Return what notebooks 00 to 05 and 99 call."""
    prefix, arn = workshop.prefix, _arns(workshop)
    bucket = f"arn:aws:s3:::{workshop.bucket}"
    own_roles = f"arn:aws:iam::{workshop.account_id}:role/{prefix}-*"
    return [
        _allow(
            "s3",
            "CreateBucket DeleteBucket ListBucket ListBucketVersions GetBucketTagging PutBucketTagging"
            " PutBucketPublicAccessBlock",
            bucket,
        ),
        _allow("s3", "GetObject PutObject DeleteObject DeleteObjectVersion AbortMultipartUpload", f"{bucket}/*"),
        _allow(
            "codecommit",
            "CreateRepository GetRepository DeleteRepository TagResource ListTagsForResource GitPull GitPush"
            " GetCommit GetCommentsForComparedCommit GetRepositoryTriggers PutRepositoryTriggers"
            " TestRepositoryTriggers",
            arn("codecommit", f"{prefix}-*"),
        ),
        _allow(
            "lambda",
            "CreateFunction GetFunction UpdateFunctionCode UpdateFunctionConfiguration"
            " DeleteFunction AddPermission TagResource ListTags",
            arn("lambda", f"function:{prefix}-*"),
        ),
        _allow(
            "states",
            "CreateStateMachine UpdateStateMachine DescribeStateMachine DeleteStateMachine TagResource"
            " ListTagsForResource ListExecutions",
            arn("states", f"stateMachine:{prefix}-*"),
        ),
        _allow(
            "states",
            "DescribeExecution DescribeStateMachineForExecution GetExecutionHistory StopExecution",
            arn("states", f"execution:{prefix}-*:*"),
        ),
        _allow("states", "DescribeMapRun", arn("states", f"mapRun:{prefix}-*/*")),
        # Lists have no resource of their own.
        _allow_all(
            "states:ListStateMachines codecommit:ListRepositories lambda:ListFunctions iam:ListRoles"
            " sagemaker:ListProcessingJobs servicequotas:ListServiceQuotas ListAWSDefaultServiceQuotas"
            " logs:DescribeLogGroups",
            "*",
        ),
        _allow(
            "sagemaker",
            "DescribeProcessingJob StopProcessingJob",
            *(arn("sagemaker", f"processing-job/{name}-*") for name in dict.fromkeys((prefix, workshop.short_name))),
        ),
        _allow(
            "logs",
            "DescribeLogStreams FilterLogEvents GetLogEvents DeleteLogStream DeleteLogGroup",
            arn("logs", f"log-group:/aws/lambda/{prefix}-*"),
            arn("logs", "log-group:/aws/sagemaker/ProcessingJobs:*"),
        ),
        _allow(
            "events",
            "DescribeRule ListTargetsByRule RemoveTargets DeleteRule",
            *(arn("events", f"rule/{rule}") for rule in MANAGED_RULES),
        ),
        _allow(
            "iam",
            "SimulatePrincipalPolicy GetRole DeleteRolePolicy DetachRolePolicy",
            workshop.role_arn,
        ),
        _allow("iam", "ListPolicyVersions DeletePolicyVersion DeletePolicy", policy_arn(workshop, MANAGED_POLICY)),
        _allow(
            "iam",
            "CreateRole GetRole TagRole ListRoleTags UpdateAssumeRolePolicy PutRolePolicy ListRolePolicies"
            " ListAttachedRolePolicies DetachRolePolicy DeleteRolePolicy DeleteRole",
            own_roles,
        ),
        _pass_role(own_roles, "lambda.amazonaws.com", "states.amazonaws.com", "sagemaker.amazonaws.com"),
    ]


def upload_statements(workshop: Connection) -> list[dict[str, Any]]:
    """Return what notebooks 06, 07 and 99 call besides, and the buckets of all later ones."""
    prefix, arn = workshop.prefix, _arns(workshop)
    buckets = [f"arn:aws:s3:::{workshop.bucket_for(purpose)}" for purpose in PURPOSES]
    return [
        _allow(
            "s3",
            "CreateBucket DeleteBucket ListBucket ListBucketVersions GetBucketTagging PutBucketTagging"
            " PutBucketPublicAccessBlock PutBucketNotification",
            *buckets,
        ),
        _allow(
            "s3",
            "GetObject PutObject DeleteObject DeleteObjectVersion AbortMultipartUpload",
            *(f"{bucket}/*" for bucket in buckets),
        ),
        _allow("lambda", "InvokeFunction", arn("lambda", f"function:{prefix}-*")),
        _allow(
            "cloudformation",
            "CreateChangeSet DescribeChangeSet ExecuteChangeSet DeleteChangeSet DescribeStacks DescribeStackEvents"
            " ListStackResources DeleteStack",
            arn("cloudformation", f"stack/{prefix}-*"),
        ),
        _allow("cloudformation", "ListStacks", "*"),
        _pass_role(f"arn:aws:iam::{workshop.account_id}:role/{prefix}-*", "cloudformation.amazonaws.com"),
        # CloudFormation looks a template's parameters up for who makes the change set, not for the service role alone.
        _allow("ssm", "GetParameters", f"arn:aws:ssm:{workshop.region}::parameter/{IMAGES}/*"),
        _allow("ec2", "DescribeInstances DescribeSubnets DescribeVpcs DescribeInstanceTypeOfferings", "*"),
        _allow("ec2", "TerminateInstances", arn("ec2", "instance/*"))
        | {"Condition": {"StringEquals": {"aws:ResourceTag/workshop": [prefix]}}},
        _allow("dynamodb", "GetItem Scan UpdateItem", arn("dynamodb", f"table/{prefix}-*")),
        _allow("sns", "Subscribe", arn("sns", f"{prefix}-*")),
        _allow(
            "sqs",
            "CreateQueue TagQueue ListQueueTags GetQueueUrl GetQueueAttributes SetQueueAttributes ReceiveMessage"
            " DeleteMessage DeleteQueue",
            arn("sqs", f"{prefix}-*"),
        ),
        _allow("sqs", "ListQueues", "*"),
    ]


def processing_statements(workshop: Connection) -> list[dict[str, Any]]:
    """Return what notebooks 08a to 08d and 99 call besides."""
    prefix, arn = workshop.prefix, _arns(workshop)
    linked = f"arn:aws:iam::{workshop.account_id}:role/aws-service-role"
    return [
        _allow(
            "states",
            "CreateActivity DeleteActivity GetActivityTask TagResource ListTagsForResource",
            arn("states", f"activity:{prefix}-*"),
        ),
        _allow("states", "StartExecution", arn("states", f"stateMachine:{prefix}-*")),
        _allow(
            "apigateway",
            "POST GET PATCH DELETE",
            *(f"arn:aws:apigateway:{workshop.region}::/{path}" for path in ("apis", "apis/*", "tags/*")),
        ),
        _allow("execute-api", "Invoke", arn("execute-api", "*/POST/start")),
        _allow(
            "events",
            "PutRule PutTargets DeleteRule RemoveTargets ListTargetsByRule TagResource ListTagsForResource",
            arn("events", f"rule/{prefix}-*"),
        ),
        _allow(
            "ecr",
            "CreateRepository DescribeImages DeleteRepository TagResource ListTagsForResource",
            arn("ecr", f"repository/{prefix}-*"),
        ),
        _allow(
            "codebuild",
            "CreateProject UpdateProject DeleteProject BatchGetProjects StartBuild StopBuild BatchGetBuilds"
            " BatchDeleteBuilds ListBuildsForProject",
            arn("codebuild", f"project/{prefix}-*"),
        ),
        _allow(
            "ecs",
            "CreateCluster DeleteCluster DescribeClusters RegisterTaskDefinition DeleteTaskDefinitions RunTask StopTask"
            " DescribeTasks TagResource",
            *(arn("ecs", f"{kind}/{prefix}-*") for kind in ("cluster", "task-definition", "task")),
        ),
        _allow(
            "batch",
            "CreateComputeEnvironment UpdateComputeEnvironment DeleteComputeEnvironment CreateJobQueue UpdateJobQueue"
            " DeleteJobQueue RegisterJobDefinition DeregisterJobDefinition SubmitJob TagResource",
            *(arn("batch", f"{kind}/{prefix}-*") for kind in ("compute-environment", "job-queue", "job-definition")),
        ),
        _allow("batch", "SubmitJob TerminateJob", arn("batch", "job/*")),
        _allow(
            "sagemaker",
            "DescribeTrainingJob StopTrainingJob ListTags",
            arn("sagemaker", f"training-job/{workshop.short_name}-*"),
        ),
        # Lists have no resource of their own, and some other calls of Batch and ECS have none either.
        _allow_all(
            "states:ListActivities events:ListRules ecr:DescribeRepositories codebuild:ListProjects"
            " ecs:ListClusters ListTasks ListTaskDefinitions ListTaskDefinitionFamilies DescribeTaskDefinition"
            " DeregisterTaskDefinition batch:DescribeComputeEnvironments DescribeJobQueues DescribeJobDefinitions"
            " DescribeJobs ListJobs sagemaker:ListTrainingJobs ec2:DescribeSecurityGroups",
            "*",
        ),
        # Whoever has the token may report. The reference, and so IAM's simulator, know no resource of these two.
        _allow("states", "SendTaskSuccess SendTaskHeartbeat", "*"),
        _allow(
            "logs",
            "CreateLogGroup PutRetentionPolicy GetLogEvents DeleteLogGroup",
            *(arn("logs", f"log-group:{group}:*") for group in workshop.log_groups),
        ),
        # Tagging is the exception: it is asked for the group without ":*".
        _allow("logs", "TagResource", *(arn("logs", f"log-group:{group}") for group in workshop.log_groups)),
        _allow(
            "logs",
            "DescribeLogStreams DeleteLogStream DeleteLogGroup",
            arn("logs", "log-group:/aws/sagemaker/TrainingJobs:*"),
        ),
        # The roles in which ECS and Batch work, made by AWS once in the life of an account.
        _allow("iam", "CreateServiceLinkedRole", f"{linked}/ecs.amazonaws.com/*", f"{linked}/batch.amazonaws.com/*"),
        _pass_role(
            f"arn:aws:iam::{workshop.account_id}:role/{prefix}-*", "ecs-tasks.amazonaws.com", "codebuild.amazonaws.com"
        ),
    ]


# The names of the notebook role's policies, without the prefix, and their statements.
POLICIES: dict[str, Callable[[Connection], list[dict[str, Any]]]] = {
    "notebook": notebook_statements,
    "notebook-uploads": upload_statements,
    MANAGED_POLICY: processing_statements,
}


def admin_command(workshop: Connection, policy: str = "notebook") -> str:
    """Return the command with which an administrator gives the notebook's role, or user, one of ``POLICIES``."""
    kind, _, name = workshop.role_arn.rpartition(":")[2].partition("/")
    arn, name, policy_name = policy_arn(workshop, policy), name.rpartition("/")[2], workshop.name(policy)
    if kind == "user" or policy == MANAGED_POLICY:
        # A user's inline policies have 2,048 characters in all: this one is longer. A managed one may have 6,144.
        return (
            f"aws iam create-policy --policy-name {policy_name} --policy-document file://policy.json && aws iam"
            f" attach-{kind}-policy --{kind}-name {name} --policy-arn {arn}"
        )
    return (
        f"aws iam put-role-policy --role-name {name} --policy-name {policy_name} --policy-document file://policy.json"
    )


def policy_arn(workshop: Connection, policy: str) -> str:
    """Return the ARN of one of ``POLICIES`` where it is a managed one."""
    return f"arn:aws:iam::{workshop.account_id}:policy/{workshop.name(policy)}"


def _arns(workshop: Connection) -> Callable[[str, str], str]:
    return lambda service, resource: f"arn:aws:{service}:{workshop.region}:{workshop.account_id}:{resource}"


def _pass_role(role: str, *services: str) -> dict[str, Any]:
    condition = {"StringEquals": {"iam:PassedToService": list(services)}}
    return {"Effect": "Allow", "Action": ["iam:PassRole"], "Resource": [role], "Condition": condition}


def _allow(service: str, actions: str, *resources: str) -> dict[str, Any]:
    return _allow_all(f"{service}:{actions}", *resources)


def _allow_all(actions: str, *resources: str) -> dict[str, Any]:
    """Return a statement; ``actions`` such as "s3:GetObject PutObject sns:Publish": a service holds until the next."""
    names, service = [], ""
    for word in actions.split():
        service, action = word.split(":") if ":" in word else (service, word)
        names.append(f"{service}:{action}")
    return {"Effect": "Allow", "Action": names, "Resource": list(resources)}
