"""IAM decides for DynamoDB, SNS, SQS, SSM, EventBridge and bucket notifications as AWS documents it."""

import json
import uuid
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from botocore.exceptions import ClientError
from clients import ACCOUNT, REGION, allow, arn, function_settings, refused

# What each service calls a denial.
DENIED = {
    "dynamodb": "AccessDeniedException",
    "events": "AccessDeniedException",
    "ssm": "AccessDeniedException",
    "sns": "AuthorizationError",
    "sqs": "AccessDenied",
    "s3": "AccessDenied",
    "iam": "AccessDenied",
}
RUN = uuid.uuid4().hex[:8]
TABLE, TOPIC, QUEUE, RULE, BUCKET = (f"may-{kind}-{RUN}" for kind in ("table", "topic", "queue", "rule", "bucket"))
PARAMETER = f"/may/{RUN}"
AMI = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
TABLE_ARN, TOPIC_ARN, QUEUE_ARN = arn("dynamodb", f"table/{TABLE}"), arn("sns", TOPIC), arn("sqs", QUEUE)
RULE_ARN, PARAMETER_ARN = arn("events", f"rule/{RULE}"), arn("ssm", f"parameter{PARAMETER}")
TAGS = [{"Key": "workshop", "Value": "may"}]
KEY = {"pk": {"S": "a"}}
FUNCTION = arn("lambda", "function:none")


