import copy
import functools
import inspect
import io
import pickle
import re

import pytest
import torch
import torch.nn.functional as F
from nn.spies import values
from torch import nn
from torch.nn.utils import parametrizations

import rung
from rung.nn import Policy, Quantizer, Rule, convert_, functional
from rung.nn.module import QuantizedModule


class Net(nn.Module):
    """A model of its own: layers, and products between them."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.conv = nn.Conv1d(8, 8, 3, padding=1, padding_mode="circular")
        self.norm = nn.LayerNorm(8)
        self.mixing = nn.Parameter(torch.eye(8) + 0.1)
        self.head = nn.Linear(8, 11)

    def forward(self, index, scale: float = 1.0):
        x = self.embedding(index)
        x = x + self.conv(x.transpose(1, 2)).transpose(1, 2)
        x = self.norm(x) @ self.mixing
        x = torch.softmax(x @ x.transpose(1, 2), -1) @ x
        return self.head(x) * scale


INDEX = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
COARSE = Policy("lns5_b2", "lns6_b4", "lns6_b4", "lns6_b4")


def net(policy=None, seed=0):
    torch.manual_seed(seed)
    model = Net()
    if policy is not None:
        convert_(model, policy)
    return model


def by_hand(model, policy, index):
    """The model's forward pass with every product written as its functional form."""
    q = {k: policy.resolve("", k) for k in ("linear", "conv", "embedding", "matmul")}
    x = functional.embedding(index, model.embedding.weight, quantizers=q["embedding"])
    padded = F.pad(x.transpose(1, 2), (1, 1), mode="circular")
    x = x + functional.conv1d(
        padded, model.conv.weight, model.conv.bias, quantizers=q["conv"]
    ).transpose(1, 2)
    x = functional.matmul(model.norm(x), model.mixing, quantizers=q["linear"])
    scores = functional.matmul(x, x.transpose(1, 2), quantizers=q["matmul"])
    x = functional.matmul(torch.softmax(scores, -1), x, quantizers=q["matmul"])
    return functional.linear(x, model.head.weight, model.head.bias, quantizers=q["linear"])


def test_layers_and_products_between_them_are_quantized_once():
    model = net(COARSE)
    y = model(INDEX)
    twin = net()
    expected = by_hand(twin, COARSE, INDEX)
    assert torch.equal(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad), name


def test_a_policy_of_none_changes_no_number():
    model, twin = net(Policy(None, None, None, None)), net()
    y, expected = model(INDEX), twin(INDEX)
    assert torch.equal(y, expected)
    y.sum().backward()
    expected.sum().backward()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_a_converted_model_is_still_what_it_was():
    before, model = net(), net(COARSE)
    assert isinstance(model, Net)
    assert isinstance(model.head, nn.Linear)
    assert isinstance(model.head, QuantizedModule)
    assert list(model.state_dict()) == list(before.state_dict())
    assert type(model).__name__ == "Net"
    assert inspect.signature(model.forward) == inspect.signature(before.forward)
    assert repr(model.head) == "QuantizedLinear(in_features=8, out_features=11, bias=True)"
    assert repr(model).startswith("QuantizedNet(")
    assert torch.equal(model(INDEX, scale=2.0), model(INDEX) * 2)
    seen = []
    model.head.register_forward_hook(lambda *_: seen.append(1))
    model(INDEX)
    assert seen


@pytest.mark.parametrize("copier", ["deepcopy", "pickle", "torch.save", "state_dict"])
def test_copies_are_converted_too(copier):
    model = net(COARSE)
    if copier == "deepcopy":
        other = copy.deepcopy(model)
    elif copier == "pickle":
        other = pickle.loads(pickle.dumps(model))
    elif copier == "torch.save":
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    else:
        other = net(COARSE, seed=1)
        other.load_state_dict(model.state_dict())
    assert torch.equal(other(INDEX), model(INDEX))
    assert type(other) is type(model)
    assert type(other.head) is type(model.head)
    assert not torch.equal(other(INDEX), net()(INDEX))


def test_wrapped_moved_and_cast_models_stay_converted():
    model = net(COARSE)
    expected = model(INDEX)

    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, *args):
            return self.module(*args)

    assert torch.equal(Wrapper(model)(INDEX), expected)
    assert torch.equal(model.to("cpu", torch.float64).float()(INDEX), expected)
    for dtype in (torch.bfloat16, torch.float16):
        y = model.to(dtype)(INDEX)
        y.float().sum().backward()
        assert y.dtype == dtype
        assert model.head.weight.grad.dtype == dtype
        model.zero_grad()


