"""The resource that IAM checks, for each request that ministack serves differently from AWS."""

import json

import pytest

from helpers.local_aws.authorization import Asked, Known, Request, asked, json_body
from helpers.local_aws.operations import REFUSED_ACTIONS, SUPPORTED, TAGGING, iam_action, require_supported
from helpers.local_aws.wire import AwsError, service_model

REGION, ACCOUNT = "us-east-1", "123456789012"
ROLES = {
    "demo-exp-jobs": f"arn:aws:iam::{ACCOUNT}:role/demo-exp-jobs",
    "Studio": f"arn:aws:iam::{ACCOUNT}:role/service-role/Studio",
}


KEYS = {("t", ""): "pk", ("t", "by-state"): "state", ("u", ""): "id"}


def made(service, operation, body=None, path="/", **params):
    content = json.dumps(body).encode() if body is not None else b""
    lists = {name: [value] for name, value in params.items()}
    return Request(service, operation, path, content, lists, REGION, ACCOUNT)


def question(*request, **params) -> Asked:
    return asked(made(*request, **params), Known(ROLES.get, lambda table, index: KEYS.get((table, index))))


def resource(*request, **params):
    return question(*request, **params).resource


def arn(service, name):
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{name}"


@pytest.mark.parametrize(
    ("operation", "params", "expected"),
    [
        ("GetRole", {"RoleName": "Studio"}, ROLES["Studio"]),
        ("PutRolePolicy", {"RoleName": "demo-exp-jobs"}, ROLES["demo-exp-jobs"]),
        ("CreateRole", {"RoleName": "new"}, f"arn:aws:iam::{ACCOUNT}:role/new"),
        ("CreateRole", {"RoleName": "new", "Path": "/teams/"}, f"arn:aws:iam::{ACCOUNT}:role/teams/new"),
        ("SimulatePrincipalPolicy", {"PolicySourceArn": ROLES["Studio"]}, ROLES["Studio"]),
        ("GetRole", {"RoleName": "absent"}, None),
        ("ListRoles", {}, None),
    ],
)
def test_roles_are_checked_with_their_path(operation, params, expected):
    assert resource("iam", operation, **params) == expected


def test_a_service_linked_role_is_checked_with_its_service():
    found = question("iam", "CreateServiceLinkedRole", AWSServiceName="batch.amazonaws.com")
    path = "role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch"
    assert found.resource == f"arn:aws:iam::{ACCOUNT}:{path}"
    assert found.context == {"iam:AWSServiceName": "batch.amazonaws.com"}


@pytest.mark.parametrize("name", ["f", arn("lambda", "function:f")])
def test_a_function_that_is_about_to_exist_has_its_arn_already(name):
    assert resource("lambda", "CreateFunction", {"FunctionName": name}) == arn("lambda", "function:f")


def test_tags_of_a_function_are_checked_on_the_arn_in_the_path():
    path = "/2017-03-31/tags/" + arn("lambda", "function:f").replace(":", "%3A")
    assert resource("lambda", "ListTags", path=path) == arn("lambda", "function:f")
    assert resource("lambda", "Invoke", path="/2015-03-31/functions/f/invocations") is None


def test_tags_of_a_state_machine_are_checked_on_it():
    machine = arn("states", "stateMachine:m")
    assert resource("states", "TagResource", {"resourceArn": machine}) == machine
    assert resource("states", "CreateActivity", {"name": "a"}) == arn("states", "activity:a")
    assert resource("states", "ListStateMachines", {}) is None


@pytest.mark.parametrize("operation", ["DescribeMapRun", "UpdateMapRun", "ListExecutions"])
def test_calls_about_a_map_run_are_checked_on_it(operation):
    run = arn("states", "mapRun:m/label:id")
    assert resource("states", operation, {"mapRunArn": run}) == run


