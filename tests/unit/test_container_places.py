"""What a container sees and reaches: the files of its image, its credentials, the embedded AWS, and nothing else."""

import json
import os
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from machine_room import CREDENTIALS, ROLE, Inside, Room, enter

from helpers.local_aws.wire import AwsError

MARK = f"{os.getpid()}.15625"  # a length of sleep that nobody else uses
DONE = ["exited", 0, "", ""]

# --- what it sees ---


def test_the_image_s_files_are_its_own(inside: Inside) -> None:
    def act(room: Room) -> list[Any]:
        built = room.image(app__main="as built", opt__tool__version="7", data="at the top")
        script = "pwd; cat main /opt/tool/version /data; echo; echo mine > main; echo > new; ls; cat main; mkdir /made"
        logs = [room.shell(script, name, image=built) for name in ("c-1", "c-2")]
        again = sorted(str(path.relative_to(built)) for path in built.rglob("*"))
        return [logs[0] == logs[1], logs[0].splitlines(), again, (built / "app/main").read_text(), room.scratch()]

    same, log, files, text, left = inside(act)
    assert same, "the second container sees something of the first one"
    assert log == ["/app", "as built7at the top", "main", "new", "mine"]
    assert files == ["app", "app/main", "data", "opt", "opt/tool", "opt/tool/version"]
    assert (text, left) == ("as built", [])
    assert not Path("/made").exists()


def test_the_machine_s_opt_is_seen_beside_the_image_s(inside: Inside) -> None:
    def act(room: Room) -> str:
        return room.shell("ls -A /opt", image=room.image(app__main="", opt__of_the_image__x=""))

    before = set(os.listdir("/opt"))
    seen = set(inside(act).splitlines()) - {"of_the_image", "ml"}
    after = set(os.listdir("/opt"))  # another test, beside this one, may make a folder there or take it away
    assert before & after <= seen | {"ml"} <= before | after | {"ml"}


def test_a_script_runs_in_the_warm_process_with_its_own_modules(inside: Inside) -> None:
    main = "import sys, numbers, other; print(other.NAME, sys.argv[1:], sys.path[0], 'helpers' in sys.modules)"

    def act(room: Room) -> list[Any]:
        built = room.image(**{"app__main.py": main, "opt__packages__other.py": "NAME = 'from the image'"})
        room.start("python", "main.py", "a", image=built, environment={"PYTHONPATH": "/opt/packages"})
        return [room.end(), room.logs.groups["known"]["c-1"]]

    assert inside(act) == [DONE, ["from the image ['a'] /app False"]]


def test_the_environment_is_what_aws_gives_and_what_was_asked_for(at_home: Inside) -> None:
    def act(room: Room) -> dict[str, str]:
        more = {"credentials": lambda: CREDENTIALS, "metadata": {"": {}}, "environment": {"MINE": "1", "LANG": "C"}}
        return dict(line.split("=", 1) for line in room.shell("env", **more).splitlines())

    found = at_home(act)
    expected = {"AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "HOME", "PATH", "MINE", "LANG"}
    expected |= {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "ECS_CONTAINER_METADATA_URI_V4"}
    assert set(found) - {"PWD", "OLDPWD", "SHLVL", "_", "TMPDIR"} == expected
    assert found["PATH"].split(":")[0] == os.path.dirname(sys.executable)
    assert (found["MINE"], found["LANG"]) == ("1", "C")


@pytest.mark.parametrize("path", ["/bin:/usr/bin", f"/app/bin:{os.path.dirname(sys.executable)}:/bin"])
def test_this_python_is_found_whatever_path_is_asked_for(at_home: Inside, path: str) -> None:
    ours = os.path.dirname(sys.executable)
    expected = path if ours in path else f"{ours}:{path}"
    assert at_home(lambda room: room.shell("echo $PATH", environment={"PATH": path})) == expected


def test_folders_lie_where_they_are_wanted(inside: Inside) -> None:
    def act(room: Room) -> list[Any]:
        source = room.image(deep__file="source")
        script = "pwd; cat /build/src/deep/file; rm -r deep"
        image = room.image(app__main="")
        log = room.shell(script, image=image, files={"/build/src": source}, working_directory="/build/src")
        return [log.splitlines(), (source / "deep/file").read_text(), room.scratch()]

    assert inside(act) == [["/build/src", "source"], "source", []]


def test_the_working_directory_is_made_where_the_machine_has_none(inside: Inside) -> None:
    def act(room: Room) -> list[str]:
        folders = ["/made/for/it", "/opt/made"] + ([] if Path(sys.prefix).is_relative_to("/tmp") else ["/tmp/made"])
        logs = [
            room.shell("pwd; touch x", f"c-{number}", working_directory=folder) for number, folder in enumerate(folders)
        ]
        return [] if logs == folders else logs

    assert inside(act) == []
    assert not any(Path(each).exists() for each in ("/made", "/opt/made", "/tmp/made"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"files": "/etc/x"}, "nothing can lie over the machine's own /etc"),
        ({"files": "/app/../x"}, "is not an absolute path"),
        ({"files": "/link/x"}, "a symbolic link is in the way"),
        ({"files": "/app"}, "something lies there already"),
        ({"working_directory": "/etc/no-such-folder"}, "the working directory /etc/no-such-folder does not exist"),
        ({"working_directory": "/link/made"}, "the working directory /link/made does not exist"),
    ],
)
def test_what_cannot_lie_there_fails_and_touches_nothing(at_home: Inside, more: dict[str, Any], said: str) -> None:
    def act(room: Room) -> list[Any]:
        built, outside = room.image(app__main=""), room.image(kept="")
        (built / "link").symlink_to(outside)
        files = {more["files"]: built} if "files" in more else {}
        room.start("true", image=built, files=files, working_directory=more.get("working_directory", ""))
        return [*room.end(), room.started, os.listdir(outside), room.scratch()]

    reason, code, message, _, started, outside, left = at_home(act)
    assert (reason, code, started, outside, left) == ("failed", None, [], ["kept"], [])
    assert said in message
    assert not Path("/etc/no-such-folder").exists()


