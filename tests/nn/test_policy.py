import pytest

from rung.formats import LNS, Ladder
from rung.nn import Policy, Quantizer, Quantizers, Rule


def test_a_name_has_a_zero_everywhere_but_in_weights():
    four = Policy(*["lns8"] * 4).resolve("layer", "linear")
    zero = LNS(8, 8, zero=True)
    assert four == Quantizers(
        Quantizer(LNS(8, 8), "channel"), Quantizer(zero), Quantizer(zero), Quantizer(zero)
    )
    assert Policy("lns8+zero").weight.format.zero


def test_a_format_object_is_taken_as_it_is():
    fmt = LNS(6, 4)
    policy = Policy(fmt, fmt, Ladder(8), Quantizer(fmt, "row"))
    assert [policy.weight.format, policy.activation.format] == [fmt, fmt]
    assert policy.error.format == Ladder(8)
    assert policy.gradient == Quantizer(fmt, "row")


def test_a_quantizer_by_name_keeps_its_scale_and_gets_its_zero_by_place():
    q = Quantizer("lns8", 32, "stochastic")
    policy = Policy(q, q, None, None)
    assert policy.weight == q
    assert policy.activation == Quantizer(LNS(8, 8, zero=True), 32, "stochastic")


def test_later_rules_win_place_by_place():
    policy = Policy(
        rules=[
            Rule("encoder.*", weight="lns6", error="lns12"),
            Rule("*.3", ("linear", "conv"), weight="lns4", activation=None),
        ]
    )
    four = policy.resolve("encoder.3", "linear")
    assert four.weight.format.bits == 4
    assert four.activation is None
    assert four.error.format == LNS(12, 128, zero=True)
    assert four.gradient == Policy().gradient
    assert policy.resolve("encoder.3", "matmul").weight.format.bits == 6
    assert policy.resolve("decoder", "linear") == Policy().resolve("decoder", "linear")
    # A shared layer is meant by each of its names.
    assert policy.resolve(("decoder", "encoder.1"), "linear").weight.format.bits == 6


def test_skip_leaves_all_four():
    policy = Policy(rules=[Rule.skip("head", "linear")])
    assert policy.resolve(("head",), "linear").empty
    assert not policy.resolve(("head",), "matmul").empty


def test_policies_are_values():
    assert Policy(rules=[Rule("a")]) == Policy(rules=(Rule("a"),))
    assert hash(Policy()) == hash(Policy("lns8"))
    assert Policy(rules=Rule.skip("a")).rules == (Rule.skip("a"),)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Policy("lsn8"), ValueError, r"Unknown format 'lsn8'; the formats are: ladder2"),
        (lambda: Policy(8), TypeError, r"must be a name or a format of rung.formats; got 8"),
        (lambda: Policy(rules=["a"]), TypeError, r"`rules` must be rung.nn.Rule; got str"),
        (lambda: Rule("a", "dense"), ValueError,
         r"`kinds` must be of linear, conv, .*, matmul; got 'dense'"),
        (lambda: Rule("a", ()), ValueError, r"`kinds` must be of linear, .*; got none"),
        (lambda: Rule(()), ValueError, r"`names` must be a pattern or several; got none"),
        (lambda: Rule("a", weight="lsn8"), ValueError, r"Unknown format 'lsn8'"),
    ],
)  # fmt: skip
def test_bad_policies_are_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()
