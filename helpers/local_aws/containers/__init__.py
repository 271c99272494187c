"""What runs as a container: started, watched, logged and ended by one piece of code, whatever asked for it.

``Containers`` runs those of ECS tasks, Batch jobs and builds. What it stands on,
``hosts`` and ``slots``, serves processing jobs, training jobs and EC2 instances
too; the other end is in ``workers``.
"""

from helpers.local_aws.containers.model import Container, End, Image, Log
from helpers.local_aws.containers.runs import Containers
from helpers.local_aws.containers.slots import Slots

__all__ = ["Container", "Containers", "End", "Image", "Log", "Slots"]
