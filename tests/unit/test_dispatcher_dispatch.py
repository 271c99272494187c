"""What a push sets in motion, from the event to the executions, the files and the comments."""

import json
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError
from dispatcher_aws import (
    BUCKET,
    DATA,
    FUNCTION_ARN,
    MACHINE,
    REPOSITORY,
    STEPS,
    World,
    bucket,
    dispatcher,
    error,
    event,
    new_world,
    project,
    tip,
)

PARENT, GRANDPARENT, SIDE = "a1" * 20, "a2" * 20, "a3" * 20


@pytest.fixture
def world() -> World:
    return new_world()


def seen(world: World, *commits: str) -> None:
    for commit in commits:
        world.s3.objects[f"dispatcher/{REPOSITORY}/seen/{commit}"] = b""


def run_prefix(commit: str) -> str:
    return f"runs/{REPOSITORY}/{commit}"


def refusal(world: World, an_event: dict) -> list[str]:
    """Deliver an event that must be refused; return its problems."""
    (answer,) = world.deliver(an_event)
    assert answer["status"] == "refused"
    assert world.states.executions == {}
    assert not any("/code/" in key for key in world.s3.objects)
    (comment,) = world.codecommit.texts()
    assert all(problem in comment for problem in answer["problems"])
    assert world.s3.json(f"{run_prefix(answer['commit'])}/dispatch.json") == answer
    return answer["problems"]


def pushed(world: World, name: str, **changes: str) -> dict:
    """Return the event ``name``, whose commit is a valid project with ``changes`` on top of one without."""
    an_event = event(name)
    world.codecommit.commit(PARENT, {"README.md": b"hello"})
    seen(world, PARENT)
    world.codecommit.commit(tip(an_event), project(**changes), PARENT)
    return an_event


def test_a_root_commit_starts_its_experiment(world):
    an_event = event("root_commit")
    commit = world.codecommit.commit(tip(an_event), project(train_args='["--C", 0.10]'))
    (answer,) = world.deliver(an_event)
    name = f"{REPOSITORY}-{commit[:12]}"
    assert answer == {
        "status": "started",
        "execution": name,
        "executionArn": f"{MACHINE.replace(':stateMachine:', ':execution:')}:{name}",
        "commit": commit,
        "ref": "refs/heads/main",
        "author": "Ada L.",
        "pusher": "alice",
        "problems": [],
        "skipped": [],
    }
    assert list(world.states.executions) == [name]
    (posted,) = world.codecommit.comments.values()
    assert "beforeCommitId" not in posted
    assert name in posted["content"]


def test_the_execution_input_holds_what_the_state_machine_reads(world):
    an_event = event("root_commit")
    commit = world.codecommit.commit(tip(an_event), project(train_args='["--C", 0.10]', train_code="lib/features.py"))
    world.deliver(an_event)
    (document,) = world.inputs()
    run = f"s3://{BUCKET}/{run_prefix(commit)}"
    train = document["train"]
    assert set(document) == {
        *("id", "comment", "repository", "commit", "ref", "author", "pusher", "run_uri", "pipeline"),
        *STEPS,
    }
    assert (document["run_uri"], document["ref"], document["author"]) == (run, "refs/heads/main", "Ada L.")
    assert document["pipeline"] == {"stateMachineArn": MACHINE, "input_data_uri": f"s3://{BUCKET}/{DATA}"}
    assert train["args"] == ["--C", "0.10"]
    assert train["code"] == f"{run}/code/"
    assert train["ContainerEntrypoint"] == ["python3", "/opt/ml/processing/input/code/lib/features.py"]
    assert train["output_data_uri"] == f"{run}/train/"
    assert document["predict"]["args"] == ["--log-level", "INFO"]


