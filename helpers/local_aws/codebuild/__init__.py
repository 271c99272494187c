"""CodeBuild of the embedded AWS: builds that really run their buildspec."""

from helpers.local_aws.codebuild.service import REPORT_PATH, CodeBuild

__all__ = ["REPORT_PATH", "CodeBuild"]
