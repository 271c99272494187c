"""S3's notifications: checked when they are configured, sent before the request that caused them is answered."""

import base64
import contextvars
import logging
import os
import secrets
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from helpers.local_aws.notifications import configuration, records
from helpers.local_aws.notifications.configuration import Configuration
from helpers.local_aws.notifications.records import Happened, Request, Sequencer
from helpers.local_aws.seam.functions import FunctionHooks
from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.seam.identity import Identity
from helpers.local_aws.wire import AwsError, Site

S3 = "s3.amazonaws.com"
NO_PERMISSION = {
    "lambda": "Not authorized to invoke function [{}]",
    "sqs": "Permissions on the destination queue do not allow S3 to publish notifications from this bucket",
    "sns": "Permissions on the destination topic do not allow S3 to publish notifications from this bucket",
}

# The ARN of the session in which this process makes a request of its own; "" while it serves somebody else's.
ACTING: contextvars.ContextVar[str] = contextvars.ContextVar("acting", default="")

logger = logging.getLogger(__name__)


class NotificationHooks:
    """In place of ministack's, which starts a thread for each event and asks no function's policy."""

    def __init__(self, site: Site, ministack: Ministack, identity: Identity, functions: FunctionHooks) -> None:
        self._site, self._ministack, self._identity, self._functions = site, ministack, identity, functions
        self._sequencer, self._owner = Sequencer(), records.owner_id(site.account_id)
        self._ids: contextvars.ContextVar[tuple[str, str] | None] = contextvars.ContextVar(
            "s3_request_ids", default=None
        )

    def install(self) -> None:
        """Put the hooks in."""
        s3 = self._ministack.s3
        dispatch, test_event = s3._dispatch, s3._fire_s3_test_event

        def dispatch_with_ids(*request: Any) -> tuple:
            # The ids that the answer carries are those that the event names.
            ids = _new_ids()
            self._ids.set(ids)
            status, headers, body = dispatch(*request)
            return status, {"x-amz-request-id": ids[0], "x-amz-id-2": ids[1], **headers}, body

        def put_configuration(bucket: str, body: bytes, headers: dict | None = None) -> tuple:
            if bucket not in s3._buckets:
                return s3._no_such_bucket(bucket)
            try:
                configurations = configuration.parse(body.decode("utf-8", errors="replace"))
                configuration.check(configurations, self._region(bucket))
            except AwsError as error:
                return s3._error(error.code, error.message, error.status)
            skip = (headers or {}).get("x-amz-skip-destination-validation", "").lower() == "true"
            unreachable = [] if skip else [one for one in configurations if not self._reaches(bucket, one)]
            if unreachable:
                return _refused(unreachable)
            s3._bucket_notifications.pop(bucket, None)
            if configurations:
                s3._bucket_notifications[bucket] = configuration.to_xml(configurations)
                if not skip:
                    test_event(bucket)
            return 200, {}, b""

        s3._dispatch = dispatch_with_ids
        s3._put_bucket_notification = put_configuration
        s3._fire_s3_event_async = self._happened

    def _happened(
        self,
        bucket: str,
        key: str,
        event: str,
        size: int = 0,
        etag: str = "",
        deletion_type: str | None = None,
        version_id: str | None = None,
        object_extra: dict[str, Any] | None = None,
        record_extra: dict[str, Any] | None = None,
    ) -> None:
        """Send an event of S3 to whom it concerns. Runs while the request is served, in S3's one thread."""
        document = self._ministack.s3._bucket_notifications.get(bucket)
        if not document:
            return
        concerned = [one for one in configuration.stored(document) if one.wants(event, key)]
        if not concerned:
            return
        happened = Happened(bucket, key, event, size, etag, version_id, object_extra or {})
        request = Request(self._principal_id(), "127.0.0.1", self._ids.get() or _new_ids())
        sequencer = self._sequencer.next()
        for one in concerned:
            message = records.event(
                happened, request, sequencer=sequencer, region=self._region(bucket), owner_id=self._owner,
                configuration_id=one.id,
            )  # fmt: skip
            self._send(bucket, one, message)

    def _send(self, bucket: str, one: Configuration, message: dict[str, Any]) -> None:
        s3 = self._ministack.s3
        if one.service == "lambda":
            try:
                self._functions.invoke_for(S3, one.arn, message, f"arn:aws:s3:::{bucket}")
            except AwsError as error:
                logger.warning("an event of bucket %s is dropped: %s", bucket, error)
        elif one.service == "sqs":
            s3._deliver_event_to_sqs(one.arn, message, self._region(bucket), bucket_name=bucket)
        else:
            s3._deliver_event_to_sns(one.arn, message, self._region(bucket), bucket_name=bucket)

    def _reaches(self, bucket: str, one: Configuration) -> bool:
        """Whether the destination is there and its policy lets S3 send it this bucket's events."""
        s3 = self._ministack.s3
        if one.service == "lambda":
            try:
                self._functions.require_for(S3, one.arn, f"arn:aws:s3:::{bucket}")
            except AwsError:
                return False
            return True
        return s3._notification_destination_exists(
            one.service, one.arn, self._region(bucket)
        ) and s3._notification_destination_allows(one.service, one.arn, bucket, self._site.account_id)

    def _region(self, bucket: str) -> str:
        return self._ministack.s3._notification_bucket_region(bucket)

    def _principal_id(self) -> str:
        """Return who makes the request, as events name it: AWS: and the id of the user, or of the role and session."""
        if ACTING.get():
            role, session_name = ACTING.get().split("/")[-2:]
            return f"AWS:{(self._ministack.iam._roles.get(role) or {}).get('RoleId', 'unknown')}:{session_name}"
        key = self._identity._requester.get()
        session = self._ministack.sts._sessions.get(key)
        if session:
            return f"AWS:{session['UserId']}"
        user = (self._ministack.iam._access_keys.get(key) or {}).get("UserName", "")
        return f"AWS:{(self._ministack.iam._users.get(user) or {}).get('UserId', 'unknown')}"


def _new_ids() -> tuple[str, str]:
    return secrets.token_hex(8).upper(), base64.b64encode(os.urandom(48)).decode()


def _refused(unreachable: Sequence[Configuration]) -> tuple:
    """Return S3's answer that names the destinations which it may not reach."""
    root = ElementTree.Element("Error")
    ElementTree.SubElement(root, "Code").text = "InvalidArgument"
    ElementTree.SubElement(root, "Message").text = "Unable to validate the following destination configurations"
    for number, one in enumerate(unreachable, 1):
        ElementTree.SubElement(root, f"ArgumentName{number}").text = f"{one.arn}, null"
        ElementTree.SubElement(root, f"ArgumentValue{number}").text = NO_PERMISSION[one.service].format(one.arn)
    return 400, {"Content-Type": "application/xml"}, ElementTree.tostring(root, xml_declaration=True, encoding="UTF-8")
