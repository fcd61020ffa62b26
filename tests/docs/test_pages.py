"""The Python of README and docs runs as it stands, each page by itself, in an empty folder.

The word after `python` says what a block is: `file=PATH`, a module of the package; `entry=MODULE:TABLE`, entries of a
table; nothing, statements that run after those above them.
"""

import importlib
import re
import sys
import types
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {str(path.relative_to(ROOT)): path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}


class Block(NamedTuple):
    kind: str  # "file", "entry" or ""
    where: str
    text: str
    line: int


def blocks(page: str) -> list[Block]:
    text = PAGES[page].read_text()
    found = re.finditer(r"^```python(?: (file|entry)=(\S+))?\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [Block(m[1] or "", m[2] or "", m[3], text[: m.start(3)].count("\n")) for m in found]


def module_of(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


class Page:
    """Executes the blocks of a page; what it adds to the program goes with `monkeypatch`."""

    def __init__(self, monkeypatch):
        self.monkeypatch, self.names, self.modules = monkeypatch, {}, {}

    def run(self, page: str) -> None:
        for block in blocks(page):
            # Line numbers of the page, so that a traceback points into it.
            code = compile("\n" * block.line + block.text, page, "exec") if block.kind != "entry" else None
            if block.kind == "file":
                assert not (ROOT / block.where).exists(), f"{block.where} is a file of the package"
                module = types.ModuleType(module_of(block.where))
                self.monkeypatch.setitem(sys.modules, module.__name__, module)
                exec(code, module.__dict__)
                self.modules |= vars(module)
            elif block.kind == "entry":
                owner, _, table = block.where.partition(":")
                module = importlib.import_module(owner)
                for key, value in eval(f"{{{block.text}}}", vars(module) | self.modules).items():
                    assert key not in getattr(module, table)
                    self.monkeypatch.setitem(getattr(module, table), key, value)
            else:
                exec(code, self.names)


@pytest.fixture
def page(monkeypatch, tmp_path, quick_compilation):
    monkeypatch.chdir(tmp_path)
    return Page(monkeypatch)


@pytest.mark.parametrize("name", [name for name in PAGES if blocks(name)])
def test_the_python_of_a_page_runs(name, page, capsys):
    page.run(name)


def test_pages_that_show_how_to_add_something_are_executed():
    """A block whose fence was misspelt would be skipped in silence."""
    assert {"README.md"} | {f"docs/adding_a_{thing}.md" for thing in ("method", "model", "data_set", "metric")} <= {
        name for name in PAGES if blocks(name)
    }
    for name, path in PAGES.items():
        assert path.read_text().count("```python") == len(blocks(name)), name


def test_the_methods_of_readme_and_page_are_one(page):
    """README shows a shorter form of the page's method; both give the same labels."""
    import jax
    import numpy as np

    from scarlet_jax.protocol.round import Uploads

    made = []
    for name in ("README.md", "docs/adding_a_method.md"):
        block = next(block for block in blocks(name) if "def confident" in block.text)
        names: dict = {}
        exec(block.text, names)
        key = jax.random.key(0)
        probs = jax.nn.softmax(jax.random.normal(key, (3, 5, 4)))
        sent = np.arange(15).reshape(3, 5) % 4 > 0
        uploads = Uploads(probs, sent, 0, key, np.arange(5), np.arange(3))
        state, _ = names["confident"](1.5).aggregate((), uploads)
        made.append(np.asarray(state.target))
    weight = np.where(sent, np.asarray(probs).max(-1) ** 1.5, 0)[..., None]
    expected = (weight * np.asarray(probs)).sum(0) / weight.sum(0)
    np.testing.assert_allclose(made[0], expected, rtol=1e-5)
    np.testing.assert_array_equal(made[0], made[1])


def test_a_new_method_runs_with_groups_and_refuses_what_it_does_not_have(page, tmp_path):
    import scarlet_jax
    from scarlet_jax.options.rules import validate
    from tests.support.harness import rows, tiny

    page.run("docs/adding_a_method.md")
    config = tiny(
        rounds=3, participation=0.75, model__client="mlp:2,cnn:2", method__name="confident", cache__duration=1
    )
    scarlet_jax.run(config, tmp_path / "groups")
    history = rows(tmp_path / "groups")
    assert len(history) == 3 and all(row["server_kd_loss"] > 0 for row in history)
    config.method.beta = 2.0
    with pytest.raises(scarlet_jax.UserError, match="confident has method.power"):
        validate(config)
    config.method.beta, config.method.power = None, -1.0
    with pytest.raises(
        scarlet_jax.UserError, match=r"method.power is -1.0; allowed is open \(None\) or a number from 0"
    ):
        validate(config)


def test_links_lead_to_files_and_headings():
    for name, path in PAGES.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
            if "://" in target:
                continue
            file, _, heading = target.partition("#")
            other = path if not file else (path.parent / file).resolve()
            assert other.exists(), f"{name}: {target}"
            if heading:
                titles = re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)
                assert heading in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}, target


def test_readme_is_short():
    assert len(PAGES["README.md"].read_text().splitlines()) <= 150


def test_every_page_is_listed_in_readme():
    listed = set(re.findall(r"\]\((docs/[^)#]+\.md)\)", PAGES["README.md"].read_text()))
    assert listed == {name for name in PAGES if name != "README.md"} | {"docs/results/README.md"}
