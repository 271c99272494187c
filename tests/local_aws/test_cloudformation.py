"""Stacks whose resources really exist, made with the permissions of whoever asks, or of a service role."""

import json
import shutil
import tempfile
import uuid
from pathlib import Path

import pytest
from clients import ACCOUNT, allow, arn, eventually, refused
from embedded_aws import Embedded

from helpers.local_aws import control
from helpers.local_aws.cloudformation.resources import TYPES

FUNCTION = "import os\ndef handler(event, context):\n    return os.environ['TABLE']\n"
IAM = ["CAPABILITY_IAM"]
PATIENCE = {"Delay": 1, "MaxAttempts": 180}


def trust(service):
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def get(resource, attribute="Arn"):
    return {"Fn::GetAtt": [resource, attribute]}


def policy(action, resource, principal=None, **condition):
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    statement |= {"Principal": principal} if principal else {}
    statement |= {"Condition": condition} if condition else {}
    return {"Version": "2012-10-17", "Statement": [statement]}


def everything(bucket):
    """Return a template with one resource of every type."""
    lambda_role = {
        "AssumeRolePolicyDocument": trust("lambda.amazonaws.com"),
        "Policies": [{"PolicyName": "table", "PolicyDocument": policy("dynamodb:GetItem", get("Table"))}],
    }
    machine_role = {
        "AssumeRolePolicyDocument": trust("states.amazonaws.com"),
        "Policies": [{"PolicyName": "invoke", "PolicyDocument": policy("lambda:InvokeFunction", get("Function"))}],
    }
    worker_role = {
        "AssumeRolePolicyDocument": trust("ec2.amazonaws.com"),
        "ManagedPolicyArns": ["arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"],
    }
    invoke = {"FunctionName": {"Ref": "Function"}, "Action": "lambda:InvokeFunction"}
    from_bucket = {"Principal": "s3.amazonaws.com", "SourceArn": f"arn:aws:s3:::{bucket}", "SourceAccount": ACCOUNT}
    notified = {"Event": "s3:ObjectCreated:Put", "Function": get("Function"),
                "Filter": {"S3Key": {"Rules": [{"Name": "suffix", "Value": "metainfo.json"}]}}}  # fmt: skip
    send = policy("sqs:SendMessage", get("Queue"), {"Service": "sns.amazonaws.com"},
                  ArnEquals={"aws:SourceArn": {"Ref": "Topic"}})  # fmt: skip
    states = {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "${Function}", "End": True}}}
    only_tls = policy("s3:GetObject", {"Fn::Sub": "${Bucket.Arn}/*"}, {"AWS": ACCOUNT})
    properties = {
        "Bucket": ("S3::Bucket", {
            "BucketName": bucket,
            "PublicAccessBlockConfiguration": {"BlockPublicAcls": "true", "BlockPublicPolicy": True},
            "NotificationConfiguration": {"LambdaConfigurations": [notified]},
        }),
        "BucketPolicy": ("S3::BucketPolicy", {"Bucket": {"Ref": "Bucket"}, "PolicyDocument": only_tls}),
        "Table": ("DynamoDB::Table", {
            "AttributeDefinitions": [{"AttributeName": "Unit", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "Unit", "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST",
        }),
        "FunctionRole": ("IAM::Role", lambda_role),
        "Function": ("Lambda::Function", {
            "Role": get("FunctionRole"), "Runtime": "python3.13", "Handler": "index.handler",
            "Timeout": {"Ref": "Timeout"}, "Code": {"ZipFile": FUNCTION},
            "Environment": {"Variables": {"TABLE": {"Ref": "Table"}}},
        }),
        "BucketInvokes": ("Lambda::Permission", {**invoke, **from_bucket}),
        "MachineRole": ("IAM::Role", machine_role),
        "Machine": ("StepFunctions::StateMachine", {
            "RoleArn": get("MachineRole"), "Definition": states,
            "DefinitionSubstitutions": {"Function": get("Function")},
        }),
        "Rule": ("Events::Rule", {
            "ScheduleExpression": "rate(1 hour)", "Targets": [{"Id": "reap", "Arn": get("Function")}],
        }),
        "RuleInvokes": ("Lambda::Permission", {
            **invoke, "Principal": "events.amazonaws.com", "SourceArn": get("Rule"),
        }),
        "Topic": ("SNS::Topic", {"DisplayName": "ended"}),
        "TopicPolicy": ("SNS::TopicPolicy", {
            "Topics": [{"Ref": "Topic"}],
            "PolicyDocument": policy("sns:Publish", {"Ref": "Topic"}, {"AWS": ACCOUNT}),
        }),
        "Queue": ("SQS::Queue", {"VisibilityTimeout": "60"}),
        "QueuePolicy": ("SQS::QueuePolicy", {"Queues": [{"Ref": "Queue"}], "PolicyDocument": send}),
        "Subscription": ("SNS::Subscription", {
            "TopicArn": {"Ref": "Topic"}, "Protocol": "sqs", "Endpoint": get("Queue"), "RawMessageDelivery": True,
        }),
        "WorkerRole": ("IAM::Role", worker_role),
        "Profile": ("IAM::InstanceProfile", {"Roles": [{"Ref": "WorkerRole"}]}),
        "Group": ("EC2::SecurityGroup", {
            "GroupDescription": "worker", "VpcId": {"Ref": "VpcId"},
            "SecurityGroupEgress": [{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "0.0.0.0/0"}],
        }),
        "Logs": ("Logs::LogGroup", {"LogGroupName": {"Fn::Sub": "/aws/lambda/${Function}"}, "RetentionInDays": 7}),
        "Setting": ("SSM::Parameter", {"Type": "String", "Value": {"Ref": "ImageId"}}),
    }  # fmt: skip
    resources = {name: {"Type": f"AWS::{kind}", "Properties": item} for name, (kind, item) in properties.items()}
    resources["Bucket"]["DependsOn"] = "BucketInvokes"
    return {
        "Parameters": {
            "VpcId": {"Type": "AWS::EC2::VPC::Id"},
            "ImageId": {
                "Type": "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>",
                "Default": "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
            },
            "Timeout": {"Type": "Number", "Default": 50},
        },
        "Resources": resources,
        "Outputs": {name: {"Value": {"Ref": name}} for name in properties}
        | {
            f"{name}{attribute}": {"Value": get(name, attribute)}
            for name, resource in resources.items()
            for attribute in TYPES[resource["Type"]].attributes
        },
    }


class Lab:
    """Stacks with names of their own, of one principal."""

    def __init__(self, embedded, variables=None):
        self.embedded, self.cf = embedded, embedded.client("cloudformation", variables)
        self.vpc = embedded.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]

    def name(self):
        return f"test-{uuid.uuid4().hex[:8]}"

    def create(self, template, name="", **more):
        name = name or self.name()
        self.cf.create_stack(StackName=name, TemplateBody=json.dumps(template), **more)
        return name, self.settle(name)

    def update(self, name, template, **more):
        self.cf.update_stack(StackName=name, TemplateBody=json.dumps(template), **more)
        return self.settle(name)

    def delete(self, name):
        arn = self.cf.describe_stacks(StackName=name)["Stacks"][0]["StackId"]
        self.cf.delete_stack(StackName=name)
        return self.settle(arn)

    def settle(self, name):
        """Wait until the stack's operation has ended; return its status."""

        def status():
            found = self.cf.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
            return "" if found.endswith("IN_PROGRESS") else found

        return eventually(status)

    def reasons(self, name, status):
        """Return why resources took ``status``, by logical id."""
        events = self.cf.describe_stack_events(StackName=name)["StackEvents"]
        return {e["LogicalResourceId"]: e.get("ResourceStatusReason", "") for e in events
                if e["ResourceStatus"] == status}  # fmt: skip

    def physical(self, name):
        found = self.cf.describe_stack_resources(StackName=name)["StackResources"]
        return {item["LogicalResourceId"]: item["PhysicalResourceId"] for item in found}


@pytest.fixture(scope="module")
def lab(embedded):
    return Lab(embedded)


def queue(**properties):
    return {"Resources": {"Queue": {"Type": "AWS::SQS::Queue", "Properties": properties}}}


def chain(length):
    """Return a template of queues, each waiting for the one before it."""
    names = [f"Q{number}" for number in range(length)]
    return {
        "Resources": {
            name: {"Type": "AWS::SQS::Queue", "DependsOn": names[:index][-1:]} for index, name in enumerate(names)
        }
    }


def test_every_type_is_made_works_and_is_deleted(lab, embedded):
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    vpc = [{"ParameterKey": "VpcId", "ParameterValue": lab.vpc}]
    tags = [{"Key": "workshop", "Value": "demo"}]
    name, status = lab.create(everything(bucket), Parameters=vpc, Capabilities=IAM, Tags=tags)
    assert status == "CREATE_COMPLETE", lab.reasons(name, "CREATE_FAILED")
    made = lab.physical(name)
    stack = lab.cf.describe_stacks(StackName=name)["Stacks"][0]
    outputs = {item["OutputKey"]: item["OutputValue"] for item in stack["Outputs"]}
    assert made.items() <= outputs.items()
    assert all(outputs.values())
    assert outputs["FunctionRoleArn"] == arn("iam", f"role/{made['FunctionRole']}").replace(":us-east-1:", "::")
    assert all(name.lower() in made[key].lower() for key in ("FunctionRole", "Function", "Table", "Queue", "Topic"))

    functions, sns, sqs = (embedded.client(service) for service in ("lambda", "sns", "sqs"))
    found = functions.get_function(FunctionName=made["Function"])
    assert found["Tags"] == {"workshop": "demo"}
    assert found["Configuration"]["Timeout"] == 50
    assert json.load(functions.invoke(FunctionName=made["Function"])["Payload"]) == made["Table"]
    states = embedded.client("stepfunctions")
    run = states.start_execution(stateMachineArn=made["Machine"])["executionArn"]
    ended = eventually(lambda: (e := states.describe_execution(executionArn=run))["status"] != "RUNNING" and e)
    assert json.loads(ended["output"]) == made["Table"]
    sns.publish(TopicArn=made["Topic"], Message="hello")
    message = eventually(lambda: sqs.receive_message(QueueUrl=made["Queue"], WaitTimeSeconds=1).get("Messages"))
    assert message[0]["Body"] == "hello"
    [notified] = embedded.client("s3").get_bucket_notification_configuration(Bucket=bucket)[
        "LambdaFunctionConfigurations"
    ]
    assert notified["LambdaFunctionArn"].endswith(made["Function"])
    iam = embedded.client("iam")
    profile = iam.get_instance_profile(InstanceProfileName=made["Profile"])["InstanceProfile"]
    assert [role["RoleName"] for role in profile["Roles"]] == [made["WorkerRole"]]
    [group] = embedded.client("ec2").describe_security_groups(GroupIds=[made["Group"]])["SecurityGroups"]
    assert [rule.get("FromPort") for rule in group["IpPermissionsEgress"]] == [443]
    image = embedded.client("ssm").get_parameter(Name=made["Setting"])["Parameter"]["Value"]
    assert image.startswith("ami-")
    groups = embedded.client("logs").describe_log_groups(logGroupNamePrefix=made["Logs"])["logGroups"]
    assert [item["retentionInDays"] for item in groups] == [7]

    assert lab.delete(name) == "DELETE_COMPLETE"
    assert refused(lambda: functions.get_function(FunctionName=made["Function"]))[0] == "ResourceNotFoundException"
    assert refused(lambda: iam.get_role(RoleName=made["WorkerRole"]))[0] == "NoSuchEntity"
    assert refused(lambda: embedded.client("s3").head_bucket(Bucket=bucket))[0] == "404"
    assert refused(lambda: lab.cf.describe_stacks(StackName=name)) == (
        "ValidationError",
        f"Stack with id {name} does not exist",
    )


def test_every_type_is_changed_in_place_and_back(lab, embedded):
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    vpc = [{"ParameterKey": "VpcId", "ParameterValue": lab.vpc}]
    first = everything(bucket)
    more = {"Parameters": vpc, "Capabilities": IAM}
    name, status = lab.create(first, Tags=[{"Key": "workshop", "Value": "one"}, {"Key": "old", "Value": "x"}], **more)
    assert status == "CREATE_COMPLETE", lab.reasons(name, "CREATE_FAILED")
    made = lab.physical(name)
    second = everything(bucket)
    change = {
        "Bucket": {"NotificationConfiguration": {}, "PublicAccessBlockConfiguration": {"BlockPublicAcls": False}},
        "BucketPolicy": {"PolicyDocument": policy("s3:ListBucket", get("Bucket"), {"AWS": ACCOUNT})},
        "Table": {"DeletionProtectionEnabled": False},
        "FunctionRole": {"Policies": [], "MaxSessionDuration": 7200},
        "Function": {
            "Timeout": 90, "Code": {"ZipFile": FUNCTION.replace("os.environ['TABLE']", "'changed'")},
            "MemorySize": 256, "Description": "changed",
        },
        "Machine": {"DefinitionSubstitutions": {"Function": get("Function"), "Unused": "x"},
                    "Definition": {"StartAt": "B", "States": {"B": {"Type": "Succeed"}}}},
        "Rule": {"ScheduleExpression": "rate(2 hours)", "State": "DISABLED",
                 "Targets": [{"Id": "other", "Arn": get("Function")}]},
        "Topic": {"DisplayName": "changed"},
        "TopicPolicy": {"PolicyDocument": policy("sns:Subscribe", {"Ref": "Topic"}, {"AWS": ACCOUNT})},
        "Queue": {"VisibilityTimeout": 90, "DelaySeconds": 1},
        "QueuePolicy": {"PolicyDocument": policy("sqs:SendMessage", get("Queue"), {"AWS": ACCOUNT})},
        "Subscription": {"RawMessageDelivery": False, "FilterPolicy": {"kind": ["a"]}},
        "WorkerRole": {"ManagedPolicyArns": []},
        "Profile": {"Roles": [{"Ref": "FunctionRole"}]},
        "Group": {"SecurityGroupIngress": [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIp": "10.0.0.0/8"}],
                  "SecurityGroupEgress": []},
        "Logs": {"RetentionInDays": 14},
        "Setting": {"Value": "changed"},
    }  # fmt: skip
    for logical, properties in change.items():
        second["Resources"][logical]["Properties"] |= properties
    tags = [{"Key": "workshop", "Value": "two"}, {"Key": "new", "Value": "y"}]
    assert lab.update(name, second, Tags=tags, **more) == "UPDATE_COMPLETE", lab.reasons(name, "UPDATE_FAILED")
    assert lab.physical(name) == made

    def seen():
        """Return what the services say of the resources."""
        functions, iam, sqs, sns = (embedded.client(service) for service in ("lambda", "iam", "sqs", "sns"))
        function = functions.get_function(FunctionName=made["Function"])
        role = iam.get_role(RoleName=made["FunctionRole"])["Role"]
        [group] = embedded.client("ec2").describe_security_groups(GroupIds=[made["Group"]])["SecurityGroups"]
        attributes = sns.get_subscription_attributes(SubscriptionArn=made["Subscription"])["Attributes"]
        queue = sqs.get_queue_attributes(QueueUrl=made["Queue"], AttributeNames=["All"])["Attributes"]
        states, rules = embedded.client("stepfunctions"), embedded.client("events")
        machine = json.loads(states.describe_state_machine(stateMachineArn=made["Machine"])["definition"])
        profile = iam.get_instance_profile(InstanceProfileName=made["Profile"])["InstanceProfile"]
        [log] = embedded.client("logs").describe_log_groups(logGroupNamePrefix=made["Logs"])["logGroups"]
        return {
            "timeout": function["Configuration"]["Timeout"],
            "tags": function["Tags"],
            "answer": json.load(functions.invoke(FunctionName=made["Function"])["Payload"]),
            "session": role["MaxSessionDuration"],
            "inline": iam.list_role_policies(RoleName=made["FunctionRole"])["PolicyNames"],
            "role tags": {tag["Key"]: tag["Value"] for tag in role["Tags"]},
            "attached": len(iam.list_attached_role_policies(RoleName=made["WorkerRole"])["AttachedPolicies"]),
            "profile": [role["RoleName"] for role in profile["Roles"]],
            "ports": [rule.get("FromPort") for rule in (*group["IpPermissions"], *group["IpPermissionsEgress"])],
            "raw": attributes["RawMessageDelivery"],
            "queue": (queue["VisibilityTimeout"], queue["DelaySeconds"]),
            "sends": "sns.amazonaws.com" in queue["Policy"],
            "start": machine["StartAt"],
            "targets": [target["Id"] for target in rules.list_targets_by_rule(Rule=made["Rule"])["Targets"]],
            "rule": rules.describe_rule(Name=made["Rule"])["State"],
            "retention": log["retentionInDays"],
            "notified": "LambdaFunctionConfigurations"
            in embedded.client("s3").get_bucket_notification_configuration(Bucket=bucket),
        }

    assert seen() == {
        "timeout": 90, "tags": {"workshop": "two", "new": "y"}, "answer": "changed", "session": 7200,
        "inline": [], "role tags": {"workshop": "two", "new": "y"}, "attached": 0, "profile": [made["FunctionRole"]],
        "ports": [22, None], "raw": "false", "queue": ("90", "1"), "sends": False, "start": "B", "targets": ["other"],
        "rule": "DISABLED", "retention": 14, "notified": False,
    }  # fmt: skip
    assert lab.update(name, first, **more) == "UPDATE_COMPLETE", lab.reasons(name, "UPDATE_FAILED")
    assert seen() == {
        "timeout": 50, "tags": {"workshop": "two", "new": "y"}, "answer": made["Table"], "session": 3600,
        "inline": ["table"], "role tags": {"workshop": "two", "new": "y"}, "attached": 1,
        "profile": [made["WorkerRole"]], "ports": [443], "raw": "true", "queue": ("60", "0"), "sends": True,
        "start": "A", "targets": ["reap"], "rule": "ENABLED", "retention": 7, "notified": True,
    }  # fmt: skip
    assert lab.delete(name) == "DELETE_COMPLETE"


def test_a_change_set_shows_what_its_execution_then_does(lab, embedded):
    name = lab.name()
    first = queue(VisibilityTimeout=10)
    lab.cf.create_change_set(StackName=name, ChangeSetName="first", ChangeSetType="CREATE",
                             TemplateBody=json.dumps(first))  # fmt: skip
    lab.cf.get_waiter("change_set_create_complete").wait(StackName=name, ChangeSetName="first", WaiterConfig=PATIENCE)
    assert lab.cf.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "REVIEW_IN_PROGRESS"
    assert lab.cf.describe_stack_resources(StackName=name)["StackResources"] == []
    lab.cf.execute_change_set(StackName=name, ChangeSetName="first")
    lab.cf.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig=PATIENCE)
    before = lab.physical(name)["Queue"]

    second = queue(VisibilityTimeout=20, QueueName=f"{name}-named")
    second["Resources"]["Topic"] = {"Type": "AWS::SNS::Topic"}
    lab.cf.create_change_set(StackName=name, ChangeSetName="second", TemplateBody=json.dumps(second))
    lab.cf.create_change_set(StackName=name, ChangeSetName="other", TemplateBody=json.dumps(queue(DelaySeconds=1)))
    found = lab.cf.describe_change_set(StackName=name, ChangeSetName="second")
    changes = {c["ResourceChange"]["LogicalResourceId"]: c["ResourceChange"] for c in found["Changes"]}
    assert (found["Status"], found["ExecutionStatus"]) == ("CREATE_COMPLETE", "AVAILABLE")
    assert changes["Topic"]["Action"] == "Add"
    assert (changes["Queue"]["Action"], changes["Queue"]["Replacement"]) == ("Modify", "True")
    assert changes["Queue"]["PhysicalResourceId"] == before
    lab.cf.execute_change_set(StackName=name, ChangeSetName="second")
    lab.cf.get_waiter("stack_update_complete").wait(StackName=name, WaiterConfig=PATIENCE)
    assert lab.physical(name)["Queue"].endswith(f"{name}-named")
    assert refused(lambda: embedded.client("sqs").get_queue_attributes(QueueUrl=before))[0].endswith("NonExistentQueue")
    assert [item["ChangeSetName"] for item in lab.cf.list_change_sets(StackName=name)["Summaries"]] == ["second"]
    again = refused(lambda: lab.cf.execute_change_set(StackName=name, ChangeSetName="second"))
    assert again[0] == "InvalidChangeSetStatus"

    lab.cf.create_change_set(StackName=name, ChangeSetName="none", UsePreviousTemplate=True)
    found = lab.cf.describe_change_set(StackName=name, ChangeSetName="none")
    assert (found["Status"], found["ExecutionStatus"]) == ("FAILED", "UNAVAILABLE")
    assert found["StatusReason"].startswith("The submitted information didn't contain changes.")
    lab.cf.delete_change_set(StackName=name, ChangeSetName="none")
    assert refused(lambda: lab.cf.describe_change_set(StackName=name, ChangeSetName="none"))[0] == "ChangeSetNotFound"
    assert refused(lambda: lab.cf.update_stack(StackName=name, UsePreviousTemplate=True)) == (
        "ValidationError",
        "No updates are to be performed.",
    )
    lab.cf.delete_stack(StackName=name)
    lab.cf.get_waiter("stack_delete_complete").wait(StackName=found["StackId"], WaiterConfig=PATIENCE)


def test_a_service_role_decides_what_can_be_made(lab, embedded):
    name = lab.name()
    may = [allow("sqs:CreateQueue sqs:GetQueueAttributes sqs:DeleteQueue", arn("sqs", f"{name}-*"))]
    role = embedded.make_role(may, service="cloudformation.amazonaws.com")
    template = queue()
    template["Resources"]["Topic"] = {"Type": "AWS::SNS::Topic", "DependsOn": "Queue"}
    _, status = lab.create(template, name, RoleARN=role)
    assert status == "ROLLBACK_COMPLETE"
    reason = lab.reasons(name, "CREATE_FAILED")["Topic"]
    assert "is not authorized to perform: SNS:CreateTopic on resource" in reason.replace("sns:", "SNS:")
    assert f"{role.rpartition('/')[2]}/AWSCloudFormation" in reason
    assert lab.reasons(name, "ROLLBACK_IN_PROGRESS")[name].startswith(
        "The following resource(s) failed to create: [Topic]."
    )
    assert embedded.client("sqs").list_queues(QueueNamePrefix=name).get("QueueUrls", []) == []
    assert refused(lambda: lab.create(queue(), name))[0] == "AlreadyExistsException"
    assert lab.delete(name) == "DELETE_COMPLETE"


def test_without_a_service_role_the_caller_decides(lab, embedded):
    name = lab.name()
    stack = arn("cloudformation", f"stack/{name}/*")
    caller = embedded.variables_of([allow("cloudformation:*", stack)])
    mine = Lab.__new__(Lab)
    mine.embedded, mine.cf = embedded, embedded.client("cloudformation", caller)
    assert mine.create(queue(), name)[1] == "ROLLBACK_COMPLETE"
    assert "sqs:createqueue" in mine.reasons(name, "CREATE_FAILED")["Queue"].lower()
    code, message = refused(lambda: mine.create(queue(), f"{name}x"))
    assert code == "AccessDenied"
    assert f"cloudformation:CreateStack on resource: {arn('cloudformation', f'stack/{name}x/*')}" in message
    role = embedded.make_role([allow("sqs:*")], service="cloudformation.amazonaws.com")
    code, message = refused(lambda: mine.create(queue(), name, RoleARN=role))
    assert (code, "iam:PassRole" in message) == ("AccessDenied", True)
    other = embedded.make_role([allow("sqs:*")], service="lambda.amazonaws.com")
    code, message = refused(lambda: lab.create(queue(), lab.name(), RoleARN=other))
    assert (code, message) == ("ValidationError", f"Role {other} is invalid or cannot be assumed")
    code, message = refused(lambda: lab.cf.create_stack(StackName=lab.name(), TemplateBody=json.dumps({
        "Parameters": {"P": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/none"}}, **queue(),
    })))  # fmt: skip
    assert "Unable to fetch parameters [/none]" in message


def test_a_failed_update_brings_the_former_state_back(lab, embedded):
    name, _ = lab.create(queue(VisibilityTimeout=10))
    changed = queue(VisibilityTimeout=20)
    changed["Resources"]["Bad"] = {
        "Type": "AWS::SQS::Queue", "DependsOn": "Queue", "Properties": {"VisibilityTimeout": 999_999},
    }  # fmt: skip
    assert lab.update(name, changed) == "UPDATE_ROLLBACK_COMPLETE"
    url = lab.physical(name)["Queue"]
    found = embedded.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])
    assert found["Attributes"] == {"VisibilityTimeout": "10"}
    assert list(lab.physical(name)) == ["Queue"]
    assert json.loads(json.dumps(lab.cf.get_template(StackName=name)["TemplateBody"])) == queue(VisibilityTimeout=10)
    assert "InvalidAttributeValue" in lab.reasons(name, "CREATE_FAILED")["Bad"]
    assert lab.delete(name) == "DELETE_COMPLETE"


