import copy
import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import rung
from rung.nn import (
    Policy,
    Quantizer,
    Quantizers,
    Rule,
    audit,
    convert_,
    functional,
    straight_through,
)

QUANTIZERS = Quantizers(Quantizer("lns8"), Quantizer("lns7"), Quantizer("lns6"), Quantizer("lns5"))


def draw(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Square(nn.Module):
    """A layer, and a product written by hand."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return torch.matmul(self.layer(x), x.mT)


class HandMade(torch.autograd.Function):
    """A product that no interception of functions sees."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return torch.ops.aten.mm(x, w)

    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        return torch.ops.aten.mm(grad, w.t()), torch.ops.aten.mm(x.t(), grad)


class Apply(nn.Module):
    """A module of one function of its inputs and of a weight."""

    def __init__(self, function, *shape):
        super().__init__()
        self.weight = nn.Parameter(draw(*shape, seed=5))
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs, self.weight)


def rows(report):
    return [(e.module, e.phase, e.formats, e.result_format, e.in_float) for e in report.entries]


def test_a_float_model_shows_floats_and_is_no_error():
    report = audit(nn.Linear(3, 2), draw(5, 3))
    assert rows(report) == [
        ("", "forward", ("float32", "float32"), None, True),
        ("", "weight gradient", ("float32", "float32"), "float32", True),
    ]
    assert report.float_products == report.entries
    assert not report.complete


def test_it_says_shapes_operators_formats_of_operands_and_of_the_weights_gradient():
    model = Apply(lambda x, w: functional.linear(x, w, quantizers=QUANTIZERS), 2, 3)
    x = draw(5, 3).requires_grad_()
    report = audit(model, x)
    assert report.complete
    forward, *backward = report.entries
    assert (forward.operator, forward.kind) == ("aten::mm", "product")
    assert (forward.shapes, forward.result_shape) == (((5, 3), (3, 2)), (5, 2))
    assert forward.formats == ("lns7", "lns8")
    by_phase = {entry.phase: entry for entry in backward}
    assert by_phase["weight gradient"].formats == ("lns6", "lns7")
    assert by_phase["weight gradient"].result_format == "lns5"
    assert by_phase["weight gradient"].result_shape == (2, 3)
    assert by_phase["input gradient"].formats == ("lns6", "lns8")
    assert by_phase["input gradient"].result_format is None


def test_the_table_names_every_product_and_counts_at_the_end():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    convert_(model, Policy(rules=[Rule.skip("2")]))
    text = str(audit(model, draw(5, 3))).splitlines()
    assert text[0].split() == ["module", "phase", "operator", "shapes", "formats", "result"]
    assert text[1].split("  ")[0] == "0"
    assert "5x3 @ 3x4 -> 5x4" in text[1]
    assert "lns8+zero @ lns8" in text[1]
    assert text[-1] == (
        "5 products and lookups: 2 with both operands in a format, 3 with an operand in floating "
        "point"
    )


def test_an_excluded_layer_shows():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    convert_(model, Policy(rules=[Rule.skip("1")]))
    report = audit(model, draw(5, 3))
    assert {entry.module for entry in report.float_products} == {"1"}
    with pytest.raises(ValueError, match=r"got 3 of 5 with one in floating point:\n(.*\n)+1 .*"):
        audit(model, draw(5, 3), strict=True)


@pytest.mark.parametrize("place", ["weight", "activation", "error"])
def test_a_missing_quantizer_shows(place):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    convert_(model, Policy(rules=[Rule("1", **{place: None})]))
    floats = audit(model, draw(5, 3)).float_products
    expected = {
        "weight": {"forward", "input gradient"},
        "activation": {"forward", "weight gradient"},
        "error": {"input gradient", "weight gradient"},
    }
    assert {(entry.module, entry.phase) for entry in floats} == {
        ("1", phase) for phase in expected[place]
    }


