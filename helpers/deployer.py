"""What CloudFormation may do for the stack of notebook 07: exactly what its resources need to be made and deleted."""

from typing import Any

from helpers.connection import Connection
from helpers.permissions import IMAGES

SESSION_MANAGER = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
GENERATED = 37  # of a stack's characters: as many keep CloudFormation's names whole, whose limit is 64
CUT = 24  # characters that stay of a longer one at least


def deployer_statements(workshop: Connection, stack: str, *, bucket: str, code_key: str) -> list[dict[str, Any]]:
    """Return the statements of the service role that a stack is deployed with.

    ``bucket``: the one that the stack makes. ``code_key``: pattern of the keys of the
    functions' package in the workshop's own bucket. CloudFormation begins the names of
    what it makes with the stack's name, so everything is scoped by that.
    """
    where = f"{workshop.region}:{workshop.account_id}"
    generated = f"{stack}-*" if len(stack) <= GENERATED else f"{stack[:CUT]}*"
    roles = [f"arn:aws:iam::{workshop.account_id}:{kind}/{generated}" for kind in ("role", "instance-profile")]
    groups, network = f"arn:aws:ec2:{where}:security-group/*", f"arn:aws:ec2:{where}:vpc/*"
    return [
        _allow(
            "s3",
            "CreateBucket DeleteBucket ListBucket GetBucket* Get*Configuration PutBucketTagging"
            " PutBucketPublicAccessBlock PutBucketNotification TagResource UntagResource ListTagsForResource",
            f"arn:aws:s3:::{bucket}",
        ),
        _allow("s3", "GetObject", f"arn:aws:s3:::{workshop.bucket}/{code_key}"),
        _allow(
            "dynamodb",
            "CreateTable DescribeTable UpdateTable DeleteTable TagResource UntagResource ListTagsOfResource"
            " DescribeContinuousBackups DescribeTimeToLive DescribeContributorInsights"
            " DescribeKinesisStreamingDestination GetResourcePolicy",
            f"arn:aws:dynamodb:{where}:table/{generated}",
        ),
        _allow(
            "sns",
            "CreateTopic DeleteTopic GetTopicAttributes SetTopicAttributes TagResource UntagResource"
            " ListTagsForResource ListSubscriptionsByTopic GetDataProtectionPolicy",
            f"arn:aws:sns:{where}:{generated}",
        ),
        _allow(
            "lambda",
            "CreateFunction GetFunction GetFunctionConfiguration UpdateFunctionCode UpdateFunctionConfiguration"
            " DeleteFunction AddPermission RemovePermission GetPolicy TagResource UntagResource ListTags"
            " GetFunctionCodeSigningConfig GetRuntimeManagementConfig GetFunctionRecursionConfig"
            " GetFunctionScalingConfig",
            f"arn:aws:lambda:{where}:function:{generated}",
        ),
        _allow(
            "states",
            "CreateStateMachine DescribeStateMachine UpdateStateMachine DeleteStateMachine TagResource UntagResource"
            " ListTagsForResource",
            f"arn:aws:states:{where}:stateMachine:{stack}",
        ),
        _allow(
            "events",
            "PutRule DescribeRule DeleteRule PutTargets RemoveTargets ListTargetsByRule TagResource UntagResource"
            " ListTagsForResource",
            f"arn:aws:events:{where}:rule/{generated}",
        ),
        _allow(
            "logs",
            "CreateLogGroup DeleteLogGroup PutRetentionPolicy DeleteRetentionPolicy TagResource UntagResource"
            " ListTagsForResource GetDataProtectionPolicy DescribeIndexPolicies",
            f"arn:aws:logs:{where}:log-group:/aws/lambda/{stack}-*",
        ),
        _allow("logs", "DescribeLogGroups", "*"),
        _allow(
            "iam",
            "CreateRole GetRole DeleteRole UpdateRole UpdateRoleDescription UpdateAssumeRolePolicy TagRole UntagRole"
            " ListRoleTags PutRolePolicy GetRolePolicy DeleteRolePolicy ListRolePolicies ListAttachedRolePolicies"
            " CreateInstanceProfile GetInstanceProfile DeleteInstanceProfile AddRoleToInstanceProfile"
            " RemoveRoleFromInstanceProfile",
            *roles,
        ),
        {
            **_allow("iam", "AttachRolePolicy DetachRolePolicy", roles[0]),
            "Condition": {"ArnEquals": {"iam:PolicyARN": SESSION_MANAGER}},
        },
        {
            **_allow("iam", "PassRole", roles[0]),
            "Condition": {
                "StringEquals": {
                    "iam:PassedToService": ["lambda.amazonaws.com", "states.amazonaws.com", "ec2.amazonaws.com"]
                }
            },
        },
        _allow("ec2", "CreateSecurityGroup", groups, network),
        # CloudFormation makes a group, then its rules, then its tags, each by a call of its own: the group has none
        # until then. One that another workshop has tagged stays out of reach.
        {
            **_allow("ec2", "CreateTags", groups),
            "Condition": {
                "StringEquals": {"aws:RequestTag/workshop": workshop.prefix},
                "StringEqualsIfExists": {"aws:ResourceTag/workshop": workshop.prefix},
            },
        },
        {
            **_allow("ec2", "AuthorizeSecurityGroupEgress RevokeSecurityGroupEgress DeleteSecurityGroup", groups),
            "Condition": {"StringEqualsIfExists": {"aws:ResourceTag/workshop": workshop.prefix}},
        },
        {
            **_allow("ec2", "CreateTags DeleteTags", groups),
            "Condition": {"StringEquals": {"aws:ResourceTag/workshop": workshop.prefix}},
        },
        # Lists have no resource of their own.
        _allow("ec2", "DescribeSecurityGroups DescribeVpcs DescribeSubnets DescribeImages", "*"),
        _allow("ssm", "GetParameters GetParameter", f"arn:aws:ssm:{workshop.region}::parameter/{IMAGES}/*"),
    ]


def _allow(service: str, actions: str, *resources: str) -> dict[str, Any]:
    return {
        "Effect": "Allow",
        "Action": [f"{service}:{action}" for action in actions.split()],
        "Resource": list(resources),
    }