def test_a_bucket_that_is_not_empty_is_not_deleted_until_it_is(lab, embedded):
    name, _ = lab.create({"Resources": {"Bucket": {"Type": "AWS::S3::Bucket"}}})
    bucket = lab.physical(name)["Bucket"]
    s3 = embedded.client("s3")
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    assert lab.delete(name) == "DELETE_FAILED"
    assert "BucketNotEmpty" in lab.reasons(name, "DELETE_FAILED")["Bucket"]
    s3.delete_object(Bucket=bucket, Key="k")
    assert lab.delete(name) == "DELETE_COMPLETE"


def test_what_cannot_be_replaced_under_its_name_is_refused_and_rolled_back(lab):
    template = {"Resources": {"Group": {"Type": "AWS::EC2::SecurityGroup", "Properties": {
        "GroupDescription": "one", "GroupName": lab.name(), "VpcId": lab.vpc,
    }}}}  # fmt: skip
    name, status = lab.create(template)
    assert status == "CREATE_COMPLETE"
    template["Resources"]["Group"]["Properties"]["GroupDescription"] = "two"
    assert lab.update(name, template) == "UPDATE_ROLLBACK_COMPLETE"
    assert "custom-named resource requires replacing" in lab.reasons(name, "UPDATE_FAILED")["Group"]
    assert lab.delete(name) == "DELETE_COMPLETE"


