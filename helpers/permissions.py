"""What the notebook's own role needs: exactly what notebooks 00 to 99 call, on this workshop's resources."""

from typing import Any

from helpers.connection import Connection

MANAGED_RULE = "StepFunctionsGetEventsForSageMakerProcessingJobsRule"


def notebook_statements(workshop: Connection) -> list[dict[str, Any]]:
    """Return the statements of the notebook role's inline policy."""
    prefix, region, account = workshop.prefix, workshop.region, workshop.account_id

    def arn(service: str, resource: str) -> str:
        return f"arn:aws:{service}:{region}:{account}:{resource}"

    bucket = f"arn:aws:s3:::{workshop.bucket}"
    roles = f"arn:aws:iam::{account}:role/{prefix}-*"
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
        _allow("states", "ListStateMachines", "*"),
        _allow("codecommit", "ListRepositories", "*"),
        _allow("lambda", "ListFunctions", "*"),
        _allow("iam", "ListRoles", "*"),
        _allow("sagemaker", "DescribeProcessingJob StopProcessingJob", arn("sagemaker", f"processing-job/{prefix}-*")),
        _allow("sagemaker", "ListProcessingJobs", "*"),
        _allow("servicequotas", "ListServiceQuotas ListAWSDefaultServiceQuotas", "*"),
        _allow("logs", "DescribeLogGroups", "*"),
        _allow(
            "logs",
            "DescribeLogStreams FilterLogEvents GetLogEvents DeleteLogStream DeleteLogGroup",
            arn("logs", f"log-group:/aws/lambda/{prefix}-*"),
            arn("logs", "log-group:/aws/sagemaker/ProcessingJobs:*"),
        ),
        _allow(
            "events", "DescribeRule ListTargetsByRule RemoveTargets DeleteRule", arn("events", f"rule/{MANAGED_RULE}")
        ),
        _allow("iam", "SimulatePrincipalPolicy GetRole DeleteRolePolicy", workshop.role_arn),
        _allow(
            "iam",
            "CreateRole GetRole TagRole ListRoleTags UpdateAssumeRolePolicy PutRolePolicy ListRolePolicies"
            " ListAttachedRolePolicies DetachRolePolicy DeleteRolePolicy DeleteRole",
            roles,
        ),
        {
            "Effect": "Allow",
            "Action": ["iam:PassRole"],
            "Resource": [roles],
            "Condition": {
                "StringEquals": {
                    "iam:PassedToService": ["lambda.amazonaws.com", "states.amazonaws.com", "sagemaker.amazonaws.com"]
                }
            },
        },
    ]


def admin_command(workshop: Connection) -> str:
    """Return the command with which an administrator gives the notebook's role, or user, its policy."""
    kind, _, name = workshop.role_arn.rpartition(":")[2].partition("/")
    name, policy = name.rpartition("/")[2], workshop.name("notebook")
    if kind == "user":
        # A user's inline policies have 2,048 characters in all: this one is longer. A managed one may have 6,144.
        return (
            f"aws iam create-policy --policy-name {policy} --policy-document file://policy.json && aws iam"
            f" attach-user-policy --user-name {name} --policy-arn arn:aws:iam::{workshop.account_id}:policy/{policy}"
        )
    return f"aws iam put-role-policy --role-name {name} --policy-name {policy} --policy-document file://policy.json"


def _allow(service: str, actions: str, *resources: str) -> dict[str, Any]:
    return {
        "Effect": "Allow",
        "Action": [f"{service}:{action}" for action in actions.split()],
        "Resource": list(resources),
    }
