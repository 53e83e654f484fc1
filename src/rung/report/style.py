"""The look of every figure: one palette, one font, and bytes that depend on nothing but the run."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rung import extras

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which people with any colour vision can tell apart.
BLUE, ORANGE, GREEN, SKY = "#0072B2", "#E69F00", "#009E73", "#56B4E9"
VERMILLION, PURPLE, YELLOW = "#D55E00", "#CC79A7", "#B8A800"
INK, MUTED, LINE, PAPER = "#1f2933", "#616e7c", "#e4e7eb", "#ffffff"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY, YELLOW, INK)

_SETTINGS: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so every machine draws alike
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a "$" in a name is a "$"
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "svg.hashsalt": "rung",
    "svg.fonttype": "path",
}


@contextmanager
def style() -> Iterator[None]:
    """Rung's settings of matplotlib while a figure is drawn and saved; the user's come back."""
    matplotlib = extras.require("matplotlib")
    with matplotlib.rc_context(), warnings.catch_warnings():
        # Not the caller's defaults: a report looks the same whatever matplotlibrc says.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        # A name may hold letters that the font lacks; a box stands for them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure (inches) that no global list of figures knows."""
    figure: Figure = extras.require("matplotlib.figure").Figure(
        figsize=(width, height), layout="constrained"
    )
    return figure


def plain_log_axis(axis: Any) -> None:
    """Numbers such as 0.001 in place of powers of ten."""
    ticker = extras.require("matplotlib.ticker")
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    low, high = sorted(axis.get_view_interval())
    if high < 30 * low:
        # Less than one and a half decades: the powers of ten alone would leave an axis bare.
        axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_formatter(ticker.NullFormatter())


def bare(axes: "Axes") -> None:
    """Leave only the lower line of a small panel."""
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.grid(False)


def _keep_layout(figure: "Figure") -> None:
    """Lay the figure out once; each file would do it anew, and that takes longer than drawing."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def to_png(figure: "Figure") -> bytes:
    """The figure as PNG at 150 dots per inch."""
    buffer = io.BytesIO()
    _keep_layout(figure)
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def to_svg(figure: "Figure", name: str, title: str) -> str:
    """The figure as an SVG element to put into a page.

    Args:
        figure: What to draw.
        name: Goes before every id, since one page holds several figures.
        title: Text for readers who do not see the figure.
    """
    buffer = io.StringIO()
    _keep_layout(figure)
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    label = title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