@pytest.mark.parametrize("scale", ["channel", "tensor"])
@pytest.mark.parametrize("in_codes", [False, True])
def test_a_lookup_is_listed_with_its_table_whatever_is_rounded(scale, in_codes):
    model = nn.Sequential(nn.Embedding(7, 3))
    if in_codes:
        rung.store_weights_(model, "lns16", scale_bound=3.0)
    convert_(model, Policy(weight=Quantizer("lns8", scale)))
    forward, backward = audit(model, torch.tensor([[1, 2, 2]]), strict=True).entries
    assert (forward.module, forward.phase, forward.kind) == ("0", "forward", "lookup")
    assert (forward.shapes, forward.formats) == (((1, 3), (7, 3)), ("int64", "lns8"))
    assert (backward.phase, backward.kind) == ("weight gradient", "lookup")
    assert (backward.formats[1], backward.result_format) == ("lns8_b4+zero", "lns8_b4+zero")


def test_a_weights_gradient_without_a_quantizer_shows():
    model = nn.Linear(3, 4)
    convert_(model, Policy(gradient=None))
    report = audit(model, draw(5, 3))
    assert report.complete
    assert report.entries[-1].result_format == "float32"


def test_a_product_by_hand_shows_where_the_policy_leaves_it():
    model = Square()
    convert_(model, Policy(rules=[Rule.skip("", "matmul")]))
    floats = audit(model, draw(2, 3, 4)).float_products
    assert {(e.module, e.operator, e.phase) for e in floats} == {
        ("", "aten::bmm", "forward"),
        ("", "aten::bmm", "input gradient"),
    }


def test_a_product_in_a_custom_function_shows():
    model = nn.Sequential(nn.Linear(3, 4), Apply(HandMade.apply, 4, 2))
    convert_(model, Policy())
    floats = audit(model, draw(5, 3)).float_products
    assert [(e.module, e.phase) for e in floats] == [
        ("1", "forward"),
        ("1", "input gradient"),
        ("1", "weight gradient"),
    ]
    with pytest.raises(ValueError, match=r"rule of the policy .*rung.nn.functional"):
        audit(model, draw(5, 3), strict=True)


def test_a_custom_operator_counts_as_a_product_because_nobody_can_look_inside():
    with torch.library._scoped_library("rung_tests", "FRAGMENT") as library:
        library.define("secret(Tensor a, Tensor b) -> Tensor")
        library.impl("secret", lambda a, b: a @ b, "CPU")
        with torch.no_grad():
            secret = torch.ops.rung_tests.secret
            (entry,) = audit(Apply(secret, 4, 2), draw(5, 4)).entries
    assert (entry.operator, entry.kind, entry.in_float) == ("rung_tests::secret", "unseen", True)