@pytest.mark.parametrize(
    ("operation", "body", "expected"),
    [
        ("GetLogEvents", {"logGroupName": "/g", "logStreamName": "s"}, "log-group:/g:log-stream:s"),
        ("DescribeLogStreams", {"logGroupName": "/g"}, "log-group:/g:log-stream:"),
        ("GetLogEvents", {"logGroupIdentifier": arn("logs", "log-group:/g")}, "log-group:/g:log-stream:"),
        ("DescribeLogGroups", {}, "log-group::log-stream:"),
    ],
)
def test_logs_are_checked_on_the_stream(operation, body, expected):
    assert resource("logs", operation, body) == arn("logs", expected)


def test_tags_of_a_new_log_group_are_checked_on_the_group():
    group = {"logGroupName": "/g", "tags": {"workshop": "demo"}}
    request_ = made("logs", "CreateLogGroup", group)
    (permission,) = asked(request_, Known(ROLES.get, lambda table, index: None)).more
    assert (permission.action, permission.resource) == ("logs:TagResource", arn("logs", "log-group:/g"))
    assert permission.context["aws:RequestTag/workshop"] == "demo"
    untagged = made("logs", "CreateLogGroup", {"logGroupName": "/g"})
    assert not asked(untagged, Known(ROLES.get, lambda table, index: None)).more


@pytest.mark.parametrize(
    ("operation", "body", "expected"),
    [
        ("PutRule", {"Name": "r"}, "rule/r"),
        ("DescribeRule", {"Name": "r", "EventBusName": "default"}, "rule/r"),
        ("PutTargets", {"Rule": "r", "EventBusName": "b"}, "rule/b/r"),
        ("ListTargetsByRule", {"Rule": "r"}, "rule/r"),
    ],
)
def test_rules_of_the_default_bus_have_no_bus_in_their_arn(operation, body, expected):
    assert resource("events", operation, body) == arn("events", expected)


@pytest.mark.parametrize(
    ("operation", "body", "expected"),
    [
        ("ListRules", {"NamePrefix": "r"}, "*"),
        ("ListRuleNamesByTarget", {"TargetArn": "x"}, "*"),
        ("ListEventBuses", {}, "*"),
        ("DescribeEventBus", {}, "arn:aws:events:us-east-1:123456789012:event-bus/default"),
        ("TagResource", {"ResourceARN": "arn:r", "Tags": []}, "arn:r"),
    ],
)
def test_what_is_no_rule_of_eventbridge(operation, body, expected):
    assert resource("events", operation, body) == expected


def test_services_without_a_rule_of_ours_are_left_to_ministack():
    assert resource("s3", "GetObject", path="/bucket/key") is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"x"', pytest.param(b"[" * 100_000, id="deep")])
def test_a_body_that_is_no_json_object_names_no_resource(body):
    assert json_body(body) == {}


def test_members_of_the_wrong_type_name_no_resource():
    assert resource("states", "TagResource", {"resourceArn": ["a"]}) is None


TAGS = [{"Key": "k", "Value": "v"}]
TAGGED = {"aws:RequestTag/k": "v", "aws:TagKeys": ["k"]}
QUERY_TAGS = {"Tags.member.1.Key": "k", "Tags.member.1.Value": "v"}


