"""What ListJobs and the Describe operations select, and the pages they answer in."""

from collections.abc import Callable, Iterable
from typing import Any

from helpers.local_aws import pages
from helpers.local_aws.batch.errors import client, executing, unsupported
from helpers.local_aws.batch.records import Job
from helpers.local_aws.wire import Params

PAGE = 100
_LONG_PAGE = 1000  # of ListJobs without filters


def select(jobs: Iterable[Job], params: Params) -> list[Job]:
    """Return the jobs of a queue, or the children of an array, that ListJobs asks for, the newest first."""
    filters = params.get("filters") or []
    if len(filters) > 1:
        raise executing("Only one filter can be used at a time.")
    if filters:
        fits = _filter(filters[0])
    else:
        status = params.get("jobStatus", "RUNNING")

        def fits(job: Job) -> bool:
            return job.status == status

    found = [job for job in jobs if fits(job)]
    return sorted(found, key=lambda job: (-job.number, job.index))


def page(items: list[Any], params: Params, longest: int = PAGE) -> tuple[list[Any], dict[str, str]]:
    """Return one page of ``items``, and the token of the next one where there is one."""
    size = params.get("maxResults", longest)
    if not size >= 1:
        raise executing("maxResults must be at least 1.")
    try:
        found, token = pages.cut(items, params.get("nextToken"), min(size, longest))
    except ValueError:
        raise client("The nextToken is not valid.") from None
    return found, {"nextToken": token} if token else {}


def longest_page(params: Params) -> int:
    """Return how many jobs ListJobs returns at most."""
    return PAGE if params.get("filters") else _LONG_PAGE


def _filter(given: dict[str, Any]) -> Callable[[Job], bool]:
    name, values = given.get("name", ""), given.get("values", [])
    if len(values) != 1:
        raise executing(f"The filter {name:.50} must have one value.")
    value: str = values[0]
    if name == "JOB_NAME":
        return lambda job: _like(value.lower(), job.name.lower())
    if name == "JOB_DEFINITION":
        if value.startswith("arn:"):
            return lambda job: job.definition == value
        return lambda job: _like(value, job.definition.rpartition("/")[2].rpartition(":")[0])
    if name in ("BEFORE_CREATED_AT", "AFTER_CREATED_AT"):
        if not value.isascii() or not value.isdigit():
            raise executing(f"The value of the filter {name} is a number of milliseconds.")
        moment = int(value)
        return (lambda job: job.created < moment) if name[0] == "B" else (lambda job: job.created > moment)
    if name == "SHARE_IDENTIFIER":
        raise unsupported("the filter SHARE_IDENTIFIER: there are no fair-share queues here")
    raise executing(f"{name:.50} is not a filter of ListJobs.")


def _like(pattern: str, text: str) -> bool:
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern
