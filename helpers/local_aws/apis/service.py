"""The API of API Gateway (V2): HTTP APIs with Lambda integrations, routes, stages that deploy themselves, tags."""

import datetime as dt
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import unquote

from helpers.local_aws import pages
from helpers.local_aws.apis import permissions, routes
from helpers.local_aws.apis.records import Api, Item, Records, new_id
from helpers.local_aws.operations import not_supported
from helpers.local_aws.rest import RestService
from helpers.local_aws.wire import AwsError, Caller, Params, Permission, Site

PAGE = 25
MOST_TAGS = 50
LONGEST_NAME = 128
LONGEST_TIMEOUT = 30_000  # ms
SELECTION = "${request.method} ${request.path}"
PLAIN_SELECTION = "$request.method $request.path"  # the same, as the documentation writes it
_FUNCTION = re.compile(r"arn:aws:lambda:([a-z0-9-]+):(\d{12}):function:[A-Za-z0-9_-]{1,64}(:[$A-Za-z0-9_-]{1,128})?")
_INVOCATIONS = re.compile(r"arn:aws:apigateway:([a-z0-9-]+):lambda:path/2015-03-31/functions/(.+)/invocations")
_STAGE = re.compile(r"\$default|[A-Za-z0-9_-]{1,128}")

# What is carried out of each operation's parameters; what else botocore's model has is refused by name.
_CARRIED_OUT = {
    "CreateApi": "Name ProtocolType Description Version Tags RouteSelectionExpression IpAddressType",
    "UpdateApi": "ApiId Name Description Version RouteSelectionExpression IpAddressType",
    "CreateIntegration": "ApiId IntegrationType IntegrationUri IntegrationMethod PayloadFormatVersion TimeoutInMillis"
    " Description ConnectionType",
    "UpdateIntegration": "ApiId IntegrationId IntegrationType IntegrationUri IntegrationMethod PayloadFormatVersion"
    " TimeoutInMillis Description ConnectionType",
    "CreateRoute": "ApiId RouteKey AuthorizationType Target OperationName",
    "UpdateRoute": "ApiId RouteId RouteKey AuthorizationType Target OperationName",
    "CreateStage": "ApiId StageName AutoDeploy Description Tags",
}
# Of parameters that are carried out, the values that are.
_VALUES = {
    "ProtocolType": ("HTTP",),
    "IpAddressType": ("ipv4",),
    "IntegrationType": ("AWS_PROXY",),
    "IntegrationMethod": ("POST",),
    "PayloadFormatVersion": ("2.0",),
    "ConnectionType": ("INTERNET",),
    "AuthorizationType": ("NONE", "AWS_IAM"),
    "AutoDeploy": (True,),
}