def test_a_rule_of_a_security_group_can_be_described_anew(lab, embedded):
    rule = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "0.0.0.0/0", "Description": "one"}
    group = {"GroupDescription": "g", "VpcId": lab.vpc, "SecurityGroupEgress": [rule]}
    template = {"Resources": {"Group": {"Type": "AWS::EC2::SecurityGroup", "Properties": group}}}
    name, _ = lab.create(template)
    rule["Description"] = "two"
    assert lab.update(name, template) == "UPDATE_COMPLETE"
    groups = embedded.client("ec2").describe_security_groups(GroupIds=[lab.physical(name)["Group"]])
    [found] = groups["SecurityGroups"][0]["IpPermissionsEgress"]
    assert [each["Description"] for each in found["IpRanges"]] == ["two"]
    assert lab.delete(name) == "DELETE_COMPLETE"


def test_stacks_share_what_they_export(lab):
    shared = lab.name()
    source, _ = lab.create({**queue(), "Outputs": {"Arn": {"Value": get("Queue"), "Export": {"Name": shared}}}})
    user, status = lab.create({"Resources": {"Setting": {"Type": "AWS::SSM::Parameter", "Properties": {
        "Type": "String", "Value": {"Fn::ImportValue": shared}}}}})  # fmt: skip
    assert status == "CREATE_COMPLETE"
    assert lab.cf.list_imports(ExportName=shared)["Imports"] == [user]
    assert f"as it is in use by {user}" in refused(lambda: lab.cf.delete_stack(StackName=source))[1]
    assert lab.delete(user) == "DELETE_COMPLETE"
    assert lab.delete(source) == "DELETE_COMPLETE"


