"""The cache of decoded images: used when intact, rebuilt when not, never trusted half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from scarlet_jax.data import disk_cache
from scarlet_jax.data.record import Images, Source


def a_source(seed: int = 0, name: str = "toy") -> Source:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (30, 4, 4, 3), dtype=np.uint8)
    label = rng.integers(0, 3, 30).astype(np.int32)
    return Source(name, "1", "made up", image[:20], label[:20], image[20:], label[20:], 3, ("a", "b", "c"))


def check_equal(one: Source, other: Source) -> None:
    for a, b in zip(one, other, strict=True):
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        else:
            assert a == b


class Decoder:
    """Counts how often it is asked."""

    def __init__(self, source: Source) -> None:
        self.source, self.calls = source, 0

    def __call__(self) -> Source:
        self.calls += 1
        return self.source


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, ...]:
    path = tmp_path / "source.bin"
    path.write_bytes(b"some bytes")
    return (path,)


def entries(cache: Path) -> list[Path]:
    return sorted(cache.iterdir())


def test_decodes_once(tmp_path, files):
    decode = Decoder(a_source())
    for _ in range(3):
        check_equal(disk_cache.cached(tmp_path / "cache", "toy", "1", files, decode), a_source())
    assert decode.calls == 1
    assert len(entries(tmp_path / "cache")) == 1


@pytest.mark.parametrize("change", ["size", "time", "version", "name"])
def test_a_changed_source_is_decoded_anew(tmp_path, files, change):
    disk_cache.cached(tmp_path / "cache", "toy", "1", files, Decoder(a_source(0)))
    name, version = ("other" if change == "name" else "toy"), ("2" if change == "version" else "1")
    if change == "size":
        state = files[0].stat()
        files[0].write_bytes(b"some other bytes")
        os.utime(files[0], ns=(state.st_atime_ns, state.st_mtime_ns))
    if change == "time":
        os.utime(files[0], ns=(1, 1))
    decode = Decoder(a_source(1, name))
    check_equal(disk_cache.cached(tmp_path / "cache", name, version, files, decode), a_source(1, name))
    assert decode.calls == 1


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip_bit(path: Path) -> None:
    blob = bytearray(path.read_bytes())
    blob[-1] ^= 1
    path.write_bytes(blob)


def alter_shape(path: Path) -> None:
    meta = json.loads(path.read_text())
    meta["arrays"]["train_image"]["shape"][0] = 19
    path.write_text(json.dumps(meta))


@pytest.mark.parametrize(
    "file,damage",
    [
        ("train_image.npy", truncate),
        ("train_image.npy", flip_bit),
        ("test_label.npy", Path.unlink),
        ("train_label.npy", lambda path: path.write_bytes(b"")),
        ("meta.json", truncate),
        ("meta.json", alter_shape),
        ("meta.json", lambda path: path.write_text("{}")),
        ("meta.json", Path.unlink),
    ],
)
def test_damage_is_noticed_and_repaired(tmp_path, files, file, damage):
    cache, decode = tmp_path / "cache", Decoder(a_source())
    disk_cache.cached(cache, "toy", "1", files, decode)
    damage(entries(cache)[0] / file)
    check_equal(disk_cache.cached(cache, "toy", "1", files, decode), a_source())
    assert decode.calls == 2
    check_equal(disk_cache.cached(cache, "toy", "1", files, decode), a_source())
    assert decode.calls == 2
    assert len(entries(cache)) == 1


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, files, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")  # stops root too, unlike permissions
    decode = Decoder(a_source())
    check_equal(disk_cache.cached(blocked / "cache", "toy", "1", files, decode), a_source())
    assert decode.calls == 1
    assert "cannot write" in caplog.text


def test_a_failed_decoding_leaves_nothing(tmp_path, files):
    def fail() -> Source:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        disk_cache.cached(tmp_path / "cache", "toy", "1", files, fail)
    assert not (tmp_path / "cache").exists()


def test_concurrent_preparations_agree(tmp_path, files):
    results: list[Source] = []
    barrier = threading.Barrier(6)

    def work() -> None:
        barrier.wait()
        for _ in range(3):
            results.append(disk_cache.cached(tmp_path / "cache", "toy", "1", files, a_source))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 18
    for result in results:
        check_equal(result, a_source())
    assert len(entries(tmp_path / "cache")) == 1


CHILD = """
import sys, time
from pathlib import Path
import numpy as np
from scarlet_jax.data import disk_cache as store
from scarlet_jax.data.record import Source
save = np.save
def slow(path, array):
    save(path, array)
    print("saved", flush=True)
    time.sleep(60)
