"""Our TFDS builders: every published layout, what is in it, and one sentence for what is wrong with it."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from scarlet_jax.data import builders, prepared
from tests.support import data_fakes as fakes
from tests.support import published_fakes as published
from tests.support.data_fakes import load, refusal

FOLDERS = {"tiny_imagenet": published.write_tiny_imagenet, "caltech256": published.write_caltech256}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("published")
    return {name: write(root / builders.PUBLISHED[name].folder) for name, write in FOLDERS.items()}


def pixels(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)


@pytest.mark.parametrize("form", ["zip", "tar.gz", "folder"])
def test_tiny_imagenet(tmp_path, folders, form):
    folder = folders["tiny_imagenet"]
    published.pack(folder, form, tmp_path / "data")
    source = load("tiny_imagenet", tmp_path)
    files = sorted((folder / "train").glob("*/images/*.JPEG"))
    assert len(files) == 400
    np.testing.assert_array_equal(source.train_image, np.stack([pixels(file) for file in files]))
    assert [source.class_names[label] for label in source.train_label] == [file.parts[-3] for file in files]
    annotations = [line.split("\t") for line in (folder / "val" / "val_annotations.txt").read_text().splitlines()]
    annotations.sort()
    np.testing.assert_array_equal(
        source.test_image, np.stack([pixels(folder / "val" / "images" / name) for name, *_ in annotations])
    )
    assert [source.class_names[label] for label in source.test_label] == [wnid for _, wnid, *_ in annotations]
    assert source.num_classes == 200 and source.class_names == tuple(published.WNIDS)


@pytest.mark.parametrize("form", ["tar", "zip", "folder"])
def test_caltech256_as_a_public_pool(tmp_path, folders, form):
    folder = folders["caltech256"]
    published.pack(folder, form, tmp_path / "data")
    source = load("caltech256", tmp_path, labelled=False, size=(16, 12))
    files = sorted(folder.glob("*/*.jpg"))
    assert len(files) == 258 and source.train_image.shape == (258, 16, 12, 3)
    assert source.num_classes == 257 and source.train_label[-2:].tolist() == [256, 256]
    assert [source.class_names[label] for label in source.train_label] == [file.parent.name for file in files]
    # Every file has one shade, which averaging areas keeps.
    shades = np.stack([pixels(file)[0, 0] for file in files])
    np.testing.assert_array_equal(source.train_image, np.broadcast_to(shades[:, None, None], source.train_image.shape))


def test_images_of_many_sizes_cannot_be_private(tmp_path, folders):
    published.pack(folders["caltech256"], "folder", tmp_path / "data")
    assert "private images must have one size" in refusal("caltech256", tmp_path)


def test_tfds_reads_what_was_prepared_and_tensorflow_is_never_imported(tmp_path, folders):
    """TFDS itself, in a process without our package, agrees with our decoding."""
    published.pack(folders["tiny_imagenet"], "zip", tmp_path / "data")
    source = load("tiny_imagenet", tmp_path)
    np.save(tmp_path / "ours.npy", source.test_image)
    code = (
        "import sys, numpy as np, tensorflow_datasets as tfds\n"
        "builder = tfds.builder_from_directory(sys.argv[1])\n"
        "records = sorted(builder.as_data_source('validation'), key=lambda record: record['id'])\n"
        "np.testing.assert_array_equal(np.stack([r['image'] for r in records]), np.load(sys.argv[2]))\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    folder = prepared.locate("tiny_imagenet", tmp_path / "data")
    subprocess.run([sys.executable, "-c", code, str(folder), str(tmp_path / "ours.npy")], check=True)


def test_a_download_is_checked_and_prepared(tmp_path, folders, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    archive = published.pack(folders["caltech256"], "tar", tmp_path / "www")
    options = {"labelled": False, "size": (8, 8)}
    with fakes.serve(tmp_path / "www") as (url, _):
        assert "checksum" in refusal("caltech256", tmp_path, base_url=url, **options)
        source = load("caltech256", tmp_path, base_url=url, md5=fakes.md5(archive), **options)
    assert len(source.train_image) == 258


def test_nothing_there_and_no_network_is_one_sentence(tmp_path):
    sentence = refusal("tiny_imagenet", tmp_path)
    assert "tiny-imagenet-200.zip" in sentence and "--config.data.dir" in sentence


def cut(path: Path, keep: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])


@pytest.mark.parametrize("name,form", [("tiny_imagenet", "zip"), ("tiny_imagenet", "tar.gz"), ("caltech256", "tar")])
def test_a_cut_archive_is_named(tmp_path, folders, name, form):
    path = published.pack(folders[name], form, tmp_path / "data")
    cut(path)
    assert str(path) in refusal(name, tmp_path)
    assert prepared.locate(name, tmp_path / "data") is None


def test_a_damaged_member_is_named(tmp_path, folders):
    path = published.pack(folders["tiny_imagenet"], "zip", tmp_path / "data")
    blob = bytearray(path.read_bytes())
    at = blob.index(f"{published.WNIDS[3]}_1.JPEG".encode()) + 200  # inside the file that follows its name
    blob[at] ^= 0xFF
    path.write_bytes(blob)
    sentence = refusal("tiny_imagenet", tmp_path)
    assert f"{published.WNIDS[3]}_1.JPEG" in sentence and str(path) in sentence


def test_a_damaged_member_of_a_compressed_tar_is_named(tmp_path, folders):
    """Its pictures can all be read: only the checksum at the archive's end gives the damage away."""
    path = published.pack(folders["caltech256"], "tar.gz", tmp_path / "data")
    blob = bytearray(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=0))
    blob[blob.index(b"the published folder has such a file")] ^= 1
    path.write_bytes(blob)
    sentence = refusal("caltech256", tmp_path, labelled=False, size=(8, 8))
    assert str(path) in sentence and "CRC" in sentence


