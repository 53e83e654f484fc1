"""Convert a model in place: its products get formats, and a report says which and what was left."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm

from rung.formats import name_of
from rung.nn.mode import KINDS
from rung.nn.module import QuantizedModule, quantized_class
from rung.nn.policy import Policy, Rule
from rung.nn.quantizer import Quantizers
from rung.nn.report import ConvertedLayer, ConvertReport
from rung.tensor import CodedTensor

# Layers of torch and the kinds of their products.
_LAYERS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Linear: ("linear",),
    nn.Bilinear: ("linear",),
    nn.Embedding: ("embedding",),
    nn.EmbeddingBag: ("embedding",),
    nn.MultiheadAttention: ("linear", "attention"),
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), ("conv",)),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), ("conv",)),
    **dict.fromkeys((nn.RNN, nn.LSTM, nn.GRU), ("recurrent",)),
    **dict.fromkeys((nn.RNNCell, nn.LSTMCell, nn.GRUCell), ("recurrent",)),
}
# They have no product of their own, but a fused path around their layers', which interception
# turns off.
_CONTAINERS = (
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoder,
    nn.TransformerDecoderLayer,
)


@dataclass
class _Found:
    """A module of the model, and what is to become of it."""

    module: nn.Module
    names: list[str]
    kinds: tuple[str, ...] = ()
    is_foreign: bool = False
    left_because: str | None = None


def convert_(model: nn.Module, policy: Policy | None = None) -> ConvertReport:
    """Compute a model's matrix products in the formats of a policy, in place.

    Layers of torch.nn, and modules whose classes come from elsewhere (their forward pass may hold
    products of its own), get a subclass of their class; `QuantizedModule` says what stays. Weights
    are not touched: they may be floats or codes, frozen, tied or parametrised, before or after.
    Nothing is changed if anything is refused.

    A module that is called by another method than ``forward`` has its layers converted, but not
    the products of that method; `audit` shows them.

    Args:
        model: Any module.
        policy: The formats; default: ``Policy()``, 8 bits everywhere.

    Returns:
        The report.

    Raises:
        ValueError: No layer to convert; a rule that matches no layer; a module that is converted
            already, compiled, scripted, traced, lazy, fused with a loss, has the older
            ``spectral_norm`` or a ``forward`` in the instance.
        TypeError: Not a module, or not a policy.

    Example:
        >>> model = nn.Sequential(nn.Linear(64, 32), nn.LayerNorm(32), nn.Linear(32, 10))
        >>> report = convert_(model, Policy(rules=[Rule("2", error="lns12", gradient="lns12")]))
        >>> for entry in report.converted:
        ...     print(entry.name, entry.class_name, entry.quantizers.weight, entry.quantizers.error)
        0 Linear lns8 by channel lns8_b4+zero by tensor
        2 Linear lns8 by channel lns12+zero by tensor
        >>> for entry in report.left:
        ...     print(entry.name, entry.class_name, entry.reason)
        1 LayerNorm no matrix product

    Source: Zhao et al. 2021 (LNS-Madam), arXiv:2106.13914.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module; got {type(model).__name__}.")
    policy = Policy() if policy is None else policy
    if not isinstance(policy, Policy):
        raise TypeError(
            f"`policy` must be a rung.nn.Policy; got {type(policy).__name__}. "
            "For one format everywhere: Policy(fmt, fmt, fmt, fmt)."
        )
    found = list(_find(model))
    for item in found:
        _require_convertible(item)
    _require_layers(found)
    _require_matches(found, policy)
    # All classes and tables first, then all assignments: a refusal leaves the model as it was.
    plan = [
        (item, quantized_class(type(item.module)), _table(item, policy))
        for item in found
        if _is_converted(item)
    ]
    done: list[tuple[nn.Module, type]] = []
    try:
        for item, converted, table in plan:
            done.append((item.module, type(item.module)))
            item.module.__class__ = converted
            item.module.rung_quantizers = table  # type: ignore[assignment]
    except Exception:
        for module, original in done:
            module.__class__ = original
            module.__dict__.pop("rung_quantizers", None)
        raise
    return ConvertReport(tuple(entry for item in found for entry in _entries(item, policy)))


def _find(model: nn.Module) -> Iterator[_Found]:
    names: dict[int, list[str]] = defaultdict(list)
    modules: dict[int, nn.Module] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names[id(module)].append(name)
        modules[id(module)] = module
    inside: dict[int, str] = {}
    for key, module in modules.items():
        name = names[key][0] or "the model"
        if isinstance(module, parametrize.ParametrizationList):
            parts = [part for part in module.modules()]
            inside |= dict.fromkeys(map(id, parts), "computes a weight (parametrization)")
        if isinstance(module, nn.MultiheadAttention):
            inside[id(module.out_proj)] = f"computed by {name}, its MultiheadAttention"
    for key, module in modules.items():
        item = _Found(module, names[key], left_because=inside.get(key))
        if item.left_because is None:
            _classify(item)
        yield item


