import gzip
import lzma
import typing

import pytest
import torch

from rung.train.data import DataError, glue
from rung.train.data.glue import LAYOUTS
from rung.train.recipe_options import SentenceTaskName

PACKERS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}
HEADERS = {
    "sst2": "sentence\tlabel",
    "cola": None,
    "mrpc": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
    "rte": "index\tsentence1\tsentence2\tlabel",
    "qnli": "index\tquestion\tsentence\tlabel",
    "mnli": "index\tgenre\tsentence1\tsentence2\tlabel1\tgold_label",
}
LINES = {
    "sst2": ['it "is \u2028 fine \t1', "bad\t0"],
    "cola": ["gj04\t1\t\tHe left.", "gj04\t0\t*\tLeft he."],
    "mrpc": ["1\t7\t8\tone\tone more", "0\t7\t8\ttwo\tthree"],
    "rte": ["0\ta b\tc\tentailment", "1\td\te\tnot_entailment"],
    "qnli": ["0\twhat?\tthat\tentailment", "1\twho?\tthat\tnot_entailment"],
    "mnli": ["0\tfiction\ta\tb\tneutral\tneutral", "1\tfiction\tc\td\tneutral\tcontradiction"],
}
EXPECTED = {
    "sst2": ([('it "is \u2028 fine ',), ("bad",)], [1, 0]),
    "cola": ([("He left.",), ("Left he.",)], [1, 0]),
    "mrpc": ([("one", "one more"), ("two", "three")], [1, 0]),
    "rte": ([("a b", "c"), ("d", "e")], [0, 1]),
    "qnli": ([("what?", "that"), ("who?", "that")], [0, 1]),
    "mnli": ([("a", "b"), ("c", "d")], [2, 0]),
}


def write(folder, task, train=None, suffix="", end="\n"):
    header = [] if HEADERS[task] is None else [HEADERS[task]]
    for name, lines in (("train.tsv", train), (LAYOUTS[task].dev, None)):
        text = end.join(header + (LINES[task] if lines is None else lines)) + end
        (folder / (name + suffix)).write_bytes(PACKERS[suffix](text.encode()))


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("task", LAYOUTS)
def test_every_task_is_read_from_its_official_columns(tmp_path, task, suffix):
    write(tmp_path, task, suffix=suffix)
    data = glue(tmp_path, task)
    examples, labels = EXPECTED[task]
    assert list(data.train) == list(data.valid) == examples
    assert data.train_labels.tolist() == data.valid_labels.tolist() == labels
    assert data.train_labels.dtype == torch.int64
    assert data.classes == LAYOUTS[task].classes
    title = LAYOUTS[task].title
    assert f"GLUE {title} layout (not the official set): 2 train + 2 valid" in data.source


def test_dos_line_ends_a_byte_order_mark_and_a_missing_last_line_end_change_nothing(tmp_path):
    write(tmp_path, "mrpc")
    plain = glue(tmp_path, "mrpc")
    write(tmp_path, "mrpc", end="\r\n")
    path = tmp_path / "train.tsv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().removesuffix(b"\r\n"))
    assert glue(tmp_path, "mrpc").train == plain.train
    assert glue(tmp_path, "mrpc").valid == plain.valid


def test_files_of_the_official_length_are_named_so(tmp_path):
    write(tmp_path, "rte", train=[LINES["rte"][0]] * 2490)
    lines = [HEADERS["rte"]] + [LINES["rte"][1]] * 277
    (tmp_path / "dev.tsv").write_text("\n".join(lines))
    assert glue(tmp_path, "rte").source.startswith("GLUE RTE: 2,490 train + 277 valid examples")


def test_unknown_tasks_list_the_known_ones():
    with pytest.raises(ValueError, match=r"got 'stsb'. The tasks are: sst2, cola, mrpc, rte, qnli"):
        glue("anywhere", "stsb")


def test_the_option_knows_the_tasks_that_can_be_read():
    assert typing.get_args(SentenceTaskName) == tuple(LAYOUTS)


@pytest.mark.parametrize(
    ("task", "train", "text"),
    [
        ("sst2", ["good"], r"train\.tsv, line 2, must have 2 fields .*label\); got 1: 'good'"),
        ("sst2", ["a\t1", "b\tc\t1"], r"train\.tsv, line 3, must have 2 fields .*got 3: 'b"),
        ("sst2", ["good\t2"], r"line 2, must have one of 0, 1 as its label; got '2'"),
        ("sst2", ["good\t"], r"line 2, must have one of 0, 1 as its label; got ''"),
        ("rte", ["0\ta\tb\tneutral"], r"one of entailment, not_entailment as its label; got 'neut"),
        ("cola", ["gj04\t1\tHe left."], r"train\.tsv, line 1, must have 4 fields .*got 3"),
        ("sst2", [], r"train\.tsv must hold examples below its header; got none"),
        ("sst2", ["x" * 90], r"got 1: 'x{57}\.\.\.'\."),
    ],
)
def test_a_damaged_line_is_named_with_what_was_expected(tmp_path, task, train, text):
    write(tmp_path, task, train=train)
    with pytest.raises(DataError, match=text + r".*Get .* GLUE benchmark, from gluebenchmark\.com"):
        glue(tmp_path, task)


def test_other_columns_are_named(tmp_path):
    write(tmp_path, "rte")
    with pytest.raises(
        DataError,
        match=r"train\.tsv, line 1, must name the columns sentence, label.*got 'index.*, without "
        r"sentence\. Get SST-2's",
    ):
        glue(tmp_path, "sst2")


def test_missing_and_unreadable_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"must exist; got .*nowhere: no such folder. Get SST-2's"):
        glue(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"must hold train\.tsv \(plain, \.gz or \.xz\)"):
        glue(tmp_path)
    write(tmp_path, "mnli")
    (tmp_path / "dev_matched.tsv").unlink()
    with pytest.raises(DataError, match=r"must hold dev_matched\.tsv"):
        glue(tmp_path, "mnli")
    write(tmp_path, "sst2", suffix=".xz")
    (tmp_path / "train.tsv").unlink()
    path = tmp_path / "train.tsv.xz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"train\.tsv\.xz must be a readable, complete file"):
        glue(tmp_path)
