"""Why a phase of a build failed."""


class PhaseProblem(Exception):
    """A failure as a phase's context tells it: a status code and a message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
