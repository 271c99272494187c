"""What a `docker` command ends with when it cannot do what it was asked to."""


class DockerProblem(Exception):
    """A message for standard error; the command ends with exit code 1."""


def refused(what: str, why: str = "") -> DockerProblem:
    """Return the problem of something that docker has and the embedded AWS does not."""
    return DockerProblem(f"{what} is not supported by the embedded AWS" + (f": {why}" if why else ""))
