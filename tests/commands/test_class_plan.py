"""What `scarlet plan` prints for a method that exchanges knowledge by class, and what it refuses."""

import csv

import pytest
from absl import flags

from scarlet_jax import build
from scarlet_jax.commands import class_plan, plan
from scarlet_jax.errors import UserError
from tests.support.harness import tiny


def command(capsys, config, *args):
    """Output of the command, run in this process."""
    flag_values = flags.FlagValues()
    plan.define_flags(flag_values)
    flag_values(["plan", *args])
    plan.main(config, "configs/digits.py", flag_values)
    return capsys.readouterr().out


def of(name, **fields):
    return tiny(method__name=name, cache__duration=None, **fields)


def test_the_command_prints_both_ledgers_and_writes_every_round(capsys, tmp_path):
    path = tmp_path / "plan.csv"
    out = command(capsys, of("fedproto"), "--classes_per_client=3", f"--csv={path}")
    assert "a vector of 128 float32" in out and "holds 3 of the classes" in out and "M = 4*" in out
    result = build.make_class_planner(of("fedproto"), 10, (8, 8, 1), 3).run()
    with open(path) as file:
        rows = list(csv.DictReader(file))
    for ledger in ("reference", "wire"):
        assert [int(row[f"uplink_bytes_{ledger}"]) for row in rows] == result.uplink_bytes[ledger].tolist()
        assert [int(row[f"downlink_bytes_{ledger}"]) for row in rows] == result.downlink_bytes[ledger].tolist()
    assert [int(row["round"]) for row in rows] == [0, 1, 2, 3]
    assert "over participants" not in command(capsys, of("fd"), "--notable")


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        (
            "dsfl",
            ["--classes_per_client=2"],
            r"--classes_per_client is 2, but method dsfl exchanges .*; leave it out\.",
        ),
        ("fd", ["--classes_per_client=11"], r"--classes_per_client is 11; allowed is 1 to 10, .*\."),
        ("fedproto", ["--feature_size=0"], r"--feature_size is 0; allowed is a whole number of at least 1\."),
        ("fedavg", ["--feature_size=5"], r"--feature_size is 5, but method fedavg exchanges no vectors .*\."),
        ("fd", ["--kept_share=0.5"], r"--kept_share is 0\.5, but method fd does not select samples; leave it out\."),
    ],
)
def test_flags_without_use_are_refused(capsys, name, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        command(capsys, of(name), *arguments)


def test_images_of_unknown_size_ask_for_the_number_of_features():
    config = of("fedproto", data__private="mine.npz")
    assert class_plan.make_planner(config, 3, None, None).vector == 128, "an mlp has as many for every size"
    config.model.client = "cnn"
    with pytest.raises(UserError, match=r"images of 'mine\.npz' is not known .*: add --feature_size=d\."):
        class_plan.make_planner(config, 3, None, None)
    assert class_plan.make_planner(config, 3, None, 12).vector == 12
    config.method.name = "fd"
    assert class_plan.make_planner(config, 3, None, None).vector == 3
