"""Histories, items and listings: what the embedded AWS keeps of executions and reads for them."""

import copy
import json
import random

import pytest

from helpers.local_aws.seam.listings import SortedObjects, page
from helpers.local_aws.states import failures, histories, items
from helpers.local_aws.states.maps import unsupported

RECORD = {
    "executionArn": "arn:e", "stateMachineArn": "arn:m", "name": "n", "status": "SUCCEEDED", "startDate": "2026-01-01",
    "stopDate": "2026-01-02", "input": json.dumps({"text": "é" * 1000}), "output": "{}", "mockAttempts": {},
    "events": [{"id": n, "type": "PassStateEntered", "previousEventId": n - 1} for n in range(1, 200)],
}  # fmt: skip


def test_an_execution_that_has_ended_answers_as_before():
    ended = histories.Ended.of(RECORD)
    assert {name: ended[name] for name in RECORD} == RECORD
    assert ended.get("error") is None
    assert ended.get("mapRunArn") is None
    with pytest.raises(KeyError):
        ended["no such member"]


def test_an_execution_that_has_ended_takes_little_room_and_survives_being_saved():
    ended = histories.Ended.of(RECORD)
    assert len(dict.__getitem__(ended, "packed")) < 1500
    assert histories.Ended(dict(copy.deepcopy(ended)))["events"] == RECORD["events"]


@pytest.mark.parametrize(
    ("text", "large"),
    [("x" * 262_144, False), ("x" * 262_145, True), ("é" * 131_072, False), ("é" * 131_073, True)],
)
def test_the_limit_of_state_data_counts_bytes(text, large):
    assert histories.too_large(text) is large


@pytest.mark.parametrize(
    ("kind", "fields", "wanted"),
    [
        ("MapStateEntered", {"name": "m"}, {"stateEnteredEventDetails": {"name": "m"}}),
        ("MapIterationFailed", {"index": 1}, {"mapIterationFailedEventDetails": {"index": 1}}),
        ("MapStateFailed", {}, {}),
        (
            "TaskSucceeded",
            {"output": "1"},
            {"taskSucceededEventDetails": {"output": "1", "outputDetails": {"truncated": False}}},
        ),
    ],
)
def test_events_name_their_details_as_the_api_does(kind, fields, wanted):
    assert histories.details(kind, **fields) == wanted


@pytest.mark.parametrize(
    ("text", "config", "wanted"),
    [
        ('{"a": {"b/c": [1, 2]}}', {"ItemsPointer": "/a/b~1c"}, [1, 2]),
        ("a;b\n1;2\n", {"InputType": "CSV", "CSVDelimiter": "SEMICOLON"}, [{"a": "1", "b": "2"}]),
        ("1,2,3\n", {"InputType": "CSV", "CSVHeaderLocation": "GIVEN", "CSVHeaders": ["x"]}, [{"x": "1"}]),
        ("", {"InputType": "CSV"}, []),
    ],
)  # fmt: skip
def test_items_are_read_as_the_reader_says(text, config, wanted):
    assert items.parse(text, config) == wanted


@pytest.mark.parametrize(("text", "config"), [('{"a": 1}', {}), ('{"a": []}', {"ItemsPointer": "/b"}), ("[", {})])
def test_what_holds_no_items_is_refused(text, config):
    with pytest.raises(ValueError, match=r".+"):
        items.parse(text, config)


def test_a_map_inside_a_branch_is_looked_at_too():
    inner = {"Type": "Map", "ItemBatcher": {}, "ItemProcessor": {"StartAt": "a", "States": {}}}
    branches = [{"StartAt": "m", "States": {"m": inner}}]
    machine = {"States": {"p": {"Type": "Parallel", "Branches": branches}}}
    assert list(unsupported(machine)) == ["ItemBatcher of an inline Map"]


@pytest.mark.parametrize(
    ("service", "code", "status", "error"),
    [
        ("s3", "NoSuchKey", 404, "S3.NoSuchKeyException"),
        ("s3", "AccessDenied", 403, "S3.S3Exception"),
        ("s3", "", 500, "S3.S3Exception"),
        ("sagemaker", "ResourceNotFound", 400, "SageMaker.ResourceNotFoundException"),
        ("sagemaker", "ValidationException", 400, "SageMaker.SageMakerException"),
    ],
)
def test_an_error_is_named_after_the_sdks_exception(service, code, status, error):
    assert failures.sdk_error(service, code, "m", status).error == error


def listed(objects, prefix="", delimiter="", most=1000):
    """Return every row of a listing, page by page."""
    rows, after = [], ""
    while True:
        keys, groups, more, last = page(objects, prefix, delimiter, most, after)
        rows += sorted([*keys, *groups])
        if not more:
            return rows
        assert last > after
        after = last


def test_a_listing_is_that_of_a_plain_search():
    drawn = random.Random(1)  # noqa: S311
    names = {"/".join(drawn.choices("abc", k=drawn.randint(1, 4))) for _ in range(60)}
    objects = SortedObjects()
    for name in drawn.sample(sorted(names), len(names)):
        objects[name] = {}
    for name in sorted(names)[::3]:
        del objects[name]
    objects.pop("b", None)
    objects.pop("not there", None)
    for prefix in ("", "a", "a/", "b/c", "zzz"):
        for most in (1, 2, 1000):
            matching = sorted(name for name in objects if name.startswith(prefix))
            assert listed(objects, prefix, most=most) == matching
            rows = {
                prefix + name[len(prefix) :].partition("/")[0] + ("/" if "/" in name[len(prefix) :] else "")
                for name in matching
            }
            assert listed(objects, prefix, "/", most) == sorted(rows)


def test_objects_that_are_replaced_or_copied_are_listed_once():
    objects = SortedObjects({"b": 1, "a": 1})
    objects["a"] = 2
    assert listed(copy.deepcopy(objects)) == ["a", "b"]
    assert json.dumps(objects) == '{"b": 1, "a": 2}'
