"""Flags of the command that trains which contradict each other: refused before jax is asked for devices."""

import pytest
from absl import flags

from scarlet_jax.commands import train
from scarlet_jax.errors import UserError
from scarlet_jax.runtime import backend
from tests.support.harness import tiny


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cards=H100"], r"--cards is H100, .*: add --dry_run\.$"),
        (["--dry_run", "--coordinator=a:1", "--num_processes=2", "--process_id=0"], r"--dry_run is for one process"),
        (["--coordinator=a:1"], r"--num_processes and --process_id missing"),
    ],
)
def test_contradictions_are_one_sentence(arguments, words, monkeypatch):
    monkeypatch.setattr(backend, "find_devices", lambda: pytest.fail("devices were looked for"))
    monkeypatch.setattr(backend, "prepare", lambda *arguments: None)
    flag_values = flags.FlagValues()
    train.define_flags(flag_values)
    flag_values(["launch.py", *arguments])
    with pytest.raises(UserError, match=words) as refusal:
        train.main(tiny(), "configs/digits.py", flag_values)
    assert "\n" not in str(refusal.value)
