"""One-byte training on other images, and with another network on the arena's text."""

from rung.reproduce.contest import Budget, Contest, Size
from rung.reproduce.one_byte import OURS, PLAIN, RIVALS
from rung.reproduce.tasks import WORDS, row

# Float32, about four bytes a weight, about three, and the best of the arena's at twenty.
_ASKED = ("AdamW", "AdamW 8-bit, bf16 weights", "Madam 8 bits", "LMD")
_RIVALS = tuple(c for c in RIVALS if c.label in _ASKED)
assert len(_RIVALS) == len(_ASKED), "a label above is nobody's"

_FASHION: dict[Budget, Size] = {
    "smoke": Size(
        words="width 4, 512 images, 1 epoch: says nothing",
        epochs=1,
        schedule="cosine",
        settings=("width=4", "train_examples=512"),
        seeds=(0,),
    ),
    "cpu": Size(
        words="width 16, 2 epochs of 20,000 images, in bfloat16",
        epochs=2,
        schedule="cosine",
        settings=("width=16", "train_examples=20000", "precision=bf16"),
    ),
    "full": Size(words="width 64, 30 epochs", epochs=30, schedule="cosine"),
}
# Trials as long as the runs: what is best for half of the text is not for all.
_WORDS: dict[Budget, Size] = {
    "smoke": WORDS["smoke"],
    "cpu": Size(
        words="the first 200,000 tokens, 1 epoch, judged by 100,000 tokens, in bfloat16",
        epochs=1,
        schedule="cosine",
        settings=("train_tokens=200000", "eval_tokens=100000", "precision=bf16"),
    ),
    "full": Size(words="all tokens, 20 epochs", epochs=20, schedule="cosine"),
}
_SIZES = {"fashion": _FASHION, "wikitext2": _WORDS}

ONE_BYTE_HELD_OUT = Contest(
    name="one-byte-held-out",
    title="One byte a weight on tasks that its defaults have not seen",
    source="Ours",
    kind="arena",
    rows=tuple(
        row(
            name,
            folder=f"one-byte-{name}",
            contestants=(*_RIVALS, PLAIN, OURS),
            sizes=sizes,
            unit="loss, nats",
            factor=1.0,
            judged="loss",
        )
        for name, sizes in _SIZES.items()
    ),
)
