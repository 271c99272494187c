"""What the dispatcher decides before it calls AWS."""

import pytest
from dispatcher_aws import FUNCTION_ARN, dispatcher, event, repository, tip

Commit = repository.Commit


def history(*commits: tuple[str, str]) -> list:
    """Return commits, given oldest first as (written, removed) paths, in the dispatcher's order: newest first."""
    made = [
        Commit(str(number), written=frozenset(written.split()), removed=frozenset(removed.split()))
        for number, (written, removed) in enumerate(commits)
    ]
    return made[::-1]


def runs(*commits: tuple[str, str]) -> list[str]:
    return [candidate.commit.id for candidate in dispatcher.choose(history(*commits)) if candidate.is_experiment]


def test_every_reference_of_every_record_is_planned():
    two, other = event("two_references"), event("root_commit")
    pushes = dispatcher.plan({"Records": two["Records"] + other["Records"]}, FUNCTION_ARN)
    assert [(push.ref, push.commit) for push in pushes] == [
        ("refs/heads/main", tip(two)),
        ("refs/heads/feature/one", tip(two, 1)),
        ("refs/heads/main", tip(other)),
    ]
    assert {push.repository for push in pushes} == {"demo-exp-project1"}


@pytest.mark.parametrize("name", ["branch_deletion", "tag"])
def test_a_deleted_branch_and_a_tag_are_ignored(name):
    (push,) = dispatcher.plan(event(name), FUNCTION_ARN)
    assert push.ignored


def test_a_test_of_the_trigger_is_ignored():
    an_event = event("root_commit")
    an_event["Records"][0]["eventName"] = "TriggerEventTest"
    (push,) = dispatcher.plan(an_event, FUNCTION_ARN)
    assert push.ignored


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:codecommit:us-east-1:999999999999:demo-exp-project1",
        "arn:aws:codecommit:eu-west-1:123456789012:demo-exp-project1",
        "arn:aws:s3:us-east-1:123456789012:demo-exp-project1",
        "arn:aws:codecommit:us-east-1:123456789012:../other",
    ],
)
def test_an_event_from_elsewhere_is_an_error(arn):
    an_event = event("root_commit")
    an_event["Records"][0]["eventSourceARN"] = arn
    with pytest.raises(ValueError, match="is not a CodeCommit repository"):
        dispatcher.plan(an_event, FUNCTION_ARN)


@pytest.mark.parametrize(
    ("arn", "name"),
    [
        ("arn:aws:iam::123456789012:user/alice", "alice"),
        ("arn:aws:iam::123456789012:user/division/team/alice", "alice"),
        ("arn:aws:iam::123456789012:root", "root"),
        ("arn:aws:sts::123456789012:assumed-role/notebook/bob@example.com", "notebook/bob@example.com"),
        ("arn:aws:sts::123456789012:assumed-role/service-role/sagemaker/Studio/SageMaker", "Studio/SageMaker"),
        ("arn:aws:sts::123456789012:federated-user/carol", "carol"),
        ("arn:aws-cn:iam::123456789012:user/dan", "dan"),
        ("arn:aws:iam::123456789012:robot/r2", "arn:aws:iam::123456789012:robot/r2"),
        ("arn:aws:iam::123456789012:user/", "arn:aws:iam::123456789012:user/"),
        ("codecommit.amazonaws.com", "codecommit.amazonaws.com"),
        ("", ""),
    ],
)
def test_the_pusher_is_named_from_every_form_of_identity(arn, name):
    assert dispatcher.pusher_name(arn) == name


def test_each_commit_that_writes_experiment_yml_runs_oldest_first():
    assert runs(("experiment.yml a.py", ""), ("README.md", ""), ("experiment.yml", "")) == ["0", "2"]


def test_the_tip_runs_when_code_changed_after_the_last_experiment():
    assert runs(("experiment.yml", ""), ("train.py", ""), ("README.md", "")) == ["0", "2"]
    assert runs(("lib/requirements.txt", "")) == ["0"]
    assert runs(("", "train.py")) == ["0"]


def test_the_tip_does_not_run_when_only_other_files_changed():
    assert runs(("experiment.yml", ""), ("README.md notes.ipynb", "")) == ["0"]
    assert runs(("train.py experiment.yml", ""), ("README.md", "")) == ["0"]


def test_a_commit_that_deletes_experiment_yml_is_no_experiment():
    assert runs(("", "experiment.yml")) == []


@pytest.mark.parametrize("path", ["code/experiment.yml", "experiment.yaml", "a/b/experiment.yaml", "Experiment.yml"])
def test_a_misplaced_experiment_file_is_a_candidate_for_refusal(path):
    (candidate,) = dispatcher.choose(history((path, "")))
    assert (candidate.is_experiment, candidate.misplaced) == (False, (path,))


def test_a_misplaced_experiment_file_that_is_deleted_is_of_no_interest():
    assert dispatcher.choose(history(("", "code/experiment.yml"))) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("demo-exp-project1", "demo-exp-project1-abababababab"),
        ("a.b_c", "a-b-c-abababababab"),
        ("x" * 31 + "-tail", "x" * 31 + "-abababababab"),
        ("...", "run-abababababab"),
    ],
)
def test_execution_names_fit_a_processing_job(name, expected):
    assert dispatcher.execution_name(name, "ab" * 20) == expected
    assert len(f"{expected}-preprocess-99") <= 63
