"""A folder to build images in, for tests of the `docker` command of builds."""

from pathlib import Path

from helpers.local_aws.builds.docker import bases, dockerfile
from helpers.local_aws.builds.docker.builder import build
from helpers.local_aws.builds.docker.context import Context
from helpers.local_aws.builds.docker.problems import DockerProblem
from helpers.local_aws.builds.docker.store import Built, Images
from helpers.local_aws.builds.docker.unpack import unpack

FROM = "FROM python:3.12-slim\n"


class Workbench:
    """A context, the images that were built, and what the builds said."""

    def __init__(self, folder: Path) -> None:
        self.context, self.images, self.said = folder / "context", Images(folder / "images"), []
        self.context.mkdir(parents=True)
        self._folder = folder

    def write(self, path: str, content: str | bytes = "") -> Path:
        """Put a file into the context."""
        place = self.context / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
        return place

    def build(self, text: str, **arguments: str) -> Built:
        """Build a Dockerfile's text; ``arguments`` are those of --build-arg."""
        ignored = self.context / ".dockerignore"
        context = Context(self.context, ignored.read_text() if ignored.exists() else "")
        self.said.clear()
        return build(dockerfile.read(text), context, self.images, self._base, arguments=arguments, say=self.said.append)

    def settings(self, text: str, **arguments: str) -> dict:
        """Build, and return how the image is run."""
        return self.build(text, **arguments).config["config"]

    def environment(self, text: str, **arguments: str) -> dict[str, str]:
        """Build, and return the image's variables."""
        return dict(item.split("=", 1) for item in self.settings(text, **arguments)["Env"])

    def files(self, image: Built) -> dict[str, str]:
        """Return the files of an image with their contents, links with their targets."""
        root = self._folder / f"unpacked-{len(list(self._folder.iterdir()))}"
        root.mkdir()
        unpack(root, [self.images.get(digest) for digest in image.layers])
        return {
            "/" + path.relative_to(root).as_posix(): f"-> {path.readlink()}"
            if path.is_symlink()
            else path.read_text(errors="replace")
            for path in sorted(root.rglob("*"))
            if path.is_symlink() or path.is_file()
        }

    def _base(self, name: str) -> bases.Base | Built:
        found = self.images.find(name) or bases.find(name)
        if found is None:
            raise DockerProblem(f"no base {name}")
        return found
