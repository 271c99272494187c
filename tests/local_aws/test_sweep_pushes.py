"""Git pushes that the dispatcher turns into plans, and the sweep's state machine into a manifest."""

import json
from typing import Any

import pytest
import yaml
from sweep_workshop import CODE, SweepWorkshop, ran, read_scripts, salted
from test_pipeline import Scientist

from helpers.preview import preview

ALL = ("preprocess", "train", "predict", "evaluate")
GRID = {"grid": {"train": {"--C": ["0.01", "0.1", "1.0"]}}}


class Sweeper(Scientist):
    """A scientist whose experiments name the sweep's state machine."""

    def settings(self, comment: str, **changes: Any) -> dict[str, Any]:
        """Return experiment.yml; ``changes`` are of its sections, ``sweep`` and ``budget`` included."""
        document = yaml.safe_load((CODE / "experiment.yml").read_text())
        document["comment"] = comment
        document["pipeline"] = {
            "stateMachineArn": self.workshop.sweep_arn,
            "input_data_uri": f"s3://{self.workshop.bucket}/dataset/census-income.csv",
        }
        for section, change in changes.items():
            document[section] = {**document[section], **change} if section in document else change
        return document

    def push_experiment(self, comment: str, files: dict[str, bytes] | None = None, **changes: Any) -> str:
        """Commit experiment.yml and ``files``, and push. Returns the commit's id."""
        for name, content in (files or {}).items():
            (self.folder / name).write_bytes(content)
        commit = self.commit(experiment__yml=yaml.safe_dump(self.settings(comment, **changes)))
        self.push()
        return commit

    def manifest(self, commit: str) -> dict[str, Any]:
        """Return the manifest of a commit's run, once it has ended well."""
        answer = self.answer(commit)
        assert answer["status"] == "started", answer
        ended = self.ended(answer["executionArn"])
        assert ended["status"] == "SUCCEEDED", f"{ended.get('error')}: {ended.get('cause')}"
        return json.loads(self.read(f"{self.run(commit)}/manifest.json") or b"")


@pytest.fixture(scope="module")
def sweeps(embedded: Any) -> SweepWorkshop:
    """Build notebooks 02's and 05's parts with a prefix of their own."""
    return SweepWorkshop(embedded, "demo-pushes").build()


@pytest.fixture(scope="module")
def sweeper(sweeps: SweepWorkshop, tmp_path_factory: pytest.TempPathFactory) -> Sweeper:
    """Return a clone of the repository with the workshop's scripts pushed, and run."""
    sweeper = Sweeper(sweeps, tmp_path_factory.mktemp("sweeper"))
    scripts = {**read_scripts(), "preprocess.py": salted("preprocess.py")}
    assert ran(sweeper.manifest(sweeper.push_experiment("first", scripts))) == dict.fromkeys(ALL, 1)
    return sweeper


def test_a_pushed_sweep_runs_what_is_new_and_tells_it(sweeper: Sweeper) -> None:
    commit = sweeper.push_experiment("three values of C", sweep=GRID)
    made = sweeper.manifest(commit)
    # C=1.0 is the experiment that the first push ran.
    assert ran(made) == {"preprocess": 0, "train": 2, "predict": 2, "evaluate": 2}
    assert [one["changed"] for one in made["variants"]] == [{"train --C": value} for value in ("0.01", "0.1", "1.0")]
    assert all(one["status"] == "finished" and one["metrics"]["roc_auc"] > 0.5 for one in made["variants"])
    answer = sweeper.answer(commit)
    assert (answer["variants"], answer["jobs"]) == (3, {"run": 6, "cached": 4})
    assert answer["estimate"]["usd"] > 0
    [comment] = sweeper.comments(commit)
    assert "Estimate: $" in comment


def test_a_push_that_changes_only_evaluate_runs_only_evaluate(sweeper: Sweeper) -> None:
    commit = sweeper.push_experiment("a note in evaluate.py", {"evaluate.py": salted("evaluate.py")})
    assert ran(sweeper.manifest(commit)) == {"preprocess": 0, "train": 0, "predict": 0, "evaluate": 1}


