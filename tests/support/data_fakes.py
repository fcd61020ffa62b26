"""Small data sets in the published forms, and a server to fetch them from."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import json
import pickle
import struct
import tarfile
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scarlet_jax.data import sources
from scarlet_jax.data.archives import PUBLISHED
from scarlet_jax.data.record import Source
from scarlet_jax.errors import UserError

NOWHERE = "http://127.0.0.1:9/"  # the discard port: nothing listens


def load(name: str, tmp_path: Path, **options) -> Source:
    """Load from folders under `tmp_path`, with a download that fails unless `base_url` says otherwise."""
    return sources.load_source(name, tmp_path / "data", tmp_path / "cache", **({"base_url": NOWHERE} | options))


def refusal(name: str, tmp_path: Path, **options) -> str:
    """The one sentence with which loading `name` is refused."""
    with pytest.raises(UserError) as error:
        load(name, tmp_path, **options)
    sentence = str(error.value)
    assert "\n" not in sentence
    return sentence


BOUND = 48 << 20  # bytes; far more than any of these files needs, far less than any of them asks for


def refused(name: str, tmp_path: Path, **options) -> str:
    """The sentence of a refusal that took little memory."""
    tracemalloc.start()
    try:
        sentence = refusal(name, tmp_path, **options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < BOUND, f"{peak:,} bytes"
    assert len(sentence.splitlines()) == 1 and sentence.endswith(".") and len(sentence) < 1500, sentence
    assert "trust" not in sentence and "allow_pickle" not in sentence
    return sentence


class _Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes text and bytes as Python 2's one string type, as in the published files."""

    dispatch = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_string(self, value: str | bytes) -> None:
        blob = value.encode() if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(blob)) + blob)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def python2_pickle(value: object) -> bytes:
    """What Python 2 and the NumPy of its day would have written."""
    stream = io.BytesIO()
    _Python2Pickler(stream, protocol=2).dump(value)
    return stream.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def write_folder(name: str, directory: Path, per_file: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """The published folder of `name`, as Python 2 keys it; returns (u8[n, 32, 32, 3], i64[n]) of the training part."""
    form = PUBLISHED[name]
    folder = directory / form.folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    images, labels = [], []
    for file in (*form.train, form.test):
        image = rng.integers(0, 256, (per_file, 32, 32, 3), dtype=np.uint8)
        label = rng.integers(0, form.num_classes, per_file)
        rows = image.transpose(0, 3, 1, 2).reshape(per_file, 3072)
        batch = {b"data": rows, form.label_key.encode(): label.tolist()}
        (folder / file).write_bytes(python2_pickle(batch))
        if file in form.train:
            images.append(image)
            labels.append(label)
    names = [f"class {i}".encode() for i in range(form.num_classes)]
    (folder / form.meta).write_bytes(python2_pickle({form.names_key.encode(): names}))
    return np.concatenate(images), np.concatenate(labels)


def write_archive(name: str, directory: Path, scratch: Path) -> tuple[np.ndarray, np.ndarray]:
    """The published archive of `name` in `directory`; returns what `write_folder` does."""
    form = PUBLISHED[name]
    arrays = write_folder(name, scratch)
    directory.mkdir(parents=True, exist_ok=True)
    with tarfile.open(directory / form.archive, "w:gz") as archive:
        archive.add(scratch / form.folder, form.folder)
    return arrays


def md5(path: Path) -> str:
    """Of a file, in hexadecimal."""
    return hashlib.md5(path.read_bytes()).hexdigest()


@contextlib.contextmanager
def serve(directory: Path, cut: int | None = None) -> Iterator[tuple[str, list[str]]]:
    """(base URL, paths asked for) of a server on this machine; with `cut` it hangs up after so many bytes."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            path = directory / self.path.lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            blob = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(blob)))
            self.end_headers()
            self.wfile.write(blob[:cut])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_prepared(name: str, directory: Path, splits: dict[str, list[tuple[str, np.ndarray, int]]]) -> None:
    """A data set as TFDS prepares it, from splits of (id, u8[H, W, channels], label) in the order on disk."""
    import cv2
    from array_record.python import array_record_module
    from tensorflow_datasets.proto import tf_example_generated_pb2 as proto

    folder = directory / name / "1.0.0"
    folder.mkdir(parents=True)
    infos = []
    for split, records in splits.items():
        path = folder / f"{name}-{split}.array_record-00000-of-00001"
        writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
        for identifier, image, label in records:
            example = proto.Example()
            feature = example.features.feature
            feature["id"].bytes_list.value.append(identifier.encode())
            encoded = cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()  # OpenCV's colours are in reverse
            feature["image"].bytes_list.value.append(encoded)
            feature["label"].int64_list.value.append(label)
            writer.write(example.SerializeToString())
        writer.close()
        size = str(path.stat().st_size)
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        shards = [str(len(records))]
        infos.append({"filepathTemplate": template, "name": split, "numBytes": size, "shardLengths": shards})
    info = {"name": name, "version": "1.0.0", "fileFormat": "array_record", "moduleName": "toy", "splits": infos}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    shape = [str(size) for size in next(iter(splits.values()))[0][1].shape]
    feature_module = "tensorflow_datasets.core.features"
    features = {
        "id": {"pythonClassName": f"{feature_module}.text_feature.Text", "text": {}},
        "image": {
            "pythonClassName": f"{feature_module}.image_feature.Image",
            "image": {"dtype": "uint8", "encodingFormat": "png", "shape": {"dimensions": ["-1", "-1", shape[2]]}},
        },
        "label": {
            "pythonClassName": f"{feature_module}.class_label_feature.ClassLabel",
            "classLabel": {"numClasses": "3"},
        },
    }
    top = {
        "pythonClassName": f"{feature_module}.features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }
    (folder / "features.json").write_text(json.dumps(top))
