"""Which environment a container image stands for."""

import re

from helpers.local_aws.wire import AwsError, Permission

_URI = re.compile(
    r"(?P<registry>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/(?P<repository>[^:@]+)(?:[:@].+)?"
)
_KNOWN = ("sagemaker-scikit-learn",)


def is_known(image_uri: str) -> bool:
    """Tell whether an image is one of SageMaker's own that stand for this Python environment."""
    match = _URI.fullmatch(image_uri)
    return match is not None and match["repository"] in _KNOWN


def in_ecr(image_uri: str) -> bool:
    """Tell whether a URI names an image of a private registry of ECR."""
    return _URI.fullmatch(image_uri) is not None


def require_known(image_uri: str) -> None:
    """Raise ValidationException unless ``image_uri`` is an image that the embedded AWS can run.

    Every version of the scikit-learn container is this Python environment. On
    AWS an image that does not exist is found only when the job starts; here
    the answer comes at once, because no other image can ever run.
    """
    if not is_known(image_uri):
        raise AwsError(
            "ValidationException",
            f"The embedded AWS cannot run the image {image_uri}: it knows the repository {', '.join(_KNOWN)} only.",
        )


def pull_permissions(image_uri: str) -> list[Permission]:
    """Return what a job's role needs for SageMaker to pull a known image from ECR."""
    match = _URI.fullmatch(image_uri)
    assert match is not None, "require_known has let the image through"
    arn = f"arn:aws:ecr:{match['region']}:{match['registry']}:repository/{match['repository']}"
    actions = ("BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer")
    return [Permission("ecr:GetAuthorizationToken"), *(Permission(f"ecr:{action}", arn) for action in actions)]
