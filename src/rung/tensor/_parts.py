"""What a weight's parts mean in each kind of format: the one place that tells the kinds apart.

A ladder's codes are magnitudes; its signs are beside them, one bit each, or made again from the
key. An LNS's codes hold the sign in their top bit, a sinh ladder's are signed themselves, and a
pair of ladders' say which of two is larger, so their part ``signs`` is always empty.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor

from rung.formats import LNS, Ladder, Pair, Sinh, get, name_of
from rung.formats._ladder_rows import decode as decode_plain
from rung.formats.scaling import power_of_two_above, require_broadcast
from rung.kernels import ladder, lns, sinh
from rung.kernels.philox import PURPOSE_SIGN, random_bytes
from rung.kernels.signs import seeded_signs, unpack_signs

StoredFormat = Ladder | LNS | Sinh | Pair
_KINDS: dict[str, type[StoredFormat]] = {"ladder": Ladder, "lns": LNS, "sinh": Sinh, "pair": Pair}


def storable(fmt: StoredFormat | str) -> StoredFormat:
    """The format of a name, if weights can live in its codes.

    Raises:
        ValueError: Unknown name; an LNS with a zero.
        TypeError: Neither a name nor a `Ladder`, `LNS`, `Sinh` or `Pair`.
    """
    found = get(fmt)
    if not isinstance(found, StoredFormat):
        raise TypeError(
            f"Weights live in the codes of a Ladder, an LNS, a Sinh or a Pair; got {found!r}. Give "
            "one of these."
        )
    if isinstance(found, LNS) and found.zero:
        raise ValueError(
            "An LNS that weights live in must have no zero, because no multiplicative step "
            f"leaves it; got {found!r}. Take it with zero=False and underflow='saturate'."
        )
    return found


def holds_signs(fmt: StoredFormat) -> bool:
    """Whether codes of a format have their sign in them."""
    return not isinstance(fmt, Ladder)


def has_knee(fmt: StoredFormat) -> TypeGuard[Sinh | Pair]:
    """Whether weights go through zero, in steps that are even around it."""
    return isinstance(fmt, Sinh | Pair)


def default_scale(fmt: StoredFormat) -> tuple[float | None, float]:
    """W_max of fresh weights in multiples of their RMS (None: the largest), and its lowest value.

    Where steps are even around zero W_max decides how long they are: docs/sinh.md.
    """
    return (None, 0.6) if has_knee(fmt) else (3.0, 0.0)


def resolve_signs(fmt: StoredFormat, signs: str | None) -> str:
    """How a format keeps signs: ``"seed"`` or ``"packed"``; None takes the kind's default.

    Raises:
        ValueError: Unknown `signs`; seeded signs for codes that hold the sign.
    """
    if signs is None:
        return "packed" if holds_signs(fmt) else "seed"
    if signs not in ("seed", "packed"):
        raise ValueError(f"`signs` must be 'seed' or 'packed'; got {signs!r}.")
    if signs == "seed" and holds_signs(fmt):
        raise ValueError(
            "`signs='seed'` is for ladders, whose signs are apart from the codes; got "
            f"{name_of(fmt)}, whose codes hold the sign. Leave `signs` out."
        )
    return signs


def allowed_scale(fmt: StoredFormat, scale: Tensor) -> Tensor:
    """The smallest scale that a format allows from a positive one on: a power of two, or itself."""
    if not isinstance(fmt, LNS) or not fmt.power_of_two_scale:
        return scale
    return power_of_two_above(scale, scale.dtype)


def encode_parts(
    fmt: StoredFormat, weight: Tensor, scale: Tensor | float, signs: str
) -> dict[str, Tensor]:
    """The parts ``codes``, ``scale`` and ``signs`` of a weight rounded to nearest."""
    encoded = fmt.encode(weight, scale=scale)
    stored = encoded.signs if signs == "packed" else None
    if stored is None:
        stored = torch.empty(0, dtype=torch.uint8, device=weight.device)
    codes = encoded.codes.contiguous()
    return {"codes": codes, "scale": encoded.scale.clone(), "signs": stored}


def decode_parts(
    fmt: StoredFormat, codes: Tensor, scale: Tensor, signs: Tensor, key: Tensor
) -> Tensor:
    """Signed values: the codes' shape, the scale's dtype."""
    if not isinstance(fmt, Ladder):
        return fmt.decode_codes(codes, scale)
    stored = random_signs(key, codes.numel()) if is_seeded(fmt, codes, signs) else signs
    values = decode_plain(fmt, codes, scale, stored)
    if values is not None:
        return values
    magnitudes = ladder.decode_magnitudes(codes, scale, fmt.bits, fmt.base_precision)
    factors = sign_slice(fmt, codes, stored, key, 0, codes.numel(), magnitudes.dtype)
    return magnitudes.mul_(factors.reshape(magnitudes.shape))


def random_signs(key: Tensor, count: int) -> Tensor:
    """Seeded signs in the layout of packed ones."""
    return random_bytes(key, 0, (count + 7) // 8, 0, PURPOSE_SIGN)


def sign_slice(
    fmt: StoredFormat,
    codes: Tensor,
    signs: Tensor,
    key: Tensor,
    start: int,
    count: int,
    dtype: torch.dtype,
) -> Tensor:
    """Signs (+1 or -1; +1 of a zero) of `count` weights from flat index `start`; (count,)."""
    if holds_signs(fmt):
        negative = _are_negative(fmt, codes.reshape(-1)[start : start + count])
        return 1 - 2 * negative.to(dtype)
    if is_seeded(fmt, codes, signs):
        return seeded_signs(key, start, count, dtype)
    return unpack_signs(signs, start, count, dtype)


def _are_negative(fmt: StoredFormat, codes: Tensor) -> Tensor:
    if isinstance(fmt, LNS):
        return lns.is_negative(codes, fmt.bits)
    if isinstance(fmt, Pair):
        plus, minus = fmt.split(codes)
        return plus < minus
    return ladder.load_codes(codes) < sinh.top_of(fmt.bits)


def is_seeded(fmt: StoredFormat, codes: Tensor, signs: Tensor) -> bool:
    """Whether the signs come from the key rather than from stored bits."""
    return not holds_signs(fmt) and signs.numel() == 0 < codes.numel()


def describe_signs(fmt: StoredFormat, codes: Tensor, signs: Tensor) -> str:
    """Where a weight's signs are, in a word or two."""
    if holds_signs(fmt):
        return "codes"
    return "seed" if is_seeded(fmt, codes, signs) else "packed"


