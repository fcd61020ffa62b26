"""FedProto against a federation in NumPy: its rounds, and its evaluation by the nearest prototype."""

import jax
import numpy as np
import pytest

from scarlet_jax import learners
from scarlet_jax.engine.by_class import ClassVectors
from scarlet_jax.errors import UserError
from scarlet_jax.methods import class_knowledge
from scarlet_jax.methods.class_knowledge import Sent
from scarlet_jax.methods.fedproto import fedproto
from scarlet_jax.preview import checks
from tests.support import plain_features as plain
from tests.support.harness import tiny
from tests.support.plain_linear import parts, pixels, private, with_a_rare_class

pytestmark = pytest.mark.usefixtures("quick_compilation")
WEIGHT = 0.8


def nearest(model, data, client, prototypes):
    """Test images of a client that are nearest to the prototype of their class, among the client's own classes."""
    own = [c for c in sorted(set(private(data, client)[1].tolist())) if c in prototypes]
    rows = data.test.rows[client][: data.test.size[client]]
    if not own:
        return 0
    f = plain.features(model, pixels(data.test_image[rows]))
    distance = np.array([((f - prototypes[c]) ** 2).mean(1) for c in own])
    return int((np.array(own)[distance.argmin(0)] == data.test_label[rows]).sum())


def test_a_federation_is_a_plain_loop():
    made = parts(plain.learner(), server=False)
    data = with_a_rare_class(made[-1])
    algorithm = class_knowledge.make(lambda numbers: fedproto(WEIGHT), *made)
    state, device_data = algorithm.init(data), jax.device_put(data)
    models, prototypes = plain.models(state), {}
    kept = hits = 0
    for _ in range(4):
        state, report = algorithm.round(state, device_data)
        ids, known, sent, held = np.asarray(report.participants), len(prototypes), {}, []
        for k in ids:
            x, y = private(data, k)
            target = np.array([prototypes.get(c, np.full(plain.FEATURES, np.nan)) for c in y]).reshape(
                -1, plain.FEATURES
            )

            def slope(f, target=target):
                return np.nan_to_num(WEIGHT * 2 * (f - target) / plain.FEATURES)

            models[k], f = plain.fitted(models[k], x, y, slope)
            held.append(len(set(y.tolist())))
            for c in set(y.tolist()):
                sent.setdefault(c, []).append(f[y == c].mean(0))
        kept += len(set(prototypes) - set(sent))
        prototypes |= {c: np.mean(own, 0) for c, own in sent.items()}
        for ours, theirs in zip(plain.models(state), models, strict=True):
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        assert np.asarray(state.method.known).nonzero()[0].tolist() == sorted(prototypes)
        for c, mean in prototypes.items():
            np.testing.assert_allclose(state.method.vector[c], mean, rtol=1e-4, atol=1e-5)
        evaluation = algorithm.evaluate(state, device_data, report.participants)
        found = np.asarray(evaluation.clients.sums["prototype_top1"]).tolist()
        assert found == [nearest(models[k], data, k, prototypes) for k in ids]
        assert "prototype_top1" not in evaluation.client_val.sums
        hits += sum(found)
        # d float32 for each class both ways, and its index; on the wire one bit for each of 4 classes, so one byte.
        assert report.classes.sent.tolist() == held and set(report.classes.received.tolist()) == {known}
        billed, d, m = algorithm.bill(report), plain.FEATURES, len(ids)
        assert billed["reference"] == (sum(held) * (4 * d + 8), m * known * (4 * d + 8))
        assert billed["wire"] == (sum(4 * d * n + 1 for n in held if n), m * (4 * d * known + 1) if known else 0)
    assert hits, "some images are recognised"
    assert kept, "a class that is not sent keeps its prototype"


def test_a_class_that_nobody_sends_keeps_its_prototype():
    method = fedproto()
    old = ClassVectors(np.float32([[1, 2], [3, 4], [0, 0]]), np.array([True, True, False]))
    vectors = np.float32([[[5, 5], [9, 9], [9, 9]], [[7, 9], [9, 9], [9, 9]]])
    known = np.array([[True, False, False], [True, False, False]])
    sent = Sent(ClassVectors(vectors, known), np.where(known, [[1], [3]], 0), np.array([0, 1]))
    new = method.aggregate(old, sent)
    assert new.vector[:2].tolist() == [[6, 7], [3, 4]] and new.known.tolist() == [True, True, False]
    by_images = fedproto(average="images").aggregate(old, sent)
    assert by_images.vector[:2].tolist() == [[6.5, 8], [3, 4]]


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3)])
def test_features_of_two_lengths_are_refused(shape):
    config = tiny(method__name="fedproto", cache__duration=None, model__client="mlp:2,cnn:2")
    if shape[0] == 8:
        assert learners.feature_size(config, shape) == 128, "both have as many for images of this size"
        return
    sentence = r"model\.client is 'mlp:2,cnn:2', but fedproto .* 128 of mlp and 2048 of cnn; allowed is .*\."
    with pytest.raises(UserError, match=sentence):
        checks.check_images(config, shape)
    config.method.name = "fd"
    checks.check_images(config, shape)
