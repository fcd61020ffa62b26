"""What the system refuses a run is one sentence, and the same command then ends with the bits of an undisturbed run."""

import errno
import os
import re
import shutil
import subprocess
import sys

import pytest

import scarlet_jax
from scarlet_jax.runtime import workdir, writers
from tests.support import harness
from tests.support.harness import assert_same_run, command, tiny

# Those of the partition have tests of their own, and participants.csv, which few runs write.
FILES = [name for name in workdir.WRITTEN if "." in name and not name.startswith("part")]
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
os.execv(sys.argv[1], sys.argv[1:])
"""


def launched(*arguments, **options):
    """Exit code, and the lines of standard error."""
    pipes = {"cwd": harness.ROOT, "env": harness.environment(), "capture_output": True, "text": True, "timeout": 120}
    done = subprocess.run(*arguments, **pipes, **options)
    return done.returncode, harness.without_native(done.stderr).splitlines()


def test_a_limit_of_file_size_met_while_orbax_writes(tmp_path, finished):
    """Orbax's own threads report the error, too: none of that is shown."""
    code, lines = launched([sys.executable, "-c", LIMITED, *command(tmp_path)])
    assert code == 1
    [line] = lines
    assert re.fullmatch(
        rf"{tmp_path}/checkpoints/.*: the file exceeds the limit for the size of files, while training; "
        r"raise that limit \(ulimit -f\)\. The same command then resumes the run\.",
        line,
    )
    scarlet_jax.run(tiny(), tmp_path)
    assert_same_run(tmp_path, finished)


@pytest.mark.parametrize("folder", [".", "checkpoints", "tensorboard"])
def test_a_folder_without_the_right_to_write(unfinished, finished, folder):
    (unfinished / folder).chmod(0o555)
    code, lines = launched(harness.obeying(command(unfinished)))
    (unfinished / folder).chmod(0o755)
    assert code == 1
    [line] = lines
    assert line.startswith(str(unfinished / folder)) and ": permission denied, while " in line
    scarlet_jax.run(tiny(), unfinished)
    assert_same_run(unfinished, finished)


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("where", "what"), [(writers, "open"), (workdir, "write_json"), (os, "fsync")])
def test_a_disk_that_is_full_names_a_path(tmp_path, monkeypatch, shared_programs, finished, where, what):
    """Python says no path where a file is open already."""
    with monkeypatch.context() as patch:
        patch.setattr(where, what, full, raising=False)  # a module has no `open` of its own
        with pytest.raises(scarlet_jax.UserError, match=rf"{tmp_path}.*: the disk is full, while .*; make room\."):
            scarlet_jax.run(tiny(), tmp_path)
    scarlet_jax.run(tiny(), tmp_path)
    assert_same_run(tmp_path, finished)


@pytest.mark.parametrize("name", FILES)
def test_a_directory_where_a_file_belongs(unfinished, shared_programs, name):
    (unfinished / name).unlink(missing_ok=True)
    (unfinished / name / "mine").mkdir(parents=True)
    with pytest.raises(scarlet_jax.UserError) as refusal:
        scarlet_jax.run(tiny(), unfinished)
    assert name in str(refusal.value) and str(refusal.value).endswith(".")
    assert (unfinished / name / "mine").is_dir()


@pytest.mark.parametrize("name", ["checkpoints", "tensorboard"])
def test_a_file_where_a_directory_belongs(unfinished, shared_programs, name):
    shutil.rmtree(unfinished / name)
    (unfinished / name).write_text("mine")
    with pytest.raises(scarlet_jax.UserError) as refusal:
        scarlet_jax.run(tiny(), unfinished)
    assert name in str(refusal.value) and str(refusal.value).endswith(".")
    assert (unfinished / name).read_text() == "mine"
