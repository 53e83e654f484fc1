from rung import kernels


def test_info_lists_every_operation_on_every_device():
    rows = kernels.info()
    names = {row.operation for row in rows}
    assert {"lns_round", "ladder_decode", "mx_quantize", "madam_step", "coded_madam_step"} <= names
    assert {"lmd_update", "linear_codes", "all_finite"} <= names
    assert len(rows) == 3 * len(names)
    for row in rows:
        assert row.implementation in ("numba", "triton", "reference")
        assert row.reason
        if row.device == "cpu":
            assert row.implementation == "numba"
