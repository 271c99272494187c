"""From a sweep to its variants: every combination once, the same ones every time."""

import pytest

from helpers.planning.sweep import Axis, Grid, Listed, RandomSample, Range, apply, describe, variants


def test_without_a_sweep_there_is_one_variant_that_changes_nothing():
    assert variants(None) == [{}]


def test_a_grid_is_every_combination_and_the_last_axis_varies_fastest():
    grid = Grid((Axis("train", "--C", ("0.1", "1")), Axis("train", "--w", ("a", "b")), Axis("predict", "--t", ("5",))))
    assert [describe(changes) for changes in variants(grid)] == [
        {"train --C": "0.1", "train --w": "a", "predict --t": "5"},
        {"train --C": "0.1", "train --w": "b", "predict --t": "5"},
        {"train --C": "1", "train --w": "a", "predict --t": "5"},
        {"train --C": "1", "train --w": "b", "predict --t": "5"},
    ]


def test_a_list_is_itself():
    changes = ({"train": {"--C": "1"}}, {}, {"predict": {"--t": "5"}})
    assert variants(Listed(changes)) == list(changes)


DRAWN = RandomSample((Axis("train", "--C", Range("log_uniform", 0.001, 10)), Axis("train", "--w", ("a", "b"))), 8, 3)


def test_a_random_sample_is_the_same_for_the_same_seed_only():
    assert variants(DRAWN) == variants(DRAWN)
    assert variants(DRAWN) != variants(RandomSample(DRAWN.axes, 8, 4))
    assert variants(DRAWN)[:3] == variants(RandomSample(DRAWN.axes, 3, 3)), "a larger sample begins with the smaller"


def test_these_are_the_numbers_of_a_seed_for_ever():
    axes = (Axis("train", "--C", Range("log_uniform", 0.001, 10)), Axis("train", "--n", Range("integer", 1, 6)))
    drawn = [describe(changes) for changes in variants(RandomSample(axes, 3, 0))]
    assert drawn == [
        {"train --C": "2.38609", "train --n": "5"},
        {"train --C": "0.0481156", "train --n": "2"},
        {"train --C": "0.110943", "train --n": "3"},
    ]


def test_draws_that_come_out_the_same_are_one_variant():
    few = RandomSample((Axis("train", "--w", ("a", "b")),), 50, 0)
    assert sorted(describe(changes)["train --w"] for changes in variants(few)) == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "low", "high", "share", "value"),
    [
        ("uniform", 0, 1, 0.5, "0.5"),
        ("uniform", 0, 1, 1 / 3, "0.333333"),
        ("uniform", 0, 3e6, 0.99999999, "3e+06"),
        ("log_uniform", 0.001, 1000, 0.5, "1"),
        ("log_uniform", 0.001, 1000, 0, "0.001"),
        ("integer", 1, 6, 0, "1"),
        ("integer", 1, 6, 0.9999999999999999, "6"),
        ("integer", -3, -2, 0.49, "-3"),
    ],
)
def test_a_range_is_drawn_from_its_low_to_its_high_end(kind, low, high, share, value):
    assert Range(kind, low, high).at(share) == value


@pytest.mark.parametrize(
    ("args", "changed"),
    [
        (["--C", "1", "--w", "a"], ["--C", "5", "--w", "a"]),
        (["--w", "a", "--C", "1"], ["--w", "a", "--C", "5"]),
        (["--w", "a"], ["--w", "a", "--C", "5"]),
        (["--C=1", "--w", "a"], ["--C=5", "--w", "a"]),
        (["--C", "-1"], ["--C", "5"]),
        (["--C"], ["--C", "5"]),
        (["--C", "--w", "a"], ["--C", "5", "--w", "a"]),
        (["--Cost", "1"], ["--Cost", "1", "--C", "5"]),
        ([], ["--C", "5"]),
    ],
)
def test_a_swept_value_replaces_the_one_in_args_or_is_appended(args, changed):
    before = list(args)
    assert apply(args, {"--C": "5"}) == changed
    assert args == before
