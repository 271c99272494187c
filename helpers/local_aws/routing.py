"""Which service a request is for, and whether it has the form that this service takes."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qs

from helpers.local_aws.asgi import Scope
from helpers.local_aws.wire import AwsError, service_model

# What a request to each service looks like. ministack routes some paths and hosts, and every
# X-Amz-Target, before it looks at a signature: a request of another form never gets that far.
JSON_MODELS = {"states": "stepfunctions", "logs": "logs", "events": "events"} | {
    name: name for name in ("codebuild", "codecommit", "sagemaker", "dynamodb", "ecr", "ecs", "sqs", "ssm")
}
PATHS = {
    "s3": re.compile(r"/(?!health$|logout$|oauth2/|iceberg|v20180820/)([a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?)?", re.S),
    "lambda": re.compile(r"/20\d\d-\d\d-\d\d/(?!microvm|network-connectors).*", re.S),
    "apigateway": re.compile(r"/v2/.*", re.S),
    "batch": re.compile(r"/v1/([a-z]+|tags/.+)", re.S),
}
ONLY_ONCE = (b"authorization", b"host", b"x-amz-target")


def require_single(scope: Scope) -> None:
    """Raise AwsError where a header that decides who is asked, or by whom, was sent twice."""
    sent = [name.lower() for name, _ in scope["headers"]]
    if any(sent.count(name) > 1 for name in ONLY_ONCE):
        raise AwsError("BadRequest", "a header that decides who is asked, or by whom, was sent twice")


def signing_service(headers: Mapping[str, str], query_string: str) -> str:
    """Return the service that a SigV4 signature is scoped to. Raises AwsError when there is none.

    Only S3 takes a signature in the query (presigned URLs).
    """
    query = parse_qs(query_string)
    in_query = "X-Amz-Credential" in query or "AWSAccessKeyId" in query
    if in_query and "authorization" in headers:
        raise AwsError("InvalidArgument", "Only one auth mechanism allowed")
    found = re.match(
        r"AWS4-HMAC-SHA256 Credential=[^/,]+/\d{8}/[^/,]+/([^/,]+)/aws4_request\b", headers.get("authorization", "")
    )
    if found:
        return found[1]
    scope = query.get("X-Amz-Credential", [""])[0].split("/")
    if "X-Amz-Signature" in query and len(scope) == 5 and scope[3] == "s3":
        return "s3"
    if "AWSAccessKeyId" in query:
        # What S3 says of signature version 2, which it takes for no bucket made since June 2020.
        raise AwsError(
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256"
            " (boto3: Config(signature_version='s3v4')).",
        )
    raise AwsError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)


def require_form(service: str, scope: Scope, headers: Mapping[str, str]) -> None:
    """Raise AwsError unless a request has the path, method and target that ``service`` takes."""
    method, path, target = scope["method"], scope["path"], headers.get("x-amz-target")
    if service in PATHS:
        fits = PATHS[service].fullmatch(path) and target is None and method != "OPTIONS"
    else:
        # Parameters in the query besides those in the body would leave open which of them IAM is asked about.
        fits = path == "/" and method == "POST" and not scope["query_string"]
        if service in JSON_MODELS:
            prefix = service_model(JSON_MODELS[service]).metadata["targetPrefix"]
            fits = fits and target is not None and target.rpartition(".")[0] == prefix
        else:
            fits = fits and target is None
    if not fits:
        what = f"{method} {path}" + (f" with target {target}" if target else "")
        raise AwsError("UnknownOperationException", f"{service} has no operation at {what}", 404)


def require_region(headers: Mapping[str, str], region: str) -> None:
    """Raise AwsError for a signature of another region: there its client would find other resources, on AWS."""
    found = re.match(r"AWS4-HMAC-SHA256 Credential=[^/,]+/\d{8}/([^/,]+)/", headers["authorization"])
    if found is None or found[1] != region:
        raise AwsError("InvalidSignatureException", "Credential should be scoped to a valid region.", 403)
