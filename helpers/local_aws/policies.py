"""AWS managed policies that people name and that ministack does not bring.

The documents grant what AWS's do, statement by statement with AWS's Sids, as
its Managed Policy Reference gave them in February 2026. Left out are only
services that have no place on this machine: CodeStar notifications and
connections, CodeGuru, Chatbot, Marketplace, Service Catalog, RoboMaker, Ground
Truth, geospatial, Elastic Inference, FSx, Redshift, S3 Express, and of
SageMaker the apps and spaces of Studio. ``service-role/AWSLambdaBasicExecutionRole``,
``IAMFullAccess``, ``AdministratorAccess`` and the S3 policies are ministack's.
"""

from typing import Any

Statement = dict[str, Any]

OWN_USER = "arn:aws:iam::*:user/${aws:username}"
CODECOMMIT_RULES = "arn:aws:events:*:*:rule/codecommit*"


def _named(arn: str, *words: str) -> list[str]:
    return [arn.format(word) for word in words]


def _actions(text: str) -> list[str]:
    """Read ``service:One Two other:Three`` as service:One, service:Two, other:Three."""
    actions, service = [], ""
    for word in text.split():
        service = word.partition(":")[0] if ":" in word else service
        actions.append(word if ":" in word else f"{service}:{word}")
    return actions


def _allow(
    sid: str,
    actions: str,
    resource: str | list[str] = "*",
    *,
    but: list[str] | None = None,
    when: dict[str, dict[str, Any]] | None = None,
) -> Statement:
    """Return a statement; ``but`` makes it one with NotResource, an empty ``sid`` one without Sid."""
    statement: Statement = {"Sid": sid} if sid else {}
    statement |= {"Effect": "Allow", "Action": _actions(actions)}
    statement |= {"NotResource": but} if but else {"Resource": resource}
    return statement | ({"Condition": when} if when else {})


def _document(*statements: Statement) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


CODECOMMIT_SELF_SERVICE = [
    _allow("LambdaReadOnlyListAccess", "lambda:ListFunctions"),
    _allow("IAMReadOnlyListAccess", "iam:ListUsers"),
    _allow("IAMReadOnlyConsoleAccess", "iam:ListAccessKeys ListSSHPublicKeys ListServiceSpecificCredentials", OWN_USER),
    _allow(
        "IAMUserSSHKeys",
        "iam:DeleteSSHPublicKey GetSSHPublicKey ListSSHPublicKeys UpdateSSHPublicKey UploadSSHPublicKey",
        OWN_USER,
    ),
    _allow(
        "IAMSelfManageServiceSpecificCredentials",
        "iam:CreateServiceSpecificCredential UpdateServiceSpecificCredential DeleteServiceSpecificCredential "
        "ResetServiceSpecificCredential",
        OWN_USER,
    ),
]
CODECOMMIT_RULES_ACCESS = _allow(
    "CloudWatchEventsCodeCommitRulesAccess",
    "events:DeleteRule DescribeRule DisableRule EnableRule PutRule PutTargets RemoveTargets ListTargetsByRule",
    CODECOMMIT_RULES,
)
SNS_READ = "sns:ListTopics ListSubscriptionsByTopic GetTopicAttributes"

CODECOMMIT_FULL = _document(
    _allow("", "codecommit:*"),
    CODECOMMIT_RULES_ACCESS,
    _allow(
        "SNSTopicAndSubscriptionAccess",
        "sns:CreateTopic DeleteTopic Subscribe Unsubscribe SetTopicAttributes",
        "arn:aws:sns:*:*:codecommit*",
    ),
    _allow("SNSTopicAndSubscriptionReadAccess", SNS_READ),
    *CODECOMMIT_SELF_SERVICE,
)

CODECOMMIT_POWER_USER = _document(
    _allow(
        "",
        "codecommit:AssociateApprovalRuleTemplateWithRepository BatchAssociateApprovalRuleTemplateWithRepositories "
        "BatchDisassociateApprovalRuleTemplateFromRepositories BatchGet* BatchDescribe* Create* DeleteBranch "
        "DeleteFile Describe* DisassociateApprovalRuleTemplateFromRepository EvaluatePullRequestApprovalRules Get* "
        "List* Merge* OverridePullRequestApprovalRules Put* Post* TagResource Test* UntagResource Update* GitPull "
        "GitPush",
    ),
    CODECOMMIT_RULES_ACCESS,
    _allow("SNSTopicAndSubscriptionAccess", "sns:Subscribe Unsubscribe", "arn:aws:sns:*:*:codecommit*"),
    _allow("SNSTopicAndSubscriptionReadAccess", SNS_READ),
    *CODECOMMIT_SELF_SERVICE,
)