@pytest.mark.parametrize(
    ("service", "operation", "body", "expected"),
    [
        ("dynamodb", "GetItem", {"TableName": "t"}, arn("dynamodb", "table/t")),
        ("dynamodb", "GetItem", {"TableName": arn("dynamodb", "table/t")}, arn("dynamodb", "table/t")),
        ("dynamodb", "Query", {"TableName": "t", "IndexName": "i"}, arn("dynamodb", "table/t/index/i")),
        ("dynamodb", "CreateTable", {"TableName": "t"}, arn("dynamodb", "table/t")),
        ("dynamodb", "TagResource", {"ResourceArn": arn("dynamodb", "table/t")}, arn("dynamodb", "table/t")),
        ("dynamodb", "ListTagsOfResource", {"ResourceArn": arn("dynamodb", "table/t")}, arn("dynamodb", "table/t")),
        ("dynamodb", "ListTables", {}, "*"),
        ("sqs", "CreateQueue", {"QueueName": "q"}, arn("sqs", "q")),
        ("sqs", "GetQueueUrl", {"QueueName": "q"}, arn("sqs", "q")),
        ("sqs", "SendMessage", {"QueueUrl": f"http://127.0.0.1:1/{ACCOUNT}/q"}, arn("sqs", "q")),
        ("sqs", "SendMessage", {"QueueUrl": "http://127.0.0.1:1/1/q"}, f"arn:aws:sqs:{REGION}:1:q"),
        ("sqs", "ListQueues", {"QueueNamePrefix": "q"}, "*"),
        ("ssm", "GetParameter", {"Name": "p"}, arn("ssm", "parameter/p")),
        ("ssm", "GetParameter", {"Name": "/a/p:3"}, arn("ssm", "parameter/a/p")),
        ("ssm", "GetParameter", {"Name": arn("ssm", "parameter/a/p:3")}, arn("ssm", "parameter/a/p")),
        ("ssm", "PutParameter", {"Name": "/a/p"}, arn("ssm", "parameter/a/p")),
        ("ssm", "GetParametersByPath", {"Path": "/a/"}, arn("ssm", "parameter/a/")),
        ("ssm", "AddTagsToResource", {"ResourceType": "Parameter", "ResourceId": "p"}, arn("ssm", "parameter/p")),
        ("ssm", "DescribeParameters", {}, "*"),
        ("ssm", "GetParameters", {"Names": ["/aws/service/x"]}, f"arn:aws:ssm:{REGION}::parameter/aws/service/x"),
    ],
)
def test_resources_of_json_services(service, operation, body, expected):
    assert resource(service, operation, body) == expected


@pytest.mark.parametrize(
    ("operation", "params", "expected"),
    [
        ("CreateTopic", {"Name": "t"}, arn("sns", "t")),
        ("Publish", {"TopicArn": arn("sns", "t")}, arn("sns", "t")),
        ("Publish", {"TargetArn": arn("sns", "t")}, arn("sns", "t")),
        ("TagResource", {"ResourceArn": arn("sns", "t")}, arn("sns", "t")),
        ("ListSubscriptionsByTopic", {"TopicArn": arn("sns", "t")}, arn("sns", "t")),
        ("SetSubscriptionAttributes", {"SubscriptionArn": arn("sns", "t:1")}, "*"),
        ("GetSubscriptionAttributes", {"SubscriptionArn": arn("sns", "t:1")}, "*"),
        ("Unsubscribe", {"SubscriptionArn": arn("sns", "t:1")}, "*"),
        ("ListTopics", {}, "*"),
        ("ListSubscriptions", {}, "*"),
    ],
)
def test_resources_of_sns(operation, params, expected):
    assert resource("sns", operation, **params) == expected


def test_an_instance_profile_is_checked_on_itself_and_its_role_is_passed_to_ec2():
    profile = f"arn:aws:iam::{ACCOUNT}:instance-profile/p"
    assert resource("iam", "GetInstanceProfile", InstanceProfileName="p") == profile
    added = question("iam", "AddRoleToInstanceProfile", InstanceProfileName="p", RoleName="Studio")
    assert added.resource == profile
    assert [(more.action, more.resource, dict(more.context)) for more in added.more] == [
        ("iam:PassRole", ROLES["Studio"], {"iam:PassedToService": "ec2.amazonaws.com"})
    ]


def test_attaching_a_policy_tells_which():
    attached = question("iam", "AttachRolePolicy", RoleName="Studio", PolicyArn="arn:aws:iam::aws:policy/P")
    assert attached.context == {"iam:PolicyARN": "arn:aws:iam::aws:policy/P"}


