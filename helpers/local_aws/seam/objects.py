"""Where S3 differs from ministack: who is told that an object is not there, and the account's own key.

S3 tells only those who may list a bucket; everybody else is denied. And it takes
``aws:kms`` without a key: the one that it has itself in each account.
"""

import uuid
from typing import Any

from helpers.local_aws.patterns import star
from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.seam.identity import Identity
from helpers.local_aws.seam.notifications import ACTING
from helpers.local_aws.wire import AwsError, Permission, Site

_KEY = "x-amz-server-side-encryption-aws-kms-key-id"


class ObjectHooks:
    """What differs from how ministack answers requests for objects."""

    def __init__(self, site: Site, ministack: Ministack, identity: Identity) -> None:
        self._site, self._s3, self._identity = site, ministack.s3, identity

    def install(self) -> None:
        """Put the hooks in."""
        self._answer_discreetly()
        self._use_the_account_s_key()
        self._s3._cors_pattern_matches = _matches

    def _use_the_account_s_key(self) -> None:
        """Let objects be written with the key of alias aws/s3, whose id a client leaves out (SageMaker's SDK does)."""
        resolve = self._s3._resolve_sse_write_headers
        # Here too a key is but a name: objects lie on this machine as they are.
        key = self._site.arn("kms", f"key/{uuid.uuid5(uuid.NAMESPACE_URL, self._site.arn('kms', 'alias/aws/s3'))}")

        def resolve_with_key(headers: dict[str, str], bucket: str) -> tuple:
            if headers.get("x-amz-server-side-encryption") == "aws:kms" and not headers.get(_KEY):
                headers = {**headers, _KEY: key}
            return resolve(headers, bucket)

        self._s3._resolve_sse_write_headers = resolve_with_key

    def _answer_discreetly(self) -> None:
        """Say that an object is missing to those who may know.

        A task of a state machine is asked elsewhere: it has no request of its own.
        """
        dispatch = self._s3._dispatch

        def dispatch_discreetly(method: str, bucket: str, key: str, *request: Any) -> tuple:
            answer = dispatch(method, bucket, key, *request)
            missing = method in ("GET", "HEAD") and key and answer[0] == 404 and bucket in self._s3._buckets
            if not missing or ACTING.get() or not self._identity.has_requester():
                return answer
            try:
                self._identity.require_of_requester(Permission("s3:ListBucket", f"arn:aws:s3:::{bucket}"))
            except AwsError as error:
                return self._s3._error("AccessDenied", error.message, 403)
            return answer

        self._s3._dispatch = dispatch_discreetly


def _matches(pattern: str, value: str, flags: int = 0) -> bool:
    """Hold an origin or a header against a CORS rule. ministack's own takes ever longer, the more * there are."""
    return bool(star(pattern.lower()).match(value.lower()) if flags else star(pattern).match(value))