CODECOMMIT_READ_ONLY = _document(
    _allow("", "codecommit:BatchGet* BatchDescribe* Describe* EvaluatePullRequestApprovalRules Get* List* GitPull"),
    _allow("CloudWatchEventsCodeCommitRulesReadOnlyAccess", "events:DescribeRule ListTargetsByRule", CODECOMMIT_RULES),
    _allow("SNSSubscriptionAccess", SNS_READ),
    _allow("LambdaReadOnlyListAccess", "lambda:ListFunctions"),
    _allow("IAMReadOnlyListAccess", "iam:ListUsers"),
    _allow(
        "IAMReadOnlyConsoleAccess",
        "iam:ListSSHPublicKeys ListServiceSpecificCredentials ListAccessKeys GetSSHPublicKey",
        OWN_USER,
    ),
)

LAMBDA_FULL = _document(
    _allow(
        "",
        "cloudformation:DescribeStacks ListStackResources cloudwatch:ListMetrics GetMetricData "
        "ec2:DescribeSecurityGroups DescribeSubnets DescribeVpcs kms:DescribeKey ListAliases iam:GetPolicy "
        "GetPolicyVersion GetRole GetRolePolicy ListAttachedRolePolicies ListRolePolicies ListRoles lambda:* "
        "logs:DescribeLogGroups states:DescribeStateMachine ListStateMachines tag:GetResources "
        "xray:GetTraceSummaries BatchGetTraces",
    ),
    _allow("", "iam:PassRole", when={"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}),
    _allow(
        "",
        "logs:DescribeLogStreams GetLogEvents FilterLogEvents StartLiveTail StopLiveTail",
        "arn:aws:logs:*:*:log-group:/aws/lambda/*",
    ),
    _allow(
        "",
        "iam:CreateServiceLinkedRole",
        "arn:aws:iam::*:role/aws-service-role/lambda.amazonaws.com/AWSServiceRoleForLambda",
        when={"StringEquals": {"iam:AWSServiceName": "lambda.amazonaws.com"}},
    ),
)

SAGEMAKER_KINDS = ("domain", "user-profile", "app", "space", "partner-app", "flow-definition", "training-plan")
GLUE = "arn:aws:glue:*:*:{}"

SAGEMAKER_FULL = _document(
    _allow(
        "AllowAllNonAdminSageMakerActions",
        "sagemaker:*",
        but=_named("arn:aws:sagemaker:*:*:{}/*", *SAGEMAKER_KINDS, "reserved-capacity"),
    ),
    _allow(
        "AllowUseOfTrainingPlanResources",
        "sagemaker:CreateTrainingJob CreateCluster UpdateCluster DescribeTrainingPlan",
        _named("arn:aws:sagemaker:*:*:{}/*", "training-plan", "reserved-capacity"),
    ),
    _allow(
        "AllowStudioActions",
        "sagemaker:CreatePresignedDomainUrl DescribeDomain ListDomains DescribeUserProfile ListUserProfiles "
        "DescribeSpace ListSpaces DescribeApp ListApps",
    ),
    _allow(
        "AllowFlowDefinitionActions",
        "sagemaker:*",
        _named("arn:aws:sagemaker:*:*:{}/*", "flow-definition"),
        when={"StringEqualsIfExists": {"sagemaker:WorkteamType": ["private-crowd", "vendor-crowd"]}},
    ),
    _allow(
        "AllowAWSServiceActions",
        "application-autoscaling:DeleteScalingPolicy DeleteScheduledAction DeregisterScalableTarget "
        "DescribeScalableTargets DescribeScalingActivities DescribeScalingPolicies DescribeScheduledActions "
        "PutScalingPolicy PutScheduledAction RegisterScalableTarget cloudformation:GetTemplateSummary "
        "cloudwatch:DeleteAlarms DescribeAlarms GetMetricData GetMetricStatistics ListMetrics PutMetricAlarm "
        "PutMetricData codecommit:BatchGetRepositories CreateRepository GetRepository List* "
        "cognito-idp:AdminAddUserToGroup AdminCreateUser AdminDeleteUser AdminDisableUser AdminEnableUser "
        "AdminRemoveUserFromGroup CreateGroup CreateUserPool CreateUserPoolClient CreateUserPoolDomain "
        "DescribeUserPool DescribeUserPoolClient List* UpdateUserPool UpdateUserPoolClient "
        "ec2:CreateNetworkInterface CreateNetworkInterfacePermission CreateVpcEndpoint DeleteNetworkInterface "
        "DeleteNetworkInterfacePermission DescribeDhcpOptions DescribeNetworkInterfaces DescribeRouteTables "
        "DescribeSecurityGroups DescribeSubnets DescribeVpcEndpoints DescribeVpcs "
        "ecr:BatchCheckLayerAvailability BatchGetImage CreateRepository Describe* GetAuthorizationToken "
        "GetDownloadUrlForLayer StartImageScan elasticfilesystem:DescribeFileSystems DescribeMountTargets "
        "glue:CreateJob DeleteJob GetJob* GetTable* GetWorkflowRun ResetJobBookmark StartJobRun StartWorkflowRun "
        "UpdateJob iam:ListRoles kms:DescribeKey ListAliases lambda:ListFunctions logs:CreateLogDelivery "
        "CreateLogGroup CreateLogStream DeleteLogDelivery Describe* GetLogDelivery GetLogEvents ListLogDeliveries "
        "PutLogEvents PutResourcePolicy UpdateLogDelivery secretsmanager:ListSecrets sns:ListTopics tag:GetResources",
    ),
    _allow(
        "AllowECRActions",
        "ecr:SetRepositoryPolicy CompleteLayerUpload BatchDeleteImage UploadLayerPart DeleteRepositoryPolicy "
        "InitiateLayerUpload DeleteRepository PutImage",
        ["arn:aws:ecr:*:*:repository/*sagemaker*"],
    ),
    _allow(
        "AllowCodeCommitActions",
        "codecommit:GitPull GitPush",
        _named("arn:aws:codecommit:*:*:*{}*", "sagemaker", "SageMaker", "Sagemaker"),
    ),
    _allow(
        "AllowCodeBuildActions",
        "codebuild:BatchGetBuilds StartBuild",
        _named("arn:aws:codebuild:*:*:{}*", "project/sagemaker", "build/"),
    ),
    _allow(
        "AllowStepFunctionsActions",
        "states:DescribeExecution GetExecutionHistory StartExecution StopExecution UpdateStateMachine",
        _named("arn:aws:states:*:*:{}", "statemachine:*sagemaker*", "execution:*sagemaker*:*"),
    ),
    _allow(
        "AllowSecretManagerActions",
        "secretsmanager:DescribeSecret GetSecretValue CreateSecret",
        ["arn:aws:secretsmanager:*:*:secret:AmazonSageMaker-*"],
    ),
    _allow(
        "AllowReadOnlySecretManagerActions",
        "secretsmanager:DescribeSecret GetSecretValue",
        when={"StringEquals": {"secretsmanager:ResourceTag/SageMaker": "true"}},
    ),
    _allow(
        "AllowS3ObjectActions",
        "s3:GetObject PutObject DeleteObject AbortMultipartUpload",
        _named("arn:aws:s3:::*{}*", "SageMaker", "Sagemaker", "sagemaker", "aws-glue"),
    ),
    _allow(
        "AllowS3GetObjectWithSageMakerExistingObjectTag",
        "s3:GetObject",
        ["arn:aws:s3:::*"],
        when={"StringEqualsIgnoreCase": {"s3:ExistingObjectTag/SageMaker": "true"}},
    ),
    _allow(
        "AllowS3BucketActions",
        "s3:CreateBucket GetBucketLocation ListBucket ListAllMyBuckets GetBucketCors PutBucketCors",
    ),
    _allow(
        "AllowS3BucketACL",
        "s3:GetBucketAcl PutObjectAcl",
        _named("arn:aws:s3:::*{}*", "SageMaker", "Sagemaker", "sagemaker"),
    ),
    _allow(
        "AllowLambdaInvokeFunction",
        "lambda:InvokeFunction",
        _named("arn:aws:lambda:*:*:function:*{}*", "SageMaker", "sagemaker", "Sagemaker", "LabelingFunction"),
    ),
    _allow(
        "AllowCreateServiceLinkedRoleForSageMakerApplicationAutoscaling",
        "iam:CreateServiceLinkedRole",
        "arn:aws:iam::*:role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/"
        "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint",
        when={"StringLike": {"iam:AWSServiceName": "sagemaker.application-autoscaling.amazonaws.com"}},
    ),
    _allow(
        "AllowSNSActions",
        "sns:Subscribe CreateTopic Publish",
        _named("arn:aws:sns:*:*:*{}*", "SageMaker", "Sagemaker", "sagemaker"),
    ),
    _allow(
        "AllowPassRoleForSageMakerRoles",
        "iam:PassRole",
        "arn:aws:iam::*:role/*AmazonSageMaker*",
        when={"StringEquals": {"iam:PassedToService": ["glue.amazonaws.com", "states.amazonaws.com"]}},
    ),
    _allow(
        "AllowPassRoleToSageMaker",
        "iam:PassRole",
        "arn:aws:iam::*:role/*",
        when={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
    ),
    _allow(
        "AllowAthenaActions",
        "athena:ListDataCatalogs ListDatabases ListTableMetadata GetQueryExecution GetQueryResults "
        "StartQueryExecution StopQueryExecution",
    ),
    _allow(
        "AllowGlueCreateTable",
        "glue:CreateTable",
        _named(GLUE, "table/*/sagemaker_tmp_*", "table/sagemaker_featurestore/*", "catalog", "database/*"),
    ),
    _allow(
        "AllowGlueUpdateTable",
        "glue:UpdateTable",
        _named(GLUE, "table/sagemaker_featurestore/*", "catalog", "database/sagemaker_featurestore"),
    ),
    _allow(
        "AllowGlueDeleteTable", "glue:DeleteTable", _named(GLUE, "table/*/sagemaker_tmp_*", "catalog", "database/*")
    ),
    _allow(
        "AllowGlueGetTablesAndDatabases",
        "glue:GetDatabases GetTable GetTables",
        _named(GLUE, "table/*", "catalog", "database/*"),
    ),
    _allow(
        "AllowGlueGetAndCreateDatabase",
        "glue:CreateDatabase GetDatabase",
        _named(GLUE, "catalog", *(f"database/{name}" for name in ("sagemaker_featurestore", "sagemaker_processing")))
        + _named(GLUE, *(f"database/{name}" for name in ("default", "sagemaker_data_wrangler"))),
    ),
    _allow("AllowListTagsForUserProfile", "sagemaker:ListTags", ["arn:aws:sagemaker:*:*:user-profile/*"]),
    _allow(
        "AllowCloudformationListStackResources",
        "cloudformation:ListStackResources",
        "arn:aws:cloudformation:*:*:stack/SC-*",
    ),
)

SSM_MANAGED_INSTANCE_CORE = _document(
    _allow(
        "",
        "ssm:DescribeAssociation GetDeployablePatchSnapshotForInstance GetDocument DescribeDocument GetManifest "
        "GetParameter GetParameters ListAssociations ListInstanceAssociations PutInventory PutComplianceItems "
        "PutConfigurePackageResult UpdateAssociationStatus UpdateInstanceAssociationStatus UpdateInstanceInformation",
    ),
    _allow("", "ssmmessages:CreateControlChannel CreateDataChannel OpenControlChannel OpenDataChannel"),
    _allow("", "ec2messages:AcknowledgeMessage DeleteMessage FailMessage GetEndpoint GetMessages SendReply"),
)

# Name -> IAM path and document, for those under arn:aws:iam::aws:policy{path}{name}.
MANAGED: dict[str, tuple[str, dict[str, Any]]] = {
    "AWSCodeCommitFullAccess": ("/", CODECOMMIT_FULL),
    "AWSCodeCommitPowerUser": ("/", CODECOMMIT_POWER_USER),
    "AWSCodeCommitReadOnly": ("/", CODECOMMIT_READ_ONLY),
    "AWSLambda_FullAccess": ("/", LAMBDA_FULL),
    "AWSStepFunctionsFullAccess": ("/", _document(_allow("", "states:*"))),
    "AmazonSSMManagedInstanceCore": ("/", SSM_MANAGED_INSTANCE_CORE),
    "AmazonSageMakerFullAccess": ("/", SAGEMAKER_FULL),
}
