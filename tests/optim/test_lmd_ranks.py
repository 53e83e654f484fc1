"""LMD on two ranks: noise equal or different by choice, states always equal."""

import socket

import pytest
import torch
from oracles import lmd_on_ranks


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two processes saw, run once for all tests."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(lmd_on_ranks.main, (port, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def equal(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("case", lmd_on_ranks.CASES)
def test_states_and_weights_stay_equal_on_every_rank(found, case):
    first, second = (rank[case] for rank in found)
    assert equal(first["after"], second["after"])
    assert not torch.equal(first["after"]["0.weight"], first["before"]["0.weight"])


@pytest.mark.parametrize("case", lmd_on_ranks.CASES)
def test_noise_is_the_same_or_differs_by_rank_as_asked(found, case):
    first, second = (rank[case]["samples"] for rank in found)
    differs = case.startswith("per_rank") and "no noise" not in case
    for left, right in zip(first, second, strict=True):
        assert torch.equal(left, right) != differs


@pytest.mark.parametrize("case", lmd_on_ranks.CASES)
def test_prediction_draws_the_same_weights_on_every_rank(found, case):
    first, second = (rank[case]["predictive"] for rank in found)
    assert torch.equal(first, second)


def test_the_momentum_is_the_mean_of_what_the_ranks_found(found):
    # betas (0, 0): the momentum is the last step's h; here the gradients are constants by rank.
    first, second = (rank["mean of h"] for rank in found)
    expected = (first["h"] + second["h"]) / 2
    assert not torch.equal(first["h"], second["h"])
    for rank in (first, second):
        torch.testing.assert_close(rank["momentum"], expected)


def test_a_gradient_that_is_not_finite_on_one_rank_skips_the_step_on_all(found):
    for rank in found:
        assert "error" not in rank["spoiled"]
        assert rank["spoiled"]["skipped"] == 1
        assert equal(rank["spoiled"]["before"], rank["spoiled"]["after"])


def test_weights_with_a_gradient_on_one_rank_only_are_stepped_alike_on_all(found):
    first, second = (rank["uneven"] for rank in found)
    assert equal(first, second)
    assert [int(first[f"{name} steps"]) for name in ("a", "b", "c", "bias")] == [1, 1, 0, 1]
