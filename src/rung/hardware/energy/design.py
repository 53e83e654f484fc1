"""The hardware around a multiplier, as far as the energy depends on it."""

from dataclasses import dataclass
from typing import Any, Self

from rung.hardware.datapath import Datapath

CONVERSIONS = ("lut", "hybrid", "mitchell")
BUFFERS = ("8kb", "32kb", "1mb")


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """Choices that the energy of a multiply-accumulate depends on.

    Attributes:
        float_accumulator: ``"fp32"``, or ``"fp16"`` for the sums of fp16 and of floats with less
            range and precision. The others sum in fp32.
        accumulator_bits: Width of an LNS's bins and sums.
        fraction_bits: Of the constants 2^(r / gamma).
        conversion: An LNS's constants: ``"lut"``, one for each of gamma remainders; ``"hybrid"``,
            `table_size` of them and 1 + x below; ``"mitchell"``, 1 + x alone.
        table_size: Of ``"hybrid"``: a power of two that divides gamma.
        vector_length: Products of an LNS that share bins before these are multiplied by their
            constants and summed.
        buffer: Memory that operands are read from: ``"8kb"``, ``"32kb"`` or ``"1mb"``.
        reuse: Multiply-accumulates that share one read of an operand from it, as the rows and
            columns of a 32 x 32 array do.

    Raises:
        ValueError: Not one of these.
        TypeError: A number that isn't an integer.
    """

    float_accumulator: str = "fp32"
    accumulator_bits: int = 24
    fraction_bits: int = 8
    conversion: str = "lut"
    table_size: int | None = None
    vector_length: int = 32
    buffer: str = "32kb"
    reuse: int = 32

    def __post_init__(self) -> None:
        _require_choice("float_accumulator", self.float_accumulator, ("fp32", "fp16"))
        _require_choice("conversion", self.conversion, CONVERSIONS)
        _require_choice("buffer", self.buffer, BUFFERS)
        _require_integer("accumulator_bits", self.accumulator_bits, 8, 64)
        _require_integer("fraction_bits", self.fraction_bits, 1, 32)
        _require_integer("vector_length", self.vector_length, 1, None)
        _require_integer("reuse", self.reuse, 1, None)
        if (self.conversion == "hybrid") != (self.table_size is not None):
            raise ValueError(
                "`table_size` belongs to conversion='hybrid', which needs one; got conversion="
                f"{self.conversion!r} and table_size={self.table_size!r}. 'lut' has gamma entries, "
                "'mitchell' none."
            )
        if self.table_size is not None:
            _require_integer("table_size", self.table_size, 1, None)

    @classmethod
    def from_datapath(cls, datapath: Datapath, **rest: Any) -> Self:
        """What computes as a bit-true datapath does, so that both speak of one design.

        Args:
            datapath: Its widths, conversion and table; without a `vector_length` of its own,
                constants are multiplied once a sum.
            rest: Fields that a datapath doesn't have, `buffer`, `reuse` and `float_accumulator`.

        Raises:
            ValueError: A width that the energy model has no costs for.
            TypeError: A field that the datapath decides.
        """
        return cls(
            accumulator_bits=datapath.accumulator_bits,
            fraction_bits=datapath.fraction_bits,
            conversion=datapath.conversion,
            table_size=datapath.entries if datapath.conversion == "hybrid" else None,
            vector_length=datapath.vector_length or 2**31,
            **rest,
        )

    def bins(self, base_factor: int) -> int:
        """Bins, each with a constant, of an LNS; 1 without a constant under ``"mitchell"``.

        Args:
            base_factor: gamma.

        Raises:
            ValueError: The table size doesn't divide gamma.
        """
        if self.conversion == "mitchell":
            return 1
        if self.table_size is None:
            return base_factor
        if base_factor % self.table_size:
            raise ValueError(
                f"`table_size` must divide the base factor; got table_size={self.table_size} and "
                f"base factor {base_factor}. Use a power of two up to {base_factor}."
            )
        return self.table_size


def _require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, choices))}; got {value!r}.")


def _require_integer(name: str, value: object, low: int, high: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be an integer; got {value!r}.")
    if value < low or (high is not None and value > high):
        limits = f"{low} or more" if high is None else f"from {low} to {high}"
        raise ValueError(f"`{name}` must be {limits}; got {name}={value}.")
