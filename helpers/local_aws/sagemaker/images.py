"""Which environment a container image stands for."""

import re

from helpers.local_aws.wire import AwsError

_URI = re.compile(r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/(?P<repository>[^:@]+)(?:[:@].+)?")
_KNOWN = ("sagemaker-scikit-learn",)


def require_known(image_uri: str) -> None:
    """Raise ValidationException unless ``image_uri`` is an image that the embedded AWS can run.

    Every version of the scikit-learn container is this Python environment. On
    AWS an image that does not exist is found only when the job starts; here
    the answer comes at once, because no other image can ever run.
    """
    match = _URI.fullmatch(image_uri)
    if match is None or match["repository"] not in _KNOWN:
        raise AwsError(
            "ValidationException",
            f"The embedded AWS cannot run the image {image_uri}: it knows the repository {', '.join(_KNOWN)} only.",
        )
