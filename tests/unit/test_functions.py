"""Lambda functions: the same package every time, created or updated in the order that Lambda allows."""

import hashlib
import io
import os
import sys
import zipfile

import pytest
from answers import ACCOUNT, REGION, Aws, in_turn, refuse

from helpers import functions

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:demo-exp-f"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/demo-exp-dispatcher"
ACTIVE = {"Configuration": {"FunctionArn": ARN, "State": "Active", "LastUpdateStatus": "Successful"}}


def make_source(folder):
    folder.mkdir()
    (folder / "lambda_function.py").write_text("def lambda_handler(event, context):\n    return event\n")
    (folder / "part.py").write_text("VALUE = 1\n")
    return folder


def names(package):
    return zipfile.ZipFile(io.BytesIO(package)).namelist()


def test_the_same_files_give_the_same_bytes_whenever_they_were_written(tmp_path):
    one, two = make_source(tmp_path / "one"), make_source(tmp_path / "two")
    os.utime(two / "part.py", (0, 0))
    (two / "part.py").chmod(0o755)
    assert functions.package(one) == functions.package(two)


def test_what_python_leaves_behind_is_not_packaged(tmp_path):
    source = make_source(tmp_path / "f")
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "part.cpython-313.pyc").write_bytes(b"x")
    (source / "notes.txt").write_text("not code")
    assert names(functions.package(source)) == ["lambda_function.py", "part.py"]


def test_a_package_lies_under_its_name_with_modules_and_json(tmp_path):
    source, shared = make_source(tmp_path / "f"), tmp_path / "shared"
    (shared / "deep").mkdir(parents=True)
    for name in ("__init__.py", "deep/part.py", "prices.json", "notes.txt"):
        (shared / name).write_text("x")
    expected = ["lambda_function.py", "part.py", "shared/__init__.py", "shared/deep/part.py", "shared/prices.json"]
    assert names(functions.package(source, shared)) == expected


