"""IAM decides for everyone: the notebook's role, the dispatcher, the state machine and the jobs."""

import hashlib
import json
import uuid
from functools import partial
from typing import Any

import pytest
from clients import ACCOUNT, IMAGE, allow, arn, function_settings, refused
from workshop import Workshop

from helpers import permissions, roles

HANDLER = "def handler(event, context):\n    print('hello')\n    return event\n"
PASS = {"Type": "Pass", "End": True}
ONE_PASS = json.dumps({"StartAt": "a", "States": {"a": PASS}})


def name(kind: str = "t") -> str:
    return f"perm-{kind}-{uuid.uuid4().hex[:8]}"


def acting(embedded: Any, *statements: dict[str, Any]) -> Any:
    """Return a client maker for a new principal that may do just this."""
    variables = embedded.variables_of(list(statements))
    return lambda service: embedded.client(service, variables)


def is_denied(call: Any, action: str, **arguments: Any) -> bool:
    code, message = refused(lambda: call(**arguments))
    return "AccessDenied" in code and action in message


# --- the roles of notebook 02 ---


def test_the_dispatcher_reaches_its_runs_and_nothing_else(embedded: Any, workshop: Workshop) -> None:
    client = acting(embedded, *workshop.statements("dispatcher"))
    s3, codecommit, states = client("s3"), client("codecommit"), client("stepfunctions")
    s3.put_object(Bucket=workshop.bucket, Key="runs/perm/x", Body=b"1")
    assert s3.get_object(Bucket=workshop.bucket, Key="runs/perm/x")["Body"].read() == b"1"
    assert refused(lambda: s3.head_object(Bucket=workshop.bucket, Key="runs/perm/none"))[0] == "404"
    assert is_denied(s3.put_object, "s3:PutObject", Bucket=workshop.bucket, Key="dataset/x", Body=b"")
    assert is_denied(s3.get_object, "s3:GetObject", Bucket=workshop.bucket, Key="dataset/census-income.csv")
    assert is_denied(s3.delete_object, "s3:DeleteObject", Bucket=workshop.bucket, Key="runs/perm/x")
    assert is_denied(codecommit.get_repository, "codecommit:GetRepository", repositoryName=workshop.repository)
    other = name()
    embedded.client("codecommit").create_repository(repositoryName=other)
    assert is_denied(codecommit.get_folder, "codecommit:GetFolder", repositoryName=other, folderPath="/")
    elsewhere = arn("states", "stateMachine:other")
    assert is_denied(states.start_execution, "states:StartExecution", stateMachineArn=elsewhere)
    assert is_denied(states.list_state_machines, "states:ListStateMachines")
    group = f"/aws/lambda/{workshop.dispatcher}"
    client("logs").create_log_stream(logGroupName=group, logStreamName=name()) if _group(embedded, group) else None
    assert is_denied(client("logs").create_log_group, "logs:CreateLogGroup", logGroupName=f"{group}-2")


def test_only_who_may_list_a_bucket_is_told_that_an_object_is_not_there(embedded: Any, workshop: Workshop) -> None:
    bucket = f"arn:aws:s3:::{workshop.bucket}"
    s3 = acting(embedded, allow("s3:GetObject", f"{bucket}/*"))("s3")
    assert is_denied(s3.get_object, "s3:ListBucket", Bucket=workshop.bucket, Key="runs/none")
    assert refused(lambda: s3.head_object(Bucket=workshop.bucket, Key="runs/none"))[0] == "403"
    s3 = acting(embedded, allow("s3:GetObject", f"{bucket}/*"), allow("s3:ListBucket", bucket))("s3")
    assert refused(lambda: s3.get_object(Bucket=workshop.bucket, Key="runs/none"))[0] == "NoSuchKey"
    assert refused(lambda: s3.head_object(Bucket=workshop.bucket, Key="runs/none"))[0] == "404"


def _group(embedded: Any, group: str) -> bool:
    return bool(embedded.client("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"])


def test_the_jobs_role_reads_data_and_writes_runs(embedded: Any, workshop: Workshop) -> None:
    client = acting(embedded, *workshop.statements("job"))
    s3 = client("s3")
    assert s3.get_object(Bucket=workshop.bucket, Key="dataset/census-income.csv")["ContentLength"] > 0
    s3.put_object(Bucket=workshop.bucket, Key="runs/perm/y", Body=b"")
    assert is_denied(s3.put_object, "s3:PutObject", Bucket=workshop.bucket, Key="dataset/x", Body=b"")
    assert is_denied(s3.put_object, "s3:PutObject", Bucket=workshop.bucket, Key="dispatcher/x", Body=b"")
    listed = client("sagemaker").list_processing_jobs
    assert is_denied(listed, "sagemaker:ListProcessingJobs")
    groups = client("logs").describe_log_groups
    assert is_denied(groups, "logs:DescribeLogGroups", logGroupNamePrefix="/aws/sagemaker/ProcessingJobs")


