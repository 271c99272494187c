"""Reading a Dockerfile: instructions, lines, and what is refused by name and line."""

import pytest

from helpers.local_aws.builds.docker import dockerfile, words
from helpers.local_aws.builds.docker.problems import DockerProblem


def problem(text: str) -> str:
    with pytest.raises(DockerProblem) as caught:
        dockerfile.read(text)
    return str(caught.value)


def test_an_instruction_has_the_line_that_it_begins_in():
    found = dockerfile.read(
        "# syntax=docker/dockerfile:1\n\nfrom python:3.12\n# a comment\nRUN pip install \\\n  a\nENV A=1\n"
    )
    assert [(one.line, one.name, one.text) for one in found] == [
        (3, "FROM", "python:3.12"),
        (5, "RUN", "pip install a"),
        (7, "ENV", "A=1"),
    ]


def test_comments_and_empty_lines_do_not_end_a_continued_instruction():
    (_, run) = dockerfile.read("FROM python:3.12\nRUN pip install \\\n# why\n\n  pandas \\\n  boto3\n")
    assert " ".join(run.text.split()) == "pip install pandas boto3"


def test_a_number_sign_within_an_instruction_is_part_of_it():
    (_, env) = dockerfile.read("FROM python:3.12\nENV A=x#y\n")
    assert env.text == "A=x#y"


@pytest.mark.parametrize(
    "name", ["ADD", "HEALTHCHECK", "MAINTAINER", "ONBUILD", "SHELL", "STOPSIGNAL", "USER", "VOLUME"]
)
def test_what_is_not_supported_is_refused_by_name_and_line(name):
    said = problem(f"FROM python:3.12\nWORKDIR /app\n\n{name.lower()} something\n")
    assert said.startswith(f"Dockerfile:4: {name} is not supported by the embedded AWS: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM python:3.12\nCOPPY a b\n", "Dockerfile:2: unknown instruction: COPPY"),
        ("FROM python:3.12\nFROM python:3.12\n", "Dockerfile:2: a second FROM is not supported"),
        ("FROM python:3.12\nRUN <<EOF\npip install a\nEOF\n", "Dockerfile:2: a heredoc is not supported"),
        ("FROM python:3.12\nCOPY <<-'EOF' /app/a\nx\nEOF\n", "Dockerfile:2: a heredoc is not supported"),
        ("# escape=`\nFROM python:3.12\n", "Dockerfile:1: the directive escape is not supported"),
        ("ENV A=1\nFROM python:3.12\n", "Dockerfile:1: no build stage in current context"),
        ("# nothing\n", "Dockerfile: no build stage"),
        ("FROM python:3.12\nWORKDIR\n", "Dockerfile:2: WORKDIR requires at least one argument"),
    ],
)
def test_a_dockerfile_that_cannot_be_is_refused_with_its_line(text, said):
    assert problem(text).startswith(said)


def test_flags_are_told_from_arguments():
    (_, copy) = dockerfile.read("FROM python:3.12\nCOPY --chown=1:1 --link a b --c\n")
    assert (copy.flags, copy.text) == ({"chown": "1:1", "link": ""}, "a b --c")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a  b", ["a", "b"]),
        ('"a b" c', ["a b", "c"]),
        ("'$A' \"$A\" $A ${A}x", ["$A", "one", "one", "onex"]),
        (r"\$A a\ b", ["$A", "a b"]),
        ("${B:-two} ${A:-two} ${A:+set} ${B:+set}x", ["two", "one", "set", "x"]),
        ("$ $1", ["$", "$1"]),
    ],
)
def test_words_are_split_as_docker_splits_them(text, expected):
    assert words.split(text, {"A": "one"}) == expected


@pytest.mark.parametrize("text", ["'a", '"a', "${A%x}"])
def test_words_that_docker_would_not_take_are_refused(text):
    with pytest.raises(ValueError, match=r"end|supported"):
        words.split(text, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1 B=\"x y\" C='z'", {"A": "1", "B": "x y", "C": "z"}),
        ("A one two", {"A": "one two"}),
        ("A=$V/x", {"A": "v/x"}),
    ],
)
def test_assignments(text, expected):
    assert words.assignments(text, {"V": "v"}) == expected


def test_a_text_that_is_no_json_is_a_shell_command():
    assert words.exec_form('["a", "b"]') == ["a", "b"]
    assert words.exec_form("['a']") is None
