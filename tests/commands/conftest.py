"""What tests of the commands share."""

from pathlib import Path

import pytest


@pytest.fixture
def at_the_root(monkeypatch):
    """In the folder of the repository, where configs/ is."""
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
