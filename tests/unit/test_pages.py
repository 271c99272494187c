"""Pages of lists: every item comes once, and what is no token is refused."""

import base64

import pytest

from helpers.local_aws import pages


@pytest.mark.parametrize(("size", "count"), [(1, 5), (2, 3), (5, 1), (9, 1), (None, 1)])
def test_pages_together_are_the_list(size: int | None, count: int) -> None:
    found: list[list[str]] = []
    token: str | None = None
    while token != "":
        page, token = pages.cut("abcde", token, size)
        found.append(page)
    assert (len(found), "".join(item for page in found for item in page)) == (count, "abcde")


@pytest.mark.parametrize("token", ["no token", "é", "eA==", base64.b64encode(b"-1").decode(), "MQ"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        pages.cut("abcde", token, 2)
