import pytest
import torch

from rung.hardware.energy import MODELS, architecture, count
from rung.train.models import GPT


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [("resnet18", 11_689_512, 1_814_073_344), ("resnet50", 25_557_032, 4_089_184_256)],
)
def test_resnets_have_the_published_sizes(name, parameters, macs):
    # torchvision's tables: 11,689,512 and 25,557,032 parameters, 1.81 and 4.09 GFLOPS.
    counts = count(*architecture(name), training=False)
    assert (counts.parameters, counts.macs) == (parameters, macs)


def test_bert_has_the_products_of_transformers():
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        theirs = transformers.BertForSequenceClassification(transformers.BertConfig())
        batch = {"input_ids": torch.zeros(1, 128, dtype=torch.int64)}
    expected, counts = count(theirs, batch), count(*architecture("bert-base"))
    assert counts.parameters == expected.parameters
    for phase in ("forward", "input gradient", "weight gradient"):
        assert counts.of(phase).macs == expected.of(phase).macs


def test_gpt_has_the_products_of_the_recipes():
    with torch.device("meta"):
        ours = GPT.preset("gpt2", 50_257)
    model, tokens = architecture("gpt2-124m")
    expected, counts = count(ours, tokens), count(model, tokens)
    assert counts.parameters == expected.parameters == 124_439_808
    for phase in ("forward", "input gradient", "weight gradient"):
        assert counts.of(phase).macs == expected.of(phase).macs
        assert counts.of(phase).moved == expected.of(phase).moved


def test_gpt3_of_175_billion_is_counted_and_nothing_is_allocated():
    model, tokens = architecture("gpt3-175b")
    assert all(parameter.is_meta for parameter in model.parameters())
    counts = count(model, tokens)
    width, length, layers, vocabulary = 12_288, 2048, 96, 50_257
    linear = length * (layers * 12 * width**2 + vocabulary * width)
    attention = layers * 2 * length**2 * width
    assert counts.of("forward").macs == linear + attention
    assert counts.of("input gradient").macs == linear + 2 * attention
    assert counts.of("weight gradient").macs == linear
    assert counts.uncounted == ()
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "millions"),
    [("bert-large", 335), ("gpt2-350m", 355), ("gpt2-774m", 774), ("gpt2-1.5b", 1558)],
)
def test_transformers_have_the_published_sizes(name, millions):
    model, _ = architecture(name)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == millions


def test_a_batch_multiplies_the_work():
    one, four = (count(*architecture("resnet18", batch)) for batch in (1, 4))
    assert four.macs == 4 * one.macs
    assert four.weights == one.weights


def test_unknown_models_are_refused():
    with pytest.raises(ValueError, match=r"Unknown model 'vgg'; the models are: resnet18, resnet5"):
        architecture("vgg")
    with pytest.raises(ValueError, match=r"`batch` must be 1 or more; got 0"):
        architecture("resnet18", 0)
    assert len(MODELS) == 10