def test_the_state_machines_role_makes_jobs_of_the_prefix_with_the_jobs_role(embedded: Any, workshop: Workshop) -> None:
    sagemaker = acting(embedded, *workshop.statements("machine"))("sagemaker")
    own_role = workshop.names()["job_role"].arn
    for job, role, missing in (
        (f"{workshop.connection.prefix}-{name()}", embedded.make_role([]), "iam:PassRole"),
        (name(), own_role, "sagemaker:CreateProcessingJob"),
    ):
        request = job_request(job, role)
        assert is_denied(sagemaker.create_processing_job, missing, **request)
    sagemaker.create_processing_job(**job_request(f"{workshop.connection.prefix}-{name()}", own_role))


def test_the_notebooks_role_is_kept_to_its_prefix(embedded: Any, workshop: Workshop) -> None:
    for service, call, action, arguments in (
        ("s3", "create_bucket", "s3:CreateBucket", {"Bucket": name()}),
        ("codecommit", "create_repository", "codecommit:CreateRepository", {"repositoryName": name()}),
        ("lambda", "delete_function", "lambda:DeleteFunction", {"FunctionName": name()}),
        ("stepfunctions", "delete_state_machine", "states:DeleteStateMachine",
         {"stateMachineArn": arn("states", "stateMachine:other")}),
        ("logs", "delete_log_group", "logs:DeleteLogGroup", {"logGroupName": "/aws/lambda/other"}),
        ("events", "delete_rule", "events:DeleteRule", {"Name": "other"}),
    ):  # fmt: skip
        assert is_denied(getattr(workshop.client(service), call), action, **arguments), action


def job_request(job: str, role: str) -> dict[str, Any]:
    return {
        "ProcessingJobName": job,
        "RoleArn": role,
        "AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": ["python3", "-c", "pass"]},
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.t3.medium", "VolumeSizeInGB": 1}
        },
    }


# --- handing a role to a service ---

PASSED = {"condition": {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}}


def test_making_a_function_needs_permission_to_pass_its_role(embedded: Any) -> None:
    role, function = embedded.make_role([], service="lambda.amazonaws.com"), name("f")
    settings = function_settings(function, role, HANDLER)
    lambda_arn = arn("lambda", f"function:{function}")
    may_create = allow("lambda:CreateFunction lambda:UpdateFunctionConfiguration lambda:GetFunction", lambda_arn)
    without = acting(embedded, may_create)("lambda")
    to_another = acting(embedded, may_create, allow("iam:PassRole", f"{role}-2"))("lambda")
    elsewhere = {"condition": {"StringEquals": {"iam:PassedToService": "states.amazonaws.com"}}}
    to_states = acting(embedded, may_create, allow("iam:PassRole", role, **elsewhere))("lambda")
    for client in (without, to_another, to_states):
        assert is_denied(client.create_function, "iam:PassRole", **settings)
    may = acting(embedded, may_create, allow("iam:PassRole", role, **PASSED))("lambda")
    may.create_function(**settings)
    assert is_denied(may.create_function, "lambda:CreateFunction", **{**settings, "FunctionName": f"{function}-2"})
    assert is_denied(without.update_function_configuration, "iam:PassRole", FunctionName=function, Role=role)
    without.update_function_configuration(FunctionName=function, Timeout=5)
    may.update_function_configuration(FunctionName=function, Role=role)


def test_making_a_state_machine_needs_permission_to_pass_its_role(embedded: Any) -> None:
    role, machine = embedded.make_role([], service="states.amazonaws.com"), name("m")
    machine_arn = arn("states", f"stateMachine:{machine}")
    may_create = allow("states:CreateStateMachine states:UpdateStateMachine", machine_arn)
    without = acting(embedded, may_create)("stepfunctions")
    assert is_denied(without.create_state_machine, "iam:PassRole", name=machine, definition=ONE_PASS, roleArn=role)
    may = acting(embedded, may_create, allow("iam:PassRole", role))("stepfunctions")
    may.create_state_machine(name=machine, definition=ONE_PASS, roleArn=role)
    assert is_denied(without.update_state_machine, "iam:PassRole", stateMachineArn=machine_arn, roleArn=role)
    without.update_state_machine(stateMachineArn=machine_arn, definition=ONE_PASS)


