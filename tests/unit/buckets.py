"""A bucket of a test: objects with their times, behind a boto3 client."""

import datetime as dt
import io
import json
from typing import Any

from answers import Aws, Refused


class Bucket:
    """Objects with their times, in seconds of one morning; S3 lists them two on a page."""

    def __init__(self) -> None:
        """Begin empty."""
        self.objects: dict[str, tuple[bytes, dt.datetime]] = {}
        answers = {"s3:ListObjectsV2": self.list, "s3:GetObject": self.get, "s3:HeadObject": self.head}
        self.aws = Aws(answers)
        self.s3 = self.aws.client("s3")

    def put(self, key: str, body: Any, at: float = 0) -> None:
        """Store bytes, or anything else as JSON."""
        when = dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=at)
        self.objects[key] = (body if isinstance(body, bytes) else json.dumps(body).encode(), when)

    def list(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer ListObjectsV2."""
        keys = sorted(key for key in self.objects if key.startswith(params["Prefix"]))
        if "Delimiter" in params:
            length = len(params["Prefix"])
            found = sorted({params["Prefix"] + key[length:].partition("/")[0] + "/" for key in keys})
            name, items = "CommonPrefixes", [{"Prefix": prefix} for prefix in found]
        else:
            name, items = "Contents", [{"Key": key, "LastModified": self.objects[key][1]} for key in keys]
        start = int(params.get("ContinuationToken", 0))
        more = start + 2 < len(items)
        return {name: items[start : start + 2], "IsTruncated": more, "NextContinuationToken": str(start + 2)}

    def get(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer GetObject."""
        if params["Key"] not in self.objects:
            raise Refused("NoSuchKey", "The specified key does not exist.", 404)
        return {"Body": io.BytesIO(self.objects[params["Key"]][0])}

    def head(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer HeadObject."""
        if params["Key"] not in self.objects:
            raise Refused("404", "Not Found", 404)
        return {"LastModified": self.objects[params["Key"]][1]}
