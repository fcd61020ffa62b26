"""Where compiled programs are kept, with which of JAX's settings, and when not. The accelerator is pretended."""

import json
import logging
import os
import stat

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from scarlet_jax.engine import phases
from scarlet_jax.preview import compiled
from scarlet_jax.runtime import hosts, program_cache

NAMES = list(program_cache.settings("any"))


def current():
    return {name: getattr(jax.config, name) for name in NAMES}


@pytest.fixture
def accelerator(monkeypatch, tmp_path):
    """The folder that holds what is compiled for it. JAX has been told of no other, as the suite's own."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    suite = jax.config.jax_compilation_cache_dir
    tell_jax(None)
    yield tmp_path.resolve() / "cache" / "scarlet_jax" / "programs"
    tell_jax(suite)


def tell_jax(folder):
    """Of a folder for what it compiles. JAX opens one once, and holds it."""
    jax.config.update("jax_compilation_cache_dir", folder)
    compilation_cache.reset_cache()


def test_on_an_accelerator_every_program_is_kept_where_only_this_user_can_write(accelerator):
    before = current()
    with program_cache.kept(True) as folder:
        assert folder.parent == accelerator
        assert current() == {
            "jax_compilation_cache_dir": str(folder),
            "jax_persistent_cache_min_compile_time_secs": 0,
            "jax_persistent_cache_min_entry_size_bytes": -1,
            "jax_persistent_cache_enable_xla_caches": "xla_gpu_per_fusion_autotune_cache_dir",
        }
        for place in (accelerator, folder, folder / "xla_gpu_per_fusion_autotune_cache_dir"):
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
        jax.block_until_ready(jax.jit(lambda x: x * 3)(jnp.ones(7)))
        assert list(folder.glob("jit_*")), "however small the program is"
    assert current() == before
    count = len(list(folder.glob("jit_*")))
    jax.block_until_ready(jax.jit(lambda x: x * 5)(jnp.ones(7)))
    assert len(list(folder.glob("jit_*"))) == count, "nothing is kept afterwards"


def test_another_version_has_another_folder(accelerator, monkeypatch):
    with program_cache.kept(True) as one:
        pass
    monkeypatch.setattr(program_cache.jaxlib.version, "__version__", "0.0.1")
    with program_cache.kept(True) as other:
        assert other.parent == one.parent and other != one


def test_nothing_is_kept_on_a_cpu_or_where_the_user_says_so(accelerator, monkeypatch):
    before = current()
    with program_cache.kept(False) as folder:
        assert folder is None and current() == before
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    with program_cache.kept(True) as folder:
        assert folder is None and current() == before
    assert not accelerator.exists()


def test_the_users_own_folder_is_left_to_jax(accelerator, tmp_path):
    tell_jax(str(tmp_path / "own"))
    before = current()
    with program_cache.kept(True) as folder:
        assert folder is None and current() == before
    assert not accelerator.exists()


@pytest.mark.parametrize("which", ["programs", "version", "autotuning", "program"])
def test_a_folder_in_which_others_could_have_written_is_not_used(accelerator, which, caplog):
    with program_cache.kept(True) as folder:
        (folder / "jit_step-0123-cache").touch()
    place = {
        "programs": accelerator,
        "version": folder,
        "autotuning": folder / program_cache.AUTOTUNING,
        "program": folder / "jit_step-0123-cache",
    }[which]
    place.chmod(0o777)
    before = current()
    with caplog.at_level(logging.WARNING), program_cache.kept(True) as found:
        assert found is None and current() == before
    [line] = caplog.messages
    assert line == f"compiled programs are not kept for later starts: everybody may write to {place}"


def test_a_folder_that_cannot_be_made_is_no_reason_not_to_train(accelerator, caplog):
    accelerator.parent.parent.write_text("no folder")
    with caplog.at_level(logging.WARNING), program_cache.kept(True) as found:
        assert found is None
    assert "compiled programs are not kept for later starts: " in caplog.text


@pytest.mark.parametrize("shared", [True, False])
def test_several_processes_keep_programs_only_in_a_folder_that_all_of_them_see(accelerator, monkeypatch, shared):
    monkeypatch.setattr(hosts, "several", lambda: True)
    monkeypatch.setattr(hosts, "largest", lambda value: value)
    monkeypatch.setattr(hosts, "from_first", lambda work: work() if shared else "mark-on-another-machine")
    with program_cache.kept(True) as folder:
        assert (folder is not None) == shared
    assert not list(accelerator.rglob("mark-*"))


def test_what_was_not_used_for_the_longest_time_is_removed(accelerator, monkeypatch):
    monkeypatch.setattr(program_cache, "MOST_BYTES", 1000)
    with program_cache.kept(True) as folder:
        for number, place in enumerate([folder / "a", folder / program_cache.AUTOTUNING / "b", folder / "c"]):
            place.write_bytes(bytes(400))
            os.utime(place, (number, number))
        os.utime(folder / "a", (10, 0))  # written first, read last
    names = sorted(path.name for path in accelerator.rglob("?"))
    assert names == ["a", "c"]


@pytest.fixture
def call():
    """Of a phase that has temporary memory, and a result in the place of an argument."""
    phase = phases.Phase("step", lambda x, y: (x @ x.T @ y, y + 1), donate_argnums=1)
    with phases.recording() as calls:
        phase(jnp.ones((64, 64)), jnp.ones((64, 64)))
    return next(iter(calls))


def test_a_kept_program_takes_the_memory_that_was_found_when_it_was_compiled(call, tmp_path, monkeypatch):
    (size,) = compiled.compile_all([call], kept=tmp_path)
    assert size == compiled.compile_all([call])[0] and size.temporary > 0 and size.name == "step"
    (record,) = tmp_path.iterdir()
    assert json.loads(record.read_text()) == list(size[1:])
    monkeypatch.setattr(compiled, "size_of", lambda name, program: compiled.Size(name, 1, 2, 3))
    assert compiled.compile_all([call], kept=tmp_path) == [size]
    record.write_text(record.read_text()[:5])
    assert compiled.compile_all([call], kept=tmp_path) == [("step", 1, 2, 3)], "a damaged record is made anew"
    assert json.loads(record.read_text()) == [1, 2, 3]


def test_a_loaded_program_tells_the_memory_of_the_compiled_one(call):
    """On this backend. JAX keeps programs in this form."""
    from jax.experimental import serialize_executable

    program = call.traced.lower().compile()
    loaded = serialize_executable.deserialize_and_load(*serialize_executable.serialize(program))
    assert compiled.size_of("step", loaded) == compiled.size_of("step", program)
