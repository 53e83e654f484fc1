"""What Theorem 1 says about a run, in plain sentences."""

from dataclasses import dataclass

from rung.report import numbers
from rung.report.facts import FREE, in_nats, in_octaves, is_difference, is_multiplicative
from rung.report.run import Run


@dataclass(frozen=True, slots=True)
class Verdict:
    """The bound beside the learning rate."""

    level: str
    """``"above"``, ``"below"`` or ``"none"``; decides the colour."""
    headline: str
    """One sentence."""
    detail: str
    """What follows from it."""


def judge(run: Run) -> Verdict | None:
    """Compare the learning rate with the bound of Theorem 1; None where nothing was measured."""
    found = run.diagnostics
    if found is None:
        return None
    bound, lr, step = (
        found["descent_bound"],
        in_nats(run, found["lr"]),
        numbers.count(found["step"]),
    )
    if bound is None or lr is None:
        return Verdict(
            "none",
            "Theorem 1 gives no bound here.",
            "No layer had an angle (weights or gradients zero or not finite), or no learning rate "
            "was recorded.",
        )
    shown = f"the Theorem 1 bound of {numbers.rate(bound)}"
    if not is_multiplicative(run):
        does = "adds to them"
        if is_difference(run):
            does = "multiplies two parts of each, whose difference may change by any factor"
        elif run.config["optimizer"] == FREE:
            does = "adds to small ones, whose size may change by any factor"
        return Verdict(
            "none",
            f"Theorem 1 does not apply to {run.config['optimizer']}.",
            f"It is about steps that multiply the weights, and this optimizer {does}. For a "
            f"multiplicative optimizer {shown} would hold at step {step}.",
        )
    first = in_nats(run, run.config.get("lr"))
    unit = " nats" if in_octaves(run) else ""
    if lr == 0 and first:
        # A cosine schedule ends at 0: that rate changes nothing and tells nothing.
        rate = f"The learning rate at the start, {numbers.rate(first)}{unit},"
        used = first
        rest = f" The bound was measured at step {step}, where the schedule has reached 0."
    else:
        rate = f"The learning rate at step {step}, {numbers.rate(lr)}{unit},"
        used = lr
        rest = _about_the_start(first, lr, bound)
    if used > bound:
        times = f" ({used / bound:.2g} times as large)" if bound > 0 else ""
        return Verdict(
            "above",
            f"{rate} is above {shown}{times}.",
            "Theorem 1 does not promise that a step of this size lowers the loss. Training can "
            f"still work: the theorem says when a step is safe, not when it fails.{rest}",
        )
    return Verdict(
        "below",
        f"{rate} is within {shown}.",
        f"If the network obeys deep relative trust, a step of Equation 3 lowers the loss.{rest}",
    )


def _about_the_start(first: float | None, lr: float, bound: float) -> str:
    if first is None or first == lr:
        return ""
    side = "also above" if lr > bound else "above"
    if first <= bound:
        return f" The run began at {numbers.rate(first)}, which is within it."
    return f" The run began at {numbers.rate(first)}, which is {side} it."
