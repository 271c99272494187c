"""The function that finds a batch's number in its file's name."""

from typing import Any

import pytest
from function_modules import load_function

from helpers import functions

(batch_id,) = load_function(functions.SOURCES / "batch_id", "lambda_function")


@pytest.mark.parametrize(("key", "number"), [
    ("meta-data/partition_7.csv", 7),
    ("meta-data/partition_0.csv", 0),
    ("meta-data/partition_007.csv", 7),
    ("partition_123456789012345.csv", 123456789012345),
    ("meta-data/partition_8/partition_12.csv", 12),
    ("meta-data/für uns/partition_3.csv", 3),
])  # fmt: skip
def test_the_digits_of_the_base_name_are_the_batch(key: str, number: int) -> None:
    assert batch_id.lambda_handler({"key": key}, None) == {"statusCode": 200, "batch_id": number}


@pytest.mark.parametrize(("key", "error"), [
    ("meta-data/partition_.csv", "partition_.csv needs a number after partition_: there is none"),
    ("meta-data/partition_x.csv", "partition_x.csv needs a number after partition_: 'x' is no whole number"),
    ("meta-data/partition_-1.csv", "partition_-1.csv needs a number after partition_: '-1' is no whole number"),
    ("meta-data/partition_1.5.csv", "partition_1.5.csv needs a number after partition_: '1.5' is no whole number"),
    ("meta-data/partition_٣.csv", "partition_٣.csv needs a number after partition_: '٣' is no whole number"),
    ("meta-data/partition_1\n.csv", "partition_1\n.csv needs a number after partition_: '1\\n' is no whole number"),
    ("meta-data/partition_1234567890123456.csv", "partition_1234567890123456.csv has a number of 16 digits: 15 are"),
    ("meta-data/partition_3/notes.csv", "notes.csv is not named partition_<number>.csv"),
    ("meta-data/part_7.csv", "part_7.csv is not named partition_<number>.csv"),
    ("meta-data/partition_7.csv.gz", "partition_7.csv.gz is not named partition_<number>.csv"),
    ("", " is not named partition_<number>.csv"),
])  # fmt: skip
def test_a_name_without_a_number_is_answered_with_400_and_the_reason(key: str, error: str) -> None:
    answer = batch_id.lambda_handler({"key": key}, None)
    assert answer["statusCode"] == 400
    assert answer["error"].startswith(error)
    assert "batch_id" not in answer


@pytest.mark.parametrize("event", [{}, {"key": None}])
def test_an_event_without_a_key_is_an_error(event: dict[str, Any]) -> None:
    with pytest.raises((KeyError, AttributeError)):
        batch_id.lambda_handler(event, None)
