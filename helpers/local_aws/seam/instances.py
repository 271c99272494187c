"""EC2 and ministack's IAM: the instance profiles that instances are launched with."""

from helpers.local_aws.ec2.launching import Profile
from helpers.local_aws.seam.hooks import Ministack


class InstanceProfiles:
    """Look instance profiles up. Whether EC2 may assume the role is asked when an instance asks for credentials."""

    def __init__(self, ministack: Ministack) -> None:
        self._iam = ministack.iam

    def find(self, name: str, arn: str) -> Profile | None:
        """Return the profile with this name or, where ``name`` is "", this ARN; None where there is none."""
        record = self._iam._instance_profiles.get(name or arn.rpartition("/")[2])
        if record is None or (not name and record["Arn"] != arn):
            return None
        role = self._iam._roles.get(record["Roles"][0]) if record["Roles"] else None
        return Profile(record["Arn"], record["InstanceProfileId"], role["Arn"] if role else "")
