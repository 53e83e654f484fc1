import math

import pytest
import torch
import torch.nn.functional as F
from nn.spies import FOUR, spies, values
from torch import nn

from rung.nn import Policy, Quantizers, convert_, functional

B, H, L, S, D, M = 2, 4, 5, 6, 8, 3


def inputs(heads=H, keys=S, dtype=torch.float32):
    return (
        values(B, H, L, D, seed=1, dtype=dtype),
        values(B, heads, keys, D, seed=2, dtype=dtype),
        values(B, heads, keys, M, seed=3, dtype=dtype),
    )


BOOL = torch.rand(L, S, generator=torch.Generator().manual_seed(0)) > 0.3
ADDED = torch.randn(B, 1, L, S, generator=torch.Generator().manual_seed(0))


def by_hand(q, k, v, bias, scale, upstream):
    """Both products, forward and backward, with a rounding wherever one belongs."""
    a, e = FOUR.activation.q, FOUR.error.q
    q, k, v = (x.detach() for x in (q, k, v))
    qs, ks, vs = a(q * scale), a(k), a(v)
    p = (qs @ ks.transpose(-2, -1) + bias).softmax(-1)
    p = torch.nan_to_num(p)  # a query that sees nothing
    ps = a(p)
    y, dy = ps @ vs, e(upstream)
    dv, dp = ps.transpose(-2, -1) @ dy, dy @ vs.transpose(-2, -1)
    ds = e(torch.ops.aten._softmax_backward_data(dp, p, -1, p.dtype))
    return y, (ds @ ks) * scale, (ds.transpose(-2, -1) @ qs), dv


@pytest.mark.parametrize("mask", ["none", "bool", "added", "causal", "empty row"])
def test_both_products_equal_the_hand_written_composition(mask):
    q, k, v = inputs()
    kwargs, bias = {}, torch.zeros(L, S)
    if mask == "causal":
        kwargs["is_causal"] = True
        bias = bias.masked_fill(torch.ones(L, S, dtype=torch.bool).triu(1), -torch.inf)
    elif mask == "added":
        kwargs["attn_mask"] = bias = ADDED
    elif mask != "none":
        visible = BOOL.clone()
        if mask == "empty row":
            visible[2] = False
        kwargs["attn_mask"] = visible
        bias = bias.masked_fill(~visible, -torch.inf)
    upstream = values(B, H, L, M, seed=5, grad=False)
    y = functional.scaled_dot_product_attention(q, k, v, **kwargs, quantizers=FOUR)
    y.backward(upstream)
    expected = by_hand(q, k, v, bias, 1 / math.sqrt(D), upstream)
    for ours, theirs in zip((y, q.grad, k.grad, v.grad), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert y.isfinite().all()


def test_each_factor_is_rounded_once_and_each_error_too():
    four, (w, a, e, g) = spies("tensor")
    q, k, v = inputs()
    y = functional.scaled_dot_product_attention(q, k, v, quantizers=four)
    y.sum().backward()
    assert [s for s, _ in a.calls] == [q.shape, k.shape, (B, H, L, S), v.shape]
    assert [s for s, _ in e.calls] == [y.shape, (B, H, L, S)]
    assert not w.calls + g.calls


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"is_causal": True}, {"scale": 0.3}, {"attn_mask": BOOL}, {"attn_mask": ADDED.double()}],
)
@pytest.mark.parametrize("heads", [H, 2])
def test_close_to_torchs_at_16_bits_and_equal_without_quantizers(kwargs, heads):
    q, k, v = inputs(heads, dtype=torch.float64)
    kwargs = {**kwargs, "enable_gqa": heads != H}
    expected = F.scaled_dot_product_attention(q, k, v, **kwargs)
    attention = functional.scaled_dot_product_attention
    fine = Policy("lns16", "lns16", "lns16", "lns16").resolve("", "attention")
    ours = attention(q, k, v, **kwargs, quantizers=fine)
    torch.testing.assert_close(ours, expected, rtol=2e-3, atol=2e-3)
    assert torch.equal(attention(q, k, v, **kwargs, quantizers=Quantizers()), expected)
    gradients = torch.autograd.grad(ours.square().sum(), (q, k, v))
    for ours, theirs in zip(
        gradients, torch.autograd.grad(expected.square().sum(), (q, k, v)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)


def test_dropout_drops_weights_of_attention():
    q, k, v = inputs()
    torch.manual_seed(0)
    y = functional.scaled_dot_product_attention(q, k, v, dropout_p=0.5, quantizers=FOUR)
    torch.manual_seed(0)
    a = FOUR.activation.q
    scores = a(q / math.sqrt(D)) @ a(k).transpose(-2, -1)
    torch.testing.assert_close(y, a(F.dropout(scores.softmax(-1), 0.5)) @ a(v))


def test_a_mask_and_causality_exclude_each_other():
    q, k, v = inputs()
    with pytest.raises(ValueError, match=r"`is_causal` and `attn_mask` exclude each other"):
        functional.scaled_dot_product_attention(q, k, v, BOOL, is_causal=True, quantizers=FOUR)


def attend(module, x, **kwargs):
    return module(x, x, x, **kwargs)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"batch_first": True, "bias": False},
                                     {"add_bias_kv": True, "add_zero_attn": True}])  # fmt: skip
