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
            "CreateRepository GetRepository DeleteRepository TagResource ListTagsForResource GitPull GitPush GetBranch"
            " GetCommit GetCommentsForComparedCommit GetRepositoryTriggers PutRepositoryTriggers"
            " TestRepositoryTriggers",
            arn("codecommit", f"{prefix}-*"),
        ),
        _allow(
            "lambda",
            "CreateFunction GetFunction GetFunctionConfiguration UpdateFunctionCode UpdateFunctionConfiguration"
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
            "DescribeExecution GetExecutionHistory StopExecution",
            arn("states", f"execution:{prefix}-*:*"),
        ),
        # Lists have no resource of their own.
        _allow("states", "ListStateMachines ValidateStateMachineDefinition", "*"),
        _allow("codecommit", "ListRepositories", "*"),
        _allow("lambda", "ListFunctions", "*"),
        _allow("iam", "ListRoles", "*"),
        _allow("sagemaker", "DescribeProcessingJob StopProcessingJob", arn("sagemaker", f"processing-job/{prefix}-*")),
        _allow("sagemaker", "ListProcessingJobs", "*"),
        _allow("servicequotas", "ListServiceQuotas", "*"),
        _allow("logs", "DescribeLogGroups", "*"),
        _allow(
            "logs",
            "DescribeLogStreams GetLogEvents FilterLogEvents DeleteLogStream DeleteLogGroup",
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
    """Return the command with which an administrator gives the notebook's role its policy."""
    kind, _, name = workshop.role_arn.rpartition(":")[2].partition("/")
    name = name.rpartition("/")[2]
    return (
        f"aws iam put-{kind}-policy --{kind}-name {name}"
        f" --policy-name {workshop.name('notebook')} --policy-document file://policy.json"
    )


def _allow(service: str, actions: str, *resources: str) -> dict[str, Any]:
    return {
        "Effect": "Allow",
        "Action": [f"{service}:{action}" for action in actions.split()],
        "Resource": list(resources),
    }
