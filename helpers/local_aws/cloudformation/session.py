"""The clients with which one operation makes its calls: of a service role, or of whoever asked for the operation."""

import contextlib
import ctypes
import gc
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.loaders import Loader

from helpers.local_aws.cloudformation.errors import invalid
from helpers.local_aws.cloudformation.parameters import Lookups
from helpers.local_aws.cloudformation.template import URL_LIMIT
from helpers.local_aws.wire import AwsError, Site, read_model

_CONFIG = Config(retries={"max_attempts": 1}, proxies={}, s3={"addressing_style": "path"}, max_pool_connections=8)
_STORE_NAMES = 10  # the most that one GetParameters takes


class _Loader(Loader):
    """botocore's service models without their documentation, which is most of their size."""

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        if type_name != "service-2":
            return super().load_service_model(service_name, type_name, api_version)
        return read_model(service_name, api_version or self.determine_latest_version(service_name, type_name))


class Session:
    """Clients of one principal, each made when it is first asked for; ``close`` drops them all."""

    def __init__(self, site: Site, credentials: Mapping[str, str]) -> None:
        self._site, self._lock = site, threading.Lock()
        core = botocore.session.Session()
        core.register_component("data_loader", _Loader())
        self._session: Any = boto3.session.Session(
            credentials["AWS_ACCESS_KEY_ID"],
            credentials["AWS_SECRET_ACCESS_KEY"],
            credentials.get("AWS_SESSION_TOKEN"),
            region_name=site.region,
            botocore_session=core,
        )
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """Return the client of a service; safe to call from several threads."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._session.client(
                    service, endpoint_url=self._site.endpoint_url, config=_CONFIG
                )
            return self._clients[service]

    def close(self) -> None:
        """Close every connection, and give the memory of the service models back."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()
            self._session = None
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):  # only the C library of Linux has it
            ctypes.CDLL(None).malloc_trim(0)

    def lookups(self) -> Lookups:
        """Return what parameters are looked up with."""
        return Lookups(self._stored, self._missing)

    def zones(self, region: str) -> list[str]:
        """Return the names of the availability zones of the region."""
        if region != self._site.region:
            raise invalid(f"Template error: Fn::GetAZs: {region} is not the region of this stack")
        with asked():
            found = self.client("ec2").describe_availability_zones()["AvailabilityZones"]
        return sorted(zone["ZoneName"] for zone in found)

    def object_text(self, bucket: str, key: str) -> str:
        """Return a template that lies in S3. Raises AwsError (ValidationError)."""
        try:
            answer = self.client("s3").get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            raise invalid(f"S3 error: {error.response['Error']['Message']}") from None
        if answer["ContentLength"] > URL_LIMIT:
            raise invalid(f"Member must have length less than or equal to {URL_LIMIT} at 'templateURL'")
        try:
            return answer["Body"].read().decode()
        except UnicodeDecodeError:
            raise invalid("Template format error: the template is not text.") from None

    def _stored(self, names: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for start in range(0, len(names), _STORE_NAMES):
            with asked():
                answer = self.client("ssm").get_parameters(Names=list(names[start : start + _STORE_NAMES]))
            found |= {item["Name"]: item["Value"] for item in answer["Parameters"] if item["Type"] != "SecureString"}
        return found

    def _missing(self, kind: str, ids: Sequence[str]) -> list[str]:
        operation, member = {
            "subnet": ("describe_subnets", "SubnetIds"),
            "vpc": ("describe_vpcs", "VpcIds"),
            "security-group": ("describe_security_groups", "GroupIds"),
            "image": ("describe_images", "ImageIds"),
            "zone": ("describe_availability_zones", "ZoneNames"),
        }[kind]
        for item in ids:
            try:
                getattr(self.client("ec2"), operation)(**{member: [item]})
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code.endswith((".NotFound", ".Malformed")) or code == "InvalidParameterValue":
                    return [item]
                raise _translated(error) from None
        return []


class asked:  # noqa: N801 -- reads as part of a sentence: with asked():
    """Turn a refusal of a service, met while a request is still being checked, into CloudFormation's answer."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Translate."""
        if isinstance(error, ClientError):
            raise _translated(error) from None


def _translated(error: ClientError) -> AwsError:
    answer = error.response["Error"]
    denied = error.response["ResponseMetadata"]["HTTPStatusCode"] == 403 or "AccessDenied" in answer["Code"]
    return AwsError("AccessDenied", answer["Message"], 403) if denied else invalid(answer["Message"])
