"""The names that Step Functions takes, of executions and activities."""

import re

from helpers.local_aws.wire import AwsError

NAME = re.compile(r"""[^\s\x00-\x1f\x7f-\x9f<>{}\[\]?*"#%\\^|~`$&,;:/]{1,80}""")


def require(name: str) -> None:
    """Raise AwsError (InvalidName) unless ``name`` is one."""
    if not NAME.fullmatch(name):
        raise AwsError("InvalidName", f"Invalid Name: '{name}'")
