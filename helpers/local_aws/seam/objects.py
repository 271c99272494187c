"""S3 tells only those who may list a bucket that an object is not there; everybody else is denied."""

from typing import Any

from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.seam.identity import Identity
from helpers.local_aws.seam.notifications import ACTING
from helpers.local_aws.wire import AwsError, Permission


class ObjectHooks:
    """What differs from how ministack answers requests for objects."""

    def __init__(self, ministack: Ministack, identity: Identity) -> None:
        self._s3, self._identity = ministack.s3, identity

    def install(self) -> None:
        """Put the hook in. A task of a state machine is asked elsewhere: it has no request of its own."""
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
