"""The sweep's state machine: jobs computed once, failing variants that stop nobody, plans that are read from S3."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from clients import IMAGE, eventually
from sweep_workshop import DATA, Bench, SweepWorkshop, held, ran, salted, statuses

from helpers import roles
from helpers.planning import plan as plans

ALL = {"preprocess": 1, "train": 1, "predict": 1, "evaluate": 1}
NONE = dict.fromkeys(ALL, 0)
OWN_DATA = "dataset/of-this-test.csv"


@pytest.fixture(scope="module")
def sweeps(embedded: Any) -> SweepWorkshop:
    """Build notebooks 02's and 05's parts with a prefix of their own."""
    return SweepWorkshop(embedded, "demo-sweep").build()


@pytest.fixture
def bench(sweeps: SweepWorkshop) -> Bench:
    """Return scripts whose first step no other test has run."""
    bench = Bench(sweeps)
    bench.files["preprocess.py"] = salted("preprocess.py")
    return bench


def test_a_sweep_shares_what_its_variants_have_in_common(bench: Bench) -> None:
    made = bench.run({"train --C": ["0.01", "1"], "predict --threshold": ["0.4", "0.5"]})
    assert ran(made) == {"preprocess": 1, "train": 2, "predict": 4, "evaluate": 4}
    assert [one["status"] for one in made["variants"]] == ["finished"] * 4
    assert made["variants"][0]["changed"] == {"train --C": "0.01", "predict --threshold": "0.4"}
    for variant in made["variants"]:
        assert 0.5 < variant["metrics"]["roc_auc"] <= 1
        assert variant["seconds"] > 0
    assert made["cost"]["usd"] > 0
    assert made["cost"]["saved_usd"] == 0
    for step, jobs in made["jobs"].items():
        for key in jobs:
            marker = json.loads(bench.read(f"steps/{step}/{key}/done.json") or b"")
            assert (marker["key"], marker["step"], marker["run"]) == (key, step, made["id"])


def test_nothing_changed_runs_nothing(bench: Bench) -> None:
    first, again = bench.run(), bench.run()
    assert (ran(first), ran(again)) == (ALL, NONE)
    [variant] = again["variants"]
    assert (variant["status"], variant["metrics"]) == ("finished", first["variants"][0]["metrics"])
    assert again["cost"]["usd"] == 0
    assert again["cost"]["saved_usd"] == pytest.approx(first["cost"]["usd"])
    assert {job["run"] for jobs in again["jobs"].values() for job in jobs.values()} == {first["id"]}


def test_one_failing_variant_does_not_stop_the_others(bench: Bench) -> None:
    made = bench.run({"train --C": ["0.1", "-1"]})
    assert [one["status"] for one in made["variants"]] == ["finished", "failed"]
    assert statuses(made, "train") == ["failed", "run"]
    for step in ("predict", "evaluate"):
        assert statuses(made, step) == ["run", "skipped"]
        [skipped] = [job for job in made["jobs"][step].values() if job["status"] == "skipped"]
        assert skipped["reason"].startswith("train with --C -1 failed: ")
    [failed] = [job for job in made["jobs"]["train"].values() if job["status"] == "failed"]
    assert failed["reason"] in made["variants"][1]["reason"]
    assert failed["seconds"] > 0


def test_when_no_variant_finishes_the_execution_fails_with_the_reason(bench: Bench) -> None:
    bench.set("train", args=["--C", "-1"])
    plan = bench.plan()
    execution = bench.start(plan)
    made = bench.manifest(execution, plan, "FAILED")
    ended = bench.ended(execution)
    assert ended["error"] == "NoVariantFinished"
    assert ended["cause"] == made["variants"][0]["reason"]
    assert ended["cause"].startswith("train failed: ")


def test_two_runs_that_race_for_a_key_compute_it_once(bench: Bench) -> None:
    bench.files["preprocess.py"] = held("preprocess.py", bench.workshop.bucket, "runs/go")
    first, second = bench.plan(), bench.plan()
    executions = [bench.start(first), bench.start(second)]
    eventually(lambda: any("preprocess: name taken" in bench.entered(one, "PassStateEntered") for one in executions))
    bench.write("runs/go", b"")
    made = [bench.manifest(*pair) for pair in zip(executions, (first, second), strict=True)]
    total = {step: sum(ran(one)[step] for one in made) for step in ALL}
    assert total == ALL
    for step, items in first["steps"].items():
        assert bench.jobs(items[0]["job"]) == [items[0]["job"]], step
    assert made[0]["variants"][0]["metrics"] == made[1]["variants"][0]["metrics"]
    assert sorted(statuses(one, "preprocess")[0] for one in made) == ["cached", "run"]


HALF = b"""import os, pathlib, time
out = pathlib.Path('/opt/ml/processing/output')
out.mkdir(exist_ok=True)
(out / 'model.joblib').write_bytes(b'half')
if not pathlib.Path('/opt/ml/processing/input/preprocess/go').exists():
    THEN