@pytest.mark.parametrize(
    ("request_", "action", "tagged"),
    [
        (made("dynamodb", "CreateTable", {"TableName": "t", "Tags": TAGS}), "dynamodb:TagResource", "table/t"),
        (made("sqs", "CreateQueue", {"QueueName": "q", "tags": {"k": "v"}}), "sqs:TagQueue", "q"),
        (made("ssm", "PutParameter", {"Name": "p", "Tags": TAGS}), "ssm:AddTagsToResource", "parameter/p"),
        (made("events", "PutRule", {"Name": "r", "Tags": TAGS}), "events:TagResource", "rule/r"),
        (made("sns", "CreateTopic", Name="t", **QUERY_TAGS), "sns:TagResource", "t"),
        (made("iam", "CreateRole", RoleName="r", **QUERY_TAGS), "iam:TagRole", "role/r"),
        (made("iam", "CreateInstanceProfile", InstanceProfileName="p", **QUERY_TAGS), "iam:TagInstanceProfile",
         "instance-profile/p"),
    ],
)  # fmt: skip
def test_creating_with_tags_asks_for_the_permission_to_tag(request_, action, tagged):
    (permission,) = asked(request_, Known(ROLES.get, lambda table, index: None)).more
    region = "" if request_.service == "iam" else REGION
    assert permission.action == action
    assert permission.resource == f"arn:aws:{request_.service}:{region}:{ACCOUNT}:{tagged}"
    assert permission.context == TAGGED


def test_several_parameters_are_checked_one_by_one():
    asked_for = question("ssm", "GetParameters", {"Names": ["a", "/b", "/aws/service/x"]})
    assert asked_for.resource == arn("ssm", "parameter/a")
    assert [(more.action, more.resource) for more in asked_for.more] == [
        ("ssm:GetParameters", arn("ssm", "parameter/b")),
        ("ssm:GetParameters", f"arn:aws:ssm:{REGION}::parameter/aws/service/x"),
    ]


def test_every_table_of_a_batch_is_checked():
    batch = {"RequestItems": {"t": {"Keys": [{"pk": {"S": "1"}}]}, "u": {"Keys": [{"id": {"N": "2"}}]}}}
    asked_for = question("dynamodb", "BatchGetItem", batch)
    assert asked_for.resource == arn("dynamodb", "table/t")
    assert [more.resource for more in asked_for.more] == [arn("dynamodb", "table/u")]
    assert asked_for.context["dynamodb:LeadingKeys"] == ["1", "2"]


def test_a_role_of_a_rule_or_a_target_is_passed_to_eventbridge():
    target = {"Id": "1", "Arn": arn("lambda", "function:f"), "RoleArn": "arn:role"}
    asked_for = question("events", "PutTargets", {"Rule": "r", "Targets": [target]})
    assert asked_for.context["events:TargetArn"] == [target["Arn"]]
    (permission,) = asked_for.more
    assert (permission.action, permission.resource) == ("iam:PassRole", "arn:role")
    assert permission.context == {"iam:PassedToService": "events.amazonaws.com"}


def test_a_subscription_tells_its_protocol_and_endpoint():
    asked_for = question("sns", "Subscribe", TopicArn="arn:t", Protocol="sqs", Endpoint="arn:q")
    assert asked_for.context == {"sns:Protocol": "sqs", "sns:Endpoint": "arn:q"}
    assert question("sns", "Publish", TopicArn="arn:t").context == {}


@pytest.mark.parametrize(
    ("operation", "body", "leading", "attributes"),
    [
        ("GetItem", {"Key": {"pk": {"S": "a"}}}, ["a"], ["pk"]),
        ("PutItem", {"Item": {"pk": {"S": "a"}, "x": {"N": "1"}}}, ["a"], ["pk", "x"]),
        (
            "UpdateItem",
            {
                "Key": {"pk": {"S": "a"}},
                "UpdateExpression": "SET #s = :s, log = list_append(if_not_exists(log, :none), :more) REMOVE x.y[0]",
                "ConditionExpression": "attribute_exists(pk) AND size (#s) > :n",
                "ExpressionAttributeNames": {"#s": "status"},
            },
            ["a"],
            ["pk", "log", "x", "status"],
        ),
        (
            "Query",
            {
                "KeyConditionExpression": "#k = :v AND begins_with(at, :day)",
                "ExpressionAttributeNames": {"#k": "pk"},
                "ExpressionAttributeValues": {":v": {"S": "a"}, ":day": {"S": "2"}},
            },
            ["a"],
            ["pk", "at"],
        ),
        (
            "Query",
            {
                "IndexName": "by-state",
                "KeyConditionExpression": "state = :v",
                "ExpressionAttributeValues": {":v": {"S": "done"}},
            },
            ["done"],
            ["state"],
        ),
        (
            "Query",
            {"KeyConditionExpression": ":v = pk", "ExpressionAttributeValues": {":v": {"S": "a"}}},
            ["a"],
            ["pk"],
        ),
        ("Query", {"KeyConditions": [1]}, None, None),
        ("BatchGetItem", {"RequestItems": {"t": {"Keys": 5}}}, None, None),
        ("Scan", {"ProjectionExpression": "a, b.c"}, None, ["a", "b"]),
        ("GetItem", {"Key": "nonsense", "ExpressionAttributeNames": 1}, None, None),
    ],
)  # fmt: skip
def test_condition_keys_of_items(operation, body, leading, attributes):
    context = question("dynamodb", operation, {"TableName": "t", **body}).context
    assert context.get("dynamodb:LeadingKeys") == leading
    found = context.get("dynamodb:Attributes")
    assert (sorted(found) if found else None) == (sorted(attributes) if attributes else None)


