"""Sentence classification files as the GLUE benchmark ships them: tab-separated values."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rung.train.data.files import DataError, existing_folder, read_text, required_file


@dataclass(frozen=True, slots=True)
class Layout:
    """How the files of one GLUE task are laid out.

    Attributes:
        title: The task's name in print.
        sentences: Columns of the text: one, or two for a pair.
        label: Column of the label.
        classes: Labels as the files write them; a label's place is its index.
        official: Examples in the official training and development file.
        columns: The columns of files that have no header line; None where the files have one.
        dev: Name of the development file.
    """

    title: str
    sentences: tuple[str, ...]
    label: str
    classes: tuple[str, ...]
    official: tuple[int, int]
    columns: tuple[str, ...] | None = None
    dev: str = "dev.tsv"


_ENTAILMENT = ("entailment", "not_entailment")
_PAIR = ("sentence1", "sentence2")

LAYOUTS: dict[str, Layout] = {
    "sst2": Layout("SST-2", ("sentence",), "label", ("0", "1"), (67_349, 872)),
    "cola": Layout(
        "CoLA",
        ("sentence",),
        "label",
        ("0", "1"),
        (8_551, 1_043),
        columns=("source", "label", "star", "sentence"),
    ),
    "mrpc": Layout("MRPC", ("#1 String", "#2 String"), "Quality", ("0", "1"), (3_668, 408)),
    "rte": Layout("RTE", _PAIR, "label", _ENTAILMENT, (2_490, 277)),
    "qnli": Layout("QNLI", ("question", "sentence"), "label", _ENTAILMENT, (104_743, 5_463)),
    "mnli": Layout(
        "MNLI",
        _PAIR,
        "gold_label",
        ("contradiction", "entailment", "neutral"),
        (392_702, 9_815),
        dev="dev_matched.tsv",
    ),
}
"""The tasks that `glue` reads."""


@dataclass(frozen=True, slots=True, eq=False)
class SentenceData:
    """Sentences, or pairs of sentences, each with a label.

    Attributes:
        train: One tuple an example: its sentence, or its two sentences.
        train_labels: Shape (N,), int64, 0 to ``len(classes)`` - 1.
        valid: As ``train``.
        valid_labels: Shape (M,), int64.
        classes: Names of the labels.
        source: One line: which data, how many examples, from where.
    """

    train: tuple[tuple[str, ...], ...]
    train_labels: Tensor
    valid: tuple[tuple[str, ...], ...]
    valid_labels: Tensor
    classes: tuple[str, ...]
    source: str


def glue(data_dir: str | Path, task: str = "sst2") -> SentenceData:
    """Read the labelled files of one GLUE task.

    The test files have no labels and aren't read; the development file is the validation part
    (of MNLI, the matched one).

    Args:
        data_dir: Folder with ``train.tsv`` and ``dev.tsv`` (MNLI: ``dev_matched.tsv``), each
            plain, .gz or .xz, with the columns of the official files.
        task: A name in `LAYOUTS`.

    Returns:
        Training and validation part.

    Raises:
        DataError: A file is missing, damaged, or has other columns or labels.
        ValueError: No task has this name; the text lists those that exist.

    Source: A. Wang et al., "GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language
    Understanding", arXiv:1804.07461, 2018.
    """
    if task not in LAYOUTS:
        raise ValueError(
            f"`task` must be a GLUE task that Rung reads; got {task!r}. "
            f"The tasks are: {', '.join(LAYOUTS)}."
        )
    layout = LAYOUTS[task]
    origin = f"{layout.title}'s files of the GLUE benchmark, from gluebenchmark.com"
    folder = existing_folder(data_dir, origin)
    train, train_labels = _read(required_file(folder, ["train.tsv"], origin), layout, origin)
    valid, valid_labels = _read(required_file(folder, [layout.dev], origin), layout, origin)
    name = f"GLUE {layout.title}"
    if (len(train), len(valid)) != layout.official:
        name += " layout (not the official set)"
    return SentenceData(
        train=train,
        train_labels=train_labels,
        valid=valid,
        valid_labels=valid_labels,
        classes=layout.classes,
        source=f"{name}: {len(train):,} train + {len(valid):,} valid examples, files in {folder}",
    )


def _read(path: Path, layout: Layout, origin: str) -> tuple[tuple[tuple[str, ...], ...], Tensor]:
    """Examples and labels of one file."""
    # The official files quote nothing, so a quotation mark is text; one of them begins with a byte
    # order mark. Only "\n" ends a line: other separators of lines occur inside sentences.
    text = read_text(path, origin).removeprefix("\ufeff").removesuffix("\n")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    columns = layout.columns or tuple(lines[0].split("\t"))
    needed = (*layout.sentences, layout.label)
    missing = [name for name in needed if name not in columns]
    if missing:
        raise DataError(
            f"{path}, line 1, must name the columns {', '.join(needed)}, separated by tabs; got "
            f"{_short(lines[0])}, without {', '.join(missing)}. Get {origin}."
        )
    places = [columns.index(name) for name in layout.sentences]
    label_place = columns.index(layout.label)
    classes = {name: index for index, name in enumerate(layout.classes)}
    first = 0 if layout.columns else 1
    examples, labels = [], []
    for number, line in enumerate(lines[first:], start=first + 1):
        fields = line.split("\t")
        if len(fields) != len(columns):
            raise DataError(
                f"{path}, line {number}, must have {len(columns)} fields separated by tabs "
                f"({', '.join(columns)}); got {len(fields)}: {_short(line)}. Get {origin}."
            )
        if fields[label_place] not in classes:
            raise DataError(
                f"{path}, line {number}, must have one of {', '.join(classes)} as its "
                f"{layout.label}; got {_short(fields[label_place])}. Get {origin}."
            )
        examples.append(tuple(fields[place] for place in places))
        labels.append(classes[fields[label_place]])
    if not examples:
        raise DataError(f"{path} must hold examples below its header; got none. Get {origin}.")
    return tuple(examples), torch.tensor(labels)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
