"""What might make 8-bit Madam better than the paper's, one change at a time at equal budget.

Plain is the paper's: rounding to nearest, a base precision that keeps the range of 12 bits. It
can't decay its learning rate, which must stay above the base precision; so every other change is
tried on top of stochastic moves, which can.
"""

from dataclasses import replace

from rung.reproduce.contest import Budget, Contest, Contestant, Size
from rung.reproduce.tasks import CHARACTERS, CIFAR, row

_CIFAR: dict[Budget, Size] = {
    **CIFAR,
    "cpu": Size(
        words="width 8, 3 epochs of 10,000 images, cosine",
        epochs=3,
        schedule="cosine",
        settings=("width=8", "train_examples=10000", "precision=bf16"),
    ),
}
_CHARACTERS: dict[Budget, Size] = {
    "smoke": Size(
        words="20 steps: says nothing",
        epochs=1,
        schedule="cosine",
        settings=(*CHARACTERS, "steps_per_epoch=20", "warmup_steps=0"),
        seeds=(0,),
    ),
    "cpu": Size(
        words="2 blocks of width 64, 700 steps of 8 windows of 64 characters, cosine",
        epochs=5,
        schedule="cosine",
        settings=(*CHARACTERS, "steps_per_epoch=140"),
    ),
    "full": Size(words="the recipe's own size", schedule="cosine"),
}

FLOAT = Contestant(label="Madam", optimizer="madam")
"""Not a variant: what eight bits are measured against, and whose largest weights one borrows."""

PLAIN = Contestant(
    label="plain: nearest",
    optimizer="bbit-madam",
    format="ladder8",
    settings=("rounding=nearest",),
)
STOCHASTIC = replace(PLAIN, label="stochastic moves", settings=("rounding=stochastic",))


def _variant(label: str, *settings: str, **rest: str | float | None) -> Contestant:
    """Stochastic moves and one change."""
    label = f"... and {label}"
    changed = replace(STOCHASTIC, label=label, settings=(*STOCHASTIC.settings, *settings))
    return replace(changed, **rest)  # type: ignore[arg-type]


VARIANTS = (
    FLOAT,
    PLAIN,
    STOCHASTIC,
    _variant("W_max at 2 RMS", "scale_bound=2"),
    _variant("W_max at 4.5 RMS", "scale_bound=4.5"),
    _variant("W_max at 10 RMS", "scale_bound=10"),
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
    _variant("lr 0.03", lr=0.03),
    _variant("lr 0.03, biases and gains in codes", "others=multiplicative", lr=0.03),
)

_CIFAR_RATE = 0.03
_ASKED_OF_CIFAR = (
    "W_max at 10 RMS", "W_max a channel", "range 20", "lr in a straight line",
    "biases and gains in codes", "second moment a row", "mean of the last half",
)  # fmt: skip


def _on_cifar() -> tuple[Contestant, ...]:
    """Those that two cores can ask: at 0.01, this recipe's own, so short a run learns little.

    The base precision of 8 bits is 0.01606, and rounding to nearest needs a rate of that at least.
    """
    asked = [f"... and {change}" for change in _ASKED_OF_CIFAR]
    return (
        FLOAT,
        replace(PLAIN, lr=0.0165),
        STOCHASTIC,
        _variant("lr 0.03", lr=_CIFAR_RATE),
        *(replace(v, lr=_CIFAR_RATE) for v in VARIANTS if v.label in asked),
    )


BETTER = Contest(
    name="madam-better",
    title="8-bit Madam: what helps, one change at a time",
    source="Plain: Bernstein et al. 2020, arXiv:2006.14560, algorithm 1 and section 6",
    kind="table",
    rows=(
        row(
            "cifar10",
            contestants=_on_cifar(),
            sizes=_CIFAR,
            folder="cifar10-better",
            remark="All but the first three stand on a learning rate of 0.03.",
        ),
        row("characters", contestants=VARIANTS, sizes=_CHARACTERS, folder="characters-better"),
        row("digits", contestants=VARIANTS, folder="digits-better", remark="Embedded data."),
    ),
)