def test_an_image_cannot_cover_the_python_that_runs_it(at_home: Inside) -> None:
    first = Path(sys.prefix).parts[1]
    if first in ("usr", "home", "root", "tmp", "var"):
        pytest.skip("an image has no such folder")

    def act(room: Room) -> list[Any]:
        beside, over = room.image(app__main=""), room.image(app__main="")
        (beside / first).mkdir()
        (beside / first / "mine").touch()
        (over / Path(sys.prefix).relative_to("/")).mkdir(parents=True)
        log = room.shell(f"ls /{first}; python -c 'print(6 * 7)'", image=beside)
        room.start("true", name="c-2", image=over)
        return [log.splitlines(), room.end("c-2")]

    log, (reason, _, message, _) = at_home(act)
    assert {"mine", "42", Path(sys.prefix).parts[2]} <= set(log)
    assert reason == "failed"
    assert "would cover the Python of the embedded AWS" in message


def test_where_python_lives_in_tmp_there_is_another_folder_of_its_own(at_home: Inside) -> None:
    def act(room: Room) -> list[str]:
        script = 'echo $HOME $TMPDIR; ls -A $TMPDIR; touch $TMPDIR/x; [ -e "$SEEN" ] && echo seen'
        with tempfile.NamedTemporaryFile(dir="/tmp") as file:
            return [room.shell(script, name, environment={"SEEN": file.name}) for name in ("c-1", "c-2")]

    expected = "/opt/ml/tmp /opt/ml/tmp\nseen"
    assert enter(os.getuid(), act, python="/tmp/python") == [expected, expected]


def test_an_image_cannot_cover_a_python_in_opt(at_home: Inside) -> None:
    if not Path("/opt").is_dir() or not os.access("/opt", os.W_OK):
        pytest.skip("/opt cannot be written")
    with tempfile.TemporaryDirectory(dir="/opt", prefix="python-") as python:
        name = python.rpartition("/")[2]

        def act(room: Room) -> list[Any]:
            room.start("true", name="beside", image=room.image(app__main="", opt__tool__x=""))
            room.start("true", name="over", image=room.image(**{"app__main": "", f"opt__{name}__x": ""}))
            return [room.end("beside"), room.end("over")[2]]

        beside, said = enter(os.getuid(), act, python=python)
    assert beside == DONE
    assert f"{python} of the image would cover the Python" in said


def test_a_folder_that_nobody_may_read_is_not_left_behind(inside: Inside) -> None:
    def act(room: Room) -> list[str]:
        room.shell("mkdir -p a/b/c && chmod 0 a/b a", image=room.image(app__main=""))
        return room.scratch()

    assert inside(act) == []


def test_credentials_and_services_of_the_machine_are_hidden(inside: Inside) -> None:
    def act(room: Room) -> str:
        aws = Path.home() / ".aws"
        aws.mkdir()
        (aws / "credentials").write_text("secret")
        return room.shell(f"ls -A {room.site.state_dir} {aws}; ls -A /run/systemd /run/dbus 2> /dev/null")

    assert [line for line in inside(act).splitlines() if line and not line.endswith(":")] == []


def test_two_containers_do_not_see_each_other(inside: Inside) -> None:
    script = f"""
    cd ${{TMPDIR:-/tmp}}; echo x > $NAME; sleep {MARK} &
    until ps -e | grep -q sleep; do :; done; echo $(ls -A) $(ps -e | grep -c sleep); wait
    """

    def act(room: Room) -> list[Any]:
        for name in ("c-1", "c-2"):
            room.start("sh", "-c", script, name=name, environment={"NAME": name})
        for name in ("c-1", "c-2"):
            room.wait_for_line("c-", name)
        return [room.logs.groups["known"][name] for name in ("c-1", "c-2")]

    assert inside(act) == [["c-1 1"], ["c-2 1"]]


# --- what it reaches ---

