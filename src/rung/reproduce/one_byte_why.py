"""What one-byte training stands on: the arena's winner with one change at a time."""

import math
from dataclasses import replace

from rung.reproduce.contest import Budget, Contest, Contestant, Size
from rung.reproduce.one_byte import OURS, PLAIN, RIVALS, TITLES, folder_of, sizes
from rung.reproduce.tasks import row
from rung.train.recipes.defaults import SIGNED_MADAM_LR as RATE


def _variant(label: str, *settings: str, **rest: str | float) -> Contestant:
    """The winner and one change."""
    changed = replace(OURS, label=f"... {label}", settings=(*OURS.settings, *settings))
    return replace(changed, **rest)  # type: ignore[arg-type]


# The exploration's lambda of 0.1 pulls theta; `weight_decay` pulls theta / asinh(1 / knee).
_PULL = f"weight_decay={0.1 * math.asinh(1 / 0.03):.2f}"

_RATES = (
    _variant("lr halved", lr=RATE / 2),
    _variant("lr doubled", lr=RATE * 2),
    _variant("constant lr, no warm-up", schedule="constant"),
    _variant("no warm-up", "warmup_steps=0", "warmup_share=0"),
    _variant("the recipe's warm-up", "warmup_share=0"),
)
_STATE = (
    replace(PLAIN, label="... no momentum"),
    _variant("momentum in 8 bits", "momentum_bits=8"),
    _variant("momentum 0.95", "momentum=0.95"),
    _variant("momentum 0.95 in 8 bits", "momentum=0.95", "momentum_bits=8"),
    _variant("beta 0.999", "beta=0.999"),
    _variant("moments in float32", "state=fp32"),
    _variant("second moment a row", "state=rows"),
    _variant("second moment a row and a column", "state=factored"),
)
_CODES = (
    _variant("4 bits", format="sinh4"),
    _variant("6 bits", format="sinh6"),
    _variant("12 bits", format="sinh12"),
    # Whose lr falls to half a rung and no further: to 41 % in 8 bits, to 3 % in 12.
    _variant("nearest rounding", "rounding=nearest"),
    _variant("12 bits, nearest rounding", "rounding=nearest", format="sinh12"),
    _variant("two ladders of 8 bits", format="pair16"),
    _variant("two ladders of 8 bits, pull 0.42", _PULL, format="pair16"),
    _variant("two ladders of 4 bits, pull 0.42", _PULL, format="pair8"),
)
_GEOMETRY = (
    _variant("top rung 0.3", "min_scale=0.3"),
    _variant("top rung 20 RMS", "min_scale=0", "scale_bound=20"),
    _variant("top rung 20 RMS, a channel", "min_scale=0", "scale_bound=20", "scale_axis=channel"),
    _variant("knee 0.018 under a top rung of 1", "min_scale=1", format="sinh8+knee0.018"),
    _variant("knee 0.01", format="sinh8+knee0.01"),
    _variant("knee 0.1", format="sinh8+knee0.1"),
)
_RULE = (
    _variant("no pull", "weight_decay=0"),
    _variant("pull 0.1", "weight_decay=0.1"),
    _variant("pull 0.42", _PULL),
    _variant("clip 2", "clip=2"),
)
_FLOATS = {"digits-vit": "class_token,*embedding*,head*", "characters": "*embedding*"}
_OTHERS = (
    _variant("biases and gains in codes", "others=multiplicative"),
    _variant("biases and gains at 0.001", "additive_lr=0.001"),
    _variant("biases and gains at 0.004", "additive_lr=0.004"),
)
# A quarter of the steps, the same shares of warm-up: the recipe's 5 % for AdamW, ours its own. On
# the texts steps are counted: four times the time.
_LARGE = ("batch_size=128", "warmup_steps=0")
_BATCH = (
    _variant("batches of 128", *_LARGE),
    _variant("batches of 128, lr doubled", *_LARGE, lr=RATE * 2),
    *(
        Contestant(
            label=f"AdamW, batches of 128, lr {rate:g}",
            optimizer="adamw",
            settings=(*_LARGE, "warmup_share=0.05"),
            lr=rate,
        )
        for rate in (0.002, 0.004)
    ),
)
# Ours warms up for a fifth of the steps: would AdamW, at its tuned rate or the next, and the small
# rival?
_ADAMW_WARM = {
    "characters": (0.003, 0.004),
    "tokens": (0.001, 0.002),
    "digits-vit": (0.002, 0.003),
    "cifar10": (0.004, 0.008),
}
_MADAM_WARM = {"characters": 0.16, "tokens": 0.08, "digits-vit": 0.04, "cifar10": 0.08}


def _warm(name: str) -> tuple[Contestant, ...]:
    """Rivals with our warm-up."""
    madam = next(c for c in RIVALS if c.label == "Madam 8 bits, biases and gains at 0.004")
    return (
        *(
            Contestant(
                label=f"AdamW, a fifth of warm-up, lr {rate:g}",
                optimizer="adamw",
                settings=("warmup_share=0.2",),
                lr=rate,
            )
            for rate in _ADAMW_WARM[name]
        ),
        replace(
            madam,
            label=f"Madam 8 bits, gains at 0.004, a fifth of warm-up, lr {_MADAM_WARM[name]:g}",
            settings=(*madam.settings, "warmup_share=0.2"),
            rates=None,
            lr=_MADAM_WARM[name],
        ),
    )


_EVERY = (OURS, *_RATES, *_STATE, *_CODES, *_GEOMETRY, *_RULE, *_OTHERS)
_ASKED_EVERYWHERE = {
    OURS.label,
    "... no momentum",
    "... momentum in 8 bits",
    "... second moment a row",
    "... 12 bits",
    "... nearest rounding",
    "... top rung 0.3",
    "... top rung 20 RMS, a channel",
    "... no pull",
    "... pull 0.1",
}
_FEW = tuple(variant for variant in _EVERY if variant.label in _ASKED_EVERYWHERE)
assert len(_FEW) == len(_ASKED_EVERYWHERE), "a label above is nobody's"


def _in_float(name: str) -> Contestant:
    """What is first and last in a network, in float32."""
    return _variant("embeddings and head in float32", f"float_weights={_FLOATS[name]}")


# Characters have the whole list: their losses spread least over seeds, and two seeds say most.
_ASKED = {
    "characters": (*_EVERY, _in_float("characters"), *_warm("characters")),
    "digits-vit": (*_FEW, _in_float("digits-vit"), *_BATCH, *_warm("digits-vit")),
    "cifar10": (*_FEW, *_warm("cifar10")),
    "tokens": (*_FEW, *_warm("tokens")),
}
_SEEDS = {"characters": 2, "digits-vit": 4, "cifar10": 2, "tokens": 2}


def _fewer_seeds(name: str) -> dict[Budget, Size]:
    """The arena's sizes, over its first seeds: this says where to look, not who wins."""
    return {
        budget: replace(size, seeds=size.seeds[: _SEEDS[name]])
        for budget, size in sizes(name).items()
    }


ONE_BYTE_WHY = Contest(
    name="one-byte-why",
    title="One byte a weight: the winner with one change at a time",
    source="Ours",
    kind="variants",
    rows=tuple(
        row(
            name,
            folder=folder_of(name),
            title=TITLES[name],
            contestants=asked,
            sizes=_fewer_seeds(name),
            unit="loss, nats",
            factor=1.0,
            judged="loss",
        )
        for name, asked in _ASKED.items()
    ),
)
