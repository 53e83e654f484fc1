import json
from pathlib import Path

from rung.report import datapath, style

RESULT = Path(__file__).parents[2] / "experiments" / "results" / "datapath-error.json"


def test_the_committed_result_is_drawn_alike_every_time():
    result = json.loads(RESULT.read_text())
    for draw, panels in ((datapath.draw_conversions, 3), (datapath.draw_sums, 4)):
        texts = []
        for _ in range(2):
            with style.style():
                figure = draw(result)
                texts.append(style.to_svg(figure, "x", "made twice"))
        assert len(figure.axes) == panels
        assert texts[0] == texts[1]


def test_a_ratio_without_any_error_leaves_a_gap():
    result = json.loads(RESULT.read_text())
    for row in result["lengths"]:
        row["datapath_db"] = row["corrected_db"] = None
    with style.style():
        axes = datapath.draw_sums(result).axes[3]
        assert style.to_svg(axes.figure, "x", "gaps")