# --- which operations are served ---


@pytest.mark.parametrize("service", SUPPORTED)
def test_every_operation_that_is_served_is_one_of_the_service(service):
    assert SUPPORTED[service] <= set(service_model(service).operation_names)


@pytest.mark.parametrize("service", [service for service in TAGGING if service != "ec2"])
def test_every_tagging_operation_is_one_of_the_service(service):
    name = {"states": "stepfunctions"}.get(service, service)
    assert TAGGING[service] <= set(service_model(name).operation_names)


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("ssm", "SendCommand"), ("ssm", "StartSession"), ("dynamodb", "ExportTableToPointInTime"),
        ("dynamodb", "ExecuteStatement"), ("dynamodb", "UpdateTimeToLive"), ("events", "CreateApiDestination"),
        ("events", "PutEvents"), ("sns", "CreatePlatformEndpoint"), ("sqs", "AddPermission"),
        *(action.split(":") for action in sorted(REFUSED_ACTIONS)),
    ],
)  # fmt: skip
def test_other_operations_are_refused_by_name(service, operation):
    with pytest.raises(AwsError) as refused:
        iam_action(service, operation)
    assert (refused.value.code, refused.value.status) == ("NotImplemented", 501)
    assert f"{service}:{operation}" in refused.value.message


@pytest.mark.parametrize(
    ("service", "operation", "action"),
    [
        ("sns", "PublishBatch", "sns:Publish"),
        ("sqs", "SendMessageBatch", "sqs:SendMessage"),
        ("sqs", "DeleteMessageBatch", "sqs:DeleteMessage"),
        ("sqs", "ChangeMessageVisibilityBatch", "sqs:ChangeMessageVisibility"),
        ("dynamodb", "BatchWriteItem", "dynamodb:BatchWriteItem"),
        ("s3", "PutBucketNotification", "s3:PutBucketNotification"),
    ],
)
def test_the_action_of_an_operation(service, operation, action):
    assert iam_action(service, operation) == action


FUNCTION = arn("lambda", "function:f")


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (made("dynamodb", "CreateTable", {"StreamSpecification": {"StreamEnabled": True}}), "stream"),
        (made("events", "PutRule", {"Name": "r", "EventPattern": "{}"}), "EventPattern"),
        (made("events", "PutTargets", {"Targets": [{"Id": "1", "Arn": arn("states", "stateMachine:m")}]}), "'states'"),
        (made("events", "PutTargets", {"Targets": [{"Id": "1", "Arn": FUNCTION, "InputPath": "$"}]}), "InputPath"),
        (made("sns", "Subscribe", Protocol="email", Endpoint="a@example.com"), "'email'"),
        (made("sns", "Subscribe", Protocol="https", Endpoint="https://example.com"), "'https'"),
        (made("sns", "Subscribe", **{"Protocol": "sqs", "Attributes.entry.1.key": "RedrivePolicy"}), "RedrivePolicy"),
        (made("sns", "SetSubscriptionAttributes", AttributeName="RedrivePolicy"), "RedrivePolicy"),
        (made("sns", "Publish", PhoneNumber="+1"), "PhoneNumber"),
        (made("ssm", "PutParameter", {"Name": "p", "Type": "SecureString"}), "SecureString"),
    ],
)
def test_parameters_that_would_not_be_carried_out_are_refused_by_name(request_, named):
    with pytest.raises(AwsError) as refused:
        require_supported(request_)
    assert refused.value.status == 501
    assert named in refused.value.message


