"""Names from users and files where they are shown: sentences, CSV cells, pictures."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scarlet_jax import names, types
from scarlet_jax.data import describe
from scarlet_jax.data.federation import Federation

HOSTILE = ["$x^{$", r"\$\frac$", "a$b$c", "_$", "x" * 5000, "two\nlines", "=1+2", "-sum(A1)", "@cmd", "\tx", "é", ""]


@pytest.mark.parametrize("name", ["=1+2", "+A1", "-A1", "@x", "\t=1", " =1", "\r=1", "-1+1", "=", "-"])
def test_a_name_that_a_spreadsheet_would_compute_is_escaped(name):
    assert names.in_csv(name) == "'" + name


@pytest.mark.parametrize("name", ["cat", "0", "-1", "+2.5", "-.5e-3", "3=4", "a-b", "", "dsfl+cache"])
def test_other_names_and_numbers_are_not(name):
    assert names.in_csv(name) == name


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_in_a_sentence_is_short_and_on_one_line(name):
    assert len(names.in_sentence(name)) <= 100 and len(names.in_sentence(name).splitlines()) == 1
    assert names.in_sentence("cifar10") == "'cifar10'"
    assert len(names.in_sentence(ValueError(name))) <= 100


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_drawn_letter_by_letter(name):
    from matplotlib.text import Text

    figure = Figure()
    FigureCanvasAgg(figure)
    drawn = figure.text(0.5, 0.5, names.in_picture(name))
    figure.canvas.draw()
    text, math = Text._preprocess_math(drawn, drawn.get_text())
    assert not math
    if len(name) < 30:
        assert text == " ".join(name.split())


def federation_of(class_names: tuple[str, ...], data_set: str) -> Federation:
    count, classes = 24, len(class_names)
    image, label = np.zeros((count, 4, 4, 1), np.uint8), (np.arange(count) % classes).astype(np.int32)
    split = types.Split(np.arange(count, dtype=np.int32).reshape(2, -1), np.full(2, count // 2, np.int32))
    data = types.Data(
        image, label, image, label, image, image[:0], split, types.Split(split.rows, 0 * split.size), split
    )
    rows = np.arange(count)
    sources = {"private": {"name": data_set, "version": "", "origin": "file"}}
    return Federation(data, classes, (4, 4, 1), class_names, rows, rows, rows, rows[:0], sources, 0.0)


@pytest.mark.parametrize("data_set", ["my$data$.npz", "$.npz", "x" * 300 + "$$.npz"])
def test_a_partition_with_hostile_names_is_drawn_and_tabulated(tmp_path, data_set):
    federation = federation_of((*HOSTILE[:-1], "名"), data_set)
    describe.write_partition(federation, tmp_path)
    assert (tmp_path / "partition.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "partition.csv").open(newline="") as file:
        head, *rows = csv.reader(io.StringIO(file.read()))
    assert head[3:] == [names.in_csv(name) for name in (*HOSTILE[:-1], "名")]
    assert "'=1+2" in head and all(len(row) == len(head) for row in rows)
    lines = describe.text(federation).splitlines()
    assert max(map(len, lines)) < 500