ASK = f"""
import json, os, urllib.request, urllib.error
import boto3
found = boto3.Session().get_credentials()
secret = {CREDENTIALS["AWS_SECRET_ACCESS_KEY"]!r}
print(found.method, found.access_key, found.secret_key == secret, len(found.token), flush=True)
for path in ("", "/task", "/stats"):
    try:
        print(json.load(urllib.request.urlopen(os.environ["ECS_CONTAINER_METADATA_URI_V4"] + path)))
    except urllib.error.HTTPError as error:
        print(error.code)
"""
FOUND = [f"container-role ASIAOFTHEWORKER True {len(CREDENTIALS['AWS_SESSION_TOKEN'])}"]
FOUND += ["{'Name': 'work'}", "{'Cluster': 'demo'}", "404"]


def ask(room: Room, **more: Any) -> list[str]:
    """Let a script ask for credentials and metadata; return what it prints."""
    documents = {"": {"Name": "work"}, "task": {"Cluster": "demo"}}
    given = {"credentials": lambda: CREDENTIALS, "role_arn": ROLE, "metadata": documents, **more}
    room.start("python", "ask.py", image=room.image(**{"app__ask.py": ASK}), **given)
    room.end()
    return room.logs.groups["known"]["c-1"]


def test_boto3_finds_the_credentials_of_the_role_by_itself(inside: Inside) -> None:
    assert inside(ask) == FOUND


def test_boto3_finds_them_with_the_machine_s_network_too(at_home: Inside) -> None:
    assert at_home(lambda room: ask(room, own_network=False)) == FOUND


def test_boto3_finds_them_without_namespaces_too() -> None:
    assert enter(os.getuid(), ask, isolated=False)[1:] == FOUND


def test_the_command_line_finds_the_credentials_too(at_home: Inside) -> None:
    log = at_home(lambda room: room.shell("aws configure list | grep access_key", credentials=lambda: CREDENTIALS))
    assert "container-role" in log


def test_without_a_role_there_are_no_credentials(at_home: Inside) -> None:
    script = "env | grep CREDENTIALS; curl -s 169.254.170.2/v2/credentials/; echo; python -c '"
    script += "import boto3; print(boto3.Session().get_credentials())'"
    log = at_home(lambda room: room.shell(script)).splitlines()
    assert json.loads(log[0])["code"] == "InvalidIdInRequest"
    assert log[1:] == ["None"]


def test_the_document_is_ecs_s_and_the_path_is_the_secret(at_home: Inside) -> None:
    script = """
    url=169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI
    curl -s $url; echo; curl -s 169.254.170.2/v2/credentials/x; echo
    curl -s -X POST -o /dev/null -w '%{http_code}' $url
    """
    log = at_home(lambda room: room.shell(script, credentials=lambda: CREDENTIALS, role_arn=ROLE)).splitlines()
    document = json.loads(log[0])
    assert document.pop("Expiration") > f"{time.gmtime().tm_year}"
    assert document == {
        "RoleArn": ROLE,
        "AccessKeyId": CREDENTIALS["AWS_ACCESS_KEY_ID"],
        "SecretAccessKey": CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        "Token": CREDENTIALS["AWS_SESSION_TOKEN"],
    }
    assert json.loads(log[1])["code"] == "InvalidIdInRequest"
    assert log[2] == "405"


def test_a_role_that_is_gone_gives_no_credentials(at_home: Inside) -> None:
    def refuse() -> dict[str, str]:
        raise AwsError("AccessDenied", "no", 403)

    script = "curl -s -w ' %{http_code}' 169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
    log = at_home(lambda room: room.shell(script, credentials=refuse))
    assert "InternalServerError" in log
    assert log.endswith(" 500")


def test_over_the_machine_s_network_the_token_is_asked_for(at_home: Inside) -> None:
    script = """
    get() { curl -s -o /dev/null -w '%{http_code} ' "$@" $AWS_CONTAINER_CREDENTIALS_FULL_URI; }
    get; get -H "Authorization: x"; get -H "Authorization: $AWS_CONTAINER_AUTHORIZATION_TOKEN"
    """
    log = at_home(lambda room: room.shell(script, credentials=lambda: CREDENTIALS, own_network=False))
    assert log.split() == ["403", "403", "200"]


def test_only_the_embedded_aws_is_reached(inside: Inside) -> None:
    other = socket.create_server(("", 0))
    port = other.getsockname()[1]
    addresses = [f"127.0.0.1:{port}", "169.254.169.254:80", "169.254.170.2:22", "192.0.2.1:80"]
    script = "\n".join(f"curl -s -m 60 -o /dev/null http://{address}; echo $?" for address in addresses)
    script += "\ncurl -s $AWS_ENDPOINT_URL/5000000 | wc -c"
    with other:
        assert inside(lambda room: room.shell(script)).split() == ["7"] * len(addresses) + ["5000000"]


def test_the_machine_s_network_reaches_what_the_machine_reaches(at_home: Inside) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        script = f"exec 3<>/dev/tcp/127.0.0.1/{other.getsockname()[1]} && echo connected"

        def act(room: Room) -> list[Any]:
            room.start("bash", "-c", script, own_network=False)
            return [room.end(), room.logs.groups["known"]["c-1"]]

        assert at_home(act) == [DONE, ["connected"]]
