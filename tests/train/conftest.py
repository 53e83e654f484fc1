from dataclasses import replace

import pytest

from rung.train import get_recipe, with_settings

SETTINGS = (
    "width=16",
    "heads=2",
    "layers=1",
    "context=8",
    "batch_size=4",
    "eval_batch_size=16",
    "steps_per_epoch=6",
    "log_every=2",
    "dropout=0.1",
)


class Recorder:
    """A display that keeps what it is told, and may act at a step."""

    def __init__(self, at=None, act=None):
        self.lines, self.steps, self.stopped = [], [], 0
        self.at, self.act = at, act

    def line(self, text):
        self.lines.append(text)

    def start(self, steps, done):
        self.total, self.done = steps, done

    def step(self, step, loss, lr):
        self.steps.append(loss)
        if len(self.steps) == self.at:
            self.act()

    def stop(self):
        self.stopped += 1


@pytest.fixture
def recorder():
    return Recorder


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 12)
    return path


@pytest.fixture
def tiny(text):
    """A configuration of chars-gpt that trains in a blink."""

    def make(optimizer="adamw", *settings, **changes):
        changes = {"epochs": 2, "threads": 1, "data_dir": str(text)} | changes
        config = replace(get_recipe("chars-gpt").configure(optimizer), **changes)
        return with_settings(config, (*SETTINGS, *settings))

    return make
