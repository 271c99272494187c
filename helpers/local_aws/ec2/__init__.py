"""EC2: instances that run their user data as processes of this machine."""

from helpers.local_aws.ec2.service import Ec2

__all__ = ["Ec2"]
