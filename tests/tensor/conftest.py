import pytest
from torch import nn

from .weights import KINDS, coded


@pytest.fixture(params=KINDS, ids="-".join)
def parameter(request):
    fmt, signs = request.param
    return nn.Parameter(coded(fmt=fmt, signs=signs))
