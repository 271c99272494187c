"""Carrying out a Dockerfile: what each instruction makes of the image."""

import json
import sys
import sysconfig
from pathlib import Path

import pytest
from docker_builds import FROM, Workbench
from wheels import wheel

from helpers.local_aws.builds.docker.problems import DockerProblem


@pytest.fixture
def bench(tmp_path):
    return Workbench(tmp_path)


def problem(bench: Workbench, text: str) -> str:
    with pytest.raises(DockerProblem) as caught:
        bench.build(text)
    return str(caught.value)


def test_from_says_which_python_stands_for_the_image(bench):
    bench.build("FROM public.ecr.aws/docker/library/python:3.12-slim\n")
    assert any("stands for this machine's Python " + sys.version.split()[0] in said for said in bench.said)


def test_arg_before_from_names_the_base(bench):
    bench.build("ARG V=3.11\nFROM python:${V}\n")
    assert any(
        "python:3.14 stands" in said for said in (bench.build("ARG V\nFROM python:$V\n", V="3.14"), bench.said)[1]
    )


def test_copy_puts_files_where_docker_puts_them(bench):
    for path in ("a.py", "b.py", "c.txt", "folder/d.py", "folder/deep/e.py"):
        bench.write(path, path)
    image = bench.build(
        FROM + "WORKDIR /app\nCOPY *.py ./\nCOPY folder /data\nCOPY c.txt /data/renamed.txt\nCOPY c.txt new/\n"
    )
    assert bench.files(image) == {
        "/app/a.py": "a.py",
        "/app/b.py": "b.py",
        "/app/new/c.txt": "c.txt",
        "/data/d.py": "folder/d.py",
        "/data/deep/e.py": "folder/deep/e.py",
        "/data/renamed.txt": "c.txt",
    }


def test_copy_in_exec_form_takes_names_with_spaces(bench):
    bench.write("a file", "x")
    assert bench.files(bench.build(FROM + 'COPY ["a file", "/app/"]\n')) == {"/app/a file": "x"}


def test_a_later_copy_lies_over_an_earlier_one(bench):
    bench.write("a", "1")
    bench.write("b", "2")
    assert bench.files(bench.build(FROM + "COPY a /app/x\nCOPY b /app/x\n")) == {"/app/x": "2"}


def test_the_mode_that_makes_a_file_a_program_is_kept(bench, tmp_path):
    bench.write("run.sh", "#!/bin/sh\n").chmod(0o755)
    bench.write("plain", "").chmod(0o600)
    image = bench.build(FROM + "COPY . /app/\n")
    bench.files(image)
    (root,) = tmp_path.glob("unpacked-*")
    assert [(root / "app" / name).stat().st_mode & 0o777 for name in ("run.sh", "plain")] == [0o755, 0o644]


