"""What a push says and what git answers: the pkt-lines around the pack."""

from collections.abc import AsyncIterator

from helpers.local_aws.codecommit.commits import RefChange
from helpers.local_aws.wire import AwsError

MAX_REFERENCES = 4000  # CodeCommit's limit for one push
_MAX_HEAD = 4 * 1024 * 1024


async def read_commands(chunks: AsyncIterator[bytes]) -> tuple[bytes, list[RefChange]]:
    """Read a push up to its pack. Return the bytes read (some may belong to the pack) and the commands.

    Raises AwsError (400) for a malformed head, too many references, or a client that wants no report.
    """
    head, offset = bytearray(), 0
    lines: list[bytes] = []
    async for chunk in chunks:
        head += chunk
        while (size := _size(head, offset)) is not None and offset + max(size, 4) <= len(head):
            if size == 0:
                return bytes(head), _commands(lines)
            lines.append(bytes(head[offset + 4 : offset + size]))
            offset += size
        if len(head) > _MAX_HEAD:
            break
        if len(lines) > MAX_REFERENCES + 1:
            raise _bad(f"a push may change up to {MAX_REFERENCES} references")
    raise _bad("the push is cut short")


def _commands(lines: list[bytes]) -> list[RefChange]:
    changes = []
    capabilities: set[bytes] = set()
    for line in lines:
        if line.startswith((b"shallow ", b"push-cert")):
            if line.startswith(b"push-cert"):
                raise _bad("signed pushes are not supported")
            continue
        command, _, listed = line.partition(b"\0")
        capabilities |= set(listed.split())
        try:
            parts = command.rstrip(b"\n").decode().split(" ", 2)
        except UnicodeDecodeError:  # the API has no way to name it
            raise _bad("the name of a reference is not UTF-8") from None
        if len(parts) != 3:
            raise _bad("a line of the push is not a command")
        old, new, ref = parts
        changes.append(RefChange(ref, old, new))
    if len(changes) > MAX_REFERENCES:
        raise _bad(f"a push may change up to {MAX_REFERENCES} references")
    if changes and not capabilities & {b"report-status", b"report-status-v2"}:
        raise _bad("the client does not ask for a report")
    return changes


def accepted(report: bytes) -> set[str]:
    """Return the references that git says it changed, from the body of its answer to a push."""
    lines = _pkt_lines(report)
    if not any(line.startswith(b"unpack ") for line in lines):  # the report travels in band 1 of the side band
        lines = _pkt_lines(b"".join(line[1:] for line in lines if line[:1] == b"\x01"))
    return {line[3:].rstrip(b"\n").decode(errors="replace") for line in lines if line.startswith(b"ok ")}


def _pkt_lines(data: bytes) -> list[bytes]:
    lines, offset = [], 0
    while (size := _size(data, offset)) is not None:
        lines.append(data[offset + 4 : offset + size])
        offset += max(size, 4)
    return lines


def _size(data: bytes | bytearray, offset: int) -> int | None:
    """Return the length that a pkt-line states, its own four digits included (0: flush), or None at the end."""
    digits = bytes(data[offset : offset + 4])
    if len(digits) < 4:
        return None
    try:
        size = int(digits, 16)
    except ValueError:
        raise _bad("malformed pkt-line") from None
    if size in (1, 2, 3):
        raise _bad("malformed pkt-line")
    return size


def _bad(message: str) -> AwsError:
    return AwsError("BadRequest", message, 400)
