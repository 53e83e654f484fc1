"""Tables of what an operation costs, in picojoules, with a source for every row."""

import importlib.resources
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT = "horowitz-45nm"
"""The table that comes with Rung."""

ROWS: dict[str, str] = {
    "fp32_multiply": "float multiplication, significand of 24 bits",
    "fp32_add": "float addition, significand of 24 bits",
    "fp16_multiply": "float multiplication, significand of 11 bits",
    "fp16_add": "float addition, significand of 11 bits",
    "narrow_float_multiply": "float multiplication below 11 bits, per squared bit of significand",
    "int8_multiply": "integer multiplication, 8 by 8 bits",
    "int32_multiply": "integer multiplication, 32 by 32 bits",
    "int8_add": "integer addition, 8 bits",
    "int16_add": "integer addition, 16 bits",
    "int32_add": "integer addition, 32 bits",
    "int32_shift": "shift of 32 bits by any number of places",
    "register_32_read": "read of 32 bits from a small register file",
    "fp32_divide": "float division or square root, significand of 24 bits",
    "sram_8kb_64": "read of 64 bits from 8 KB of memory on the chip",
    "sram_32kb_64": "read of 64 bits from 32 KB of memory on the chip",
    "sram_1mb_64": "read of 64 bits from 1 MB of memory on the chip",
    "dram_32": "read or write of 32 bits of memory beside the chip",
}
"""Row -> the operation that it is the energy of; a table has all of them and no other."""

_FIELDS = ("picojoules", "source", "low", "high")


class CostError(ValueError):
    """A cost table isn't complete, or a row isn't an energy with a source."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The energy of one operation.

    Attributes:
        picojoules: Energy, 0 or more.
        source: Where the figure comes from, or the rule that made it.
        low: Factor, 0 to 1: the true energy may be as low as ``low * picojoules``.
        high: Factor, 1 or more.
    """

    picojoules: float
    source: str
    low: float = 1.0
    high: float = 1.0


@dataclass(frozen=True, slots=True)
class CostTable:
    """Energies of all operations of `ROWS`.

    Attributes:
        name: What the table is for, e.g. a process.
        rows: Row -> its cost.
    """

    name: str
    rows: Mapping[str, Cost]


def load_costs(path: str | Path | None = None) -> CostTable:
    """Read a cost table.

    A table is TOML: ``name``, and for every row of `ROWS` a section ``[rows.ROW]`` with
    ``picojoules`` and ``source``, and ``low`` and ``high``, the factors of the sensitivity band (1
    by default). With ``extends = "horowitz-45nm"`` it takes the rows that it lacks from the one
    that comes with Rung.

    Args:
        path: File; None reads the one that comes with Rung.

    Raises:
        CostError: No such file, or no TOML; rows missing or unknown; an energy that is negative or
            not a number; no source; factors that don't enclose 1.

    Example:
        >>> costs = load_costs()
        >>> costs.rows["fp32_multiply"].picojoules
        3.7
    """
    if path is None:
        folder = importlib.resources.files("rung.hardware.energy") / "costs"
        return _table(tomllib.loads((folder / f"{DEFAULT}.toml").read_text("utf-8")), DEFAULT)
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CostError(
            f"A cost table must be a text file; got {path}: {error}. Copy Rung's own, "
            f"rung/hardware/energy/costs/{DEFAULT}.toml."
        ) from error
    try:
        return _table(tomllib.loads(text), str(path))
    except tomllib.TOMLDecodeError as error:
        raise CostError(f"{path} must be TOML; got: {error}. Correct that line.") from error


def _table(data: dict[str, Any], origin: str) -> CostTable:
    extends = data.get("extends")
    if extends not in (None, DEFAULT):
        raise CostError(
            f"{origin}: `extends` must be {DEFAULT!r}, the table that comes with Rung; got "
            f"{extends!r}. Leave it out, or give all rows."
        )
    unknown = sorted(set(data) - {"name", "extends", "rows"})
    found = data.get("rows")
    if unknown or not isinstance(found, dict):
        raise CostError(
            f"{origin} must have `name`, sections [rows.ROW] and perhaps `extends`; got "
            f"{', '.join(unknown) or 'no section [rows.ROW]'}. Write rows as [rows.fp32_add]."
        )
    rows = dict(load_costs().rows) if extends else {}
    _check_names(set(found), set(rows), origin)
    rows |= {row: _cost(row, fields, origin) for row, fields in found.items()}
    return CostTable(str(data.get("name", origin)), rows)


def _check_names(found: set[str], inherited: set[str], origin: str) -> None:
    unknown = sorted(found - set(ROWS))
    if unknown:
        raise CostError(
            f"{origin}: the rows are {', '.join(ROWS)}; got unknown row {', '.join(unknown)}. "
            "Correct its name or leave it out."
        )
    missing = [row for row in ROWS if row not in found | inherited]
    if missing:
        raise CostError(
            f"{origin} must have every row; missing: "
            f"{', '.join(f'{row} ({ROWS[row]})' for row in missing)}. Add [rows.{missing[0]}] with "
            f'picojoules and source, or extends = "{DEFAULT}" at the top for the published values.'
        )


def _cost(row: str, fields: Any, origin: str) -> Cost:
    place = f"{origin}, row {row}"
    if not isinstance(fields, dict) or set(fields) - set(_FIELDS):
        got = ", ".join(sorted(set(fields) - set(_FIELDS))) if isinstance(fields, dict) else fields
        raise CostError(
            f"{place}: a row has {', '.join(_FIELDS)}; got {got}. Write it as [rows.{row}]."
        )
    picojoules: Any = fields.get("picojoules")
    if not _is_number(picojoules) or picojoules < 0:
        raise CostError(
            f"{place}: `picojoules` must be a number, 0 or more; got {picojoules!r}. Give the "
            f"energy of one {ROWS[row]}."
        )
    source = fields.get("source")
    if not isinstance(source, str) or not source.strip():
        raise CostError(
            f"{place}: every row needs a source; got source={source!r}. Name the publication, the "
            "tool that simulated it, or the rule."
        )
    low, high = fields.get("low", 1.0), fields.get("high", 1.0)
    if not (_is_number(low) and _is_number(high) and 0 <= low <= 1 <= high):
        raise CostError(
            f"{place}: `low` and `high` are factors with 0 <= low <= 1 <= high; got low={low!r}, "
            f"high={high!r}. Leave them out for no uncertainty."
        )
    return Cost(float(picojoules), source, float(low), float(high))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
