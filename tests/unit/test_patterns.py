"""Patterns of clients: what they match, and that none takes longer than it may."""

from functools import partial

import pytest

from helpers.local_aws import patterns
from helpers.local_aws.patterns import Regex, star, wildcard

LONG = "a" * 5000
NEVER = "*a" * 30 + "b"  # tried in every way, it would outlive us


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("s3:Get*", "s3:GetObject", True),
        ("s3:Get?bject", "s3:GetObject", True),
        ("s3:Get", "s3:GetObject", False),
        ("arn:*:b/*/c", "arn:aws:s3:::b/x/y/c", True),
        ("b/[x]*", "b/[x]y", True),
        ("b/[x]*", "b/xy", False),
        ("b/*", "b/two\nlines", True),
        (NEVER, LONG, False),
    ],
)
def test_a_pattern_of_iam(pattern: str, text: str, matches: bool) -> None:
    assert bool(wildcard(pattern).match(text)) == matches


def test_the_case_of_an_action_does_not_matter() -> None:
    assert wildcard("S3:get*", ignore_case=True).match("s3:GetObject")
    assert not wildcard("S3:get*").match("s3:GetObject")


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("log-*.txt", "log-1.txt", True),
        ("log-*.txt", "log-1.csv", False),
        (r"log-\*.txt", "log-*.txt", True),
        (r"log-\*.txt", "log-1.txt", False),
        (r"a\\*", "a\\bc", True),
        ("a?[b]", "a?[b]", True),
        ("a?", "ab", False),
        ("a\\", "a\\", True),
        (NEVER, LONG, False),
    ],
)
def test_a_pattern_of_a_choice(pattern: str, text: str, matches: bool) -> None:
    assert bool(star(pattern).match(text)) == matches


def test_a_regular_expression_that_would_never_end_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 0.1)
    endless = Regex("(a|aa)+$", ignore_case=False, multiline=False)
    for search in (endless.search, lambda text: list(endless.finditer(text)), endless.split, partial(endless.sub, "")):
        with pytest.raises(TimeoutError):
            search("a" * 100 + "!")


def test_a_group_that_is_not_there_is_reported_as_re_does() -> None:
    with pytest.raises(ValueError, match="invalid group reference 2 at position 3"):
        Regex("(b)", ignore_case=False, multiline=False).sub(r"\g<2>", "abc")
