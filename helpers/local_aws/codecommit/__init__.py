"""CodeCommit of the embedded AWS: bare git repositories, AWS's API on top, git's smart HTTP beside it."""

from helpers.local_aws.codecommit.git_http import GitHttp
from helpers.local_aws.codecommit.service import CodeCommit

__all__ = ["CodeCommit", "GitHttp"]
