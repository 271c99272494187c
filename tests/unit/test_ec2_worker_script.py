"""What runs on an instance: the script and the worker, against services that a small web server plays."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from ec2_worker import EXECUTION, FOLDER, launch, worker

PROJECT = FOLDER.parents[1]
JOB = {
    "bucket": "bucket",
    "source": "d/u/",
    "results": "results/d/u/",
    "data": ["data.csv"],
    "target": "income",
    "stall_seconds": 0,
    "table": "units",
    "unit": "d/u",
    "execution": EXECUTION,
    "heartbeat_seconds": 0,
}


def sample(rows: int = 2000) -> str:
    """Return some numeric columns of the committed sample, with the income as the target."""
    names = ["age", "wage per hour", "capital gains", "weeks worked in year", "income"]
    with open(PROJECT / "dataset" / "sample.csv", newline="") as file:
        found = [[row[name].strip() for name in names] for row in csv.DictReader(file)][:rows]
    text = io.StringIO()
    csv.writer(text).writerows([names, *found])
    return text.getvalue()


class Services:
    """S3, DynamoDB and the instance metadata service, as far as an instance asks them."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.updates: list[dict[str, Any]] = []
        self.refused = 0  # updates whose condition does not hold, before they do
        services = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path.startswith("/latest/"):
                    assert self.headers["X-aws-ec2-metadata-token"] == "token"
                    answers = {"instance-id": b"i-1", "region": b"eu-west-1"}
                    return self.reply(200, answers[self.path.rpartition("/")[2]])
                body = services.objects.get(self.path)
                return self.reply(404, b"") if body is None else self.reply(200, body)

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                if self.path == "/latest/api/token":
                    return self.reply(200, b"token")
                services.objects[self.path] = body
                return self.reply(200, b"")

            def do_POST(self) -> None:
                update = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.headers["X-Amz-Target"].endswith(".UpdateItem")
                assert "/eu-west-1/dynamodb/" in self.headers["Authorization"]
                if services.refused:
                    services.refused -= 1
                    return self.reply(400, b'{"__type": "ConditionalCheckFailedException"}')
                services.updates.append(update)
                return self.reply(200, b"{}")

            def reply(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", '"e"')
                self.send_header("Last-Modified", "Sun, 22 Nov 2026 12:00:00 GMT")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def statuses(self) -> list[str]:
        """Return the statuses that were set."""
        values = [update["ExpressionAttributeValues"] for update in self.updates]
        found = [each.get(":JobStatus", each.get(":failed")) for each in values]
        return [each["S"] for each in found if each]

    def reason(self) -> str:
        """Return the reason of the last update."""
        values = self.updates[-1]["ExpressionAttributeValues"]
        return values.get(":Reason", values.get(":reason"))["S"]


@pytest.fixture
def services() -> Iterator[Services]:
    made = Services()
    made.objects["/bucket/d/u/data.csv"] = sample().encode()
    yield made
    made.server.shutdown()
    made.server.server_close()


def run(services: Services, tmp_path: Path, script: str = "", **job: Any) -> subprocess.CompletedProcess:
    """Run the user data as cloud-init does, with this Python and the services' address in the environment."""
    file = tmp_path / "user-data"
    file.write_text(script or launch.user_data(JOB | job))
    file.chmod(0o700)
    (tmp_path / "tmp").mkdir(exist_ok=True)
    environment = {
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path / "tmp"),
        "AWS_ENDPOINT_URL": services.url,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": services.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    done = subprocess.run([file], env=environment, cwd="/", capture_output=True, text=True, timeout=300, check=False)
    assert not list((tmp_path / "tmp").glob("tmp.*")), "the script left something behind"
    return done


def test_a_unit_is_learned_and_its_results_are_written(services: Services, tmp_path: Path) -> None:
    done = run(services, tmp_path)
    assert (done.returncode, services.statuses()) == (0, ["WorkerRunning", "WorkerFinished"]), done.stdout + done.stderr
    metrics = json.loads(services.objects["/bucket/results/d/u/metrics.json"])
    assert metrics["rows"] == 2000
    assert 0.7 < metrics["roc_auc"] < 1
    told = services.updates[-1]["ExpressionAttributeValues"]
    assert told[":Results"] == {"S": "s3://bucket/results/d/u/"}
    assert {name: float(value["N"]) for name, value in told[":Metrics"]["M"].items()} == metrics
    (tmp_path / "model.joblib").write_bytes(services.objects["/bucket/results/d/u/model.joblib"])
    model = joblib.load(tmp_path / "model.joblib")
    assert model["columns"] == ["age", "wage per hour", "capital gains", "weeks worked in year"]
    assert set(model["model"].predict(np.array([[30, 0, 0, 0], [50, 0, 99999, 52]]))) <= {"- 50000.", "50000+."}


def test_every_update_asks_for_the_instance_the_execution_and_a_status_that_is_not_final(
    services: Services, tmp_path: Path
) -> None:
    run(services, tmp_path)
    assert len(services.updates) > 4  # heartbeats between
    for update in services.updates:
        assert update["ConditionExpression"] == "InstanceId = :me AND Execution = :execution AND JobStatus IN (:a, :b)"
        values = update["ExpressionAttributeValues"]
        assert (values[":me"], values[":execution"]) == ({"S": "i-1"}, {"S": EXECUTION})
        assert (values[":a"], values[":b"]) == ({"S": "WorkerStarting"}, {"S": "WorkerRunning"})


def test_a_worker_waits_until_the_record_names_it(services: Services, tmp_path: Path) -> None:
    services.refused = 2
    run(services, tmp_path)
    assert services.statuses() == ["WorkerRunning", "WorkerFinished"]


def test_a_worker_whose_unit_was_settled_meanwhile_stops_without_a_word(services: Services, tmp_path: Path) -> None:
    class Settled(list):
        def append(self, update: Any) -> None:
            super().append(update)
            services.refused = 10_000  # from now on

    services.updates = Settled()
    done = run(services, tmp_path)
    assert "nothing more to do" in done.stdout
    assert done.returncode == 0
    assert services.statuses() == ["WorkerRunning"]
    assert not [key for key in services.objects if key.startswith("/bucket/results/")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("age,sex\n1,2\n", "data.csv: there is no column 'income', which is the target"),
        ("", "data.csv: there is no column 'income', which is the target"),
        ("income\n1\n", "data.csv: its columns are not the target and those of the other files"),
        ("age,age,income\n1,2,a\n", "data.csv: two columns have the same name"),
        ("age,income\n1,a\nx,b\n", "data.csv, line 3, column 'age': 'x' is not a number"),
        ("age,income\n1,a\n,b\n", "data.csv, line 3, column 'age': '' is not a number"),
        ("age,income\n1,a\nnan,b\n", "data.csv, line 3, column 'age': 'nan' is not a finite number"),
        ("age,income\n1,a,3\n", "data.csv, line 2: 3 values for 2 columns"),
        ("age,income\n" + "1,a\n" * 9, "column 'income' has 1 classes in 9 rows: too few to learn from"),
        ("age,income\n" + "".join(f"1,c{n}\n" for n in range(99)), "column 'income' has more than 50 different values"),
        (b"age,income\n1,\xff\n", "data.csv, line 1: 'utf-8' codec can't decode"),
    ],
)
def test_bad_data_are_refused_with_the_place(tmp_path: Path, text: Any, reason: str) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(worker.BadInput, match=re.escape(reason)):
        worker.read([path], "income", tmp_path, lambda: None)