np.save = slow
image, label = np.zeros((4, 2, 2, 1), np.uint8), np.zeros(4, np.int32)
source = Source("toy", "1", "", image, label, image, label, 1, ())
store.cached(Path(sys.argv[1]), "toy", "1", (Path(sys.argv[2]),), lambda: source)
"""


def test_a_killed_preparation_is_not_trusted_and_later_swept(tmp_path, files):
    cache = tmp_path / "cache"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(cache), str(files[0])],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"saved\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    (left,) = entries(cache)
    assert left.name.startswith(".tmp-")
    check_equal(disk_cache.cached(cache, "toy", "1", files, a_source), a_source())
    old = time.time() - 2 * 24 * 3600
    os.utime(left, (old, old))
    disk_cache.cached(cache, "toy", "2", files, a_source)
    assert not left.exists()
    assert len(entries(cache)) == 2


def as_images(source: Source, block: int, fail_at: int | None = None) -> Source:
    """The same source, its images decoded in blocks; decoding fails at image `fail_at`."""

    def lazy(array: np.ndarray) -> Images:
        def blocks():
            for start in range(0, len(array), block):
                if fail_at is not None and start >= fail_at:
                    raise RuntimeError("broken")
                yield array[start : start + block]

        return Images(array.shape, blocks)

    return source._replace(train_image=lazy(source.train_image), test_image=lazy(source.test_image))


@pytest.mark.parametrize("block", [1, 7, 100])
def test_images_decoded_in_blocks_are_the_same(tmp_path, files, block, caplog):
    for _ in range(2):  # written, then read
        check_equal(
            disk_cache.cached(tmp_path / "cache", "toy", "1", files, lambda: as_images(a_source(), block)), a_source()
        )
    assert not caplog.records  # the checksum over blocks is the one over the whole file
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    check_equal(
        disk_cache.cached(blocked / "cache", "toy", "1", files, lambda: as_images(a_source(), block)), a_source()
    )


def test_a_decoding_that_fails_half_way_leaves_nothing(tmp_path, files):
    with pytest.raises(RuntimeError, match="broken"):
        disk_cache.cached(tmp_path / "cache", "toy", "1", files, lambda: as_images(a_source(), 5, fail_at=10))
    assert entries(tmp_path / "cache") == []
    check_equal(disk_cache.cached(tmp_path / "cache", "toy", "1", files, a_source), a_source())


STREAM = """
import sys, time
from pathlib import Path
import numpy as np
from scarlet_jax.data import disk_cache as store
from scarlet_jax.data.record import Images, Source
def blocks():
    for i in range(100):
        yield np.full((1, 2, 2, 1), i, np.uint8)
        if i == 50:
            print("half", flush=True)
            time.sleep(60)
label = np.zeros(100, np.int32)
images = Images((100, 2, 2, 1), blocks)
source = Source("toy", "1", "", images, label, np.zeros((0, 2, 2, 1), np.uint8), label[:0], 1, ())
store.cached(Path(sys.argv[1]), "toy", "1", (Path(sys.argv[2]),), lambda: source)
"""


def test_a_process_killed_while_decoding_leaves_nothing_that_is_trusted(tmp_path, files):
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", STREAM, str(cache), str(files[0])]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert child.stdout is not None
    assert child.stdout.readline() == b"half\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    (left,) = entries(cache)
    assert left.name.startswith(".tmp-")
    decode = Decoder(a_source())
    check_equal(disk_cache.cached(cache, "toy", "1", files, decode), a_source())
    assert decode.calls == 1
