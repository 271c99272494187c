"""What a build's container runs: the agent, in a process that knows this project by its place only."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # In place of this folder, whose modules are named like those of others.
    sys.path[0] = str(Path(__file__).resolve().parents[3])
    from helpers.local_aws.builds.agent import main

    main()
