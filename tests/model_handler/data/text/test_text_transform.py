"""A `TextTransform` makes of texts what a network takes, whatever its tokenizer would do by itself."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch

from model_handler import TextTransform
from model_handler.data.text.text_transform import reads_text
from tests.model_handler.data.text.networks import words


def test_tokens_are_padded_on_the_right_with_a_mask_whatever_the_tokenizer_does() -> None:
    for side in ("left", "right"):
        made = TextTransform(words(padding_side=side))(["good film", "", "unheard of"])
        assert made["input_ids"].tolist() == [[2, 4, 6, 3], [2, 3, 0, 0], [2, 1, 1, 3]]
        assert made["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]]
        assert {part.dtype for part in made.values()} == {torch.int64}


def test_what_is_longer_is_cut_off_and_counted_before() -> None:
    transform = TextTransform(words(), max_length=4)
    assert transform(["a very very good film"])["input_ids"].tolist() == [[2, 7, 8, 3]]
    assert transform.n_tokens(["a very very good film", ""]) == [7, 2]
    assert transform.n_tokens([]) == transform.tokens([]) == []


@pytest.mark.parametrize(("stated", "given", "expected"), [(5, None, 5), (5, 3, 3), (int(1e30), None, None)])
def test_the_limit_is_that_of_the_tokenizer_unless_given(stated: int, given: int | None, expected: int | None) -> None:
    assert TextTransform(words(model_max_length=stated), max_length=given).max_length == expected


def test_anything_called_like_a_tokenizer_will_do() -> None:
    def letters(texts: list[str], **options: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(letter) for letter in text][: options.get("max_length")] for text in texts]}

    made = TextTransform(letters, max_length=2)(["abc", "a", ""])
    assert made["input_ids"].tolist() == [[97, 98], [97, 0], [0, 0]]
    assert made["attention_mask"].tolist() == [[1, 1], [1, 0], [0, 0]]


@pytest.mark.parametrize("max_length", [0, -1, 2.5, True, "8"])
def test_a_limit_that_is_none_is_refused(max_length: Any) -> None:
    with pytest.raises(ValueError, match="max_length must be a whole number of at least 1, or None, got"):
        TextTransform(words(), max_length=max_length)


def test_what_is_no_tokenizer_is_refused() -> None:
    with pytest.raises(TypeError, match=r"got Tokenizer; .* PreTrainedTokenizerFast\(tokenizer_object=tokenizer\)"):
        TextTransform(words().backend_tokenizer)


@pytest.mark.parametrize(
    ("texts", "kind", "message"),
    [
        (["a", None, "b", float("nan")], ValueError, r"2 of 4 texts are missing \(None or NaN\), in rows 1, 3; leave"),
        (["a", b"b"], TypeError, r"row 1 is bytes; decode bytes by their encoding, such as text.decode\('utf-8'\)"),
        (["a", 3], TypeError, "texts must be strings, and row 1 is int"),
        (["a", "caf\udce9"], ValueError, r"lone surrogates\), in rows 1: .* open\(path, encoding='latin-1'\)"),
        ("a film", TypeError, r"got a single str; give \[text\]"),
    ],
)
def test_what_is_no_text_is_refused_by_its_row(texts: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        TextTransform(words())(texts)


def test_it_goes_to_other_processes_and_is_told_from_other_transforms() -> None:
    transform = pickle.loads(pickle.dumps(TextTransform(words(), max_length=8)))
    assert repr(transform) == f"TextTransform({type(words()).__name__}, max_length=8)"
    assert np.array_equal(transform(["good"])["input_ids"], [[2, 4, 3]])
    assert reads_text(transform)
    assert not reads_text(torch.tensor)
