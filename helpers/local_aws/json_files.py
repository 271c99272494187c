"""Records as JSON files, each replaced as a whole."""

import json
import os
from pathlib import Path


def write(path: Path, content: object) -> None:
    """Replace the file at ``path`` by ``content`` as JSON, so that a kill leaves the old one or the new one.

    Its folder has to be there. Two threads must not write the same file at once.
    """
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(json.dumps(content, separators=(",", ":")))
    os.replace(draft, path)
