"""How operations go through a stack's resources: in which order, in parallel, and back again when one fails."""

import json
import threading
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from helpers.local_aws.cloudformation import operations, targets
from helpers.local_aws.cloudformation.changes import plan
from helpers.local_aws.cloudformation.deployment import Deployment
from helpers.local_aws.cloudformation.intrinsics import UNKNOWN
from helpers.local_aws.cloudformation.operations import Failing, Operations
from helpers.local_aws.cloudformation.records import INTERRUPTED, Stacks
from helpers.local_aws.cloudformation.template import parse
from helpers.local_aws.cloudformation.walk import walk
from helpers.local_aws.wire import AwsError, Site

SITE = Site(Path("state"), "http://127.0.0.1:1", "us-east-1", "123456789012")
ARN = SITE.arn("cloudformation", "stack/mine/0")
AROUND = targets.Around(SITE, lambda name: name, lambda region: [])


class Ssm:
    """Parameter Store, as far as the stacks of these tests use it; ``refused`` values are denied."""

    def __init__(self):
        self.values, self.calls, self.refused, self.stuck = {}, [], set(), set()

    def put_parameter(self, *, Name, Value, Overwrite=False, **more):  # noqa: N803
        self.calls.append(("put", Name, Value))
        if Value in self.refused:
            raise _denied("ssm:PutParameter", "PutParameter")
        if Name in self.values and not Overwrite:
            raise ClientError({"Error": {"Code": "ParameterAlreadyExists", "Message": "it exists"},
                               "ResponseMetadata": {"HTTPStatusCode": 400}}, "PutParameter")  # fmt: skip
        self.values[Name] = Value
        return {"Version": 1}

    def delete_parameter(self, *, Name):  # noqa: N803
        self.calls.append(("delete", Name))
        if Name in self.stuck:
            raise _denied("ssm:DeleteParameter", "DeleteParameter")
        if Name not in self.values:
            raise ClientError({"Error": {"Code": "ParameterNotFound", "Message": ""},
                               "ResponseMetadata": {"HTTPStatusCode": 400}}, "DeleteParameter")  # fmt: skip
        del self.values[Name]
        return {}


