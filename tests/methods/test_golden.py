"""CFD, COMET and Selective-FD against numbers of the reference implementation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from scarlet_jax.engine.learner import Augmentation, Learner, Training, sgd
from scarlet_jax.methods import selective_fd
from scarlet_jax.methods.cfd import cfd
from scarlet_jax.methods.comet import comet, kmeans, nearest
from scarlet_jax.protocol import ledger
from scarlet_jax.types import ModelState
from tests.support.golden_files import golden
from tests.support.uploads import uploads

CHANNEL = ledger.Channel(10, 32, full_participation=True)
MEAN = {"rtol": 1e-6, "atol": 1e-7}  # a mean of at most 8 float32 rows


def everyone(probs):
    return jnp.ones(probs.shape[:2], bool)


def test_cfd_uploads_the_arg_max_and_averages_it():
    g, method = golden("cfd"), cfd()
    sent = method.uplink(CHANNEL).encode(jnp.asarray(g["client_probs"]))
    np.testing.assert_array_equal(jnp.argmax(sent, -1), g["client_labels"])
    np.testing.assert_array_equal(jnp.sum(sent, -1), 1)
    np.testing.assert_array_equal(g["server_indices"], g["drawn"])
    target = method.aggregate((), uploads(sent, everyone(sent)))[0].target
    np.testing.assert_allclose(target, g["server_target"], **MEAN)


class Linear(nn.Module):
    """z = W x + b on the images as they are."""

    @nn.compact
    def __call__(self, x, train, mask=None):
        del train, mask
        return nn.Dense(10, name="linear")(x.reshape(x.shape[0], -1))


def test_cfd_broadcasts_what_its_model_says_while_distilling():
    g, method = golden("cfd"), cfd()
    kd = Training(int(g["down_kd_epochs"]), int(g["down_kd_batch"]), sgd(float(g["down_kd_lr"]), 0.0, 0.0))
    learner = Learner(Linear(), kd, kd, Augmentation(False, False, False, False))
    learner._images = lambda key, images, switched_on: images  # the trace's inputs are no pixels
    params = {"linear": {"kernel": g["down_model_weight"].T, "bias": g["down_model_bias"]}}
    state = ModelState(params, {}, kd.optimizer.init(params), kd.optimizer.init(params))
    assert sorted(g["server_indices"]) == list(range(12))
    samples = jnp.asarray(g["server_indices"])
    x = jnp.asarray(g["down_public_x"][:, None, :, None])
    state, metrics = learner.distil(
        state, jax.random.key(0), x, samples, jnp.asarray(g["server_target"]), jnp.int32(12), record=True
    )
    tolerance = {"rtol": 1e-5, "atol": 1e-6}  # a few steps of a linear model in float32
    np.testing.assert_allclose(method.publish(metrics.outputs), g["downlink_labels"], **tolerance)
    np.testing.assert_allclose(state.params["linear"]["kernel"].T, g["down_model_weight_after"], **tolerance)
    np.testing.assert_allclose(state.params["linear"]["bias"], g["down_model_bias_after"], **tolerance)


def test_comet_clusters_and_every_client_chooses():
    g, method = golden("comet"), comet()
    probs = jnp.asarray(g["client_probs"])
    labels = method.aggregate((), uploads(probs, everyone(probs)))[0]
    np.testing.assert_allclose(labels.target, g["server_target"], **MEAN)
    np.testing.assert_allclose(labels.payload, g["centroids"], **MEAN)
    for k in range(8):
        np.testing.assert_array_equal(nearest(labels.payload, probs[k]), g["assignment"][k])
        for fresh in (True, False):
            before = g["query_choice"][k].astype(np.uint8)  # kept where the copy is not fresh
            start = jnp.zeros(12, jnp.uint8) if fresh else before
            own = jnp.asarray(g["query_probs"][k] if fresh else g["query_probs"][k][::-1])
            target, choice = method.decode(labels.payload, own, start, jnp.full(12, fresh))
            np.testing.assert_array_equal(choice, g["query_choice"][k])
            np.testing.assert_allclose(target, g["query_best_centroid"][k], **MEAN)


def test_comet_without_two_different_rows_or_without_any():
    same = jnp.broadcast_to(jnp.array([0.7, 0.2, 0.1]), (4, 2, 3))
    sent = jnp.array([[True, False]] * 4)
    centroids = kmeans(same, sent, 2)
    np.testing.assert_allclose(centroids[0], np.broadcast_to(same[0, 0], (2, 3)), rtol=1e-6)
    np.testing.assert_allclose(centroids[1], 1 / 3, rtol=1e-6)


def test_selective_fd_estimates_density_ratios():
    g = golden("selectivefd")
    for i, regulariser in enumerate(g["lambdas"]):
        estimate = selective_fd.kulsif(g["x"], g["y"], float(g["kernel_width"]), float(regulariser))
        # The file agrees to 7 digits; the estimate nearest to a threshold is 1e-4 away from it.
        np.testing.assert_allclose(estimate(g["z_eval"]), g["estimate_eval"][i], rtol=1e-7)
        ours = estimate(g["z_test"])
        np.testing.assert_allclose(ours, g["estimate_test"][i], rtol=1e-7)
        threshold = np.quantile(estimate(g["z_eval"]), float(g["quantile"]))
        np.testing.assert_array_equal(ours < threshold, g["outlier"][i])


def test_selective_fd_filters_images():
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


def test_selective_fd_drops_ambiguous_samples():
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