def test_a_service_must_be_trusted_to_take_a_role(embedded: Any) -> None:
    function_role, machine_role = (embedded.make_role([], service=f"{s}.amazonaws.com") for s in ("lambda", "states"))
    made = embedded.client("lambda").create_function
    code, message = refused(lambda: made(**function_settings(name(), machine_role, HANDLER)))
    assert (code, message) == (
        "InvalidParameterValueException",
        "The role defined for the function cannot be assumed by Lambda.",
    )
    machine = embedded.client("stepfunctions").create_state_machine
    code, message = refused(lambda: machine(name=name(), definition=ONE_PASS, roleArn=function_role))
    assert code == "AccessDeniedException"
    assert "states.amazonaws.com" in message
    job = embedded.client("sagemaker").create_processing_job
    code, message = refused(lambda: job(**job_request(name(), machine_role)))
    assert code == "ValidationException"
    assert message.startswith(f"Could not assume role {machine_role}")


def test_a_role_is_taken_only_by_whom_it_trusts(embedded: Any) -> None:
    role = name("r")
    trust = roles.policy_json(
        [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]
    )
    made = embedded.client("iam").create_role(RoleName=role, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    take = {"RoleArn": made, "RoleSessionName": "test"}
    assert is_denied(embedded.client("sts").assume_role, "sts:AssumeRole", **take)
    assert is_denied(acting(embedded, allow("sts:AssumeRole"))("sts").assume_role, "sts:AssumeRole", **take)


def test_a_machine_that_waits_for_jobs_needs_the_events_permissions(embedded: Any, workshop: Workshop) -> None:
    statements = workshop.statements("machine")
    sync = {"Type": "Task", "Resource": "arn:aws:states:::sagemaker:createProcessingJob.sync", "End": True}
    definition = json.dumps({"StartAt": "a", "States": {"a": sync}})
    create = embedded.client("stepfunctions").create_state_machine
    for action in ("events:PutTargets", "events:PutRule", "events:DescribeRule"):
        fewer = json.loads(json.dumps(statements))
        fewer[2]["Action"].remove(action)
        role = embedded.make_role(fewer, service="states.amazonaws.com")
        code, message = refused(lambda role=role: create(name=name(), definition=definition, roleArn=role))
        assert (code, message) == ("AccessDeniedException", f"'{role}' is not authorized to create managed-rule.")


# --- names that IAM checks ---


def test_a_policy_for_a_log_group_needs_its_ending(embedded: Any) -> None:
    group = f"/test/{name()}"
    actions = "logs:CreateLogGroup logs:CreateLogStream logs:PutLogEvents logs:GetLogEvents logs:DescribeLogStreams"
    without = acting(embedded, allow(actions, arn("logs", f"log-group:{group}")))("logs")
    with_ending = acting(embedded, allow(actions, arn("logs", f"log-group:{group}:*")))("logs")
    with_ending.create_log_group(logGroupName=group)
    stream = {"logGroupName": group, "logStreamName": "s"}
    assert is_denied(without.create_log_stream, "logs:CreateLogStream", **stream)
    with_ending.create_log_stream(**stream)
    events = [{"timestamp": 1_800_000_000_000, "message": "x"}]
    assert is_denied(without.put_log_events, "logs:PutLogEvents", **stream, logEvents=events)
    with_ending.put_log_events(**stream, logEvents=events)
    assert with_ending.describe_log_streams(logGroupName=group)["logStreams"]
    one_stream = arn("logs", f"log-group:{group}:log-stream:s")
    acting(embedded, allow("logs:GetLogEvents", one_stream))("logs").get_log_events(**stream)


def test_a_roles_path_is_part_of_its_name(embedded: Any) -> None:
    iam, role = embedded.client("iam"), name("r")
    trust = roles.policy_json([{"Effect": "Allow", "Principal": {"Service": "x.y"}, "Action": "sts:AssumeRole"}])
    actions = "iam:CreateRole iam:GetRole iam:PutRolePolicy iam:DeleteRole iam:DeleteRolePolicy"
    inside = acting(embedded, allow(actions, f"arn:aws:iam::{ACCOUNT}:role/team/*"))("iam")
    outside = acting(embedded, allow(actions, f"arn:aws:iam::{ACCOUNT}:role/{role}"))("iam")
    made = {"RoleName": role, "Path": "/team/", "AssumeRolePolicyDocument": trust}
    assert is_denied(outside.create_role, "iam:CreateRole", **made)
    inside.create_role(**made)
    assert is_denied(outside.get_role, "iam:GetRole", RoleName=role)
    assert inside.get_role(RoleName=role)["Role"]["Arn"].endswith(f":role/team/{role}")
    inside.delete_role(RoleName=role)
    assert refused(lambda: iam.get_role(RoleName=role))[0] == "NoSuchEntity"


def test_what_changes_in_a_policy_holds_at_once_for_a_session(embedded: Any) -> None:
    role = embedded.make_role([allow("codecommit:ListRepositories")])
    made = embedded.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    variables = {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}
    client = embedded.client("codecommit", {**variables, "AWS_SESSION_TOKEN": made["SessionToken"]})
    client.list_repositories()
    embedded.client("iam").delete_role_policy(RoleName=role.rpartition("/")[2], PolicyName="p")
    assert is_denied(client.list_repositories, "codecommit:ListRepositories")


def test_an_explicit_deny_wins(embedded: Any) -> None:
    everything = allow("*")
    denied = {"Effect": "Deny", "Action": "s3:ListAllMyBuckets", "Resource": "*"}
    s3 = acting(embedded, everything, denied)("s3")
    code, message = refused(s3.list_buckets)
    assert code == "AccessDenied"
    assert "explicit deny" in message


def test_without_any_policy_nothing_but_ones_own_name_is_told(embedded: Any) -> None:
    client = acting(embedded)
    assert client("sts").get_caller_identity()["Account"] == ACCOUNT
    for service, call in (
        ("s3", "list_buckets"), ("iam", "list_roles"), ("lambda", "list_functions"), ("lambda", "get_account_settings"),
        ("stepfunctions", "list_state_machines"), ("stepfunctions", "list_activities"), ("logs", "describe_log_groups"),
        ("logs", "describe_queries"), ("events", "list_rules"), ("events", "list_event_buses"),
        ("codecommit", "list_repositories"), ("sagemaker", "list_processing_jobs"),
    ):  # fmt: skip
        code, _ = refused(getattr(client(service), call))
        assert "AccessDenied" in code, (service, call)


def test_the_simulator_agrees_with_what_happens(embedded: Any, workshop: Workshop) -> None:
    statements = workshop.statements("dispatcher")
    role = embedded.make_role(statements)
    assert roles.find_missing_actions(embedded.client("iam"), role, statements) == []
    notebook = permissions.notebook_statements(workshop.connection)
    missing = roles.find_missing_actions(embedded.client("iam"), role, notebook)
    made = embedded.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    variables = {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}
    variables["AWS_SESSION_TOKEN"] = made["SessionToken"]
    bucket, repository = workshop.bucket, workshop.repository
    for action, resource, service, call, arguments in (
        ("s3:ListBucket", f"arn:aws:s3:::{bucket}", "s3", "list_objects_v2", {"Bucket": bucket}),
        ("s3:DeleteObject", f"arn:aws:s3:::{bucket}/*", "s3", "delete_object", {"Bucket": bucket, "Key": "runs/none"}),
        ("codecommit:GetRepository", arn("codecommit", f"{workshop.connection.prefix}-*"), "codecommit",
         "get_repository", {"repositoryName": repository}),
        ("states:ListStateMachines", "*", "stepfunctions", "list_state_machines", {}),
        ("logs:DescribeLogGroups", "*", "logs", "describe_log_groups", {}),
    ):  # fmt: skip
        said = f"{action} on {resource}" in missing
        run = getattr(embedded.client(service, variables), call)
        if said:
            assert is_denied(run, action, **arguments), action
        else:
            run(**arguments)


# --- functions ---


@pytest.fixture
def quiet(embedded: Any) -> str:
    """Make a function whose role may not write a log."""
    role, function = embedded.make_role([], service="lambda.amazonaws.com"), name("quiet")
    embedded.client("lambda").create_function(**function_settings(function, role, HANDLER))
    return function


def test_a_function_without_the_permission_writes_no_log(embedded: Any, quiet: str) -> None:
    assert embedded.client("lambda").invoke(FunctionName=quiet, Payload=b"1")["Payload"].read() == b"1"
    assert not _group(embedded, f"/aws/lambda/{quiet}")


def test_the_secret_of_a_functions_session_does_not_follow_from_its_name(embedded: Any, quiet: str) -> None:
    # ministack gives this to every function: anybody who knows the two ARNs would have its role.
    config = embedded.client("lambda").get_function_configuration(FunctionName=quiet)
    embedded.client("lambda").invoke(FunctionName=quiet, Payload=b"1")
    digest = hashlib.sha256(f"{config['FunctionArn']}:{config['Role']}".encode()).hexdigest()
    guessed = {
        "AWS_ACCESS_KEY_ID": f"ASIA{digest[:16].upper()}",
        "AWS_SECRET_ACCESS_KEY": hashlib.sha256(f"secret:{digest}".encode()).hexdigest(),
        "AWS_SESSION_TOKEN": hashlib.sha256(f"token:{digest}".encode()).hexdigest(),
    }
    assert refused(embedded.client("sts", guessed).get_caller_identity)[0] == "InvalidClientTokenId"


# --- tags at creation ---


def test_creating_something_with_tags_needs_the_permission_to_tag(embedded: Any) -> None:
    role = embedded.make_role([], service="lambda.amazonaws.com")
    machine_role = embedded.make_role([], service="states.amazonaws.com")
    creates = allow("lambda:CreateFunction states:CreateStateMachine codecommit:CreateRepository iam:PassRole")
    client = acting(embedded, creates)
    functions, states, codecommit = client("lambda"), client("stepfunctions"), client("codecommit")
    settings = function_settings(name(), role, HANDLER)
    machine = {"definition": ONE_PASS, "roleArn": machine_role}
    tags = [{"key": "k", "value": "v"}]
    assert is_denied(functions.create_function, "lambda:TagResource", **settings, Tags={"k": "v"})
    assert is_denied(states.create_state_machine, "states:TagResource", name=name(), **machine, tags=tags)
    assert is_denied(codecommit.create_repository, "codecommit:TagResource", repositoryName=name(), tags={"k": "v"})
    functions.create_function(**settings)
    states.create_state_machine(name=name(), **machine)
    codecommit.create_repository(repositoryName=name())


def test_a_role_that_is_made_again_is_not_that_of_earlier_sessions(embedded: Any, workshop: Workshop) -> None:
    iam, sts = embedded.client("iam"), embedded.client("sts")
    role, everything = name("role"), json.dumps({"Version": "2012-10-17", "Statement": [allow("s3:*")]})
    me = {"Effect": "Allow", "Principal": {"AWS": sts.get_caller_identity()["Arn"]}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [me]})

    def make() -> str:
        made = iam.create_role(RoleName=role, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        iam.put_role_policy(RoleName=role, PolicyName="all", PolicyDocument=everything)
        return made

    given = sts.assume_role(RoleArn=make(), RoleSessionName="early")["Credentials"]
    names = {"AWS_ACCESS_KEY_ID": "AccessKeyId", "AWS_SECRET_ACCESS_KEY": "SecretAccessKey"}
    names["AWS_SESSION_TOKEN"] = "SessionToken"
    s3 = embedded.client("s3", {variable: given[member] for variable, member in names.items()})
    s3.list_objects_v2(Bucket=workshop.bucket)
    iam.delete_role_policy(RoleName=role, PolicyName="all")
    iam.delete_role(RoleName=role)
    assert refused(lambda: s3.list_objects_v2(Bucket=workshop.bucket))[0] == "AccessDenied"
    make()
    assert refused(lambda: s3.list_objects_v2(Bucket=workshop.bucket))[0] == "InvalidAccessKeyId"


# --- patterns with many stars, which must not hold up everybody else ---


def test_a_policy_with_many_stars_is_decided_at_once(embedded: Any, workshop: Workshop) -> None:
    s3 = acting(embedded, allow("s3:GetObject", f"arn:aws:s3:::{workshop.bucket}/{'*a' * 30}b"))("s3")
    assert is_denied(s3.get_object, "s3:GetObject", Bucket=workshop.bucket, Key="a" * 200)


def test_an_origin_with_many_stars_is_decided_at_once(embedded: Any) -> None:
    s3, bucket = embedded.client("s3"), name()
    s3.create_bucket(Bucket=bucket)
    rules = [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*a" * 30 + "b", "http://*.example"]}]
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    allowed = []
    for origin in ("http://" + "a" * 200, "http://www.example"):
        page = embedded.client("s3")
        page.meta.events.register("before-send.s3.GetObject", partial(_from_page, origin))
        headers = page.get_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPHeaders"]
        allowed.append(headers.get("access-control-allow-origin"))
    assert allowed == [None, "http://www.example"]


def _from_page(origin: str, request: Any, **_: Any) -> None:
    request.headers["Origin"] = origin
