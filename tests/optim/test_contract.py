"""Laws of torch.optim that every optimizer of the table keeps; nothing private is used."""

import copy
import io
import math
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from rung.optim import BBitMadam, Madam
from rung.tensor import CodedTensor

from .cases import CASES, randn, values_of


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request):
    return request.param


def parameters(case, n=2):
    return [case.parameter(randn(4, 3, seed=i), f"w{i}") for i in range(n)]


def run(optimizer, params, steps, start=0):
    for step in range(start, start + steps):
        for i, param in enumerate(params):
            param.grad = randn(*param.shape, seed=100 * step + i)
        optimizer.step()


def snapshot(optimizer, params):
    state = [optimizer.state[p] for p in params]
    # LMD keeps m0 as a number.
    tensors = [{key: torch.as_tensor(value) for key, value in s.items()} for s in state]
    return copy.deepcopy(([values_of(p) for p in params], tensors))


def assert_same(a, b):
    for left, right in zip(a[0], b[0], strict=True):
        assert torch.equal(left, right)
    for left, right in zip(a[1], b[1], strict=True):
        assert left.keys() == right.keys()
        for key in left:
            assert left[key].dtype == right[key].dtype, key
            assert torch.equal(left[key], right[key]), key


def test_goes_downhill_on_contiguous_and_strided_weights(case):
    for strided in (False, True):
        start = randn(4, 5, seed=0).t() if strided else randn(5, 4, seed=0)
        param = case.parameter(start)
        # A goal on the ladder, so that it can be reached: every magnitude times 0.4.
        goal = values_of(param) * 0.4
        optimizer = case.optimizer([param], lr=0.03)

        def loss(param=param, goal=goal):
            return ((param + 0.0) - goal).square().mean()

        first = float(loss().detach())
        for _ in range(150):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        assert float(loss().detach()) < 0.1 * first


def test_every_parameter_of_a_group_moves_and_one_without_gradient_does_not(case):
    params = parameters(case, 4)
    optimizer = case.optimizer(params, lr=0.1)
    before = [values_of(p) for p in params]
    for i in (0, 2, 3):
        params[i].grad = randn(4, 3, seed=i)
    optimizer.step()
    moved = [not torch.equal(values_of(p), b) for p, b in zip(params, before, strict=True)]
    assert moved == [True, False, True, True]


def test_no_gradients_and_an_empty_group_change_nothing(case):
    params = parameters(case)
    optimizer = case.optimizer(params)
    optimizer.add_param_group({"params": []})
    before = snapshot(optimizer, params)
    optimizer.step()
    assert_same(before, snapshot(optimizer, params))


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if not case.options.get("weight_decay") and not case.goes_on],
    ids=lambda case: case.name,
)
def test_zero_gradients_move_no_weight(case):
    params = parameters(case)
    optimizer = (
        case.optimizer(params, scale_bound=10.0) if case.fmt is None else case.optimizer(params)
    )
    run(optimizer, params, 3)
    before = [values_of(p) for p in params]
    for param in params:
        param.grad = torch.zeros_like(param.grad)
    optimizer.step()
    for param, values in zip(params, before, strict=True):
        assert torch.equal(values_of(param), values)


