"""What notebooks 08a to 08d work on, and what they read of the results."""

import io
import json
import tarfile
from typing import Any

import pandas as pd
import pytest
from answers import Aws
from botocore.response import StreamingBody

from helpers import dataset, processing


class Bucket:
    """Keeps what is uploaded."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def upload_file(self, file: str, bucket: str, key: str) -> None:
        with open(file, "rb") as source:
            self.kept[key] = source.read()


def test_the_parts_together_are_the_table() -> None:
    bucket = Bucket()
    keys = processing.upload_parts(bucket, "b", dataset.sample_path(), 12)
    assert (keys[0], keys[-1], len(keys)) == ("parts/part-01.csv", "parts/part-12.csv", 12)
    header = bucket.kept[keys[0]].splitlines(keepends=True)[0]
    assert (
        header + b"".join(bucket.kept[key].removeprefix(header) for key in keys) == dataset.sample_path().read_bytes()
    )


def test_a_source_is_packed_the_same_each_time_and_holds_the_script() -> None:
    aws = Aws({"s3:PutObject": {}})
    uris = {processing.upload_source(aws.client("s3"), "b") for _ in range(2)}
    assert len(uris) == 1
    written = aws.asked("s3:PutObject")[0]
    assert f"s3://b/{written['Key']}" in uris
    with tarfile.open(fileobj=io.BytesIO(written["Body"].getvalue())) as archive:
        assert archive.getnames() == ["train.py"]


def network(**changes: Any) -> Any:
    return Aws({
        "ec2:DescribeVpcs": {"Vpcs": [{"VpcId": "vpc-1"}]},
        "ec2:DescribeSubnets": {"Subnets": [{"SubnetId": "subnet-2"}, {"SubnetId": "subnet-1"}]},
        "ec2:DescribeSecurityGroups": {"SecurityGroups": [{"GroupId": "sg-1"}]},
        **changes,
    })  # fmt: skip


def test_the_default_network_is_found() -> None:
    aws = network()
    found = processing.find_default_network(aws.client("ec2"))
    assert found == processing.Network("vpc-1", ("subnet-1", "subnet-2"), "sg-1")
    assert {"Name": "vpc-id", "Values": ["vpc-1"]} in aws.asked("ec2:DescribeSubnets")[0]["Filters"]


@pytest.mark.parametrize(("changes", "problem"), [
    ({"ec2:DescribeVpcs": {"Vpcs": []}}, "no default VPC"),
    ({"ec2:DescribeSubnets": {"Subnets": []}}, "has no default subnet"),
])  # fmt: skip
def test_a_region_without_a_default_network_is_told(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(processing.NoDefaultNetwork, match=problem):
        processing.find_default_network(network(**changes).client("ec2"))


def test_sets_are_all_combinations() -> None:
    assert processing.hyper_parameter_sets(C=[0.1, 1], class_weight=["balanced", "none"]) == [
        {"C": 0.1, "class-weight": "balanced"},
        {"C": 0.1, "class-weight": "none"},
        {"C": 1, "class-weight": "balanced"},
        {"C": 1, "class-weight": "none"},
    ]


def test_statistics_are_read_and_compared_with_pandas() -> None:
    expected = processing.expected_statistics(dataset.sample_path())
    raw = json.dumps({"rows": 2000, "columns": expected.to_dict("index")}).encode()
    aws = Aws({"s3:GetObject": lambda _: {"Body": StreamingBody(io.BytesIO(raw), len(raw))}})
    found = processing.statistics(aws.client("s3"), "b", "run-1")
    assert aws.asked("s3:GetObject")[0]["Key"] == "results/run-1/statistics.json"
    assert processing.largest_difference(found, expected) == 0
    wrong = found.copy()
    wrong.loc["age", "mean"] *= 1.001
    assert processing.largest_difference(wrong, expected) == pytest.approx(0.001)
    assert processing.largest_difference(found.drop("age"), expected) == float("inf")


def test_the_ranking_is_a_table_with_the_best_first_and_failures_last() -> None:
    best = {
        "ranking": [{"number": 1, "set": {"C": 1}, "roc_auc": 0.8, "accuracy": 0.7, "model": "m"}],
        "failed": [{"number": 0, "set": {"C": -1}, "error": "exit code 2"}],
    }
    table = processing.ranking(best)
    assert list(table.index) == [1, 0]
    assert table.loc[1, "roc_auc"] == 0.8
    assert table.loc[0, "error"] == "exit code 2"
    assert pd.isna(table.loc[0, "roc_auc"])
