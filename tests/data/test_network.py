"""Hosts that cannot be reached are told in seconds, and TFDS is not left to try for minutes."""

from __future__ import annotations

import socket
import threading

import pytest

from scarlet_jax.data import archives, network
from tests.support.data_fakes import refusal


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "url,words",
    [
        ("http://127.0.0.1:9/x", "127.0.0.1:9 cannot be reached"),
        ("https://nowhere.invalid/x", "nowhere.invalid:443 cannot be reached"),
        ("ftp://nowhere.invalid/x", "nowhere.invalid:21 cannot be reached"),
    ],
)
def test_a_host_that_cannot_be_reached_is_named(url, words):
    with pytest.raises(ConnectionError, match=words):
        network.reach(url)


@pytest.mark.parametrize("slow", ["getaddrinfo", "create_connection"])
def test_a_host_that_never_answers_is_given_up(monkeypatch, slow):
    """Nothing bounds the time of a resolver; a firewall may drop what is sent."""
    over = threading.Event()

    def never(*_, **__):
        over.wait(600)
        raise OSError("the test is over")

    monkeypatch.setattr(socket, slow, never)
    with pytest.raises(ConnectionError, match="no answer within 0.1 s"):
        network.reach("http://example.invalid/x", seconds=0.1)
    over.set()


def test_the_proxy_is_what_must_be_reached(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"proxy 127\.0\.0\.1:9 cannot be reached"):
        network.reach("http://nowhere.invalid/x")


def test_a_host_that_answers_is_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        network.reach(f"http://127.0.0.1:{server.getsockname()[1]}/x")


def test_an_unreachable_archive_is_not_even_asked_for(tmp_path):
    with pytest.raises(ConnectionError, match="cannot be reached"):
        archives.download("x.tar", tmp_path, "http://nowhere.invalid/", "0" * 32)


def test_tfds_asks_the_host_before_it_downloads_and_leaves_nothing(tmp_path, monkeypatch, caplog):
    """What is prepared is said first; then every address is tried once, by our own function, and no retry is made."""
    from tensorflow_datasets.core.download import downloader

    asked, before = [], (downloader._open_url, downloader.MAX_RETRIES)

    def nowhere(url: str, seconds: float = 0) -> None:
        asked.append(url)
        assert "TFDS prepares fashion_mnist" in caplog.text
        raise ConnectionError("host.invalid:80 cannot be reached: no answer within 12 s")

    monkeypatch.setattr(network, "reach", nowhere)
    with caplog.at_level("INFO", logger="scarlet_jax.data"):
        sentence = refusal("fashion_mnist", tmp_path)
    assert "host.invalid:80 cannot be reached" in sentence and "tfds build" in sentence and sentence.endswith(".")
    assert asked and len(asked) == len(set(asked))
    assert not (tmp_path / "data").exists(), "unfinished downloads and empty folders are removed"
    assert (downloader._open_url, downloader.MAX_RETRIES) == before
