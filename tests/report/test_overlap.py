"""Curves that hide each other."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from scarlet_jax import report
from scarlet_jax.report import style
from tests.support.report_runs import drawn, write_run

SERVER = tuple(0.1 + 0.5 * (1 - np.exp(-np.arange(40) / 10)))


@pytest.mark.parametrize("methods", [("scarlet", "dsfl"), ("scarlet", "dsfl", "cfd", "comet")])
def test_curves_that_lie_on_each_other_are_all_seen(tmp_path, methods):
    """The colour of each is met all along the curve, not only at its markers."""
    paths = [write_run(tmp_path / m, m, server=SERVER, cache__duration=0) for m in methods]
    report.write_report(paths, tmp_path / "out")
    picture = imread(tmp_path / "out" / "accuracy_rounds.png")[:, :, :3]
    panel = picture[: int(0.75 * len(picture)), : picture.shape[1] // 2]  # the server's curve, without the legend
    with style.applied():
        looks = style.looks(report.group_runs([report.load(path) for path in paths]))
    columns = [(np.abs(panel - to_rgb(look.colour)).max(-1) < 0.12).any(0) for look in looks]
    along = np.flatnonzero(np.any(columns, 0))
    for own in columns:
        assert own[along[0] : along[-1]].mean() > 0.5  # its markers alone are a fifth


def test_curves_that_are_apart_have_the_same_width(tmp_path):
    paths = [write_run(tmp_path / m, m, server=np.array(SERVER) + 0.1 * i, up=100 * (i + 1), clients=(0.1 * i,))
             for i, m in enumerate(("dsfl", "cfd", "comet"))]  # fmt: skip
    for name, figure in drawn(paths).items():
        if name in ("accuracy_rounds", "bytes_rounds"):
            widths = {line.get_linewidth() for axis in figure.axes[:1] for line in axis.lines}
            assert widths == {1.4}, name
