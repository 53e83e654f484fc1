"""torch's own optimizer machinery: instantiation over devices, dtypes and implementations.

The machinery is private to torch and may change; the contract laws beside this file don't need it.
"""

from copy import deepcopy

import torch
from torch import nn
from torch.testing._internal.common_device_type import instantiate_device_type_tests
from torch.testing._internal.common_optimizers import (
    ErrorOptimizerInput,
    OptimizerErrorEnum,
    OptimizerInfo,
    OptimizerInput,
    TensorTracker,
    _get_optim_inputs_including_global_cliquey_kwargs,
    optims,
)
from torch.testing._internal.common_utils import TestCase

from rung.optim import LMD, BBitMadam, LNSMadam, Madam
from rung.tensor import CodedTensor

from .cases import values_of


def madam_inputs(device, dtype=None):
    return [
        OptimizerInput(params=None, kwargs={}, desc="default"),
        OptimizerInput(params=None, kwargs={"lr": 0.05}, desc="non-default lr"),
        OptimizerInput(params=None, kwargs={"lr": torch.tensor(0.01)}, desc="tensor lr"),
        OptimizerInput(params=None, kwargs={"weight_decay": 0.1}, desc="nonzero weight_decay"),
        OptimizerInput(params=None, kwargs={"maximize": True}, desc="maximize"),
        OptimizerInput(params=None, kwargs={"clip": 1.0, "beta": 0.9}, desc="clip, beta"),
    ]


def bbit_inputs(device, dtype=None):
    return [
        *(case for case in madam_inputs(device, dtype) if case.desc != "default"),
        OptimizerInput(params=None, kwargs={"rounding": "stochastic"}, desc="stochastic"),
    ]


def lns_inputs(device, dtype=None):
    return [OptimizerInput(params=None, kwargs={}, desc="default"), *bbit_inputs(device, dtype)]


def lmd_inputs(device, dtype=None):
    # Without noise steps need no closure; scalars have no standard deviation to be m0.
    given = {"sigma": 0.0, "m0": 1.0}
    return [
        OptimizerInput(params=None, kwargs=given, desc="without noise"),
        OptimizerInput(params=None, kwargs={**given, "lr": torch.tensor(0.01)}, desc="tensor lr"),
        OptimizerInput(params=None, kwargs={**given, "prior": "gaussian"}, desc="other prior"),
        OptimizerInput(params=None, kwargs={**given, "update": "rms"}, desc="rms"),
        OptimizerInput(params=None, kwargs={**given, "maximize": True}, desc="maximize"),
    ]


def coded(info, value, name="w"):
    fmt = "lns16" if info.optim_cls is LNSMadam else "ladder12"
    return nn.Parameter(CodedTensor.from_float(value, fmt, 3.0, name=name))


def error_inputs(device, dtype):
    param = nn.Parameter(torch.randn(2, 3, device=device, dtype=dtype))
    return [
        ErrorOptimizerInput(
            OptimizerInput(params=param, kwargs={}, desc="a bare tensor"),
            error_type=TypeError,
            error_regex="params argument given to the optimizer should be an iterable of Tensors",
            error_on=OptimizerErrorEnum.CONSTRUCTION_ERROR,
        ),
        ErrorOptimizerInput(
            OptimizerInput(params=[param, param], kwargs={}, desc="a parameter twice"),
            error_type=UserWarning,
            error_regex=".*a parameter group with duplicate parameters.*",
            error_on=OptimizerErrorEnum.CONSTRUCTION_ERROR,
        ),
        ErrorOptimizerInput(
            OptimizerInput(params=None, kwargs={"lr": -1}, desc="negative lr"),
            error_type=ValueError,
            error_regex="`lr` must be 0 or more and finite; got lr=-1",
            error_on=OptimizerErrorEnum.CONSTRUCTION_ERROR,
        ),
    ]


DB = [
    OptimizerInfo(
        Madam,
        optim_inputs_func=madam_inputs,
        optim_error_inputs_func=error_inputs,
        supported_impls=("foreach",),
        supports_complex=False,
        supports_sparse=False,
    ),
    OptimizerInfo(
        BBitMadam,
        optim_inputs_func=bbit_inputs,
        optim_error_inputs_func=error_inputs,
        supported_impls=(),
        not_og_supported_flags=("foreach",),
        supports_complex=False,
        supports_sparse=False,
    ),
    OptimizerInfo(
        LNSMadam,
        optim_inputs_func=lns_inputs,
        optim_error_inputs_func=error_inputs,
        supported_impls=(),
        not_og_supported_flags=("foreach",),
        supports_complex=False,
        supports_sparse=False,
    ),
    OptimizerInfo(
        LMD,
        optim_inputs_func=lmd_inputs,
        optim_error_inputs_func=error_inputs,
        supported_impls=(),
        not_og_supported_flags=("foreach",),
        supports_complex=False,
        supports_sparse=False,
    ),
]
FLOATS = (Madam, LMD)


