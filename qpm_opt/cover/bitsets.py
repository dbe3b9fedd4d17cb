"""Sets of images as big integers: one bit an image, so sizes are exact and unions are cheap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from qpm_opt.validation import BoolArray


def column_bits(matrix: BoolArray) -> list[int]:
    """For every column the set of rows in which it is true."""
    packed = np.packbits(matrix, axis=0, bitorder="little")
    return [int.from_bytes(column.tobytes(), "little") for column in packed.T]


def union(sets: Sequence[int], chosen: Iterable[int]) -> int:
    """Union of the chosen sets."""
    together = 0
    for i in chosen:
        together |= sets[i]
    return together


def rarest(sets: Iterable[int], among: int) -> int:
    """An element of ``among`` that lies in fewest of the sets, in at least one; the lowest one.

    Returns
    -------
    int
        Its number, -1 if no element of ``among`` lies in any of the sets.
    """
    # Counters of all elements at once: digits[i] holds the i-th binary digit of each.
    digits: list[int] = []
    anywhere = 0
    for members in sets:
        carry = members & among
        anywhere |= carry
        for i, digit in enumerate(digits):
            if not carry:
                break
            digits[i] = digit ^ carry
            carry &= digit
        if carry:
            digits.append(carry)
    left = anywhere
    for digit in reversed(digits):
        if left & ~digit:
            left &= ~digit
    return (left & -left).bit_length() - 1
