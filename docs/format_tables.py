"""Tables on number formats, computed from the formats themselves."""

from collections.abc import Callable

import torch

from rung.formats import LNS, MX, FixedPoint, Minifloat, Sinh, get, names

_FLOATS = ("fp8_e4m3", "fp8_e5m2", "fp6_e3m2", "fp6_e2m3", "fp4_e2m1", "int8", "bf16", "fp16")
_SPECIALS = {"none": "neither", "nan": "NaN", "ieee": "both"}
_RULES = ("floor", "ceil", "even", "rceil")
_LARGEST_OF_BLOCK = (4.0, 5.0, 6.0, 6.5, 7.0)


def lns_bounds() -> str:
    """What the named LNS can hold."""
    lines = [
        "| format | base factor | octaves | with a zero | codes | worst relative error |",
        "|---|---:|---:|---:|---|---:|",
    ]
    for name in [*(name for name in names() if name.startswith("lns")), "lns8_b4"]:
        fmt = get(name)
        assert isinstance(fmt, LNS)
        dtype = str(fmt.code_dtype).removeprefix("torch.")
        lines.append(
            f"| `{name}` | {fmt.base_factor} | {fmt.octaves:.2f} | {fmt.with_zero().octaves:.2f} "
            f"| {dtype} | {100 * fmt.max_relative_error:.3g} % |"
        )
    return "\n".join([*lines, ""])


def sinh_bounds() -> str:
    """What the named sinh ladders can hold."""
    lines = [
        "| format | values | smallest, share of the scale | spacing h | codes |",
        "|---|---:|---:|---:|---|",
    ]
    for name in [*(name for name in names() if name.startswith("sinh")), "sinh8+knee0.1"]:
        fmt = get(name)
        assert isinstance(fmt, Sinh)
        dtype = str(fmt.code_dtype).removeprefix("torch.")
        lines.append(
            f"| `{name}` | {fmt.levels} | {fmt.smallest:.3g} | {fmt.spacing:.3g} | {dtype} |"
        )
    return "\n".join([*lines, ""])


def minifloats() -> str:
    """What the named floats can hold."""
    lines = [
        "| format | bits | largest | smallest normal | smallest | NaN, infinity "
        "| worst relative error | in blocks |",
        "|---|---:|---:|---:|---:|---|---:|---|",
    ]
    for name in _FLOATS:
        fmt = get(name)
        blocks = next((f"`{mx}`" for mx in names() if _element(mx) == fmt), "")
        if isinstance(fmt, FixedPoint):
            normal, special, error = "", "neither", f"{fmt.smallest / 2:g} absolute"
        else:
            assert isinstance(fmt, Minifloat)
            normal, special = f"{fmt.smallest_normal:.6g}", _SPECIALS[fmt.specials]
            error = f"{100 * fmt.max_relative_error:.3g} %"
        lines.append(
            f"| `{name}` | {fmt.bits} | {fmt.largest:.6g} | {normal} | {fmt.smallest:.6g} "
            f"| {special} | {error} | {blocks} |"
        )
    return "\n".join([*lines, ""])


def _element(name: str) -> Minifloat | FixedPoint | None:
    fmt = get(name)
    return fmt.element if isinstance(fmt, MX) else None


def scale_rules() -> str:
    """Scale and decoded value of a block's largest number, by rule, in E2M1."""
    numbers = " | ".join(f"{number:g}" for number in _LARGEST_OF_BLOCK)
    lines = [
        f"| scale, and what the largest number becomes | {numbers} |",
        "|---|" + "---:|" * len(_LARGEST_OF_BLOCK),
    ]
    for rule in _RULES:
        fmt = MX("fp4_e2m1", 4, rule)
        cells = []
        for number in _LARGEST_OF_BLOCK:
            block = torch.tensor([number, 1.0, 0.3, 0.0])
            scale = 2.0 ** (int(fmt.encode(block).scale) - 127)
            cells.append(f"{scale:g}, {float(fmt.quantize(block)[0]):g}")
        lines.append(f"| `{rule}` | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


TABLES: dict[str, Callable[[], str]] = {
    "lns-bounds": lns_bounds,
    "sinh-bounds": sinh_bounds,
    "minifloats": minifloats,
    "mx-scale-rules": scale_rules,
}