def test_an_archive_is_read_from_its_beginning_to_its_end(tmp_path, folders, monkeypatch):
    """Going back in a compressed one means to unpack it anew: once for each of 800 files, if read by name."""
    folder = folders["tiny_imagenet"]
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "data" / f"{folder.name}.tar.gz", "w:gz", compresslevel=1) as archive:
        for path in sorted(folder.rglob("*.*"), reverse=True):  # another order than that of the names
            archive.add(path, f"{folder.name}/{path.relative_to(folder)}")
    rewind, times = gzip._GzipReader._rewind, []
    monkeypatch.setattr(gzip._GzipReader, "_rewind", lambda self: (times.append(1), rewind(self))[1])
    assert len(load("tiny_imagenet", tmp_path).train_image) == 400
    assert 0 < len(times) < 12


def test_an_archive_that_is_not_the_published_one_is_told(tmp_path, folders, monkeypatch, caplog):
    """Plain tar has no checksums of its own."""
    archive = published.pack(folders["caltech256"], "tar", tmp_path / "data")
    builders.prepare("caltech256", tmp_path / "data")
    assert str(archive) in caplog.text and "MD5" in caplog.text
    caplog.clear()
    form = builders.PUBLISHED["caltech256"]._replace(md5=fakes.md5(archive))
    monkeypatch.setitem(builders.PUBLISHED, "caltech256", form)
    (tmp_path / "again").mkdir()
    archive.rename(tmp_path / "again" / archive.name)
    builders.prepare("caltech256", tmp_path / "again")
    assert "MD5" not in caplog.text


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def hole(path: Path) -> None:
    """A JPEG that begins and ends as it should."""
    blob = path.read_bytes()
    path.write_bytes(blob[:200] + blob[-100:])


