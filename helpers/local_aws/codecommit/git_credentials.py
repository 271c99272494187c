"""The HTTP Basic credentials that `aws codecommit credential-helper` makes.

The user name is the access key id, with "%" and the session token behind it
where there is one. The password is a timestamp and a Signature Version 4 over
the host without its port and the repository's path.
"""

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Callable

from helpers.local_aws.wire import AwsError, Caller

# Returns the secret key and the caller of an access key id and a session token ("" for none). Raises AwsError.
Verify = Callable[[str, str], tuple[str, Caller]]

MAX_AGE = dt.timedelta(minutes=15)
_PASSWORD = re.compile(r"(\d{8}T\d{6})Z([0-9a-f]{64})")


def authenticate(authorization: str, host: str, path: str, region: str, verify: Verify) -> Caller:
    """Return who signed for ``path`` on ``host``. Raises AwsError: 401 for no credentials, 403 for wrong ones."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        user, password = "", ""
    if scheme.lower() != "basic" or not user:
        raise AwsError("MissingAuthenticationToken", "credentials of the CodeCommit credential helper are needed", 401)
    match = _PASSWORD.fullmatch(password)
    if match is None:
        raise _denied("the password is not one that the CodeCommit credential helper makes")
    access_key_id, _, session_token = user.partition("%")
    try:
        secret, caller = verify(access_key_id, session_token)
        age = dt.datetime.now(dt.UTC) - dt.datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=dt.UTC)
    except ValueError:
        raise _denied("the password's timestamp is not a date") from None
    if abs(age) > MAX_AGE:
        raise _denied("the signature has expired; check this machine's clock")
    if not hmac.compare_digest(sign(secret, match[1], host, path, region), match[2]):
        raise _denied("the signature does not match: secret key, region, host or path differ")
    return caller


def sign(secret: str, timestamp: str, host: str, path: str, region: str) -> str:
    """Return the signature for a timestamp such as 20260131T235959 (signed without its Z, unlike other requests)."""
    canonical = f"GIT\n{path}\n\nhost:{host.split(':')[0]}\n\nhost\n"
    scope = f"{timestamp[:8]}/{region}/codecommit/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()


def _denied(message: str) -> AwsError:
    return AwsError("SignatureDoesNotMatch", message, 403)