def test_bad_data_fail_the_unit_with_that_reason(services: Services, tmp_path: Path) -> None:
    done = run(services, tmp_path, target="no such column")
    assert services.statuses() == ["WorkerRunning", "WorkerFailed"]
    assert services.reason() == "data.csv: there is no column 'no such column', which is the target"
    assert done.returncode == 0


def test_data_that_are_gone_fail_the_unit(services: Services, tmp_path: Path) -> None:
    del services.objects["/bucket/d/u/data.csv"]
    run(services, tmp_path)
    assert services.statuses() == ["WorkerRunning", "WorkerFailed"]
    assert services.reason().startswith("ClientError: An error occurred (404) when calling the GetObject operation")


def changed(folder: Path, old: str, new: str) -> str:
    """Return the user data with another ``worker.py``, made in ``folder``."""
    source = (FOLDER / "worker.py").read_text()
    assert old in source
    (folder / "worker.py").write_text(source.replace(old, new))
    (folder / "user_data.sh").write_text((FOLDER / "user_data.sh").read_text())
    return launch.user_data(JOB, folder)


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ("os.kill(os.getpid(), 9)", "the worker was at work: exit code 137, as when memory runs out"),
        ("sys.exit(3)", "the worker was at work: exit code 3"),
        ("import nowhere", "exit code 1: ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_a_worker_that_cannot_speak_for_itself_fails_the_unit(
    services: Services, tmp_path: Path, new: str, reason: str
) -> None:
    done = run(services, tmp_path, changed(tmp_path, "    os.umask(0o077)\n", f"    {new}\n"))
    assert done.returncode != 0
    assert services.statuses() == ["WorkerFailed"]
    assert reason in services.reason()
    assert services.reason() in done.stderr.splitlines()  # the console has it, should the record not take it