def table(name: str, **more: Any) -> dict[str, Any]:
    return {
        "TableName": name,
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "state")],
        "BillingMode": "PAY_PER_REQUEST",
        "GlobalSecondaryIndexes": [
            {
                "IndexName": "by-state",
                "KeySchema": [{"AttributeName": "state", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def url(embedded: Any) -> str:
    """Make one of everything. Returns the queue's URL."""
    embedded.client("dynamodb").create_table(**table(TABLE, Tags=TAGS))
    embedded.client("sns").create_topic(Name=TOPIC, Tags=TAGS)
    embedded.client("events").put_rule(Name=RULE, ScheduleExpression="rate(1 day)", Tags=TAGS)
    embedded.client("ssm").put_parameter(Name=PARAMETER, Value="1", Type="String", Tags=TAGS)
    embedded.client("s3").create_bucket(Bucket=BUCKET)
    return embedded.client("sqs").create_queue(QueueName=QUEUE, tags={"workshop": "may"})["QueueUrl"]


def acting(embedded: Any, *statements: dict[str, Any]) -> Callable[[str], Any]:
    """Return a client maker for a new principal that may do just this."""
    variables = embedded.variables_of(list(statements))
    return cache(lambda service: embedded.client(service, variables))


def is_denied(service: str, call: Callable[[], Any], action: str, resource: str = "") -> bool:
    code, message = refused(call)
    return code == DENIED[service] and f" to perform: {action} on resource: {resource}" in message


def is_allowed(service: str, call: Callable[[], Any]) -> bool:
    """Whether a call gets past IAM; what it is asked for need not be there."""
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"] not in (DENIED[service], "NotImplemented")
    return True


# service, method, parameters, action, resource
CALLS: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("dynamodb", "get_item", {"TableName": TABLE, "Key": KEY}, "dynamodb:GetItem", TABLE_ARN),
    ("dynamodb", "put_item", {"TableName": TABLE, "Item": KEY}, "dynamodb:PutItem", TABLE_ARN),
    ("dynamodb", "update_item", {"TableName": TABLE, "Key": KEY}, "dynamodb:UpdateItem", TABLE_ARN),
    ("dynamodb", "delete_item", {"TableName": TABLE, "Key": KEY}, "dynamodb:DeleteItem", TABLE_ARN),
    ("dynamodb", "scan", {"TableName": TABLE}, "dynamodb:Scan", TABLE_ARN),
    ("dynamodb", "scan", {"TableName": TABLE, "IndexName": "by-state"}, "dynamodb:Scan", f"{TABLE_ARN}/index/by-state"),
    ("dynamodb", "batch_get_item", {"RequestItems": {TABLE: {"Keys": [KEY]}}}, "dynamodb:BatchGetItem", TABLE_ARN),
    ("dynamodb", "describe_table", {"TableName": TABLE}, "dynamodb:DescribeTable", TABLE_ARN),
    ("dynamodb", "list_tags_of_resource", {"ResourceArn": TABLE_ARN}, "dynamodb:ListTagsOfResource", TABLE_ARN),
    ("dynamodb", "create_table", table(f"{TABLE}-2"), "dynamodb:CreateTable", f"{TABLE_ARN}-2"),
    ("dynamodb", "delete_table", {"TableName": f"{TABLE}-2"}, "dynamodb:DeleteTable", f"{TABLE_ARN}-2"),
    ("dynamodb", "list_tables", {}, "dynamodb:ListTables", "*"),
    ("sns", "publish", {"TopicArn": TOPIC_ARN, "Message": "m"}, "sns:Publish", TOPIC_ARN),
    ("sns", "publish_batch", {"TopicArn": TOPIC_ARN, "PublishBatchRequestEntries": [{"Id": "a", "Message": "m"}]},
     "sns:Publish", TOPIC_ARN),
    ("sns", "create_topic", {"Name": TOPIC}, "sns:CreateTopic", TOPIC_ARN),
    ("sns", "get_topic_attributes", {"TopicArn": TOPIC_ARN}, "sns:GetTopicAttributes", TOPIC_ARN),
    ("sns", "subscribe", {"TopicArn": TOPIC_ARN, "Protocol": "sqs", "Endpoint": QUEUE_ARN}, "sns:Subscribe", TOPIC_ARN),
    ("sns", "list_tags_for_resource", {"ResourceArn": TOPIC_ARN}, "sns:ListTagsForResource", TOPIC_ARN),
    ("sns", "unsubscribe", {"SubscriptionArn": f"{TOPIC_ARN}:1"}, "sns:Unsubscribe", "*"),
    ("sns", "list_topics", {}, "sns:ListTopics", "*"),
    ("sns", "delete_topic", {"TopicArn": f"{TOPIC_ARN}-2"}, "sns:DeleteTopic", f"{TOPIC_ARN}-2"),
    ("sqs", "send_message", {"QueueUrl": "URL", "MessageBody": "m"}, "sqs:SendMessage", QUEUE_ARN),
    ("sqs", "send_message_batch", {"QueueUrl": "URL", "Entries": [{"Id": "a", "MessageBody": "m"}]}, "sqs:SendMessage",
     QUEUE_ARN),
    ("sqs", "receive_message", {"QueueUrl": "URL"}, "sqs:ReceiveMessage", QUEUE_ARN),
    ("sqs", "delete_message", {"QueueUrl": "URL", "ReceiptHandle": "x"}, "sqs:DeleteMessage", QUEUE_ARN),
    ("sqs", "get_queue_url", {"QueueName": QUEUE}, "sqs:GetQueueUrl", QUEUE_ARN),
    ("sqs", "set_queue_attributes", {"QueueUrl": "URL", "Attributes": {"VisibilityTimeout": "30"}},
     "sqs:SetQueueAttributes", QUEUE_ARN),
    ("sqs", "create_queue", {"QueueName": f"{QUEUE}-2"}, "sqs:CreateQueue", f"{QUEUE_ARN}-2"),
    ("sqs", "list_queues", {"QueueNamePrefix": QUEUE}, "sqs:ListQueues", "*"),
    ("ssm", "get_parameter", {"Name": PARAMETER}, "ssm:GetParameter", PARAMETER_ARN),
    ("ssm", "get_parameter", {"Name": f"{PARAMETER}:1"}, "ssm:GetParameter", PARAMETER_ARN),
    ("ssm", "get_parameter", {"Name": AMI}, "ssm:GetParameter", f"arn:aws:ssm:{REGION}::parameter{AMI}"),
    ("ssm", "get_parameters", {"Names": [PARAMETER]}, "ssm:GetParameters", PARAMETER_ARN),
    ("ssm", "get_parameters_by_path", {"Path": "/may"}, "ssm:GetParametersByPath", arn("ssm", "parameter/may")),
    ("ssm", "put_parameter", {"Name": PARAMETER, "Value": "2", "Overwrite": True}, "ssm:PutParameter", PARAMETER_ARN),
    ("ssm", "delete_parameter", {"Name": f"{PARAMETER}-2"}, "ssm:DeleteParameter", f"{PARAMETER_ARN}-2"),
    ("ssm", "describe_parameters", {}, "ssm:DescribeParameters", "*"),
    ("events", "put_rule", {"Name": RULE, "ScheduleExpression": "rate(1 day)"}, "events:PutRule", RULE_ARN),
    ("events", "put_targets", {"Rule": RULE, "Targets": [{"Id": "1", "Arn": FUNCTION}]}, "events:PutTargets", RULE_ARN),
    ("events", "remove_targets", {"Rule": RULE, "Ids": ["1"]}, "events:RemoveTargets", RULE_ARN),
    ("events", "describe_rule", {"Name": RULE}, "events:DescribeRule", RULE_ARN),
    ("events", "list_targets_by_rule", {"Rule": RULE}, "events:ListTargetsByRule", RULE_ARN),
    ("events", "delete_rule", {"Name": f"{RULE}-2"}, "events:DeleteRule", f"{RULE_ARN}-2"),
    ("events", "tag_resource", {"ResourceARN": RULE_ARN, "Tags": TAGS}, "events:TagResource", RULE_ARN),
    ("events", "list_rules", {"NamePrefix": RULE}, "events:ListRules", "*"),
    ("s3", "put_bucket_notification_configuration", {"Bucket": BUCKET, "NotificationConfiguration": {}},
     "s3:PutBucketNotification", f"arn:aws:s3:::{BUCKET}"),
    ("s3", "get_bucket_notification_configuration", {"Bucket": BUCKET}, "s3:GetBucketNotification",
     f"arn:aws:s3:::{BUCKET}"),
    ("iam", "get_instance_profile", {"InstanceProfileName": "none"}, "iam:GetInstanceProfile",
     f"arn:aws:iam::{ACCOUNT}:instance-profile/none"),
]  # fmt: skip


@pytest.fixture(scope="module")
def of_nobody(embedded: Any) -> Callable[[str], Any]:
    """Return a client maker for a principal that may do everything elsewhere."""
    away = [f"arn:aws:{service}:*:*:elsewhere*" for service in (*DENIED, "lambda")]
    return acting(embedded, {"Effect": "Allow", "Action": "*", "Resource": away})


@pytest.fixture(scope="module")
def of_all(embedded: Any) -> Callable[[str], Any]:
    """Return a client maker for a principal that may make just the calls of the table, on just their resources."""
    statements = [allow(action, resource) for _, _, _, action, resource in CALLS]
    return acting(embedded, *statements)


@pytest.mark.parametrize(
    ("service", "method", "parameters", "action", "resource"), CALLS, ids=[f"{c[3]}-{n}" for n, c in enumerate(CALLS)]
)
def test_a_call_needs_its_action_on_its_resource(
    url: str, of_nobody: Any, of_all: Any, service: str, method: str, parameters: dict, action: str, resource: str
) -> None:
    given = {name: url if value == "URL" else value for name, value in parameters.items()}
    assert is_denied(service, lambda: getattr(of_nobody(service), method)(**given), action, resource)
    assert is_allowed(service, lambda: getattr(of_all(service), method)(**given))


@pytest.mark.usefixtures("url")
def test_the_simulator_says_the_same(embedded: Any) -> None:
    statements = [allow(action, resource) for _, _, _, action, resource in CALLS]
    role, simulate = embedded.make_role(statements), embedded.client("iam").simulate_principal_policy
    for _, _, _, action, resource in CALLS:
        for asked, decision in ((resource, "allowed"), (f"{resource}-other", "implicitDeny")):
            if asked == "*-other":
                continue
            said = simulate(PolicySourceArn=role, ActionNames=[action], ResourceArns=[asked])["EvaluationResults"]
            assert [answer["EvalDecision"] for answer in said] == [decision], (action, asked)


def test_the_simulator_takes_one_value_and_several(embedded: Any) -> None:
    one = {"condition": {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}}
    several = {"condition": {"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]}}}
    untagged = {"condition": {"Null": {"aws:TagKeys": "true"}}}
    role = embedded.make_role(
        [allow("iam:PassRole", **one), allow("sns:TagResource", **several), allow("sns:CreateTopic", **untagged)]
    )

    def said(action: str, *context: tuple[str, str, list[str]]) -> str:
        entries = [
            dict(zip(("ContextKeyName", "ContextKeyType", "ContextKeyValues"), it, strict=True)) for it in context
        ]
        answer = embedded.client("iam").simulate_principal_policy(
            PolicySourceArn=role, ActionNames=[action], ContextEntries=entries
        )
        return answer["EvaluationResults"][0]["EvalDecision"]

    assert said("iam:PassRole", ("iam:PassedToService", "string", ["ec2.amazonaws.com"])) == "allowed"
    assert said("iam:PassRole", ("iam:PassedToService", "string", ["lambda.amazonaws.com"])) == "implicitDeny"
    assert said("iam:PassRole") == "implicitDeny"
    assert said("sns:TagResource", ("aws:TagKeys", "stringList", ["a", "b"])) == "allowed"
    assert said("sns:TagResource", ("aws:TagKeys", "stringList", ["a", "c"])) == "implicitDeny"
    assert said("sns:CreateTopic") == "allowed"
    assert said("sns:CreateTopic", ("aws:TagKeys", "stringList", ["a"])) == "implicitDeny"


# --- tags ---

TAGGED: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("dynamodb", "create_table", table(f"{TABLE}-t", Tags=TAGS), "dynamodb:CreateTable", "dynamodb:TagResource"),
    ("sns", "create_topic", {"Name": f"{TOPIC}-t", "Tags": TAGS}, "sns:CreateTopic", "sns:TagResource"),
    ("sqs", "create_queue", {"QueueName": f"{QUEUE}-t", "tags": {"workshop": "may"}}, "sqs:CreateQueue",
     "sqs:TagQueue"),
    ("ssm", "put_parameter", {"Name": f"{PARAMETER}-t", "Value": "1", "Type": "String", "Tags": TAGS},
     "ssm:PutParameter", "ssm:AddTagsToResource"),
    ("events", "put_rule", {"Name": f"{RULE}-t", "ScheduleExpression": "rate(1 day)", "Tags": TAGS}, "events:PutRule",
     "events:TagResource"),
    ("iam", "create_instance_profile", {"InstanceProfileName": f"may-{RUN}", "Tags": TAGS},
     "iam:CreateInstanceProfile", "iam:TagInstanceProfile"),
    ("iam", "create_role", {"RoleName": f"may-{RUN}", "AssumeRolePolicyDocument": json.dumps({"Statement": []}),
     "Tags": TAGS}, "iam:CreateRole", "iam:TagRole"),
]  # fmt: skip


@pytest.mark.parametrize(("service", "method", "parameters", "create", "tag"), TAGGED, ids=[t[3] for t in TAGGED])
def test_creating_with_tags_needs_both_permissions(
    embedded: Any, service: str, method: str, parameters: dict, create: str, tag: str
) -> None:
    alone = getattr(acting(embedded, allow(create))(service), method)
    assert is_denied(service, lambda: alone(**parameters), tag)
    right = {"condition": {"StringEquals": {"aws:RequestTag/workshop": "may"}}}
    wrong = {"condition": {"StringEquals": {"aws:RequestTag/workshop": "other"}}}
    others = getattr(acting(embedded, allow(create), allow(tag, **wrong))(service), method)
    assert is_denied(service, lambda: others(**parameters), tag)
    both = getattr(acting(embedded, allow(f"{create} {tag}", **right))(service), method)
    assert is_allowed(service, lambda: both(**parameters))


@pytest.mark.parametrize(
    ("service", "method", "parameters", "action"),
    [
        ("dynamodb", "describe_table", {"TableName": TABLE}, "dynamodb:DescribeTable"),
        ("sns", "publish", {"TopicArn": TOPIC_ARN, "Message": "m"}, "sns:Publish"),
        ("sqs", "receive_message", {"QueueUrl": "URL"}, "sqs:ReceiveMessage"),
        ("ssm", "get_parameter", {"Name": PARAMETER}, "ssm:GetParameter"),
        ("events", "describe_rule", {"Name": RULE}, "events:DescribeRule"),
    ],
)
def test_a_policy_may_name_the_tags_of_the_resource(
    embedded: Any, url: str, service: str, method: str, parameters: dict, action: str
) -> None:
    given = {name: url if value == "URL" else value for name, value in parameters.items()}
    for value, allowed in (("may", True), ("other", False)):
        condition = {"StringEquals": {"aws:ResourceTag/workshop": value}}
        run = getattr(acting(embedded, allow(action, condition=condition))(service), method)
        found = is_allowed(service, lambda r=run: r(**given)) or is_denied(service, lambda r=run: r(**given), action)
        assert found
        assert is_allowed(service, lambda r=run: r(**given)) == allowed


# --- conditions of the services ---


@pytest.mark.usefixtures("url")
def test_leading_keys_keep_a_worker_to_its_unit(embedded: Any) -> None:
    condition = {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["d/1"]}}
    client = acting(embedded, allow("dynamodb:*", TABLE_ARN, condition=condition))("dynamodb")
    mine, other = ({"pk": {"S": key}} for key in ("d/1", "d/2"))
    client.put_item(TableName=TABLE, Item=mine)
    client.get_item(TableName=TABLE, Key=mine)
    query = {"TableName": TABLE, "KeyConditionExpression": "pk = :k"}
    client.query(**query, ExpressionAttributeValues={":k": {"S": "d/1"}})
    for action, call in {
        "PutItem": lambda: client.put_item(TableName=TABLE, Item=other),
        "UpdateItem": lambda: client.update_item(TableName=TABLE, Key=other),
        "Query": lambda: client.query(**query, ExpressionAttributeValues={":k": {"S": "d/2"}}),
        "BatchWriteItem": lambda: client.batch_write_item(
            RequestItems={TABLE: [{"PutRequest": {"Item": mine}}, {"DeleteRequest": {"Key": other}}]}
        ),
    }.items():
        assert is_denied("dynamodb", call, f"dynamodb:{action}", TABLE_ARN)


@pytest.mark.usefixtures("url")
def test_a_batch_needs_every_table(embedded: Any) -> None:
    client = acting(embedded, allow("dynamodb:BatchGetItem", TABLE_ARN))("dynamodb")
    both = {TABLE: {"Keys": [KEY]}, f"{TABLE}-x": {"Keys": [KEY]}}
    assert is_denied(
        "dynamodb", lambda: client.batch_get_item(RequestItems=both), "dynamodb:BatchGetItem", f"{TABLE_ARN}-x"
    )


@pytest.mark.usefixtures("url")
def test_several_parameters_need_every_one(embedded: Any) -> None:
    client = acting(embedded, allow("ssm:GetParameters", PARAMETER_ARN))("ssm")
    names = [PARAMETER, f"{PARAMETER}-x"]
    assert is_denied("ssm", lambda: client.get_parameters(Names=names), "ssm:GetParameters", f"{PARAMETER_ARN}-x")


@pytest.mark.usefixtures("url")
def test_a_policy_may_name_the_protocol_of_a_subscription(embedded: Any) -> None:
    condition = {"StringEquals": {"sns:Protocol": "sqs"}}
    sns = acting(embedded, allow("sns:Subscribe", TOPIC_ARN, condition=condition))("sns")
    sns.subscribe(TopicArn=TOPIC_ARN, Protocol="sqs", Endpoint=QUEUE_ARN)
    call = lambda: sns.subscribe(TopicArn=TOPIC_ARN, Protocol="lambda", Endpoint=FUNCTION)  # noqa: E731
    assert is_denied("sns", call, "sns:Subscribe", TOPIC_ARN)


@pytest.mark.usefixtures("url")
def test_a_policy_may_name_the_targets_of_a_rule(embedded: Any) -> None:
    condition = {"ForAllValues:ArnLike": {"events:TargetArn": f"{FUNCTION}*"}}
    events = acting(embedded, allow("events:PutTargets", RULE_ARN, condition=condition))("events")
    events.put_targets(Rule=RULE, Targets=[{"Id": "1", "Arn": FUNCTION}])
    other = [{"Id": "1", "Arn": arn("lambda", "function:other")}]
    assert is_denied("events", lambda: events.put_targets(Rule=RULE, Targets=other), "events:PutTargets", RULE_ARN)


def test_a_rule_with_a_role_needs_the_permission_to_pass_it(embedded: Any) -> None:
    role = embedded.make_role([], service="events.amazonaws.com")
    events = acting(embedded, allow("events:PutRule", RULE_ARN))("events")
    call = lambda: events.put_rule(Name=RULE, ScheduleExpression="rate(1 day)", RoleArn=role)  # noqa: E731
    assert is_denied("events", call, "iam:PassRole", role)


def test_putting_a_role_into_an_instance_profile_needs_the_permission_to_pass_it(embedded: Any) -> None:
    role, profile = embedded.make_role([], service="ec2.amazonaws.com"), f"profile-{RUN}"
    embedded.client("iam").create_instance_profile(InstanceProfileName=profile)
    put = allow("iam:AddRoleToInstanceProfile", f"arn:aws:iam::{ACCOUNT}:instance-profile/{profile}")
    given = {"InstanceProfileName": profile, "RoleName": role.rpartition("/")[2]}
    without = acting(embedded, put)("iam")
    assert is_denied("iam", lambda: without.add_role_to_instance_profile(**given), "iam:PassRole", role)
    condition = {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
    acting(embedded, put, allow("iam:PassRole", role, condition=condition))("iam").add_role_to_instance_profile(**given)


def test_a_policy_may_name_the_policies_that_may_be_attached(embedded: Any) -> None:
    role = embedded.make_role([]).rpartition("/")[2]
    managed = "arn:aws:iam::aws:policy/"
    condition = {"ArnEquals": {"iam:PolicyARN": f"{managed}AmazonSSMManagedInstanceCore"}}
    iam = acting(embedded, allow("iam:AttachRolePolicy", condition=condition))("iam")
    iam.attach_role_policy(RoleName=role, PolicyArn=f"{managed}AmazonSSMManagedInstanceCore")
    call = lambda: iam.attach_role_policy(RoleName=role, PolicyArn=f"{managed}AdministratorAccess")  # noqa: E731
    assert is_denied("iam", call, "iam:AttachRolePolicy")


# --- policies of queues and topics ---


def test_a_queues_own_policy_lets_in_and_keeps_out(embedded: Any, url: str) -> None:
    variables = embedded.variables_of([])
    me = embedded.client("sts", variables).get_caller_identity()["Arn"]
    role = f"arn:aws:iam::{ACCOUNT}:role/{me.split('/')[1]}"
    sqs, admin = embedded.client("sqs", variables), embedded.client("sqs")
    statement = {"Effect": "Allow", "Principal": {"AWS": role}, "Action": "sqs:SendMessage", "Resource": QUEUE_ARN}

    def put(*statements: dict[str, Any]) -> None:
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)}) if statements else ""
        admin.set_queue_attributes(QueueUrl=url, Attributes={"Policy": document})

    send = lambda: sqs.send_message(QueueUrl=url, MessageBody="m")  # noqa: E731
    assert is_denied("sqs", send, "sqs:SendMessage", QUEUE_ARN)
    put(statement)
    send()
    put(statement, {**statement, "Effect": "Deny"})
    assert refused(send)[0] == "AccessDenied"
    put()


# --- functions ---

PUBLISHES = """
import boto3
def handler(event, context):
    return boto3.client("sns").publish(TopicArn=event["topic"], Message="m")["MessageId"]
"""


@pytest.mark.usefixtures("url")
def test_a_function_publishes_with_its_own_role(embedded: Any) -> None:
    functions = embedded.client("lambda")
    for statements, allowed in (([allow("sns:Publish", TOPIC_ARN)], True), ([], False)):
        role = embedded.make_role(statements, service="lambda.amazonaws.com")
        name = f"publishes-{uuid.uuid4().hex[:8]}"
        functions.create_function(**function_settings(name, role, PUBLISHES))
        answer = functions.invoke(FunctionName=name, Payload=json.dumps({"topic": TOPIC_ARN}))
        body = json.loads(answer["Payload"].read())
        assert ("FunctionError" not in answer) == allowed
        if not allowed:
            assert body["errorType"] == "AuthorizationErrorException"
            assert f"sns:Publish on resource: {TOPIC_ARN}" in body["errorMessage"]
