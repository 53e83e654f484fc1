import json
import shutil
import socket

import pytest
import torch

from rung import store_weights_
from rung.tensor import CodedTensor
from rung.train.models.bert import CheckpointError, load_classifier, load_encoder

FRESH = ("classifier.bias", "classifier.weight")


def state(model):
    return model.classifier.state_dict()


def test_the_encoder_comes_from_the_folder_and_the_head_from_the_seed(tiny_bert):
    import transformers

    folder = tiny_bert()
    torch.manual_seed(1)
    model = load_classifier(folder, 3)
    torch.manual_seed(1)
    same = load_classifier(folder, 3)
    other = load_classifier(folder, 3)
    assert model.fresh == FRESH
    saved = transformers.BertModel.from_pretrained(folder).state_dict()
    for name, value in saved.items():
        assert torch.equal(state(model)[f"bert.{name}"], value)
    assert torch.equal(state(model)["classifier.weight"], state(same)["classifier.weight"])
    assert not torch.equal(state(model)["classifier.weight"], state(other)["classifier.weight"])
    assert state(model)["classifier.weight"].shape == (3, 32)
    assert model.training
    assert "bert, " in model.description
    assert "classifier.bias, classifier.weight at random" in model.description


def test_a_head_of_the_right_size_is_kept_and_one_of_another_size_is_not(tiny_bert):
    folder = tiny_bert(model="BertForSequenceClassification", num_labels=2)
    kept = load_classifier(folder, 2)
    assert kept.fresh == ()
    assert kept.description.endswith("nothing at random")
    assert load_classifier(folder, 3).fresh == FRESH


def test_a_language_model_without_pooler_starts_with_a_fresh_one(tiny_bert):
    fresh = load_classifier(tiny_bert(model="BertForMaskedLM"), 2).fresh
    assert fresh == ("bert.pooler.dense.bias", "bert.pooler.dense.weight", *FRESH)


def test_half_precision_checkpoints_become_float32(tiny_bert):
    import transformers

    folder = tiny_bert()
    transformers.BertModel.from_pretrained(folder).half().save_pretrained(folder)
    assert {p.dtype for p in load_classifier(folder, 2).parameters()} == {torch.float32}


def test_padding_and_the_length_of_the_batch_do_not_change_the_logits(tiny_bert):
    folder = tiny_bert()
    encode, model = load_encoder(folder, 24), load_classifier(folder, 2).eval()
    short, long = ("a good film",), ("the plot is bad . the films is good .",)
    alone, both = encode([short]), encode([short, long])
    assert (alone.shape, both.shape) == ((1, 3, 5), (2, 3, 13))
    assert both[0, 1].tolist() == [1] * 5 + [0] * 8
    with torch.no_grad():
        torch.testing.assert_close(model(both)[0], model(alone)[0])


def test_every_matrix_can_live_in_codes_and_padding_gets_no_gradient(tiny_bert):
    folder = tiny_bert()
    model = load_classifier(folder, 2)
    tokens = load_encoder(folder, 24)([("a good film",), ("the plot is bad .",)])
    model(tokens).square().sum().backward()
    gradient = model.classifier.bert.embeddings.word_embeddings.weight.grad
    assert bool((tokens[:, 0] == 0).any())
    assert not bool(gradient[0].any())
    assert bool(gradient[5].any())
    store_weights_(model, "ladder8")
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    assert len(matrices) == 17
    assert all(isinstance(parameter, CodedTensor) for parameter in matrices)


def test_pairs_are_told_apart_by_segments_and_cut_together(tiny_bert):
    folder = tiny_bert()
    tokens = load_encoder(folder, 24, pair=True)([("a film", "the plot"), ("good", "bad")])
    assert tokens[:, 2].tolist() == [[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0]]
    assert tokens[1].tolist()[0] == [2, 5, 3, 6, 3, 0, 0]
    swapped = tokens.clone()
    swapped[:, 2] = 0
    model = load_classifier(folder, 2).eval()
    assert not torch.equal(model(tokens), model(swapped))
    cut = load_encoder(folder, 6, pair=True)([("a good good film", "the plot is bad")])
    assert cut.shape == (1, 3, 6)


def test_models_without_segments_get_none(tiny_bert):
    folder = tiny_bert(type_vocab_size=1)
    tokens = load_encoder(folder, 24, pair=True)([("a film", "the plot")])
    assert load_classifier(folder, 2)(tokens).shape == (1, 2)


