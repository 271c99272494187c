"""The ECR API: repositories, their images, layers, and the tokens with which a registry is asked."""

import base64
import datetime as dt
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from helpers.local_aws.ecr import pages, requests
from helpers.local_aws.ecr.errors import problem
from helpers.local_aws.ecr.images import Images
from helpers.local_aws.ecr.manifests import Manifest, is_digest, read
from helpers.local_aws.ecr.store import Repository, Store, Stored
from helpers.local_aws.wire import AwsError, Caller, Params, Permission, Service, Site

TOKEN_SECONDS = 12 * 3600
LINK_SECONDS = 3600
PART_SIZE = 10 * 2**20  # bytes, which ECR proposes
MOST_OF_LAYER = 4 * 2**30  # bytes; ECR takes 52,000 MiB


class Ecr(Service):
    """Repositories of images. ``images`` says what an image is as a container."""

    name: ClassVar[str] = "ecr"

    def __init__(self, site: Site, now: Callable[[], float] = time.time) -> None:
        super().__init__(site)
        self._store, self._now = Store(site.state_dir / "ecr"), now
        self.images = Images(site, self._store)
        self._tokens: dict[str, tuple[float, Caller]] = {}  # password: until when, and who got it
        self._links: dict[str, tuple[float, str]] = {}  # secret: until when, and the layer

    def permissions(self, operation: str, params: Params) -> Sequence[Permission]:
        """Return what ECR's authorization reference demands for the operation."""
        return requests.permissions(self.site, self._store, operation, params)

    def invalid(self, operation: str, member: str, problem: str) -> AwsError:
        """Return ECR's error for a parameter that breaks the model's constraints."""
        return AwsError("InvalidParameterException", f"Invalid parameter at '{member}': {problem}")

    def token_owner(self, password: str) -> Caller | None:
        """Return who was given a token of the registry, or None for one that is unknown or has expired."""
        until, caller = self._tokens.get(password, (0.0, None))
        return caller if until > self._now() else None

    def linked_layer(self, secret: str) -> str | None:
        """Return the layer that a download URL gave out, or None when it has expired."""
        until, digest = self._links.get(secret, (0.0, ""))
        return digest if until > self._now() else None

    @property
    def store(self) -> Store:
        """What the registry keeps."""
        return self._store

    # Repositories

    def create_repository(self, params: Params, caller: Caller) -> Params:
        """Make a repository."""
        requests.check_creation(self.site, params)
        name = params["repositoryName"]
        labels = requests.labels({}, params.get("tags", []))
        with self._store.lock:
            if self._store.find(name):
                raise problem("RepositoryAlreadyExistsException", name, self.site)
            repository = Repository(name, self._now(), params.get("imageTagMutability", "MUTABLE"), labels=labels)
            self._store.save(repository)
        return {"repository": self._described(repository)}

    def describe_repositories(self, params: Params, caller: Caller) -> Params:
        """Describe the repositories that are named, or all."""
        requests.check_registry(self.site, params)
        names = params.get("repositoryNames")
        found = [self._find(name) for name in names] if names else self._store.all()
        return pages.page("repositories", [self._described(repository) for repository in found], params)

    def delete_repository(self, params: Params, caller: Caller) -> Params:
        """Delete a repository, with its images if ``force`` says so."""
        requests.check_registry(self.site, params)
        with self._store.lock:
            repository = self._find(params["repositoryName"])
            if repository.images and not params.get("force"):
                raise problem("RepositoryNotEmptyException", repository.name, self.site)
            self._store.delete(repository.name)
        return {"repository": self._described(repository)}

    def put_image_tag_mutability(self, params: Params, caller: Caller) -> Params:
        """Let tags move from image to image, or not."""
        requests.check_creation(self.site, params)
        with self._store.lock:
            repository = self._find(params["repositoryName"])
            repository.mutability = params["imageTagMutability"]
            self._store.save(repository)
        return {**self._named(repository), "imageTagMutability": repository.mutability}

    def tag_resource(self, params: Params, caller: Caller) -> Params:
        """Add tags to a repository, or change their values."""
        with self._store.lock:
            repository = self._of_arn(params["resourceArn"])
            repository.labels = requests.labels(repository.labels, params["tags"])
            self._store.save(repository)
        return {}

    def untag_resource(self, params: Params, caller: Caller) -> Params:
        """Remove tags from a repository; keys that it does not have are no error."""
        with self._store.lock:
            repository = self._of_arn(params["resourceArn"])
            kept = {key: value for key, value in repository.labels.items() if key not in params["tagKeys"]}
            repository.labels = kept
            self._store.save(repository)
        return {}

    def list_tags_for_resource(self, params: Params, caller: Caller) -> Params:
        """List the tags of a repository."""
        labels = self._of_arn(params["resourceArn"]).labels
        return {"tags": [{"Key": key, "Value": value} for key, value in labels.items()]}

    # Images

    def list_images(self, params: Params, caller: Caller) -> Params:
        """List an entry for each tag, and for each image without one."""
        repository, status = self._asked(params), params.get("filter", {}).get("tagStatus", "ANY")
        found = [entry for digest in repository.images for entry in _entries(repository, digest)]
        kept = [entry for entry in found if status in ("ANY", "TAGGED" if "imageTag" in entry else "UNTAGGED")]
        return pages.page("imageIds", kept, params)

    def describe_images(self, params: Params, caller: Caller) -> Params:
        """Describe images: those that are named, or all."""
        repository, status = self._asked(params), params.get("filter", {}).get("tagStatus", "ANY")
        digests = list(repository.images)
        if params.get("imageIds"):
            digests = [self._digest(repository, image) for image in params["imageIds"]]
        found = [self._image(repository, digest) for digest in dict.fromkeys(digests)]
        kept = [image for image in found if status in ("ANY", "TAGGED" if "imageTags" in image else "UNTAGGED")]
        return pages.page("imageDetails", kept, params)

    def batch_get_image(self, params: Params, caller: Caller) -> Params:
        """Return manifests; of what is not there, why."""
        repository = self._asked(params)
        images, failures = [], []
        for image_id in params["imageIds"]:
            try:
                digest = self._digest(repository, image_id)
            except AwsError as error:
                failures.append(_failure(image_id, error))
                continue
            stored = repository.images[digest]
            images.append(self._manifest_of(repository, digest, stored, image_id.get("imageTag")))
        return {"images": images, "failures": failures}

    def batch_delete_image(self, params: Params, caller: Caller) -> Params:
        """Delete images by digest, or take tags away; an image goes with its last tag."""
        deleted, failures = [], []
        with self._store.lock:
            repository = self._asked(params)
            for image_id in params["imageIds"]:
                try:
                    digest = self._digest(repository, image_id)
                except AwsError as error:
                    failures.append(_failure(image_id, error))
                    continue
                if tag := image_id.get("imageTag"):
                    del repository.tags[tag]
                    deleted.append({"imageTag": tag, "imageDigest": digest})
                else:
                    deleted += _entries(repository, digest)
                if "imageTag" not in image_id or not repository.tags_of(digest):
                    del repository.images[digest]
                    repository.tags = {tag: it for tag, it in repository.tags.items() if it != digest}
            self._store.tidy(repository)
        return {"imageIds": deleted, "failures": failures}

    def put_image(self, params: Params, caller: Caller) -> Params:
        """Keep a manifest, whose layers are there, under its digest and a tag."""
        data, tag = params["imageManifest"].encode(), params.get("imageTag")
        try:
            manifest = read(data, params.get("imageManifestMediaType", ""))
        except ValueError as error:
            raise AwsError("InvalidParameterException", f"Invalid parameter at 'ImageManifest': {error}") from None
        with self._store.lock:
            repository = self._asked(params)
            missing = [digest for digest in manifest.contents if digest not in repository.layers]
            if missing:
                said = (
                    f"Layers with digests '[{', '.join(missing)}]' required for pushing image into repository with name"
                )
                raise AwsError(
                    "LayersNotFoundException",
                    f"{said} '{repository.name}' in the registry with id '{self.site.account_id}' do not exist",
                )
            digest = self._store.put(data)
            self._check_push(repository, digest, tag, params.get("imageDigest"))
            if digest not in repository.images:
                repository.images[digest] = self._new(manifest, len(data))
            if tag:
                repository.tags[tag] = digest
            self._store.save(repository)
            return {"image": self._manifest_of(repository, digest, repository.images[digest], tag)}

    def _check_push(self, repository: Repository, digest: str, tag: str | None, said: str | None) -> None:
        if said and said != digest:
            message = f"The specified image digest '{said}' does not match the digest of the manifest, '{digest}'"
            raise AwsError("ImageDigestDoesNotMatchException", message)
        before = repository.tags.get(tag or "")
        if digest in repository.images and (before == digest or tag is None):
            named = f"digest '{digest}' and tag '{tag}'" if tag else f"digest '{digest}'"
            message = f"Image with {named} already exists in the repository with name '{repository.name}'"
            raise AwsError("ImageAlreadyExistsException", f"{message} in registry with id '{self.site.account_id}'")
        if before and repository.mutability == "IMMUTABLE":
            raise AwsError(
                "ImageTagAlreadyExistsException",
                f"The image tag '{tag}' already exists in the '{repository.name}' repository and cannot be overwritten"
                " because the tag is immutable.",
            )

    def _new(self, manifest: Manifest, length: int) -> Stored:
        return Stored(manifest.media_type, self._now(), manifest.size + length, manifest.contents)

    # Layers

    def batch_check_layer_availability(self, params: Params, caller: Caller) -> Params:
        """Say which layers a repository has."""
        repository = self._asked(params)
        layers: list[Params] = []
        failures: list[Params] = []
        for digest in params["layerDigests"]:
            if not is_digest(digest):
                code, reason = "InvalidLayerDigest", "Invalid layer digest provided"
                failures.append({"layerDigest": digest, "failureCode": code, "failureReason": reason})
            elif digest in repository.layers:
                size = self._store.blob(digest).stat().st_size
                layers.append({"layerDigest": digest, "layerAvailability": "AVAILABLE", "layerSize": size})
            else:
                layers.append({"layerDigest": digest, "layerAvailability": "UNAVAILABLE"})
        return {"layers": layers, "failures": failures}

    def get_download_url_for_layer(self, params: Params, caller: Caller) -> Params:
        """Return an address that gives a layer to whoever has it, for an hour."""
        repository, digest = self._asked(params), params["layerDigest"]
        if digest not in repository.layers:
            message = f"Layer '{digest}' does not exist in the repository with name '{repository.name}'"
            raise AwsError("LayersNotFoundException", message)
        secret, now = secrets.token_urlsafe(32), self._now()
        self._links = {key: link for key, link in self._links.items() if link[0] > now}
        self._links[secret] = now + LINK_SECONDS, digest
        return {"downloadUrl": f"{self.site.endpoint_url}/v2/_layers/{secret}", "layerDigest": digest}

    def initiate_layer_upload(self, params: Params, caller: Caller) -> Params:
        """Begin to upload a layer."""
        return {"uploadId": self._store.begin_upload(self._asked(params).name), "partSize": PART_SIZE}

    def upload_layer_part(self, params: Params, caller: Caller) -> Params:
        """Add a part to a layer: the one that comes next."""
        repository, upload, data = self._asked(params), params["uploadId"], params["layerPartBlob"]
        received = self._uploaded(repository, upload)
        if received + len(data) > MOST_OF_LAYER:
            raise AwsError("LimitExceededException", f"A layer is at most {MOST_OF_LAYER} bytes in the embedded AWS")
        first, last = params["partFirstByte"], params["partLastByte"]
        if first != received or last != first + len(data) - 1:
            message = (
                f"The part's bytes {first}-{last} do not follow the {received} that have come, or are not {len(data)}"
            )
            raise AwsError("InvalidLayerPartException", message)
        with self._store.open_upload(repository.name, upload) as file:
            file.write(data)
        return {**self._named(repository), "uploadId": upload, "lastByteReceived": last}

    def complete_layer_upload(self, params: Params, caller: Caller) -> Params:
        """Keep an uploaded layer, if its digest is the one that is said."""
        repository, upload = self._asked(params), params["uploadId"]
        if self._uploaded(repository, upload) == 0:
            raise AwsError("EmptyUploadException", "The specified layer upload does not contain any layer parts.")
        for digest in params["layerDigests"]:
            if digest in repository.layers:
                message = f"Layer with digest '{digest}' already exists in the repository with name '{repository.name}'"
                raise AwsError("LayerAlreadyExistsException", message)
        kept = self._store.finish_upload(repository.name, upload, params["layerDigests"])
        if kept is None:
            raise AwsError("InvalidLayerException", "The layer digest calculation performed by ECR does not match it.")
        return {**self._named(repository), "uploadId": upload, "layerDigest": kept}

    def get_authorization_token(self, params: Params, caller: Caller) -> Params:
        """Return what the registry takes as the password of the user AWS: whoever has it acts as the caller."""
        for registry in params.get("registryIds", []):
            requests.check_registry(self.site, {"registryId": registry})
        now, password = self._now(), secrets.token_urlsafe(48)
        self._tokens = {key: token for key, token in self._tokens.items() if token[0] > now}
        self._tokens[password] = now + TOKEN_SECONDS, caller
        data = {
            "authorizationToken": base64.b64encode(f"AWS:{password}".encode()).decode(),
            "expiresAt": dt.datetime.fromtimestamp(now + TOKEN_SECONDS, dt.UTC),
            "proxyEndpoint": f"https://{requests.host(self.site)}",
        }
        return {"authorizationData": [data]}

    def _find(self, name: str) -> Repository:
        repository = self._store.find(name)
        if repository is None:
            raise problem("RepositoryNotFoundException", name, self.site)
        return repository

    def _asked(self, params: Params) -> Repository:
        requests.check_registry(self.site, params)
        return self._find(params["repositoryName"])

    def _of_arn(self, arn: str) -> Repository:
        return self._find(arn.partition(":repository/")[2])

    def _uploaded(self, repository: Repository, upload: str) -> int:
        received = self._store.uploaded(repository.name, upload)
        if received is None:
            message = f"The upload '{upload}' does not exist in the repository with name '{repository.name}'"
            raise AwsError("UploadNotFoundException", message)
        return received

    def _digest(self, repository: Repository, image_id: Params) -> str:
        """Return the digest of the image that an imageId names. Raises ImageNotFoundException."""
        tag, said = image_id.get("imageTag"), image_id.get("imageDigest")
        digest = repository.tags.get(tag) if tag else said
        if tag is None and said is None:
            raise AwsError("InvalidParameterException", "Invalid parameter at 'imageIds': a tag or a digest is needed")
        if digest not in repository.images or (said and said != digest):
            shown = f"{{imageDigest:'{said or 'null'}', imageTag:'{tag or 'null'}'}}"
            raise AwsError(
                "ImageNotFoundException",
                f"The image with imageId {shown} does not exist within the repository with name '{repository.name}'"
                f" in the registry with id '{self.site.account_id}'",
            )
        assert digest is not None, "it is one of the images"
        return digest

    def _named(self, repository: Repository) -> Params:
        return {"registryId": self.site.account_id, "repositoryName": repository.name}

    def _described(self, repository: Repository) -> Params:
        return {
            **self._named(repository),
            "repositoryArn": self.site.arn("ecr", f"repository/{repository.name}"),
            "repositoryUri": f"{requests.host(self.site)}/{repository.name}",
            "createdAt": dt.datetime.fromtimestamp(repository.created, dt.UTC),
            "imageTagMutability": repository.mutability,
            "imageScanningConfiguration": {"scanOnPush": False},
            "encryptionConfiguration": {"encryptionType": "AES256"},
        }

    def _image(self, repository: Repository, digest: str) -> Params:
        stored, tags = repository.images[digest], repository.tags_of(digest)
        return {
            **self._named(repository),
            "imageDigest": digest,
            **({"imageTags": tags} if tags else {}),
            "imageSizeInBytes": stored.size,
            "imagePushedAt": dt.datetime.fromtimestamp(stored.pushed, dt.UTC),
            "imageManifestMediaType": stored.media_type,
        }

    def _manifest_of(self, repository: Repository, digest: str, stored: Stored, tag: str | None) -> Params:
        return {
            **self._named(repository),
            "imageId": {"imageDigest": digest, **({"imageTag": tag} if tag else {})},
            "imageManifest": self._store.blob(digest).read_text(),
            "imageManifestMediaType": stored.media_type,
        }


def _entries(repository: Repository, digest: str) -> list[dict[str, Any]]:
    tags: Iterable[str] = repository.tags_of(digest)
    return [{"imageDigest": digest, "imageTag": tag} for tag in tags] or [{"imageDigest": digest}]


def _failure(image_id: Params, error: AwsError) -> Params:
    code = "ImageNotFound" if error.code == "ImageNotFoundException" else "MissingDigestAndTag"
    reason = "Requested image not found" if code == "ImageNotFound" else error.message
    return {"imageId": image_id, "failureCode": code, "failureReason": reason}
