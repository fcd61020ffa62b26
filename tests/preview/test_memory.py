"""A run that does not fit is refused before it starts, with a chunk size that fits."""

import re

import jax
import pytest

import scarlet_jax
from scarlet_jax import build
from scarlet_jax.data import federation
from scarlet_jax.engine.feed import Feed, outline
from scarlet_jax.engine.layout import make_mesh
from scarlet_jax.errors import UserError
from scarlet_jax.preview import choices, compiled, memory
from tests.support.compiling import compiling_quickly
from tests.support.harness import starts, tiny

pytestmark = pytest.mark.usefixtures("quick_compilation")

# A hundred images a client: batches are full, and most of the memory.
MODEL = {"num_clients": 12, "clients_per_chunk": 12, "data.train_size": 1200}


@pytest.fixture(scope="module")
def needs():
    """Chunk size -> bytes, of compiled programs."""
    config, mesh = tiny(**MODEL), make_mesh(jax.devices()[:1])
    loaded = federation.load(config)

    def need(chunk):
        chosen = build.choose(config, mesh)._replace(chunks=(chunk,))
        algorithm = build.make_algorithm(config, loaded.data, loaded.num_classes, mesh, chosen)
        shapes = compiled.outline(algorithm, Feed(outline(loaded.data), algorithm.schedule, 0, mesh))
        return compiled.peak(shapes.resident, compiled.compile_all(shapes.calls[1:]))[0]

    with compiling_quickly():
        return {chunk: need(chunk) for chunk in (1, 4, 12)}


def test_larger_chunks_need_more(needs):
    assert needs[1] < needs[4] < needs[12]


def refused(needs, tmp_path, monkeypatch):
    """The chunk size that a refusal names, where half of what lies between 4 and 12 clients fits."""
    limit = (needs[4] + needs[12]) // 2
    monkeypatch.setattr(memory, "device_limit", lambda mesh: limit)
    with pytest.raises(UserError, match="clients_per_chunk is 12") as refusal:
        scarlet_jax.run(tiny(**MODEL, rounds=1), tmp_path / "run")
    return int(re.search(r"--config.clients_per_chunk=(\d+) fits", str(refusal.value))[1])


def test_the_sentence_names_a_chunk_size_between_one_that_fits_and_one_that_does_not(needs, tmp_path, monkeypatch):
    assert 4 <= refused(needs, tmp_path, monkeypatch) < 12


def test_a_run_with_the_chunk_size_that_a_refusal_names_fits(needs, tmp_path, monkeypatch):
    chunk = refused(needs, tmp_path, monkeypatch)
    summary = scarlet_jax.run(tiny(**MODEL | {"clients_per_chunk": chunk}, rounds=1), tmp_path / "run")
    assert summary["complete"], "and the refusal left nothing that is in the way"


def test_where_nothing_fits_it_says_so(needs, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "device_limit", lambda mesh: needs[1] - 1)
    with pytest.raises(UserError, match="even 1 does not fit"):
        scarlet_jax.run(tiny(**MODEL, rounds=1), tmp_path / "run")


def test_on_an_accelerator_the_largest_equal_part_of_the_clients_that_fits_is_chosen(
    needs, tmp_path, monkeypatch, capsys
):
    """Pretended, on this CPU: that it is an accelerator, and how much memory it has."""
    fields = MODEL | {"clients_per_chunk": 0}
    monkeypatch.setattr(choices, "fits_chunks", lambda config, mesh, before: "clients_per_chunk" not in before)
    whole = lambda config, mesh, before=(): before or (12,)  # noqa: E731
    monkeypatch.setattr(build, "choose_chunks", whole)
    limit = (needs[4] + needs[12]) / 2 / memory.USABLE
    monkeypatch.setattr(memory, "device_limit", lambda mesh: int(limit))
    scarlet_jax.run(tiny(**fields, rounds=1), tmp_path / "run")
    out = capsys.readouterr().out
    assert "clients_per_chunk: 4\n" in out and out.count("compiling train mlp (1 of 1) ...") == 2
    assert starts(tmp_path / "run")[-1]["choices"]["clients_per_chunk"] == {"mlp": 4}
    monkeypatch.setattr(build, "choose_chunks", lambda config, mesh, before=(): tuple(min(own, 3) for own in before))
    scarlet_jax.run(tiny(**fields, rounds=2), tmp_path / "run")
    out = capsys.readouterr().out
    assert "clients_per_chunk was 4 and is now 3: from here on, results agree up to rounding with those of the" in out
    assert "choosing" not in out and starts(tmp_path / "run")[-1]["choices"]["clients_per_chunk"] == {"mlp": 3}


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (220, "at most 6 (--config.clients_per_chunk=6 fits)"),
        (119, "none, even 1 does not fit: use more devices, "),
        (120, "at most 1 (--config.clients_per_chunk=1 fits)"),
    ],
)
def test_the_refusal_names_a_chunk_size_that_fits(limit, words):
    def need(chunk):
        return 100 + 20 * chunk

    with pytest.raises(UserError) as refusal:
        memory.check(need(12), "train mlp", limit, 12, need)
    start = "config.clients_per_chunk is 12, and phase 'train mlp' then needs 3.4e-07 GB on a device that has "
    assert str(refusal.value).startswith(start) and f"; allowed is {words}" in str(refusal.value)


@pytest.mark.parametrize("limit", [None, 340, 1000])
def test_what_fits_is_not_refused_and_nothing_more_is_compiled(limit):
    memory.check(340, "train mlp", limit, 12, lambda chunk: pytest.fail("compiled"))


@pytest.mark.parametrize("fixed", [0, 90, 600])
def test_the_chunk_size_fits_and_is_near_the_largest(fixed):
    for limit in range(10, fixed + 1300, 37):
        check_near_the_largest(limit, fixed)


def check_near_the_largest(limit, fixed):
    def need(chunk):
        return fixed + 20 * chunk + 5 * (chunk % 4)  # not quite a line, as layouts are not

    most = need(64)
    if most <= limit:
        return
    parts = sorted({-(-64 // number) for number in range(2, 65)})
    fits = memory.smaller_chunk(need, 64, most, limit)
    best = max((chunk for chunk in parts if need(chunk) <= limit), default=None)
    assert (fits is None) == (best is None)
    assert fits is None or (need(fits) <= limit and parts.index(fits) >= parts.index(best) - 1)


def test_a_cpu_has_a_limit_and_its_devices_share_it():
    mesh = make_mesh(jax.devices()[:1])
    assert 1e8 < memory.device_limit(mesh) < 1e14
