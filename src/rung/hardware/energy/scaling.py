"""Operations of any width as multiples of the rows of a cost table.

Every function returns `Terms`: how often each row of the table is paid. Energies are linear in the
rows, so whatever is made of `Terms` has an exact sensitivity to each of them.
"""

from collections.abc import Iterable, Mapping

Terms = Mapping[str, float]
"""Row of the cost table -> how many of its operations; fractions come from widths."""

_ADDERS = ((8, "int8_add"), (16, "int16_add"), (32, "int32_add"))
_FULL_LEVELS = 5  # a shift of 32 bits by any number of places


def total(parts: Iterable[tuple[float, Terms]]) -> dict[str, float]:
    """The sum of terms, each times a factor."""
    rows: dict[str, float] = {}
    for factor, terms in parts:
        for row, count in terms.items():
            rows[row] = rows.get(row, 0.0) + factor * count
    return rows


def add(bits: float) -> Terms:
    """Integer addition: linear in the width between 8, 16 and 32 bits, in proportion elsewhere."""
    first, last = _ADDERS[0], _ADDERS[-1]
    if bits <= first[0]:
        return {first[1]: bits / first[0]}
    for (low, narrow), (high, wide) in zip(_ADDERS, _ADDERS[1:], strict=False):
        if bits <= high:
            return _between(narrow, wide, (bits - low) / (high - low))
    return {last[1]: bits / last[0]}


def multiply(a_bits: float, b_bits: float) -> Terms:
    """Integer multiplication, an array of a * b cells.

    Linear in their number between the table's 8 x 8 and 32 x 32, in proportion to it elsewhere.
    """
    cells, small, large = a_bits * b_bits, 8 * 8, 32 * 32
    if cells <= small:
        return {"int8_multiply": cells / small}
    if cells <= large:
        return _between("int8_multiply", "int32_multiply", (cells - small) / (large - small))
    return {"int32_multiply": cells / large}


def float_multiply(significand: int) -> Terms:
    """Float multiplication: the square of the significand's bits, hidden bit included.

    From 11 to 24 bits linear in the square between the table's two rows, below 11 bits in
    proportion to it. The adder of the exponents is in the rows and shrinks with them.
    """
    square, half, full = significand**2, 11**2, 24**2
    if square < half:
        return {"narrow_float_multiply": square}
    return _between("fp16_multiply", "fp32_multiply", (square - half) / (full - half))


def shift(bits: float, places: int) -> Terms:
    """Barrel shift: a level of `bits` multiplexers for every bit of the number of places.

    Args:
        bits: Width of the result; a shift beyond it needs no level.
        places: Largest shift.
    """
    levels = min(int(places), int(bits)).bit_length()
    return {"int32_shift": bits / 32 * levels / _FULL_LEVELS}


def read(bits: float) -> Terms:
    """Read from a small table or register file, in proportion to the width."""
    return {"register_32_read": bits / 32}


def _between(low: str, high: str, share: float) -> Terms:
    terms = {low: 1 - share, high: share}
    return {row: count for row, count in terms.items() if count}
