"""The modules of the EC2 worker's functions as their zip holds them, its template, and a table in memory."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml
from function_modules import load_function

from helpers import functions

FOLDER = functions.SOURCES / "ec2_worker"
NAMES = ("units", "metainfo", "register", "launch", "poll", "finish", "reap", "outcome", "workers", "worker")
units, metainfo, register, launch, poll, finish, reap, outcome, workers, worker = load_function(FOLDER, *NAMES)

ACCOUNT = "us-east-1:123456789012"
MACHINE = f"arn:aws:states:{ACCOUNT}:stateMachine:demo-exp-ec2-worker"
EXECUTION = f"arn:aws:states:{ACCOUNT}:execution:demo-exp-ec2-worker:0123456789abcdef01234567"
TOPIC = f"arn:aws:sns:{ACCOUNT}:demo-exp-ec2-worker-Topic-1"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def at(seconds: float) -> str:
    """Return the stamp of a time so long after noon."""
    return units.stamp(NOON + timedelta(seconds=seconds))


def record(status: str, **more: Any) -> dict[str, Any]:
    """Return the record of the unit d/u in ``status``."""
    return {
        "Unit": "d/u",
        "Bucket": "bucket",
        "MetainfoKey": "d/u/metainfo.json",
        "ETag": "e1",
        "Sequencer": "01",
        "CreatedAt": at(0),
        "UpdatedAt": at(0),
        "JobStatus": status,
        "StatusHistory": [{"status": status, "at": at(0)}],
        "Execution": EXECUTION,
        **more,
    }


class MemoryTable:
    """A units.Table in memory, with its conditions."""

    name = "table"

    def __init__(self, *records: dict[str, Any], seconds: float = 0) -> None:
        self.records = {one["Unit"]: one for one in records}
        self.moment = NOON + timedelta(seconds=seconds)

    def clock(self) -> datetime:
        return self.moment

    def find(self, unit: str) -> dict[str, Any] | None:
        found = self.records.get(unit)
        return dict(found) if found else None

    def under_way(self) -> Iterable[dict[str, Any]]:
        return [dict(one) for one in self.records.values() if one["JobStatus"] in units.UNDER_WAY]

    def change(
        self,
        unit: str,
        *,
        execution: str,
        expected: Iterable[str],
        status: str = "",
        reason: str = "",
        **attributes: str,
    ) -> None:
        found = self.records.get(unit)
        if not found or found["Execution"] != execution or found["JobStatus"] not in expected:
            raise units.RecordChanged("the unit's record was changed meanwhile")
        found |= attributes
        if status:
            entry = {"status": status, "at": units.stamp(self.moment)} | ({"reason": reason} if reason else {})
            found |= {"JobStatus": status, "StatusHistory": [*found["StatusHistory"], entry]}
            found |= {"Reason": reason} if reason else {}

    def put(self, record: dict[str, Any], *, instead_of: dict[str, Any] | None) -> None:
        self._check(record["Unit"], instead_of)
        self.records[record["Unit"]] = dict(record)

    def note_sequencer(self, record: dict[str, Any], sequencer: str) -> None:
        self._check(record["Unit"], record)
        self.records[record["Unit"]]["Sequencer"] = sequencer

    def _check(self, unit: str, known: dict[str, Any] | None) -> None:
        found = self.records.get(unit)
        keys = ("JobStatus", "Sequencer")
        if bool(found) != bool(known) or (found and known and any(found[key] != known[key] for key in keys)):
            raise units.RecordChanged("the unit's record was changed meanwhile")


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short tags as their long forms."""


def _long(loader: Any, suffix: str, node: Any) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        value = value.split(".") if suffix == "GetAtt" else value
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix == "Ref" else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _long)


def template() -> dict[str, Any]:
    """Return the template, its short tags in their long forms."""
    return yaml.load((FOLDER / "template.yaml").read_text(), _Loader)  # noqa: S506 - a safe loader, with tags


def definition() -> dict[str, Any]:
    """Return the state machine's definition as CloudFormation hands it on."""
    found = template()["Resources"]["Machine"]["Properties"]["Definition"]
    for state in found["States"].values():
        if name := state.get("Parameters", {}).get("FunctionName"):
            state["Parameters"]["FunctionName"] = f"arn:aws:lambda:{ACCOUNT}:function:{name.strip('${}')}"
    return found