@pytest.mark.parametrize(
    ("template", "more", "code", "said"),
    [
        ({"Resources": {"V": {"Type": "AWS::EC2::VPC"}}}, {}, "ValidationError", "resource types: [AWS::EC2::VPC]"),
        (queue(Color="red"), {}, "ValidationError", "extraneous key [Color] is not permitted"),
        (queue(), {"NotificationARNs": [arn("sns", "t")]}, "NotImplemented", "NotificationARNs of CreateStack"),
        (queue(), {"Parameters": [{"ParameterKey": "P", "ParameterValue": ""}]}, "ValidationError", "[P] do not exist"),
        (
            {"Resources": {"R": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": {}}}}},
            {},
            "InsufficientCapabilitiesException",
            "Requires capabilities : [CAPABILITY_IAM]",
        ),
        (queue() | {"Metadata": "x" * 52_000}, {}, "ValidationError", "less than or equal to 51200"),
    ],
)  # fmt: skip
def test_nothing_is_made_of_a_request_that_is_refused(lab, template, more, code, said):
    name = lab.name()
    found, message = refused(lambda: lab.create(template, name, **more))
    assert (found, said in message) == (code, True), message
    assert refused(lambda: lab.cf.describe_stacks(StackName=name))[0] == "ValidationError"


def test_operations_that_are_not_there_are_refused_by_name(lab):
    assert refused(lambda: lab.cf.list_stack_sets()) == (
        "NotImplemented",
        "the embedded AWS does not support cloudformation:ListStackSets",
    )


def test_a_protected_stack_is_not_deleted(lab):
    name, _ = lab.create(queue(), EnableTerminationProtection=True)
    assert "TerminationProtection is enabled" in refused(lambda: lab.cf.delete_stack(StackName=name))[1]
    lab.cf.update_termination_protection(StackName=name, EnableTerminationProtection=False)
    assert lab.delete(name) == "DELETE_COMPLETE"


def test_a_template_in_s3_is_read_with_the_callers_permission(lab, embedded):
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    s3 = embedded.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="t.json", Body=json.dumps(queue()).encode())
    url = f"https://{bucket}.s3.us-east-1.amazonaws.com/t.json"
    assert lab.cf.get_template_summary(TemplateURL=url)["ResourceTypes"] == ["AWS::SQS::Queue"]
    other = embedded.client("cloudformation", embedded.variables_of([allow("cloudformation:*")]))
    code, message = refused(lambda: other.validate_template(TemplateURL=url))
    assert (code, message.startswith("S3 error:")) == ("ValidationError", True)


def test_a_service_role_reads_no_template_for_a_caller_who_may_not(lab, embedded):
    bucket, name = f"test-{uuid.uuid4().hex[:12]}", lab.name()
    s3 = embedded.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="private", Body=b"precious: [secret\nx: y")
    role = embedded.make_role([allow("sqs:* s3:GetObject")], service="cloudformation.amazonaws.com")
    lab.create(queue(), name, RoleARN=role)
    other = embedded.client("cloudformation", embedded.variables_of([allow("cloudformation:*")]))
    url = f"https://{bucket}.s3.us-east-1.amazonaws.com/private"
    _, message = refused(lambda: other.update_stack(StackName=name, TemplateURL=url))
    assert message.startswith("S3 error:")
    assert "secret" not in message
    assert lab.delete(name) == "DELETE_COMPLETE"


