"""What the benchmarks make of their measurements, and what they give everyone to run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench import bars, by_hand, experiment, figures, report
from bench.bars import OURS, WARM, Measured


def test_a_figure_is_the_median_with_minimum_and_maximum() -> None:
    assert str(figures.Figure([3.0, 1.0, 2.0])) == "2.00 (1.00 to 3.00)"
    assert str(figures.Figure([12.34])) == "12.3"
    assert figures.rounded(123.4) == "123"


def test_a_table_is_aligned_markdown() -> None:
    assert figures.table([["a", "b"], ["long", "1"]]).splitlines() == ["| a    | b |", "| ---- | - |", "| long | 1 |"]


def test_the_processes_below_this_one_are_found_and_weigh_something() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in figures.descendants(os.getpid())
        assert figures.tree_memory(os.getpid()) > figures.memory(os.getpid()) > 1
        child.communicate(b"\n")


def test_the_work_of_a_sweep_is_preprocess_and_half_of_the_rest() -> None:
    steps = {"preprocess": [1.0, 2.0], "train": [4.0, 4.0], "predict": [1.0, 1.0], "evaluate": [1.0, 3.0]}
    assert bars.sweep_work(steps) == [4.0, 6.0]


def found(measured: Measured, what: str) -> list[bool | None]:
    """Return whether the bars of one thing were reached."""
    return [bar.reached for bar in bars.bars(measured, ["kedro", "dvc"]) if bar.what == what]


@pytest.mark.parametrize(("ours", "reached"), [(2.5, True), (2.6, False)])
def test_the_first_run_may_take_half_of_the_scripts_by_hand(ours: float, reached: bool) -> None:
    measured = Measured(seconds={("first run", OURS): [ours], ("first run", "by hand"): [5.0]})
    assert found(measured, "first run, push to metrics") == [reached]


def test_faster_than_every_peer_is_a_bar_for_each_peer() -> None:
    measured = Measured(
        seconds={("four no-op steps", who): [s] for who, s in ((OURS, 1.0), ("kedro", 0.9), ("dvc", 2))}
    )
    assert found(measured, "four no-op steps") == [False, True]


@pytest.mark.parametrize(("ours", "reached"), [(4.6, True), (4.7, False)])
def test_a_sweep_may_take_a_little_more_than_its_work(ours: float, reached: bool) -> None:
    steps = {"preprocess": 1.0, "train": 4.0, "predict": 1.0, "evaluate": 1.0}
    details = {("8-point sweep", WARM, step): [seconds] for step, seconds in steps.items()}
    assert found(Measured({("8-point sweep", OURS): [ours]}, details), "8-point sweep") == [reached]


def test_growth_compares_the_cost_of_an_execution_among_1000_with_that_among_10() -> None:
    rows = {"10": [0.10, 1.0, 1.0], "1000": [0.13, 49.0, 60.0]}
    assert found(Measured(growth={"one after another": rows}), "1,000 executions, one after another") == [False, True]


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    assert {bar.reached for bar in bars.bars(Measured(), [])} == {None}


def test_the_page_names_what_failed_and_whose_versions_ran() -> None:
    measured = Measured(seconds={("first run", OURS): [1.0]}, failed={("first run", "dvc"): "PeerFailed: no\nlink"})
    page = report.document(measured, [(OURS, "a push"), ("dvc", "repro")], ["first run"], 5)
    assert "- first run, dvc: PeerFailed: no link" in page
    assert "| dvc      | failed    |" in page
    assert report.peer_versions().keys() == {"dvc", "kedro", "metaflow", "zenml"}


def test_scripts_of_a_turn_are_new_and_only_those_that_change_are_written_again(tmp_path: Path) -> None:
    first, same, evaluate, *_ = experiment.cases(1)
    first.write_scripts(tmp_path)
    before = {file.name: file.read_text() for file in tmp_path.glob("*.py")}
    same.write_scripts(tmp_path)
    assert {file.name: file.read_text() for file in tmp_path.glob("*.py")} == before
    evaluate.write_scripts(tmp_path)
    after = {file.name: file.read_text() for file in tmp_path.glob("*.py")}
    assert [name for name in after if after[name] != before[name]] == ["evaluate.py"]
    experiment.cases(2)[0].write_scripts(tmp_path)
    assert all((tmp_path / f"{step}.py").read_text() != after[f"{step}.py"] for step in experiment.STEPS)


def test_only_the_argument_of_its_case_differs_from_experiment_yml() -> None:
    first, _, _, argument, sweep, nothing = experiment.cases(1)
    assert argument.arguments("train") == ["--C", experiment.ANOTHER_C, *first.arguments("train")[2:]]
    assert argument.arguments("preprocess") == first.arguments("preprocess") != []
    assert sweep.arguments("train", "3")[:2] == ["--C", "3"]
    assert nothing.arguments("train") == []


def test_the_modules_of_a_script_are_found_through_one_another(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import json\nfrom first import this\n")
    (tmp_path / "first.py").write_text("import second.part\n")
    (tmp_path / "second.py").write_text("import train\n")
    assert experiment.imported(tmp_path / "train.py") == ["first.py", "second.py"]


def test_four_steps_that_do_nothing_run_by_hand_and_in_a_warm_python(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(by_hand, "place_data", lambda folder: folder / "census-income.csv")
    task = experiment.cases(1)[-1]
    for kind in (by_hand.ByHand, by_hand.WarmPython):
        contender = kind(tmp_path / kind.__name__)
        contender.prepare(task)
        with pytest.raises(RuntimeError, match=r"metrics\.json was not written"):
            contender.check(task, 0)
        assert contender.run(task) > 0
        contender.check(task, 0)
        contender.close()


def test_a_failing_script_fails_the_warm_python_with_its_words(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(by_hand, "place_data", lambda folder: folder / "census-income.csv")
    contender = by_hand.WarmPython(tmp_path)
    task = experiment.cases(1)[-1]
    contender.prepare(task)
    (contender.code / "train.py").write_text("def main(argv):\n    raise ValueError('C is missing')\n")
    with pytest.raises(RuntimeError, match="ValueError: C is missing"):
        contender.run(task)
    contender.close()


def test_old_metrics_do_not_count_as_a_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(by_hand, "place_data", lambda folder: folder / "census-income.csv")
    contender = by_hand.Folders(tmp_path)
    output = contender.work / "single" / "evaluate" / "output"
    output.mkdir(parents=True)
    (output / "metrics.json").write_text(json.dumps({"roc_auc": 0.84}))
    first, same, *_ = experiment.cases(1)
    made = (output / "metrics.json").stat().st_mtime
    contender.check(first, made - 1)
    contender.check(same, made + 1)
    with pytest.raises(RuntimeError, match="was not written"):
        contender.check(first, made + 1)