def test_neither_network_nor_screen_is_used(tiny_bert, monkeypatch, capfd):
    def refuse(*arguments):
        raise AssertionError("a connection was opened")

    folder = tiny_bert()
    capfd.readouterr()
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    load_classifier(folder, 2)
    load_encoder(folder, 24)
    assert capfd.readouterr() == ("", "")


def test_the_level_of_the_library_s_messages_is_put_back(tiny_bert):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_classifier(tiny_bert(), 2)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


LOADERS = {
    "model": lambda folder: load_classifier(folder, 2),
    "tokens": lambda f: load_encoder(f, 8),
}


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_a_folder_without_a_checkpoint_is_refused(tiny_bert, tmp_path, load):
    with pytest.raises(
        CheckpointError, match=r"existing folder; got .*nowhere: no such folder\. G"
    ):
        load(tmp_path / "nowhere")
    folder = tiny_bert()
    with pytest.raises(CheckpointError, match=r"existing folder; got .*config\.json: a file"):
        load(folder / "config.json")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(
        CheckpointError, match=r"must hold model\.safetensors or .*in a pickle aren"
    ):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"must hold config\.json; got no such file\. Give a"):
        load(folder)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ("{", "not a valid JSON"),
        ('{"hidden_size": 32}', "model_type"),
        ('{"model_type": "abacus"}', "abacus"),
    ],
)
@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_a_damaged_or_unknown_configuration_is_refused(tiny_bert, load, config, text):
    folder = tiny_bert("checkpoint")
    (folder / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=rf"(?s)config\.json must describe a model.*{text}"):
        load(folder)


def test_a_model_that_cannot_classify_sequences_is_refused(tiny_bert):
    folder = tiny_bert()
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(CheckpointError, match=r"must hold a model like BERT.*model type 'vit'"):
        load_classifier(folder, 2)


def test_damaged_weights_are_refused(tiny_bert):
    path = tiny_bert() / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"must hold the whole weights of its model; got: "):
        load_classifier(path.parent, 2)


def test_an_encoder_that_lacks_weights_is_refused_by_name(tiny_bert):
    folder = tiny_bert()
    deeper = tiny_bert("deeper", num_hidden_layers=3)
    shutil.copy(folder / "model.safetensors", deeper)
    with pytest.raises(
        CheckpointError, match=r"every weight of the encoder .*; 16 are missing .*bert\.encoder\.la"
    ):
        load_classifier(deeper, 2)
    wider = tiny_bert("wider", intermediate_size=64)
    shutil.copy(folder / "model.safetensors", wider)
    with pytest.raises(CheckpointError, match=r"; 6 are missing or of another shape: .*encoder\.l"):
        load_classifier(wider, 2)


def test_a_folder_without_a_tokenizer_is_refused(tiny_bert):
    folder = tiny_bert(vocabulary=False)
    with pytest.raises(
        CheckpointError, match=r"must hold a tokenizer: tokenizer\.json, vocab.*none"
    ):
        load_encoder(folder, 8)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"must hold a readable tokenizer; got: "):
        load_encoder(folder, 8)


def test_a_tokenizer_of_another_model_is_refused(tiny_bert):
    with pytest.raises(CheckpointError, match=r"no more tokens than the model's 10; got 14"):
        load_encoder(tiny_bert(vocab_size=10), 8)


def test_a_tokenizer_without_padding_is_refused(tiny_bert):
    folder = tiny_bert()
    encoder_tokens = {"tokenizer_class": "PreTrainedTokenizerFast"}
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(folder).backend_tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps(encoder_tokens))
    with pytest.raises(CheckpointError, match=r"tokenizer must have a token for padding; got none"):
        load_encoder(folder, 8)


@pytest.mark.parametrize(("length", "pair", "least"), [(2, False, 3), (4, True, 5), (25, False, 3)])
def test_a_length_that_does_not_fit_is_refused(tiny_bert, length, pair, least):
    with pytest.raises(
        ValueError,
        match=rf"`max_length` must lie in {least}\.\.24 for this checkpoint; got {length}",
    ):
        load_encoder(tiny_bert(), length, pair)


def test_without_transformers_the_pip_command_is_named(tiny_bert, monkeypatch):
    folder = tiny_bert()

    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="transformers")

    monkeypatch.setattr("rung.extras.importlib.import_module", missing)
    for load in LOADERS.values():
        with pytest.raises(ImportError, match=r"transformers, .*: pip install 'rung\[hf\]'$"):
            load(folder)