def _denied(action, operation):
    message = f"User: dana is not authorized to perform: {action}"
    return ClientError(
        {"Error": {"Code": "AccessDeniedException", "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 400}},
        operation,
    )


class Bench:
    """A stack of SSM parameters, and what is done with it."""

    def __init__(self, folder):
        self.stacks, self.ssm = Stacks(folder), Ssm()
        self.stack = self.stacks.blank(ARN, "")
        self.stacks.add(self.stack, "CREATE_IN_PROGRESS")
        self.stopping = False

    def deployment(self):
        return Deployment(
            AROUND,
            self.stack,
            {"ssm": self.ssm}.__getitem__,
            stopping=lambda: self.stopping,
            pause=lambda seconds: None,
        )

    def target(self, resources, outputs=None):
        document = {"Resources": {}, "Outputs": outputs or {}}
        for name, (value, more) in resources.items():
            properties = {"Name": more.pop("Name", f"/{name}"), "Type": "String", "Value": value}
            document["Resources"][name] = {"Type": "AWS::SSM::Parameter", "Properties": properties, **more}
        return targets.settle(AROUND, parse(json.dumps(document)), {}, {}, ARN)

    def run(self, operation, target, failing=None):
        def settle():
            self.stack.change(lambda data: data.update(template=target.template.body))

        operation(self.stack, self.deployment(), target, failing or Failing(), settle)
        return self.stack.status

    def told(self, logical):
        return [e["ResourceStatus"] for e in self.stack.data["events"] if e["LogicalResourceId"] == logical]

    def reasons(self, status):
        return [e.get("ResourceStatusReason") for e in self.stack.data["events"] if e["ResourceStatus"] == status]


def after(*names):
    return {"DependsOn": list(names)}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_a_resource_is_made_once_what_it_refers_to_is_there(bench):
    target = bench.target(
        {"A": ({"Fn::Sub": "${B}-${C.Value}"}, {}), "B": ("b", after("C")), "C": ("c", {})},
        {"Out": {"Value": {"Ref": "A"}, "Export": {"Name": "shared"}}},
    )
    assert bench.run(operations.create, target) == "CREATE_COMPLETE"
    assert [call[1] for call in bench.ssm.calls] == ["/C", "/B", "/A"]
    assert bench.ssm.values["/A"] == "/B-c"
    assert bench.stack.data["outputs"] == [{"OutputKey": "Out", "OutputValue": "/A", "ExportName": "shared"}]
    assert bench.told("C") == ["CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE"]


def test_a_failed_create_is_rolled_back_and_says_which_resource_and_why(bench):
    bench.ssm.refused = {"no"}
    target = bench.target({"A": ("a", {}), "B": ("no", after("A")), "C": ("c", after("B"))})
    assert bench.run(operations.create, target) == "ROLLBACK_COMPLETE"
    assert bench.ssm.values == {}
    assert bench.told("C") == []
    [reason] = [text for text in bench.reasons("CREATE_FAILED") if text]
    assert "is not authorized to perform: ssm:PutParameter" in reason
    assert "HandlerErrorCode: AccessDenied" in reason
    words = "The following resource(s) failed to create: [B]. Rollback requested by user."
    assert bench.reasons("ROLLBACK_IN_PROGRESS") == [words]


def test_a_failed_create_can_be_left_as_it_is_or_deleted(bench, tmp_path):
    bench.ssm.refused = {"no"}
    resources = {"A": ("a", {}), "B": ("no", after("A"))}
    assert bench.run(operations.create, bench.target(resources), Failing("DO_NOTHING")) == "CREATE_FAILED"
    assert bench.ssm.values == {"/A": "a"}
    other = Bench(tmp_path / "other")
    other.ssm.refused = {"no"}
    assert other.run(operations.create, other.target(resources), Failing("DELETE")) == "DELETE_COMPLETE"
    assert other.ssm.values == {}


@pytest.mark.parametrize(
    ("policy", "failing", "kept"),
    [
        ("Retain", Failing(), True),
        ("Retain", Failing(retain_except_on_create=True), False),
        ("RetainExceptOnCreate", Failing(), False),
    ],
)
def test_what_a_rollback_keeps(bench, policy, failing, kept):
    bench.ssm.refused = {"no"}
    target = bench.target({"A": ("a", {"DeletionPolicy": policy}), "B": ("no", after("A"))})
    assert bench.run(operations.create, target, failing) == "ROLLBACK_COMPLETE"
    assert ("/A" in bench.ssm.values) is kept


def test_an_update_changes_replaces_adds_and_removes(bench):
    bench.run(operations.create, bench.target({"A": ("a", {}), "B": ("b", {}), "C": ("c", {}), "D": ("d", {})}))
    bench.ssm.calls.clear()
    changed = {"A": ("a", {}), "B": ("b2", {}), "C": ("c", {"Name": "/C2"}), "E": ("e", {})}
    assert bench.run(operations.update, bench.target(changed)) == "UPDATE_COMPLETE"
    assert bench.ssm.values == {"/A": "a", "/B": "b2", "/C2": "c", "/E": "e"}
    assert {call for call in bench.ssm.calls if call[0] == "delete"} == {("delete", "/C"), ("delete", "/D")}
    assert ("put", "/A", "a") not in bench.ssm.calls
    assert sorted(bench.stack.resources) == ["A", "B", "C", "E"]


def test_policies_keep_what_an_update_would_delete(bench):
    bench.run(operations.create, bench.target({
        "A": ("a", {"UpdateReplacePolicy": "Retain"}), "B": ("b", {"DeletionPolicy": "Retain"})
    }))  # fmt: skip
    target = bench.target({"A": ("a", {"Name": "/A2", "UpdateReplacePolicy": "Retain"})})
    assert bench.run(operations.update, target) == "UPDATE_COMPLETE"
    assert sorted(bench.ssm.values) == ["/A", "/A2", "/B"]
    assert bench.told("B")[-1] == "DELETE_SKIPPED"


def test_a_failed_update_brings_everything_back(bench):
    bench.run(operations.create, bench.target({"A": ("a", {}), "B": ("b", {}), "C": ("c", {})}, {"O": {"Value": "1"}}))
    before = dict(bench.ssm.values), bench.stack.data["template"], bench.stack.data["outputs"]
    bench.ssm.refused = {"no"}
    changed = {
        "A": ("a2", {}), "B": ("b", {"Name": "/B2"}), "N": ("n", {}), "Z": ("no", after("A", "B", "N")),
    }  # fmt: skip
    assert bench.run(operations.update, bench.target(changed, {"O": {"Value": "2"}})) == "UPDATE_ROLLBACK_COMPLETE"
    assert (bench.ssm.values, bench.stack.data["template"], bench.stack.data["outputs"]) == before
    assert sorted(bench.stack.resources) == ["A", "B", "C"]
    assert bench.stack.resources["B"]["physical"] == "/B"
    assert bench.stack.resources["A"]["properties"]["Value"] == "a"


def test_a_rollback_that_fails_can_be_continued(bench):
    bench.run(operations.create, bench.target({"A": ("a", {})}))
    bench.ssm.refused = {"no", "a"}
    changed = {"A": ("a2", {}), "Z": ("no", after("A"))}
    assert bench.run(operations.update, bench.target(changed)) == "UPDATE_ROLLBACK_FAILED"
    assert "[A]" in bench.stack.data["reason"]
    bench.ssm.refused = set()
    operations.continue_rollback(bench.stack, bench.deployment(), [])
    assert bench.stack.status == "UPDATE_ROLLBACK_COMPLETE"
    assert bench.ssm.values == {"/A": "a"}


def test_a_failed_update_that_is_left_as_it_is_can_be_updated_again(bench):
    bench.run(operations.create, bench.target({"A": ("a", {})}))
    bench.ssm.refused = {"no"}
    changed = {"A": ("a2", {}), "Z": ("no", after("A"))}
    assert bench.run(operations.update, bench.target(changed), Failing("DO_NOTHING")) == "UPDATE_FAILED"
    bench.ssm.refused = set()
    assert bench.run(operations.update, bench.target(changed)) == "UPDATE_COMPLETE"
    assert bench.ssm.values == {"/A": "a2", "/Z": "no"}


def test_dependants_are_deleted_first_and_what_one_needs_stays_when_it_cannot_be_deleted(bench):
    bench.run(operations.create, bench.target({"A": ("a", {}), "B": ("b", after("A")), "C": ("c", {})}))
    bench.ssm.stuck = {"/B"}
    bench.ssm.calls.clear()
    operations.delete(bench.stack, bench.deployment(), [])
    assert (bench.stack.status, bench.stack.data["reason"]) == (
        "DELETE_FAILED",
        "The following resource(s) failed to delete: [B].",
    )
    assert sorted(bench.stack.resources) == ["A", "B"]
    bench.ssm.stuck = set()
    operations.delete(bench.stack, bench.deployment(), [])
    assert (bench.stack.status, bench.ssm.values) == ("DELETE_COMPLETE", {})
    assert [call[1] for call in bench.ssm.calls[-2:]] == ["/B", "/A"]


def test_what_is_gone_already_counts_as_deleted(bench):
    bench.run(operations.create, bench.target({"A": ("a", {})}))
    bench.ssm.values.clear()
    operations.delete(bench.stack, bench.deployment(), [])
    assert bench.stack.status == "DELETE_COMPLETE"


def test_an_operation_that_is_stopped_marks_its_stack(bench):
    bench.ssm.put_parameter = lambda **more: setattr(bench, "stopping", True) or {"Version": 1}
    running, ended = Operations(), threading.Event()
    target = bench.target({"A": ("a", {}), "B": ("b", after("A"))})

    def work(stop):
        try:
            bench.run(operations.create, target)
        finally:
            ended.set()

    running.start(bench.stack, work)
    assert ended.wait(180)
    running.close()
    assert (bench.stack.status, bench.stack.data["reason"]) == ("CREATE_FAILED", INTERRUPTED)
    assert bench.told("B") == []
    with pytest.raises(AwsError):
        running.start(bench.stack, work)


def test_a_kill_in_the_middle_is_found_at_the_next_start(bench, tmp_path):
    bench.run(operations.create, bench.target({"A": ("a", {}), "B": ("b", {})}))
    bench.stack.enter("UPDATE_IN_PROGRESS")
    bench.stack.resource("A", "UPDATE_IN_PROGRESS")
    [found] = Stacks(tmp_path)
    assert (found.status, found.data["reason"]) == ("UPDATE_FAILED", INTERRUPTED)
    assert (found.resources["A"]["status"], found.resources["B"]["status"]) == ("UPDATE_FAILED", "CREATE_COMPLETE")
    assert oct((tmp_path / "0.json").stat().st_mode & 0o777) == "0o600"


def test_a_change_set_tells_what_would_be_done(bench):
    first = bench.target({"A": ("a", {}), "B": ({"Fn::GetAtt": ["A", "Value"]}, {}), "C": ("c", {}), "D": ("d", {})})
    bench.run(operations.create, first)
    second = bench.target({
        "A": ("a2", {}), "B": ({"Fn::GetAtt": ["A", "Value"]}, {}), "C": ("c", {"Name": "/C2"}), "E": ("e", {}),
    })  # fmt: skip
    found = {
        change["ResourceChange"]["LogicalResourceId"]: change["ResourceChange"]
        for change in plan(AROUND, bench.stack, second, first.template, first.values)
    }
    assert {name: (item["Action"], item.get("Replacement")) for name, item in found.items()} == {
        "A": ("Modify", "False"), "B": ("Modify", "False"), "C": ("Modify", "True"), "D": ("Remove", None),
        "E": ("Add", None),
    }  # fmt: skip
    [detail] = found["B"]["Details"]
    assert detail == {
        "Target": {"Attribute": "Properties", "Name": "Value", "RequiresRecreation": "Never"},
        "Evaluation": "Dynamic",
        "ChangeSource": "ResourceAttribute",
        "CausingEntity": "A.Value",
    }
    assert found["C"]["PolicyAction"] == "ReplaceAndDelete"
    assert plan(AROUND, bench.stack, first, first.template, first.values) == []
    assert UNKNOWN not in json.dumps(list(found.values()))


def test_a_name_that_depends_on_a_new_resource_may_mean_a_replacement(bench):
    first = bench.target({"A": ("a", {"Name": "/A"})})
    bench.run(operations.create, first)
    second = bench.target({"A": ("a", {"Name": {"Fn::Sub": "${N}x"}}), "N": ("n", {})})
    changes = plan(AROUND, bench.stack, second, first.template, first.values)
    assert [change["ResourceChange"].get("Replacement") for change in changes] == ["Conditional", None]


def test_a_walk_begins_nothing_new_after_a_failure():
    begun = []

    def work(name):
        begun.append(name)
        return name != "b"

    assert walk({"a": [], "b": ["a"], "c": ["b"], "d": ["c"]}, work, go_on=lambda: True) == {"a"}
    assert begun == ["a", "b"]
    begun.clear()
    waiting = {"a": [], "b": [], "c": ["b"], "d": ["a"]}
    assert walk(waiting, work, go_on=lambda: True, after_failure=True) == {"a", "d"}
    assert "c" not in begun


def test_a_walk_works_on_several_things_at_once():
    together = threading.Barrier(4, timeout=180)

    def work(name):
        together.wait()
        return True

    assert walk({name: [] for name in "abcd"}, work, go_on=lambda: True) == set("abcd")
