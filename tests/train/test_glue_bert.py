from dataclasses import replace

import pytest
import torch

from rung import nn
from rung.tensor import CodedTensor
from rung.train import get_recipe, run, with_settings
from rung.train.checkpoint import load_checkpoint
from rung.train.session import build
from rung.train.task import Streams

# Three steps an epoch.
SETTINGS = ("batch_size=8", "eval_batch_size=4", "max_length=12", "log_every=1")


@pytest.fixture
def glue_bert(tiny_bert, sst2):
    """A configuration of glue-bert that trains in a blink."""
    folder = tiny_bert()

    def make(optimizer="adamw", *settings, **changes):
        changes = {"epochs": 2, "threads": 1, "data_dir": str(sst2)} | changes
        config = replace(get_recipe("glue-bert").configure(optimizer), **changes)
        return with_settings(config, (*SETTINGS, f"checkpoint={folder}", *settings))

    return make


def weights(folder):
    tree, _ = load_checkpoint(folder / "checkpoint" / "last.safetensors")
    return {name: x.codes if isinstance(x, CodedTensor) else x for name, x in tree["model"].items()}


FORMATS = [
    ("adamw", None),
    ("sgd", None),
    ("bbit-madam", "ladder8"),
    ("adamw", "lns8"),
    ("lns-madam", "lns8"),
]


@pytest.mark.parametrize(("optimizer", "fmt"), FORMATS)
def test_an_interrupted_fine_tuning_goes_on_bit_for_bit(
    glue_bert, recorder, tmp_path, optimizer, fmt
):
    def interrupt():
        raise KeyboardInterrupt

    config = glue_bert(optimizer, "checkpoint_minutes=0", format=fmt)
    display = recorder()
    whole = run(config, tmp_path / "whole", display=display)
    assert whole["status"] == "finished"
    assert whole["time"]["steps"] == display.total == 6
    assert (whole["metric"]["name"], whole["metric"]["split"]) == ("accuracy", "valid")
    assert 0 <= whole["metric"]["final"] <= 1
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "broken", display=recorder(at=3, act=interrupt))
    resumed = run(config, tmp_path / "broken", resume=True)
    assert resumed["metric"] == whole["metric"]
    ours, theirs = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("optimizer", ["adamw", "lns-madam"])
def test_no_matrix_product_is_left_in_float_under_a_format(glue_bert, optimizer):
    config = glue_bert(optimizer, format="lns8")
    task = get_recipe("glue-bert").build(config)
    session = build(config, task, torch.device("cpu"))
    inputs, targets = task.probe()
    report = nn.audit(
        session.model, (inputs,), lambda outputs: task.loss(outputs, targets), strict=True
    )
    # Both products of attention are among them.
    products = [line for line in str(report).splitlines() if "layer.0.attention.self " in line]
    assert sum("forward" in line for line in products) == 2


def test_a_tiny_model_learns_its_sentences(glue_bert, tmp_path):
    config = glue_bert("adamw", epochs=25, lr=3e-3)
    assert run(config, tmp_path / "run")["metric"]["final"] == 1.0


def test_the_data_line_names_files_checkpoint_and_what_starts_at_random(glue_bert):
    config = glue_bert("adamw", "train_examples=10")
    task = get_recipe("glue-bert").build(config)
    assert task.batches_per_epoch == 2
    assert "24 train + 6 valid examples, files in " in task.source
    assert f"starts from {config.options.checkpoint}: bert, " in task.source
    assert "classifier.bias, classifier.weight at random" in task.source
    assert task.source.endswith("; trains on the first 10")


def test_batches_are_padded_to_their_own_longest_sentence_and_seen_once_an_epoch(glue_bert):
    task = get_recipe("glue-bert").build(glue_bert("adamw", "batch_size=4"))
    streams = Streams(torch.Generator().manual_seed(0), torch.Generator())
    batches = list(task.batches(streams, 0))
    assert len(batches) == task.batches_per_epoch == 6
    assert all(int(inputs[:, 1].sum(1).max()) == inputs.shape[2] for inputs, _ in batches)
    assert len({inputs.shape[2] for inputs, _ in batches}) > 1
    assert sum(int(targets.sum()) for _, targets in batches) == 12
    streams.order.manual_seed(0)
    later = list(task.batches(streams, 4))
    for (inputs, targets), (same, labels) in zip(later, batches[4:], strict=True):
        assert torch.equal(inputs, same)
        assert torch.equal(targets, labels)


def test_evaluation_does_not_depend_on_its_batch_size(glue_bert):
    results = []
    for size in (1, 4, 100):
        task = get_recipe("glue-bert").build(glue_bert("adamw", f"eval_batch_size={size}"))
        torch.manual_seed(0)
        with torch.no_grad():
            results.append(task.evaluate(task.model().eval(), torch.device("cpu")))
    assert {result.metric for result in results} == {results[0].metric}
    assert [result.loss for result in results] == pytest.approx([results[0].loss] * 3, rel=1e-5)


def test_pairs_of_sentences_train_too(glue_bert, tmp_path):
    folder = tmp_path / "rte"
    folder.mkdir()
    lines = "0\ta good film\tthe plot\tentailment\n1\ta film\tbad\tnot_entailment\n"
    for part in ("train", "dev"):
        (folder / f"{part}.tsv").write_text("index\tsentence1\tsentence2\tlabel\n" + lines)
    config = glue_bert("adamw", "task=rte", data_dir=str(folder))
    assert run(config, tmp_path / "run")["status"] == "finished"
    inputs, _ = get_recipe("glue-bert").build(config).probe()
    assert int(inputs[:, 2].sum()) == 5


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            ["checkpoint=none"],
            r"starts from a model in a local folder; give it by --set checkpoint",
        ),
        (["checkpoint=nowhere"], r"`checkpoint` must be an existing folder; got nowhere: no such"),
        (["max_length=25"], r"`max_length` must lie in 3\.\.24 for this checkpoint; got 25"),
        (["max_length=2"], r"`max_length` must lie in 3\.\.24 for this checkpoint; got 2\."),
    ],
)
def test_a_checkpoint_that_does_not_fit_stops_a_run_before_it_writes(
    glue_bert, tmp_path, settings, text
):
    with pytest.raises(ValueError, match=text):
        run(glue_bert("adamw", *settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_data_is_named_before_a_missing_checkpoint(tmp_path):
    config = get_recipe("glue-bert").configure("adamw")
    with pytest.raises(
        ValueError, match=r"reads its data from files.*train\.tsv and dev\.tsv of a"
    ):
        run(config, tmp_path / "run")
    with pytest.raises(ValueError, match=r"must exist; got .*: no such folder\. Get SST-2's files"):
        run(replace(config, data_dir=str(tmp_path / "nowhere")), tmp_path / "run")


def test_unknown_tasks_list_the_known_ones(glue_bert):
    with pytest.raises(
        ValueError, match="`task` must be one of sst2, cola, mrpc, rte, qnli, mnli; got 'stsb'"
    ):
        glue_bert("adamw", "task=stsb")