@pytest.mark.parametrize("after", [0, 3])
def test_lr_zero_with_zero_gradients_is_an_exact_no_op(case, after):
    # Distributed checkpointing makes optimizer state exist by such a step. Gaussian weights beyond
    # the bound must not be clamped by it, and no random number may be used up.
    params = [case.parameter(randn(40, 30, seed=i), f"w{i}") for i in range(2)]
    optimizer = case.optimizer(params)
    run(optimizer, params, after)
    before = snapshot(optimizer, params)
    random_state = torch.get_rng_state()
    lr = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    for param in params:
        param.grad = torch.zeros(40, 30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
    if not case.options.get("capturable"):
        assert_same(before, snapshot(optimizer, params))
    # A capturable step can't look at values: it counts, but moves no weight and no bound.
    for old, param in zip(before[0], params, strict=True):
        assert torch.equal(old, values_of(param))
    assert torch.equal(random_state, torch.get_rng_state())
    for group, value in zip(optimizer.param_groups, lr, strict=True):
        group["lr"] = value


def test_lr_zero_moves_no_weight_under_any_gradient(case):
    params = [case.parameter(randn(40, 30), "w")]
    optimizer = case.optimizer(params, lr=0.0)
    before = values_of(params[0])
    run(optimizer, params, 3)
    assert torch.equal(values_of(params[0]), before)


def test_a_closure_runs_with_gradients_and_its_loss_is_returned(case):
    params = parameters(case, 1)
    optimizer = case.optimizer(params, lr=0.1)

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = (params[0] * 1.0).square().sum()
        loss.backward()
        return loss

    before = values_of(params[0])
    loss = optimizer.step(closure)
    torch.testing.assert_close(loss.detach(), before.square().sum())
    assert not torch.equal(values_of(params[0]), before)


def test_a_state_dict_makes_the_run_continue_bit_for_bit(case):
    params = parameters(case)
    optimizer = case.optimizer(params)
    run(optimizer, params, 7)
    twins = [copy.deepcopy(p) for p in params]
    twin = case.optimizer(twins)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    twin.load_state_dict(torch.load(buffer, weights_only=True))
    assert_same(snapshot(optimizer, params), snapshot(twin, twins))
    run(optimizer, params, 5, start=7)
    run(twin, twins, 5, start=7)
    assert_same(snapshot(optimizer, params), snapshot(twin, twins))


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_lose_no_hyper_parameter_and_continue_alike(case, copier):
    params = parameters(case)
    optimizer = case.optimizer(params)
    run(optimizer, params, 3)
    twin = copier(optimizer)
    twins = twin.param_groups[0]["params"]
    assert [p is q for p, q in zip(params, twins, strict=True)] == [False, False]
    run(optimizer, params, 3, start=3)
    run(twin, twins, 3, start=3)
    assert_same(snapshot(optimizer, params), snapshot(twin, twins))


def test_loading_keeps_state_dtypes_of_bfloat16_parameters(case):
    params = [case.parameter(randn(4, 3).bfloat16(), "w")]
    optimizer = case.optimizer(params)
    for _ in range(2):
        params[0].grad = randn(4, 3).bfloat16()
        optimizer.step()
    before = snapshot(optimizer, params)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert_same(before, snapshot(optimizer, params))
    assert params[0].dtype == torch.bfloat16


def test_old_files_without_newer_hyper_parameters_still_load(case):
    params = parameters(case)
    optimizer = case.optimizer(params)
    run(optimizer, params, 2)
    state = copy.deepcopy(optimizer.state_dict())
    for group in state["param_groups"]:
        for key in ("on_nonfinite", "skipped_steps", "capturable", "foreach", "weight_decay"):
            group.pop(key, None)
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["on_nonfinite"] == "skip"
    run(optimizer, params, 1)


def test_hooks_fire_and_see_real_tensors(case):
    params = parameters(case)
    optimizer = case.optimizer(params)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before step"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after step"))
    optimizer.register_state_dict_post_hook(lambda *_: seen.append("state_dict"))
    run(optimizer, params, 1)
    state = optimizer.state_dict()

    def loading(_, loaded):
        assert all(
            isinstance(v, torch.Tensor)
            for s in loaded["state"].values()
            for key, v in s.items()
            if key != "m0"  # LMD's, a number
        )
        seen.append("before load")

    def loaded(o):
        dtypes = {k: getattr(v, "dtype", float) for k, v in o.state[params[0]].items()}
        assert dtypes == {k: getattr(v, "dtype", float) for k, v in state["state"][0].items()}
        seen.append("after load")

    optimizer.register_load_state_dict_pre_hook(loading)
    optimizer.register_load_state_dict_post_hook(loaded)
    optimizer.load_state_dict(state)
    assert seen == ["before step", "after step", "state_dict", "before load", "after load"]