PRODUCTS = {
    "mm": (lambda x, w: x @ w, (4, 2), 1),
    "addmm": (lambda x, w: torch.addmm(x[:, :2], x, w), (4, 2), 1),
    "bmm": (lambda x, w: torch.bmm(x[None], w), (1, 4, 2), 1),
    "baddbmm": (lambda x, w: torch.baddbmm(x[None, :, :2], x[None], w), (1, 4, 2), 1),
    "addbmm": (lambda x, w: torch.addbmm(x[:, :2], x[None], w), (1, 4, 2), 1),
    "mv": (lambda x, w: x @ w, (4,), 1),
    "addmv": (lambda x, w: torch.addmv(x[:, 0], x, w), (4,), 1),
    "dot": (lambda x, w: x[0] @ w, (4,), 1),
    "einsum": (lambda x, w: torch.einsum("bi,io->bo", x, w), (4, 2), 1),
    "tensordot": (lambda x, w: torch.tensordot(x, w, 1), (4, 2), 1),
    "bilinear": (lambda x, w: F.bilinear(x, x, w), (2, 4, 4), 2),
    "conv1d": (lambda x, w: F.conv1d(x[None], w), (2, 5, 3), 1),
    "conv2d": (lambda x, w: F.conv2d(x[None, None], w), (2, 1, 3, 3), 1),
    "conv3d": (lambda x, w: F.conv3d(x[None, None, None], w), (2, 1, 1, 3, 3), 1),
    "conv_transpose2d": (lambda x, w: F.conv_transpose2d(x[None, None], w), (1, 2, 3, 3), 1),
    "conv_tbc": (lambda x, w: torch.conv_tbc(x[:, None], w, draw(2)), (3, 4, 2), 1),
    "attention": (
        lambda x, w: F.scaled_dot_product_attention(x[None, None], w, w),
        (1, 1, 3, 4),
        2,
    ),
    "embedding": (lambda x, w: F.embedding(x.argmax(1), w), (4, 2), 1),
    "embedding_bag": (lambda x, w: F.embedding_bag(x.argmax(1)[None], w), (4, 2), 1),
    "cdist": (lambda x, w: torch.cdist(x, w), (3, 4), 1),
    "out": (lambda x, w: torch.mm(x, w, out=torch.empty(5, 2)), (4, 2), 1),
    "addmm_": (lambda x, w: torch.zeros(5, 2).addmm_(x, w), (4, 2), 1),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_it_knows_torchs_products(name):
    function, shape, count = PRODUCTS[name]
    with torch.no_grad():
        entries = audit(Apply(function, *shape), draw(5, 4)).entries
    assert len(entries) == count
    assert all(entry.in_float for entry in entries)


@pytest.mark.parametrize("make", [nn.RNN, nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell])
def test_torchs_recurrent_layers_show(make):
    model = make(3, 4)

    def output(values):
        return torch.utils._pytree.tree_leaves(values)[0].sum()

    report = audit(model, draw(5, 3), output)
    assert {"forward"} < {entry.phase for entry in report.float_products}
    convert_(model, Policy())
    assert audit(model, draw(5, 3), output, strict=True).complete


MOVES = {
    "view": lambda q: q.view(2, 8).reshape(4, 4),
    "transpose": lambda q: q.t().contiguous(),
    "clone": lambda q: q.clone(),
    "cast": lambda q: q.double().float(),
    "cat": lambda q: torch.cat([q[:1], q[1:]]),
    "stack": lambda q: torch.stack(list(q)),
    "pad": lambda q: F.pad(q[:3], (0, 0, 0, 1)),
    "expand": lambda q: q[:1].expand(4, 4),
    "repeat": lambda q: q[:2].repeat(2, 1),
    "index": lambda q: q[torch.tensor([3, 2, 1, 0])],
    "index_select": lambda q: q.index_select(0, torch.arange(4)),
    "gather": lambda q: q.gather(0, torch.zeros(4, 4, dtype=torch.int64)),
    "embedding": lambda q: F.embedding(torch.arange(4), q),
    "roll": lambda q: q.roll(1, 0),
    "tril": lambda q: q.tril(),
    "negative": lambda q: -q,
    "masked": lambda q: q.masked_fill(q > 0, 0.0),
    "copy into zeros": lambda q: torch.zeros(4, 4).index_copy(0, torch.arange(4), q),
    "slices of a buffer": lambda q: _filled(q),
    "put": lambda q: torch.zeros(4, 4).index_put((torch.arange(4),), q),
    "where": lambda q: torch.where(q > 0, q, q.flip(0)),
}
CHANGES = {
    "sum": lambda q: q + q,
    "in place": lambda q: q.add_(1.0),
    "relu of a shift": lambda q: torch.relu(q - 0.1),
    "mean": lambda q: q.mean(0, keepdim=True).expand(4, 4),
    "pad with ones": lambda q: F.pad(q[:3], (0, 0, 0, 1), value=1.0),
    "cat with floats": lambda q: torch.cat([q[:3], torch.ones(1, 4)]),
    "filled": lambda q: q.masked_fill(q > 0, 0.3),
    "part of a buffer of floats": lambda q: torch.ones(5, 4).slice_scatter(q, 0, 0, 4)[:4],
    "put and added": lambda q: torch.zeros(4, 4).index_put((torch.zeros(4).long(),), q, True),
    "softmax": lambda q: q.softmax(0),
}


def _filled(q):
    buffer = torch.zeros(4, 4)
    buffer[:2] = q[:2]
    buffer[2:] = q[2:]
    return buffer


def _format_after(change):
    quantizer = Quantizer("lns8")

    def function(x, w):
        return change(straight_through(x, quantizer, None)) @ w

    with torch.no_grad():
        return audit(Apply(function, 4, 4), draw(4, 4)).entries[-1].formats[0]


@pytest.mark.parametrize("name", MOVES)
def test_a_format_survives_what_only_moves_values(name):
    assert _format_after(MOVES[name]) == "lns8"


@pytest.mark.parametrize("name", CHANGES)
def test_a_format_does_not_survive_arithmetic(name):
    assert _format_after(CHANGES[name]) == "float32"


def test_a_narrower_dtype_is_said():
    assert _format_after(lambda q: q.bfloat16().to(torch.float32)) == "lns8"
    model = Apply(
        lambda x, w: functional.linear(x.bfloat16(), w.bfloat16(), quantizers=QUANTIZERS), 2, 4
    )
    with torch.no_grad():
        (entry,) = audit(model, draw(3, 4)).entries
    assert entry.formats == ("lns7 in bfloat16", "lns8 in bfloat16")


def test_a_reused_address_does_not_inherit_a_format():
    def function(x, w):
        for _ in range(20):
            functional.linear(x, w, quantizers=QUANTIZERS)  # freed at once
            y = (x + 1) @ w
        return y

    with torch.no_grad():
        report = audit(Apply(function, 16, 16), draw(16, 16))
    for quantized, plain in zip(report.entries[::2], report.entries[1::2], strict=True):
        assert not quantized.in_float
        assert plain.formats == ("float32", "float32")


def test_integer_products_are_exact_and_not_listed():
    with torch.no_grad():
        report = audit(Apply(lambda x, w: x @ x.t(), 2), torch.arange(6).reshape(2, 3))
    assert report.entries == ()
    assert report.complete


def test_a_product_under_checkpointing_is_listed_again_where_it_is_computed_again():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))

        def forward(self, x):
            return checkpoint(self.layers, x, use_reentrant=False)

    model = Model()
    convert_(model, Policy())
    report = audit(model, draw(5, 3).requires_grad_(), strict=True)
    places = [(e.module, e.phase) for e in report.entries]
    # The last product's result is nobody's operand.
    assert places.count(("layers.0", "forward")) == 2
    assert places.count(("layers.1", "forward")) == 1
    for layer in ("layers.0", "layers.1"):
        assert places.count((layer, "weight gradient")) == 1