def all_inputs(device, dtype, info):
    skip = () if info.optim_cls is Madam else ("foreach",)
    return _get_optim_inputs_including_global_cliquey_kwargs(
        device, dtype, info, skip=("differentiable", *skip)
    )


def parameters(info, device, dtype):
    """A model's worth of parameters: matrix, vector, scalar, empty."""
    torch.manual_seed(0)
    shapes = [(3, 5), (5,), (), (2, 0), (2, 3, 2)]
    values = [torch.randn(shape, device=device, dtype=dtype) for shape in shapes]
    if info.optim_cls in FLOATS:
        return [nn.Parameter(value) for value in values]
    return [coded(info, value, str(i)) for i, value in enumerate(values)]


def give_gradients(params, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator).to(param.device, param.dtype)


class TestOptimizers(TestCase):
    @optims(DB, dtypes=[torch.float32])
    def test_errors(self, device, dtype, optim_info):
        for case in optim_info.optim_error_inputs_func(device=device, dtype=dtype):
            given = case.optimizer_error_input
            params = given.params
            if params is None:
                params = parameters(optim_info, device, dtype)
            elif optim_info.optim_cls not in FLOATS and isinstance(params, list):
                params = [coded(optim_info, params[0].detach())] * 2
            if case.error_type is UserWarning:
                with self.assertWarnsRegex(case.error_type, case.error_regex):
                    optim_info.optim_cls(params, **given.kwargs)
            else:
                with self.assertRaisesRegex(case.error_type, case.error_regex):
                    optim_info.optim_cls(params, **given.kwargs)

    @optims(DB, dtypes=[torch.float32, torch.bfloat16, torch.float16, torch.float64])
    def test_every_input_steps_prints_and_has_state(self, device, dtype, optim_info):
        for given in all_inputs(device, dtype, optim_info):
            params = parameters(optim_info, device, dtype)
            before = [values_of(p) for p in params]
            optimizer = optim_info.optim_cls(params, **given.kwargs)
            for step in range(3):
                give_gradients(params, step)
                optimizer.step()
            assert type(optimizer).__name__ in repr(optimizer)
            for param, values in zip(params, before, strict=True):
                assert optimizer.state[param]
                assert param.dtype == dtype
                # float16 and bfloat16 can be too coarse for three steps of 1 %.
                if param.numel() and dtype in (torch.float32, torch.float64):
                    assert not torch.equal(values_of(param), values)

    @optims(DB, dtypes=[torch.float32])
    def test_no_gradient_is_a_no_op(self, device, dtype, optim_info):
        for given in all_inputs(device, dtype, optim_info):
            params = parameters(optim_info, device, dtype)
            optimizer = optim_info.optim_cls(params, **given.kwargs)
            tracker = TensorTracker()
            for param in params:
                tracker.add(values_of(param))
            optimizer.step()
            for param in params:
                tracker.pop_check_set(values_of(param), self)

    @optims([info for info in DB if "foreach" in info.supported_impls], dtypes=[torch.float32])
    def test_foreach_equals_the_loop(self, device, dtype, optim_info):
        for given in optim_info.optim_inputs_func(device=device, dtype=dtype):
            results = []
            for foreach in (False, True):
                params = parameters(optim_info, device, dtype)
                optimizer = optim_info.optim_cls(params, **given.kwargs, foreach=foreach)
                for step in range(5):
                    give_gradients(params, step)
                    optimizer.step()
                results.append([values_of(p) for p in params])
            self.assertEqual(results[0], results[1], rtol=0, atol=0)

    @optims(DB, dtypes=[torch.float32])
    def test_state_dict_is_deterministic_and_named_and_unnamed_interchange(
        self, device, dtype, optim_info
    ):
        for given in all_inputs(device, dtype, optim_info):
            params = parameters(optim_info, device, dtype)
            named = optim_info.optim_cls(
                [(f"p{i}", p) for i, p in enumerate(params)], **deepcopy(given.kwargs)
            )
            give_gradients(params)
            named.step()
            state = named.state_dict()
            self.assertEqual(state, named.state_dict())
            twins = deepcopy(params)
            plain = optim_info.optim_cls(twins, **deepcopy(given.kwargs))
            plain.load_state_dict(state)
            give_gradients(params, 1)
            give_gradients(twins, 1)
            named.step()
            plain.step()
            for param, twin in zip(params, twins, strict=True):
                assert torch.equal(values_of(param), values_of(twin))

    @optims(DB, dtypes=[torch.float32])
    def test_deepcopy_keeps_public_attributes(self, device, dtype, optim_info):
        for given in all_inputs(device, dtype, optim_info):
            optimizer = optim_info.optim_cls(parameters(optim_info, device, dtype), **given.kwargs)
            twin = deepcopy(optimizer)
            for name in dir(optimizer):
                if not name.startswith("_"):
                    assert hasattr(twin, name), name
            self.assertEqual(
                [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups],
                [{k: v for k, v in g.items() if k != "params"} for g in twin.param_groups],
            )


instantiate_device_type_tests(TestOptimizers, globals(), only_for=("cpu", "cuda"))
