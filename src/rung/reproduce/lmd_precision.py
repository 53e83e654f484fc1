"""LMD beside AdamW and Madam under forward passes of few bits, after Nishida et al. 2025."""

from rung.reproduce.contest import Budget, Contest, Contestant, Size
from rung.reproduce.tasks import CHARACTERS, row

FORMATS = {"float32": None, "MXFP6": "mxfp6_e2m3", "MXFP4": "mxfp4"}
_RULES = {
    "LMD": ("lmd", (0.02, 0.035, 0.06)),
    "AdamW": ("adamw", (2e-3, 4e-3, 8e-3)),
    "Madam": ("madam", (0.02, 0.04, 0.08)),
}
_PLACES = dict(zip(FORMATS, (32.0, 6.0, 4.0), strict=True))


def _contestants() -> tuple[Contestant, ...]:
    """Each rule's learning rate is tried in each format: none is favoured by another's."""
    return tuple(
        Contestant(
            label=f"{name} {title}",
            optimizer=optimizer,
            format=fmt,
            rates=rates,
            group=name,
            place=_PLACES[title],
        )
        for name, (optimizer, rates) in _RULES.items()
        for title, fmt in FORMATS.items()
    )


_CHARACTERS: dict[Budget, Size] = {
    "smoke": Size(
        words="20 steps: says nothing",
        epochs=1,
        settings=(*CHARACTERS, "steps_per_epoch=20", "warmup_steps=0"),
        seeds=(0,),
    ),
    "cpu": Size(
        words="2 blocks of width 64, 700 steps of 8 windows of 64 characters, cosine",
        epochs=5,
        settings=(*CHARACTERS, "steps_per_epoch=140"),
        tuning_epochs=2,
    ),
    "full": Size(words="the recipe's own size"),
}
_DIGITS_VIT: dict[Budget, Size] = {
    "smoke": Size(words="1 epoch: says nothing", epochs=1, settings=("layers=2",), seeds=(0,)),
    "cpu": Size(
        words="2 blocks, 16 epochs, no augmentation",
        epochs=16,
        settings=("layers=2", "crop_padding=0"),
        tuning_epochs=8,
    ),
    "full": Size(words="the recipe's own size"),
}

LMD_PRECISION = Contest(
    name="lmd-precision",
    title="Three rules under forward passes in MXFP6 and MXFP4",
    source="After Nishida et al. 2025, arXiv:2506.17768",
    kind="lines",
    across="bits of an element in the forward pass",
    rows=(
        row("characters", contestants=_contestants(), sizes=_CHARACTERS),
        row("digits-vit", contestants=_contestants(), sizes=_DIGITS_VIT),
    ),
)
