"""Figures, looked at as a reader would."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tests.support.report_runs import add_columns, drawn, write_run


def test_entropy_and_disagreement_are_drawn(tmp_path):
    paths = [write_run(tmp_path / "a"), write_run(tmp_path / "b", "fedavg")]
    add_columns(paths[0], target_entropy=[2.0, 1.5, 1.25], disagreement=[0.5, 0.25, 0.125])
    add_columns(paths[1], target_entropy=[None] * 3, disagreement=[None] * 3)
    entropy, disagreement = drawn(paths)["soft_labels"].axes
    for axis, values in ((entropy, [2.0, 1.5, 1.25]), (disagreement, [0.5, 0.25, 0.125])):
        curve, marks = axis.lines  # of one run: the other has no such numbers
        np.testing.assert_allclose(curve.get_xydata(), list(zip([1, 2, 3], values, strict=True)))
    assert "entropy" in entropy.get_title() and "nats" in disagreement.get_ylabel()
    assert "soft_labels" not in drawn(paths[1:])


def texts(figure):
    """Extents of every text that is drawn."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    found = [text for legend in figure.legends for text in legend.get_texts()]
    found += figure.texts  # its title
    for axes in figure.axes:
        found += [axes.title, axes.xaxis.label, axes.yaxis.label]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            found += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in found if text.get_text().strip()]


@pytest.mark.parametrize("clients", [3, 1000])
def test_twelve_runs_of_any_number_of_clients_stay_readable(tmp_path, clients):
    """No text lies outside the picture or on another."""
    rng = np.random.default_rng(0)
    paths = [
        write_run(tmp_path / f"{i}", lr=0.01 * (i + 1), partition__alpha=0.3 + 0.1 * i, server=(0.2, 0.3 + 0.01 * i),
                  clients=tuple(0.5 * rng.random(clients)))
        for i in range(12)
    ]  # fmt: skip
    for name, figure in drawn(paths).items():
        assert len(figure.legends[0].get_texts()) == 12
        boxes = texts(figure)
        for i, (shown, box) in enumerate(boxes):
            assert box.x0 >= -1 and box.y0 >= -1, (name, shown)
            assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, (name, shown)
            for other, place in boxes[:i]:
                across = min(box.x1, place.x1) - max(box.x0, place.x0)
                along = min(box.y1, place.y1) - max(box.y0, place.y0)
                assert min(across, along) < 1, (name, shown, other)