def test_the_whole_tree_of_the_commit_goes_to_the_run(world):
    an_event = event("root_commit")
    files = project() | {"data/a b.csv": b"1,2\n", "empty.txt": b"", "lib/deep/er/x.bin": bytes(range(256))}
    commit = world.codecommit.commit(tip(an_event), files)
    world.deliver(an_event)
    code = f"{run_prefix(commit)}/code/"
    assert {k.removeprefix(code): v for k, v in world.s3.objects.items() if k.startswith(code)} == files
    assert world.s3.objects[f"{run_prefix(commit)}/experiment.yml"] == files["experiment.yml"]


def test_links_submodules_and_names_that_keys_never_hold_are_listed_as_skipped(world):
    an_event = event("root_commit")
    links = {"latest.py": "symbolicLinks", "vendor/lib": "subModules"}
    files = project() | {"c++.md": b"x", "vendor/x.md": b"", "odd\\name": b"", "12:30.txt": b""}
    commit = world.codecommit.commit(tip(an_event), files, links=links)
    (answer,) = world.deliver(an_event)
    assert [entry.partition("'")[2].partition("'")[0] for entry in answer["skipped"]] == [
        *("12:30.txt", "c++.md", "latest.py", "odd\\name", "vendor/lib"),
    ]
    assert f"{run_prefix(commit)}/code/c++.md" not in world.s3.objects
    assert "'latest.py': it is a symbolic link" in world.codecommit.texts()[0]


def test_a_merge_commit_is_compared_with_its_first_parent(world):
    an_event = event("merge_commit")
    base = world.codecommit.commit(PARENT, {"README.md": b"hello"})
    seen(world, base)
    side = world.codecommit.commit(SIDE, project(), base)
    world.codecommit.commit(tip(an_event), project(comment="merged"), base, side)
    (answer,) = world.deliver(an_event)
    assert (answer["status"], answer["commit"]) == ("started", tip(an_event))
    assert [comment["beforeCommitId"] for comment in world.codecommit.comments.values()] == [base]


def test_a_push_that_deletes_experiment_yml_starts_nothing(world):
    an_event = event("delete_experiment")
    world.codecommit.commit(PARENT, project())
    seen(world, PARENT)
    files = {path: content for path, content in project().items() if path != "experiment.yml"}
    world.codecommit.commit(tip(an_event), files | {"train.py": b"changed"}, PARENT)
    assert world.deliver(an_event) == []
    assert world.codecommit.texts() == []
    assert f"dispatcher/{REPOSITORY}/seen/{tip(an_event)}" in world.s3.objects


@pytest.mark.parametrize("as_modification", [False, True])
def test_experiment_yml_renamed_away_is_refused_with_the_place_where_it_must_be(world, as_modification):
    an_event = event("rename_experiment")
    world.codecommit.renames_as_modification = as_modification
    files = project()
    world.codecommit.commit(PARENT, files)
    seen(world, PARENT)
    content = files.pop("experiment.yml")
    world.codecommit.commit(tip(an_event), files | {"conf/experiment.yml": content}, PARENT)
    assert refusal(world, an_event) == [
        "conf/experiment.yml: the file must be named experiment.yml and lie at the root of the repository"
    ]


@pytest.mark.parametrize("as_modification", [False, True])
def test_experiment_yml_renamed_to_its_place_runs(world, as_modification):
    an_event = event("rename_experiment")
    world.codecommit.renames_as_modification = as_modification
    files = project()
    content = files.pop("experiment.yml")
    world.codecommit.commit(PARENT, files | {"experiment.yaml": content})
    seen(world, PARENT)
    world.codecommit.commit(tip(an_event), files | {"experiment.yml": content}, PARENT)
    (answer,) = world.deliver(an_event)
    assert answer["status"] == "started"


def test_experiment_yml_is_found_among_300_changed_files(world):
    an_event = event("many_files")
    world.codecommit.commit(PARENT, {"README.md": b"hello"})
    seen(world, PARENT)
    many = {f"data/{number:03}.txt": b"%d" % number for number in range(300)}
    commit = world.codecommit.commit(tip(an_event), project() | many, PARENT)
    (answer,) = world.deliver(an_event)
    assert answer["status"] == "started"
    assert world.codecommit.calls.count("GetDifferences") == 4
    assert world.s3.objects[f"{run_prefix(commit)}/code/data/299.txt"] == b"299"


