"""Whole models under MX formats and minifloats: conversion, audit, training, compilation."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import rung
from rung.formats import LNS, MX, get
from rung.nn import Policy, Quantizer, Rule, audit, convert_
from rung.nn.quantizer import Quantizers

FORMATS = [
    *("bf16", "fp16", "fp8_e4m3", "fp8_e5m2", "fp6_e3m2", "fp6_e2m3", "fp4_e2m1"),
    "int8",
    *("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4", "mxint8"),
]
_SLOW = ("mxint8", "fp8_e4m3", "bf16")
INDEX = torch.tensor([[1, 2, 3, 4, 0], [5, 6, 7, 8, 9]])


class Block(nn.Module):
    """A transformer block in the manner of GPT-2."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        parts = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = (part.transpose(1, 2) for part in parts.unbind(2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class Words(nn.Module):
    """A language model with its head tied to its embedding."""

    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(11, 36), nn.Embedding(8, 36)
        self.blocks = nn.Sequential(Block(36, 3), Block(36, 3))
        self.norm = nn.LayerNorm(36)
        self.head = nn.Linear(36, 11, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, index):
        x = self.tokens(index) + self.positions(torch.arange(index.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def words():
    return Words(), INDEX


def images():
    model = nn.Sequential(
        nn.Conv2d(3, 36, 3, padding=1), nn.GroupNorm(4, 36), nn.ReLU(),
        nn.Conv2d(36, 8, 3, stride=2, groups=4), nn.ReLU(),
        nn.ConvTranspose2d(8, 4, 2), nn.Flatten(), nn.Linear(64, 5),
    )  # fmt: skip
    return model, torch.randn(2, 3, 8, 8)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("backward", [None, "same"])
@pytest.mark.parametrize("make", [words, images])
def test_models_run_forward_and_backward_in_every_format(make, backward, fmt):
    torch.manual_seed(0)
    model, batch = make()
    plain = copy.deepcopy(model)
    back = fmt if backward else None
    report = convert_(model, Policy(fmt, fmt, back, back))
    assert f"{fmt} " in str(report)
    y, expected = model(batch), plain(batch)
    y.square().mean().backward()
    expected.square().mean().backward()
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert ours.grad.isfinite().all(), name
        assert ours.grad.any(), name
        if fmt in ("fp16", "mxint8", "bf16") and not backward:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=0.1, atol=0.1)
    assert not torch.equal(y, expected)
    assert (y - expected).norm() < 0.6 * expected.norm()


@pytest.mark.parametrize("make", [words, images])
def test_an_audit_finds_every_product_in_its_format(make):
    torch.manual_seed(0)
    model, batch = make()
    convert_(model, Policy("mxfp6_e3m2", "mxfp4", "mxfp8_e5m2", "fp8_e5m2"))
    seen = audit(model, batch, strict=True)
    formats = {name for entry in seen.entries for name in entry.formats}
    assert formats - {"int64"} == {"mxfp6_e3m2", "mxfp4", "mxfp8_e5m2"}
    results = {entry.result_format for entry in seen.entries if entry.phase == "weight gradient"}
    assert results == {"fp8_e5m2"}


def test_float_gradients_show_in_an_audit_as_what_they_are():
    model = nn.Sequential(nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 3))
    convert_(model, Policy("mxfp4", "mxfp4", None, None))
    seen = audit(model, torch.randn(4, 40))
    assert [e.formats for e in seen.entries if e.phase == "forward"] == [("mxfp4", "mxfp4")] * 2
    assert not seen.complete
    assert {e.phase for e in seen.float_products} == {"input gradient", "weight gradient"}


def test_a_policy_gives_every_format_its_usual_scale():
    four = Policy("mxfp4_k16", "mxint8", "bf16", "fp8_e5m2").resolve("", "linear")
    assert four == Quantizers(
        Quantizer(MX("fp4_e2m1", 16), 16), Quantizer("mxint8", 32),
        Quantizer("bf16", "none"), Quantizer("fp8_e5m2", "tensor"),
    )  # fmt: skip
    assert Policy("fp8_e4m3").weight == Quantizer("fp8_e4m3", "channel")
    assert Policy("fp16").weight == Quantizer("fp16", "none")
    assert Policy(get("fp4_e2m1")).weight.scale == "channel"
    assert Policy("lns8").activation == Quantizer(LNS(8, 8, zero=True), "tensor")
    rule = Rule("head", weight="mxfp8_e4m3", error=Quantizer("bf16", "row"))
    assert (rule.weight.scale, rule.error.scale) == (32, "row")


def test_a_quantizer_without_a_scale_takes_the_usual_one_and_says_so():
    assert str(Quantizer("mxfp6_e3m2")) == "mxfp6_e3m2 by blocks of 32"
    assert str(Quantizer("mxfp4_k16", rounding="stochastic")) == (
        "mxfp4_k16 by blocks of 16, stochastic"
    )
    assert str(Quantizer("bf16")) == "bf16 without a scale"
    assert str(Quantizer("fp8_e4m3")) == "fp8_e4m3 by tensor"
    assert Quantizer("lns8").scale == "tensor"


