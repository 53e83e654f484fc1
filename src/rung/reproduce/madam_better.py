"""What might make 8-bit Madam better than the paper's: each change alone against the plain version.

Plain is Algorithm 1 as printed: rounding to nearest, a base precision that keeps the range of 12
bits. Every variant has the same budget.
"""

from dataclasses import replace

from rung.reproduce.contest import Contest, Contestant
from rung.reproduce.tasks import row

FLOAT = Contestant(label="Madam", optimizer="madam")
"""Not a variant: what eight bits are measured against, and whose largest weights one borrows. Its
runs are those of tables 1 and 2."""

PLAIN = Contestant(
    label="plain",
    optimizer="bbit-madam",
    format="ladder8",
    settings=("rounding=nearest",),
)


def _variant(label: str, *settings: str, **rest: str | None) -> Contestant:
    """The plain version with more settings, of which a later one overrules an earlier one."""
    return replace(PLAIN, label=label, settings=(*PLAIN.settings, *settings), **rest)  # type: ignore[arg-type]


VARIANTS = (
    FLOAT,
    PLAIN,
    _variant("stochastic moves", "rounding=stochastic"),
    _variant("W_max at 2 RMS", "scale_bound=2"),
    _variant("W_max at 4.5 RMS", "scale_bound=4.5"),
    _variant("W_max a channel", "scale_axis=channel"),
    _variant("W_max of a trained model", scales_from=FLOAT.label),
    _variant("range 20", format="ladder8+range20"),
    _variant("range 200", format="ladder8+range200"),
    _variant("constant lr", schedule="constant"),
    _variant("lr by plateau", schedule="plateau"),
    _variant("lr in a straight line", schedule="linear"),
    _variant("biases and gains in codes", "others=multiplicative"),
    _variant("biases and gains untrained", "others=none"),
    _variant("second moment a row", "state=rows"),
    _variant("mean of the last half", "average_from=0.5"),
)

BETTER = Contest(
    name="madam-better",
    title="8-bit Madam: what helps, one change at a time",
    source="Plain: Bernstein et al. 2020, arXiv:2006.14560, algorithm 1 and section 6",
    kind="table",
    rows=tuple(row(name, contestants=VARIANTS) for name in ("cifar10", "wikitext2", "digits")),
)