def test_two_references_in_one_event_are_both_answered(world):
    an_event = event("two_references")
    world.codecommit.commit(tip(an_event, 0), project(comment="main"))
    world.codecommit.commit(tip(an_event, 1), project(comment="feature"), tip(an_event, 0))
    assert [answer["commit"] for answer in world.deliver(an_event)] == [tip(an_event, 0), tip(an_event, 1)]
    assert [document["comment"] for document in world.inputs()] == ["main", "feature"]
    assert [document["ref"] for document in world.inputs()] == ["refs/heads/main", "refs/heads/feature/one"]


def test_an_event_delivered_twice_starts_and_comments_once(world):
    an_event = pushed(world, "delivered_twice")
    assert len(world.deliver(an_event)) == 1
    before = dict(world.s3.objects)
    assert world.deliver(an_event) == []
    assert (len(world.states.executions), len(world.codecommit.comments)) == (1, 1)
    assert world.s3.objects == before


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("PutObject", "SlowDown"),
        ("StartExecution", "AccessDeniedException"),
        ("GetBlob", "ThrottlingException"),
        ("PostCommentForComparedCommit", "EncryptionKeyUnavailableException"),
        ("HeadObject", "403"),
    ],
)
def test_an_error_of_aws_raises_and_the_retry_completes_the_answer(world, operation, code, closed):
    an_event = pushed(world, "delivered_twice")
    client = next(client for client in world if operation in client_operations(client))
    client.failures.append((operation, code))
    with pytest.raises(ClientError, match=code):
        world.deliver(an_event)
    assert f"dispatcher/{REPOSITORY}/seen/{tip(an_event)}" not in world.s3.objects
    world.states.closed = closed  # the execution may have ended before the retry
    (answer,) = world.deliver(an_event)
    assert answer["status"] == "started"
    assert (len(world.states.executions), len(world.codecommit.comments)) == (1, 1)


def client_operations(client) -> set[str]:
    names = {name.removeprefix("do_") for name in dir(client) if name.startswith("do_")}
    return {"".join(part.capitalize() for part in name.split("_")) for name in names}


def test_the_same_commit_reached_by_another_branch_is_not_run_again(world):
    an_event = pushed(world, "root_commit")
    world.deliver(an_event)
    an_event["Records"][0]["codecommit"]["references"][0]["ref"] = "refs/heads/other"
    world.s3.objects = {key: value for key, value in world.s3.objects.items() if "/seen/" not in key}
    assert world.deliver(an_event) == []
    assert len(world.states.executions) == 1


def test_an_experiment_in_an_earlier_commit_of_the_push_is_not_missed(world):
    an_event = event("root_commit")
    world.codecommit.commit(GRANDPARENT, project(comment="first"))
    world.codecommit.commit(PARENT, project(comment="second"), GRANDPARENT)
    world.codecommit.commit(tip(an_event), project(comment="second") | {"README.md": b"text"}, PARENT)
    world.deliver(an_event)
    assert [document["comment"] for document in world.inputs()] == ["first", "second"]
    assert [document["commit"] for document in world.inputs()] == [GRANDPARENT, PARENT]


def test_the_file_is_read_at_its_commit_and_not_at_the_tip(world):
    an_event = event("root_commit")
    world.codecommit.commit(PARENT, project(train_InstanceType="ml.m5.larg"))
    world.codecommit.commit(tip(an_event), project(), PARENT)
    assert [answer["status"] for answer in world.deliver(an_event)] == ["refused", "started"]


def test_a_push_of_changed_code_runs_the_tip(world):
    an_event = event("root_commit")
    world.codecommit.commit(PARENT, project())
    seen(world, PARENT)
    world.codecommit.commit(tip(an_event), project() | {"lib/features.py": b"COLUMNS = 10\n"}, PARENT)
    (answer,) = world.deliver(an_event)
    assert (answer["status"], answer["commit"]) == ("started", tip(an_event))


