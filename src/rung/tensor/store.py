"""Convert a model in place: its weights become codes, and a report says what changed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from rung.formats import name_of
from rung.kernels.dispatch import used_once
from rung.tensor._encode import Options, encode
from rung.tensor._parts import StoredFormat, default_scale, resolve_signs, storable
from rung.tensor.coded import CodedTensor, stored_bytes
from rung.tensor.roles import Role, roles

_SMALL = 2**20
"""Parameters of a model whose weights are rounded sooner than a loop for it is compiled."""


@dataclass(frozen=True)
class StoredWeight:
    """One line of a `StoreReport`.

    Attributes:
        name: Qualified name of the parameter.
        shape: Its shape.
        format: Catalog name of its format, or None if it was left in floating point.
        bytes_before: Bytes it took before.
        bytes_after: Bytes it takes now.
        reason: Why it was left, or None.
    """

    name: str
    shape: tuple[int, ...]
    format: str | None
    bytes_before: int
    bytes_after: int
    reason: str | None


@dataclass(frozen=True)
class StoreReport:
    """What `store_weights_` did, parameter by parameter; ``str(report)`` is a table."""

    entries: tuple[StoredWeight, ...]

    @property
    def bytes_before(self) -> int:
        """Bytes of all parameters before."""
        return sum(entry.bytes_before for entry in self.entries)

    @property
    def bytes_after(self) -> int:
        """Bytes of all parameters now."""
        return sum(entry.bytes_after for entry in self.entries)

    def __str__(self) -> str:
        width = max([len(entry.name) for entry in self.entries] + [len("parameter")])
        lines = [
            f"{'parameter':{width}}  {'format':9}  {'before':>12}  {'after':>12}  left because"
        ]
        lines += [
            f"{entry.name:{width}}  {entry.format or '-':9}  {entry.bytes_before:12,}  "
            f"{entry.bytes_after:12,}  {entry.reason or ''}".rstrip()
            for entry in self.entries
        ]
        total = f"{self.bytes_before:12,}  {self.bytes_after:12,}"
        lines.append(f"{'total':{width}}  {'':9}  {total}  bytes")
        return "\n".join(lines)


def store_weights_(
    model: nn.Module,
    format: str | StoredFormat = "ladder8",
    *,
    init: str = "round",
    scale_bound: float | None = None,
    signs: str | None = None,
    seed: int = 0,
    axis: int | None = None,
    skip: Collection[str] = (),
    others: bool = False,
    scales: Mapping[str, float] | None = None,
    min_scale: float | None = None,
) -> StoreReport:
    """Replace a model's weights by codes, in place.

    Matrices, convolution kernels and embeddings are stored; biases, norm gains, frozen and complex
    parameters stay as they are, and the report says why for each. W_max = scale_bound * RMS of the
    weight, or `min_scale` where that is more, unless `scales` says it. Nothing is changed if any
    parameter is refused.

    Args:
        model: Any module; build optimizers after this call.
        format: A `Ladder`, an `LNS` without a zero, a `Sinh`, a `Pair`, or a name such as
            ``"lns16"``.
        init: ``"round"`` takes the codes nearest to the existing magnitudes; ``"uniform"`` draws
            magnitudes uniformly over the codes, as the paper did.
        scale_bound: sigma*/sigma of the paper, > 0: 1, 2 or 3 for weights fresh from their
            initialisation; trained ones reach further (look at their largest over their RMS).
            None: 3, and for a `Sinh` or a `Pair` the largest weight instead, so that none is cut.
        signs: For ladders, ``"seed"`` (the default) redraws every sign from the seed and stores
            none: for weights fresh from their initialisation, which are symmetric. ``"packed"``
            keeps the signs at one bit a weight: for weights that were trained. The other formats
            keep their signs in the codes, so leave `signs` out or say ``"packed"``.
        seed: For seeded signs and uniform codes.
        axis: None for one scale per tensor; 0 for one per output channel.
        skip: Names of parameters to leave in floating point.
        others: Store biases and norm gains too: the codes nearest to them, one scale a tensor,
            their own signs (packed, since a gain of 1 must not become -1).
        scales: W_max by the name of every weight that is stored, e.g. the largest magnitudes of a
            trained model, as the paper borrowed them (its section 6).
        min_scale: What W_max is at least, 0 or more. None: 0, and 0.6 for a `Sinh` or a `Pair`: so
            a step of theta moves small weights of nearly all layers by the same amount, as Adam
            does, and weights have room to grow.

    Returns:
        The report.

    Raises:
        ValueError: Unknown format, `init` or `signs`; an LNS with a zero; seeded signs for codes
            that hold the sign; uniform codes of a `Sinh` or a `Pair`; a weight that holds NaN or
            infinity, or is all zero in codes without a zero; a name in `skip` or `scales` that no
            parameter has; a weight without its scale, or a scale that isn't positive; scales with
            an axis; `min_scale` negative or not finite; no weight to store; a weight already
            stored.

    Example:
        >>> model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        >>> print(store_weights_(model, "ladder8"))
        parameter  format           before         after  left because
        0.weight   ladder8           8,192         2,060
        0.bias     -                   128           128  1-d (bias, gain or scalar)
        2.weight   ladder8           1,280           332
        2.bias     -                    40            40  1-d (bias, gain or scalar)
        total                        9,640         2,560  bytes

    Source: Bernstein et al. 2020, sections 4.1, 6 and 7.
    """
    fmt = storable(format)
    bound, least = default_scale(fmt)
    options = Options(
        fmt,
        init,
        bound if scale_bound is None else scale_bound,
        resolve_signs(fmt, signs),
        seed,
        axis,
        frozenset(skip),
        others,
        scales,
        least if min_scale is None else min_scale,
    )
    found = list(roles(model))
    options.check({role.name for role in found})
    # All codes first, then all assignments: a refused weight leaves the model as it was.
    coded: dict[str, Tensor] = {}
    entries = []
    small = sum(role.parameter.numel() for role in found) <= _SMALL
    for role in found:
        reason = _left_because(role, options)
        if reason is None:
            with used_once(_SMALL if small else None):
                coded[role.name] = encode(role, options)
        after = coded.get(role.name, role.parameter)
        stored_as = name_of(fmt) if reason is None else None
        before = stored_bytes(role.parameter)
        shape = tuple(role.parameter.shape)
        entries.append(
            StoredWeight(role.name, shape, stored_as, before, stored_bytes(after), reason)
        )
    if not coded:
        raise ValueError(f"The model has no weight to store.\n{StoreReport(tuple(entries))}")
    for role in found:
        if role.name in coded:
            parameter = nn.Parameter(coded[role.name])
            for module, attribute in role.owners:
                setattr(module, attribute, parameter)
    return StoreReport(tuple(entries))


def _left_because(role: Role, options: Options) -> str | None:
    parameter = role.parameter
    if isinstance(parameter, CodedTensor):
        raise ValueError(
            f"{role.name} is already stored as {name_of(parameter.format)}; store a model once."
        )
    if role.name in options.skip:
        return "named in skip"
    if parameter.is_complex():
        return "complex"
    if not parameter.is_floating_point():
        return f"not floating-point ({parameter.dtype})"
    if not parameter.requires_grad:
        return "frozen (requires_grad=False)"
    if any(isinstance(m, nn.Embedding | nn.EmbeddingBag) and m.sparse for m, _ in role.owners):
        return "sparse gradients"
    if any(getattr(m, "max_norm", None) is not None for m, _ in role.owners):
        return "embedding with max_norm, which rescales rows in place"
    if any(getattr(m, "padding_idx", None) is not None for m, _ in role.owners):
        return "embedding with a padding row, which must stay 0"
    return None if options.others else role.additive_reason
