"""Models that Rung didn't write: every product is found, and they train."""

import copy

import pytest
import torch
from torch import nn

from rung.nn import Policy, Quantizer, audit, convert_
from rung.train.models import resnet18


def draw(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ids(*shape, below=40, seed=2):
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(seed))


class SelfAttention(nn.Module):
    """`nn.MultiheadAttention` of a sequence with itself, as a model of one input."""

    def __init__(self, **settings):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True, **settings)

    def forward(self, x, context):
        return self.attention(x, context, context, need_weights=False)[0]


def encoder(**settings):
    layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.1, batch_first=True, **settings)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def decoder():
    return nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 32, batch_first=True), 2)


def bert(attention):
    hf = pytest.importorskip("transformers")
    config = hf.BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        attn_implementation=attention,
    )
    return hf.BertForMaskedLM(config), {
        "input_ids": ids(2, 8),
        "attention_mask": torch.tensor([[1] * 8, [1] * 5 + [0] * 3]),
        "labels": ids(2, 8, seed=3),
    }


def gpt2(attention):
    hf = pytest.importorskip("transformers")
    config = hf.GPT2Config(
        vocab_size=40,
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=16,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation=attention,
    )
    tokens = ids(2, 8)
    return hf.GPT2LMHeadModel(config), {"input_ids": tokens, "labels": tokens}


def vit(attention):
    hf = pytest.importorskip("transformers")
    config = hf.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=8,
        patch_size=4,
        num_labels=3,
        attn_implementation=attention,
    )
    return hf.ViTForImageClassification(config), {
        "pixel_values": draw(2, 3, 8, 8),
        "labels": ids(2, below=3),
    }


MODELS = {
    "encoder": lambda: (encoder(), (draw(2, 6, 16),)),
    "encoder-prenorm-gelu": lambda: (
        encoder(norm_first=True, activation="gelu", bias=False),
        (draw(2, 6, 16),),
    ),
    "decoder": lambda: (decoder(), (draw(2, 6, 16), draw(2, 5, 16))),
    "transformer": lambda: (
        nn.Transformer(16, 4, 1, 1, 32, batch_first=True),
        (draw(2, 6, 16), draw(2, 5, 16)),
    ),
    "attention": lambda: (SelfAttention(dropout=0.1), (draw(2, 6, 16),) * 2),
    "attention-other-widths": lambda: (
        SelfAttention(kdim=12, vdim=12, add_bias_kv=True),
        (draw(2, 6, 16), draw(2, 5, 12)),
    ),
    "attention-zero-row": lambda: (SelfAttention(add_zero_attn=True), (draw(2, 6, 16),) * 2),
    "resnet18": lambda: (resnet18(classes=3, width=4), (draw(2, 3, 8, 8),)),
    "bert-eager": lambda: bert("eager"),
    "bert-sdpa": lambda: bert("sdpa"),
    "gpt2-eager": lambda: gpt2("eager"),
    "gpt2-sdpa": lambda: gpt2("sdpa"),
    "vit-eager": lambda: vit("eager"),
    "vit-sdpa": lambda: vit("sdpa"),
}


@pytest.fixture(params=MODELS)
def model_and_batch(request):
    torch.manual_seed(0)
    model, batch = MODELS[request.param]()
    return model.train(), batch


def call(model, batch):
    return model(**batch) if isinstance(batch, dict) else model(*batch)


def loss_of(output):
    if not isinstance(output, torch.Tensor):
        return output.loss
    target = draw(*output.shape, seed=9)
    return (output - target).square().mean()


def test_every_product_of_training_is_quantized(model_and_batch):
    model, batch = model_and_batch
    convert_(model, Policy())
    report = audit(model, batch, strict=True)
    phases = {entry.phase for entry in report.entries}
    assert phases == {"forward", "input gradient", "weight gradient"}
    for entry in report.entries:
        if entry.phase == "weight gradient":
            assert entry.result_format == "lns8_b4+zero", entry
        for name in entry.formats:
            assert name in ("lns8", "lns8+zero", "lns8_b4+zero", "int64"), entry


def test_every_product_of_inference_is_quantized(model_and_batch):
    model, batch = model_and_batch
    convert_(model, Policy())
    with torch.no_grad():
        report = audit(model.eval(), batch, strict=True)
    assert {entry.phase for entry in report.entries} == {"forward"}


def test_conversion_finds_as_many_products_as_the_float_model_has(model_and_batch):
    model, batch = model_and_batch
    before = audit(model, batch)
    convert_(model, Policy())
    after = audit(model, batch)
    # Fused attention counts as two products, as it does when it is taken apart.
    for phase in ("forward", "weight gradient"):
        counts = [sum(e.phase == phase for e in report.entries) for report in (before, after)]
        assert counts[0] == counts[1], phase


def test_gradients_are_finite_and_a_few_steps_lower_the_loss(model_and_batch):
    model, batch = model_and_batch
    convert_(model, Policy())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        loss = loss_of(call(model, batch))
        loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert min(losses[-3:]) < losses[0]


def test_outputs_are_near_those_of_the_float_model(model_and_batch):
    model, batch = model_and_batch
    model.eval()
    quantized = copy.deepcopy(model)
    convert_(quantized, Policy())
    outputs = [call(m, batch) for m in (model, quantized)]
    a, b = (x if isinstance(x, torch.Tensor) else x.logits for x in outputs)
    assert 0 < (a - b).norm() < 0.3 * a.norm()


def test_the_state_dict_is_the_float_models(model_and_batch):
    model, _ = model_and_batch
    before = {name: value.clone() for name, value in model.state_dict().items()}
    convert_(model, Policy())
    after = model.state_dict()
    assert list(after) == list(before)
    for name, value in before.items():
        assert torch.equal(after[name], value), name


@pytest.mark.parametrize("make", [bert, gpt2])
def test_tied_weights_stay_tied(make):
    model, batch = make("sdpa")
    convert_(model, Policy())
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert table is head
    report = audit(model, batch, strict=True)
    lookups = [entry for entry in report.entries if entry.kind == "lookup"]
    assert any(entry.shapes[1] == tuple(table.shape) for entry in lookups)
    assert table.grad is None


@pytest.mark.parametrize("make", [bert, gpt2, vit])
def test_hugging_face_saves_and_loads_it_as_it_was(make, tmp_path):
    torch.manual_seed(0)
    model, batch = make("sdpa")
    convert_(model, Policy())
    model.save_pretrained(tmp_path)
    loaded = type(model).__mro__[2].from_pretrained(tmp_path)
    for (name, a), (other, b) in zip(
        model.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        assert name == other
        assert torch.equal(a, b), name
    convert_(loaded, Policy())
    with torch.no_grad():
        a, b = call(model.eval(), batch).logits, call(loaded.eval(), batch).logits
    assert torch.equal(a, b)


def test_gpt2_generates_with_its_cache_as_without():
    model, batch = gpt2("sdpa")
    # Scales by row don't see how many tokens are computed at once.
    rows = Quantizer("lns8", "row")
    convert_(model.eval(), Policy("lns8", rows, rows, "lns8"))
    prompt = batch["input_ids"][:, :4]
    settings = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    mask = torch.ones_like(prompt)
    cached, plain = (
        model.generate(prompt, attention_mask=mask, use_cache=use, **settings)
        for use in (True, False)
    )
    assert torch.equal(cached, plain)
