"""Accuracy against the bits that a weight keeps after an update, for four optimizers."""

from rung.reproduce.contest import Budget, Contest, Contestant, Size
from rung.reproduce.tasks import row

BITS = (16, 14, 12, 10, 8)
_FLOAT_PLACE = 18.0  # where a figure puts float32, right of 16 bits
_ADDITIVE = {"SGD": "sgd", "Adam": "adam", "AdamW": "adamw"}


def _contestants() -> tuple[Contestant, ...]:
    """Products in float32; after a step weights are rounded, or live in codes (LNS-Madam)."""
    found = []
    for name, optimizer in (*_ADDITIVE.items(), ("LNS-Madam", "madam")):
        found.append(
            Contestant(label=f"{name} float32", optimizer=optimizer, group=name, place=_FLOAT_PLACE)
        )
    for bits in BITS:
        for name, optimizer in (*_ADDITIVE.items(), ("LNS-Madam", "lns-madam")):
            found.append(
                Contestant(
                    label=f"{name} {bits} bits",
                    optimizer=optimizer,
                    format="none" if optimizer == "lns-madam" else None,
                    settings=(f"update_format=lns{bits}",),
                    group=name,
                    place=float(bits),
                )
            )
    return tuple(found)


_FASHION: dict[Budget, Size] = {
    "smoke": Size(
        words="width 4, 256 images, 1 epoch: says nothing",
        epochs=1,
        schedule="constant",
        settings=("width=4", "train_examples=256"),
        seeds=(0,),
    ),
    "cpu": Size(
        words="width 8, 15,000 images, 2 epochs, cosine, one seed",
        epochs=2,
        schedule="cosine",
        settings=("width=8", "train_examples=15000", "precision=bf16"),
        seeds=(0,),
    ),
    "full": Size(
        words="width 64, 30 epochs, cosine",
        epochs=30,
        schedule="cosine",
        settings=("precision=bf16",),
    ),
}

LNS_BITS = Contest(
    name="lns-madam-bits",
    title="Accuracy against the bits of the update",
    source="After Zhao et al. 2021, LNS-Madam, arXiv:2106.13914",
    kind="lines",
    across="bits of the update",
    rows=(
        row("fashion", contestants=_contestants(), sizes=_FASHION),
        row("digits", contestants=_contestants(), remark="Embedded data."),
    ),
)
