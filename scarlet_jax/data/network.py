"""Whether the host of a download can be reached at all, found out in seconds."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

_SECONDS = 12.0  # for a name to be resolved and a connection to be made
_TIMEOUT = (10.0, 30.0)  # of a request: to connect, and between two pieces of an answer
_RETRIES = 1
_PORTS = {"http": 80, "https": 443, "ftp": 21}


def reach(url: str, seconds: float = _SECONDS) -> None:
    """Connect to the host of `url`, or to the proxy for it, and hang up.

    Raises:
        ConnectionError: that was not possible within `seconds`, in a few words that name the host.
    """
    import requests.utils

    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    target = proxy or url
    where = urlsplit(target if "://" in target else f"http://{target}")
    host, port = where.hostname or "", where.port or _PORTS.get(where.scheme, 1080)
    failures: list[OSError] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=seconds).close()
        except OSError as error:
            failures.append(error)

    # In a thread, since nothing bounds how long it takes to resolve a name.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    what = f"proxy {host}:{port}" if proxy else f"{host}:{port}"
    if thread.is_alive():
        raise ConnectionError(f"{what} cannot be reached: no answer within {seconds:g} s")
    if failures:
        raise ConnectionError(f"{what} cannot be reached: {failures[0].strerror or failures[0]}")


@contextlib.contextmanager
def impatient_tfds() -> Iterator[None]:
    """Downloads by TFDS fail within seconds where a host cannot be reached; TFDS alone tries for minutes."""
    from tensorflow_datasets.core.download import downloader

    original, retries = downloader._open_url, downloader.MAX_RETRIES

    def open_url(url: str, **options: Any) -> Any:
        reach(url)
        return original(url, **{"timeout": _TIMEOUT, **options})

    downloader._open_url, downloader.MAX_RETRIES = open_url, _RETRIES
    try:
        yield
    finally:
        downloader._open_url, downloader.MAX_RETRIES = original, retries
