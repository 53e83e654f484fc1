import pytest

from rung.reproduce import Contest, Contestant, Row, Setup, Size

TINY = ("width=8", "heads=2", "layers=1", "context=8", "batch_size=4", "eval_batch_size=4000")


def contest(kind="table", *contestants, rows=("characters",), seeds=(0, 1), **size):
    """Runs of chars-gpt that take a blink."""
    sizes = Size(
        words="next to nothing",
        epochs=1,
        settings=(*TINY, "steps_per_epoch=3"),
        seeds=seeds,
        **size,
    )
    contestants = contestants or (
        Contestant(label="SGD", optimizer="sgd", rates=(0.01, 0.3), group="SGD", place=1.0),
        Contestant(label="Adam", optimizer="adam", group="Adam", place=2.0),
    )
    return Contest(
        name="tiny",
        title="A tiny contest",
        source="Nobody 2026",
        kind=kind,
        across="places",
        rows=tuple(
            Row(
                name=name,
                title=f"Row {name}",
                recipe="chars-gpt",
                unit="loss, nats",
                data=None if name == "characters" else name,
                contestants=contestants,
                sizes=dict.fromkeys(("smoke", "cpu", "full"), sizes),
                published={"SGD": "1.5 ± 0.1"},
            )
            for name in rows
        ),
    )


@pytest.fixture
def setup():
    return Setup(budget="smoke", data={}, threads=1)
