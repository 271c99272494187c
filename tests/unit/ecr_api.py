"""The ECR API, called inside this process."""

import hashlib
import json
from typing import Any

import pytest

from helpers.local_aws.ecr import Ecr
from helpers.local_aws.wire import AwsError, Caller, Permission, Site

HOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
ARN = "arn:aws:ecr:us-east-1:123456789012:repository/"


class Api:
    """ECR, called by somebody who may do everything; what IAM was asked is written down."""

    def __init__(self, folder: Any, now: float = 1_000_000.0) -> None:
        self.asked: list[Permission] = []
        self.now = now
        self.site = Site(folder, "http://127.0.0.1:1", "us-east-1", "123456789012")
        self.ecr = Ecr(self.site, lambda: self.now)
        self.caller = Caller("arn:aws:iam::123456789012:user/somebody", self.asked.append)

    def __call__(self, operation: str, **params: Any) -> dict:
        self.asked.clear()
        return self.ecr.call(operation, params, self.caller)

    def refused(self, operation: str, **params: Any) -> tuple[str, str]:
        with pytest.raises(AwsError) as caught:
            self(operation, **params)
        return caught.value.code, caught.value.message

    def upload(self, data: bytes, repository: str = "images") -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        upload = self("InitiateLayerUpload", repositoryName=repository)["uploadId"]
        where = {"repositoryName": repository, "uploadId": upload}
        self("UploadLayerPart", **where, partFirstByte=0, partLastByte=len(data) - 1, layerPartBlob=data)
        self("CompleteLayerUpload", **where, layerDigests=[digest])
        return digest

    def push(self, content: str = "one", tag: str | None = "v1", repository: str = "images") -> str:
        config, layer = f'{{"config":{{"Env":["A={content}"]}}}}'.encode(), f"layer {content}".encode()
        text = manifest(config, layer)
        for data in (config, layer):
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            has = self("BatchCheckLayerAvailability", repositoryName=repository, layerDigests=[digest])
            if has["layers"][0]["layerAvailability"] == "UNAVAILABLE":
                self.upload(data, repository)
        named = {"imageTag": tag} if tag else {}
        return self("PutImage", repositoryName=repository, imageManifest=text, **named)["image"]["imageId"][
            "imageDigest"
        ]


def manifest(config: bytes, layer: bytes) -> str:
    def descriptor(kind: str, data: bytes) -> dict:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        return {"mediaType": f"application/vnd.docker.{kind}", "size": len(data), "digest": digest}

    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": descriptor("container.image.v1+json", config),
            "layers": [descriptor("image.rootfs.diff.tar.gzip", layer)],
        }
    )
