"""Patterns of paths: ``*``, ``?`` and ``[…]`` stay within a folder, ``**`` stands for any folders."""

from fnmatch import fnmatchcase


def matches(pattern: str, path: str) -> bool:
    """Tell whether the whole ``path`` fits ``pattern``, part by part: no pattern takes long."""
    parts, names = pattern.split("/"), path.split("/")
    ends = {0}  # how many names the parts so far may have used up
    for number, part in enumerate(parts):
        if not ends:
            return False
        if part == "**":
            ends = set(range(min(ends) + (number == len(parts) - 1), len(names) + 1))
        else:
            ends = {end + 1 for end in ends if end < len(names) and fnmatchcase(names[end], part)}
    return len(names) in ends
