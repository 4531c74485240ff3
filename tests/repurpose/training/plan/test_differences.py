from repurpose.training.plan.differences import differences


def test_what_differs_or_is_missing_on_either_side_is_listed_and_equal_entries_are_not() -> None:
    first, second = {"seed": "1", "loss": "a", "rows": "10"}, {"seed": "1", "loss": "b", "saved": "x"}
    assert differences(first, second, "there", "here") == [
        "loss: a there, b here",
        "rows: 10 there, nothing here",
        "saved: nothing there, x here",
    ]
    assert differences(first, first, "there", "here") == []
