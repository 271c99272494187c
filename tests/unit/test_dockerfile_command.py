"""The `docker` command of builds: its options, what it refuses, and what it prints."""

import pytest
from docker_builds import FROM

from helpers.local_aws.builds.docker import registry
from helpers.local_aws.builds.docker.cli import main


class Command:
    """The command, in a folder with a Dockerfile."""

    def __init__(self, folder, capfd, monkeypatch):
        self._images, self._capfd = str(folder / "images"), capfd
        self.context = folder / "context"
        self.context.mkdir()
        (self.context / "Dockerfile").write_text(FROM + "ARG A=none\nENV A=$A\n")
        monkeypatch.chdir(self.context)

    def __call__(self, line: str, *, daemon: bool = True) -> tuple[int, str, str]:
        """Return exit code, standard output and standard error."""
        code = main(self._images, daemon, line.split())
        said = self._capfd.readouterr()
        return code, said.out, said.err


@pytest.fixture
def docker(tmp_path, capfd, monkeypatch):
    return Command(tmp_path, capfd, monkeypatch)


def test_a_build_says_what_it_does(docker):
    code, out, _ = docker("build -t one -t two:2 --platform linux/amd64 --no-cache --build-arg A=1 .")
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "Step 1/3 : FROM python:3.12-slim"
    assert lines[-3].startswith("Successfully built ")
    assert lines[-2:] == ["Successfully tagged one:latest", "Successfully tagged two:2"]


def test_a_quiet_build_prints_the_image_only(docker):
    _, out, _ = docker("build -q .")
    assert out.startswith("sha256:")
    assert len(out.split()) == 1
    assert docker("tag " + out.split()[0] + " named:1")[0] == 0
    assert docker("images")[1].splitlines()[-1].split()[:2] == ["named", "1"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "docker is not supported by the embedded AWS: its commands are login, version, build, tag, push, images"),
        ("run one", "docker run is not supported by the embedded AWS"),
        ("buildx build .", "docker buildx is not supported by the embedded AWS"),
        ("build --squash .", "docker build: unrecognized arguments: --squash is not supported by the embedded AWS"),
        ("build --platform linux/arm64 .", "docker build --platform linux/arm64 is not supported by the embedded AWS"),
        ("build -", "docker build - is not supported by the embedded AWS: the context is a folder"),
        ("build https://github.com/a/b.git", "docker build https://github.com/a/b.git is not supported"),
        ("build none", "unable to prepare context: path 'none' not found"),
        ("build -f none .", "unable to evaluate symlinks in Dockerfile path: none: No such file or directory"),
        ("push --all-tags one", "docker push: unrecognized arguments: --all-tags is not supported by the embedded AWS"),
        ("push none:1", "An image does not exist locally with the tag: none"),
        ("tag none other", "Error response from daemon: No such image: none:latest"),
        ("images -a", "docker images: unrecognized arguments: -a is not supported by the embedded AWS"),
        ("login -u AWS -p secret host", "docker login: the following arguments are required: --password-stdin"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(docker, line, said):
    code, _, err = docker(line)
    assert (code, err.startswith(said)) == (1, True), err


def test_images_go_to_ecr_only(docker):
    docker("build -t name/of:1 .")
    code, _, err = docker("push name/of:1")
    assert (code, "the registry docker.io is out of reach of the embedded AWS" in err) == (1, True)


def test_a_base_from_elsewhere_is_refused_with_its_line(docker):
    (docker.context / "Dockerfile").write_text("FROM ubuntu:22.04\n")
    code, _, err = docker("build .")
    assert (code, err.startswith("Dockerfile:1: FROM ubuntu:22.04 is not supported by the embedded AWS")) == (1, True)


def test_a_base_in_a_registry_needs_a_login(docker):
    host = "683313688378.dkr.ecr.us-east-1.amazonaws.com"
    (docker.context / "Dockerfile").write_text(f"FROM {host}/sagemaker-scikit-learn:1.4-2-cpu-py3\n")
    code, _, err = docker("build .")
    assert (code, f"no basic auth credentials: docker login {host}" in err) == (1, True)


def test_without_a_daemon_only_login_and_version_work(docker):
    assert docker("--version", daemon=False)[:2] == (0, "Docker version 28.0.0, build embedded-aws\n")
    for line in ("build .", "push a", "images", "tag a b"):
        code, _, err = docker(line, daemon=False)
        assert (code, err.startswith("Cannot connect to the Docker daemon at unix:///var/run/docker.sock")) == (1, True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", ("", "a", "latest")),
        ("a/b:1", ("", "a/b", "1")),
        ("localhost:5000/a", ("localhost:5000", "a", "latest")),
        ("1.dkr.ecr/a/b:c", ("1.dkr.ecr", "a/b", "c")),
        ("x.y/a@sha256:1", ("x.y", "a", "sha256:1")),
    ],
)
def test_references_are_split_as_docker_does(name, expected):
    assert registry.split(name) == expected
