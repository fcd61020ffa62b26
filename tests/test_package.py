"""What `import scarlet_jax` gives, in a new process: that it is little, and how a notebook finds the rest."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

import scarlet_jax

ROOT = Path(__file__).parents[1]


def test_dir_lists_what_is_exported_and_imports_nothing():
    code = "import json, sys, scarlet_jax; print(json.dumps([dir(scarlet_jax), 'jax' in sys.modules]))"
    listed, imported = json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT))
    assert set(scarlet_jax.__all__) == {"run", "load_server", "UserError"} <= set(listed) and not imported
    for name in scarlet_jax.__all__:
        assert getattr(scarlet_jax, name).__name__ == name


def test_the_readmes_example_runs(tmp_path, monkeypatch, capfd, quick_compilation):
    """As it stands, in an empty folder, in fewer rounds; nothing is printed by its quiet run."""
    monkeypatch.chdir(tmp_path)
    from configs import digits

    get_config = digits.get_config

    def short():
        config = get_config()
        config.rounds, config.epochs, config.kd_epochs = 1, 1, 1
        config.model.client = config.model.server = "mlp"
        return config

    monkeypatch.setattr(digits, "get_config", short)
    section = (ROOT / "README.md").read_text().split("## In Python")[1]
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", section, re.DOTALL)[1], names)
    assert capfd.readouterr() == ("", "")
    assert names["summary"]["complete"] and (tmp_path / "runs" / "notebook" / "summary.json").exists()
    assert names["probs"].shape == (3, 10) and names["probs"].dtype == np.float32
    np.testing.assert_allclose(names["probs"].sum(1), 1, rtol=1e-5)
