"""What the system refuses, in the forms in which it really arrives, and what is none of its refusals."""

import errno
import gzip
import json
import subprocess
import sys

import jax
import pytest

from scarlet_jax.errors import UserError
from scarlet_jax.system_errors import SystemFault, fault_of, sentence
from tests.support import harness

# Each refusal is provoked through TensorStore, in a process whose limits and rights may be spoilt.
PROVOKING = """
import json, os, resource, signal, sys
import tensorstore as ts
from scarlet_jax.system_errors import fault_of

def write(folder, name, size=1):
    store = ts.KvStore.open({"driver": "file", "path": folder + "/"}).result()
    try:
        store.write(name, b"x" * size).result()
    except Exception as error:
        return [type(error).__name__, *fault_of(error)]

folder, out = sys.argv[1], {}
out["directory"] = write(folder, "directory")
out["under_a_file"] = write(folder + "/file", "x")
out["long"] = write(folder, "x" * 300)
out["permission"] = write(folder + "/locked", "x")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
out["size"] = write(folder, "x", 10_000)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
out["files"] = write(folder, "x")
os.write(1, json.dumps(out).encode())
"""


def test_what_tensorstore_says_is_understood(tmp_path):
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "locked").mkdir(mode=0o555)
    arguments = [sys.executable, "-c", PROVOKING, str(tmp_path)]
    options = {"cwd": harness.ROOT, "capture_output": True, "text": True, "timeout": 60}
    done = subprocess.run(harness.obeying(arguments), **options)
    assert done.returncode == 0, done.stderr
    at = str(tmp_path)
    assert json.loads(done.stdout) == {
        "directory": ["ValueError", errno.EISDIR, "a directory is where a file belongs", f"{at}/directory"],
        "under_a_file": ["ValueError", errno.ENOTDIR, "a file is where a directory belongs", f"{at}/file"],
        "long": ["ValueError", errno.ENAMETOOLONG, "the name is too long", f"{at}/{'x' * 300}"],
        "permission": ["ValueError", errno.EACCES, "permission denied", f"{at}/locked/x"],
        "size": ["ValueError", errno.EFBIG, "the file exceeds the limit for the size of files", f"{at}/x"],
        "files": ["ValueError", errno.EMFILE, "too many open files", at],
    }


SPEC = '[tensorstore_spec=\'{"path":"/elsewhere/"}\']'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (  # a full tmpfs below Orbax's checkpoint
            'RESOURCE_EXHAUSTED: Error writing "a/0" in OCDBT database at local file "/r/1/": '
            'Failed writing: "/r/1/d": '
            "Failed to write 1971537 bytes to file 4: No space left on device [os_error_code='28']",
            (errno.ENOSPC, "the disk is full", "/r/1/d"),
        ),
        (
            f'PERMISSION_DENIED: Error reading local file "/r/m": Failed to open: "/r/m": Permission denied {SPEC}',
            (errno.EACCES, "permission denied", "/r/m"),
        ),
        (
            f'RESOURCE_EXHAUSTED: Error opening "zarr" driver: Failed to open: "/r/m.__lock": '
            f"Too many open files {SPEC}",
            (errno.EMFILE, "too many open files", "/r/m"),
        ),
        (
            "Error reading \"/r/d\": Failed to read from file 9: Input/output error [os_error_code='5']",
            (errno.EIO, "an input/output error", "/r/d"),
        ),
        (  # XLA's profiler
            "RESOURCE_EXHAUSTED: runs/a/profile/vm.xplane.pb; No space left on device",
            (errno.ENOSPC, "the disk is full", "runs/a/profile/vm.xplane.pb"),
        ),
        ("UNAVAILABLE: no answer", (None, "the file system is not available", None)),
        ('DATA_LOSS: Error reading "/r/m": checksum differs', None),
        ('FAILED_PRECONDITION: Error opening "zarr" driver: Error reading local file "/r/.zarray": Invalid JSON', None),
        ('NOT_FOUND: Error opening "zarr" driver: Metadata at local file "/r/.zarray" does not exist', None),
        ("INVALID_ARGUMENT: 'Permission denied' is no number", None),
        ("its contents are not what was written", None),
        ("", None),
    ],
)
def test_texts_of_tensorstore(text, expected):
    assert fault_of(ValueError(text)) == expected


def test_memory_that_jax_does_not_get():
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.numpy.zeros((1 << 50,)).block_until_ready()
    assert fault_of(caught.value) == fault_of(MemoryError()) == (errno.ENOMEM, "not enough memory", None)


def wrapped(error, cause=None, context=None):
    error.__context__ = context
    if cause is not None:
        error.__cause__ = cause  # even None would hide the context
    return error


FULL = OSError(errno.ENOSPC, "No space left on device", "/r/metrics.csv")
MISSING = FileNotFoundError(errno.ENOENT, "No such file or directory", "/r/maybe")


@pytest.mark.parametrize(
    ("error", "code", "path"),
    [
        (FULL, errno.ENOSPC, "/r/metrics.csv"),
        (MISSING, errno.ENOENT, "/r/maybe"),
        (OSError(errno.EIO, "Input/output error", b"/r/\xff"), errno.EIO, "/r/\udcff"),
        (PermissionError("not for you"), errno.EACCES, None),
        (wrapped(RuntimeError("saving failed"), cause=FULL), errno.ENOSPC, "/r/metrics.csv"),
        (wrapped(RuntimeError("saving failed"), context=FULL), errno.ENOSPC, "/r/metrics.csv"),
        (ExceptionGroup("two", [KeyError("a"), ExceptionGroup("one", [FULL])]), errno.ENOSPC, "/r/metrics.csv"),
        # the one with a path, wherever it is
        (wrapped(OSError(errno.EMFILE, "Too many open files"), cause=FULL), errno.ENOSPC, "/r/metrics.csv"),
    ],
)
def test_wherever_it_is_in_a_chain(error, code, path):
    fault = fault_of(error)
    assert (fault.code, fault.path) == (code, path)


def circle():
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, other.__cause__ = other, one
    return one


@pytest.mark.parametrize(
    "error",
    [
        KeyError("round"),
        wrapped(KeyError("round"), context=MISSING),  # made because the file was not there: a bug of the program's own
        OSError(errno.EBADF, "Bad file descriptor"),
        gzip.BadGzipFile("not a gzip file"),  # an OSError about contents
        wrapped(UserError("make room."), cause=FULL),  # said already
        circle(),
    ],
)
def test_what_is_not_the_systems(error):
    assert fault_of(error) is None


def test_a_sentence_has_the_path_the_reason_and_what_to_do():
    assert (
        sentence(fault_of(FULL), "writing a row") == "/r/metrics.csv: the disk is full, while writing a row; make room."
    )
    no_path = OSError(errno.EMFILE, "Too many open files")
    assert sentence(fault_of(no_path), "training") == (
        "Too many open files, while training; raise that limit (ulimit -n)."
    )


def test_every_error_number_has_a_sentence_on_one_line():
    for code in errno.errorcode:
        fault = fault_of(OSError(code, "in the words of some locale", "/r/a\nb\udcff"))
        if fault is not None:
            told = sentence(fault, "training")
            assert told.endswith(".") and told.isprintable() and "locale" not in told
    assert sentence(SystemFault(None, "the file system is not available", None), "training").endswith("try again.")
