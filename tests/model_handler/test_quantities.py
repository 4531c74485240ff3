import pytest

from model_handler.quantities import readable


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1.00 k"), (9_996, "10.0 k"), (25_557_032, "25.6 M"), (999_600, "1.00 M")]
    + [(4_089_184_256, "4.09 G"), (99_950_000_000, "100 G"), (2 * 10**15, "2000 T")],
)
def test_numbers_have_three_digits_and_a_unit(number, text):
    assert readable(number) == text
