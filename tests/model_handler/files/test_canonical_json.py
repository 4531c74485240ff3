"""One text for each value."""

import math
from hashlib import sha256

import pytest

from model_handler.errors import CorruptFileError
from model_handler.files.canonical_json import (
    canonical,
    parse_canonical,
    parse_json,
    parse_with_own_hash,
    with_own_hash,
)


@pytest.mark.parametrize("value", [None, True, 3, -0.5, 1e300, "é\n\udc80", [], [1, [2]], {"b": 1, "a": {"é": []}}])
def test_a_value_comes_back_from_its_text(value: object) -> None:
    text = canonical(value)
    assert text.isascii()
    assert parse_canonical(text, "file") == value


def test_names_keep_their_order() -> None:
    assert canonical({"b": 1, "a": 2}) == '{"b":1,"a":2}'
    assert list(parse_canonical('{"b":1,"a":2}', "file")) == ["b", "a"]


@pytest.mark.parametrize("text", ['{"a": 1}', "1.50", "[1,2] ", '"\\u0041"', "1e2"])
def test_another_text_of_a_value_is_refused(text: str) -> None:
    parse_json(text, "file")
    with pytest.raises(CorruptFileError, match="file is damaged: its text is not in the form"):
        parse_canonical(text, "file")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a":1,"a":1}', "the name 'a' comes twice"),
        ('[{"a":{"b":1,"c":2,"b":3}}]', "the name 'b' comes twice"),
        ("[NaN]", "NaN is no number of JSON"),
        ("-Infinity", "-Infinity is no number of JSON"),
        ("[1e999]", "file is damaged"),
        ("9" * 5000, "file is damaged"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("", "file is damaged"),
        ("[1,]", "file is damaged"),
    ],
)
def test_what_no_writer_makes_is_refused(text: str, reason: str) -> None:
    with pytest.raises(CorruptFileError, match=reason):
        parse_canonical(text, "file")


def test_numbers_without_an_end_have_no_text() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical([math.nan])


def test_an_object_has_the_hash_of_its_own_text_at_its_end() -> None:
    text = with_own_hash({"b": [1], "a": "x"})
    digest = sha256(b'{"b":[1],"a":"x"}').hexdigest()
    assert text == f'{{"b":[1],"a":"x","sha256":"{digest}"}}'
    assert parse_with_own_hash(text.encode(), "FILE") == {"b": [1], "a": "x"}
    for wrong in (
        text.replace("x", "y"),
        f'{{"sha256":"{digest}","b":[1],"a":"x"}}',
        '{"b":[1],"a":"x"}',
        "{}",
        "[]",
        text.replace("x", "\xff"),
    ):
        with pytest.raises(CorruptFileError, match="FILE is damaged"):
            parse_with_own_hash(wrong.encode("latin-1"), "FILE")
