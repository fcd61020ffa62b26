"""The command that reports runs."""

import subprocess
import sys

import pytest

from scarlet_jax.commands import report as command
from tests.support.report_runs import write_run


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["{a}", "{a}2"], "There is no run {a}2: no such directory."),
        (["{folder}"], "{folder} is not a run: it has no config.json; it holds runs, so give {folder}/*."),
        (["{a}", "{b}"], "{a} and {b} have the same config and the same seed: give one of them."),
        (["{a}", "--baseline=dsfl"], "The baseline 'dsfl' is not among the runs"),
        (["{a}", "--targets=0.3,x"], "--targets takes accuracies divided by commas, as in 0.3,0.4, not '0.3,x'."),
        (["{a}", "--targets=30"], "The target 30 is not an accuracy: it must be above 0 and at most 1."),
        (["{a}", "--ledger=paper"], "The ledger is 'paper'; it must be one of reference, wire."),
        (["{a}", "--uplink-mbps=3"], "Hours of transmission need both --uplink-mbps and --downlink-mbps."),
        (["{a}", "--uplink-mbps=3", "--downlink-mbps=0"], "--downlink-mbps is 0; a speed must be above 0."),
        (["{a}", "--tragets=0.3"], "Unrecognized arguments: --tragets=0.3; --help lists what there is."),
        ([], "The following arguments are required: RUN_DIR"),
    ],
)
def test_refusals_are_one_sentence(tmp_path, capsys, arguments, sentence):
    folder = tmp_path / "runs"
    names = {"folder": folder, "a": write_run(folder / "a"), "b": write_run(folder / "b")}
    out = tmp_path / "out"
    assert command.main([*(arg.format(**names) for arg in arguments), f"--out={out}"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(sentence.format(**names)) and error.count("\n") == 1
    assert not out.exists()


def test_command_is_instant(tmp_path):
    """As a program: the table on the screen, and neither jax nor a run's files touched."""
    run = write_run(tmp_path / "f", "centralized", up=None, down=None, clients=())
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    code = (
        "import sys; from scarlet_jax.commands.report import main; code = main(sys.argv[1:]);"
        "print('jax' in sys.modules, 'matplotlib.pyplot' in sys.modules); sys.exit(code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(run), str(run), f"--out={tmp_path / 'out'}", "--targets=0.4"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("False False\n") and "| Centralized | 1 | 3 | 0.4000 |" in result.stdout
    assert {path.stem for path in (tmp_path / "out").glob("*.png")} == {"overview", "accuracy_rounds"}
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before
