"""What a report's figures and tables show of what was run, looked at as a reader would."""

import csv
import io
import json

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from scarlet_jax import report
from scarlet_jax.report import figures, style, text
from tests.report.test_report import tabulated, write_run

SERVER = tuple(0.1 + 0.5 * (1 - np.exp(-np.arange(40) / 10)))


def drawn(paths, **options):
    """Name -> figure."""
    groups = report.group_runs([report.load(path) for path in paths])
    with style.applied():
        return {found.name: found.figure for found in figures.draw(groups, report.Options(**options))}


def add_columns(path, **columns):
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    rows = [row | {name: values[i] for name, values in columns.items()} for i, row in enumerate(rows)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def environment(path, *commits, **start):
    versions = {"jax": "0.10.2", "flax": "0.12.1"}
    starts = [{"python": "3.11.7", "versions": versions, "devices": ["cpu:cpu"] * 2, "commit": c} | start
              for c in commits]  # fmt: skip
    (path / "environment.json").write_text(json.dumps({"run": "x", "starts": starts}))


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
    found += [figure._suptitle] if figure._suptitle else []
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


def test_the_mean_of_the_last_five_evaluations(tmp_path):
    paths = [
        write_run(tmp_path / "a", server=(0.9, None, 0.1, 0.2, None, 0.3, 0.4, 0.5)),
        write_run(tmp_path / "b", "dsfl", server=(0.2, 0.4)),
        write_run(tmp_path / "c", "individual", server=(None, None)),
    ]
    rows = [*tabulated(paths).values()]
    last_five = [row.measured["top1"].scores["server", "last5"] for row in rows]
    assert [stat and stat.mean for stat in last_five] == [pytest.approx(0.3), pytest.approx(0.3), None]
    assert rows[0].measured["top1"].scores["client", "last5"].mean == pytest.approx(0.5 + 0.1 * (3 + 4 + 5 + 6 + 7) / 5)
    table = text.csv_text(rows, report.Options())
    assert float(next(csv.DictReader(io.StringIO(table)))["server_top1_last5_mean"]) == pytest.approx(0.3)
    assert "| server, final | server, last 5 | server, best |" in text.markdown(rows, report.Options(), ())


def test_a_report_says_what_was_run(tmp_path):
    paths = [
        write_run(tmp_path / "a", lr=0.05, seed=3, partition__alpha=0.3, momentum=0.9),
        write_run(tmp_path / "b", "dsfl", lr=0.05, partition__alpha=0.3, momentum=0.9, epochs=1),
        write_run(tmp_path / "c", "cfd", lr=0.05, partition__alpha=0.3, momentum=0.9),
    ]
    environment(paths[0], "abc", "def-dirty")
    environment(paths[1], "abc")
    (paths[2] / "environment.json").write_text('{"starts": [')  # damaged: nothing is known, and nothing is refused
    report.write_report(paths, tmp_path / "out")
    markdown = (tmp_path / "out" / "table.md").read_text()
    for line in (
        "| private data | cifar10 |",
        "| public data | cifar100, N = 10,000, P = 1,000 |",
        "| clients | K = 2, participation 1 |",
        "| partition | dirichlet, alpha 0.3 |",
        "| rounds | 3 |",
        "| distillation | 5 epochs, batches of 50, lr 0.1 |",
        "| models | client resnet20, server resnet20 |",
        "| seeds | 3 (SCARLET, epochs=5); 0 (DS-FL, epochs=1; CFD, epochs=5) |",
        "| commit | abc; def-dirty (SCARLET, epochs=5); abc (DS-FL, epochs=1); not recorded (CFD, epochs=5) |",
    ):
        assert line in markdown, line
    assert "5 epochs, batches of 50, lr 0.05, momentum 0.9 (SCARLET, epochs=5; CFD, epochs=5); 1 epoch, " in markdown
    assert "python 3.11.7, jax 0.10.2, flax 0.12.1" in markdown
    assert "2 x cpu:cpu" in markdown and "What was run" in (tmp_path / "out" / "report.html").read_text()
    row = next(csv.DictReader(io.StringIO((tmp_path / "out" / "table.csv").read_text())))
    expected = {"private": "cifar10", "num_clients": "2", "alpha": "0.3", "lr": "0.05", "commit": "abc; def-dirty"}
    assert expected.items() <= row.items()


def test_a_varied_field_is_not_repeated_with_its_labels(tmp_path):
    rows = tabulated([write_run(tmp_path / str(i), lr=0.1 * i) for i in range(1, 8)]).values()
    [training] = [line for line in text.markdown([*rows], report.Options(), ()).splitlines() if "| local" in line]
    assert training.count("epochs") == 7 and "SCARLET" not in training


@pytest.mark.parametrize("name", ["=1+2", "+a", "-a", "@a", "$x^{$"])
def test_names_are_text_in_tables_and_pictures(tmp_path, name):
    """Of a run, and in a label: never a formula of a spreadsheet, and never mathematics in a picture."""
    paths = [write_run(tmp_path / name, data__private=name), write_run(tmp_path / "b", data__private="b")]
    report.write_report(paths, tmp_path / "out", report.Options(baseline=name))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "table.csv").read_text())))
    shown = name if name.startswith("$") else f"'{name}"
    assert [rows[0][column] for column in ("runs", "private", "baseline")] == [shown] * 3
    assert float(rows[0]["total_bytes_ratio"]) == 1 and rows[0]["seeds"] == "0"
    assert f"data.private={name}" in (tmp_path / "out" / "report.html").read_text()
