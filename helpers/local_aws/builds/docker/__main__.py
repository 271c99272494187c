"""``python -m helpers.local_aws.builds.docker FOLDER daemon|no-daemon ARGUMENTS…``, which `docker` stands for."""

import sys

from helpers.local_aws.builds.docker.cli import main

sys.exit(main(sys.argv[1], sys.argv[2] == "daemon", sys.argv[3:]))
