"""Start or refuse the experiment of one commit."""

import json
import re
import tempfile
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from answers import Answer, refused, started
from botocore.exceptions import ClientError
from bucket import complete, keep, keep_first, read_data, to_json
from planning import plan as plans
from planning.costs import Estimate, dollars, estimate
from planning.experiment import CODE_ROOT, STEP_KEYS, STEPS, Experiment, Place, plan_only, read_experiment
from planning.plan import MAX_INPUT_BYTES, Document, Run
from planning.yaml_nodes import FILE_NAME, UnreadableError
from pushes import Push
from repository import Commit, Tree, download, error_code
from services import POOL, Clients


@dataclass(frozen=True)
class Ahead:
    """What is read of a commit before it is known to be an experiment."""

    answered: "Future[bool]"  # whether the commit has its answer already
    content: "Future[bytes | None]"  # of experiment.yml
    tree: "Future[Tree]"


class _RefusedError(Exception):
    """The experiment cannot run; ``problems`` say why."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(*problems)
        self.problems = problems


class Attempt:
    """One commit's experiment on its way to an execution."""

    def __init__(self, push: Push, commit: Commit, place: Place, aws: Clients, ahead: Ahead) -> None:
        self.push, self.commit, self.place, self.aws, self.ahead = push, commit, place, aws, ahead
        self.name = execution_name(push.repository, commit.id)
        self.run_key = f"runs/{push.repository}/{commit.id}"
        self.run_uri = f"s3://{place.bucket}/{self.run_key}"
        self.tree = Tree()

    def run(self) -> Answer | None:
        """Start the experiment or refuse it; None when the commit has no experiment.yml."""
        try:
            content = self.ahead.content.result()
            return None if content is None else self._start(content)
        except UnreadableError as error:
            return self.refuse([str(error)])
        except _RefusedError as refusal:
            return self.refuse(refusal.problems)

    def refuse(self, problems: list[str]) -> Answer:
        """Return the answer that names ``problems``."""
        return refused(self.push, self.commit, problems, self.tree)

    def _start(self, content: bytes) -> Answer:
        self.tree = self.ahead.tree.result()
        if FILE_NAME in self.tree.skipped:
            raise _RefusedError([f"{FILE_NAME}: {self.tree.skipped[FILE_NAME]}: it must be a file"])
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            blobs = {} if self.tree.problems else self._other_files()
            fetching = POOL.submit(download, self.aws.codecommit, self.push.repository, blobs, folder)
            experiment = read_experiment(content, self.tree.files, self.tree.skipped, self.place)
            takes_plan = POOL.submit(self._takes_plan, experiment)
            data = POOL.submit(read_data, experiment, self.aws.s3, self.place.bucket)
            too_large = fetching.result()
            problems = [*experiment.problems, *data.result()[1], *self.tree.problems, *too_large]
            planned, missing = takes_plan.result()
            problems += missing
            if planned is False:
                problems += plan_only(experiment)
            if problems:
                raise _RefusedError(problems)
            if planned:
                document, execution_input = self._plan(experiment, data.result()[0], content, folder)
            else:
                document, execution_input = None, self._input(experiment)
                self._upload(content, folder)
        machine = experiment.values["pipeline"]["stateMachineArn"]
        self._start_execution(experiment, machine, execution_input)
        arn = f"{machine.replace(':stateMachine:', ':execution:')}:{self.name}"
        return started(self.push, self.commit, self.tree, self.name, arn, document)

    def _other_files(self) -> dict[str, str]:
        """Return the files of the commit besides experiment.yml, which has been read: path to blob."""
        return {path: blob for path, blob in self.tree.files.items() if path != FILE_NAME}

    def _takes_plan(self, experiment: Experiment) -> tuple[bool | None, list[str]]:
        """Tell whether the state machine is tagged to take a plan; or return the problem that there is none."""
        machine = (experiment.values.get("pipeline") or {}).get("stateMachineArn")
        if not machine:
            return None, []  # the file's own problem, already noted
        try:
            tags = self.aws.states.list_tags_for_resource(resourceArn=machine)["tags"]
        except ClientError as error:
            if error_code(error) not in ("ResourceNotFound", "StateMachineDoesNotExist"):
                raise
            return None, [_no_machine(experiment)]
        return {"key": "input", "value": "plan"} in tags, []

    def _input(self, experiment: Experiment) -> str:
        """Return the input of an execution that gets the experiment itself."""
        steps = {step: [experiment.values[step]] for step in STEPS}
        if experiment.values["budget"] is not None:
            self._check_budget(experiment, estimate(steps, region=self.place.region, kind="simple"))
        text = make_input(self.push, self.commit, experiment, self.run_uri)
        if len(text.encode()) > MAX_INPUT_BYTES:
            raise _RefusedError([_too_long()])
        return text

    def _plan(self, experiment: Experiment, data: plans.Data, content: bytes, folder: Path) -> tuple[Document, str]:
        """Make the plan and keep it with all that its jobs read; return it and the input of its execution."""
        s3, bucket, values = self.aws.s3, self.place.bucket, experiment.values
        run = Run(
            id=self.name,
            comment=values["comment"],
            repository=self.push.repository,
            commit=self.commit.id,
            ref=self.push.ref,
            author=self.commit.author,
            pusher=self.push.pusher,
            bucket=bucket,
            prefix=self.place.prefix,
        )
        numbered = enumerate(self._other_files())
        sources = {path: (folder / str(n)).read_bytes() for n, path in numbered if path.endswith(".py")}
        covered, problems = plans.cover(values, self.tree.files, sources)
        if problems:
            raise _RefusedError(problems)
        draft = plans.draft(values, self.tree.files, covered, data, run)
        document = draft.complete(complete(s3, bucket, draft.markers(), POOL))
        prediction = estimate(plans.to_run(document), region=self.place.region)
        if values["budget"] is not None:
            self._check_budget(experiment, prediction)
        document["estimate"] = prediction.as_dict()
        try:
            plans.start(document)
        except ValueError:
            raise _RefusedError([_too_long()]) from None
        self._upload(content, folder, plans.manifests(run, covered))
        # A repeated event may find other jobs complete: the plan that was kept first counts.
        document = keep_first(s3, bucket, f"{self.run_key}/plan.json", document)
        start = plans.start(document)
        keep(s3, bucket, ((key, to_json(items)) for key, items in start.files.items()), POOL)
        return document, start.input

    def _check_budget(self, experiment: Experiment, prediction: Estimate) -> None:
        budget = experiment.values["budget"]
        if prediction.usd <= budget:  # false as well when the price is not known
            return
        reason = f"the run is estimated at {dollars(prediction.usd)}, the budget is {dollars(budget)}"
        raise _RefusedError([experiment.problem("budget", "; ".join([reason, *prediction.notes]))])

    def _upload(self, content: bytes, folder: Path, manifests: dict[str, list[Any]] | None = None) -> None:
        """Copy the repository's tree to the run, with experiment.yml as it was pushed beside it."""
        code = f"{self.run_key}/code"
        objects = [(f"{self.run_key}/{FILE_NAME}", content), (f"{code}/{FILE_NAME}", content)]
        objects += [(key, to_json(manifest)) for key, manifest in (manifests or {}).items()]
        files = ((f"{code}/{path}", folder / str(number)) for number, path in enumerate(self._other_files()))
        keep(self.aws.s3, self.place.bucket, [*objects, *files], POOL)

    def _start_execution(self, experiment: Experiment, machine: str, execution_input: str) -> None:
        try:
            self.aws.states.start_execution(stateMachineArn=machine, name=self.name, input=execution_input)
        except ClientError as error:
            if error_code(error) in ("StateMachineDoesNotExist", "StateMachineDeleting"):
                raise _RefusedError([_no_machine(experiment)]) from None
            if error_code(error) != "ExecutionAlreadyExists":  # an earlier delivery of the event started it
                raise


