"""Data sets prepared by TFDS that are made to hurt: refused in a sentence and in bounded memory."""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from scarlet_jax.data import prepared
from tests.support import data_fakes as fakes
from tests.support.data_fakes import load, refused


def a_prepared_set(tmp_path: Path) -> Path:
    records = [(f"{i:03d}", np.full((6, 5, 3), i, np.uint8), i % 3) for i in range(12)]
    fakes.write_prepared("toy", tmp_path / "data", {"train": records, "test": records[:3]})
    return tmp_path / "data" / "toy" / "1.0.0"


def rewrite(path: Path, change: Callable[[dict], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def replace_by(kind: str) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.write_text(kind)

    return change


JSONS = [
    "[]", "3", '"text"', "null", '{"a": ', "[" * 100_000, '{"splits": 3, "featuresDict": {"features": []}}',
    '{"featuresDict": {"features": {"image": 3, "label": []}}}', " " * (1 << 25), "\x00\x01", "pipe", "folder",
]  # fmt: skip


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("kind", JSONS, ids=lambda kind: repr(kind[:12]))
@pytest.mark.parametrize("labelled", [True, False])
def test_a_description_that_is_none(tmp_path, file, kind, labelled):
    folder = a_prepared_set(tmp_path)
    replace_by(kind)(folder / file)
    sentence = refused("toy", tmp_path, labelled=labelled, size=None if labelled else (4, 4))
    assert "toy" in sentence


def feature_of(folder: Path, name: str, change: Callable[[dict], object]) -> None:
    rewrite(folder / "features.json", lambda value: change(value["featuresDict"]["features"][name]))


def a_png_of(width: int, height: int) -> Callable[[str, np.ndarray], tuple[bool, np.ndarray]]:
    good = cv2.imencode

    def encode(form: str, image: np.ndarray) -> tuple[bool, np.ndarray]:
        blob = bytearray(good(form, image)[1].tobytes())
        blob[16:24] = struct.pack(">II", width, height)
        return True, np.frombuffer(bytes(blob), np.uint8)

    return encode


DESCRIPTIONS: dict[str, tuple[Callable[[Path], object], str]] = {
    "more images than bytes": (
        lambda f: rewrite(f / "dataset_info.json", lambda v: v["splits"][0].update(shardLengths=["40000000000"])),
        "more than its files have bytes",
    ),
    "a hundred billion classes": (
        lambda f: feature_of(f, "label", lambda v: v.update(classLabel={"numClasses": "100000000000"})), "classes",
    ),
    "a label beyond the classes": (
        lambda f: feature_of(f, "label", lambda v: v.update(classLabel={"numClasses": "2"})),
        "a label is 2, and 2 classes are declared",
    ),
    "no classes": (lambda f: feature_of(f, "label", lambda v: v.update(classLabel={})), "classes"),
    "many classes of another feature": (
        lambda f: rewrite(
            f / "features.json",
            lambda v: v["featuresDict"]["features"].update(x={"class_label": {"num_classes": 10**9}}),
        ),
        "classes",
    ),
    "a text of 32 MB": (lambda f: (f / "label.labels.txt").write_text("a\n" * (1 << 24)), "33,554,432 bytes"),
    "a pipe": (lambda f: os.mkfifo(f / "toy-train.array_record-00001-of-00002"), "named pipe"),
    "names of 5,000 letters": (
        lambda f: (f / "label.labels.txt").write_text("\n".join(c * 5000 for c in "abc")), "more than 200 letters",
    ),
    "images of four channels": (
        lambda f: feature_of(
            f, "image", lambda v: v["image"].update(shape={"dimensions": ["-1", "-1", "4"]})
        ),
        "4 channels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_a_description_that_lies(tmp_path, kind):
    change, words = DESCRIPTIONS[kind]
    load_once = tmp_path / "other"
    a_prepared_set(load_once)
    load("toy", load_once)  # what is imported does not count
    change(a_prepared_set(tmp_path))
    assert words in refused("toy", tmp_path)


def test_an_image_that_states_four_gigapixels(tmp_path, monkeypatch):
    load_once = tmp_path / "other"
    a_prepared_set(load_once)
    load("toy", load_once)
    monkeypatch.setattr(cv2, "imencode", a_png_of(65_000, 65_000))
    a_prepared_set(tmp_path)
    assert "65,000x65,000 pixels" in refused("toy", tmp_path)


@pytest.mark.parametrize("key", ["pythonClassName", "python_class_name", "type"])
@pytest.mark.parametrize("name", ["payload.Feature", "tensorflow_datasets.payload.Feature", "os.path.Feature"])
@pytest.mark.parametrize("where", ["image", "extra", "top"])
def test_no_module_that_a_description_names_is_imported(tmp_path, monkeypatch, key, name, where):
    (tmp_path / "payload.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    folder = a_prepared_set(tmp_path)

    def change(value: dict) -> None:
        features = value["featuresDict"]["features"]
        part = value if where == "top" else features.setdefault(where, {"text": {}})
        part.pop("pythonClassName", None)
        part[key] = name

    rewrite(folder / "features.json", change)
    sentence = refused("toy", tmp_path)
    assert name in sentence and "import" in sentence
    assert "payload" not in sys.modules and "tensorflow_datasets.payload" not in sys.modules


@pytest.mark.parametrize(
    "name", ["x" * 5000, "x" * 5000 + ".npz", "a/" * 2000, "two\nlines", "$a$", "..", "a/../b", "=1"]
)
def test_a_name_of_a_data_set(tmp_path, name):
    refused(name, tmp_path)
    assert prepared.locate(name, tmp_path) is None
