"""What the first screens of a run show, and what they do not."""

import logging
import re
import subprocess
import sys

import pytest

import scarlet_jax
from scarlet_jax.models.conv import api as conv
from scarlet_jax.models.conv.native import build
from tests.support.harness import ROOT, command, environment, flags, tiny


def shown(arguments, cache, **variables):
    """Exit code, and lines on stdout and stderr, with an empty cache unless it was used before."""
    done = subprocess.run(
        arguments, cwd=ROOT, env=environment() | {"XDG_CACHE_HOME": str(cache)} | variables, text=True,
        capture_output=True, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


def test_a_run_without_a_convolution_builds_none_and_writes_nothing_to_stderr(tmp_path):
    code, out, err = shown(command(tmp_path / "run", rounds=2), tmp_path / "cache")
    assert (code, err) == (0, [])
    assert out[:3] == ["starting JAX ...", out[1], f"workdir: {tmp_path / 'run'}"]
    assert [line.split("  ")[0] for line in out if line.startswith("round ")] == ["round 1/2", "round 2/2"]
    assert len(out) == len(set(out)), "no line twice"
    assert not list((tmp_path / "cache").rglob("native"))
    assert_stages(out)


def assert_stages(out):
    """Every stage up to the end of the first round has a line at its start, and one with its seconds at its end."""
    begun = [line.removesuffix(" ...") for line in out if line.endswith(" ...")]
    ended = [line for line in out if re.search(r" \(\d+\.\d s\)$", line) and not line.startswith("round ")]
    assert sorted(begun) == sorted(re.sub(r" \(\d+\.\d s\)$", "", line) for line in ended)
    assert all(out.index(f"{stage} ...") < out.index(end) for stage in begun for end in ended if end.startswith(stage))
    compiling = [match for stage in begun if (match := re.fullmatch(r"compiling (.+) \((\d+) of (\d+)\)", stage))]
    count = len(compiling)
    assert [(int(match[2]), int(match[3])) for match in compiling] == [(n, count) for n in range(1, count + 1)]
    names = {match[1] for match in compiling}
    assert len(names) == count and names >= {"init", "plan", "train mlp", "server", "evaluate mlp", "evaluate server"}
    assert [stage for stage in begun if not stage.startswith("compiling ")] == [
        "starting JAX", "loading the data", "building the programs", "checking the memory", "writing the partition",
        "moving the data to the devices", "making the models", "training round 1",
    ]  # fmt: skip


def test_a_message_has_no_prefix_and_comes_once(tmp_path):
    """Both ways of a convolution: it is built, or there is no compiler."""
    arguments = command(tmp_path / "run", rounds=1, model__client="cnn")
    if compiler := build.find_compiler():
        code, _, err = shown(arguments, tmp_path / "cache")
        assert (code, err) == (0, [f"building the native convolution with {compiler}: once, some seconds"])
    sweep = [sys.executable, "-m", "scarlet_jax.sweep", *flags(rounds=1, model__client="cnn", cache__duration=1)]
    sweep += ["--methods=scarlet,dsfl", f"--out={tmp_path / 'sweep'}"]
    code, out, err = shown(sweep, tmp_path / "cache", CXX="none")
    assert code == 0 and len(err) == 1
    assert err[0].startswith("no native convolution, which would be faster: there is no C++ compiler")
    places = [line for line in out if str(tmp_path / "sweep") in line]
    assert places[:2] == [f"workdir: {tmp_path / 'sweep' / name}" for name in ("scarlet-s0", "dsfl-s0")]


@pytest.mark.parametrize("fields", [{"rounds": 0}, {"method.beta": 1, "method.name": "dsfl"}])
def test_a_workdir_that_is_not_used_is_not_shown(tmp_path, fields):
    code, out, err = shown(command(tmp_path / "run", **fields), tmp_path / "cache")
    # What needs no jax is refused before it starts.
    assert (code, len(err)) == (1, 1) and not any(str(tmp_path) in line for line in out)
    assert out == [] or "method.name" in fields and len(out) == 2
    assert not (tmp_path / "run").exists()


def test_a_quiet_run_prints_nothing(tmp_path, capfd, quick_compilation):
    fields = {"rounds": 1, "profile_rounds": "0:1", "method.name": "dsfl", "cache.duration": 0, "comm.label_bits": 16}
    loud = scarlet_jax.run(tiny(**fields), tmp_path / "loud")
    assert "round 1/1" in capfd.readouterr().out
    for _ in range(2):  # trained, then found finished
        assert scarlet_jax.run(tiny(**fields), tmp_path / "quiet", quiet=True) == loud
        assert capfd.readouterr() == ("", "")


def test_a_quiet_run_still_warns(monkeypatch, caplog):
    monkeypatch.setattr(build, "problem", lambda: "it is not there")
    conv.works.cache_clear()
    with caplog.at_level(logging.WARNING, logger="scarlet_jax"):
        assert [conv.resolve_conv("auto", "cpu") for _ in range(3)] == ["cpu"] * 3
    conv.works.cache_clear()
    assert len(caplog.messages) == 1 and re.search("no native .*: it is not there", caplog.messages[0])
