"""Selective-FD against numbers of the reference implementation, and rounds in which its selectors let nothing pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.methods import selective_fd
from tests.support.federations import federation, same_bits
from tests.support.golden_files import golden
from tests.support.populations import noise
from tests.support.uploads import uploads

MEAN = {"rtol": 1e-6, "atol": 1e-7}  # a mean of at most 8 float32 rows


def test_it_estimates_density_ratios():
    g = golden("selectivefd")
    for i, regulariser in enumerate(g["lambdas"]):
        estimate = selective_fd.kulsif(g["x"], g["y"], float(g["kernel_width"]), float(regulariser))
        # The file agrees to 7 digits; the estimate nearest to a threshold is 1e-4 away from it.
        np.testing.assert_allclose(estimate(g["z_eval"]), g["estimate_eval"][i], rtol=1e-7)
        ours = estimate(g["z_test"])
        np.testing.assert_allclose(ours, g["estimate_test"][i], rtol=1e-7)
        threshold = np.quantile(estimate(g["z_eval"]), float(g["quantile"]))
        np.testing.assert_array_equal(ours < threshold, g["outlier"][i])


def test_it_filters_images():
    g = golden("selectivefd")
    own = selective_fd.pixels(g["img_private"])
    assert own.shape == (40, 3072) and own.min() >= -1 and own.max() <= 1 and own.dtype == np.float64
    # Distances do not see the order of pixels, but the trace's uniform points are laid out channels first.
    order = np.arange(3072).reshape(3, 32, 32).transpose(1, 2, 0).ravel()
    chosen = own[g["img_shuffled"]]
    inside, held_out = chosen[:18], chosen[18:]
    estimate = selective_fd.kulsif(g["img_uniform_x"][:, order], inside, 5.0, float(g["img_lambda"]))
    np.testing.assert_allclose(estimate(held_out), g["img_estimate_eval"], rtol=1e-9)
    public = estimate(selective_fd.pixels(g["img_public"]))
    np.testing.assert_allclose(public, g["img_estimate_public"], rtol=1e-9)
    threshold = np.quantile(estimate(held_out), 0.125)
    np.testing.assert_allclose(threshold, g["img_threshold"], rtol=1e-9)
    np.testing.assert_array_equal(public < threshold, g["img_outlier"])


def test_it_drops_ambiguous_samples():
    g = golden("selectivefd")
    probs, sent, drawn = jnp.asarray(g["sel_client_probs"]), jnp.asarray(g["sel_inlier"]), g["sel_drawn"]
    # Ours keeps the drawn order; the reference lists samples as they first appear.
    place = {int(sample): i for i, sample in enumerate(drawn)}
    for name, threshold in (("2p0", 2.0), ("1p0", 1.0), ("0p6", 0.6)):
        assert threshold in g["sel_thresholds"]
        labels = selective_fd.selective_fd(threshold=threshold).aggregate((), uploads(probs, sent))[0]
        kept = np.asarray(labels.keep & jnp.any(sent, 0))
        np.testing.assert_array_equal(np.sort(drawn[kept]), np.sort(g[f"sel_indices_{name}"]))
        rows = [place[int(sample)] for sample in g[f"sel_indices_{name}"]]
        np.testing.assert_allclose(labels.target[np.array(rows)], g[f"sel_targets_{name}"], **MEAN)
    rows = np.array([place[int(sample)] for sample in g["sel_all_indices"]])
    np.testing.assert_allclose(labels.target[rows], g["sel_all_mean"], **MEAN)
    np.testing.assert_allclose(selective_fd.ambiguity(labels.target)[rows], g["sel_all_l1"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fields", [{"method__quantile": 1.0}, {"method__threshold": 1e-6}])
@pytest.mark.parametrize("cache", ["", "+cache"])
@pytest.mark.usefixtures("quick_compilation")
def test_rounds_in_which_nothing_passes_a_selector(fields, cache):
    more = {} if not cache else {"cache__duration": 2}
    algorithm, data, state = federation("selective_fd" + cache, **fields, **more)
    for _ in range(3):
        server = jax.device_get(state.server)
        state, report = algorithm.round(state, data)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(jax.device_get((state.server, state.clients))))
        billed = algorithm.bill(report)
        requested, sent = int(report.counts.requested), np.asarray(report.counts.sent)
        # 320 bits a label, and a bit per request that says which are answered.
        assert billed["wire"].uplink == sum(-(-(320 * int(s) + requested) // 8) for s in sent)
        if "method__threshold" in fields:
            assert not np.asarray(state.broadcast.keep).any() and int(report.counts.listed) == 0
            same_bits(state.server, server)  # nothing to distil from changes nothing
        else:
            assert (sent < requested).any()


def test_a_client_of_few_images_answers_for_everything():
    answers = selective_fd.answers(0, noise([3, 0, 30], [1] * 3), 2.0, 0.5, 1.0)
    assert answers.shape == (3, 20) and answers[:2].all() and not answers[2].all()


def test_answers_depend_on_the_seed_and_on_a_clients_own_images():
    data = noise([20, 20], [1] * 2)
    one = selective_fd.answers(0, data, 2.0, 0.5, 1.0)
    np.testing.assert_array_equal(selective_fd.answers(0, data, 2.0, 0.5, 1.0), one)
    alone = noise([20, 20], [1] * 2)
    alone.private_image[alone.train.rows[1]] = 0
    np.testing.assert_array_equal(selective_fd.answers(0, alone, 2.0, 0.5, 1.0)[0], one[0])