@pytest.mark.parametrize(
    "request_",
    [
        made("dynamodb", "CreateTable", {"StreamSpecification": {"StreamEnabled": False}}),
        made("events", "PutTargets", {"Targets": [{"Id": "1", "Arn": FUNCTION, "Input": "{}"}]}),
        made("sns", "Subscribe", **{"Protocol": "sqs", "Attributes.entry.1.key": "RawMessageDelivery"}),
        made("sns", "Publish", TopicArn=arn("sns", "t")),
        made("ssm", "PutParameter", {"Name": "p", "Type": "String"}),
    ],
)
def test_what_is_carried_out_is_let_through(request_):
    require_supported(request_)


MINE, THEIRS = arn("states", "stateMachine:mine"), arn("states", "stateMachine:theirs")


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (made("states", "StartExecution", {"stateMachineArn": THEIRS, "resourceArn": MINE}), "ValidationException"),
        (made("dynamodb", "GetItem", {"TableName": "theirs", "RequestItems": {"mine": {}}}), "ValidationException"),
        (made("ssm", "GetParameters", {"Name": "/mine", "Names": ["/theirs"]}), "ValidationException"),
        (made("ssm", "GetParametersByPath", {"Name": "/mine", "Path": "/theirs"}), "ValidationException"),
        (made("events", "PutRule", {"Rule": "mine", "Name": "theirs"}), "ValidationException"),
        (made("sqs", "CreateQueue", {"QueueUrl": "mine", "QueueName": "theirs"}), "ValidationException"),
        (made("sqs", "ReceiveMessage", {"QueueUrl": "http://a/123456789012/theirs?/123456789012/mine"}),
         "InvalidAddress"),
        (made("sqs", "ReceiveMessage", {"QueueUrl": "http://a/123456789012/theirs#/123456789012/mine"}),
         "InvalidAddress"),
        (made("sqs", "ReceiveMessage", {"QueueUrl": ["theirs"]}), "InvalidAddress"),
        (made("logs", "FilterLogEvents", {"logGroupName": "mine", "logGroupIdentifier": "theirs"}),
         "InvalidParameterException"),
        (made("sns", "Publish", TopicArn=arn("sns", "mine"), TargetArn=arn("sns", "theirs")), "InvalidParameter"),
        (made("sns", "TagResource", TopicArn=arn("sns", "mine"), ResourceArn=arn("sns", "theirs")), "ValidationError"),
        (made("iam", "DeleteRole", InstanceProfileName="mine", RoleName="theirs"), "ValidationError"),
        (made("iam", "CreateAccessKey", RoleName="mine", UserName="theirs"), "ValidationError"),
        (made("events", "PutTargets", {"Rule": "r", "Targets": [1]}), "ValidationException"),
        (made("events", "PutTargets", {"Rule": "r", "Targets": [{"Id": ["a"], "Arn": FUNCTION}]}),
         "ValidationException"),
    ],
)  # fmt: skip
def test_a_request_cannot_name_one_resource_to_iam_and_reach_another(request_, code):
    with pytest.raises(AwsError) as refused:
        require_supported(request_)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "request_",
    [
        made("sqs", "ReceiveMessage", {"QueueUrl": "http://127.0.0.1:4566/123456789012/q.fifo", "WaitTimeSeconds": 1}),
        made("sqs", "ListQueues", {}),
        made("iam", "CreateRole", RoleName="r", **QUERY_TAGS),
        made("iam", "AddRoleToInstanceProfile", RoleName="r", InstanceProfileName="p", Action="x", Version="y"),
        made("sns", "PublishBatch", **{"TopicArn": "t", "PublishBatchRequestEntries.member.1.Id": "1"}),
        made("sts", "GetCallerIdentity"),
        made("logs", "FilterLogEvents", {"logGroupName": "g", "filterPattern": "x"}),
    ],
)
def test_a_request_with_its_own_parameters_is_let_through(request_):
    require_supported(request_)