def _classify(item: _Found) -> None:
    """Products are told by who wrote the forward pass, not by who made the class."""
    writer = next(cls for cls in type(item.module).__mro__ if "forward" in vars(cls))
    if writer in _LAYERS:
        item.kinds = _LAYERS[writer]
    elif not f"{writer.__module__}.".startswith("torch.nn.") and hasattr(writer, "forward"):
        item.kinds, item.is_foreign = KINDS, True
    elif isinstance(item.module, nn.ParameterList | nn.ParameterDict):
        item.left_because = "weights of the module that holds it"
    elif not isinstance(item.module, _CONTAINERS):
        item.left_because = "no matrix product"


def _is_converted(item: _Found) -> bool:
    # A parametrisation is converted to nothing: its products stay as they are inside a model whose
    # products are intercepted.
    is_parametrization = isinstance(item.module, parametrize.ParametrizationList)
    return item.left_because is None or is_parametrization


def _table(item: _Found, policy: Policy) -> dict[str, Quantizers]:
    if item.left_because is not None:
        return dict.fromkeys(KINDS, Quantizers())
    return {kind: policy.resolve(item.names, kind) for kind in KINDS}


def _entries(item: _Found, policy: Policy) -> Iterator[ConvertedLayer]:
    name, class_name = item.names[0], _class_name(item.module)
    if item.left_because is not None:
        has_parameters = any(True for _ in item.module.parameters(recurse=False))
        if has_parameters or item.left_because != "no matrix product":
            yield ConvertedLayer(name, class_name, None, Quantizers(), item.left_because)
        return
    by_quantizers: dict[Quantizers, list[str]] = defaultdict(list)
    for kind in item.kinds:
        by_quantizers[policy.resolve(item.names, kind)].append(kind)
    for quantizers, kinds in by_quantizers.items():
        kind = "any" if tuple(kinds) == KINDS else ", ".join(kinds)
        reason = "the policy leaves it" if quantizers.empty else None
        yield ConvertedLayer(
            name, class_name, kind, quantizers, reason, _shifted_from(item.module, quantizers)
        )


def _shifted_from(module: nn.Module, quantizers: Quantizers) -> str | None:
    """Format of codes whose upper bits are the compute weights."""
    weight = getattr(module, "weight", getattr(module, "in_proj_weight", None))
    quantizer = quantizers.weight
    if quantizer is None or not isinstance(weight, CodedTensor) or not quantizer.shifts(weight):
        return None
    return name_of(weight.format)


def _class_name(module: nn.Module) -> str:
    return type(module).__name__


def _require_convertible(item: _Found) -> None:
    module, name = item.module, item.names[0] or "The model"
    if isinstance(module, QuantizedModule):
        raise ValueError(
            f"{name} is already converted; convert a model once. For another policy, convert a "
            "fresh model and load the weights into it."
        )
    if isinstance(module, torch.jit.ScriptModule | torch.fx.GraphModule):
        raise ValueError(
            f"{name} is scripted or traced ({_class_name(module)}), and its forward pass is "
            "fixed; call convert_ before that."
        )
    if type(module).__module__ == "torch._dynamo.eval_frame":
        raise ValueError(f"{name} is compiled; call convert_ before torch.compile.")
    if "forward" in vars(module):
        raise ValueError(
            f"{name} has a forward of its own in the instance (hooks of accelerate, offloading "
            "or a patch), which would pass by the one of its class; call convert_ before that."
        )
    if any(nn.parameter.is_lazy(part) for part in module.parameters(recurse=False)):
        raise ValueError(
            f"{name} is lazy and has no shape yet; run one batch through the model first."
        )
    if type(module).__name__ == "LinearCrossEntropyLoss":  # torch 2.13 and later
        raise ValueError(
            f"{name} is a LinearCrossEntropyLoss, whose product is fused into the loss; use "
            "nn.Linear and nn.CrossEntropyLoss."
        )
    if any(isinstance(hook, SpectralNorm) for hook in module._forward_pre_hooks.values()):
        raise ValueError(
            f"{name} has torch.nn.utils.spectral_norm, whose products run outside its forward "
            "pass; use torch.nn.utils.parametrizations.spectral_norm."
        )


def _require_layers(found: list[_Found]) -> None:
    def is_layer(item: _Found) -> bool:
        # Of a class from elsewhere nobody knows which of the weights inside it uses: in a
        # ParameterList, behind a parametrisation, or in a layer of its own.
        weights = any(p.ndim > 1 for p in item.module.parameters())
        return bool(item.kinds) and (not item.is_foreign or weights)

    if not any(map(is_layer, found)):
        classes = sorted({_class_name(item.module) for item in found})
        raise ValueError(
            f"The model has no layer to convert; it is made of {', '.join(classes)}. Products of "
            "activations alone take rung.nn.functional."
        )


def _require_matches(found: list[_Found], policy: Policy) -> None:
    layers = [item for item in found if item.kinds]
    for rule in policy.rules:
        if not any(rule.applies(item.names, kind) for item in layers for kind in item.kinds):
            listed = ", ".join(
                f"{name or repr('')} ({_class_name(item.module)})"
                for item in layers
                for name in item.names
            )
            raise ValueError(f"{_describe(rule)} matches no layer. The layers are: {listed}.")


def _describe(rule: Rule) -> str:
    kinds = "" if rule.kinds == KINDS else f" of kind {', '.join(rule.kinds or ())}"
    return f"The rule for {', '.join(map(repr, rule.names))}{kinds}"