def test_a_push_that_changes_nothing_of_a_job_runs_nothing(sweeper: Sweeper) -> None:
    made = sweeper.manifest(sweeper.push_experiment("words alone", {"notes.md": b"nothing that a step reads\n"}))
    assert ran(made) == dict.fromkeys(ALL, 0)
    assert made["variants"][0]["status"] == "finished"
    assert made["cost"]["saved_usd"] > 0


def test_two_pushes_after_each_other_compute_what_both_need_once(sweeper: Sweeper) -> None:
    scripts = {"preprocess.py": salted("preprocess.py")}
    commits = [sweeper.push_experiment("one", scripts), sweeper.push_experiment("two", scripts)]
    made = [sweeper.manifest(commit) for commit in commits]
    assert {step: sum(ran(one)[step] for one in made) for step in ALL} == dict.fromkeys(ALL, 1)
    assert made[0]["variants"][0]["jobs"] == made[1]["variants"][0]["jobs"]


def test_a_run_above_its_budget_is_refused(sweeper: Sweeper) -> None:
    commit = sweeper.push_experiment("too dear", {"train.py": salted("train.py")}, sweep=GRID, budget=0.001)
    answer = sweeper.answer(commit)
    assert (answer["status"], answer["execution"]) == ("refused", None)
    [problem] = answer["problems"]
    assert "budget" in problem
    assert sweeper.read(f"{sweeper.run(commit)}/manifest.json") is None


def test_a_script_sees_only_what_its_key_covers(sweeper: Sweeper) -> None:
    reads = b"import pathlib\npathlib.Path(__file__).with_name('words.txt').read_text()\n"
    scripts = {"words.txt": b"some words\n", "evaluate.py": reads + salted("evaluate.py")}
    commit = sweeper.push_experiment("reads a file that no setting names", scripts)
    ended = sweeper.ended(sweeper.answer(commit)["executionArn"])
    assert (ended["status"], ended["error"]) == ("FAILED", "NoVariantFinished")
    assert ended["cause"].startswith("evaluate failed: ")
    named = sweeper.push_experiment("names the file", scripts, evaluate={"files": ["*.txt"]})
    assert ran(sweeper.manifest(named)) == {**dict.fromkeys(ALL, 0), "evaluate": 1}


def test_a_preview_tells_what_the_push_then_runs(sweeper: Sweeper) -> None:
    more = {"grid": {"train": {"--C": ["0.1", "1.0", "7"]}, "predict": {"--threshold": ["0.2", "0.5"]}}}
    (sweeper.folder / "experiment.yml").write_text(yaml.safe_dump(sweeper.settings("more values", sweep=more)))
    workshop = sweeper.workshop
    seen = preview(workshop.client("s3"), sweeper.folder, workshop.connection, workshop.repository)
    answer = sweeper.answer(sweeper.push_experiment("more values", sweep=more))
    assert (seen.problems, seen.variants) == ((), answer["variants"])
    assert sum(to_run for _, to_run, _ in seen.jobs) == answer["jobs"]["run"]
    assert sum(known - to_run for _, to_run, known in seen.jobs) == answer["jobs"]["cached"]
    assert seen.estimate is not None
    assert seen.estimate.as_dict() == answer["estimate"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"budget": 0.001}, "budget: the run is estimated at"),
        ({"train": {"code": "trian.py"}}, "Did you mean 'train.py'?"),
        ({"pipeline": {"input_data_uri": "s3://{bucket}/dataset/nothing.csv"}}, "there is no object"),
    ],
)
def test_a_preview_names_what_the_dispatcher_would_refuse(sweeper: Sweeper, changes: dict, reason: str) -> None:
    workshop = sweeper.workshop
    settings = sweeper.settings("refused", **changes)
    text = yaml.safe_dump({**settings, "train": {**settings["train"], "args": ["--C", "77"]}})
    (sweeper.folder / "experiment.yml").write_text(text.replace("{bucket}", workshop.bucket))
    seen = preview(workshop.client("s3"), sweeper.folder, workshop.connection, workshop.repository)
    [problem] = seen.problems
    assert reason in problem
    assert str(seen).startswith("The push would be refused:\n- experiment.yml:")
