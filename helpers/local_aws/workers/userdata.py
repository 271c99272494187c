"""What an instance does with its user data: cloud-init's rules, as far as they are carried out here."""

import re
import zlib

_LONGEST = 16 * 2**20  # bytes, unpacked
# What cloud-init would act on, and the embedded AWS does not.
_OTHER_KINDS = re.compile(
    rb"#cloud-config-archive|#cloud-config|#cloud-boothook|#include-once|#include|#part-handler|#upstart-job"
    rb"|## template: ?jinja|content-type:|mime-version:",
    re.IGNORECASE,
)


def unpack(data: bytes) -> bytes:
    """Return user data as it was before it was compressed with gzip, if it was. Raises ValueError."""
    if not data.startswith(b"\x1f\x8b"):
        return data
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(data, _LONGEST)
    except zlib.error as error:
        raise ValueError(f"the user data is not what gzip makes: {error}") from error
    if not unpacker.eof:
        raise ValueError(f"the user data is cut off, or longer than {_LONGEST} bytes when it is unpacked")
    return plain


def unsupported(data: bytes) -> str:
    """Return the name of a kind of user data that AWS's images carry out and this one does not, else ""."""
    found = _OTHER_KINDS.match(unpack(data))
    return found[0].decode().rstrip(":") if found else ""


def script(data: bytes) -> tuple[bytes, str]:
    """Return the script to run, b"" for none, and what the console says of it."""
    try:
        plain, other = unpack(data), unsupported(data)
    except ValueError as error:
        return b"", f"{error}: nothing is run"
    if plain.startswith(b"#!"):
        return plain, f"running the script ({plain.splitlines()[0].decode(errors='replace')})"
    if other:
        return b"", f"the embedded AWS does not support {other}: nothing is run"
    return (
        b"",
        "it does not begin with #!, so cloud-init does not know what to do with it: nothing is run"
        if plain
        else "none",
    )
