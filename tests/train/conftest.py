from dataclasses import replace

import pytest
import torch

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


WORDS = ("good", "bad", "film", "a", "the", "plot", "is", "##s", ".")


@pytest.fixture
def tiny_bert(tmp_path):
    """Writes a folder with a BERT of a few thousand weights and its tokenizer."""

    def make(name="bert", model="BertModel", vocabulary=True, **changes):
        import transformers

        folder = tmp_path / name
        sizes = {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 48,
            "max_position_embeddings": 24,
            "vocab_size": 16,
        }
        kind = getattr(transformers, model)
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            kind(transformers.BertConfig(**(sizes | changes))).save_pretrained(folder)
        if vocabulary:
            marks = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
            (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in marks + WORDS))
        return folder

    return make


@pytest.fixture
def sst2(tmp_path):
    """A folder with SST-2's files, 24 + 6 sentences."""
    folder = tmp_path / "sst2"
    folder.mkdir()
    for part, count in (("train", 24), ("dev", 6)):
        lines = [
            f"{'a good' if index % 2 else 'the bad'} film {'. ' * (index % 5)}\t{index % 2}\n"
            for index in range(count)
        ]
        (folder / f"{part}.tsv").write_text("sentence\tlabel\n" + "".join(lines))
    return folder