class Apis(RestService):
    """Answer API Gateway's operations on HTTP APIs; what is not here is refused by name.

    ``endpoint(api_id)`` returns the address of an API.
    """

    name: ClassVar[str] = "apigatewayv2"

    def __init__(self, site: Site, endpoint: Callable[[str], str]) -> None:
        super().__init__(site)
        self._endpoint = endpoint
        self.records = Records(site.state_dir / "apis")

    def permissions(self, operation: str, params: Params) -> Sequence[Permission]:
        """Return what API Gateway's authorization reference demands for the operation."""
        api = self.records.find(params.get("ApiId", ""))
        if "ResourceArn" in params:
            api = self.records.find(params["ResourceArn"].partition("/apis/")[2].partition("/")[0])
        return permissions.of(self.site, operation, params, api)

    def invalid(self, operation: str, member: str, problem: str) -> AwsError:
        """Return API Gateway's error for a parameter that breaks the model's constraints."""
        return _bad(problem)

    # -- APIs

    def create_api(self, params: Params, caller: Caller) -> Params:
        """Make an API. Names need not be unique."""
        _require_carried_out("CreateApi", params)
        _require_name(params)
        tags = _tagged({}, params.get("Tags", {}))
        kept = ("Name", "Description", "Version")
        return self._api(self.records.add({name: params[name] for name in kept if name in params}, tags))

    def get_api(self, params: Params, caller: Caller) -> Params:
        """Return an API."""
        return self._api(self._find(params))

    def get_apis(self, params: Params, caller: Caller) -> Params:
        """Return the APIs, the oldest first."""
        return _page(params, [self._api(api) for api in self.records.all()])

    def update_api(self, params: Params, caller: Caller) -> Params:
        """Change an API's name, description or version."""
        api = self._find(params)
        _require_carried_out("UpdateApi", params)
        _require_name(params)
        new: Item = {name: params[name] for name in ("Name", "Description", "Version") if name in params}
        self.records.change(api, lambda: api.settings.update(new))
        return self._api(api)

    def delete_api(self, params: Params, caller: Caller) -> Params:
        """Remove an API with its routes, integrations and stages."""
        self.records.remove(self._find(params))
        return {}

    # -- integrations

    def create_integration(self, params: Params, caller: Caller) -> Params:
        """Let an API hand requests to a Lambda function."""
        api = self._find(params)
        _require_carried_out("CreateIntegration", params)
        made = {
            "IntegrationId": new_id(7, api.integrations),
            "ConnectionType": "INTERNET",
            "IntegrationMethod": "POST",
            "PayloadFormatVersion": "",
            "IntegrationUri": "",
            "TimeoutInMillis": LONGEST_TIMEOUT,
            **_without_api(params),
        }
        self._check_integration(made)
        self.records.change(api, lambda: api.integrations.update({made["IntegrationId"]: made}))
        return made

    def get_integration(self, params: Params, caller: Caller) -> Params:
        """Return an integration."""
        return self._integration(self._find(params), params["IntegrationId"])

    def get_integrations(self, params: Params, caller: Caller) -> Params:
        """Return an API's integrations."""
        return _page(params, list(self._find(params).integrations.values()))

    def update_integration(self, params: Params, caller: Caller) -> Params:
        """Change an integration."""
        api = self._find(params)
        made = {**self._integration(api, params["IntegrationId"]), **_without_api(params)}
        _require_carried_out("UpdateIntegration", params)
        self._check_integration(made)
        self.records.change(api, lambda: api.integrations.update({made["IntegrationId"]: made}))
        return made

    def delete_integration(self, params: Params, caller: Caller) -> Params:
        """Remove an integration that no route uses."""
        api = self._find(params)
        integration = self._integration(api, params["IntegrationId"])["IntegrationId"]
        users = [
            each["RouteKey"] for each in api.routes.values() if each.get("Target") == f"integrations/{integration}"
        ]
        if users:
            message = f"Cannot delete Integration '{integration}'. Referenced by route '{users[0]}'."
            raise AwsError("ConflictException", message, 409)
        self.records.change(api, lambda: api.integrations.pop(integration, None))
        return {}

    # -- routes

    def create_route(self, params: Params, caller: Caller) -> Params:
        """Let requests of a method and path, or all others, reach an integration."""
        api = self._find(params)
        _require_carried_out("CreateRoute", params)
        made = {"RouteId": new_id(7, api.routes), "AuthorizationType": "NONE", "ApiKeyRequired": False}
        return self._put_route(api, {**made, **_without_api(params)})

    def get_route(self, params: Params, caller: Caller) -> Params:
        """Return a route."""
        return self._route(self._find(params), params["RouteId"])

    def get_routes(self, params: Params, caller: Caller) -> Params:
        """Return an API's routes."""
        return _page(params, list(self._find(params).routes.values()))

    def update_route(self, params: Params, caller: Caller) -> Params:
        """Change a route."""
        api = self._find(params)
        known = self._route(api, params["RouteId"])
        _require_carried_out("UpdateRoute", params)
        return self._put_route(api, {**known, **_without_api(params)})

    def delete_route(self, params: Params, caller: Caller) -> Params:
        """Remove a route."""
        api = self._find(params)
        route = self._route(api, params["RouteId"])["RouteId"]
        self.records.change(api, lambda: api.routes.pop(route, None))
        return {}

    # -- stages

    def create_stage(self, params: Params, caller: Caller) -> Params:
        """Make a stage, which serves the API as it is at any time."""
        api, name = self._find(params), params["StageName"]
        if not params.get("AutoDeploy"):
            raise not_supported("apigatewayv2:CreateStage without AutoDeploy (there are no deployments)")
        _require_carried_out("CreateStage", params)
        if not _STAGE.fullmatch(name):
            raise _bad("Stage name only allows a-zA-Z0-9_")
        stage = {**_without_api(params), "Tags": _tagged({}, params.get("Tags", {})), "created": time.time()}

        def put() -> None:
            if name in api.stages:
                raise AwsError("ConflictException", f"Stage already exists: {name}", 409)
            api.stages[name] = stage

        self.records.change(api, put)
        return _stage(stage)

    def get_stage(self, params: Params, caller: Caller) -> Params:
        """Return a stage."""
        return _stage(self._find_stage(self._find(params), params["StageName"]))

    def get_stages(self, params: Params, caller: Caller) -> Params:
        """Return an API's stages."""
        return _page(params, [_stage(each) for each in self._find(params).stages.values()])

    def delete_stage(self, params: Params, caller: Caller) -> Params:
        """Remove a stage: it is served no more."""
        api = self._find(params)
        name = self._find_stage(api, params["StageName"])["StageName"]
        self.records.change(api, lambda: api.stages.pop(name, None))
        return {}

    # -- tags

    def tag_resource(self, params: Params, caller: Caller) -> Params:
        """Add tags to an API or a stage."""
        api, tags = self._tags_of(params["ResourceArn"])
        new = _tagged(tags, params.get("Tags", {}))
        self.records.change(api, lambda: tags.update(new))
        return {}

    def untag_resource(self, params: Params, caller: Caller) -> Params:
        """Take tags off an API or a stage."""
        api, tags = self._tags_of(params["ResourceArn"])

        def remove() -> None:
            for key in params["TagKeys"]:
                tags.pop(key, None)

        self.records.change(api, remove)
        return {}

    def get_tags(self, params: Params, caller: Caller) -> Params:
        """Return the tags of an API or a stage."""
        return {"Tags": dict(self._tags_of(params["ResourceArn"])[1])}

    # -- what operations share

    def _api(self, api: Api) -> Params:
        return {
            "ApiId": api.api_id,
            "ApiEndpoint": self._endpoint(api.api_id),
            "ApiKeySelectionExpression": "$request.header.x-api-key",
            "CreatedDate": _moment(api.created),
            "DisableExecuteApiEndpoint": False,
            "IpAddressType": "ipv4",
            "ProtocolType": "HTTP",
            "RouteSelectionExpression": SELECTION,
            "Tags": dict(api.tags),
            **api.settings,
        }

    def _find(self, params: Params) -> Api:
        api = self.records.find(params["ApiId"])
        if api is None:
            owned = f"{self.site.account_id}:{params['ApiId']:.100}"
            raise AwsError("NotFoundException", f"Invalid API identifier specified {owned}", 404)
        return api

    def _integration(self, api: Api, integration: str) -> Item:
        return _one(api.integrations, integration, "Integration")

    def _route(self, api: Api, route: str) -> Item:
        return _one(api.routes, route, "Route")

    def _find_stage(self, api: Api, stage: str) -> Item:
        return _one(api.stages, stage, "stage")

    def _put_route(self, api: Api, route: Item) -> Item:
        key, target = route["RouteKey"], route.get("Target")
        if key != routes.DEFAULT:
            try:
                routes.parse(key)
            except routes.NotARouteKey as error:
                raise _bad(str(error)) from None
        if target is not None and not target.startswith("integrations/"):
            raise _bad(
                "Unexpected or malformed target in route. Correct format should be integrations/<integration_id>."
            )
        if target is not None and target.removeprefix("integrations/") not in api.integrations:
            raise _bad("The provided target does not exist or is not an integration of this API.")

        def put() -> None:
            if any(each["RouteKey"] == key and each["RouteId"] != route["RouteId"] for each in api.routes.values()):
                raise AwsError("ConflictException", f"Route with key {key} already exists for this API", 409)
            api.routes[route["RouteId"]] = route

        self.records.change(api, put)
        return route

    def _check_integration(self, made: Item) -> None:
        if made["PayloadFormatVersion"] != "2.0":
            # For HTTP APIs the parameter must be given; 1.0 is what AWS also has.
            raise _bad("PayloadFormatVersion is a required parameter for Lambda integration")
        function = function_arn(made["IntegrationUri"])
        parts = function.split(":") if function else []
        if parts[3:5] != [self.site.region, self.site.account_id]:
            raise _bad(f"Invalid integration URI specified: {made['IntegrationUri']:.200}")

    def _tags_of(self, resource: str) -> tuple[Api, dict[str, str]]:
        """Return the API of a resource's ARN, and the tags of the resource, which may be changed."""
        path = resource.removeprefix(permissions.arn(self.site, ""))
        kind, _, rest = path.removeprefix("/").partition("/")
        api_id, _, stage = rest.partition("/stages/")
        api = self.records.find(api_id)
        if (
            path == resource
            or kind != "apis"
            or api is None
            or ("/stages/" in rest and unquote(stage) not in api.stages)
        ):
            raise AwsError("NotFoundException", f"Invalid resource identifier specified {resource:.200}", 404)
        return api, api.stages[unquote(stage)]["Tags"] if stage else api.tags


