"""What a run shows while it runs: a bar on a terminal, plain lines elsewhere, or nothing."""

import time
from typing import IO, Any, Protocol

from rung.extras import require


class Display(Protocol):
    """Receives what the loop has to say."""

    def line(self, text: str) -> None:
        """One line of text."""

    def start(self, steps: int, done: int) -> None:
        """Training starts: `done` of `steps` steps lie behind."""

    def step(self, step: int, loss: float, lr: float) -> None:
        """A step is done."""

    def stop(self) -> None:
        """Training ended, in whatever way."""


class Silent:
    """Shows nothing; the default of `rung.train.run`."""

    def line(self, text: str) -> None:
        """Ignore a line."""

    def start(self, steps: int, done: int) -> None:
        """Ignore the start."""

    def step(self, step: int, loss: float, lr: float) -> None:
        """Ignore a step."""

    def stop(self) -> None:
        """Ignore the end."""


class Plain:
    """Plain lines, for logs and pipes.

    Args:
        stream: Where to.
        seconds: Seconds between two lines about training.
    """

    def __init__(self, stream: IO[str], seconds: float = 10.0) -> None:
        self.stream = stream
        self.seconds = seconds
        self.steps = 0
        self.last = time.monotonic()

    def line(self, text: str) -> None:
        """Print a line."""
        self.stream.write(text + "\n")
        self.stream.flush()

    def start(self, steps: int, done: int) -> None:
        """Take note of the length of the run."""
        self.steps = steps
        self.last = time.monotonic()

    def step(self, step: int, loss: float, lr: float) -> None:
        """Print a line if the last one is old enough."""
        if time.monotonic() - self.last >= self.seconds:
            self.last = time.monotonic()
            self.line(f"step {step}/{self.steps}  loss {loss:.4f}  lr {lr:.3g}")

    def stop(self) -> None:
        """Nothing is left to do."""


class Bar:
    """A progress bar of rich, with lines above it."""

    def __init__(self) -> None:
        progress = require("rich.progress")
        column = progress.TextColumn
        self.progress: Any = progress.Progress(
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            column("loss {task.fields[loss]:.4f}  lr {task.fields[lr]:.3g}"),
            progress.TimeRemainingColumn(),
            transient=True,
        )
        self.task: Any = None

    def line(self, text: str) -> None:
        """Print a line above the bar, as it is."""
        self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def start(self, steps: int, done: int) -> None:
        """Show the bar."""
        self.task = self.progress.add_task("", total=steps, completed=done, loss=0.0, lr=0.0)
        self.progress.start()

    def step(self, step: int, loss: float, lr: float) -> None:
        """Move the bar."""
        self.progress.update(self.task, completed=step, loss=loss, lr=lr)

    def stop(self) -> None:
        """Remove the bar."""
        self.progress.stop()


def display_for(stream: IO[str]) -> Display:
    """A bar if the stream is a terminal, else plain lines."""
    return Bar() if stream.isatty() else Plain(stream)
