"""The system of notebook 06: an event about an upload starts one execution, and its end says what came of it."""

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from clients import settle
from sklearn.preprocessing import StandardScaler
from standardization_workshop import StandardizationWorkshop, event_of

from helpers import dataset, roles, standardization


@pytest.fixture(scope="module")
def system(embedded: Any) -> StandardizationWorkshop:
    """Build notebook 06's system once."""
    built = StandardizationWorkshop(embedded, "upload").build()
    built.notify()
    return built


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twenty partitions of the sample."""
    return standardization.partitions(dataset.sample_path(), tmp_path_factory.mktemp("parts"), 20)


def deliver(system: StandardizationWorkshop, *events: dict[str, Any]) -> list[dict[str, Any]]:
    """Invoke the trigger once an event, some at a time; return its answers."""

    def invoke(event: dict[str, Any]) -> dict[str, Any]:
        answer = system.functions.invoke(FunctionName=system.trigger, Payload=json.dumps(event))
        body = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, body
        return body

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(invoke, events))


def upload(system: StandardizationWorkshop, name: str, body: bytes) -> dict[str, Any]:
    """Put an object; return its execution once it has ended."""
    return system.executions([system.put(name, body)])[0]


@contextmanager
def without(system: StandardizationWorkshop, kind: str, action: str) -> Iterator[None]:
    """Take one action from a role, and give it back."""
    name, iam = system.connection.name(f"standardize-{kind}"), system.client("iam")
    kept = [
        {**statement, "Action": [one for one in statement["Action"] if one != action]}
        for statement in system.statements(kind)
    ]
    assert kept != system.statements(kind)
    try:
        put_policy(iam, name, [statement for statement in kept if statement["Action"]])
        yield
    finally:
        put_policy(iam, name, system.statements(kind))


def put_policy(iam: Any, name: str, statements: list[dict[str, Any]]) -> None:
    iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=roles.policy_json(statements))


def test_twenty_uploads_are_twenty_executions_with_the_scalers_result(
    system: StandardizationWorkshop, parts: list[Path]
) -> None:
    with ThreadPoolExecutor(20) as pool:
        keys = list(pool.map(lambda part: system.put(part.name, part.read_bytes()), parts))
    ended = system.executions(keys)
    assert len(ended) == 20
    table = standardization.overview(system.states, [one["executionArn"] for one in ended])
    assert list(table["file"]) == keys
    assert list(table["batch"]) == [str(number) for number in range(1, 21)]
    assert set(table["status"]) == {"SUCCEEDED"}, table["reason"].tolist()
    for number, part in enumerate(parts, 1):
        found, statistics = standardization.results(system.s3, system.bucket, number)
        given = pd.read_csv(part)
        names = standardization.treated(statistics, "standardized", "constant")
        assert names == list(given.columns)
        np.testing.assert_allclose(found, StandardScaler().fit_transform(given), rtol=1e-9, atol=1e-12)
        assert statistics["rows"] == len(given)


@pytest.mark.parametrize(("name", "error", "cause"), [
    ("part_7.csv", "WrongName", "part_7.csv is not named partition_<number>.csv"),
    ("partition_.csv", "NoBatchId", "partition_.csv needs a number after partition_: there is none"),
    ("partition_x.csv", "NoBatchId", "partition_x.csv needs a number after partition_: 'x' is no whole number"),
    ("partition_1.5.csv", "NoBatchId", "partition_1.5.csv needs a number after partition_: '1.5' is no whole number"),
    ("partition_3/notes.csv", "WrongName", "notes.csv is not named partition_<number>.csv"),
    ("partition_100.csv", "StandardizationFailed", "partition_100.csv: the file is empty"),
])  # fmt: skip
def test_what_is_refused_ends_in_a_state_of_its_own(
    system: StandardizationWorkshop, name: str, error: str, cause: str
) -> None:
    ended = upload(system, name, b"")
    assert (ended["status"], ended.get("error"), ended.get("cause")) == ("FAILED", error, cause)
    row = standardization.overview(system.states, [ended["executionArn"]]).iloc[0]
    assert row["reason"] == f"{error}: {cause}"


def test_hard_contents(system: StandardizationWorkshop) -> None:
    assert upload(system, "partition_101.csv", b"a,b\n5,1\n5,2\n5,4\n")["status"] == "SUCCEEDED"
    found, statistics = standardization.results(system.s3, system.bucket, 101)
    assert found["a"].tolist() == [0, 0, 0]
    assert standardization.treated(statistics, "constant") == ["a"]

    assert upload(system, "partition_102.csv", b"a,b,c\n1,x,\n,y,\n3,,\n")["status"] == "SUCCEEDED"
    body = system.s3.get_object(Bucket=system.bucket, Key="prediction-data/102/standardized.csv")["Body"].read()
    assert body == b"a,b,c\n-1.0,x,\n,y,\n1.0,,\n"

    ended = upload(system, "partition_103.csv", b"age\n41\nforty\n43\n")
    assert (ended["status"], ended["error"]) == ("FAILED", "StandardizationFailed")
    assert "column 'age' holds numbers, but also a text: 'forty' in line 3" in ended["cause"]


@pytest.mark.parametrize("folder", ["with space", "a+b", "100%", "über", "a%2Bb"])
def test_keys_with_special_characters(system: StandardizationWorkshop, folder: str) -> None:
    number = 200 + sum(folder.encode())
    ended = upload(system, f"{folder}/partition_{number}.csv", b"a\n1\n3\n")
    assert json.loads(ended["input"])["object"]["key"] == f"meta-data/{folder}/partition_{number}.csv"
    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    assert standardization.results(system.s3, system.bucket, number)[0]["a"].tolist() == [-1, 1]


def test_an_event_that_comes_twice_starts_one_execution(system: StandardizationWorkshop) -> None:
    event = event_of(system.bucket, "meta-data/twice/partition_300.csv")  # there is no such object: S3 tells of none
    first = deliver(system, event, event, event)  # while it runs
    assert [answer["started"] for answer in first if answer["started"]]
    (ended,) = system.executions(["meta-data/twice/partition_300.csv"])
    assert "No S3 objects found" in ended["cause"]
    answer = deliver(system, event)[0]  # and when it has ended
    assert (answer["started"], len(answer["repeated"])) == ([], 1)
    assert len(system.executions(["meta-data/twice/partition_300.csv"])) == 1


def test_the_same_object_put_twice_is_two_executions(system: StandardizationWorkshop) -> None:
    for _ in range(2):
        key = system.put("partition_301.csv", b"a\n1\n2\n")
    ended = system.executions([key], 2)
    assert [one["status"] for one in ended] == ["SUCCEEDED", "SUCCEEDED"]


def test_a_burst_of_two_hundred_loses_none_and_doubles_none(system: StandardizationWorkshop) -> None:
    names = [f"burst/partition_{1000 + number}.csv" for number in range(200)]
    with ThreadPoolExecutor(16) as pool:
        keys = list(pool.map(lambda name: system.put(name, b"a\n1\n2\n"), names))
    settle(system.embedded)
    ended = system.executions(keys)
    assert [one.get("cause") for one in ended if one["status"] != "SUCCEEDED"] == []
    assert sorted(json.loads(one["input"])["object"]["key"] for one in ended) == sorted(keys)


def test_the_test_event_of_s3_starts_nothing(system: StandardizationWorkshop) -> None:
    event = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": system.bucket}
    assert deliver(system, event) == [{"started": [], "repeated": [], "ignored": ["s3:TestEvent"]}]


@pytest.mark.parametrize(("kind", "action", "words"), [
    ("job", "s3:GetObject", "Data download failed"),
    ("job", "s3:PutObject", "Data upload failed"),
])  # fmt: skip
def test_a_permission_that_the_job_lacks_is_named(
    system: StandardizationWorkshop, kind: str, action: str, words: str
) -> None:
    with without(system, kind, action):
        ended = upload(system, f"lacking/{action[3:]}/partition_400.csv", b"a\n1\n2\n")
    assert ended["status"] == "FAILED"
    assert words in ended["cause"]
    assert action in ended["cause"]


def test_a_trigger_that_may_not_start_executions_says_so(system: StandardizationWorkshop) -> None:
    event = event_of(system.bucket, "meta-data/partition_401.csv")
    with without(system, "trigger", "states:StartExecution"):
        answer = system.functions.invoke(FunctionName=system.trigger, Payload=json.dumps(event))
        body = json.loads(answer["Payload"].read())
    assert body["errorType"] == "NotStarted"
    assert "states:StartExecution" in body["errorMessage"]


def test_a_file_of_500_mb_within_300_mb_of_memory(
    system: StandardizationWorkshop, parts: list[Path], tmp_path: Path
) -> None:
    large = tmp_path / "partition_500.csv"
    repeated = standardization.write_large(parts[0], large, size=500_000_000)
    key = f"meta-data/{large.name}"
    system.s3.upload_file(str(large), system.bucket, key)
    (ended,) = system.executions([key])
    assert ended["status"] == "SUCCEEDED", ended["cause"]
    body = system.s3.get_object(Bucket=system.bucket, Key="prediction-data/500/statistics.json")["Body"].read()
    statistics = json.loads(body)
    assert statistics["peak_memory_mb"] < 300
    assert statistics["rows"] % len(repeated) == 0
    np.testing.assert_allclose([one["mean"] for one in statistics["columns"]], repeated.mean(), rtol=1e-9)
    np.testing.assert_allclose([one["std"] for one in statistics["columns"]], repeated.std(ddof=0), rtol=1e-9)
    described = system.embedded.client("sagemaker").describe_processing_job(
        ProcessingJobName=json.loads(ended["output"])["job"]
    )
    cluster = described["ProcessingResources"]["ClusterConfig"]
    assert cluster["VolumeSizeInGB"] == 7  # what is written has to find room as well
    rows = io.BytesIO(read_start(system, "prediction-data/500/standardized.csv", 10_000_000))
    found = pd.read_csv(rows, nrows=len(repeated))
    np.testing.assert_allclose(found, StandardScaler().fit_transform(repeated), rtol=1e-9, atol=1e-12)
    system.s3.delete_object(Bucket=system.bucket, Key="prediction-data/500/standardized.csv")
    system.s3.delete_object(Bucket=system.bucket, Key=key)


def read_start(system: StandardizationWorkshop, key: str, size: int) -> bytes:
    return system.s3.get_object(Bucket=system.bucket, Key=key, Range=f"bytes=0-{size}")["Body"].read()