def test_a_stack_can_be_deleted_while_it_is_made(lab, embedded):
    name = lab.name()
    lab.cf.create_stack(StackName=name, TemplateBody=json.dumps(chain(200)))
    eventually(lambda: lab.reasons(name, "CREATE_COMPLETE"))
    assert "can not be updated" in refused(lambda: lab.update(name, queue()))[1]
    assert lab.delete(name) == "DELETE_COMPLETE"
    assert embedded.client("sqs").list_queues(QueueNamePrefix=name).get("QueueUrls", []) == []


@pytest.fixture
def own():
    """Yield the state folder of an embedded AWS for tests that stop it."""
    folder = Path(tempfile.mkdtemp())
    yield folder
    control.stop(folder)
    shutil.rmtree(folder, ignore_errors=True)


def test_stacks_outlive_a_restart(own):
    lab = Lab(Embedded(control.start(own)[0]))
    template = queue()
    name, status = lab.create(template)
    assert status == "CREATE_COMPLETE"
    control.stop(own)
    lab = Lab(Embedded(control.start(own)[0]))
    assert lab.cf.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"
    template["Resources"]["Queue"]["Properties"]["DelaySeconds"] = 5
    assert lab.update(name, template) == "UPDATE_COMPLETE"
    assert lab.delete(name) == "DELETE_COMPLETE"


def test_a_stop_in_the_middle_ends_the_operation_with_a_reason(own):
    lab = Lab(Embedded(control.start(own)[0]))
    name = lab.name()
    lab.cf.create_stack(StackName=name, TemplateBody=json.dumps(chain(200)))
    eventually(lambda: lab.reasons(name, "CREATE_COMPLETE"))
    control.stop(own)
    lab = Lab(Embedded(control.start(own)[0]))
    stack = lab.cf.describe_stacks(StackName=name)["Stacks"][0]
    assert (stack["StackStatus"], stack["StackStatusReason"]) == (
        "CREATE_FAILED",
        "The embedded AWS was stopped during the operation.",
    )
    assert lab.delete(name) == "DELETE_COMPLETE"
    assert lab.embedded.client("sqs").list_queues(QueueNamePrefix=name).get("QueueUrls", []) == []
