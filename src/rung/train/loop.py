"""The training loop, from a configuration to a run folder."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from rung.optim import LMD
from rung.train import recipes
from rung.train.checkpoint import load_checkpoint, save_checkpoint
from rung.train.config import Config
from rung.train.device import find_device, own_process_state
from rung.train.display import Display, Silent
from rung.train.folder import RunFolder
from rung.train.interrupt import Interrupt
from rung.train.measure import all_finite, diagnose
from rung.train.medians import medians_record
from rung.train.predictive import posterior_record
from rung.train.records import config_record, summary_record
from rung.train.session import (
    Session,
    build,
    check_same_run,
    computing,
    from_tree,
    to_tree,
    with_rate_of,
)

_SKIPS_IN_A_ROW = 10


class Divergence(RuntimeError):
    """Training can't go on: the text says why."""


def run(
    config: Config,
    out: str | Path,
    *,
    resume: bool = False,
    display: Display | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Train, and write a run folder.

    Args:
        config: What to train, from a recipe: ``recipes.get("digits-cnn").configure("adamw")``.
        out: The run folder; must not hold a run unless `resume`.
        resume: Go on from the folder's last checkpoint; the result is that of a run without a
            break, bit for bit on one machine.
        display: Receives progress; nothing is shown without it.
        command: The command line, for the record.

    Returns:
        Content of summary.json; ``["status"]`` is ``"finished"`` or ``"diverged"``.

    Raises:
        ValueError: A configuration, data or a checkpoint that doesn't fit; nothing was overwritten.
        FileExistsError: The folder holds a run and `resume` is false.
        FileNotFoundError: Nothing to resume.
        KeyboardInterrupt: Stopped by the user, after a checkpoint.
    """
    display = display or Silent()
    folder = RunFolder(out)
    folder.check(resume)
    device = find_device(config.device)
    recipe = recipes.get(config.recipe)
    with own_process_state(device, config.threads):
        task = recipe.build(config)
        display.line(f"data: {task.source}")
        checkpoint = _checkpoint(folder, display) if resume else None
        if checkpoint is not None:
            config = with_rate_of(config, checkpoint[1])
        session = build(config, task, device)
        metrics_bytes = _restore(session, checkpoint, display) if checkpoint is not None else 0
        del checkpoint
        record = config_record(session, command)
        folder.begin(record, metrics_bytes)
        try:
            reason = _train(session, folder, display)
            return _finish(session, folder, record, reason)
        finally:
            folder.close()


def _train(session: Session, folder: RunFolder, display: Display) -> str | None:
    """Train to the end; why that came early, or None."""
    if session.stored:
        display.line(f"weights: {session.stored}")
    if session.converted:
        display.line(f"layers: {session.converted}")
    try:
        display.start(session.config.epochs * session.task.batches_per_epoch, session.counters.step)
        if session.counters.step == 0:
            _log_medians(session, folder)
        _train_epochs(session, folder, display)
    except Divergence as divergence:
        return str(divergence)
    finally:
        display.stop()
    return None


def _train_epochs(session: Session, folder: RunFolder, display: Display) -> None:
    counters, config, task = session.counters, session.config, session.task
    saved = time.monotonic()
    with Interrupt() as interrupt:
        while counters.epoch < config.epochs:
            session.streams.order.set_state(session.epoch_order)
            session.model.train()
            for inputs, targets in task.batches(session.streams, counters.batch):
                loss = _step(session, inputs, targets)
                _record_step(session, folder, loss)
                display.step(counters.step, loss, session.lr)
                overdue = time.monotonic() - saved >= 60 * config.options.checkpoint_minutes
                if overdue or interrupt.asked:
                    _save(session, folder)
                    saved = time.monotonic()
                interrupt.stop_if_asked()
            _end_epoch(session, folder, display)
            _save(session, folder)
            saved = time.monotonic()
            interrupt.stop_if_asked()


def _step(session: Session, inputs: Tensor, targets: Tensor) -> float:
    """Forward pass, backward pass and update; the loss."""
    model, optimizer, device = session.model, session.optimizer, session.device
    inputs, targets = inputs.to(device), targets.to(device)
    clip_norm = session.config.optimizer_options.clip_norm
    begin = time.perf_counter()

    def closure() -> float:
        optimizer.zero_grad()
        with computing(session):
            loss = session.task.loss(model(inputs), targets)
        value = float(loss.detach())
        if not math.isfinite(value):
            step = session.counters.step + 1
            raise Divergence(f"the training loss became {value} at step {step}")
        loss.backward()  # type: ignore[no-untyped-call]
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        return value

    if isinstance(optimizer, LMD):
        # It lets the closure see sampled weights, once for each of its samples.
        value = float(optimizer.step(closure))
    else:
        value = closure()
        optimizer.step()
    if not isinstance(session.schedule, ReduceLROnPlateau):
        session.schedule.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    session.step_times.append(time.perf_counter() - begin)
    return value


def _record_step(session: Session, folder: RunFolder, loss: float) -> None:
    counters, options = session.counters, session.config.options
    counters.step += 1
    counters.batch += 1
    if session.average is not None:
        session.average.see(session.model, counters.step)
    counters.epoch_loss += loss
    counters.line_loss += loss
    counters.line_count += 1
    _count_skips(session)
    if counters.line_count < options.log_every:
        return
    mean = counters.line_loss / counters.line_count
    counters.line_loss, counters.line_count = 0.0, 0
    folder.log(
        {
            "kind": "train",
            "step": counters.step,
            "epoch": counters.epoch,
            "loss": mean,
            "lr": session.lr,
            "seconds": round(session.seconds, 3),
        }
    )
    if mean > options.max_loss:
        raise Divergence(
            f"the training loss was {mean:.4g} over {options.log_every} steps up to step "
            f"{counters.step}, above max_loss={options.max_loss:g}"
        )


def _count_skips(session: Session) -> None:
    counters = session.counters
    skipped = int(getattr(session.optimizer, "skipped_steps", 0))
    counters.skipped_in_a_row = counters.skipped_in_a_row + 1 if skipped > counters.skipped else 0
    counters.skipped = skipped
    if counters.skipped_in_a_row >= _SKIPS_IN_A_ROW:
        raise Divergence(
            f"the gradient was not finite in {_SKIPS_IN_A_ROW} steps in a row, up to step "
            f"{counters.step}"
        )


def _end_epoch(session: Session, folder: RunFolder, display: Display) -> None:
    """Evaluate, log, move the plateau schedule and the counters."""
    counters, metric = session.counters, session.task.metric
    averaged = session.average.count if session.average is not None else 0
    if not all_finite(session.model.state_dict().values()):
        raise Divergence(f"a weight became NaN or infinite by step {counters.step}")
    session.model.eval()
    with torch.no_grad(), computing(session):
        result = session.task.evaluate(session.evaluated, session.device)
    if not (math.isfinite(result.loss) and math.isfinite(result.metric)):
        raise Divergence(f"the {metric.split} loss became {result.loss} at step {counters.step}")
    counters.train_loss = counters.epoch_loss / session.task.batches_per_epoch
    counters.eval_loss, counters.final = result.loss, result.metric
    if metric.better(result.metric, counters.best):
        counters.best = result.metric
    folder.log(
        {
            "kind": "eval",
            "step": counters.step,
            "epoch": counters.epoch,
            "split": metric.split,
            "loss": result.loss,
            "metric": {metric.name: result.metric},
            "seconds": round(session.seconds, 3),
            **({"averaged_steps": averaged} if averaged else {}),
        }
    )
    _log_medians(session, folder)
    display.line(
        f"epoch {counters.epoch + 1}/{session.config.epochs}  train loss {counters.train_loss:.4f}"
        f"  {metric.split} loss {result.loss:.4f}  {metric.name} {result.metric:.4f}"
        f"  lr {session.lr:.3g}"
    )
    if isinstance(session.schedule, ReduceLROnPlateau):
        # The test set must not steer training; a validation set may.
        session.schedule.step(result.loss if metric.split == "valid" else counters.train_loss)
    counters.epoch, counters.batch, counters.epoch_loss = counters.epoch + 1, 0, 0.0
    session.epoch_order = session.streams.order.get_state()


def _log_medians(session: Session, folder: RunFolder) -> None:
    record = medians_record(session)
    if record is not None:
        folder.log(record)


def _save(session: Session, folder: RunFolder) -> None:
    if not all_finite(session.model.state_dict().values()):
        raise Divergence(f"a weight became NaN or infinite by step {session.counters.step}")
    save_checkpoint(folder.checkpoint, *to_tree(session, folder.metrics_bytes()))


def _checkpoint(
    folder: RunFolder, display: Display
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Tree and header of a folder's checkpoint; None before the first one."""
    if not folder.checkpoint.exists():
        display.line(f"no checkpoint in {folder.path} yet: starting at step 0")
        return None
    return load_checkpoint(folder.checkpoint)


def _restore(
    session: Session, checkpoint: tuple[dict[str, Any], dict[str, Any]], display: Display
) -> int:
    tree, header = checkpoint
    check_same_run(session, header)
    metrics_bytes = from_tree(session, tree)
    display.line(f"resumed at step {session.counters.step}, epoch {session.counters.epoch + 1}")
    return metrics_bytes


def _finish(
    session: Session, folder: RunFolder, record: dict[str, Any], reason: str | None
) -> dict[str, Any]:
    """Write diagnostics.json and summary.json."""
    summary = summary_record(session, record, reason)
    if all_finite(session.model.state_dict().values()):
        if reason is None:
            with computing(session):
                posterior = posterior_record(session)
            if posterior is not None:
                summary["posterior"] = posterior
        folder.write("diagnostics.json", diagnose(session))
    folder.write("summary.json", summary)
    return summary