def test_a_shared_module_lies_beside_the_function_s_own(tmp_path):
    source, shared = tmp_path / "a_function", tmp_path / "image" / "summarize.py"
    for path in (source / "lambda_function.py", shared, shared.parent / "other.py"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    assert names(functions.package(source, shared)) == ["lambda_function.py", "summarize.py"]


def test_the_functions_and_the_notebooks_share_the_planning_package():
    packaged = names(functions.package(functions.SOURCES / "pipeline_dispatcher", functions.PLANNING))
    assert {"planning/__init__.py", "planning/experiment.py", "lambda_function.py"} <= set(packaged)


def test_another_content_gives_other_bytes(tmp_path):
    source = make_source(tmp_path / "f")
    before = functions.package(source)
    (source / "part.py").write_text("VALUE = 2\n")
    assert functions.package(source) != before


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A source with a requirement that is in the cache already, so that nothing is downloaded."""
    source = make_source(tmp_path / "dispatcher")
    (source / "requirements.txt").write_text("pyyaml==6.0.3\n")
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")  # pip is not to be run
    digest = hashlib.sha256(f"python3.13 {functions.PLATFORM} pyyaml==6.0.3\n".encode()).hexdigest()[:16]
    installed = tmp_path / "cache" / f"dispatcher-{digest}"
    for name in ("yaml/__init__.py", "yaml/_yaml.so", "yaml/__pycache__/x.pyc", "bin/tool", "part.py"):
        (installed / name).parent.mkdir(parents=True, exist_ok=True)
        (installed / name).write_text("installed")
    return source


def test_requirements_are_packaged_without_their_commands_and_byte_code(cached, tmp_path):
    package = functions.package(cached, cache=tmp_path / "cache", runtime="python3.13")
    assert names(package) == ["lambda_function.py", "part.py", "yaml/__init__.py", "yaml/_yaml.so"]
    assert zipfile.ZipFile(io.BytesIO(package)).read("part.py") == b"VALUE = 1\n", "the function's own file wins"


def test_requirements_of_another_runtime_are_installed_anew(cached, tmp_path):
    with pytest.raises(FileNotFoundError, match="/nonexistent/python"):
        functions.package(cached, cache=tmp_path / "cache", runtime="python3.12")


def ensure(aws, **options):
    return functions.ensure_function(
        aws.client("lambda"),
        "demo-exp-f",
        role_arn=ROLE,
        code=b"zip",
        timeout=120,
        memory=512,
        variables={"BUCKET": "b"},
        tags={"workshop": "demo-exp"},
        **options,
    )


def test_a_new_function_is_created_with_its_tags_and_waited_for(monkeypatch):
    monkeypatch.setattr("botocore.waiter.time.sleep", lambda seconds: None)
    pending = {"Configuration": {"FunctionArn": ARN, "State": "Pending"}}
    aws = Aws({"lambda:CreateFunction": {"FunctionArn": ARN}, "lambda:GetFunction": in_turn(pending, ACTIVE)})
    made = ensure(aws)
    assert (made.arn, made.created) == (ARN, True)
    (params,) = aws.asked("lambda:CreateFunction")
    assert (params["Code"], params["Tags"]) == ({"ZipFile": b"zip"}, {"workshop": "demo-exp"})
    assert (params["Timeout"], params["MemorySize"], params["Runtime"]) == (120, 512, functions.RUNTIME)
    assert aws.names()[1:] == ["lambda:GetFunction"] * 2


def test_an_existing_function_gets_code_and_settings_one_after_the_other():
    aws = Aws(
        {
            "lambda:CreateFunction": refuse("ResourceConflictException", "Function already exist", 409),
            "lambda:GetFunction": ACTIVE,
            "lambda:UpdateFunctionCode": {"FunctionArn": ARN},
            "lambda:UpdateFunctionConfiguration": {"FunctionArn": ARN},
        }
    )
    assert not ensure(aws).created
    wait = "lambda:GetFunction"  # Lambda refuses an update while another one is under way
    code, settings = "lambda:UpdateFunctionCode", "lambda:UpdateFunctionConfiguration"
    assert aws.names()[1:] == [wait, code, wait, settings, wait, wait]
    assert "Tags" not in aws.asked(settings)[0]


def test_a_role_made_a_moment_ago_is_waited_for():
    refused = refuse("InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda.")
    aws = Aws({"lambda:CreateFunction": in_turn(refused, refused, {"FunctionArn": ARN}), "lambda:GetFunction": ACTIVE})
    pauses = []
    assert ensure(aws, sleep=pauses.append).created
    assert len(pauses) == 2
    assert len(aws.asked("lambda:CreateFunction")) == 3


def allow(aws, repository="demo-exp-project1"):
    return functions.allow_invoke(
        aws.client("lambda"),
        "demo-exp-f",
        principal="codecommit.amazonaws.com",
        source_arn=f"arn:aws:codecommit:{REGION}:{ACCOUNT}:{repository}",
        account_id=ACCOUNT,
    )


def test_a_service_may_invoke_for_one_source_of_this_account_only():
    aws = Aws({"lambda:AddPermission": {}})
    assert allow(aws)
    (params,) = aws.asked("lambda:AddPermission")
    assert (params["Principal"], params["SourceAccount"]) == ("codecommit.amazonaws.com", ACCOUNT)
    assert params["SourceArn"].endswith(":demo-exp-project1")


@pytest.mark.parametrize("service", ["events", "apigateway"])
def test_services_that_do_not_name_their_account_are_known_by_the_arn_alone(service):
    aws = Aws({"lambda:AddPermission": {}})
    settings = {"principal": f"{service}.amazonaws.com", "source_arn": f"arn:aws:{service}:{REGION}:{ACCOUNT}:x"}
    assert functions.allow_invoke(aws.client("lambda"), "demo-exp-f", **settings, account_id=ACCOUNT)
    (params,) = aws.asked("lambda:AddPermission")
    assert params["SourceArn"] == settings["source_arn"]
    assert "SourceAccount" not in params, "the condition would keep the service out"


def test_allowing_the_same_again_is_no_error():
    assert not allow(Aws({"lambda:AddPermission": refuse("ResourceConflictException", "already exists", 409)}))


def test_each_repository_has_a_permission_of_its_own():
    aws = Aws({"lambda:AddPermission": {}})
    allow(aws)
    allow(aws, "demo-exp-project.2")
    ids = [params["StatementId"] for params in aws.asked("lambda:AddPermission")]
    assert ids == ["codecommit-demo-exp-project1", "codecommit-demo-exp-project-2"]


def test_scripts_that_a_function_hands_on_are_packaged_and_templates_are_not():
    packaged = names(functions.package(functions.SOURCES / "ec2_worker"))
    assert {"user_data.sh", "worker.py", "register.py"} <= set(packaged)
    assert "template.yaml" not in packaged
