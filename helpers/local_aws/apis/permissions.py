"""What IAM is asked for a call of API Gateway: the HTTP method, on the path below /v2, and its condition keys.

By the Service Authorization Reference (API Gateway Management V2). Tags ask for more: those of
a new API for POST on the tags of all APIs, those of a new stage for TagResource, which the
reference does not have but AWS demands.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from helpers.local_aws import tag_keys
from helpers.local_aws.apis.records import Api
from helpers.local_aws.wire import Params, Permission, Site, service_model


def arn(site: Site, path: str) -> str:
    """Return the ARN of an API's resource, which has no account: ``/apis/{id}/routes/{id}``."""
    return f"arn:aws:apigateway:{site.region}::{path}"


def of(site: Site, operation: str, params: Params, api: Api | None) -> Sequence[Permission]:
    """Return the permissions that ``operation`` needs; ``api`` is the one that it names, where that exists."""
    http = service_model("apigatewayv2").operation_model(operation).http
    path = http["requestUri"].removeprefix("/v2")
    for label, member in (("apiId", "ApiId"), ("integrationId", "IntegrationId"), ("routeId", "RouteId"),
                          ("stageName", "StageName"), ("resource-arn", "ResourceArn")):  # fmt: skip
        path = path.replace(f"{{{label}}}", quote(str(params.get(member, "")), safe="$"))
    needed = [Permission(f"apigateway:{http['method']}", arn(site, path), _context(operation, params, api))]
    tags = params.get("Tags") or {}
    if tags and operation == "CreateApi":
        # The API has no id yet. What AWS asks for instead stands in its AccessDeniedException: /v2 and a bare asterisk.
        tagged = arn(site, f"/tags/{quote(arn(site, '/v2/apis/*'), safe='*')}")
        needed.append(Permission("apigateway:POST", tagged, tag_keys.of_request(tags)))
    if tags and operation == "CreateStage":
        needed.append(Permission("apigateway:TagResource", arn(site, path), tag_keys.of_request(tags)))
    return needed


def _context(operation: str, params: Params, api: Api | None) -> dict[str, Any]:
    context = tag_keys.of_request(params.get("Tags") or {}, params.get("TagKeys") or ())
    if operation in ("CreateApi", "UpdateApi") and "Name" in params:
        context["apigateway:Request/ApiName"] = params["Name"]
    if operation in ("CreateRoute", "UpdateRoute"):
        context["apigateway:Request/RouteAuthorizationType"] = params.get("AuthorizationType", "NONE")
    if operation == "CreateStage":
        context["apigateway:Request/StageName"] = params["StageName"]
    if api:
        context["apigateway:Resource/ApiName"] = api.settings["Name"]
        route = api.routes.get(params.get("RouteId", ""))
        if route:
            context["apigateway:Resource/RouteAuthorizationType"] = route["AuthorizationType"]
        stage = api.stages.get(params.get("StageName", ""))
        tags = api.tags if stage is None else stage.get("Tags", {})
        context |= tag_keys.of_resource(tags)
    return context