def test_threads_do_not_see_each_others_modes():
    from concurrent.futures import ThreadPoolExecutor

    models = [net(COARSE), net(), net(Policy("lns12", None, None, None))]
    expected = [model(INDEX) for model in models]
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda i: models[i % 3](INDEX), range(60)))
    assert all(torch.equal(y, expected[i % 3]) for i, y in enumerate(results))


def test_the_innermost_module_wins_and_skipped_modules_stay_float():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Net()
            self.weight = nn.Parameter(torch.eye(11))

        def forward(self, index):
            return self.inner(index) @ self.weight

    torch.manual_seed(0)
    model = Outer()
    report = convert_(
        model, Policy(*[None] * 4, rules=[Rule("", weight="lns4"), Rule.skip("inner*")])
    )
    torch.manual_seed(0)
    twin = Outer()
    with torch.no_grad():
        inner = twin.inner(INDEX)
        expected = inner @ Quantizer("lns4", "channel").q(twin.weight, 1)
    assert torch.equal(model.inner(INDEX), inner)
    assert torch.equal(model(INDEX), expected)
    assert [entry.name for entry in report.converted] == [""]
    assert {e.name for e in report.left if e.reason == "the policy leaves it"} == {
        "inner", "inner.embedding", "inner.conv", "inner.head",
    }  # fmt: skip


def test_an_error_leaves_the_scope_as_it_was():
    model = net(COARSE)
    expected = model(INDEX)
    with pytest.raises(IndexError, match="index out of range"):
        model(INDEX + 100)
    assert torch.overrides._get_current_function_mode() is None
    assert torch.equal(model(INDEX), expected)


INPUTS = {
    "bilinear": (lambda: nn.Bilinear(4, 5, 6), lambda: (values(3, 4), values(3, 5))),
    "conv2d": (lambda: nn.Conv2d(3, 4, 3, padding="same"), lambda: (values(2, 3, 5, 5),)),
    "reflect": (
        lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        lambda: (values(2, 3, 5, 5),),
    ),
    "conv3d": (lambda: nn.Conv3d(2, 4, 2, stride=2), lambda: (values(2, 2, 4, 4, 4),)),
    "transposed1d": (lambda: nn.ConvTranspose1d(3, 4, 2, 2), lambda: (values(2, 3, 5),)),
    "transposed2d": (
        lambda: nn.ConvTranspose2d(4, 4, 3, 2, output_padding=1, groups=2),
        lambda: (values(2, 4, 5, 5),),
    ),
    "transposed3d": (lambda: nn.ConvTranspose3d(2, 3, 2), lambda: (values(1, 2, 3, 3, 3),)),
    "bag": (lambda: nn.EmbeddingBag(9, 4), lambda: (INDEX,)),
    "lstm": (lambda: nn.LSTM(4, 5, 2), lambda: (values(3, 2, 4),)),
    "gru cell": (lambda: nn.GRUCell(4, 5), lambda: (values(3, 4),)),
}


@pytest.mark.parametrize("layer", INPUTS.values(), ids=INPUTS.keys())
def test_every_layer_of_torch_is_close_at_16_bits_and_differs_at_5(layer):
    make, inputs = layer

    def run(bits):
        torch.manual_seed(0)
        module = make()
        if bits:
            convert_(module, Policy(*[f"lns{bits}"] * 4))
        y = module(*inputs())
        y = y[0] if isinstance(y, tuple) else y
        y.square().sum().backward()
        return [y, *(p.grad for p in module.parameters())]

    expected, fine, coarse = run(None), run(16), run(5)
    for a, b in zip(expected, fine, strict=True):
        torch.testing.assert_close(a, b, rtol=0.01, atol=0.01)
    assert not torch.allclose(expected[0], coarse[0], rtol=0.01, atol=0.01)


def test_a_subclass_with_a_forward_of_its_own_keeps_it():
    class Doubled(nn.Linear):
        def forward(self, input):
            return 2 * super().forward(input)

    class Standardized(nn.Conv1d):
        def _conv_forward(self, input, weight, bias):
            return super()._conv_forward(input, weight - weight.mean(), bias)

    x = values(2, 3, 4)
    doubled, standardized = Doubled(4, 5), Standardized(3, 3, 1)
    fine = Policy(*["lns16"] * 4)
    for module in (doubled, standardized):
        expected = module(x)
        convert_(module, fine)
        torch.testing.assert_close(module(x), expected, rtol=0.01, atol=0.01)


