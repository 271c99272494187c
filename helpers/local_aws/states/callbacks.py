"""Tasks that wait until their token comes back: those of activities, and those with .waitForTaskToken."""

import base64
import binascii
import hmac
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.local_aws.states.failures import TaskFailed, timed_out
from helpers.local_aws.states.scopes import Cancelled, Scope
from helpers.local_aws.wire import AwsError

_SIGNATURE, _RANDOM = 32, 16  # bytes of a token before the ARN that IAM is asked about


class Tokens:
    """Make task tokens, and tell one of ours from any other text, also after a restart."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def new(self, resource: str) -> str:
        """Return a token of a task of ``resource``: an activity, or a state machine that waits for a callback."""
        body = secrets.token_bytes(_RANDOM) + resource.encode()
        return base64.b64encode(self._sign(body) + body).decode()

    def resource(self, token: str) -> str | None:
        """Return the ARN that a token was made for; None for one that is not ours."""
        try:
            raw = base64.b64decode(token, validate=True)
        except (binascii.Error, ValueError):
            return None
        signature, body = raw[:_SIGNATURE], raw[_SIGNATURE:]
        return body[_RANDOM:].decode() if hmac.compare_digest(signature, self._sign(body)) else None

    def _sign(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")


def key_in(file: Path) -> bytes:
    """Return the key of this state folder's tokens, made at the first start. Only the owner can read it."""
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
            handle.write(secrets.token_bytes(32))
    except FileExistsError:
        pass
    return file.read_bytes()


class Callback:
    """One task that waits. Its clocks run from ``begin``, which for an activity is when a worker takes it."""

    def __init__(self, scope: Scope, timeout: float | None, heartbeat: float | None) -> None:
        """Make ready. ``timeout`` and ``heartbeat`` are seconds; the second counts anew with each heartbeat."""
        self._scope, self._timeout, self._heartbeat = scope, timeout, heartbeat
        self._changed = threading.Condition()
        self._outcome: str | TaskFailed | None = None
        self._closed = False
        self._due: float | None = None
        self._beat_due: float | None = None

    def begin(self, act: Callable[[], object] = lambda: None, *, spent: float = 0.0) -> bool:
        """Do ``act`` and let the clocks run, of which ``spent`` seconds are over; False if nobody waits any more."""
        with self._changed:
            if self._over():
                return False
            try:
                act()
            except Cancelled:
                return False
            self._due = None if self._timeout is None else time.monotonic() + self._timeout - spent
            self._beat()
            return True

    def beat(self) -> bool:
        """Take a heartbeat; False if nobody waits any more."""
        with self._changed:
            if self._over():
                return False
            self._beat()
            return True

    def settle(self, outcome: str | TaskFailed) -> bool:
        """End the task with an output or a failure; False if it has ended already."""
        with self._changed:
            if self._over():
                return False
            self._outcome = outcome
            self._changed.notify_all()
            return True

    def wait(self) -> str:
        """Return the output. Raises TaskFailed, or Cancelled with the scope."""
        undo = self._scope.on_cancel(self._wake)
        try:
            with self._changed:
                while self._outcome is None and not self._scope.cancelled:
                    now = time.monotonic()
                    dues = [due for due in (self._due, self._beat_due) if due is not None]
                    if dues and min(dues) <= now:
                        late = self._beat_due is not None and self._beat_due == min(dues)
                        self._outcome = timed_out(heartbeat=late)
                        break
                    self._changed.wait(min(dues) - now if dues else None)
                self._closed = True
        finally:
            undo()
        self._scope.require()
        if self._outcome is None:
            raise Cancelled
        if isinstance(self._outcome, TaskFailed):
            raise self._outcome
        return self._outcome

    def _beat(self) -> None:
        self._beat_due = None if self._heartbeat is None else time.monotonic() + self._heartbeat
        self._changed.notify_all()

    def _over(self) -> bool:
        late = self._due is not None and self._due <= time.monotonic()
        silent = self._beat_due is not None and self._beat_due <= time.monotonic()
        return self._closed or self._outcome is not None or self._scope.cancelled or late or silent

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


class Callbacks:
    """All tasks that wait, by their tokens: what SendTaskSuccess, SendTaskFailure and SendTaskHeartbeat reach."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self._waiting: dict[str, Callback] = {}

    @contextmanager
    def open(self, token: str, callback: Callback) -> Iterator[Callback]:
        """Let ``callback`` be reached by its token."""
        self._waiting[token] = callback
        try:
            yield callback
        finally:
            self._waiting.pop(token, None)

    def succeed(self, token: str, output: str) -> None:
        """End the task with an output. Raises AwsError (InvalidToken, TaskTimedOut)."""
        self._require(token, lambda callback: callback.settle(output))

    def fail(self, token: str, error: str, cause: str | None) -> None:
        """End the task with a failure. Raises AwsError (InvalidToken, TaskTimedOut)."""
        self._require(token, lambda callback: callback.settle(TaskFailed(error, cause)))

    def beat(self, token: str) -> None:
        """Take a heartbeat. Raises AwsError (InvalidToken, TaskTimedOut)."""
        self._require(token, Callback.beat)

    def _require(self, token: str, act: Callable[[Callback], bool]) -> None:
        if self.tokens.resource(token) is None:
            raise AwsError("InvalidToken", "Invalid Token: 'Invalid token'")
        callback = self._waiting.get(token)
        if callback is None or not act(callback):
            raise AwsError("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'")
