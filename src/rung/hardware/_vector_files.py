"""The files of a folder of test vectors, as text."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from torch import Tensor

from rung.hardware.datapath import Datapath
from rung.kernels import datapath as kernel

if TYPE_CHECKING:
    from rung.hardware.vectors import Vectors

_OVERFLOW_BITS = 32


def contents(
    vectors: "Vectors", datapath: Datapath, version: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """What config.json says, and the other files by name."""
    design = datapath.design(datapath.bits or 8)
    dots, length = vectors.a.shape
    parts = vectors.bins.shape[1]
    constants = [kernel.constant(design, index) for index in range(design.table_size)]
    bins = vectors.bins.flatten().tolist()
    data: dict[str, tuple[list[int], int, str]] = {
        "a.hex": (_flat(vectors.a), design.bits, "code of product k of dot n at n length + k"),
        "b.hex": (_flat(vectors.b), design.bits, "likewise"),
        "constants.hex": (constants, max(constants).bit_length(), "constant t at t, unsigned"),
        "expected_bins.hex": (
            bins, design.accumulator_bits,
            "bin t of partial sum j of dot n at (n partial_sums + j) table_size + t, signed",
        ),
        "expected.hex": (
            _flat(vectors.expected), result_bits(design, parts), "result of dot n at n, signed",
        ),
        "expected_overflows.hex": (
            _flat(vectors.overflows), _OVERFLOW_BITS,
            "additions of dot n that left their bin's range, at n, unsigned",
        ),
    }  # fmt: skip
    files = {name: words(values, bits) for name, (values, bits, _) in data.items()}
    config: dict[str, Any] = {
        "rung": version,
        "datapath": asdict(datapath) | {"bits": design.bits, "table_size": design.table_size},
        "derived": {
            "exponent_bits": design.bits - 1,
            "largest_exponent": design.last,
            "guard_bits": design.guard_bits,
            "remainder_bits": design.base_factor.bit_length() - 1,
            "index_bits": design.table_size.bit_length() - 1,
            "product_bits": datapath.product_bits(design.bits),
            "result_bits": result_bits(design, parts),
            "constants": constants,
        },
        "unit": f"2^-{design.fraction_bits} products of two codes of exponent 0 and scale 1",
        "dots": dots,
        "length": length,
        "partial_sums": parts,
        "corners": list(vectors.names),
        "files": {
            name: {"words": len(values), "bits": bits, "digits": digits(bits), "order": order}
            for name, (values, bits, order) in data.items()
        },
    }
    files["README.txt"] = readme(config)
    return config, files


def result_bits(design: kernel.Design, parts: int) -> int:
    """Bits of any result, sign included, rounded up to whole hex digits."""
    widest = design.accumulator_bits + design.fraction_bits + design.dropped_bits + 1
    widest += (design.table_size - 1).bit_length() + (parts - 1).bit_length()
    return -(-widest // 4) * 4


def digits(bits: int) -> int:
    """Hex digits of a word."""
    return -(-bits // 4)


def words(values: list[int], bits: int) -> str:
    """One word a line, two's complement of so many bits, zeros above them."""
    mask, width = (1 << bits) - 1, digits(bits)
    return "".join(f"{value & mask:0{width}x}\n" for value in values)


def _flat(values: Tensor) -> list[int]:
    found: list[int] = values.flatten().tolist()
    return found


def readme(config: dict[str, Any]) -> str:
    """README.txt."""
    path, derived = config["datapath"], config["derived"]
    rows = "\n".join(
        f"  {name:24}{file['words']:>10} words of {file['bits']:>2} bits: {file['order']}"
        for name, file in config["files"].items()
    )
    corners = "\n".join(f"  {index:4} {name}" for index, name in enumerate(config["corners"]))
    zero = "the number 0: no product is added" if path["zero"] else "the smallest number, not 0"
    interval = path["vector_length"] or config["length"]
    return _README.format(
        **path | derived | config,
        rows=rows,
        corner_list=corners or "  none",
        zero_means=zero,
        interval=interval,
        mantissa=_mantissa(path, derived),
        overflow_means=(
            "stays at the bin's largest or smallest number"
            if path["overflow"] == "saturate"
            else "wraps around, modulo 2^accumulator_bits"
        ),
    )


def _mantissa(path: dict[str, Any], derived: dict[str, Any]) -> str:
    if not derived["guard_bits"]:
        return "t = r;  m = 1"
    span = path["base_factor"] // path["table_size"]
    return (
        f"t = r div {span};  m = 2^{derived['guard_bits']} + r mod {span}"
        f"   (1 + x in units of 2^-guard_bits)"
    )


_README = """\
Test vectors of an LNS datapath, written by rung {rung}; every number is in config.json too.

Files have one hex word a line and no comments: $readmemh("a.hex", a) fills
reg [bits-1:0] a [0:words-1]. Signed words are two's complement of the stated bits, with zeros
above them. Counting begins at 0.

{rows}

{dots} dot products of {length} products each; partial_sums={partial_sums}, table_size={table_size}.

Code: {bits} bits, the sign in the top bit (1 is negative), the exponent e below it;
e = 0 is {zero_means}.

Product k of a dot, in the order of k:
  p = e_a + e_b;  q = p div {base_factor};  r = p mod {base_factor}        (base_factor)
  {mantissa}
  v = (m << q) >> {dropped_bits}        (dropped_bits: a magnitude is cut)
  bin[t] += sign_a == sign_b ? v : -v
A bin has {accumulator_bits} bits (accumulator_bits). A sum beyond its range
{overflow_means}, and counts as an overflow.

After every {interval} products, and after the last, a partial sum is written out and bins become 0:
  result += ((sum over t of bin[t] * constant[t]) << {dropped_bits}) >>> {guard_bits}
constant[t] is 2^(t / {table_size}) in units of 2^-{fraction_bits}; >>> rounds down (arithmetic).
The result has {result_bits} bits, which is enough for any codes. Its unit is
{unit}.

Corner cases, the first dots:
{corner_list}
All that follow are random: by turns of equally likely codes and of codes of normal numbers.
"""
