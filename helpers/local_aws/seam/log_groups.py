"""Log groups that a service makes itself, in the account that it serves."""

from helpers.local_aws.seam.hooks import Ministack


class LogGroups:
    """The log groups of CloudWatch Logs."""

    def __init__(self, ministack: Ministack) -> None:
        self._logs = ministack.logs

    def ensure(self, name: str) -> None:
        """Make the log group ``name``, or find that it is there. Nobody is asked: a service does this by itself."""
        if name not in self._logs._log_groups:
            self._logs._create_log_group({"logGroupName": name})
