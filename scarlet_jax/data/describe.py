"""The partition of a run, written for people: arrays, a table and a picture."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from scarlet_jax import names, texts, types
from scarlet_jax import paths as folders
from scarlet_jax.data.federation import Federation

_FILES = ("partition.npz", "partition.csv", "partition.png")
_LONG = 25  # rows of a table that is printed whole
_LEAST_BUBBLE = 8.0  # points: smaller bubbles would be dots, and a heat map is drawn instead
MOST_CELLS = 1000  # of a heat map in each direction: about as many as its pixels


def histogram(split: types.Split, label: np.ndarray, num_classes: int) -> np.ndarray:
    """i64[K, C]: images of each class that each client has in `split`."""
    table = np.zeros((len(split.size), num_classes), np.int64)
    for row, index, size in zip(table, np.asarray(split.rows), np.asarray(split.size), strict=True):
        row += np.bincount(np.asarray(label)[index[:size]], minlength=num_classes)
    return table


def text(federation: Federation) -> str:
    """The data sets, the classes and the clients of a federation, for people."""
    data, classes = federation.data, federation.class_names
    height, width, channels = federation.image_shape
    lines = [f"{role}: {names.of_file(of['name'])} ({of['origin']})" for role, of in federation.sources.items()]
    lines += [
        f"images of {height}x{width} pixels, {channels} {'channel' if channels == 1 else 'channels'}, "
        f"{federation.num_classes} classes",
        f"{len(data.private_image):,} private, {len(data.test_image):,} of test, "
        + (f"{len(data.public_image):,} public" if len(data.public_image) else "none public: the method uses none")
        + (f" and {len(data.public_val_image):,} public for validation" if len(data.public_val_image) else ""),
        f"loaded in {federation.seconds:.1f} s",
    ]
    counts = {split: np.asarray(getattr(data, split).size) for split in ("train", "val", "test")}
    held = histogram(data.train, data.private_label, federation.num_classes)  # [K, C]
    columns = {
        "private": np.bincount(data.private_label, minlength=federation.num_classes),
        "training": held.sum(0),
        "test": np.bincount(data.test_label, minlength=federation.num_classes),
    }
    rows = [
        [_cell(classes[i]), *(int(column[i]) for column in columns.values())] for i in range(federation.num_classes)
    ]
    lines += ["", *_table(["class", *columns], rows)]
    clients = np.stack([counts["train"], counts["val"], counts["test"], (held > 0).sum(1), held.max(1)], 1)  # [K, 5]
    head = ["client", "training", "validation", "test", "classes", "largest"]
    lines += ["", *_table(head, [[str(i), *row.tolist()] for i, row in enumerate(clients)])]
    if empty := int((counts["train"] == 0).sum()):
        lines += ["", f"{empty} of {len(clients)} clients have no training images"]
    return "\n".join(lines)


def _cell(name: str) -> str:
    """A class name of any length or form in a table for people."""
    return names.in_sentence(name, most=40).strip("'\"")


def _table(head: list[str], rows: list[list[Any]]) -> list[str]:
    """Lines of a table whose first column is a name; a long one is cut to its extremes and quartiles."""
    if len(rows) > _LONG:
        head = [f"{len(rows)} by {head[0]}", *head[1:]]
        marks = {"smallest": 0, "first quarter": 25, "median": 50, "third quarter": 75, "largest": 100}
        table = np.array([row[1:] for row in rows])
        rows = [[name, *(f"{x:g}" for x in np.percentile(table, share, axis=0))] for name, share in marks.items()]
    return texts.table(head, [[str(cell) for cell in row] for row in rows])


def write_partition(federation: Federation, workdir: str | os.PathLike[str]) -> None:
    """Write `partition.npz`, `partition.csv` and `partition.png` into `workdir`, each complete or not at all.

    The .npz holds, per split (train, val, test), `<split>_index` i32[K, n_max], `<split>_size` i32[K] and
    `<split>_histogram` i64[K, C]; and `private_rows`, `test_rows`, `public_rows`, `public_val_rows`, which lead from
    the indices back to rows of the data sets. The .csv has a row per client and split: its size, and the images of
    each class.
    """
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    data = federation.data
    labels = {"train": data.private_label, "val": data.private_label, "test": data.test_label}
    arrays: dict[str, np.ndarray] = {}
    for name, label in labels.items():
        split: types.Split = getattr(data, name)
        arrays[f"{name}_index"], arrays[f"{name}_size"] = np.asarray(split.rows), np.asarray(split.size)
        arrays[f"{name}_histogram"] = histogram(split, np.asarray(label), federation.num_classes)
    for name in ("private_rows", "test_rows", "public_rows", "public_val_rows"):
        arrays[name] = getattr(federation, name)
    arrays["class_names"] = np.array(federation.class_names)
    with _atomic(workdir / "partition.npz") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)

    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["client", "split", "size", *map(names.in_csv, federation.class_names)])
    for client in range(len(data.train.size)):
        for name in labels:
            counts = arrays[f"{name}_histogram"][client].tolist()
            table.writerow([client, name, int(arrays[f"{name}_size"][client]), *counts])
    with _atomic(workdir / "partition.csv") as file:
        file.write(text.getvalue().encode())

    with _atomic(workdir / "partition.png") as file:
        draw(file, arrays["train_histogram"], arrays["val_size"], federation)


def partition_written(workdir: Path) -> bool:
    """Whether all that `write_partition` writes is there."""
    paths = [workdir / name for name in _FILES]
    return all(path.exists() and path.stat().st_size for path in paths)  # a crash of the system may leave them empty


def draw(file: BinaryIO, train: np.ndarray, val_size: np.ndarray, federation: Federation) -> None:
    """Number of training images per client and class, as bubbles or as a heat map; above it the clients' sizes."""
    # No pyplot: its global state must not be touched off the main thread.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    clients, classes = train.shape
    width, height = min(6.0 + 0.09 * clients, 16.0), min(3.6 + 0.22 * classes, 14.0)
    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    bars, bubbles = figure.subplots(2, 1, sharex=True, height_ratios=[1, max(1.5, min(0.3 * classes, 6.0))])
    blue, orange = "#0072B2", "#E69F00"  # of Okabe and Ito's palette: told apart with every kind of colour vision
    total, position = train.sum(axis=1), np.arange(clients)
    stacked = [(total, 0 * total, blue, "training")]
    if val_size.any():
        stacked.append((val_size, total, orange, "validation"))
    for number, below, colour, label in stacked:
        if clients <= 100:
            bars.bar(position, number, bottom=below, color=colour, width=0.8, label=label)
        else:  # one outline: single bars, about as wide as a pixel, would be drawn as stripes
            edges = np.arange(clients + 1) - 0.5
            bars.stairs(below + number, edges, baseline=below, fill=True, color=colour, label=label)
    if val_size.any():
        bars.legend(frameon=False, fontsize="small", ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    bars.set_ylabel("images")
    name = names.in_picture(Path(federation.sources["private"]["name"]).name)
    bars.set_title(f"Private images of {clients} clients: {name}, {int(total.sum()):,} for training", loc="left")

    # The largest bubble just touches its neighbours: the cell's smaller side, in points, is its diameter.
    cell = min(0.85 * width / max(clients, 8), 0.6 * height / max(classes, 4)) * 72
    if cell < _LEAST_BUBBLE:
        _heat_map(figure, bubbles, train)
    else:
        _bubbles(bubbles, train, cell, blue)
    bubbles.set(xlabel="client", ylabel="class", xlim=(-0.7, clients - 0.3), ylim=(classes - 0.4, -0.6))
    if classes <= 20:
        bubbles.set_yticks(range(classes), map(names.in_picture, federation.class_names))
    bubbles.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (bars, bubbles):
        axes.spines[["top", "right"]].set_visible(False)
    bubbles.grid(axis="y", linewidth=0.3, alpha=0.5)
    bubbles.set_axisbelow(True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a letter that the font lacks is drawn as a box
        figure.savefig(file, format="png")


def _bubbles(axes: Any, train: np.ndarray, diameter: float, colour: str) -> None:
    """A bubble per client and class; `diameter` is that of the largest, in points."""
    most = max(int(train.max(initial=0)), 1)
    scale = diameter**2 / most
    rows, columns = np.nonzero(train)
    axes.scatter(rows, columns, s=np.maximum(train[rows, columns] * scale, 0.3), color=colour, linewidths=0)
    for count in sorted({max(1, most // 10), max(1, most // 2), most}):
        axes.scatter([], [], s=count * scale, color=colour, linewidths=0, label=f"{count:,}")
    axes.legend(title="images", frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), labelspacing=1.2)


def _heat_map(figure: Any, axes: Any, train: np.ndarray) -> None:
    """A cell per client and class, white where there is no image; neighbours share a cell where there are too many."""
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    clients, classes = train.shape
    table = train.T
    for axis in (0, 1):
        together = -(-table.shape[axis] // MOST_CELLS)
        starts = np.arange(0, table.shape[axis], together)
        table = np.maximum.reduceat(table, starts, axis=axis)  # the largest: a mean would hide what is rare
    most = max(int(table.max(initial=0)), 2)
    blues = LinearSegmentedColormap.from_list("blues", ["#a6cbe6", "#0072B2", "#00263d"])
    image = axes.imshow(
        np.ma.masked_equal(table, 0), cmap=blues, norm=LogNorm(1, most), aspect="auto",
        interpolation="nearest", extent=(-0.5, clients - 0.5, classes - 0.5, -0.5),
    )  # fmt: skip
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=30, pad=0.01, format="{x:,g}")
    bar.minorticks_off()
    bar.set_ticks(
        [digit * 10**power for power in range(9) for digit in (1, 3) if digit * 10**power < most / 1.5] + [most]
    )
    bar.set_label("images" if table.size == train.size else "images, most of the neighbours in a cell")


@contextlib.contextmanager
def _atomic(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when it is complete."""
    with folders.beside(path) as aside:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
