import json
import logging
import shutil

import numpy as np
import pytest

import scarlet_jax
from configs import digits
from scarlet_jax.data import federation
from scarlet_jax.errors import UserError
from scarlet_jax.runtime import checkpoint_record
from tests.support.compiling import compiled_programs, compiling_quickly

ROUNDS = 4


def small():
    config = digits.get_config()
    config.rounds, config.num_clients, config.public_size, config.public_per_round = ROUNDS, 3, 60, 30
    config.epochs = config.kd_epochs = config.checkpoint.every = 1
    config.data.train_size, config.data.test_size, config.model.client = 150, 100, "mlp"
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The workdir of a finished run, checkpoints after rounds 3 and 4; its server has BatchNorm."""
    path = tmp_path_factory.mktemp("predictor") / "run"
    with compiling_quickly():
        scarlet_jax.run(small(), path)
    return path


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def contents(path):
    return {p.relative_to(path): (p.stat().st_mtime_ns, p.stat().st_size) for p in path.rglob("*")}


def test_top1_is_the_summarys(finished):
    before = contents(finished)
    server = scarlet_jax.load_server(finished)
    data = federation.load(small())
    probs = server(data.data.test_image)
    assert contents(finished) == before  # nothing written, nothing tidied up
    assert probs.shape == (len(data.data.test_label), 10) and probs.dtype == np.float32
    np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-5)
    right = np.argmax(probs, 1) == data.data.test_label
    summary = json.loads((finished / "summary.json").read_text())
    assert np.sum(right) / len(right) == summary["server_top1"]
    assert server.rounds == ROUNDS
    assert server.class_names == data.class_names and server.image_shape == (8, 8, 1)


def test_any_number_of_images_and_one_compilation(finished):
    server = scarlet_jax.load_server(finished, batch_size=4)
    images = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 1), np.uint8)
    whole = server(images)
    compiled: list[str] = []
    with compiled_programs(compiled.append):
        for n in (0, 1, 4, 5, 11):
            assert np.array_equal(server(images[:n]), whole[:n])
    assert compiled == []
    assert np.array_equal(server(images[..., 0]), whole)


@pytest.mark.parametrize("shape", [(8, 8), (2, 9, 8), (2, 8, 8, 3), (8, 8, 1), (2, 32, 32, 3), (64,), ()])
def test_wrong_shapes_are_refused(finished, shape):
    with pytest.raises(UserError) as refusal:
        scarlet_jax.load_server(finished)(np.zeros(shape, np.uint8))
    one = "; of one image, give image[None]" if shape in ((8, 8), (8, 8, 1)) else ""
    assert str(refusal.value) == (f"images have the shape {list(shape)}; allowed is [n, 8, 8, 1] or [n, 8, 8]{one}.")


def test_one_image_in_colour(finished):
    server = scarlet_jax.load_server(finished)
    server.image_shape = (32, 32, 3)
    for shape, one in (((32, 32, 3), True), ((32, 32), False), ((1, 32, 32), False)):
        with pytest.raises(UserError, match=r"allowed is \[n, 32, 32, 3\]") as refusal:
            server(np.zeros(shape, np.uint8))
        assert str(list(shape)) in str(refusal.value) and ("image[None]" in str(refusal.value)) == one


def test_images_of_different_shapes_are_refused(finished):
    with pytest.raises(UserError, match="different shapes"):
        scarlet_jax.load_server(finished)([np.zeros((8, 8), np.uint8), np.zeros((9, 9), np.uint8)])


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
def test_wrong_types_are_refused(finished, dtype):
    with pytest.raises(UserError, match="allowed is uint8"):
        scarlet_jax.load_server(finished)(np.zeros((1, 8, 8, 1), dtype))


def damage(step):
    """Change the bytes in the middle of the server's arrays."""
    files = [p for p in (step / "server").rglob("*") if p.is_file() and p.parent.name == "d"]
    for path in files:
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 8] = bytes(255 - b for b in content[middle : middle + 8])
        path.write_bytes(content)


def test_a_damaged_checkpoint_is_named_and_skipped(copy, caplog):
    newest, older = (copy / "checkpoints" / str(n) for n in (ROUNDS, ROUNDS - 1))
    damage(newest)
    before = contents(copy)
    with caplog.at_level(logging.WARNING):
        server = scarlet_jax.load_server(copy)
    assert server.rounds == ROUNDS - 1
    assert f"{newest} is damaged" in caplog.text
    assert contents(copy) == before
    (older / "record" / "metadata").unlink()
    with pytest.raises(UserError, match=r"no checkpoint that can be read; tried \[4, 3\]"):
        scarlet_jax.load_server(copy)


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied"),
        OSError(5, "Input/output error"),
        ValueError("DATA_LOSS: Error reading local file \"/run/d/1\" [os_error_code='5']"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_is_not_skipped_for_an_older_model(copy, monkeypatch, error):
    read = checkpoint_record.read
    newest = copy / "checkpoints" / str(ROUNDS)

    def refuse(directory):
        if directory == newest:
            raise error
        return read(directory)

    monkeypatch.setattr(checkpoint_record, "read", refuse)
    with pytest.raises(UserError, match=rf"checkpoint {newest} cannot be read \(.*; this is no damage"):
        scarlet_jax.load_server(copy)


def test_the_rounds_are_those_of_the_model_and_not_of_its_folder(copy):
    shutil.copytree(copy / "checkpoints" / str(ROUNDS - 1), copy / "checkpoints" / str(ROUNDS + 9))
    assert scarlet_jax.load_server(copy).rounds == ROUNDS - 1


def test_contents_that_were_not_written_are_noticed(copy):
    # Arrays of another round, each file whole: only the recorded digest tells.
    newest, older = (copy / "checkpoints" / str(n) for n in (ROUNDS, ROUNDS - 1))
    shutil.rmtree(newest / "server")
    shutil.copytree(older / "server", newest / "server")
    assert scarlet_jax.load_server(copy).rounds == ROUNDS - 1


def test_a_checkpoint_being_written_is_not_looked_at(copy):
    newest = copy / "checkpoints" / str(ROUNDS)
    newest.rename(newest.with_name(f"{ROUNDS}.orbax-checkpoint-tmp"))
    assert scarlet_jax.load_server(copy).rounds == ROUNDS - 1
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(UserError, match="no checkpoint yet"):
        scarlet_jax.load_server(copy)
    assert not (copy / "checkpoints").exists()


def test_not_a_run(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="is not the directory of a run"):
            scarlet_jax.load_server(path)
    assert not (tmp_path / "nowhere").exists()
