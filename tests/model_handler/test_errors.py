"""Errors that carry advice, in the words of Python and of the command line."""

import pickle

import pytest

from model_handler.errors import ModelError, nearest, text_for_shell, with_fix


def test_the_text_is_for_python_and_the_other_words_are_kept_beside_it() -> None:
    error = with_fix(ModelError, "it is broken", python="mend(it)", shell="--mend")
    assert isinstance(error, ValueError)
    assert str(error) == "it is broken; mend(it)"
    assert text_for_shell(error) == "it is broken; --mend"
    assert text_for_shell(pickle.loads(pickle.dumps(error))) == "it is broken; --mend"  # from a worker process


@pytest.mark.parametrize(
    ("error", "text", "for_shell"),
    [
        (with_fix(UserWarning, "a", python="b", between=": "), "a: b", "a"),
        (with_fix(OSError, "a", python="", shell="c"), "a", "a; c"),
        (ValueError("as it is"), "as it is", "as it is"),
        (ValueError(), "", "ValueError"),
    ],
)
def test_what_has_no_advice_for_one_of_them_says_what_is_wrong(error: Exception, text: str, for_shell: str) -> None:
    assert str(error) == text
    assert text_for_shell(error) == for_shell


def test_a_name_that_is_known_twice_is_proposed_once() -> None:
    assert nearest("zz", ["a", "b", "a", "c"]) == ["a", "b", "c"]
    assert nearest("head", ["heads", "heads"]) == ["heads"]