def test_code_without_an_experiment_yml_starts_nothing(world):
    an_event = event("root_commit")
    world.codecommit.commit(tip(an_event), {"a.py": b""})
    assert world.deliver(an_event) == []
    assert world.codecommit.texts() == []


def test_a_long_history_is_followed_for_twenty_commits(world):
    an_event = event("root_commit")
    ids = [f"{number + 100:02x}" * 20 for number in range(30)] + [tip(an_event)]
    for number, commit in enumerate(ids):
        world.codecommit.commit(commit, project(comment=str(number)), *ids[max(number - 1, 0) : number])
    world.deliver(an_event)
    assert [document["comment"] for document in world.inputs()] == [str(number) for number in range(11, 31)]


def test_a_deleted_branch_and_a_tag_start_nothing_and_call_nothing(world):
    assert world.deliver(event("branch_deletion")) == world.deliver(event("tag")) == []
    assert [*world.codecommit.calls, *world.s3.calls, *world.states.calls] == []


def test_a_comment_with_the_word_code_is_text_like_any_other(world):
    world.deliver(pushed(world, "comment_with_code", comment='"better code: new code/ for s3://code"'))
    assert [document["comment"] for document in world.inputs()] == ["better code: new code/ for s3://code"]


def test_numbers_are_kept_in_text_and_refused_where_names_are_meant(world):
    problems = refusal(
        world,
        pushed(
            world, "numbers_for_strings", comment="42", train_code="7", predict_ImageUri="1.2", evaluate_args="[1.50]"
        ),
    )
    assert [problem.split(": ", 1)[1] for problem in problems] == [
        "train.code: must be text, not a number: put it in quotes",
        "predict.ImageUri: must be text, not a number: put it in quotes",
    ]


def test_paths_that_leave_the_repository_are_refused(world):
    problems = refusal(world, pushed(world, "path_traversal", train_code="../../etc/evil.py", predict_code="/evil.py"))
    assert ["must be a path inside the repository" in problem for problem in problems] == [True, True]


def test_a_state_machine_of_another_prefix_is_refused(world):
    other = MACHINE.replace("demo-exp-", "payroll-")
    world.states.machines.add(other)
    (problem,) = refusal(world, pushed(world, "other_prefix", pipeline_stateMachineArn=other))
    assert "a push may start only state machines named demo-exp-…" in problem


def test_a_yaml_bomb_is_refused(world):
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))
    an_event = pushed(world, "yaml_bomb")
    world.codecommit.commit(tip(an_event), project() | {"experiment.yml": f"a0: &a0 lol\n{levels}\n".encode()}, PARENT)
    (problem,) = refusal(world, an_event)
    assert problem.startswith("experiment.yml:1: anchors and aliases")


def test_yaml_tags_are_refused(world):
    (problem,) = refusal(world, pushed(world, "yaml_tags", comment='!!python/object/apply:os.system ["id"]'))
    assert problem.startswith("experiment.yml:1: tags (")


def test_an_assumed_role_is_named_as_the_pusher(world):
    world.deliver(pushed(world, "assumed_role_pusher"))
    assert [document["pusher"] for document in world.inputs()] == ["demo-exp-notebook/bob@example.com"]


def test_a_state_machine_that_does_not_exist_is_refused_with_its_line(world):
    (answer,) = world.deliver(pushed(world, "root_commit", pipeline_stateMachineArn=f"{MACHINE}-2"))
    assert answer["problems"] == ["experiment.yml:3: pipeline.stateMachineArn: there is no such state machine"]