def test_weights_in_codes_are_weights_and_say_their_format_without_a_quantizer():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    rung.store_weights_(model, "lns16", scale_bound=3.0)
    convert_(model, Policy(rules=[Rule("1", weight=None)]))
    report = audit(model, draw(5, 3), strict=True)
    formats = {(e.module, e.phase): e.formats for e in report.entries}
    assert formats["0", "forward"] == ("lns8+zero", "lns8")
    assert formats["1", "forward"] == ("lns8+zero", "lns16")
    assert formats["1", "input gradient"] == ("lns8_b4+zero", "lns16")
    assert formats["1", "weight gradient"] == ("lns8_b4+zero", "lns8+zero")


# -- what an audit leaves behind --------------------------------------------------------------


class Stateful(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls = self.calls + random.random()
        return F.dropout(self.norm(self.layer(x)), 0.5)


@pytest.mark.parametrize("is_training", [True, False])
def test_the_model_and_the_generators_are_left_as_they_were(is_training):
    model = Stateful().train(is_training)
    convert_(model, Policy())
    model(draw(5, 3)).sum().backward()
    model.layer.bias.grad = None
    before = copy.deepcopy(model.state_dict())
    gradients = {name: p.grad for name, p in model.named_parameters()}
    values = {name: None if g is None else g.clone() for name, g in gradients.items()}
    calls = model.calls
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    fired = []
    model.layer.weight.register_post_accumulate_grad_hook(fired.append)

    audit(model, draw(5, 3))

    assert model.training == model.norm.training == is_training
    assert model.calls is calls
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state
    assert fired == []
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, parameter in model.named_parameters():
        assert parameter.grad is gradients[name], name
        assert values[name] is None or torch.equal(parameter.grad, values[name]), name


class Writer(nn.Module):
    """A model that writes to its weights, to its input, and registers buffers."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 3, max_norm=0.5)
        self.layer = nn.Linear(3, 2)
        self.register_buffer("memory", None)

    def forward(self, x, index):
        self.memory = torch.ones(2)
        self.register_buffer("late", torch.ones(2), persistent=False)
        x = F.relu(x, inplace=True) + self.table(index)
        self.table.weight.data[0].mul_(2)
        return self.layer(x)


def test_weights_inputs_and_buffers_that_the_model_writes_are_restored():
    model = Writer()
    convert_(model, Policy())
    x, index = draw(4, 3), torch.tensor([0, 1, 4, 4])
    before, data = copy.deepcopy(model.state_dict()), x.clone()
    report = audit(model, (x, index))
    assert any(entry.kind == "lookup" for entry in report.entries)
    assert torch.equal(x, data)
    assert list(model.state_dict()) == list(before)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert list(model._buffers) == ["memory"]
    assert model.memory is None
    assert not model._non_persistent_buffers_set


def test_a_failed_forward_pass_leaves_no_trace():
    model = Stateful()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        audit(model, draw(5, 7))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not torch.nn.modules.module._global_forward_pre_hooks
    assert not torch.nn.modules.module._global_forward_hooks
    assert rung.nn.trace._listeners == []


def test_a_compiled_model_is_audited_without_its_compiled_code():
    model = nn.Sequential(nn.Linear(3, 4))
    convert_(model, Policy())
    report = audit(torch.compile(model, backend="eager"), draw(5, 3), strict=True)
    assert len(report.entries) == 2


# -- batches and losses -----------------------------------------------------------------------


def test_batches_are_a_tensor_positional_or_keyword_inputs():
    x, y = draw(2, 3), draw(3, 2)

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, a, b=None):
            return self.scale * (a @ a.t() if b is None else a @ b)

    assert len(audit(Two(), x).entries) == 1
    for batch in [(x, y), [x, y], {"a": x, "b": y}]:
        (entry,) = audit(Two(), batch).entries
        assert entry.shapes == ((2, 3), (3, 2))
    with pytest.raises(TypeError, match=r"`batch` is a tensor, a tuple .*; got int\. Wrap"):
        audit(Two(), 3)


def test_the_loss_is_the_callers_or_reaches_every_tensor_of_the_output():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x):
            return {"a": self.a(x), "more": [(self.b(x),)], "n": 3}

    both = audit(Heads(), draw(5, 3))
    assert {e.module for e in both.entries if e.phase == "weight gradient"} == {"a", "b"}
    one = audit(Heads(), draw(5, 3), loss=lambda output: output["a"].sum())
    assert [e.module for e in one.entries if e.phase != "forward"] == ["a"]


def test_an_output_without_a_gradient_is_refused_and_no_grad_audits_the_forward_pass():
    model = nn.Linear(3, 2).requires_grad_(False)
    with pytest.raises(ValueError, match=r"depends on a parameter; got Tensor with 1 tensors, no"):
        audit(model, draw(5, 3))
    with pytest.raises(ValueError, match=r"none of them differentiable.*torch.no_grad\(\)"):
        audit(model, draw(5, 3), loss=torch.sum)
    with torch.no_grad():
        assert [e.phase for e in audit(model, draw(5, 3)).entries] == ["forward"]
    with torch.inference_mode():
        assert [e.phase for e in audit(model, draw(5, 3)).entries] == ["forward"]


def test_a_loss_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"must return one number; got a tensor of shape \(5, 2\)"):
        audit(nn.Linear(3, 2), draw(5, 3), loss=lambda output: output)