def test_dockerignore_leaves_files_out_and_takes_them_back_in(bench):
    for path in ("a.py", "a.log", "logs/b.log", "logs/keep.log", "deep/er/c.tmp", ".git/config"):
        bench.write(path, "")
    bench.write(".dockerignore", "# comment\n*.log\nlogs/*\n!logs/keep.log\n**/*.tmp\n.git\n.dockerignore\n")
    assert sorted(bench.files(bench.build(FROM + "COPY . /app\n"))) == ["/app/a.py", "/app/logs/keep.log"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("COPY missing /app/", "COPY failed: file not found in build context or excluded by .dockerignore: missing"),
        ("COPY ../secret /app/", "COPY failed: forbidden path outside the build context: ../secret"),
        ("COPY a b /app", "When using COPY with more than one source file"),
        ("COPY a", "COPY requires at least two arguments"),
        ("COPY --from=other a /app/", "COPY --from is not supported by the embedded AWS"),
        ("COPY --chown=1:1 a /app/", "COPY --chown is not supported by the embedded AWS"),
        ("COPY a /etc/a", "COPY to /etc/a is not supported by the embedded AWS: /etc is the machine's own"),
        ("COPY a /", "COPY to /a is not supported by the embedded AWS: only folders can lie at /"),
        ("COPY a /opt/a", "COPY to /opt/a is not supported by the embedded AWS: only folders"),
        (
            "COPY a /opt/ml/code/a",
            "COPY to /opt/ml/code/a is not supported by the embedded AWS: /opt/ml is where SageMaker",
        ),
        ("WORKDIR /usr/src/app", "WORKDIR to /usr/src/app is not supported by the embedded AWS: /usr is the machine's"),
        ("RUN apt-get install -y gcc", "RUN apt-get install -y gcc is not supported by the embedded AWS"),
        ("RUN pip install a && rm -rf /tmp/x", "RUN pip install a && rm -rf /tmp/x is not supported"),
        ("RUN pip install a; true", "RUN pip install a; true is not supported"),
        ("RUN pip install pandas>=2", "RUN pip install pandas>=2 is not supported"),
        ("RUN pip install --target x a", "RUN pip install --target x a is not supported"),
        ("RUN pip install -e .", "RUN pip install -e . is not supported"),
        ("RUN pip install $(cat names)", "RUN pip install $(cat names) is not supported"),
        ("RUN --mount=type=cache,target=/x pip install a", "RUN --mount is not supported by the embedded AWS"),
        ("ENV A", "ENV: A has no value"),
        ("EXPOSE http", "Invalid containerPort: http"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_with_its_line(bench, line, said):
    bench.write("a")
    bench.write("b")
    assert problem(bench, f"{FROM}LABEL x=y\n{line}\n").startswith(f"Dockerfile:3: {said}")


def test_a_link_is_copied_unless_it_leads_out_of_its_folder(bench):
    bench.write("real", "content")
    (bench.context / "link").symlink_to("real")
    assert bench.files(bench.build(FROM + "COPY . /app/\n"))["/app/link"] == "-> real"
    (bench.context / "bad").symlink_to("../../etc/passwd")
    assert "leads out of /app" in problem(bench, FROM + "COPY . /app/\n")


def test_workdir_is_made_and_can_be_relative(bench, tmp_path):
    image = bench.build(FROM + "ENV WHERE=code\nWORKDIR /app\nWORKDIR $WHERE\n")
    assert image.config["config"]["WorkingDir"] == "/app/code"
    bench.files(image)
    (root,) = tmp_path.glob("unpacked-*")
    assert (root / "app" / "code").is_dir()


def test_env_and_arg(bench):
    found = bench.environment(FROM + 'ARG A=default\nARG B\nENV X=$A Y="${B:-none}" PATH=/app/bin:$PATH\n', B="given")
    assert (found["X"], found["Y"]) == ("default", "given")
    assert found["PATH"].startswith("/app/bin:/usr/local/bin:")
    assert "A" not in found


def test_env_goes_over_arg_and_an_unused_argument_is_named(bench):
    assert bench.environment(FROM + "ENV A=env\nARG A=arg\nENV B=$A\n", C="x")["B"] == "env"
    assert "[Warning] One or more build-args [C] were not consumed" in bench.said


def test_an_argument_of_before_from_is_not_known_after_it(bench):
    assert bench.environment("ARG V=3.12\n" + FROM + "ENV B=x$V\n")["B"] == "x"


@pytest.mark.parametrize(
    ("lines", "entrypoint", "command"),
    [
        ("", None, ["python3"]),
        ('ENTRYPOINT ["python"]\nCMD ["a.py"]\n', ["python"], ["a.py"]),
        ('CMD ["a.py"]\nENTRYPOINT ["python"]\n', ["python"], ["a.py"]),
        ('ENTRYPOINT ["python", "a.py"]\n', ["python", "a.py"], None),
        ("CMD python a.py $X\n", None, ["/bin/sh", "-c", "python a.py $X"]),
        ("ENTRYPOINT exec python a.py\n", ["/bin/sh", "-c", "exec python a.py"], None),
    ],
)
def test_what_runs(bench, lines, entrypoint, command):
    found = bench.settings(FROM + lines)
    assert (found.get("Entrypoint"), found.get("Cmd")) == (entrypoint, command)


def test_labels_and_ports(bench):
    found = bench.settings(FROM + "LABEL a=1 b='x y'\nEXPOSE 80 53/udp\n")
    assert (found["Labels"], found["ExposedPorts"]) == ({"a": "1", "b": "x y"}, {"80/tcp": {}, "53/udp": {}})


def test_the_same_content_and_instructions_give_the_same_digest(tmp_path):
    digests = []
    for name in ("one", "two"):
        bench = Workbench(tmp_path / name)
        bench.write("a.py", "x")
        bench.write("b/c.py", "y")
        digests.append(bench.build(FROM + "WORKDIR /app\nCOPY . .\nENV A=1\n").digest)
    assert digests[0] == digests[1]
    bench.write("a.py", "changed")
    assert bench.build(FROM + "WORKDIR /app\nCOPY . .\nENV A=1\n").digest != digests[0]


def test_an_image_can_be_built_on_one_that_was_built_before(bench):
    bench.write("a", "1")
    base = bench.build(FROM + 'WORKDIR /app\nCOPY a .\nENV A=1\nENTRYPOINT ["python"]\nCMD ["x"]\n')
    bench.images.tag(base, "base:1")
    image = bench.build('FROM base:1\nCOPY a b\nENTRYPOINT ["sh"]\n')
    assert bench.files(image) == {"/app/a": "1", "/app/b": "1"}
    settings = image.config["config"]
    assert "A=1" in settings["Env"]
    assert (settings["Entrypoint"], settings.get("Cmd")) == (["sh"], None)


def test_the_manifest_names_what_is_there(bench):
    bench.write("a", "1")
    image = bench.build(FROM + "COPY a /app/\n")
    manifest = json.loads(image.manifest)
    assert manifest["layers"][0]["size"] == len(bench.images.get(image.layers[0]))
    assert len(image.config["rootfs"]["diff_ids"]) == len(image.layers) == 1


def test_what_this_environment_has_is_not_installed(bench):
    bench.write("requirements.txt", "boto3\npyyaml\n")
    image = bench.build(
        FROM + "WORKDIR /app\nCOPY requirements.txt .\nRUN pip install --no-cache-dir -r requirements.txt\n"
    )
    assert len(image.layers) == 2
    assert "Everything that is asked for is installed in this environment: nothing to do" in bench.said


def test_what_it_does_not_have_is_installed_into_the_image_and_nowhere_else(bench):
    wheel(bench.context / "wheels")
    lines = (
        "COPY wheels /app/wheels\n"
        "RUN pip install boto3 && python -m pip install --no-index --find-links /app/wheels tiny\n"
    )
    image = bench.build(FROM + lines)
    files = bench.files(image)
    assert "tiny 1.0" in files["/opt/python-packages/tiny.py"]
    assert any(said == "Installing tiny==1.0" for said in bench.said)
    environment = dict(item.split("=", 1) for item in image.config["config"]["Env"])
    assert environment["PYTHONPATH"] == "/opt/python-packages"
    assert environment["PATH"].startswith("/opt/python-packages/bin:/usr/local/bin")
    assert not Path(sysconfig.get_path("purelib"), "tiny.py").exists()
    assert bench.build(FROM + lines).digest == image.digest
    bench.images.tag(image, "base:1")
    assert bench.build("FROM base:1\nRUN pip install tiny\n").layers == image.layers


def test_a_package_that_is_not_to_be_had_ends_the_build(bench):
    said = problem(bench, FROM + "RUN pip install --no-index no-such-package-anywhere\n")
    assert said == "Dockerfile:2: pip install returned a non-zero code: 1"
