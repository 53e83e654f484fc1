"""Tables 1 and 2 of Bernstein et al. 2020: Madam beside tuned SGD and Adam, and in few bits."""

from dataclasses import replace

from rung.reproduce.contest import Contest, Contestant
from rung.reproduce.tasks import row

_SOURCE = "Bernstein et al. 2020, arXiv:2006.14560"
_MADAM = Contestant(label="Madam", optimizer="madam")
_BITS = tuple(
    Contestant(label=f"Madam {bits} bits", optimizer="bbit-madam", format=f"ladder{bits}")
    for bits in (12, 10, 8)
)

# What madam-better found to help: runs this short want a larger learning rate than 0.01, and
# stochastic moves let it fall to zero; a wider scale leaves convolutions room to grow.
_BETTER = tuple(
    replace(
        contestant,
        label=f"{contestant.label}, better",
        lr=0.03,
        settings=("others=multiplicative", "scale_bound=10"),
    )
    for contestant in (_MADAM, _BITS[0], _BITS[-1])
)


def _baselines(sgd: tuple[float, ...], adam: tuple[float, ...]) -> tuple[Contestant, ...]:
    return (
        Contestant(label="SGD", optimizer="sgd", rates=sgd),
        Contestant(label="Adam", optimizer="adam", rates=adam),
    )


# Learning rates that are tried: around those of table 1.
_IMAGES = _baselines((0.03, 0.1, 0.3), (3e-4, 1e-3, 3e-3, 1e-2))
_RATES = {
    "digits": _baselines((0.02, 0.05, 0.1), (1e-3, 2e-3, 4e-3)),
    "cifar10": _IMAGES,
    "cifar100": _IMAGES,
    "imagenet": _IMAGES,
    "cgan": _baselines((3e-4, 1e-3, 3e-3), (1e-4, 3e-4, 1e-3)),
    "wikitext2": _baselines((1.0, 3.0, 10.0, 30.0), (3e-4, 1e-3, 3e-3)),
}
# Best baseline, Madam, and Madam in 12, 10 and 8 bits, as printed.
_PUBLISHED = {
    "cifar10": ("Adam", "6.6 ± 0.2", "7.8 ± 0.2", "7.0 ± 0.1", "7.8 ± 0.3", "8.6 ± 1.5"),
    "cifar100": ("SGD", "29.1 ± 0.2", "30.2 ± 0.1", "27.6 ± 0.3", "29.5 ± 0.3", "33.9 ± 1.1"),
    "imagenet": ("SGD", "24.1 ± 0.1", "28.9 ± 0.1", "31.1 ± 0.1", "34.8 ± 0.3", "50.5 ± 0.5"),
    "cgan": ("Adam", "23.9 ± 0.9", "19.3 ± 0.7", "19.8 ± 0.8", "23.4 ± 0.4", "36 ± 6"),
    "wikitext2": ("SGD", "169.6 ± 0.6", "173.3 ± 0.6", "182.3 ± 0.6", "218.0 ± 0.6", "262 ± 2"),
}
_ORDER = ("cifar10", "cifar100", "imagenet", "cgan", "wikitext2", "digits")


def _published(name: str) -> dict[str, str]:
    if name not in _PUBLISHED:
        return {}
    best, *figures = _PUBLISHED[name]
    labels = (best, _MADAM.label, *(contestant.label for contestant in _BITS))
    return dict(zip(labels, figures, strict=True))


TABLE_1 = Contest(
    name="madam-table1",
    title="Madam at lr 0.01 beside tuned SGD and Adam",
    source=f"{_SOURCE}, table 1",
    kind="table",
    rows=tuple(
        row(name, contestants=(*_RATES[name], _MADAM), published=_published(name))
        for name in _ORDER
    ),
)

TABLE_2 = Contest(
    name="madam-table2",
    title="Madam in 12, 10 and 8 bits a weight",
    source=f"{_SOURCE}, table 2",
    kind="table",
    rows=tuple(
        row(name, contestants=(_MADAM, *_BITS, *_BETTER), published=_published(name))
        for name in _ORDER
    ),
)
