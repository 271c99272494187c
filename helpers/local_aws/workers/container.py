"""One container: a program with the files of its image, a network of its own, credentials on request, and a log.

The message at the end has ``code`` (None: it never ran), ``stopped`` (see
``host.Outcome``), ``lost`` (its processes were killed), and ``log_problem``.
"""

from typing import Any

from helpers.local_aws.workers import entrypoint, processes, requests
from helpers.local_aws.workers.copies import ROOT
from helpers.local_aws.workers.host import Host, Program, lay_over
from helpers.local_aws.workers.isolation import Address
from helpers.local_aws.workers.joblog import JobLog

CREDENTIALS: Address = ("169.254.170.2", 80)  # where ECS answers


def run(task: dict[str, Any], host: Host) -> dict[str, Any]:
    """Run a container; return the members of the last message."""
    processes.rename("aws-container")
    return _Container(task, host).run()


class _Container:
    def __init__(self, task: dict[str, Any], host: Host) -> None:
        self._task, self._host = task, host
        self._alone = host.isolated and task["own_network"]
        self._log: JobLog | None = None

    def run(self) -> dict[str, Any]:
        """Do everything; return how it ended. Raises OSError when it cannot begin."""
        host, task = self._host, self._task
        end: dict[str, Any] = {"code": None, "stopped": "", "lost": False, "log_problem": ""}
        if task["log"]:
            try:
                self._log = self._open_log()
            except (requests.Refusal, OSError) as error:
                return end | {"log_problem": str(error)}
        self._say_what_differs()
        program = self._enter()
        if self._log:
            host.chores.append(self._log.tick)
        host.start(program, self._take)
        processes.allow_files()
        host.channel.send({"event": "started"})
        outcome = host.wait(seconds=task["timeout"], grace=task["grace"], first=True)
        if self._log:
            self._log.finish()
        problem = self._log.problem if self._log else ""
        lost = host.lost and not outcome.stopped
        return end | {"code": outcome.code, "stopped": outcome.stopped, "lost": lost, "log_problem": problem}

    def _open_log(self) -> JobLog:
        """Make the log stream, before anything runs. Raises Refusal, or OSError."""
        task, wanted = self._task, self._task["log"]
        signer = requests.Signer(task["endpoint_url"], task["region"], wanted["credentials"])
        log = JobLog(requests.Logs(requests.Client(self._host.channel, signer)), wanted["stream"], wanted["group"])
        log.open(create_group=wanted["create_group"])
        return log

    def _take(self, data: bytes) -> None:
        if self._log:
            self._log.feed(data)

    def _say_what_differs(self) -> None:
        if not self._host.isolated:
            root = self._host.root.parent / ROOT
            self._take(
                f"This platform cannot isolate containers: / is {root}, and the network this machine's.\n".encode()
            )

    def _enter(self) -> Program:
        """Go to the container's own place; return what runs there. Raises OSError."""
        host, task = self._host, self._task
        if self._alone:
            host.enter(only=(CREDENTIALS, task["endpoint_url"]))
        elif host.isolated:
            host.enter()
        environment = host.environment(task["endpoint_url"]) | self._addresses()
        environment |= {"AWS_REGION": task["region"], "AWS_DEFAULT_REGION": task["region"]}
        folder = host.working_directory(task["working_directory"])
        given = task["environment"]
        program = Program(task["argv"], lay_over(environment, given), folder, given, boto3=True)
        if problem := entrypoint.unstartable(program.argv, program.environment, folder):
            raise OSError(problem)
        return program

    def _addresses(self) -> dict[str, str]:
        """Return the variables that lead to credentials and to metadata, as far as there are any."""
        task, variables = self._task, {}
        if self._alone:
            base = f"http://{CREDENTIALS[0]}"
            if task["credentials_path"]:
                variables["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = task["credentials_path"]
        else:
            # Anybody who uses the machine's network can connect there, hence the secrets.
            host, port = self._host.listen(task["below"])
            base = f"http://{host}:{port}{task['below']}"
            variables["AWS_EC2_METADATA_DISABLED"] = "true"  # this machine may itself be an instance
            if task["credentials_path"]:
                variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = base + task["credentials_path"]
                variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = task["token"]
        if task["metadata_path"]:
            variables["ECS_CONTAINER_METADATA_URI_V4"] = base + task["metadata_path"]
        return variables