def test_matrix_products_of_every_spelling_are_intercepted():
    w = nn.Parameter(values(4, 4).detach())
    x = values(3, 4)
    spellings = {
        "x @ w": lambda: x @ w,
        "torch.matmul": lambda: torch.matmul(x, w),
        "x.matmul": lambda: x.matmul(w),
        "mm": lambda: x.mm(w),
        "torch.mm, out=None": lambda: torch.mm(x, w, out=None),
        "bmm": lambda: x[None].bmm(w[None])[0],
        "addmm": lambda: torch.addmm(torch.zeros(()), x, w),
        "x.addmm": lambda: torch.zeros(3, 4).addmm(x, w),
        "einsum": lambda: torch.einsum("ij,jk", x, w),
        "einsum of a list": lambda: torch.einsum("ij,jk", [x, w]),
        "tensordot": lambda: torch.tensordot(x, w, 1),
        "inner": lambda: torch.inner(x, w.t()),
        "linalg": lambda: torch.linalg.matmul(x, w),
        "linear": lambda: F.linear(x, w.t()),
        "mv": lambda: torch.stack([torch.mv(w.t(), row) for row in x]),
        "keywords": lambda: torch.matmul(input=x, other=w),
    }

    class Spelled(nn.Module):
        def __init__(self, call):
            super().__init__()
            self.w, self.call = w, call

        def forward(self):
            return self.call()

    for name, call in spellings.items():
        scale = "tensor" if name in ("bmm",) else "channel"
        module = Spelled(call)
        convert_(module, Policy(Quantizer("lns4", scale), None, None, None))
        expected = x @ Quantizer("lns4", scale).q(w, 1)
        torch.testing.assert_close(module(), expected, msg=name)


def test_parametrized_weights_are_rounded_and_their_own_products_are_not():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = parametrizations.spectral_norm(nn.Linear(6, 5))
            self.normed = parametrizations.weight_norm(nn.Linear(5, 4))

        def forward(self, x):
            return self.normed(self.layer(x))

    model, twin = Root().eval(), Root().eval()
    report = convert_(model, Policy("lns4", None, None, None))
    x, q = values(3, 6), Quantizer("lns4", "channel")
    with torch.no_grad():
        hidden = F.linear(x, q.q(twin.layer.weight), twin.layer.bias)
        expected = F.linear(hidden, q.q(twin.normed.weight), twin.normed.bias)
    torch.testing.assert_close(model(x), expected)
    model(x).sum().backward()
    assert model.layer.parametrizations.weight.original.grad is not None
    reasons = {e.name: e.reason for e in report.left}
    assert reasons["layer.parametrizations.weight"] == "computes a weight (parametrization)"
    assert torch.equal(copy.deepcopy(model)(x), model(x))


def test_tied_and_shared_layers_convert():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(inplace=True), shared)
    report = convert_(model, Policy(rules=[Rule("2", weight="lns4")]))
    assert [entry.name for entry in report.converted] == ["0"]
    assert report.converted[0].quantizers.weight.format.bits == 4
    model(values(2, 4)).sum().backward()
    assert len(list(model.parameters())) == 2


def test_the_report_is_a_table():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))
    policy = Policy(
        activation=Quantizer("lns8", 16),
        gradient=None,
        rules=[Rule.skip("3"), Rule("0", error=Quantizer("ladder8", "row", "stochastic"))],
    )
    table = str(convert_(model, policy)).splitlines()
    cells = [re.split(r"  +", line) for line in table]
    assert cells == [
        ["layer", "class", "product", "weight", "activation", "error", "gradient", "left because"],
        ["0", "Linear", "linear", "lns8 by channel", "lns8+zero by blocks of 16",
         "ladder8 by row, stochastic", "-"],
        ["1", "BatchNorm1d", *"-----", "no matrix product"],
        ["3", "Linear", "linear", *"----", "the policy leaves it"],
    ]  # fmt: skip
    columns = [table[0].index(title) for title in ("class", "weight", "left because")]
    assert [table[2][column:][:2] for column in columns] == ["Ba", "- ", "no"]


def test_the_report_tells_who_computes_an_attentions_output():
    report = convert_(nn.Sequential(nn.MultiheadAttention(4, 2)), Policy())
    (left,) = report.left
    assert (left.name, left.reason) == ("0.out_proj", "computed by 0, its MultiheadAttention")
    assert [(e.kind, e.class_name) for e in report.converted] == [
        ("linear, attention", "MultiheadAttention")
    ]


def test_rules_by_kind_choose_products_inside_a_layer():
    module = nn.MultiheadAttention(8, 2)
    report = convert_(module, Policy(rules=[Rule.skip(kinds="attention")]))
    assert [(e.kind, e.reason) for e in report.entries[:2]] == [
        ("linear", None), ("attention", "the policy leaves it"),
    ]  # fmt: skip
    x = values(3, 2, 8, grad=False)
    y, _ = module(x, x, x)
    w, a = Policy().weight.q, Policy().activation.q
    qkv = F.linear(a(x), w(module.in_proj_weight), module.in_proj_bias).chunk(3, -1)
    q, k, v = (t.unflatten(-1, (2, 4)).permute(1, 2, 0, 3) for t in qkv)
    mixed = F.scaled_dot_product_attention(q, k, v).permute(2, 0, 1, 3).flatten(2)
    expected = F.linear(a(mixed), w(module.out_proj.weight), module.out_proj.bias)
    torch.testing.assert_close(y, expected)