def function_arn(uri: str) -> str:
    """Return the ARN of the function that an integration's URI names, in either of its two forms, or ""."""
    wrapped = _INVOCATIONS.fullmatch(uri)
    arn = wrapped[2] if wrapped else uri
    return arn if _FUNCTION.fullmatch(arn) else ""


def _require_carried_out(operation: str, params: Params) -> None:
    for name, value in params.items():
        if name not in _CARRIED_OUT[operation].split():
            raise not_supported(f"the parameter {name} of apigatewayv2:{operation}")
        if name in _VALUES and value not in _VALUES[name]:
            known = " and ".join(map(str, _VALUES[name]))
            raise not_supported(f"{name} {value!s:.50} of apigatewayv2:{operation}, only {known}")
        if name == "RouteSelectionExpression" and value not in (SELECTION, PLAIN_SELECTION):
            raise _bad(f'Route selection expression is currently limited to "{SELECTION}"')


def _require_name(params: Params) -> None:
    if "Name" in params and not 0 < len(params["Name"]) <= LONGEST_NAME:
        raise _bad("Invalid API name specified")


def _tagged(known: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Return the tags with ``new`` ones. Raises BadRequestException for those that AWS does not take."""
    for key, value in new.items():
        if not 0 < len(key) <= 128 or key.lower().startswith("aws:") or len(value) > 256:
            raise _bad(f"Invalid tag specified: {key:.128}")
    if len({*known, *new}) > MOST_TAGS:
        raise _bad(f"A resource has at most {MOST_TAGS} tags")
    return {**known, **new}


def _page(params: Params, items: Sequence[Any]) -> Params:
    text = params.get("MaxResults", str(PAGE))
    if not text.isdecimal() or not 0 < int(text) <= 500:
        raise _bad("Invalid MaxResults specified: a number from 1 to 500")
    try:
        found, token = pages.cut(items, params.get("NextToken"), int(text))
    except ValueError:
        raise _bad("Invalid NextToken specified") from None
    return {"Items": found, **({"NextToken": token} if token else {})}


def _one(items: Mapping[str, Item], name: str, kind: str) -> Item:
    if name not in items:
        raise AwsError("NotFoundException", f"Invalid {kind} identifier specified", 404)
    return items[name]


def _stage(stage: Item) -> Params:
    """Return a stage as the API shows it."""
    made = _moment(stage["created"])
    shown = {name: value for name, value in stage.items() if name != "created"}
    return {**shown, "DefaultRouteSettings": {"DetailedMetricsEnabled": False}, "RouteSettings": {},
            "StageVariables": {}, "CreatedDate": made, "LastUpdatedDate": made}  # fmt: skip


def _without_api(params: Params) -> Params:
    return {name: value for name, value in params.items() if name != "ApiId"}


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _bad(message: str) -> AwsError:
    return AwsError("BadRequestException", message)
