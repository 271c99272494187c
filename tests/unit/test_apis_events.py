"""Payload format 2.0 of HTTP APIs: what a function is told, and what its answer means."""

from typing import Any

import pytest

from helpers.local_aws.apis.events import BadAnswer, Request, Target, answer, event


def told(method: str = "POST", query: str = "", headers: list[tuple[str, str]] | None = None, body: bytes = b"") -> Any:
    request = Request(method, "/x", query, headers or [], body, "127.0.0.1")
    return event(request, Target("api", "$default", "POST /x"), account_id="1", request_id="id")


def test_headers_and_queries_of_one_name_are_joined() -> None:
    found = told(query="a=1&b=&a=2", headers=[("x-a", "1"), ("x-a", "2"), ("cookie", "a=1; b=2"), ("cookie", "c=3")])
    assert found["queryStringParameters"] == {"a": "1,2", "b": ""}
    assert found["headers"] == {"x-a": "1,2"}
    assert found["cookies"] == ["a=1", "b=2", "c=3"]


def test_what_is_not_there_is_left_out() -> None:
    assert not {"cookies", "queryStringParameters", "pathParameters", "body"} & told().keys()
    assert "authorizer" not in told()["requestContext"]


def test_a_signature_is_not_handed_on() -> None:
    assert told(headers=[("authorization", "secret"), ("x-amz-security-token", "secret")])["headers"] == {}


@pytest.mark.parametrize(
    ("headers", "body", "text", "encoded"),
    [
        ({"content-type": "application/json; charset=utf-8"}, '"é"'.encode(), '"é"', False),
        ({"content-type": "TEXT/plain"}, b"x", "x", False),
        ({"content-type": "application/x-www-form-urlencoded"}, b"a=1", "YT0x", True),
        ({"content-type": "application/json", "content-encoding": "gzip"}, b"x", "eA==", True),
        ({"content-type": "text/plain"}, b"\xff", "/w==", True),
        ({}, b"x", "eA==", True),
    ],
)
def test_a_body_is_text_or_base64(headers: dict[str, str], body: bytes, text: str, encoded: bool) -> None:
    found = told(headers=list(headers.items()), body=body)
    assert (found["body"], found["isBase64Encoded"]) == (text, encoded)


@pytest.mark.parametrize(
    ("result", "status", "body"),
    [
        ({"a": 1}, 200, b'{"a": 1}'),
        ("text", 200, b"text"),
        (None, 200, b"null"),
        ([1], 200, b"[1]"),
        ({"statusCode": "201"}, 201, b""),
        ({"statusCode": 200, "body": "eA==", "isBase64Encoded": True}, 200, b"x"),
        ({"statusCode": 200, "body": "eA=="}, 200, b"eA=="),
    ],
)
def test_what_an_answer_means(result: Any, status: int, body: bytes) -> None:
    found = answer(result)
    assert (found.status, found.body) == (status, body)


def test_headers_of_an_answer() -> None:
    found = answer({"statusCode": 200, "headers": {"X-Yes": True, "Content-Length": "9", "Connection": "close"}})
    assert found.headers == [("x-yes", "true"), ("content-type", "text/plain;charset=UTF-8")]


@pytest.mark.parametrize(
    "result",
    [
        {"statusCode": None},
        {"statusCode": 100},
        {"statusCode": 600},
        {"statusCode": 200.5},
        {"statusCode": 200, "body": 7},
        {"statusCode": 200, "body": "\ud800"},
        "\ud800",
        {"statusCode": 200, "body": "%", "isBase64Encoded": True},
        {"statusCode": 200, "headers": ["x"]},
        {"statusCode": 200, "headers": {"a b": "c"}},
        {"statusCode": 200, "headers": {"a": "b\nc"}},
        {"statusCode": 200, "headers": {"a": ["b"]}},
        {"statusCode": 200, "cookies": "a=1"},
        {"statusCode": 200, "cookies": ["a\r\nb"]},
    ],
)
def test_a_result_that_is_no_answer(result: Any) -> None:
    with pytest.raises(BadAnswer):
        answer(result)