def execution_name(repository: str, commit_id: str) -> str:
    """Return the name of a commit's execution; with a step's name and a number it still fits a processing job."""
    return f"{re.sub('[^A-Za-z0-9-]', '-', repository)[:32].strip('-') or 'run'}-{commit_id[:12]}"


def make_input(push: Push, commit: Commit, experiment: Experiment, run_uri: str) -> str:
    """Return the JSON input of an execution: the experiment, completed by what its author need not know."""
    steps = {
        step: {
            **{name: experiment.values[step][name] for name in (*STEP_KEYS, "args")},
            "code": f"{run_uri}/code/",
            "ContainerEntrypoint": ["python3", f"{CODE_ROOT}/{experiment.values[step]['code']}"],
            "output_data_uri": f"{run_uri}/{step}/",
        }
        for step in STEPS
    }
    document = {
        "id": execution_name(push.repository, commit.id),
        "comment": experiment.values["comment"],
        "repository": push.repository,
        "commit": commit.id,
        "ref": push.ref,
        "author": commit.author,
        "pusher": push.pusher,
        "run_uri": run_uri,
        "pipeline": experiment.values["pipeline"],
        **steps,
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _no_machine(experiment: Experiment) -> str:
    return experiment.problem("pipeline.stateMachineArn", "there is no such state machine")


def _too_long() -> str:
    return f"{FILE_NAME}: with it the execution's input exceeds {MAX_INPUT_BYTES:,} bytes: shorten it"