SCHEDULERS = {
    "step": lambda o: StepLR(o, 2, 0.5),
    "cosine": lambda o: CosineAnnealingLR(o, 10),
    "one cycle": lambda o: OneCycleLR(o, 0.1, total_steps=12, cycle_momentum=False),
    "lambda": lambda o: LambdaLR(o, lambda step: 1 / (1 + step)),
    "sequential": lambda o: SequentialLR(
        o, [LambdaLR(o, lambda s: 1.0), CosineAnnealingLR(o, 6)], milestones=[3]
    ),
    "plateau": lambda o: ReduceLROnPlateau(o, factor=0.1, patience=1),
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.filterwarnings("ignore:lr=.* is under")
def test_schedulers_give_the_lrs_that_adamw_gets(case, scheduler):
    def lrs(optimizer, params):
        schedule = SCHEDULERS[scheduler](optimizer)
        seen = []
        for step in range(8):
            run(optimizer, params, 1, start=step)
            schedule.step(1.0) if scheduler == "plateau" else schedule.step()
            seen.append(optimizer.param_groups[0]["lr"])
        return seen

    params, plain = parameters(case), [nn.Parameter(randn(4, 3))]
    ours = lrs(case.optimizer(params, lr=0.05), params)
    assert ours == lrs(torch.optim.AdamW(plain, lr=0.05), plain)


def test_a_tensor_lr_equals_a_float_lr(case):
    results = []
    for lr in (0.03125, torch.tensor(0.03125)):
        params = parameters(case)
        optimizer = case.optimizer(params, lr=lr)
        run(optimizer, params, 5)
        results.append([values_of(p) for p in params])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_groups_have_their_own_lr_and_can_be_added_later(case):
    params = parameters(case, 3)
    optimizer = case.optimizer(
        [{"params": [params[0]], "lr": 0.0}, {"params": [params[1]]}], lr=0.1
    )
    before = [values_of(p) for p in params]
    run(optimizer, params[:2], 2)
    optimizer.add_param_group({"params": [params[2]], "lr": 0.2})
    run(optimizer, params, 2)
    moved = [not torch.equal(values_of(p), b) for p, b in zip(params, before, strict=True)]
    assert moved == [False, True, True]
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.1, 0.2]


def test_maximize_is_descent_on_the_negated_gradient(case):
    results = []
    for maximize in (False, True):
        params = parameters(case, 1)
        optimizer = case.optimizer(params, maximize=maximize)
        for step in range(5):
            grad = randn(4, 3, seed=step)
            params[0].grad = -grad if maximize else grad
            optimizer.step()
        results.append(values_of(params[0]))
    assert torch.equal(*results)


def test_scalar_and_empty_parameters_work(case):
    params = [case.parameter(torch.tensor(0.5), "a"), case.parameter(torch.zeros(0, 3), "b")]
    # One number has no standard deviation.
    scale = {"m0": 1.0} if case.is_lmd else {}
    optimizer = case.optimizer(params, lr=0.1, **scale)
    before = values_of(params[0])
    run(optimizer, params, 2)
    assert values_of(params[0]) != before
    assert params[1].shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_parameters_keep_their_dtype(case, dtype):
    params = [case.parameter(randn(4, 3).to(dtype), "w")]
    optimizer = case.optimizer(params, lr=0.1)
    before = values_of(params[0])
    for step in range(3):
        params[0].grad = randn(4, 3, seed=step).to(dtype)
        optimizer.step()
    assert params[0].dtype == dtype
    assert not torch.equal(values_of(params[0]), before)


def test_named_parameters_are_taken(case):
    params = parameters(case)
    optimizer = case.optimizer(list(zip(["a", "b"], params, strict=True)))
    run(optimizer, params, 1)
    assert optimizer.param_groups[0]["param_names"] == ["a", "b"]


def test_it_prints(case):
    assert type(case.optimizer(parameters(case))).__name__ in repr(case.optimizer(parameters(case)))


def test_it_learns_with_the_cpu_gradient_scaler_and_skips_overflow(case):
    params = parameters(case, 1)
    optimizer = case.optimizer(params, lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = values_of(params[0])
    for overflow, moves in ((True, False), (False, True)):
        optimizer.zero_grad()
        loss = (params[0] * 1.0).square().sum() * (float("inf") if overflow else 1.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(values_of(params[0]), before) != moves
    assert optimizer.skipped_steps == 0  # the scaler skipped, not we


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e20])
def test_a_non_finite_gradient_skips_the_step_and_training_goes_on(case, bad):
    params = parameters(case)
    optimizer = case.optimizer(params, lr=0.1)
    run(optimizer, params, 2)
    before = snapshot(optimizer, params)
    clean = randn(4, 3, seed=50)
    poisoned = clean.clone()
    poisoned[1, 2] = bad
    capturable = case.options.get("capturable")
    for attempt in range(2):
        params[0].grad, params[1].grad = poisoned.clone(), clean.clone()
        if attempt == 0 and not capturable:
            with pytest.warns(UserWarning, match="this step was skipped"):
                optimizer.step()
        else:
            optimizer.step()  # counted without another warning
        assert_same(before, snapshot(optimizer, params))
    assert optimizer.skipped_steps == 2
    # Every published Madam would never move the poisoned weight again.
    for step in range(3):
        for param in params:
            param.grad = torch.ones(4, 3) * (1 + step)
        optimizer.step()
    moved = values_of(params[0]) != before[0][0]
    assert bool(moved[1, 2])
    assert bool(torch.isfinite(values_of(params[0])).all())