@pytest.mark.parametrize("name", ["fp8_e4m3", "fp4_e2m1", "bf16", "int8"])
def test_a_minifloat_is_scaled_by_groups_or_cast(name):
    fmt, x = get(name), torch.randn(3, 4, 6) * 1000
    if name != "int8":
        assert torch.equal(Quantizer(name, "none").q(x), fmt.quantize(x))
    scale = x.abs().amax() / fmt.largest
    torch.testing.assert_close(Quantizer(name, "tensor").q(x), fmt.quantize(x, scale=scale))
    assert torch.equal(Quantizer(name, "channel").q(x, 1), fmt.quantize(x, axis=1))
    rows = Quantizer(name, "row").q(x)
    assert torch.equal(rows[2, 3], Quantizer(name, "row").q(x[2, 3]))
    assert torch.equal(rows[2, 3], Quantizer(name, "tensor").q(x[2, 3]))
    assert float(Quantizer(name, "tensor").q(x).abs().amax()) > 1000
    assert not Quantizer(name, "tensor").q(torch.zeros(3)).any()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("mxfp4", "channel"), ValueError,
         r"An MX has a scale for every block of its own, here of 32; got scale='channel'. Leave"),
        (("mxfp4_k16", 32), ValueError, r"here of 16; got scale=32.*'mxfp4_k16'"),
        (("mxfp4", 32.0), TypeError, r"`scale` must be 'tensor', .* got 32.0"),
        (("lns8", "none"), ValueError,
         r"Only a Minifloat has values without a scale; got scale='none' for lns8. Use 'tensor'"),
        (("bf16", "cast"), ValueError, r"\(the size of a block\), or 'none'; got 'cast'"),
        (("fp8_e4m3", 0), ValueError, r"A block must have 1 number or more; got scale=0"),
        (("mxfp9",), ValueError, r"Unknown format 'mxfp9'.*mxfp4"),
    ],
)  # fmt: skip
def test_scales_that_a_format_cannot_have_are_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        Quantizer(*arguments)


def test_nan_stays_alone_in_formats_that_have_it_and_else_takes_its_group():
    x = torch.randn(3, 4)
    x[1, 2], x[2, 0] = torch.nan, torch.inf
    clean = torch.where(x.isfinite(), x, 0.0)
    for name in ("fp8_e4m3", "fp8_e5m2"):
        for scale in ("row", "tensor", 2, "none"):
            y, q = Quantizer(name, scale).q(x), Quantizer(name, scale)
            assert torch.equal(y[x.isfinite()], q.q(clean)[x.isfinite()])
            assert bool(y[1, 2].isnan())
            assert bool(y[2, 0].isinf() if name == "fp8_e5m2" else y[2, 0].isnan())
    for name in ("fp6_e3m2", "fp4_e2m1", "int8", "mxfp8_e4m3_k4", "lns8+zero"):
        rows = Quantizer(name, None if name.startswith("mx") else "row").q(x)
        assert rows.isnan().all(1).tolist() == [False, True, True]
        assert rows[0].isfinite().all()


def test_what_follows_an_embedding_may_write_into_its_rows():
    def run(policy, inplace):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(9, 40), nn.ReLU(inplace), nn.Linear(40, 3))
        convert_(model, policy)
        y = model(INDEX % 9)
        y.square().sum().backward()
        return [y, *(p.grad for p in model.parameters())]

    for four in (("mxfp4", "mxfp4", None, None), ("mxfp4", "mxfp4", "mxfp4", None), ("bf16",) * 4):
        for ours, theirs in zip(run(Policy(*four), True), run(Policy(*four), False), strict=True):
            assert torch.equal(ours, theirs)


def test_a_model_in_codes_computes_in_mx():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 3))
    rung.store_weights_(model, "lns16")
    report = convert_(model, Policy("mxfp6_e2m3", "mxfp6_e2m3", "mxfp6_e2m3", "mxfp6_e2m3"))
    assert report.converted[0].shifted_from is None
    assert audit(model, torch.randn(4, 40), strict=True).complete


@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.*:DeprecationWarning")
@pytest.mark.parametrize(
    "fmt", ["mxfp6_e3m2", *(pytest.param(name, marks=pytest.mark.slow) for name in _SLOW)]
)
def test_a_compiled_layer_equals_eager_in_one_graph(fmt):
    torch._dynamo.reset()
    torch.manual_seed(0)
    model, x = nn.Linear(40, 8), torch.randn(5, 40)
    convert_(model, Policy(fmt, fmt, fmt, fmt))
    expected = model(x)
    expected.square().sum().backward()
    gradient = model.weight.grad.clone()
    model.zero_grad()
    y = torch.compile(model, backend="aot_eager", fullgraph=True)(x)
    y.square().sum().backward()
    assert torch.equal(y, expected)
    assert torch.equal(model.weight.grad, gradient)
