"""Reading a buildspec: what it says, and what is refused by name and line."""

import pytest

from helpers.local_aws.builds import buildspec
from helpers.local_aws.builds.buildspec import SpecProblem

WHOLE = """version: 0.2
env:
  shell: bash
  variables:
    A: one
    B: 2
    C: true
  parameter-store:
    KEY: /a/key
  exported-variables: [A, OUT]
phases:
  install:
    runtime-versions:
      python: 3.12
    commands: pip --version
  build:
    on-failure: CONTINUE
    commands:
      - echo 1
      - |
        echo 2
        echo 3
    finally:
      - echo 4
artifacts:
  files:
    - '**/*'
  exclude-paths:
    - '*.tmp'
  base-directory: out
  name: result-$A
  discard-paths: yes
"""


def problem(text: str) -> str:
    with pytest.raises(SpecProblem) as caught:
        buildspec.read(text)
    return str(caught.value)


def test_a_buildspec_is_read():
    spec = buildspec.read(WHOLE)
    assert (spec.shell, spec.exported, spec.runtimes) == ("bash", ("A", "OUT"), {"python": "3.12"})
    assert spec.variables == {"A": "one", "B": "2", "C": "true"}
    assert spec.parameters == {"KEY": "/a/key"}
    assert spec.phases["install"].commands == ("pip --version",)
    build = spec.phases["build"]
    assert build.commands == ("echo 1", "echo 2\necho 3\n")
    assert (build.afterwards, build.on_failure) == (("echo 4",), "CONTINUE")
    assert spec.artifacts == buildspec.Artifacts(("**/*",), ("*.tmp",), "out", "result-$A", True)


def test_a_phase_may_be_empty():
    assert buildspec.read("version: 0.2\nphases:\n  build:\n").phases["build"].commands == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 0.2\nphase:\n  build: {}\n", "line 2: unknown key phase; known are version, env, phases, artifacts"),
        ("version: 0.2\nphases:\n  biuld:\n    commands: [a]\n", "line 3: unknown key phases.biuld"),
        ("version: 0.2\nphases:\n  build:\n    command: [a]\n", "line 4: unknown key phases.build.command"),
        ("version: 0.2\nenv:\n  secrets-manager:\n    A: b\nphases: {}\n", "phases: at least one"),
        (
            "version: 0.2\nenv:\n  secrets-manager:\n    A: b\nphases:\n  build: {}\n",
            "line 3: env.secrets-manager is not supported by the embedded AWS: there is no Secrets Manager",
        ),
        ("version: 0.2\nphases:\n  build:\n    run-as: root\n", "line 4: phases.build.run-as is not supported"),
        ("version: 0.2\nreports: {}\nphases:\n  build: {}\n", "line 2: reports is not supported"),
        ("version: 0.2\ncache: {}\nphases:\n  build: {}\n", "line 2: cache is not supported"),
        ("version: 0.1\nphases:\n  build: {}\n", "version 0.1 is not supported"),
        ("version: 0.2\n", "phases: at least one"),
        ("version: 0.2\nphases: [a]\n", "line 2: phases is a mapping"),
        (
            "version: 0.2\nphases:\n  build:\n    commands:\n      - echo a: b\n",
            "line 4: phases.build.commands is a list",
        ),
        ("version: 0.2\nphases:\n  build:\n    on-failure: RETRY\n", "line 4: phases.build.on-failure RETRY is not"),
        (
            "version: 0.2\nenv:\n  shell: powershell.exe\nphases:\n  build: {}\n",
            "line 3: env.shell powershell.exe is not",
        ),
        (
            "version: 0.2\nphases:\n  install:\n    runtime-versions:\n      nodejs: 18\n",
            "line 5: runtime-versions nodejs is not supported by the embedded AWS",
        ),
        (
            "version: 0.2\nphases:\n  build:\n    runtime-versions:\n      python: 3\n",
            "line 4: phases.build.runtime-vers",
        ),
        ("version: 0.2\nenv:\n  variables:\n    A: [1]\nphases:\n  build: {}\n", "line 4: env.variables.A is a text"),
        ("version: 0.2\nphases:\n  build: {}\n  build: {}\n", "line 4: the key build is there twice"),
        ("version: 0.2\nphases:\n  build: {}\nartifacts:\n  name: a\n", "artifacts.files: at least one"),
        ("version: 0.2\nphases:\n  build:\n   - [\n", "line 5: "),
        ("a text", "a buildspec is a mapping"),
        ("version: 0.2\nphases: !!python/object:os.system {}\n", "line 2: could not determine a constructor"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text, said):
    assert problem(text).startswith(said)


@pytest.mark.parametrize(
    "value",
    ["2020-99-99", "9" * 5000, "0x" + "f" * 5000, "[" * 2000 + "]" * 2000],
    ids=["date", "digits", "hex", "deep"],
)
def test_a_value_that_cannot_be_read_is_a_problem_not_a_crash(value):
    assert problem(f"version: 0.2\nphases:\n  build:\n    commands: [{value}]\n")


def test_an_alias_of_aliases_does_not_grow():
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))]
    assert problem("version: 0.2\n" + "\n".join(lines)).startswith("line 2: unknown key a0")
