"""Environment and helpers of the whole suite. The environment is set before anything imports jax."""

import os
import shutil
import tempfile
from pathlib import Path

# XLA's thread pool has one size, whatever the machine and the number of forced devices: GEMMs split their sums by it.
os.environ["NPROC"] = "4"
os.environ["JAX_NUM_CPU_DEVICES"] = "1"  # as many as a test asks for, not what launch.py would choose
# Parallel test workers would fight over one GPU's memory; set JAX_PLATFORMS to run the suite on it all the same.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["MPLBACKEND"] = "Agg"

# The user's caches are never touched. The first process makes one for the session, and parallel workers inherit it.
_OWN_CACHE = None
if "SCARLET_TEST_CACHE" not in os.environ:
    _OWN_CACHE = os.environ["SCARLET_TEST_CACHE"] = tempfile.mkdtemp(prefix="scarlet_jax_tests_")
os.environ["XDG_CACHE_HOME"] = os.environ["SCARLET_TEST_CACHE"]
# Half of the suite's time is XLA's compiler, and many tests compile the same programs: each worker, and the processes
# that it starts, keep theirs for the session. A folder for each, because JAX does not write an entry in one step.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "alone")
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(os.environ["SCARLET_TEST_CACHE"]) / "programs" / _WORKER)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import hypothesis  # noqa: E402
import pytest  # noqa: E402

from tests.support.compiling import compiling_quickly  # noqa: E402
from tests.support.long import is_long  # noqa: E402

# Derandomized: a suite that is green stays green. Deadlines make no sense where an example may compile something.
hypothesis.settings.register_profile(
    "scarlet_jax",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("scarlet_jax")


def data_problem(name: str) -> str | None:
    """Why TFDS data set `name` is not available; None if it is."""
    data_dir = os.environ.get("TFDS_DATA_DIR")
    if not data_dir:
        return f"needs {name}: TFDS_DATA_DIR is not set"
    folder = Path(data_dir) / name
    if not [
        *folder.glob("*/dataset_info.json"),
        *folder.glob("*/*/dataset_info.json"),
    ]:  # <version> or <config>/<version>
        return f"needs {name}: TFDS has not prepared it in TFDS_DATA_DIR"
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`@pytest.mark.needs_data(name)`: skip without the data set; fail instead where it is promised to be there."""
    for mark in item.iter_markers("needs_data"):
        for name in mark.args:
            problem = data_problem(name)
            if problem and os.environ.get("SCARLET_REQUIRE_DATA") == "1":
                pytest.fail(problem, pytrace=False)
            if problem:
                pytest.skip(problem)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes long."""
    for item in items:
        if is_long(item.nodeid):
            item.add_marker(pytest.mark.long)


@pytest.fixture
def quick_compilation():
    """`compiling_quickly`, for a test."""
    with compiling_quickly():
        yield


def pytest_unconfigure() -> None:
    """Remove the session's cache, in the process that made it."""
    if _OWN_CACHE:
        os.environ.pop("SCARLET_TEST_CACHE", None)
        shutil.rmtree(_OWN_CACHE, ignore_errors=True)