def test_packages_that_cannot_be_installed_fail_the_unit(services: Services, tmp_path: Path) -> None:
    (tmp_path / "dnf").write_text("#!/bin/sh\necho Error: no more mirrors to try; exit 1\n")
    (tmp_path / "dnf").chmod(0o700)
    script = launch.user_data(JOB).replace('"sklearn"', '"sklearn", "not_installed"')
    run(services, tmp_path, script)
    assert services.statuses() == ["WorkerFailed"]
    expected = "the instance's script failed while it was installing Python: exit code 1: Error: no more mirrors to try"
    assert services.reason() == expected


def test_the_same_rows_give_the_same_model(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(sample(501))
    found = []
    for _ in range(2):
        matrix, labels, classes, columns = worker.read([tmp_path / "data.csv"], "income", tmp_path, lambda: None)
        model, metrics = worker.train(matrix, labels, classes, lambda: None, 0)
        found.append((columns, metrics, model[-1].coef_.tolist()))
    assert found[0] == found[1]


def test_two_files_are_joined_by_the_names_of_their_columns(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("c,y,x\n" + "a,6,5\n" * 10)
    (tmp_path / "a.csv").write_text("x,y,c\n" + "1,2,a\n3,4,b\n" * 10)
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    matrix, labels, classes, columns = worker.read(paths, "c", tmp_path, lambda: None)
    assert (columns, classes, len(labels)) == (["x", "y"], ["a", "b"], 30)
    assert matrix[20:].tolist() == [[5.0, 6.0]] * 10


def test_the_packages_of_an_instance_are_those_of_this_environment() -> None:
    pinned = (PROJECT / "requirements.txt").read_text()
    found = re.findall(r"\b([a-z0-9-]+==[\d.]+)", (FOLDER / "user_data.sh").read_text())
    assert len(found) == 5
    for each in found:
        assert re.search(rf"^{re.escape(each)}( ;|$)", pinned, re.M), each


def test_what_is_slow_to_import_is_there_before_heartbeats_are_expected(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    monkeypatch.setattr(worker, "load", lambda: loaded.append(len(services.updates)))
    monkeypatch.setattr(worker, "work", lambda *_: loaded.append(len(services.updates)))
    monkeypatch.setenv("AWS_ENDPOINT_URL", services.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    job = tmp_path / "job.json"
    job.write_text(json.dumps(JOB))
    worker.main(str(job), "i-1")
    assert loaded == [0, 1]


def test_a_package_that_cannot_be_imported_fails_the_unit(services: Services, tmp_path: Path) -> None:
    (tmp_path / "sklearn").mkdir()
    (tmp_path / "sklearn" / "__init__.py").write_text("raise OSError('no such library')")
    script = launch.user_data(JOB).replace('run "the worker', f'export PYTHONPATH={tmp_path}\nrun "the worker')
    assert run(services, tmp_path, script).returncode != 0
    assert services.updates[0]["ExpressionAttributeValues"][":Reason"] == {"S": "OSError: no such library"}
