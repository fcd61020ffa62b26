"""The picture of the architecture is that of the source."""

import re
from pathlib import Path

from tools import draw_architecture

ROOT = Path(__file__).parents[2]
PICTURE = draw_architecture.PICTURE.read_text()


def test_the_committed_picture_is_up_to_date():
    assert draw_architecture.render() == PICTURE, "run python -m tools.draw_architecture"


def test_every_room_is_in_the_picture_and_on_the_page():
    packages = {path.parent.name for path in (ROOT / "scarlet_jax").glob("*/__init__.py")} - {"configs"}  # the cards
    titles = set(re.findall(r'font-weight="bold">([^<]*)<', PICTURE))
    assert packages <= titles
    assert packages <= set(re.findall(r"^\| `(\w+)", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE))