def test_misspelt_data_gets_a_suggestion_beside_the_other_problems(world):
    uri = f"s3://{BUCKET}/datasets/census-incom.csv"
    problems = refusal(world, pushed(world, "root_commit", pipeline_input_data_uri=uri, train_InstanceCount="0"))
    assert problems == [
        "experiment.yml:14: train.InstanceCount: must be from 1 to 100, not 0",
        f"experiment.yml:4: pipeline.input_data_uri: there is no object '{uri}'. Did you mean 's3://{BUCKET}/{DATA}'?",
    ]


MEGABYTE = 1024**2
TOO_LARGE = [
    ({"big.bin": bytes(20 * MEGABYTE + 1)}, "'big.bin': the file is larger than 20 MB"),
    (dict.fromkeys("abcdef", bytes(18 * MEGABYTE)), "'f': with this file the commit's files exceed 100 MB in all"),
    ({f"{number}.txt": b"" for number in range(1000)}, "the commit has more than 1,000 files"),
    ({f"{number}/a.txt": b"" for number in range(1000)}, "'lib': the commit has more than"),
]


@pytest.mark.parametrize(("files", "problem"), TOO_LARGE, ids=["file", "all files", "many files", "many folders"])
def test_a_tree_that_is_too_large_is_refused_with_a_name(world, files, problem):
    an_event = event("root_commit")
    world.codecommit.commit(tip(an_event), project() | files)
    (found,) = refusal(world, an_event)
    assert problem in found


def test_a_file_that_codecommit_does_not_hand_out_is_refused(world):
    an_event = pushed(world, "root_commit")
    world.codecommit.failures.append(("GetBlob", "FileTooLargeException"))
    (problem,) = refusal(world, an_event)
    assert "the file is larger than 20 MB" in problem


def test_an_experiment_yml_that_codecommit_does_not_hand_out_is_refused(world):
    an_event = pushed(world, "root_commit")
    world.codecommit.failures.append(("GetFile", "FileTooLargeException"))
    assert refusal(world, an_event) == ["experiment.yml: the file is far too large"]


def test_an_experiment_yml_that_is_a_link_is_refused(world):
    an_event = event("root_commit")
    world.codecommit.commit(tip(an_event), project(), links={"experiment.yml": "symbolicLinks"})
    assert refusal(world, an_event) == ["experiment.yml: it is a symbolic link: it must be a file"]


def test_an_execution_input_beyond_step_functions_limit_is_refused(world):
    an_event = pushed(world, "root_commit")
    world.codecommit.commits[tip(an_event)]["author"] = "ß" * 131_072  # two bytes each; git sets no limit
    (problem,) = refusal(world, an_event)
    assert "the execution's input exceeds 262,144 bytes" in problem


def test_a_comment_of_many_problems_fits_codecommits_limit(world):
    an_event = pushed(world, "root_commit")
    bad = "".join(f"{'key' * 25}{number}: 1\n" for number in range(200))
    world.codecommit.commit(tip(an_event), project() | {"experiment.yml": bad.encode()}, PARENT)
    (answer,) = world.deliver(an_event)
    (comment,) = world.codecommit.texts()
    assert len(answer["problems"]) == 101
    assert len(comment) <= 10_240
    assert f"more, in s3://{BUCKET}/{run_prefix(tip(an_event))}/dispatch.json" in comment


def test_each_decision_is_one_line_of_json(world, capsys):
    world.deliver(pushed(world, "root_commit"))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["decision"] for line in lines] == ["started", "seen"]
    assert {line["repository"] for line in lines} == {REPOSITORY}


def test_the_handler_answers_an_event(monkeypatch):
    for name, value in {"BUCKET": BUCKET, "PREFIX": "demo-exp", "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    context = SimpleNamespace(invoked_function_arn=FUNCTION_ARN)
    assert dispatcher.lambda_handler(event("branch_deletion"), context) == {"answers": []}


def test_an_unknown_error_while_looking_for_a_key_is_not_taken_for_absence(world):
    def forbidden(**_: str) -> None:
        raise error("HeadObject", "403")

    with pytest.raises(ClientError, match="403"):
        bucket.exists(SimpleNamespace(head_object=forbidden), BUCKET, "key")
