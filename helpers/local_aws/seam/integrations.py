"""S3 as tasks call it: the request that an SDK would send, decided by the machine's role, served by ministack."""

import functools
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from botocore.awsrequest import HeadersDict
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator

from helpers.local_aws.seam.hooks import Ministack
from helpers.local_aws.seam.notifications import ACTING
from helpers.local_aws.states import parameters
from helpers.local_aws.states.failures import TaskFailed, sdk_error
from helpers.local_aws.states.histories import text_of
from helpers.local_aws.states.moments import iso
from helpers.local_aws.wire import AwsError, Caller, Params, Permission, Site, service_model

_SERIALIZER, _PARSER, _VALIDATOR = create_serializer("rest-xml", False), create_parser("rest-xml"), ParamValidator()


class S3Calls:
    """Operations of S3, made inside this process as a role."""

    def __init__(self, site: Site, ministack: Ministack) -> None:
        self._site, self._ministack = site, ministack
        self._handler = functools.partial(ministack.s3.handle_request, internal=True)

    def call(self, operation: str, params: Params, role: Caller) -> Params:
        """Return an operation's answer as a task gets it: times and bodies as text. Raises TaskFailed."""
        answer = self.answer(operation, params, role)
        if "Body" in answer:
            try:
                answer["Body"] = answer["Body"].decode()
            except UnicodeDecodeError:
                raise TaskFailed("States.Runtime", "the object is not text in UTF-8") from None
        return parameters.from_service(None, answer, iso)

    def answer(self, operation: str, params: Params, role: Caller) -> Params:
        """Return an operation's answer as botocore gives it. Raises TaskFailed."""
        model = service_model("s3").operation_model(operation)
        if operation == "PutObject" and "Body" in params:
            # Step Functions writes what it has as JSON: text comes to lie in S3 with its quotes.
            params = {**params, "Body": text_of(params["Body"]).encode()}
        report = _VALIDATOR.validate(params, model.input_shape)
        if report.has_errors():
            raise TaskFailed("States.Runtime", f"S3 takes no such parameters: {report.generate_report()}")
        request = _SERIALIZER.serialize_to_request(params, model)
        path, _, fixed = request["url_path"].partition("?")
        path = unquote(path)
        query = {name: str(value) for name, value in request["query_string"].items()}
        if fixed:
            query.update([fixed.split("=", 1)])
        headers = {name.lower(): str(value) for name, value in request["headers"].items()}
        self._require(request["method"], path, headers, query, role)
        before = ACTING.set(role.arn)
        try:
            return self._send(operation, path, headers, query, request, role)
        finally:
            ACTING.reset(before)

    def _require(self, method: str, path: str, headers: dict, query: dict, role: Caller) -> None:
        """Ask IAM what the same request over HTTP asks. Raises TaskFailed."""
        actions = self._ministack.actions
        action = actions.extract_iam_action("s3", method, path, headers, b"", query)
        arn = actions.extract_resource_arn(
            "s3", method, path, headers, b"", query, self._site.region, self._site.account_id
        )
        try:
            role.require(Permission(action, arn, actions.s3_service_context(action, query, path, headers)))
        except AwsError as error:
            raise sdk_error("s3", "AccessDenied", error.message, 403) from error

    def _send(
        self, operation: str, path: str, headers: dict, query: dict, request: Mapping[str, Any], role: Caller
    ) -> Params:
        model = service_model("s3").operation_model(operation)
        sent = {**headers, "host": self._site.endpoint_url.removeprefix("http://")}
        status, received, body = self._serve(request["method"], path, sent, request["body"] or b"", query)
        streamed = operation == "GetObject" and status < 400
        answer = {"status_code": status, "headers": HeadersDict(received), "body": b"" if streamed else body}
        parsed = _PARSER.parse(answer, model.output_shape)
        parsed.pop("ResponseMetadata", None)
        if streamed:
            parsed["Body"] = body
        if status < 400:
            return parsed
        error = parsed.get("Error", {})
        code = error.get("Code", "")
        if operation == "HeadObject" and status == 404:  # which has no body to say it in
            code = "NoSuchKey"
        if code == "NoSuchKey" and not self._may_list(path, role):
            # S3 tells only those who may list the bucket that an object is not there.
            raise sdk_error("s3", "AccessDenied", "Access Denied", 403)
        raise sdk_error("s3", code, error.get("Message", ""), status)

    def _serve(self, method: str, *request: Any) -> tuple:
        """Let S3 serve a request: what changes something in the server's own thread, what only reads in this one.

        A turn of the server's thread takes longer than S3 does.
        """
        if method in ("GET", "HEAD"):
            reading = self._handler(method, *request)
            try:
                reading.send(None)
            except StopIteration as done:
                return done.value
            reading.close()  # it waits for something, which takes an event loop
        return self._ministack.app.call_service_handler_sync(self._handler, method, *request)

    def _may_list(self, path: str, role: Caller) -> bool:
        try:
            role.require(Permission("s3:ListBucket", f"arn:aws:s3:::{path.strip('/').partition('/')[0]}"))
        except AwsError:
            return False
        return True