"""


def let_go(bench: Bench, plan: dict[str, Any]) -> None:
    """Make a script with HALF go on: its key stays the same."""
    bench.write(f"steps/preprocess/{plan['steps']['preprocess'][0]['key']}/output/go", b"")


def require_run_again(bench: Bench, plan: dict[str, Any]) -> None:
    [train] = plan["steps"]["train"]
    assert bench.read(train["marker"]) is None
    let_go(bench, plan)
    made = bench.run()
    assert ran(made) == {**ALL, "preprocess": 0}
    [job] = made["jobs"]["train"].values()
    assert (job["status"], job["name"]) == ("run", f"{train['job']}-{made['commit'][:6]}")
    output = bench.read(f"steps/train/{train['key']}/output/model.joblib") or b""
    assert len(output) > len(b"half")


def test_a_job_that_was_stopped_halfway_is_not_cached_and_runs_again(bench: Bench) -> None:
    bench.files["train.py"] = HALF.replace(b"THEN", b"time.sleep(600)") + bench.files["train.py"]
    plan = bench.plan()
    execution = bench.start(plan)
    [train] = plan["steps"]["train"]
    eventually(lambda: bench.job(train["job"]) == "InProgress")
    bench.states.stop_execution(executionArn=execution)
    eventually(lambda: bench.job(train["job"]) in ("Stopped", "Failed"))
    assert bench.ended(execution)["status"] == "ABORTED"
    require_run_again(bench, plan)


def test_a_job_that_was_killed_halfway_is_not_cached_and_runs_again(bench: Bench) -> None:
    bench.files["train.py"] = HALF.replace(b"THEN", b"os.kill(os.getpid(), 9)") + bench.files["train.py"]
    plan = bench.plan()
    made = bench.manifest(bench.start(plan), plan, "FAILED")
    assert statuses(made, "train") == ["failed"]
    require_run_again(bench, plan)


def test_a_job_that_failed_before_is_tried_again_by_the_next_run(bench: Bench) -> None:
    bench.set("train", args=["--C", "-1"])
    first = bench.plan()
    bench.manifest(bench.start(first), first, "FAILED")
    second = bench.plan()
    assert [item["cached"] for items in second["steps"].values() for item in items] == [True, False, False, False]
    made = bench.manifest(bench.start(second), second, "FAILED")
    [job] = made["jobs"]["train"].values()
    assert (job["status"], job["name"]) == ("failed", second["steps"]["train"][0]["again"])


def test_a_completed_job_whose_output_is_gone_runs_under_its_second_name(bench: Bench) -> None:
    first = bench.plan()
    bench.manifest(bench.start(first), first)
    [evaluate] = first["steps"]["evaluate"]
    for key in (evaluate["marker"], f"steps/evaluate/{evaluate['key']}/output/metrics.json"):
        bench.s3.delete_object(Bucket=bench.workshop.bucket, Key=key)
    for name in ("roc_curve.svg", "confusion_matrix.svg"):
        key = f"steps/evaluate/{evaluate['key']}/output/{name}"
        bench.s3.delete_object(Bucket=bench.workshop.bucket, Key=key)
    plan = bench.plan()
    execution = bench.start(plan)
    made = bench.manifest(execution, plan)
    assert ran(made) == {**NONE, "evaluate": 1}
    # One look at the other job, and no wait for a marker that will not come.
    assert bench.entered(execution, "WaitStateEntered") == ["evaluate: pause"]
    [job] = made["jobs"]["evaluate"].values()
    assert job["name"].endswith(made["commit"][:6])


def test_a_changed_module_runs_the_steps_that_import_it(bench: Bench) -> None:
    bench.files["shared.py"] = b"NAME = 'one'\n"
    bench.files["predict.py"] = b"import shared\n" + bench.files["predict.py"]
    assert ran(bench.run()) == ALL
    bench.files["shared.py"] = b"NAME = 'two'\n"
    assert ran(bench.run()) == {**NONE, "predict": 1, "evaluate": 1}


def test_a_changed_data_object_runs_everything(bench: Bench, sweeps: SweepWorkshop) -> None:
    bench.data = OWN_DATA
    content = bench.read(DATA) or b""
    bench.write(OWN_DATA, content)
    assert ran(bench.run()) == ALL
    bench.write(OWN_DATA, content)
    assert ran(bench.run()) == NONE  # written again, with the same content
    bench.write(OWN_DATA, b"\n".join(content.splitlines()[:1500]) + b"\n")
    assert ran(bench.run()) == ALL


def test_a_changed_image_runs_its_step_and_the_later_ones(bench: Bench) -> None:
    assert ran(bench.run()) == ALL
    bench.set("train", ImageUri=f"{IMAGE.rpartition(':')[0]}:1.2-1-cpu-py3")
    assert ran(bench.run()) == {**ALL, "preprocess": 0}


def test_a_step_without_cache_runs_for_each_commit_and_so_do_the_later_ones(bench: Bench) -> None:
    bench.set("train", cache=False)
    assert ran(bench.run()) == ALL
    assert ran(bench.run()) == {**ALL, "preprocess": 0}


@pytest.mark.parametrize("values", [["0.1", "10"], ["0.1", "-1"]])
def test_a_plan_read_from_s3_gives_the_same_manifest(bench: Bench, values: list[str]) -> None:
    plan = bench.plan({"train --C": values})
    inline = bench.manifest(bench.start(plan), plan)
    other = Bench(bench.workshop, {**bench.files, "preprocess.py": salted("preprocess.py")})
    plan = other.plan({"train --C": values})
    distributed = other.manifest(other.start(plan, distributed=True), plan)
    assert ran(distributed) == ran(inline)
    for kind in ("changed", "status", "reason", "metrics"):
        assert [one[kind] for one in distributed["variants"]] == [one[kind] for one in inline["variants"]], kind
    runs = other.states.list_map_runs(executionArn=distributed["executionArn"])["mapRuns"]
    assert len(runs) == 4


def test_a_plan_read_from_s3_finds_cached_jobs(bench: Bench) -> None:
    first = bench.run()
    plan = bench.plan()
    made = bench.manifest(bench.start(plan, distributed=True), plan)
    assert ran(made) == NONE
    assert made["variants"][0]["metrics"] == first["variants"][0]["metrics"]


def test_recording_a_run_again_writes_the_same_manifest(bench: Bench) -> None:
    made = bench.run()
    event = {"bucket": bench.workshop.bucket, "run": f"runs/{made['repository']}/{made['commit']}"}
    event |= {"execution": made["executionArn"], "started": made["started"], "ended": made["ended"]}
    before = bench.read(f"{event['run']}/manifest.json")
    client = bench.workshop.embedded.client("lambda")
    done = client.invoke(FunctionName=bench.workshop.recorder, Payload=json.dumps(event).encode())
    assert json.loads(done["Payload"].read()) == {"finished": 1, "failed": 0, "skipped": 0, "cause": ""}
    assert bench.read(f"{event['run']}/manifest.json") == before


def test_a_hundred_variants_are_one_execution_of_small_results(bench: Bench) -> None:
    nothing = b"import json, pathlib\nout = pathlib.Path('/opt/ml/processing/output')\nout.mkdir(exist_ok=True)\n"
    nothing += b"(out / 'metrics.json').write_text(json.dumps({'roc_auc': 0.5}))\n"
    bench.files = {f"{step}.py": nothing + f"# {step} {time.time_ns()}\n".encode() for step in plans.STEPS}
    plan = bench.plan({"train --C": [str(number) for number in range(100)]})
    started = plans.start(plan)
    assert ("mode", "distributed") in json.loads(started.input).items()  # too much for an execution's input
    made = bench.manifest(bench.start(plan), plan)
    assert ran(made) == {"preprocess": 1, "train": 100, "predict": 100, "evaluate": 100}
    assert len(bench.ended(made["executionArn"])["output"]) < 1000


def without_retries(definition: dict[str, Any]) -> str:
    def strip(value: dict[str, Any]) -> dict[str, Any]:
        return {name: inner for name, inner in value.items() if name != "Retry"}

    return json.dumps(json.loads(json.dumps(definition), object_hook=strip))


@pytest.fixture
def lacking(sweeps: SweepWorkshop) -> Iterator[Callable[[str, str], None]]:
    """Take a permission out of a role, given by its suffix; put it back after the test.

    Meanwhile the state machine tries nothing again: that a permission is missing does not pass.
    """
    iam, states = sweeps.client("iam"), sweeps.client("stepfunctions")
    whole = {"sweep": sweeps.sweep_statements(), "run-recorder": sweeps.recorder_statements()}

    def put(suffix: str, statements: list[dict[str, Any]]) -> None:
        name = sweeps.connection.name(suffix)
        iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=roles.policy_json(statements))

    def take(suffix: str, action: str) -> None:
        less = [
            {**one, "Action": [name for name in listed if name != action]}
            for one in whole[suffix]
            if (listed := [one["Action"]] if isinstance(one["Action"], str) else one["Action"]) != [action]
        ]
        assert less != whole[suffix]
        put(suffix, less)

    states.update_state_machine(stateMachineArn=sweeps.sweep_arn, definition=without_retries(sweeps.definition()))
    yield take
    states.update_state_machine(stateMachineArn=sweeps.sweep_arn, definition=json.dumps(sweeps.definition()))
    for suffix, statements in whole.items():
        put(suffix, statements)


@pytest.mark.parametrize(("suffix", "action", "words"), [
    ("sweep", "sagemaker:CreateProcessingJob", "sagemaker:CreateProcessingJob"),
    ("sweep", "sagemaker:DescribeProcessingJob", "sagemaker:DescribeProcessingJob"),
    ("sweep", "sagemaker:AddTags", "sagemaker:AddTags"),
    ("sweep", "iam:PassRole", "iam:PassRole"),
    ("sweep", "s3:ListBucket", "s3:ListBucket"),
    ("sweep", "s3:PutObject", "no marker and no failure"),
    ("sweep", "lambda:InvokeFunction", "lambda:InvokeFunction"),
    ("run-recorder", "s3:GetObject", "s3:GetObject"),
    ("run-recorder", "s3:PutObject", "s3:PutObject"),
    ("run-recorder", "s3:ListBucket", "s3:ListBucket"),
])  # fmt: skip
def test_each_permission_is_needed(
    bench: Bench, lacking: Callable[[str, str], None], suffix: str, action: str, words: str
) -> None:
    lacking(suffix, action)
    plan = bench.plan()
    ended = bench.ended(bench.start(plan))
    assert ended["status"] == "FAILED"
    assert words in ended["cause"]


@pytest.mark.parametrize("action", ["s3:GetObject", "states:StartExecution"])
def test_a_distributed_map_needs_more(bench: Bench, lacking: Callable[[str, str], None], action: str) -> None:
    lacking("sweep", action)
    assert ran(bench.run()) == ALL  # an inline one does not
    ended = bench.ended(bench.start(bench.plan(), distributed=True))
    assert ended["status"] == "FAILED"
    assert action in ended["cause"]
