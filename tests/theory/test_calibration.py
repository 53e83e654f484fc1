import math

import pytest
import torch
from torch.nn import functional

from rung.theory import expected_calibration_error, negative_log_likelihood, reliability


def predictions(count=500, classes=7, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, classes, generator=generator, dtype=dtype)
    return logits, torch.randint(classes, (count,), generator=generator)


def slow_error(probabilities, targets, bins):
    """The definition, prediction by prediction."""
    error = 0.0
    for b in range(bins):
        confidences, hits = [], []
        for row, target in zip(probabilities.tolist(), targets.tolist(), strict=True):
            confidence = max(row)
            if b / bins < confidence <= (b + 1) / bins:
                confidences.append(confidence)
                hits.append(row.index(confidence) == target)
        if hits:
            gap = abs(sum(hits) / len(hits) - sum(confidences) / len(hits))
            error += len(hits) / len(targets) * gap
    return error


def test_the_error_of_a_small_example_is_that_by_hand():
    # Two bins of four: (0.5, 0.75] holds 0.6 (wrong) and 0.7 (right), (0.75, 1] holds 0.9 and 1.
    probabilities = torch.tensor([[0.6, 0.4], [0.3, 0.7], [0.1, 0.9], [1.0, 0.0]])
    targets = torch.tensor([1, 1, 1, 1])
    expected = 0.5 * abs(0.5 - 0.65) + 0.5 * abs(0.5 - 0.95)
    assert expected_calibration_error(probabilities, targets, bins=4) == pytest.approx(expected)
    table = reliability(probabilities, targets, bins=4)
    assert [row.count for row in table] == [0, 0, 2, 2]
    assert (table[0].confidence, table[0].accuracy) == (None, None)
    assert (table[2].low, table[2].high) == (0.5, 0.75)
    assert table[2].confidence == pytest.approx(0.65)
    assert table[3].accuracy == 0.5


@pytest.mark.parametrize("bins", [1, 2, 10, 15, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_error_is_that_of_the_definition(bins, dtype):
    logits, targets = predictions(dtype=dtype)
    probabilities = logits.softmax(-1)
    assert expected_calibration_error(probabilities, targets, bins) == pytest.approx(
        slow_error(probabilities.double(), targets, bins), abs=1e-12
    )


def test_a_confidence_on_an_edge_belongs_to_the_lower_bin():
    rows = torch.tensor([[0.75, 0.25], [0.5, 0.5]], dtype=torch.float64)
    counts = [row.count for row in reliability(rows, torch.tensor([0, 0]), bins=4)]
    assert counts == [0, 1, 1, 0]


def test_bins_hold_every_prediction_once():
    logits, targets = predictions()
    table = reliability(logits.softmax(-1), targets)
    assert len(table) == 15
    assert sum(row.count for row in table) == len(targets)
    right = sum(row.count * row.accuracy for row in table if row.count)
    assert right == pytest.approx(int((logits.argmax(-1) == targets).sum()))


def test_right_predictions_without_doubt_have_no_error():
    rows = torch.eye(3)
    assert expected_calibration_error(rows, torch.tensor([0, 1, 2])) == 0.0
    assert expected_calibration_error(rows, torch.tensor([1, 2, 0])) == 1.0
    assert negative_log_likelihood(rows, torch.tensor([0, 1, 2])) == 0.0
    assert negative_log_likelihood(rows, torch.tensor([1, 1, 2])) == math.inf


@pytest.mark.parametrize("shape", [(60, 7), (5, 12, 7)])
def test_the_likelihood_is_the_cross_entropy(shape):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64)
    targets = torch.randint(shape[-1], shape[:-1], generator=generator)
    expected = functional.cross_entropy(logits.flatten(0, -2), targets.flatten())
    found = negative_log_likelihood(logits.softmax(-1), targets)
    assert found == pytest.approx(float(expected), rel=1e-12)


def test_one_prediction_without_a_batch_is_taken():
    row = torch.tensor([0.25, 0.75])
    assert negative_log_likelihood(row, torch.tensor(1)) == pytest.approx(-math.log(0.75))


@pytest.mark.parametrize(
    ("probabilities", "targets", "text"),
    [
        (torch.ones(2, 1), torch.zeros(3).long(), r"got \(2, 1\) and \(3,\). Pass one target"),
        (torch.tensor(1.0), torch.tensor(0), "a last dimension of classes"),
        (torch.ones(0, 3), torch.zeros(0).long(), r"at least one prediction; got shape \(0, 3\)"),
        (torch.tensor([[-1.0, 2.0]]), torch.tensor([0]), "between 0 and 1; got -1 to 2.*softmax"),
        (torch.tensor([[math.nan, 1.0]]), torch.tensor([0]), "between 0 and 1; got nan to nan"),
        (torch.tensor([[0.5, 0.3]]), torch.tensor([0]), "sum to 1 .*; got a sum 0.2 away"),
        (
            torch.tensor([[0.5, 0.4998]]),
            torch.tensor([0]),
            "sum to 1 .*, within 0.0001; got a sum 0.000200003 away from it.*float32 or float64",
        ),
        (torch.tensor([[0.5, 0.5]]), torch.tensor([2]), "between 0 and 1; got 2 to 2. Leave out"),
        (torch.tensor([[0.5, 0.5]]), torch.tensor([-1]), "`targets` must lie between 0 and 1"),
    ],
)
def test_what_is_no_prediction_is_refused(probabilities, targets, text):
    for measure in (negative_log_likelihood, expected_calibration_error, reliability):
        with pytest.raises(ValueError, match=text):
            measure(probabilities, targets)


def test_targets_must_be_integers_and_bins_positive():
    rows = torch.tensor([[0.5, 0.5]])
    with pytest.raises(TypeError, match="`targets` must be integers.*got torch.float32.*argmax"):
        negative_log_likelihood(rows, torch.tensor([1.0]))
    with pytest.raises(TypeError, match="`targets` must be integers.*got torch.complex64"):
        reliability(rows, torch.tensor([1], dtype=torch.complex64))
    for bins in (0, 2.5, 15.0, True):
        text = f"`bins` must be an integer of at least 1; got {bins}. 15 are usual"
        for measure in (reliability, expected_calibration_error):
            with pytest.raises(ValueError, match=text):
                measure(rows, torch.tensor([1]), bins=bins)


def test_a_softmax_over_many_classes_in_float32_is_taken():
    rows = torch.randn(20, 50_000, generator=torch.Generator().manual_seed(2)).softmax(-1)
    assert negative_log_likelihood(rows, torch.zeros(20).long()) > 5
