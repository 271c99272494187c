"""The optional parts of an experiment.yml: cache, budget, sweep, environment, files, and data stored as parts."""

import json

import pytest
from dispatcher_aws import BUCKET, PREFIX, experiment_yml

from helpers.planning import experiment, limits
from helpers.planning.patterns import matches
from helpers.planning.sweep import variants

PLACE = experiment.Place("aws", "us-east-1", "123456789012", PREFIX, BUCKET)
STEPS = ("preprocess", "train", "predict", "evaluate")
FILES = {"experiment.yml", "config/a.json", "config/deep/b.json", "lib/features.py", *(f"{step}.py" for step in STEPS)}


def read(added: str = "", **changes: str):
    """Read a valid experiment.yml, whose 28 lines ``added`` follows."""
    return experiment.read_experiment((experiment_yml(**changes) + added).encode(), FILES, {}, PLACE)


def problem(added: str = "", **changes: str) -> str:
    (found,) = read(added, **changes).problems
    return found


def sweep(text: str) -> str:
    """Return a sweep in YAML's short form, on lines 29 and 30."""
    return f"sweep:\n  {text}\n"


def test_the_file_of_the_first_workshop_is_valid_as_it_was():
    result = read()
    assert result.problems == []
    assert [result.values[name] for name in ("cache", "budget", "sweep")] == [True, None, None]
    assert experiment.plan_only(result) == []


def test_every_optional_part_has_its_value():
    result = read(
        "cache: false\nbudget: 0.50\n",
        train_cache="true",
        train_environment='{LEVEL: "2", RATE: 0.10}',
        train_files='["config/*.json", lib/**]',
    )
    assert result.problems == []
    assert (result.values["cache"], result.values["budget"], result.values["train"]["cache"]) == (False, 0.5, True)
    assert result.values["train"]["environment"] == {"LEVEL": "2", "RATE": "0.10"}
    assert result.values["train"]["files"] == ["config/*.json", "lib/**"]


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ("cache: 'false'", "experiment.yml:29: cache: must be true or false, without quotes, not 'false'"),
        ("cache: never", "must be true or false, not 'never'"),
        ("cache: [false]", "must be true or false, not a list"),
        ("budget: 0", "experiment.yml:29: budget: must be an amount of US dollars above 0, not 0"),
        ("budget: -1.5", "above 0, not -1.5"),
        ("budget: '0.5'", "must be a number, without quotes, not '0.5'"),
        ("budget: $0.50", "must be a number, not '$0.50'"),
        ("budget: .inf", "must be a number, not '.inf'"),
        ("budget: 1e999", "must be a number, not '1e999'"),
        ("budget:", "must be a number, not nothing"),
        ("budgte: 1", "unknown key 'budgte'. Did you mean 'budget'?"),
    ],
)
def test_cache_and_budget_are_refused_with_line_and_advice(added, message):
    assert message in problem(f"{added}\n")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("environment", "[A]", 'train.environment: must hold variables such as LEVEL: "2", not a list'),
        ("environment", "{A-B: x}", "'A-B' is not a name of letters, digits and _"),
        ("environment", "{1A: x}", "'1A' is not a name"),
        ("environment", "{A: yes}", 'train.environment.A: YAML reads yes as true or false: quote it: "yes"'),
        ("environment", "{A: [x]}", "train.environment.A: must be text, not a list"),
        ("environment", "{A: x, A: y}", "key 'A' appears twice"),
        ("environment", "{A: " + "x" * 257 + "}", "has 257 characters; SageMaker takes at most 256"),
        ("environment", "{" + ", ".join(f"A{n}: x" for n in range(101)) + "}", "has 101 variables; SageMaker takes at"),
        ("files", "config/*.json", "train.files: must be a list such as"),
        ("files", "[config/*.jsn]", "train.files[0]: no file of this commit matches 'config/*.jsn'."),
        ("files", "[config/c.json]", "Did you mean 'config/a.json'?"),
        ("files", "[../secret]", "must be a path inside the repository"),
        ("files", "[/etc/passwd]", "must be a path inside the repository"),
        ("files", "[7]", "must be text, not a number"),
        ("cache", "maybe", "train.cache: must be true or false, not 'maybe'"),
    ],
)
def test_options_of_a_step_are_refused_with_line_and_advice(name, value, message):
    found = problem(**{f"train_{name}": value})
    assert message in found
    assert found.startswith("experiment.yml:17: "), found


