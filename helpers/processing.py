"""What notebooks 08a to 08d work on: parts of the data set, sets of hyper-parameters, and where results lie."""

import gzip
import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from helpers import dataset, functions

SUMMARIZE = functions.SOURCES / "processing_image" / "summarize.py"
TRAIN = functions.SOURCES / "processing_image" / "training" / "train.py"
PARTS = "parts/"
AT_ONCE = 8  # uploads


class NoDefaultNetwork(Exception):
    """The region has no default VPC with a subnet; the message says what to do."""


@dataclass(frozen=True)
class Network:
    """Where containers run: a VPC, its subnets and a security group that lets everything out and nothing in."""

    vpc: str
    subnets: tuple[str, ...]
    security_group: str


def find_default_network(ec2: Any) -> Network:
    """Return the default VPC of this region, its default subnets and its default security group.

    ``ec2``: a client. The ids differ from account to account. Raises NoDefaultNetwork.
    """
    found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not found:
        raise NoDefaultNetwork("this region has no default VPC: make one with `aws ec2 create-default-vpc`")
    vpc = found[0]["VpcId"]
    here = {"Name": "vpc-id", "Values": [vpc]}
    subnets = ec2.describe_subnets(Filters=[here, {"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
    if not subnets:
        raise NoDefaultNetwork(
            f"the default VPC {vpc} has no default subnet: `aws ec2 create-default-subnet` makes one"
        )
    groups = ec2.describe_security_groups(Filters=[here, {"Name": "group-name", "Values": ["default"]}])
    ids = sorted(subnet["SubnetId"] for subnet in subnets)
    return Network(vpc, tuple(ids), groups["SecurityGroups"][0]["GroupId"])


def upload_parts(s3: Any, bucket: str, table: Path, count: int, *, prefix: str = PARTS) -> list[str]:
    """Cut a table into parts of about the same size, upload them, and return their keys in order.

    Every part has the header. Raises ValueError when there are more parts than rows.
    """
    with tempfile.TemporaryDirectory() as scratch:
        files = dataset.write_parts(table, Path(scratch), count)
        keys = [f"{prefix}{file.name}" for file in files]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda file, key: s3.upload_file(str(file), bucket, key), files, keys))
    return keys


def upload_source(s3: Any, bucket: str, folder: Path = TRAIN.parent, *, prefix: str = "code/") -> str:
    """Pack a folder of scripts as SageMaker's script mode wants it, upload it, and return its URI: a ``source_dir``.

    The same files have the same URI. The SageMaker SDK would upload a local ``source_dir`` itself; but used by the
    Data Science SDK, for a job whose name is known only later, it looks for it where it did not put it.
    """
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for path in sorted(folder.rglob("*.py")):
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                archive.addfile(entry, content)
    key = f"{prefix}{hashlib.sha256(buffer.getvalue()).hexdigest()[:12]}/sourcedir.tar.gz"
    s3.put_object(Bucket=bucket, Key=key, Body=buffer.getvalue())
    return f"s3://{bucket}/{key}"


def hyper_parameter_sets(**values: Sequence[Any]) -> list[dict[str, Any]]:
    """Return each combination of some values: ``hyper_parameter_sets(C=[0.1, 1], seed=[0])`` are two sets.

    Underscores become hyphens, as train.py spells its arguments.
    """
    names = [name.replace("_", "-") for name in values]
    return [dict(zip(names, chosen, strict=True)) for chosen in product(*values.values())]


def put_json(s3: Any, bucket: str, key: str, content: Any) -> str:
    """Write a list or an object to S3 as JSON. Returns its key."""
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(content).encode(), ContentType="application/json")
    return key


def read_json(s3: Any, bucket: str, key: str) -> Any:
    """Return what an object of S3 holds as JSON."""
    return json.load(s3.get_object(Bucket=bucket, Key=key)["Body"])


def statistics(s3: Any, bucket: str, run: str) -> pd.DataFrame:
    """Return what a run found, a row for each column: count, missing, mean, std, min, max."""
    found = read_json(s3, bucket, f"results/{run}/statistics.json")
    return pd.DataFrame.from_dict(found["columns"], orient="index").rename_axis("column")


def expected_statistics(table: Path) -> pd.DataFrame:
    """Return the same with pandas, for a table that fits into memory: the population's standard deviation."""
    columns = pd.read_csv(table, skipinitialspace=True).select_dtypes("number")
    found = {
        "count": columns.count(),
        "missing": columns.isna().sum(),
        "mean": columns.mean(),
        "std": columns.std(ddof=0),
        "min": columns.min().astype(float),
        "max": columns.max().astype(float),
    }
    return pd.DataFrame(found).rename_axis("column")


def largest_difference(found: pd.DataFrame, expected: pd.DataFrame) -> float:
    """Return the largest relative difference of two tables of statistics; infinity when their columns differ."""
    if sorted(found.index) != sorted(expected.index):
        return float("inf")
    expected = expected.loc[found.index, found.columns]
    # Where zero is expected, a difference counts as it is.
    return float(((found - expected).abs() / expected.abs().where(expected != 0, 1)).max().max())


def ranking(best: Mapping[str, Any]) -> pd.DataFrame:
    """Return what the function best_set answered as a table: a row for each set, the best one first."""
    rows = [{**one["set"], "roc_auc": one["roc_auc"], "accuracy": one["accuracy"]} for one in best["ranking"]]
    rows += [{**one["set"], "error": one["error"]} for one in best["failed"]]
    numbers = [one["number"] for one in (*best["ranking"], *best["failed"])]
    return pd.DataFrame(rows, index=pd.Index(numbers, name="set"))
