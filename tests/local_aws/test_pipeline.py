"""The whole pipeline: stock git pushes, the deployed dispatcher answers, the state machine runs the jobs."""

import json
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from clients import eventually, family, sockets
from test_git import Git
from workshop import Workshop

from helpers.local_aws import control

CODE = control.PROJECT / "code"
FINAL = ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")


class Scientist:
    """A clone of the repository, and what its owner sees of a push."""

    def __init__(self, workshop: Workshop, folder: Path) -> None:
        self.workshop, self.folder = workshop, folder / "clone"
        self.git_as = Git({**workshop.embedded.environment(), **workshop.variables}, folder)
        self.s3 = workshop.embedded.client("s3")
        self.states = workshop.embedded.client("stepfunctions")
        self.codecommit = workshop.embedded.client("codecommit")
        self.git_as("clone", "-q", self.address, str(self.folder))

    @property
    def address(self) -> str:
        found = self.workshop.client("codecommit").get_repository(repositoryName=self.workshop.repository)
        return found["repositoryMetadata"]["cloneUrlHttp"]

    def git(self, *arguments: str) -> str:
        return self.git_as(*arguments, cwd=self.folder).strip()

    def commit(self, **files: str | None) -> str:
        """Commit ``files`` (``__`` is a dot, None deletes; experiment is experiment.yml). Returns the commit's id."""
        for name, text in files.items():
            path = self.folder / name.replace("__", ".")
            if text is None:
                path.unlink()
            else:
                path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", f"change {uuid.uuid4().hex}")
        return self.git("rev-parse", "HEAD")

    def push(self, *references: str) -> None:
        self.git("push", "-q", "origin", *(references or ("HEAD:main",)))

    def experiment(self, comment: str, **changes: Any) -> str:
        """Return an experiment.yml with a comment, and with ``changes`` to the train step."""
        document = yaml.safe_load((CODE / "experiment.yml").read_text())
        document["comment"] = comment
        document["pipeline"]["stateMachineArn"] = self.workshop.machine_arn
        document["train"].update(changes)
        return yaml.safe_dump(document)

    def read(self, key: str) -> bytes | None:
        try:
            return self.s3.get_object(Bucket=self.workshop.bucket, Key=key)["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return None

    def run(self, commit: str) -> str:
        return f"runs/{self.workshop.repository}/{commit}"

    def answer(self, commit: str) -> dict[str, Any]:
        return json.loads(eventually(lambda: self.read(f"{self.run(commit)}/dispatch.json")))

    def is_unanswered(self, commit: str) -> bool:
        """Wait until the dispatcher has dealt with a commit. Returns whether it said nothing."""
        eventually(lambda: self.read(f"dispatcher/{self.workshop.repository}/seen/{commit}") is not None)
        return self.read(f"{self.run(commit)}/dispatch.json") is None

    def comments(self, commit: str) -> list[str]:
        name = {"repositoryName": self.workshop.repository}
        parents = self.codecommit.get_commit(**name, commitId=commit)["commit"]["parents"]
        between = {"beforeCommitId": parents[0]} if parents else {}
        found = self.codecommit.get_comments_for_compared_commit(**name, **between, afterCommitId=commit)
        return [one["content"] for data in found["commentsForComparedCommitData"] for one in data["comments"]]

    def ended(self, execution: str) -> dict[str, Any]:
        def final() -> dict[str, Any] | None:
            found = self.states.describe_execution(executionArn=execution)
            return found if found["status"] in FINAL else None

        return eventually(final, 600)

    def end(self, answer: dict[str, Any]) -> None:
        """Stop a run that only had to start, unless it has ended by itself meanwhile."""
        with suppress(self.states.exceptions.ValidationException):
            self.states.stop_execution(executionArn=answer["executionArn"])

    def event(self, commit: str, ref: str, **more: Any) -> bytes:
        arn = self.workshop.names()["repository"]["Arn"]
        record = {
            "eventSourceARN": arn,
            "eventName": "ReferenceChanges",
            "userIdentityARN": "arn:aws:iam::123456789012:user/ana",
            "codecommit": {"references": [{"commit": commit, "ref": ref, **more}]},
        }
        return json.dumps({"Records": [record]}).encode()

    def invoke(self, event: bytes) -> Any:
        client = self.workshop.embedded.client("lambda")
        done = client.invoke(FunctionName=self.workshop.dispatcher, Payload=event)
        assert "FunctionError" not in done, done["Payload"].read()
        return json.loads(done["Payload"].read())


def peers(server: int) -> set[str]:
    """Return the addresses, as /proc writes them, to which the server's processes are connected or bound."""
    inodes = set()
    for pid in family(server):
        inodes |= sockets(pid)
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        lines = [line.split() for line in Path(f"/proc/{server}/net/{table}").read_text().splitlines()[1:]]
        ends = {end.partition(":")[0] for line in lines if line[9] in inodes for end in line[1:3]}
        found |= {end for end in ends if end.strip("0")}
    return found


@pytest.fixture(scope="module")
def first(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> tuple[Scientist, str]:
    """Push the repository's first commit: the four scripts and their experiment.yml."""
    scientist = Scientist(workshop, tmp_path_factory.mktemp("first"))
    for source in [*CODE.glob("*.py"), *CODE.glob("*.txt")]:
        shutil.copy(source, scientist.folder)
    commit = scientist.commit(experiment__yml=scientist.experiment("the first code"))
    scientist.push()
    return scientist, commit


@pytest.fixture
def scientist(first: Any, workshop: Workshop, tmp_path: Path) -> Scientist:
    first[0].answer(first[1])  # the repository is not empty any more
    return Scientist(workshop, tmp_path)


def test_the_first_push_runs_an_experiment_to_its_metrics(first: tuple[Scientist, str]) -> None:
    scientist, commit = first
    answer = scientist.answer(commit)
    assert (answer["status"], answer["problems"]) == ("started", [])
    execution = scientist.ended(answer["executionArn"])
    assert execution["status"] == "SUCCEEDED", execution.get("cause")
    metrics = json.loads(scientist.read(f"{scientist.run(commit)}/evaluate/metrics.json") or b"")
    assert 0.5 < metrics["roc_auc"] <= 1
    for key in ("experiment.yml", "code/train.py", "code/experiment.yml"):
        assert scientist.read(f"{scientist.run(commit)}/{key}"), key
    document = json.loads(execution["input"])
    assert (document["commit"], document["ref"], document["author"]) == (commit, "refs/heads/main", "Ana")
    assert document["pusher"] == "AmazonSageMaker-ExecutionRole-workshop/SageMaker"
    assert document["comment"] == "the first code"
    [comment] = scientist.comments(commit)
    assert f"Experiment started: {answer['execution']}" in comment


def test_a_push_of_code_alone_runs_it_again_with_the_pushed_files(scientist: Scientist) -> None:
    broken = (scientist.folder / "preprocess.py").read_text() + "\nraise SystemExit('broken on purpose')\n"
    broken = broken.replace('if __name__ == "__main__"', "if False")
    commit = scientist.commit(preprocess__py=broken)
    scientist.push()
    answer = scientist.answer(commit)
    scientist.commit(preprocess__py=(CODE / "preprocess.py").read_text())
    execution = scientist.ended(answer["executionArn"])
    assert (execution["status"], execution["error"]) == ("FAILED", "States.TaskFailed")
    assert json.loads(execution["cause"])["ProcessingJobName"] == f"{answer['execution']}-preprocess-0"
    scientist.push()
    scientist.end(scientist.answer(scientist.git("rev-parse", "HEAD")))


def test_a_run_talks_to_this_machine_only(scientist: Scientist) -> None:
    done, seen = threading.Event(), set[str]()

    def watch() -> None:
        while not done.wait(0.05):
            seen.update(peers(scientist.workshop.embedded.server.pid))

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    commit = scientist.commit(experiment__yml=scientist.experiment("watched"))
    scientist.push()
    status = scientist.ended(scientist.answer(commit)["executionArn"])["status"]
    done.set()
    watching.join()
    assert status == "SUCCEEDED"
    assert seen == {"0100007F"}  # 127.0.0.1


def test_a_merge_is_one_experiment(scientist: Scientist) -> None:
    scientist.git("checkout", "-q", "-b", f"topic-{uuid.uuid4().hex[:6]}")
    topic = scientist.commit(experiment__yml=scientist.experiment("from a topic"))
    scientist.git("checkout", "-q", "main")
    scientist.commit(**{f"note-{uuid.uuid4().hex}__md": "on main"})
    scientist.git("merge", "-q", "--no-ff", "-m", "merge", topic)
    commit = scientist.git("rev-parse", "HEAD")
    scientist.push()
    answer = scientist.answer(commit)
    scientist.end(answer)
    assert answer["status"] == "started"
    assert scientist.read(f"{scientist.run(topic)}/dispatch.json") is None


def test_taking_experiment_yml_away_starts_nothing(scientist: Scientist) -> None:
    commit = scientist.commit(experiment__yml=None)
    scientist.push()
    assert scientist.is_unanswered(commit)
    back = scientist.commit(experiment__yml=scientist.experiment("back again"))
    scientist.push()
    scientist.end(scientist.answer(back))


def test_experiment_yml_under_another_name_is_answered_with_its_place(scientist: Scientist) -> None:
    (scientist.folder / "settings").mkdir()
    scientist.git("mv", "experiment.yml", "settings/experiment.yml")
    commit = scientist.commit()
    scientist.push()
    answer = scientist.answer(commit)
    assert (answer["status"], len(answer["problems"])) == ("refused", 1)
    assert "settings/experiment.yml: the file must be named experiment.yml" in answer["problems"][0]
    scientist.git("mv", "settings/experiment.yml", "experiment.yml")
    back = scientist.commit()
    scientist.push()
    scientist.end(scientist.answer(back))


def test_three_hundred_changed_files_are_all_copied(scientist: Scientist) -> None:
    name = f"many{uuid.uuid4().hex[:6]}"
    (scientist.folder / name).mkdir()
    for number in range(300):
        (scientist.folder / name / f"part {number:03} é.txt").write_text(str(number))
    commit = scientist.commit(experiment__yml=scientist.experiment(name))
    scientist.push()
    answer = scientist.answer(commit)
    scientist.end(answer)
    assert answer["status"] == "started"
    prefix = f"{scientist.run(commit)}/code/{name}/"
    assert scientist.s3.list_objects_v2(Bucket=scientist.workshop.bucket, Prefix=prefix)["KeyCount"] == 300
    assert scientist.read(f"{prefix}part 123 é.txt") == b"123"
    shutil.rmtree(scientist.folder / name)
    scientist.commit()
    scientist.push()


@pytest.fixture
def every_branch(scientist: Scientist) -> Iterator[None]:
    """Let the trigger fire for every branch, and for deletions."""
    name = {"repositoryName": scientist.workshop.repository}
    [before] = scientist.codecommit.get_repository_triggers(**name)["triggers"]
    wider = {**before, "branches": [], "events": ["all"]}
    scientist.codecommit.put_repository_triggers(**name, triggers=[wider])
    yield
    scientist.codecommit.put_repository_triggers(**name, triggers=[before])


@pytest.mark.usefixtures("every_branch")
def test_each_branch_of_one_push_is_answered_and_a_deleted_one_is_not(scientist: Scientist) -> None:
    branch = f"side-{uuid.uuid4().hex[:6]}"
    on_main = scientist.commit(experiment__yml=scientist.experiment("on main"))
    scientist.git("checkout", "-q", "-b", branch)
    on_branch = scientist.commit(experiment__yml=scientist.experiment("on the side", args=["--C", "0.5"]))
    scientist.push("main", branch)
    answers = [scientist.answer(commit) for commit in (on_main, on_branch)]
    for answer in answers:
        scientist.end(answer)
    assert [answer["status"] for answer in answers] == ["started", "started"]
    assert answers[0]["execution"] != answers[1]["execution"]
    scientist.push(f":{branch}")
    deleted = scientist.event(on_branch, f"refs/heads/{branch}", deleted=True)
    assert scientist.invoke(deleted) == {"answers": []}


def test_an_event_that_comes_twice_starts_one_run_and_leaves_one_comment(scientist: Scientist) -> None:
    branch = f"twice-{uuid.uuid4().hex[:6]}"  # no trigger fires for it
    commit = scientist.commit(experiment__yml=scientist.experiment("twice"))
    scientist.push(f"HEAD:{branch}")
    event = scientist.event(commit, f"refs/heads/{branch}")
    together = [threading.Thread(target=scientist.invoke, args=(event,)) for _ in range(2)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    answer = scientist.answer(commit)
    assert scientist.invoke(event) == {"answers": []}
    scientist.end(answer)
    assert answer["status"] == "started"
    found = scientist.states.list_executions(stateMachineArn=scientist.workshop.machine_arn)["executions"]
    assert [run["name"] for run in found].count(answer["execution"]) == 1
    assert len(scientist.comments(commit)) == 1


def test_everything_that_is_wrong_is_said_at_once(scientist: Scientist) -> None:
    document = yaml.safe_load(scientist.experiment("this code has the word code in it: code"))
    document["pipeline"]["stateMachineArn"] = scientist.workshop.machine_arn.replace("demo-exp", "other")
    document["preprocess"]["code"] = "../../etc/passwd.py"
    document["train"] |= {"InstanceCount": "1", "args": ["--C", 0.10], "InstanceTyp": "ml.t3.medium"}
    document["predict"]["code"] = 5
    commit = scientist.commit(experiment__yml=yaml.safe_dump(document))
    scientist.push()
    answer = scientist.answer(commit)
    assert (answer["status"], answer["execution"]) == ("refused", None)
    told = "\n".join(answer["problems"])
    for place, words in (
        ("pipeline.stateMachineArn", "may start only state machines named demo-exp-"),
        ("preprocess.code", "without '..'"),
        ("train.InstanceCount", "must be a whole number"),
        ("train", "unknown key 'InstanceTyp'. Did you mean 'InstanceType'?"),
        ("predict.code", "must be text, not a number"),
    ):
        assert any(place in line and words in line for line in answer["problems"]), told
    assert "comment" not in told
    assert "args" not in told
    [comment] = scientist.comments(commit)
    assert "Experiment not started" in comment
    assert all(line in comment for line in answer["problems"])
    assert scientist.read(f"{scientist.run(commit)}/code/train.py") is None


@pytest.mark.parametrize(("text", "words"), [
    ("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", "anchors and aliases"),
    ("comment: !!python/object/apply:os.system ['true']\n", "tags"),
    ("[" * 5000, "nested more than"),
    ("comment: [\n", "not valid YAML"),
])  # fmt: skip
def test_a_file_made_to_do_harm_is_refused(scientist: Scientist, text: str, words: str) -> None:
    commit = scientist.commit(experiment__yml=text)
    scientist.push()
    answer = scientist.answer(commit)
    assert (answer["status"], len(answer["problems"])) == ("refused", 1)
    assert words in answer["problems"][0]


def test_the_dispatcher_tells_what_it_decided_in_its_log(first: tuple[Scientist, str]) -> None:
    scientist, commit = first
    scientist.answer(commit)
    group = f"/aws/lambda/{scientist.workshop.dispatcher}"

    def decisions() -> set[str]:
        events = scientist.workshop.embedded.client("logs").filter_log_events(logGroupName=group)["events"]
        lines = [event["message"] for event in events if event["message"].startswith("{")]
        return {entry["decision"] for entry in map(json.loads, lines) if entry.get("commit") in (commit, None)}

    eventually(lambda: {"started", "seen"} <= decisions())