def test_a_grid_a_list_and_a_random_sample_are_read():
    grid = read(sweep('grid: {train: {"--C": ["0.1", 1], "--w": [a]}, predict: {"--t": [0.50]}}'))
    assert [len(grid.problems), *variants(grid.values["sweep"])] == [
        0,
        {"train": {"--C": "0.1", "--w": "a"}, "predict": {"--t": "0.50"}},
        {"train": {"--C": "1", "--w": "a"}, "predict": {"--t": "0.50"}},
    ]
    listed = read(sweep('list: [{train: {"--C": "1"}}, {}]'))
    assert [len(listed.problems), *variants(listed.values["sweep"])] == [0, {"train": {"--C": "1"}}, {}]
    drawn = read(
        sweep('random: {samples: 3, seed: 1, train: {"--C": {log_uniform: [1e-3, 10]}, "--n": {integer: [1, 9]}}}')
    )
    assert drawn.problems == []
    assert len(variants(drawn.values["sweep"])) == 3
    assert all(1 <= int(one["train"]["--n"]) <= 9 for one in variants(drawn.values["sweep"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "sweep: must hold one of grid, list, random"),
        ("gird: {}", "sweep: unknown key 'gird'. Did you mean 'grid'?"),
        ("{grid: {train: {--C: [a]}}, list: [{}]}", "sweep: must hold one of grid, list, random, not grid and list"),
        ("grid: [a]", "sweep.grid: must hold the keys preprocess, train, predict, evaluate, but holds a list"),
        ("grid: {}", "sweep.grid: names no step (preprocess, train, predict, evaluate)"),
        ("grid: {trian: {--C: [a]}}", "sweep.grid: unknown key 'trian'. Did you mean 'train'?"),
        ("grid: {train: {}}", "sweep.grid.train: names no option"),
        ("grid: {train: [--C]}", 'sweep.grid.train: must hold options such as "--C", not a list'),
        (
            "grid: {train: {C: [a]}}",
            "sweep.grid.train.C: 'C' is not an option: it must begin with '--' and be one word",
        ),
        ("grid: {train: {-C: [a]}}", "Did you mean '--C'?"),
        ('grid: {train: {"--C x": [a]}}', "'--C x' is not an option"),
        ('grid: {train: {"--C=": [a]}}', "'--C=' is not an option"),
        ("grid: {train: {--C: a}}", "sweep.grid.train.--C: must be a list of values such as"),
        ("grid: {train: {--C: []}}", "sweep.grid.train.--C: is empty: list at least one value"),
        ("grid: {train: {--C: [a, a]}}", "sweep.grid.train.--C: lists 'a' twice"),
        ("grid: {train: {--C: [a], --C: [b]}}", "key '--C' appears twice, first on line 30"),
        ("grid: {train: {--C: [yes]}}", 'sweep.grid.train.--C[0]: YAML reads yes as true or false: quote it: "yes"'),
        ("grid: {train: {--C: [[a]]}}", "must be text, not a list"),
        ("grid: {train: {--C: {uniform: [0, 1]}}}", "must be a list of values"),
        (f"grid: {{train: {{--C: {list(range(100))}, --w: {list(range(11))}}}}}", "has 1,100 variants; at most 1,000"),
        ("list: []", "sweep.list: is empty"),
        ("list: {train: {--C: a}}", "sweep.list: must be a list such as"),
        ("list: [{train: {--C: a}}, {train: {--C: a}}]", "sweep.list[1]: is the same as an earlier one"),
        ("list: [{train: {--C: [a]}}]", "sweep.list[0].train.--C: must be text, not a list"),
        (f"list: {[{}] * 1001}", "sweep.list: has 1,001 variants; at most 1,000 are run from one push"),
        ("random: {train: {--C: [a]}}", "sweep.random: key 'samples' is missing"),
        ("random: {samples: 0, train: {--C: [a]}}", "sweep.random.samples: must be from 1 to 1000, not 0"),
        ("random: {samples: many, train: {--C: [a]}}", "must be a whole number from 1 to 1000, not 'many'"),
        ("random: {samples: 2, seed: -1, train: {--C: [a]}}", "sweep.random.seed: must be from 0 to"),
        ("random: {samples: 2}", "sweep.random: names no step"),
        ("random: {samples: 2, train: {--C: a}}", "or one of uniform, log_uniform, integer with [low, high], not text"),
        ("random: {samples: 2, train: {--C: {normal: [0, 1]}}}", "unknown key 'normal'."),
        ("random: {samples: 2, train: {--C: {}}}", "must hold one of uniform, log_uniform, integer"),
        ("random: {samples: 2, train: {--C: {uniform: [1]}}}", "uniform must be followed by [low, high]"),
        ("random: {samples: 2, train: {--C: {uniform: [2, 1]}}}", "the low end, 2, must be below the high end, 1"),
        ("random: {samples: 2, train: {--C: {uniform: [1, 1.0]}}}", "the low end, 1, must be below the high end, 1.0"),
        ("random: {samples: 2, train: {--C: {uniform: [a, 1]}}}", "must be a number, not 'a'"),
        ("random: {samples: 2, train: {--C: {log_uniform: [0, 1]}}}", "log_uniform takes numbers above 0, not 0"),
        ("random: {samples: 2, train: {--C: {integer: [1, 2.5]}}}", "must be a whole number"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused_with_its_line(text, message):
    result = read(sweep(text))
    (found,) = result.problems
    assert message in found
    assert found.startswith("experiment.yml:30: "), found
    assert result.values["sweep"] is None


def test_the_line_is_the_one_of_the_value_that_is_wrong():
    text = "sweep:\n  grid:\n    train:\n      --C:\n      - a\n      - a\n"
    assert problem(text).startswith("experiment.yml:34: sweep.grid.train.--C: lists 'a' twice")


def test_an_option_that_stands_twice_in_the_arguments_cannot_be_swept():
    found = problem(sweep("grid: {train: {--C: [a]}}"), train_args="[--C, '1', --C=2]")
    assert found == "experiment.yml:31: sweep.grid.train.--C: --C stands 2 times in train.args: keep one"


def test_a_swept_option_must_leave_the_arguments_within_sagemakers_limit():
    many = json.dumps([f"--a{n}" for n in range(99)])
    found = problem(sweep("list: [{train: {--C: a}}]"), train_args=many)
    assert "with it train has 101 arguments; SageMaker takes at most 100" in found
    assert read(sweep("list: [{train: {--a5: a}}]"), train_args=many).problems == []


def test_what_needs_a_plan_is_named_with_its_line():
    result = read(
        sweep("grid: {train: {--C: [a]}}"),
        train_files="[config/*]",
        predict_environment="{A: x}",
        pipeline_input_data_uri=f"s3://{BUCKET}/parts/",
    )
    assert result.problems == []
    assert [text.partition(" needs a state machine that takes a plan")[0] for text in experiment.plan_only(result)] == [
        "experiment.yml:4: pipeline.input_data_uri: a data set stored as parts (the URI ends in '/')",
        "experiment.yml:32: sweep: this",
        "experiment.yml:17: train.files: this",
        "experiment.yml:24: predict.environment: this",
    ]


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("a/*.json", "a/b.json", True),
        ("a/*.json", "a/b/c.json", False),
        ("*.json", "a/b.json", False),
        ("a/**", "a/b/c.json", True),
        ("a/**", "a", False),
        ("**", "a/b", True),
        ("**/*.json", "b.json", True),
        ("**/*.json", "a/b/c.json", True),
        ("a/**/c.json", "a/c.json", True),
        ("a/**/c.json", "a/x/y/c.json", True),
        ("a/**/c.json", "b/c.json", False),
        ("a/?.json", "a/b.json", True),
        ("a/[bc].json", "a/c.json", True),
        ("a.json", "a.json", True),
        ("a.json", "aXjson", False),
        ("a", "a/b", False),
    ],
)
def test_a_star_stays_in_its_folder_and_two_do_not(pattern, path, fits):
    assert matches(pattern, path) is fits


def test_no_pattern_takes_long():
    assert not matches("/".join(["**", "*a*"] * 60) + "/b", "/".join("a" * 400))


def test_the_limits_are_those_of_sagemakers_model():
    kept = json.loads(limits.FILE.read_text())
    assert kept == limits.read_model(), "run: python -m helpers.planning.limits"