W = published.WNIDS
FAULTS = {
    "no list of classes": ("tiny_imagenet", lambda f: (f / "wnids.txt").unlink(), "wnids.txt"),
    "a class less": ("tiny_imagenet", lambda f: edit(f / "wnids.txt", W[7] + "\n", ""), "lists 199 classes"),
    "no images of a class": (
        "tiny_imagenet", lambda f: [p.unlink() for p in (f / "train" / W[9]).rglob("*.JPEG")], f"of class {W[9]}",
    ),
    "a cut image": ("tiny_imagenet", lambda f: cut(f / "train" / W[5] / "images" / f"{W[5]}_0.JPEG"), f"{W[5]}_0.JPEG"),
    "no image at all": ("tiny_imagenet", lambda f: (f / "val/images/val_4.JPEG").write_text("hello"), "val_4.JPEG"),
    "a missing image": ("tiny_imagenet", lambda f: (f / "val/images/val_4.JPEG").unlink(), "val_4.JPEG"),
    "an unknown class": (
        "tiny_imagenet", lambda f: edit(f / "val/val_annotations.txt", W[2], "n1"), "line 198 names class 'n1'",
    ),
    "no annotation": (
        "tiny_imagenet", lambda f: edit(f / "val/val_annotations.txt", "val_8.JPEG", "val_9.JPEG"), "val_8.JPEG",
    ),
    "damage inside a picture": (
        "caltech256", lambda f: hole(f / "002.thing-2" / "002_0001.jpg"), "002.thing-2/002_0001.jpg",
    ),
    "no clutter": ("caltech256", lambda f: [p.unlink() for p in (f / "257.clutter").iterdir()], "257.<name>"),
    "a cut picture": ("caltech256", lambda f: cut(f / "001.ak47" / "001_0001.jpg"), "001.ak47/001_0001.jpg"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_missing_or_damaged_is_named(tmp_path, folders, fault):
    name, damage, words = FAULTS[fault]
    damage(published.pack(folders[name], "folder", tmp_path / "data"))
    sentence = refusal(name, tmp_path, labelled=False, size=(8, 8))
    assert words in sentence and str(tmp_path / "data") in sentence
    assert prepared.locate(name, tmp_path / "data") is None


def test_a_jpeg_with_padding_behind_its_end_is_whole(tmp_path, folders):
    folder = published.pack(folders["caltech256"], "folder", tmp_path / "data")
    path = folder / "001.ak47" / "001_0001.jpg"
    path.write_bytes(path.read_bytes() + bytes(10))
    assert len(load("caltech256", tmp_path, labelled=False, size=(8, 8)).train_image) == 258


def test_two_that_prepare_at_once(tmp_path, folders):
    published.pack(folders["caltech256"], "tar", tmp_path / "data")
    code = (
        "import sys, pathlib\nfrom scarlet_jax.data import sources\nroot = pathlib.Path(sys.argv[1])\n"
        "one = sources.load_source('caltech256', root / 'data', root / 'cache', labelled=False, size=(8, 8))\n"
        "assert len(one.train_image) == 258\n"
    )
    codes: list[int] = []

    def work() -> None:
        codes.append(
            subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2]).returncode
        )

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0, 0]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_catalog_builder_that_needs_tensorflow_says_how_to_prepare_it(tmp_path, monkeypatch):
    """A builder of the catalog whose download has no network, or whose images need TensorFlow, ends in a sentence."""
    import tensorflow_datasets as tfds

    def fails(*args, **kwargs):
        raise ImportError("Failed importing TensorFlow.\nmore lines")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fails)
    sentence = refusal("fashion_mnist", tmp_path)
    assert "tfds build fashion_mnist --file_format=array_record" in sentence and "TensorFlow is needed" in sentence


KILLED = """
import sys, time, pathlib
from scarlet_jax.data import sources
from scarlet_jax.data.builders import layout
image, count = layout.Files.image, 0
def slow(self, name):
    global count
    count += 1
    if count == 50:
        print("fifty", flush=True, file=sys.__stdout__)
        time.sleep(60)
    return image(self, name)
layout.Files.image = slow
root = pathlib.Path(sys.argv[1])
sources.load_source("caltech256", root / "data", root / "cache", labelled=False, size=(8, 8))
"""


def test_a_killed_preparation_is_begun_anew(tmp_path, folders):
    published.pack(folders["caltech256"], "tar", tmp_path / "data")
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert child.stdout is not None
    assert child.stdout.readline() == b"fifty\n"
    child.kill()
    child.wait()
    child.stdout.close()
    assert prepared.locate("caltech256", tmp_path / "data") is None
    (left,) = (tmp_path / "data" / "caltech256").iterdir()
    old = time.time() - 2 * 24 * 3600
    os.utime(left, (old, old))
    assert len(load("caltech256", tmp_path, labelled=False, size=(8, 8)).train_image) == 258
    assert prepared.names(tmp_path / "data") == ["caltech256"]
    assert not left.exists(), "it is of no use, and no longer somebody's work"


@pytest.mark.usefixtures("quick_compilation")
def test_a_federation_of_tiny_imagenet_with_caltech256_trains(tmp_path, folders):
    import scarlet_jax
    from configs.small import tiny_imagenet

    for folder in folders.values():
        published.pack(folder, "folder", tmp_path / "data")
    config = tiny_imagenet.get_config()
    small = {
        "rounds": 2, "num_clients": 4, "public_size": 40, "public_per_round": 20, "data.train_size": 0,
        "data.test_size": 0, "model.client": "mlp", "model.server": "mlp", "model.conv": "xla", "cache.duration": 1,
        "data.dir": str(tmp_path / "data"), "data.cache_dir": str(tmp_path / "cache"),
    }  # fmt: skip
    config.update_from_flattened_dict(small)
    summary = scarlet_jax.run(config, tmp_path / "run")
    assert summary["complete"] and summary["rounds"] == 2 and summary["headline"] == "top5"
    assert len(list((tmp_path / "cache").iterdir())) == 2