@pytest.mark.parametrize(
    "case", [case for case in CASES if "capturable" not in case.options], ids=lambda case: case.name
)
def test_a_non_finite_gradient_can_raise(case):
    params = parameters(case)
    optimizer = case.optimizer(params, on_nonfinite="raise")
    before = snapshot(optimizer, params)
    params[0].grad = torch.full((4, 3), float("nan"))
    with pytest.raises(
        RuntimeError, match="holds NaN, infinity or a magnitude above 2.63; weights"
    ):
        optimizer.step()
    assert_same(before, snapshot(optimizer, params))


def test_trusted_gradients_are_not_looked_at(case):
    stepped = []
    for choice in ("skip", "trust"):
        params = parameters(case)
        optimizer = case.optimizer(params, on_nonfinite=choice)
        for param in params:
            param.grad = randn(*param.shape, seed=5)
        optimizer.step()
        stepped.append([values_of(param) for param in params])
    for looked_at, trusted in zip(*stepped, strict=True):
        assert torch.equal(looked_at, trusted)
    params[0].grad = torch.full(tuple(params[0].shape), float("nan"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
    assert optimizer.skipped_steps == 0
    if case.fmt is not None:  # codes can't but stay in their format
        assert bool(torch.isfinite(values_of(params[0])).all())


def test_sparse_gradients_are_refused_by_name(case):
    param = case.parameter(randn(4, 3), "w")
    optimizer = case.optimizer([("embed.weight", param)])
    param.grad = torch.ones(4, 3).to_sparse()
    with pytest.raises(
        RuntimeError, match=r"parameter 0 of group 0 \('embed.weight'\) has a sparse"
    ):
        optimizer.step()


BAD = [
    ({"lr": -0.1}, "`lr` must be 0 or more and finite; got lr=-0.1"),
    ({"lr": float("nan")}, "`lr` must be 0 or more and finite; got lr=nan"),
    ({"lr": float("inf")}, "`lr` must be 0 or more and finite; got lr=inf"),
    ({"beta": 1.0}, r"`beta` must be in \[0, 1\); got beta=1.0"),
    ({"beta": -0.1}, r"`beta` must be in \[0, 1\); got beta=-0.1"),
    ({"clip": 0.0}, r"`clip` must be positive \(multiples of lr\); got clip=0.0"),
    ({"weight_decay": -1.0}, "`weight_decay` must be 0 or more; got weight_decay=-1.0"),
    ({"state": "int8"}, "`state` must be one of 'fp32', 'bf16', 'log8'.*; got state='int8'"),
    ({"on_nonfinite": "ignore"}, "`on_nonfinite` must be one of 'skip', 'raise', 'trust'; got"),
    ({"differentiable": True}, "`differentiable` must be False"),
    ({"additive_lr": -1.0}, "Invalid learning rate: -1.0"),
    (
        {"capturable": True, "on_nonfinite": "raise"},
        "`on_nonfinite='raise'` needs capturable=False",
    ),
]


@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.is_lmd], ids=lambda case: case.name
)
@pytest.mark.parametrize(("options", "match"), BAD, ids=lambda value: str(value)[:30])
def test_bad_hyper_parameters_are_refused(case, options, match):
    with pytest.raises(ValueError, match=match):
        case.optimizer(
            parameters(case), **{"foreach": None} | options if case.fmt is None else options
        )


def test_bad_hyper_parameters_of_one_optimizer():
    weight, code = randn(4, 3), CodedTensor.from_float(randn(4, 3), "ladder8", 3.0)
    with pytest.raises(
        ValueError, match=r"`scale_bound` must be positive \(multiples of the RMS\)"
    ):
        Madam([nn.Parameter(weight)], scale_bound=0.0)
    with pytest.raises(ValueError, match="`foreach=True` needs state='fp32'; got state='bf16'"):
        Madam([nn.Parameter(weight)], foreach=True, state="bf16")
    with pytest.raises(ValueError, match="`rounding` must be one of 'nearest', 'stochastic'; got"):
        BBitMadam([nn.Parameter(code)], rounding="down")
    with pytest.raises(ValueError, match="`algorithm` must be one of 'madam', 'adamw'; got"):
        Madam([{"params": [nn.Parameter(weight)], "algorithm": "sgd"}])


def test_a_refused_group_leaves_the_optimizer_as_it_was(case):
    params = parameters(case)
    optimizer = case.optimizer([params[0]])
    with pytest.raises(ValueError, match="`lr` must be"):
        optimizer.add_param_group({"params": [params[1]], "lr": -2.0})
    assert len(optimizer.param_groups) == 1
    assert params[1] not in optimizer.state
    optimizer.add_param_group({"params": [params[1]]})


