"""The design of a datapath: a frozen value that checks itself."""

from dataclasses import dataclass

from rung.kernels import datapath as kernel

CONVERSIONS = ("lut", "mitchell", "hybrid")
OVERFLOWS = ("saturate", "wrap")
WIDEST = 48  # bits of an accumulator


@dataclass(frozen=True)
class Datapath:
    """The design of a processing element for dot products of LNS codes.

    With p = e_a + e_b = gamma q + r, a product is 2^q times 2^(r / gamma). Its mantissa is shifted
    by q and added to the bin of its table entry; bins are multiplied by their constants when a
    partial sum is written out.

    Args:
        base_factor: gamma, codes an octave: a power of two from 1 to 2048.
        conversion: Of 2^(r / gamma). ``"lut"`` has a constant for each of the gamma remainders,
            ``"mitchell"`` none: 2^x is taken as 1 + x. ``"hybrid"`` looks the upper bits of r up
            and takes 1 + x for the lower ones.
        table_size: Constants of ``"hybrid"``, a power of two from 1 to gamma. None: gamma for
            ``"lut"``, 1 for ``"mitchell"``, the square root of gamma, rounded up to a power of
            two, for ``"hybrid"``.
        fraction_bits: f of a constant, which is rounded to a multiple of 2^-f; 0 to 16.
        accumulator_bits: Width of a bin, sign included; 4 to 48.
        dropped_bits: Lowest bits of a shifted mantissa that no bin has; magnitudes are cut off.
            Counted from a bin's lowest bit: 1 for ``"lut"``, 1 / gamma where mantissas have
            fractions.
        overflow: A bin ``"saturate"``s at its largest and smallest number, or ``"wrap"``s around.
        vector_length: Products until a partial sum is written out to memory, which is wide
            enough, and bins begin anew; None: the whole sum.
        bits: B of a code, sign included; None: 8 of uint8, 16 of int16.
        zero: Whether exponent 0 is the number 0, as in `LNS` with ``zero=True``.

    Raises:
        ValueError: A number out of range, an unknown name, a table size that doesn't divide gamma
            or doesn't go with the conversion, accumulators too narrow for one product's constant or
            too wide for sums of 64 bits.
        TypeError: A number that is not an integer.

    Source: Zhao et al. 2021, arXiv:2106.13914, for the element; Mitchell 1962 for 1 + x.
    """

    base_factor: int = 8
    conversion: str = "lut"
    table_size: int | None = None
    fraction_bits: int = 8
    accumulator_bits: int = 24
    dropped_bits: int = 0
    overflow: str = "saturate"
    vector_length: int | None = None
    bits: int | None = None
    zero: bool = False

    def __post_init__(self) -> None:
        self._check_integers()
        gamma = self.base_factor
        if not 1 <= gamma <= 2048 or gamma & (gamma - 1):
            raise ValueError(
                f"`base_factor` must be a power of two from 1 to 2048; got base_factor={gamma}."
            )
        for name, valid in (("conversion", CONVERSIONS), ("overflow", OVERFLOWS)):
            if getattr(self, name) not in valid:
                choices = ", ".join(map(repr, valid))
                raise ValueError(f"`{name}` must be one of {choices}; got {getattr(self, name)!r}.")
        self._check_table()
        if self.accumulator_bits < self.fraction_bits + 2:
            raise ValueError(
                "accumulators must hold one product of the smallest exponents, whose constant "
                f"takes fraction_bits + 2 = {self.fraction_bits + 2} bits with its sign; got "
                f"accumulator_bits={self.accumulator_bits}. Widen them or take fewer fraction bits."
            )
        require_width(self.design(self.bits or 8), 1)

    def _check_integers(self) -> None:
        ranges = {
            "base_factor": (1, 2048),
            "fraction_bits": (0, 16),
            "accumulator_bits": (4, WIDEST),
            "dropped_bits": (0, WIDEST - 1),
            "table_size": (1, 2048),
            "vector_length": (1, 2**31),
            "bits": (3, 16),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value is None and name in ("table_size", "vector_length", "bits"):
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"`{name}` must be an integer; got {value!r}.")
            if not low <= value <= high:
                raise ValueError(f"`{name}` must be from {low} to {high}; got {name}={value}.")

    def _check_table(self) -> None:
        gamma, size = self.base_factor, self.table_size
        if size is not None and (gamma % size or size & (size - 1)):
            raise ValueError(
                f"`table_size` must be a power of two that divides base_factor={gamma}; got "
                f"table_size={size}. Take one of {', '.join(str(s) for s in divisors(gamma))}."
            )
        own = {"lut": gamma, "mitchell": 1}.get(self.conversion)
        if size is not None and own is not None and size != own:
            raise ValueError(
                f"conversion={self.conversion!r} has {own} table "
                f"{'entry' if own == 1 else 'entries'} at base_factor={gamma}; got "
                f"table_size={size}. Leave it out, or use conversion='hybrid', which has any."
            )

    @property
    def entries(self) -> int:
        """Of the table: bins that products are sorted into."""
        gamma = self.base_factor
        half = 1 << (gamma.bit_length() // 2)
        return {"lut": gamma, "mitchell": 1, "hybrid": self.table_size or half}[self.conversion]

    @property
    def constants(self) -> tuple[int, ...]:
        """Of the table, in units of 2^-fraction_bits."""
        design = self.design(self.bits or 8)
        return tuple(kernel.constant(design, index) for index in range(design.table_size))

    def design(self, bits: int) -> kernel.Design:
        """All numbers, for codes of some bits."""
        return kernel.Design(
            bits, self.base_factor, self.entries, self.fraction_bits, self.accumulator_bits,
            self.dropped_bits, self.overflow == "wrap", self.zero,
        )  # fmt: skip

    def product_bits(self, bits: int = 8) -> int:
        """Accumulator bits, sign included, that the largest product of codes of B bits takes."""
        design = self.design(bits)
        return kernel.term(design, 2 * design.last)[0].bit_length() + 1

    def require_room(self, bits: int = 8) -> None:
        """Refuse accumulators that are too narrow for one product.

        Raises:
            ValueError: The largest product of two codes of B bits overflows its bin on its own.
        """
        needed = self.product_bits(bits)
        if needed > self.accumulator_bits:
            dropped = self.dropped_bits + needed - self.accumulator_bits
            ways = [f"accumulator_bits={needed}"] if needed <= WIDEST else []
            ways += [f"dropped_bits={dropped}"] if dropped < WIDEST else []
            way = ", or ".join(ways) or "a larger base_factor, whose products span fewer octaves"
            raise ValueError(
                f"accumulators of {self.accumulator_bits} bits are too narrow for one product of "
                f"{bits}-bit codes at base_factor={self.base_factor} and dropped_bits="
                f"{self.dropped_bits}, which takes {needed}. Use {way}; sums want more."
            )


def divisors(gamma: int) -> list[int]:
    """Table sizes at a base factor."""
    return [1 << k for k in range(gamma.bit_length())]


def require_width(design: kernel.Design, parts: int) -> None:
    """Results are 64-bit integers, whatever the codes."""
    widest = design.accumulator_bits + design.fraction_bits + design.dropped_bits + 1
    widest += (design.table_size - 1).bit_length() + (parts - 1).bit_length()
    if widest > 64:
        raise ValueError(
            f"{parts} partial sum{'s' * (parts > 1)} must fit 64 bits; got up to {widest} from "
            f"accumulator_bits={design.accumulator_bits}, dropped_bits={design.dropped_bits}, "
            f"fraction_bits={design.fraction_bits} and {design.table_size} constants. Narrow the "
            "accumulators or drop fewer bits."
        )