def lazy():
    return nn.Sequential(nn.LazyLinear(3))


def old_spectral_norm():
    return nn.Sequential(nn.utils.spectral_norm(nn.Linear(3, 3)))


def twice():
    model = nn.Sequential(nn.Linear(3, 3))
    convert_(model, Policy())
    return model


def hooked_instance():
    model = nn.Sequential(nn.Linear(3, 3))
    model[0].forward = functools.partial(nn.Linear.forward, model[0])
    return model


def fused():
    if not hasattr(nn, "LinearCrossEntropyLoss"):
        pytest.skip("this torch has no fused loss")
    return nn.Sequential(nn.LinearCrossEntropyLoss(4, 3))


REFUSED = {
    "no layer": (lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3)),
                 r"no layer to convert; it is made of BatchNorm1d, ReLU, Sequential"),
    "twice": (twice, r"0 is already converted; convert a model once"),
    "fused": (fused, r"0 is a LinearCrossEntropyLoss, whose product is fused into the loss"),
    "lazy": (lazy, r"0 is lazy and has no shape yet; run one batch"),
    "hooked": (old_spectral_norm, r"use torch.nn.utils.parametrizations.spectral_norm"),
    "own forward": (hooked_instance, r"0 has a forward of its own in the instance .* before that"),
    "scripted": (lambda: torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)),
                 r"The model is scripted or traced \(TopLevelTracedModule\), and its forward"),
    "traced": (lambda: torch.fx.symbolic_trace(nn.Linear(2, 2)),
               r"is scripted or traced \(Linear\), and"),
    "compiled": (lambda: torch.compile(nn.Linear(2, 2)), r"call convert_ before torch.compile"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_models_that_cannot_be_converted_are_refused_whole(case):
    make, text = case
    model = make()
    classes = [type(module) for module in model.modules()]
    with pytest.raises(ValueError, match=text):
        convert_(model, Policy())
    assert [type(module) for module in model.modules()] == classes


def test_a_rule_that_matches_nothing_lists_the_layers():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(
        ValueError,
        match=r"The rule for 'encoder.\*' matches no layer. The layers are: "
        r"0 \(Linear\), 2 \(Linear\)",
    ):
        convert_(model, Policy(rules=[Rule("encoder.*", weight="lns4")]))
    with pytest.raises(ValueError, match=r"rule for '\*' of kind conv, matmul matches no layer"):
        convert_(model, Policy(rules=[Rule("*", ("conv", "matmul"), weight="lns4")]))
    assert type(model[0]) is nn.Linear
    with pytest.raises(ValueError, match=r"matches no layer. The layers are: '' \(Linear\)"):
        convert_(nn.Linear(2, 2), Policy(rules=[Rule("head", weight="lns4")]))


def test_other_types_are_refused():
    with pytest.raises(TypeError, match=r"`model` must be a torch.nn.Module; got function"):
        convert_(lambda x: x, Policy())
    with pytest.raises(TypeError, match=r"`policy` must be a rung.nn.Policy; got str. For one"):
        convert_(nn.Linear(2, 2), "lns8")


@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.*:DeprecationWarning")
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(net, id="net", marks=pytest.mark.slow),
        pytest.param(lambda policy: convolutional(policy), id="cnn"),
    ],
)
def test_a_compiled_model_equals_eager_in_one_graph(make):
    torch._dynamo.reset()
    model = make(COARSE)
    inputs = INDEX if isinstance(model, Net) else values(2, 3, 6, 6, grad=False)
    expected = model(inputs)
    expected.square().sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    y = torch.compile(model, backend="aot_eager", fullgraph=True)(inputs)
    y.square().sum().backward()
    torch.testing.assert_close(y, expected)
    for p, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(p.grad, gradient)


def convolutional(policy):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.ConvTranspose2d(4, 2, 2))
    convert_(model, policy)
    return model


def test_a_model_converts_to_eight_bits_without_a_policy():
    model = nn.Linear(3, 2)
    assert convert_(model).entries[0].quantizers.weight == Policy().weight


def test_the_report_tells_where_compute_weights_are_upper_bits_of_stored_ones():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    rung.store_weights_(model, "lns16")
    report = convert_(model, Policy(rules=[Rule("1", weight="lns12_b16")]))
    assert [entry.shifted_from for entry in report.entries] == ["lns16", None]
    assert "lns8, upper bits of lns16" in str(report)