def uniform_codes(fmt: StoredFormat, codes: Tensor, draws: Tensor) -> Tensor:
    """Codes with magnitudes anew, uniform over those of the format; signs inside codes stay.

    Args:
        fmt: The format.
        codes: Stored codes.
        draws: Uniform in [0, 1), one for each code in flat order.
    """
    drawn = (draws * fmt.levels).to(torch.int32).reshape(codes.shape)
    if isinstance(fmt, LNS):
        return lns.join(drawn, lns.is_negative(codes, fmt.bits), fmt.bits)
    return ladder.store_codes(drawn, fmt.bits)


def format_meta(fmt: StoredFormat) -> dict[str, Any]:
    """Kind and fields of a format as JSON values."""
    kind = next(name for name, known in _KINDS.items() if isinstance(fmt, known))
    return {"kind": kind, **{name: getattr(fmt, name) for name in _fields(type(fmt))}}


def _fields(kind: type[StoredFormat]) -> list[str]:
    """Names of what a format is made of; what it works out from them is not among them."""
    return [field.name for field in dataclasses.fields(kind) if field.init]


def meta_fields(meta: Mapping[str, Any]) -> list[str]:
    """Names of the fields that the format of a meta needs. A meta without a kind is a ladder's.

    Raises:
        ValueError: Unknown kind; the text lists those that exist.
    """
    kind = meta.get("kind", "ladder")
    if kind not in _KINDS:
        raise ValueError(
            f"Unknown kind of format {kind!r}; the kinds are: {', '.join(_KINDS)}. "
            "Load the weight with the version of rung that saved it, or a later one."
        )
    return _fields(_KINDS[kind])


def format_from_meta(meta: Mapping[str, Any]) -> StoredFormat:
    """The inverse of `format_meta`."""
    fields = {name: meta[name] for name in meta_fields(meta)}
    return storable(_KINDS[meta.get("kind", "ladder")](**fields))


def require_fit(fmt: StoredFormat, codes: Tensor, scale: Tensor, signs: Tensor) -> None:
    """Refuse parts that are not of one weight in this format.

    Raises:
        ValueError: Codes of another dtype or out of range, another number of signs, a scale that
            does not broadcast.
    """
    count, name = codes.numel(), name_of(fmt)
    packed = (count + 7) // 8
    if holds_signs(fmt) and signs.numel():
        raise ValueError(
            f"The codes of {name} hold the signs, so the part 'signs' must be empty; got "
            f"{signs.numel()} bytes. Take parts and meta from the same tensor."
        )
    if signs.numel() not in (0, packed):
        raise ValueError(
            f"Signs of {count} weights take {packed} bytes, or none if seeded; got "
            f"{signs.numel()}. Take all parts from the same tensor."
        )
    require_broadcast(scale, codes.shape)
    if codes.dtype != fmt.code_dtype:
        raise ValueError(
            f"Codes of {fmt.bits} bits must be {fmt.code_dtype}; got {codes.dtype}. "
            "Take parts and meta from the same tensor."
        )
    # Codes that fill their storage are always in range, but for the last pattern where signs are
    # free; on "meta" there is nothing to look at.
    if not has_knee(fmt) and fmt.bits in (8, 16):
        return
    if count and type(codes) is Tensor and not codes.is_meta:
        _require_range(fmt, codes)


def _require_range(fmt: StoredFormat, codes: Tensor) -> None:
    """Refuse codes of one weight that stand for nothing; the last pattern, where signs are free."""
    if isinstance(fmt, Pair):
        half, what = fmt.bits // 2, "Each half of a code"
        plus, minus = fmt.split(codes)
        largest = int(torch.maximum(plus, minus).max()) + sinh.top_of(half)
    else:
        half, what = fmt.bits, "Codes"
        largest = int(ladder.load_codes(codes).max())
    free = has_knee(fmt)
    if largest > (1 << half) - 1 - free:
        raise ValueError(
            f"{what} of {name_of(fmt)} must be under 2^{half}{' - 1' if free else ''}; got "
            f"{largest}. Take parts and meta from the same tensor."
        )
