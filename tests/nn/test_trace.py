import torch

from rung.nn import trace
from rung.nn.quantizer import Quantizer


class Notes:
    def __init__(self):
        self.marked, self.results = [], []

    def mark(self, tensor, quantizer, source):
        self.marked.append((tensor, quantizer, source))

    def mark_result(self, grad, quantizer):
        self.results.append((grad, quantizer))

    def mark_lookup(self, indices, table, rows):
        self.results.append((indices, table, rows))


def test_notes_reach_every_listener_until_it_leaves():
    first, second = Notes(), Notes()
    quantizer, x, grad = Quantizer("lns8"), torch.zeros(2), torch.ones(2)
    trace.mark(x, quantizer, grad)
    trace.listen(first)
    trace.listen(second)
    trace.mark(x, quantizer, grad)
    trace.unlisten(first)
    trace.mark_result(grad, quantizer)
    trace.mark_lookup(x, grad, x)
    trace.unlisten(second)
    trace.mark(x, quantizer, grad)
    assert first.marked == second.marked == [(x, quantizer, grad)]
    assert first.results == []
    assert second.results == [(grad, quantizer), (x, grad, x)]
