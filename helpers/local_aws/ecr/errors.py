"""ECR's words for what is there, or is not."""

from helpers.local_aws.wire import AwsError, Site

_SAID = {
    "RepositoryNotFoundException": "The repository with name '{0}' does not exist in the registry with id '{1}'",
    "RepositoryAlreadyExistsException": "The repository with name '{0}' already exists in the registry with id '{1}'",
    "RepositoryNotEmptyException": "The repository with name '{0}' in registry with id '{1}' cannot be deleted because"
    " it still contains images",
}


def problem(code: str, name: str, site: Site) -> AwsError:
    """Return an error about the repository ``name``."""
    return AwsError(code, _SAID[code].format(name, site.account_id))
