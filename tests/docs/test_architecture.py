"""The picture of the architecture is that of the source."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PICTURE = (ROOT / "docs" / "images" / "architecture.svg").read_text()


def test_the_committed_picture_is_up_to_date():
    done = subprocess.run(
        [sys.executable, "tools/draw_architecture.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_every_room_is_in_the_picture_and_on_the_page():
    packages = {path.parent.name for path in (ROOT / "scarlet_jax").glob("*/__init__.py")} - {"configs"}  # the cards
    titles = set(re.findall(r'font-weight="bold">([^<]*)<', PICTURE))
    assert packages <= titles
    assert packages <= set(re.findall(r"^\| `(\w+)", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE))