def test_multihead_attention_is_close_at_16_bits_and_has_every_product(
    need_weights, training, options
):
    torch.manual_seed(0)
    module = nn.MultiheadAttention(16, 4, **options).train(training)
    x = values(3, 5, 16)
    batch_and_length = x.shape[:2] if options.get("batch_first") else x.shape[1::-1]
    mask = torch.zeros(batch_and_length, dtype=torch.bool)
    mask[0, 1] = True
    kwargs = {"need_weights": need_weights, "key_padding_mask": mask}
    expected, weights = attend(module, x, **kwargs)
    convert_(module, Policy("lns16", "lns16", "lns16", "lns16"))
    with torch.set_grad_enabled(training):
        y, ours = attend(module, x, **kwargs)
    torch.testing.assert_close(y, expected, rtol=0.01, atol=0.01)
    assert not torch.equal(y, expected)
    if need_weights:
        torch.testing.assert_close(ours, weights, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("need_weights", [True, False])
def test_multihead_attention_rounds_four_products(need_weights):
    module = nn.MultiheadAttention(16, 4)
    four, (w, a, e, g) = spies("tensor")
    convert_(
        module, Policy(*(getattr(four, p) for p in ("weight", "activation", "error", "gradient")))
    )
    attend(module, values(5, 2, 16), need_weights=need_weights)[0].sum().backward()
    assert [s for s, _ in w.calls] == [(48, 16), (16, 16)]
    assert [s for s, _ in g.calls] == [(16, 16), (48, 16)]
    assert len(a.calls) == 6
    assert len(e.calls) == 4


@pytest.mark.parametrize("batch_first", [True, False])
def test_fused_paths_of_transformer_layers_are_off(batch_first):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=batch_first)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=batch_first).eval()
    x = values(3, 4, 16, grad=False)
    mask = torch.zeros(x.shape[:2] if batch_first else x.shape[1::-1], dtype=torch.bool)
    mask[0, 2:] = True
    expected = model(x, src_key_padding_mask=mask)
    convert_(model, Policy())
    with torch.no_grad():
        inference = model(x, src_key_padding_mask=mask)
    slow = model(x, src_key_padding_mask=mask).detach()
    assert torch.equal(inference, slow)
    assert not torch.allclose(inference, expected, atol=1e-4)


def test_a_decoder_with_cross_attention_converts():
    torch.manual_seed(0)
    model = nn.Transformer(16, 2, 1, 1, 32, dropout=0.0, batch_first=True)
    source, target = values(2, 4, 16), values(2, 3, 16)
    expected = model(source, target)
    convert_(model, Policy("lns16", "lns16", "lns16", "lns16"))
    y = model(source, target)
    torch.testing.assert_close(y, expected, rtol=0.02, atol=0.02)
    y.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