def test_parameters_of_the_wrong_kind_are_refused():
    weight, code = (
        nn.Parameter(randn(4, 3)),
        nn.Parameter(CodedTensor.from_float(randn(4, 3), "ladder8", 3.0)),
    )
    with pytest.raises(
        ValueError, match=r"parameter 0 of group 0 \('fc'\) is stored in codes.*BBitM"
    ):
        Madam([("fc", code)])
    with pytest.raises(
        ValueError, match="must be stored in codes; got a floating-point.*store_weig"
    ):
        BBitMadam([weight])
    with pytest.raises(ValueError, match="stored in codes can't be trained by AdamW"):
        BBitMadam([{"params": [code], "algorithm": "adamw"}], lr=0.02)
    with pytest.raises(
        TypeError, match="parameter 0 of group 0 is complex; complex parameters are"
    ):
        Madam([nn.Parameter(torch.ones(2, dtype=torch.complex64))])


def test_all_zero_and_non_finite_weights_are_refused_with_both_ways_out():
    match = r"parameter 1 of group 0 is all zero.*init_zeros_\(model\).*split_parameters\(model\)"
    with pytest.raises(ValueError, match=match):
        Madam([nn.Parameter(torch.ones(3)), nn.Parameter(torch.zeros(3))])
    with pytest.raises(
        ValueError, match="parameter 0 of group 0 must be finite; got NaN or infinite"
    ):
        Madam([nn.Parameter(torch.tensor([1.0, float("nan")]))])
    frozen = nn.Parameter(torch.zeros(3), requires_grad=False)
    Madam([nn.Parameter(torch.ones(3)), frozen])


def test_a_group_for_adamw_has_adamws_own_defaults():
    weight, bias = nn.Parameter(randn(4, 3)), nn.Parameter(torch.zeros(3))
    groups = [{"params": [weight]}, {"params": [bias], "algorithm": "adamw"}]
    optimizer = Madam(groups, lr=0.02, weight_decay=0.5)
    assert optimizer.param_groups[1]["lr"] == 1e-3
    assert optimizer.param_groups[1]["weight_decay"] == 0.0


def test_state_of_another_algorithm_is_refused():
    weight = nn.Parameter(randn(4, 3))
    other = torch.optim.AdamW([weight]).state_dict()
    with pytest.raises(
        ValueError, match=r"must be of the same algorithms.*\['madam'\]; got \[None"
    ):
        Madam([weight]).load_state_dict(other)


def test_frozen_float_parameters_may_be_in_a_coded_group():
    weight = nn.Parameter(CodedTensor.from_float(randn(4, 3), "ladder12", 3.0))
    optimizer = BBitMadam([nn.Parameter(randn(3), requires_grad=False), weight])
    run(optimizer, [weight], 2)


def test_lr_under_the_base_precision_warns_and_names_stochastic_rounding():
    def param():
        return nn.Parameter(CodedTensor.from_float(randn(4, 3), "ladder8", 3.0))

    match = "lr=0.01 is under the base precision 0.01606 .* rounding='stochastic', or lr >= 0.01606"
    with pytest.warns(UserWarning, match=match):
        BBitMadam([param()], lr=0.01)
    with pytest.warns(UserWarning, match=match):
        BBitMadam([param()], lr=torch.tensor(0.01))
    BBitMadam([param()], lr=0.01, rounding="stochastic")
    params = [param()]
    optimizer = BBitMadam(params, lr=0.02)
    schedule = StepLR(optimizer, 1, 0.1)
    run(optimizer, params, 1)
    schedule.step()
    with pytest.warns(UserWarning, match="lr=0.002 is under the base precision"):
        run(optimizer, params, 1)
    run(optimizer, params, 1)  # once is enough


def test_learning_rate_ratio_of_the_clip_stays_when_the_lr_changes():
    for lr in (0.01, 0.001):
        param = nn.Parameter(torch.tensor([1.0]))
        optimizer = Madam([param], lr=lr, beta=0.9999, scale_bound=1000.0)
        param.grad = torch.tensor([1e-3])
        optimizer.step()
        for _ in range(200):
            optimizer.step()
        before = float(param.detach())
        param.grad = torch.tensor([1e6])
        optimizer.step()
        # Unclipped, the jump after 201 steps would be sqrt(202) = 14 times lr.
        assert abs(math.log(float(param.detach()) / before)) == pytest.approx(lr * 8, rel=1e-3)
