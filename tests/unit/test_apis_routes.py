"""Routes of HTTP APIs: which keys name one, and which one a request takes."""

import pytest

from helpers.local_aws.apis import routes

KEYS = [
    ("default", "$default"),
    ("any", "ANY /{rest+}"),
    ("pets", "GET /pets/{rest+}"),
    ("pet", "GET /pets/{kind}/{id}"),
    ("dog", "GET /pets/dog/{id}"),
    ("first", "GET /pets/dog/1"),
    ("root", "GET /"),
]


@pytest.mark.parametrize(
    ("method", "path", "taken", "values"),
    [
        ("GET", "/pets/dog/1", "first", {}),
        ("GET", "/pets/dog/2", "dog", {"id": "2"}),
        ("GET", "/pets/cat/2%2F3", "pet", {"kind": "cat", "id": "2/3"}),
        ("GET", "/pets/cat", "pets", {"rest": "cat"}),
        ("GET", "/pets/cat/1/2", "pets", {"rest": "cat/1/2"}),
        ("POST", "/pets/dog/1", "any", {"rest": "pets/dog/1"}),
        ("GET", "/", "root", {}),
        ("GET", "/pets/", "any", {"rest": "pets/"}),
        ("POST", "/", "default", {}),
        ("GET", "/PETS/dog/1", "any", {"rest": "PETS/dog/1"}),
    ],
)
def test_the_most_specific_route_is_taken(method: str, path: str, taken: str, values: dict[str, str]) -> None:
    for keys in (KEYS, KEYS[::-1]):
        assert routes.choose(keys, method, path) == routes.Match(taken, values)


@pytest.mark.parametrize("path", ["/start/", "//start", "/start/more", "/", "/%73tart"])
def test_a_path_has_to_be_the_routes(path: str) -> None:
    assert routes.choose([("start", "POST /start")], "POST", path) is None


def test_a_method_goes_before_any_method() -> None:
    match = routes.choose([("any", "ANY /x/{id}"), ("get", "GET /x/{id}")], "GET", "/x/1")
    assert match == routes.Match("get", {"id": "1"})


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/start",
        "POST start",
        "post /start",
        "TRACE /x",
        "POST",
        "GET /{a}/{a}",
        "GET /{a+}/b",
        "GET /a b",
        "GET /{}",
    ],
)
def test_other_texts_are_no_keys(key: str) -> None:
    with pytest.raises(routes.NotARouteKey):
        routes.parse(key)


@pytest.mark.parametrize(
    ("key", "path"),
    [("POST /start", "POST/start"), ("ANY /x/{id}", "*/x/{id}"), ("$default", "$default"), ("GET /", "GET/")],
)
def test_how_a_route_stands_in_a_source_arn(key: str, path: str) -> None:
    assert routes.source_path(key) == path
