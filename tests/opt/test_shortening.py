"""Long names keep both ends and fit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from qpm_opt.shortening import NAME_COLUMNS, shortened


def test_the_middle_goes():
    name = f"alphabet_of_the_{'very_' * 20}magi/character12"
    short = shortened(name)
    head, tail = short.split("…")
    assert name.startswith(head) and name.endswith(tail)
    assert head.startswith("alphabet_of_the") and tail.endswith("/character12")
    assert len(short) == NAME_COLUMNS
    assert shortened("x" * NAME_COLUMNS) == "x" * NAME_COLUMNS


def test_wide_letters_take_two_columns():
    assert shortened("文" * 20) == "文" * 20
    assert cell_len(shortened("文" * 21)) in (NAME_COLUMNS - 1, NAME_COLUMNS)


def test_another_width():
    assert shortened("abcdefgh", 1.0, lambda text: len(text) / 5) == "ab…gh"


@given(st.text("ab 文é", max_size=120), st.integers(2, 60))
def test_what_does_not_fit_is_cut(text, most):
    short = shortened(text, most)
    assert cell_len(short) <= most
    assert (short == text) == (cell_len(text) <= most)
