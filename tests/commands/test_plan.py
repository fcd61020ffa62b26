"""The command that plans bytes: what it prints, writes and refuses."""

import csv
import subprocess
import sys

import pytest
from absl import flags

from configs import base
from scarlet_jax.build import make_planner
from scarlet_jax.commands import plan
from scarlet_jax.errors import UserError
from scarlet_jax.protocol.planner import Shares
from tests.support.planning import planned

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def few_variants(monkeypatch):
    monkeypatch.setattr(plan, "DURATIONS", (0, 4))
    monkeypatch.setattr(plan, "PARTICIPATIONS", (1.0,))


def command(capsys, *args, config=None):
    """Output of the command, run in this process."""
    flag_values = flags.FlagValues()
    plan.define_flags(flag_values)
    flag_values(["plan", *args])
    plan.main(config or planned(), "configs/digits.py", flag_values)
    return capsys.readouterr().out


def test_the_command_prints_both_ledgers_and_writes_every_round(capsys, tmp_path, few_variants):
    path = tmp_path / "plan.csv"
    out = command(capsys, f"--csv={path}")
    assert "D = 2 rounds" in out and "reference ledger" in out and "wire ledger" in out and "2*" in out
    result = make_planner(planned(), 10).run()
    with open(path) as file:
        rows = list(csv.DictReader(file))
    assert [int(row["round"]) for row in rows] == list(range(10))
    assert [int(row["downlink_bytes_wire"]) for row in rows] == result.downlink_bytes["wire"].tolist()
    before = path.read_text()
    with pytest.raises(UserError, match="not overwritten"):
        command(capsys, f"--csv={path}")
    assert path.read_text() == before
    with pytest.raises(UserError, match="no directory"):
        command(capsys, f"--csv={tmp_path / 'nowhere' / 'plan.csv'}")


def test_it_says_whose_participants_are_planned(capsys, tmp_path, few_variants):
    (tmp_path / "ids.txt").write_text("0 2 4\n" * 10)
    given = planned(**{"sampling.by": "given", "sampling.file": str(tmp_path / "ids.txt")})
    out = command(capsys, config=given)
    assert f"participants are those of {tmp_path / 'ids.txt'}; for another M they are drawn" in out
    assert "caught up" not in out, "the same clients take part in every round"
    drawn = command(capsys, "--notable")
    assert "participants are those" not in drawn and "caught up" in drawn


def test_the_number_of_classes():
    config = base.get_config()
    assert plan.class_count(config, None) == 10
    assert plan.class_count(config, 7) == 7
    with pytest.raises(UserError, match="num_classes"):
        plan.class_count(config, 1)
    config.data.private = "images.npz"
    with pytest.raises(UserError, match="--num_classes=C"):
        plan.class_count(config, None)


def test_an_invalid_config_is_refused(capsys):
    with pytest.raises(UserError, match="public_per_round"):
        command(capsys, config=planned(public_per_round=37))


def test_help_needs_no_jax():
    code = "import sys, scarlet_jax.plan; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(("shares", "method"), [(Shares(1.2, 1.0), "selective_fd"), (Shares(0.5, 1.0), "dsfl")])
def test_shares_that_cannot_be(shares, method, capsys):
    with pytest.raises(UserError, match="inlier_share"):
        command(capsys, f"--inlier_share={shares.inlier}", config=planned(**{"method.name": method}))
