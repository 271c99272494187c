"""EC2's forms and XML, held against botocore's model of the service."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.model import ListShape, Shape, StructureShape
from ec2_api import Api, refused, tagged

from helpers.local_aws.ec2 import parameters, query
from helpers.local_aws.ec2.query import NAMESPACE
from helpers.local_aws.wire import AwsError

MODEL = botocore.session.get_session().get_service_model("ec2")
SCHEMA = {
    "Name": query.text,
    "Count": query.integer,
    "On": query.boolean,
    "Item": [{"Key": query.text}],
    "Id": [query.text],
}


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


def wire_name(name: str, shape: Shape, *, asked: bool) -> str:
    found = shape.serialization.get("name") or name
    if not asked:
        return found
    return shape.serialization.get("queryName") or found[0].upper() + found[1:]


def unknown(schema: Any, shape: Shape, path: str) -> Iterator[str]:
    """Yield what a schema has and the model has not."""
    if isinstance(schema, list):
        assert isinstance(shape, ListShape), path
        yield from unknown(schema[0], shape.member, path)
    elif isinstance(schema, Mapping):
        assert isinstance(shape, StructureShape), path
        members = {wire_name(name, member, asked=True): member for name, member in shape.members.items()}
        for name, inner in schema.items():
            if name not in members:
                yield f"{path}.{name}"
            else:
                yield from unknown(inner, members[name], f"{path}.{name}")
    else:
        expected = {query.integer: ("integer",), query.boolean: ("boolean",)}.get(schema, ("string", "blob"))
        assert shape.type_name in expected, path


def strangers(element: ET.Element, shape: Shape, path: str) -> Iterator[str]:
    """Yield what an answer has and the model has not."""
    if isinstance(shape, ListShape):
        for item in element:
            assert item.tag == f"{{{NAMESPACE}}}item", path
            yield from strangers(item, shape.member, path)
    elif isinstance(shape, StructureShape):
        members = {wire_name(name, member, asked=False): member for name, member in shape.members.items()}
        for each in element:
            name = each.tag.removeprefix(f"{{{NAMESPACE}}}")
            if name not in members:
                yield f"{path}.{name}"
            else:
                yield from strangers(each, members[name], f"{path}.{name}")


@pytest.mark.parametrize("operation", parameters.OPERATIONS)
def test_every_parameter_is_one_of_awss(operation: str):
    shape = MODEL.operation_model(operation).input_shape
    assert list(unknown(parameters.OPERATIONS[operation], shape, operation)) == []
    assert set(parameters.REQUIRED.get(operation, ())) <= set(parameters.OPERATIONS[operation])


def answers(api: Api) -> Iterator[tuple[str, bytes]]:
    """Yield the answers of operations that have something to show."""
    kept: list[tuple[str, bytes]] = []
    answer = api.service.answer

    def keep(body: bytes, caller: Any) -> bytes:
        content = answer(body, caller)
        kept.append((query.form(body)["Action"], content))
        return content

    api.service.answer = keep  # type: ignore[method-assign]
    group = api.create_security_group(
        GroupName="g", Description="d", TagSpecifications=[tagged("security-group", a="b")]
    )["GroupId"]
    own = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 2}
    permission = {
        **own,
        "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "inside"}],
        "Ipv6Ranges": [{"CidrIpv6": "::/0"}],
        "UserIdGroupPairs": [{"GroupId": group}],
    }
    for direction in ("ingress", "egress"):
        getattr(api, f"authorize_security_group_{direction}")(GroupId=group, IpPermissions=[permission])
    instance = api.started(
        SecurityGroupIds=[group],
        IamInstanceProfile={"Name": "worker"},
        TagSpecifications=[tagged("instance", a="b"), tagged("volume", a="b")],
    )
    api.create_tags(Resources=[instance], Tags=[{"Key": "k", "Value": "<&>"}])
    api.delete_tags(Resources=[instance], Tags=[{"Key": "k"}])
    api.get_console_output(InstanceId=instance)
    for operation in parameters.OPERATIONS:
        if operation.startswith("Describe"):
            method = botocore.xform_name(operation)
            getattr(api, method)()
    api.revoke_security_group_ingress(GroupId=group, IpPermissions=[permission])
    api.revoke_security_group_egress(GroupId=group, IpPermissions=[permission])
    api.terminate_instances(InstanceIds=[instance])
    api.becomes(instance, "terminated")
    api.delete_security_group(GroupId=group)
    yield from kept


def test_every_answer_has_only_what_awss_have(api: Api):
    seen = set()
    for operation, content in answers(api):
        root = ET.fromstring(content)  # noqa: S314 - our own
        assert root.tag == f"{{{NAMESPACE}}}{operation}Response"
        root.remove(root.find(f"{{{NAMESPACE}}}requestId"))
        for stray in root.findall(f"{{{NAMESPACE}}}return"):
            root.remove(stray)  # the model names it for some operations only; AWS answers it for all of these
        shape = MODEL.operation_model(operation).output_shape
        assert list(strangers(root, shape, operation)) == [] if shape else len(root) == 0
        seen.add(operation)
    assert seen == set(parameters.OPERATIONS)


def test_a_form_becomes_structures_and_lists():
    fields = {"Action": "X", "Version": "2016-11-15", "Name": "a b", "Count": "-3", "On": "true", "Item.2.Key": "z"}
    fields |= {f"Id.{number}": str(number) for number in (10, 9, 1)}
    assert query.parse(fields, SCHEMA, "X") == {
        "Name": "a b",
        "Count": -3,
        "On": True,
        "Item": [{"Key": "z"}],
        "Id": ["1", "9", "10"],
    }


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"Other": "1"}, "NotImplemented"),
        ({"Item.1.Value": "1"}, "NotImplemented"),
        ({"Name.1": "1"}, "NotImplemented"),
        ({"Id": "1"}, "InvalidParameterValue"),
        ({"Id.x": "1"}, "InvalidParameterValue"),
        ({"Item.1": "1"}, "InvalidParameterValue"),
        ({"Count": "1e3"}, "InvalidParameterValue"),
        ({"Count": "9" * 5000}, "InvalidParameterValue"),
        ({"On": "yes"}, "InvalidParameterValue"),
        ({"Name": "a\x00b"}, "InvalidParameterValue"),
        ({"Id.1": "a", "Id.1.b": "c"}, "MalformedQueryString"),
        ({"Id.1.b": "c", "Id.1": "a"}, "MalformedQueryString"),
    ],
)
def test_a_form_that_does_not_fit_is_refused(fields: dict[str, str], code: str):
    with pytest.raises(AwsError) as caught:
        query.parse(fields, SCHEMA, "X")
    assert caught.value.code == code


def test_a_body_that_is_no_form_is_refused():
    for body in (b"\xff\xfe", b"&".join(b"a%d=1" % n for n in range(6000)), b"Action=A&Action=B"):
        with pytest.raises(AwsError) as caught:
            query.form(body)
        assert caught.value.code == "MalformedQueryString"


def test_what_a_user_chose_is_escaped():
    assert b"<v>&lt;&amp;&gt;</v>" in query.xml("X", {"v": "<&>"})


def test_an_operation_that_is_not_here_is_refused_by_name(api: Api):
    assert refused(api.stop_instances, InstanceIds=["i-1"]) == (
        "NotImplemented",
        "the embedded AWS does not support ec2:StopInstances",
    )
    assert refused(api.create_vpc, CidrBlock="10.0.0.0/16")[0] == "NotImplemented"


def test_a_request_without_an_action_is_refused(api: Api):
    with pytest.raises(AwsError) as caught:
        api.service.answer(b"Version=2016-11-15", None)  # type: ignore[arg-type]
    assert caught.value.code == "MissingAction"


def test_what_is_required_is_asked_for(api: Api):
    assert refused(api.terminate_instances, InstanceIds=[]) == (
        "MissingParameter",
        "The request must contain the parameter InstanceId",
    )
