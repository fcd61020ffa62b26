"""docs/api.md is true: its names are those of the package, its example runs as it stands."""

import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml

import scarlet_jax

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "api.md").read_text()
HEADINGS = dict(re.findall(r"^## `(\w+)(?:\((.*)\))?`$", PAGE, re.MULTILINE))


def test_the_page_has_every_public_name_and_no_other():
    assert sorted(HEADINGS) == sorted(scarlet_jax.__all__)


@pytest.mark.parametrize("name", [name for name, parameters in HEADINGS.items() if parameters])
def test_the_page_has_the_parameters(name):
    assert HEADINGS[name].split(", ") == list(inspect.signature(getattr(scarlet_jax, name)).parameters)


def test_names_are_listed_and_nothing_is_imported_before_it_is_used():
    code = (
        "import sys, scarlet_jax\n"
        "assert set(scarlet_jax.__all__) <= set(dir(scarlet_jax))\n"
        "scarlet_jax.UserError, scarlet_jax.get_config, scarlet_jax.load_run\n"
        "print('jax' in sys.modules)\n"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "False\n"
    with pytest.raises(AttributeError, match="no attribute 'lode_run'"):
        scarlet_jax.lode_run  # noqa: B018


def test_the_example_runs(tmp_path, monkeypatch, quick_compilation):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1], names)
    assert names["summary"]["complete"] and names["config"].method.name == "dsfl"
    assert names["probs"].shape == (5, 10)
    np.testing.assert_allclose(names["probs"].sum(1), 1, rtol=1e-5)
    assert names["run"].config["rounds"] == len(names["accuracy"]) == len(names["megabytes"]) == 3
    assert names["accuracy"][-1] == pytest.approx(names["summary"]["server_top1"])


def test_the_citation_is_the_readmes():
    readme = (ROOT / "README.md").read_text()
    bibtex = dict(re.findall(r"(\w+) +=\s+\{(.*)\}", readme))
    paper = yaml.safe_load((ROOT / "CITATION.cff").read_text())["preferred-citation"]
    authors = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    assert {
        "title": paper["title"], "author": authors, "journal": paper["journal"], "year": str(paper["year"]),
        "note": paper["notes"],
    } == bibtex  # fmt: skip
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert urls == {"Paper": paper["url"]}
