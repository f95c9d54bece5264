import json
import xml.etree.ElementTree as ElementTree

import pytest

from workbench.training.reporting.journal import journal_lines
from workbench.training.reporting.loss_plot import loss_plot_svg, ticks


def test_a_journal_line_cut_off_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"step": 1}) + "\n" + '{"step": 2, "lo')
    assert journal_lines(path) == [{"step": 1}]
    assert journal_lines(tmp_path / "none.jsonl") == []


LINES = [
    {"step": 10, "loss": 2.5},
    {"step": 20, "loss": 1.25},
    {"step": 20, "validation_loss": 1.5},
]


def test_the_curve_is_an_svg_with_every_point_inside_its_frame():
    root = ElementTree.fromstring(loss_plot_svg(LINES, "a <b> & 中文"))
    name = "{http://www.w3.org/2000/svg}"
    assert "".join(root.find(f"{name}text").itertext()) == "a <b> & 中文: training loss, validation loss"
    frame = root.find(f"{name}rect").attrib
    lines = {line.get("class"): line.get("points").split() for line in root.iter(f"{name}polyline")}
    assert (len(lines["loss"]), len(lines["validation"])) == (2, 1)
    for point in lines["loss"] + lines["validation"]:
        x, y = map(float, point.split(","))
        assert 0 <= x - float(frame["x"]) <= float(frame["width"])
        assert 0 <= y - float(frame["y"]) <= float(frame["height"])


def test_a_single_point_is_drawn_too():
    assert "<polyline" in loss_plot_svg([{"step": 1, "loss": 0.0}], "one")


@pytest.mark.parametrize(("low", "high"), [(0.0, 7.0), (1.234, 1.239), (0, 12345), (2.0, 2.0), (0.0, 0.0)])
def test_ticks_are_few_round_numbers_around_the_values(low, high):
    found = ticks(low, high)
    assert found[0] <= low <= high <= found[-1]
    assert 2 <= len(found) <= 10
    assert all(len(f"{tick:g}") <= 6 for tick in found)
