"""What is recorded of each start of a run."""

from scarlet_jax.runtime import environment
from tests.support.harness import starts


def test_without_a_checkout_the_commit_is_the_image_s(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))  # no git here
    for value, recorded in (("0123abc", "0123abc"), ("", None)):
        monkeypatch.setenv("SCARLET_COMMIT", value)
        environment.record_environment(tmp_path, {}, None)
        assert starts(tmp_path)[-1]["commit"] == recorded
