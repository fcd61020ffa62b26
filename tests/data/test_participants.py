"""Participants that a file gives: its forms, what it may say, and how a later start knows them again."""

import json

import numpy as np
import pytest

from configs import digits
from scarlet_jax import build
from scarlet_jax.data.participants import as_text, given, record
from scarlet_jax.errors import UserError
from scarlet_jax.preview import checks

GROUPS = [("cnn", 6, 2), ("mlp", 4, 1)]
IDS = [[5, 0, 9], [1, 2, 6], [3, 4, 7]]
TABLE = np.sort(np.array(IDS, np.int32), 1)
FORMS = {
    "txt": "5 0 9\n1\t2 6\n3 4 7\n\n",
    "csv": "5,0,9\r\n1, 2, 6\r\n3,4,7",
    "json": json.dumps(IDS, indent=1),
}


def written(tmp_path, form, content):
    path = tmp_path / f"ids.{form}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_same(tmp_path, form):
    np.testing.assert_array_equal(given(written(tmp_path, form, FORMS[form]), 3, GROUPS), TABLE)


def test_an_array_and_its_text_say_the_same_and_further_rounds_do_not_matter(tmp_path):
    np.save(tmp_path / "ids.npy", IDS)
    found = given(str(tmp_path / "ids.npy"), 2, GROUPS)
    np.testing.assert_array_equal(found, TABLE[:2])
    assert found.dtype == np.int32
    np.testing.assert_array_equal(given(written(tmp_path, "csv", as_text(found)), 2, GROUPS), found)
    assert record(TABLE)[:2] == record(found) and len(set(record(TABLE))) == 3


FAULTS = {
    "a round with too many of a group": ("0 1 9\n0 6 7", "for round 1 (counted from 0), 1 client of cnn (ids 0 to 5); "
                                         "allowed is 2, by config.participation"),
    "a round with too few": ("0 1 9\n0 1", "for round 1 (counted from 0), 0 clients of mlp (ids 6 to 9); allowed is 1"),
    "an empty round": ("\n0 1 9", "for round 0 (counted from 0), 0 clients of cnn"),
    "a client twice": ("0 0 9\n0 1 9", "for round 0 (counted from 0), client 0 twice; allowed is each client once"),
    "a client that there is not": ("0 1 10\n0 1 9", "client 10; allowed are the ids 0 to 9"),
    "a negative one": ("0 -1 9\n0 1 9", "client -1; allowed are the ids 0 to 9"),
    "too few rounds": ("0 1 9", "the participants of 1 rounds; allowed is at least config.rounds = 2"),
    "a word": ("0 1 9\n0 x 9", "is no list of client ids"),
    "nothing": ("", "the participants of 0 rounds"),
    "no text": (b"\xff\xfe", "is no list of client ids"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_does_not_fit_is_refused_in_one_sentence(tmp_path, fault):
    content, words = FAULTS[fault]
    with pytest.raises(UserError) as error:
        given(written(tmp_path, "txt", content), 2, GROUPS)
    sentence = str(error.value)
    assert sentence.startswith("config.sampling.file: ") and words in sentence, sentence
    assert sentence.endswith(".") and "\n" not in sentence


@pytest.mark.parametrize(("form", "content"), [
    ("json", "[[0, 1], [true, 2]]"), ("json", "[0, 1]"), ("json", "[[0.5]]"), ("json", "{"), ("npy", b"no array"),
    ("json", "[" * 100_000), ("txt", "9" * 5000),
])  # fmt: skip
def test_other_forms_that_are_no_ids_are_refused(tmp_path, form, content):
    with pytest.raises(UserError, match=rf"^config\.sampling\.file: .*ids\.{form} is no list of client ids.*\.$"):
        given(written(tmp_path, form, content), 1, GROUPS)


@pytest.mark.parametrize("array", [np.zeros(3, int), np.zeros((2, 2)), np.array([["a"]]), np.array([[{}]], object)])
def test_arrays_of_another_kind_are_refused(tmp_path, array):
    np.save(tmp_path / "ids.npy", array)
    with pytest.raises(UserError, match="is no list of client ids"):
        given(str(tmp_path / "ids.npy"), 1, GROUPS)


def test_missing_files_and_folders_are_refused(tmp_path):
    for path in (tmp_path / "gone.txt", tmp_path):
        with pytest.raises(UserError, match=r"^config\.sampling\.file: .*\.$"):
            given(str(path), 1, GROUPS)


def test_a_config_is_checked_before_anything_is_loaded(tmp_path):
    """By the groups of the config, and in the place where every command checks it."""
    config = digits.get_config()
    config.num_clients, config.participation, config.rounds = 10, 0.3, 2
    config.model.client = "cnn:6,mlp:4"
    config.sampling.by, config.sampling.file = "given", written(tmp_path, "csv", "0,1,9\n0,7,8\n")
    with pytest.raises(UserError, match="1 client of cnn"):
        checks.check(config)
    written(tmp_path, "csv", "0,1,9\n0,2,8\n")
    checks.check(config)
    np.testing.assert_array_equal(build.draws(config).given, [[0, 1, 9], [0, 2, 8]])
