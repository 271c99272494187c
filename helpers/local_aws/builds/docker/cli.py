"""The command line of `docker` inside builds."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from helpers.local_aws.builds.docker import bases, dockerfile, registry
from helpers.local_aws.builds.docker.builder import build
from helpers.local_aws.builds.docker.context import Context
from helpers.local_aws.builds.docker.problems import DockerProblem, refused
from helpers.local_aws.builds.docker.store import Built, Images

VERSION = "Docker version 28.0.0, build embedded-aws"
_NO_DAEMON = (
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?\n"
    "(privilegedMode of the project's environment has to be true)"
)


class Parser(argparse.ArgumentParser):
    """Options of one command; what it does not know is refused by name."""

    def error(self, message: str) -> NoReturn:
        """Raise DockerProblem."""
        raise refused(f"{self.prog}: {message}")


class Docker:
    """The commands, on the images and sign-ins of ``folder``."""

    def __init__(self, folder: Path, endpoint_url: str, *, daemon: bool = True) -> None:
        """``daemon``: whether images can be built and sent, which takes a privileged build."""
        self._images, self._endpoint, self._daemon = Images(folder), endpoint_url, daemon

    def run(self, arguments: Sequence[str]) -> None:
        """Carry out a command line. Raises DockerProblem."""
        name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
        commands: dict[str, Callable[[Sequence[str]], None]] = {
            "build": self._build,
            "tag": self._tag,
            "push": self._push,
            "images": self._list,
        }
        if name in ("--version", "-v", "version"):
            print(VERSION)
        elif name == "login":
            self._login(rest)
        elif name not in commands:
            raise refused(f"docker {name}".strip(), f"its commands are login, version, {', '.join(commands)}")
        elif not self._daemon:
            raise DockerProblem(_NO_DAEMON)
        else:
            commands[name](rest)

    def _build(self, arguments: Sequence[str]) -> None:
        parser = Parser("docker build", add_help=False, allow_abbrev=False)
        parser.add_argument("-t", "--tag", action="append", default=[])
        parser.add_argument("-f", "--file")
        parser.add_argument("--build-arg", action="append", default=[])
        parser.add_argument("--platform", default="linux/amd64")
        parser.add_argument("-q", "--quiet", action="store_true")
        parser.add_argument("--no-cache", action="store_true")  # there is none
        parser.add_argument("--pull", action="store_true")
        parser.add_argument("--provenance", choices=["false"])
        parser.add_argument("path")
        asked = parser.parse_args(arguments)
        if asked.platform != "linux/amd64":
            raise refused(f"docker build --platform {asked.platform}", "images are linux/amd64")
        if asked.path == "-" or "://" in asked.path:
            raise refused(f"docker build {asked.path}", "the context is a folder")
        folder = Path(asked.path)
        file = Path(asked.file) if asked.file else folder / "Dockerfile"
        say: Callable[[str], None] = (lambda text: None) if asked.quiet else _say
        context = Context(folder, _ignored(folder, file))
        try:
            text = file.read_text()
        except OSError as error:
            raise DockerProblem(f"unable to evaluate symlinks in Dockerfile path: {file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise DockerProblem(f"{file} is not UTF-8 text") from None
        found = build(
            dockerfile.read(text, file.name),
            context,
            self._images,
            self._base,
            arguments=_build_arguments(asked.build_arg),
            say=say,
        )
        for reference in asked.tag:
            self._images.tag(found, _full(reference))
        short = found.image_id.removeprefix("sha256:")[:12]
        print(found.image_id if asked.quiet else f"Successfully built {short}")
        for reference in asked.tag:
            say(f"Successfully tagged {_full(reference)}")
        if not asked.tag:
            self._images.tag(found, f"<none>:{short}")

    def _base(self, name: str) -> Built | bases.Base:
        """Return the image that FROM names: one of this build, one that stands for this Python, or one of ECR."""
        if built := self._images.find(_full(name)):
            return built
        host, repository, reference = registry.split(name)
        signed_in = self._images.authorization(host)
        if standing := bases.find(name, _own_account()):
            if bases.ECR_HOST.fullmatch(host) and not signed_in:
                raise DockerProblem(f"pull access denied for {name}: no basic auth credentials: docker login {host}")
            return standing
        if not host:
            raise refused(f"FROM {name}", "bases are python:3.x images, SageMaker's scikit-learn and images of ECR")
        return registry.Registry(host, self._endpoint, signed_in).pull(self._images, repository, reference)

    def _tag(self, arguments: Sequence[str]) -> None:
        parser = Parser("docker tag", add_help=False)
        parser.add_argument("source")
        parser.add_argument("target")
        asked = parser.parse_args(arguments)
        self._images.tag(self._find(asked.source), _full(asked.target))

    def _push(self, arguments: Sequence[str]) -> None:
        parser = Parser("docker push", add_help=False)
        parser.add_argument("-q", "--quiet", action="store_true")
        parser.add_argument("name")
        asked = parser.parse_args(arguments)
        host, repository, tag = registry.split(asked.name)
        image = self._images.find(_full(asked.name))
        if image is None:
            raise DockerProblem(f"An image does not exist locally with the tag: {asked.name.rpartition(':')[0]}")
        say: Callable[[str], None] = (lambda text: None) if asked.quiet else _say
        say(f"The push refers to repository [{host}/{repository}]")
        target = registry.Registry(host, self._endpoint, self._images.authorization(host))
        target.push(image, self._images, repository, tag, say)
        if asked.quiet:
            print(asked.name)

    def _login(self, arguments: Sequence[str]) -> None:
        parser = Parser("docker login", add_help=False)
        parser.add_argument("-u", "--username", required=True)
        parser.add_argument("--password-stdin", action="store_true", required=True)
        parser.add_argument("server")
        asked = parser.parse_args(arguments)
        host = asked.server.removeprefix("https://").rstrip("/")
        authorization = registry.basic(asked.username, sys.stdin.read().strip())
        try:
            registry.Registry(host, self._endpoint, authorization).sign_in()
        except DockerProblem as problem:
            raise DockerProblem(
                f"Error response from daemon: login attempt to https://{host}/v2/ failed: {problem}"
            ) from None
        self._images.sign_in(host, authorization)
        print("Login Succeeded")

    def _list(self, arguments: Sequence[str]) -> None:
        Parser("docker images", add_help=False).parse_args(arguments)
        rows = [("REPOSITORY", "TAG", "IMAGE ID")]
        for name, image in sorted(self._images.references().items()):
            repository, _, tag = name.rpartition(":")
            rows.append((repository, "<none>" if repository == "<none>" else tag, image.image_id[7:19]))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        for row in rows:
            print("   ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())

    def _find(self, name: str) -> Built:
        image = self._images.find(_full(name))
        if image is None:
            raise DockerProblem(f"Error response from daemon: No such image: {_full(name)}")
        return image


def _own_account() -> str:
    """Return the account of this build, in whose registry an image is what somebody pushed, whatever its name."""
    return os.environ.get("CODEBUILD_BUILD_ARN", "::::").split(":")[4]


def _full(reference: str) -> str:
    """Return a reference with its tag."""
    last = reference.rpartition("/")[2]
    return reference if ":" in last or "@" in last else f"{reference}:latest"


def _ignored(folder: Path, file: Path) -> str:
    for path in (file.with_name(f"{file.name}.dockerignore"), folder / ".dockerignore"):
        if path.is_file():
            return path.read_text()
    return ""


def _build_arguments(given: Sequence[str]) -> dict[str, str]:
    """Read A=B; the value of a name alone is that of the environment variable."""
    pairs = (text.partition("=") for text in given)
    return {
        name: value if equals else os.environ.get(name, "")
        for name, equals, value in pairs
        if equals or name in os.environ
    }


def _say(text: str) -> None:
    print(text, flush=True)


def main(folder: str, daemon: bool, arguments: Sequence[str]) -> int:
    """Be the command; return its exit code."""
    try:
        Docker(Path(folder), os.environ.get("AWS_ENDPOINT_URL", ""), daemon=daemon).run(arguments)
    except DockerProblem as problem:
        print(problem, file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
