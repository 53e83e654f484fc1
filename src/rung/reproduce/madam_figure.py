"""Figure 1 of Bernstein et al. 2020: error over the learning rate, which is fixed in a run."""

from rung.reproduce.contest import Budget, Contest, Contestant, Size
from rung.reproduce.tasks import CHARACTERS, row


def _grid(lowest: int) -> tuple[float, ...]:
    """Thirteen rates, two a decade, from 10^lowest on."""
    return tuple(float(f"{10 ** (k / 2 + lowest):.2g}") for k in range(13))


CONTESTANTS = (
    Contestant(label="SGD", optimizer="sgd", rates=_grid(-4)),
    Contestant(label="Adam", optimizer="adam", rates=_grid(-6)),
    Contestant(label="Madam", optimizer="madam", rates=_grid(-5)),
    Contestant(label="LNS-Madam", optimizer="lns-madam", format="none", rates=_grid(-5)),
    Contestant(label="LMD", optimizer="lmd", rates=_grid(-5)),
)

_ONE = (0,)
_CIFAR: dict[Budget, Size] = {
    "smoke": Size(
        words="width 4, 256 images, 1 epoch: says nothing",
        epochs=1,
        schedule="constant",
        settings=("width=4", "train_examples=256"),
        seeds=_ONE,
    ),
    "cpu": Size(
        words="width 8, one pass over 10,000 images, one seed",
        epochs=1,
        schedule="constant",
        settings=("width=8", "train_examples=10000", "precision=bf16"),
        seeds=_ONE,
    ),
    "full": Size(
        words="width 64, 30 epochs, one seed",
        epochs=30,
        schedule="constant",
        settings=("precision=bf16",),
        seeds=_ONE,
    ),
}
_WORDS: dict[Budget, Size] = {
    "smoke": Size(
        words="20,000 tokens, width 16: says nothing",
        epochs=1,
        schedule="constant",
        settings=("train_tokens=20000", "eval_tokens=5000", "width=16", "feed_forward=16"),
        seeds=_ONE,
    ),
    "cpu": Size(
        words="one pass over 40,000 tokens, one seed",
        epochs=1,
        schedule="constant",
        settings=("train_tokens=40000", "eval_tokens=20000", "precision=bf16"),
        seeds=_ONE,
    ),
    "full": Size(words="all tokens, 6 epochs, one seed", epochs=6, schedule="constant", seeds=_ONE),
}
_DIGITS: dict[Budget, Size] = {
    "smoke": Size(words="1 epoch: says nothing", epochs=1, schedule="constant", seeds=_ONE),
    "cpu": Size(words="5 epochs, three seeds", epochs=5, schedule="constant"),
    "full": Size(words="5 epochs, three seeds", epochs=5, schedule="constant"),
}
_CHARACTERS: dict[Budget, Size] = {
    "smoke": Size(
        words="20 steps: says nothing",
        epochs=1,
        schedule="constant",
        settings=(*CHARACTERS, "steps_per_epoch=20"),
        seeds=_ONE,
    ),
    "cpu": Size(
        words="2 blocks of width 64, 400 steps of 8 windows of 64 characters, one seed",
        epochs=1,
        schedule="constant",
        settings=(*CHARACTERS, "steps_per_epoch=400"),
        seeds=_ONE,
    ),
    "full": Size(
        words="the recipe's own size, 2,000 steps, one seed",
        epochs=1,
        schedule="constant",
        settings=("steps_per_epoch=2000",),
        seeds=_ONE,
    ),
}

FIGURE_1 = Contest(
    name="madam-figure1",
    title="Best error over error at each learning rate",
    source="Bernstein et al. 2020, arXiv:2006.14560, figure 1",
    kind="rates",
    rows=(
        row("cifar10", contestants=CONTESTANTS, sizes=_CIFAR),
        row("wikitext2", contestants=CONTESTANTS, sizes=_WORDS),
        row("characters", contestants=CONTESTANTS, sizes=_CHARACTERS),
        row("digits", contestants=CONTESTANTS, sizes=_DIGITS, remark="Embedded data."),
    ),
)
