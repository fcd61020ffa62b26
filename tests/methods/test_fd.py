"""FD against a federation of linear models in NumPy."""

import jax
import numpy as np
import pytest

from scarlet_jax.engine.by_class import ClassVectors
from scarlet_jax.methods import class_knowledge
from scarlet_jax.methods.class_knowledge import Sent, Sizes
from scarlet_jax.methods.fd import fd
from tests.support import plain_linear as plain
from tests.support.populations import CLASSES

pytestmark = pytest.mark.usefixtures("quick_compilation")
GAMMA = 0.7
WHOLE = np.eye(CLASSES)


def teachers(last, client):
    """Class -> mean soft label over the last senders that hold it, but for the client itself."""
    found = {}
    for c in range(CLASSES):
        others = [own[c] for k, own in last.items() if k != client and c in own]
        if others:
            found[c] = np.mean(others, 0)
    return found


def test_a_federation_is_a_plain_loop():
    parts = plain.parts(plain.learner(), server=False)
    data = plain.with_a_rare_class(parts[-1])
    algorithm = class_knowledge.make(lambda numbers: fd(GAMMA), *parts)
    state, device_data = algorithm.init(data), jax.device_put(data)
    models, last = plain.models(state), {}
    untaught = absent = 0
    for _ in range(4):
        state, report = algorithm.round(state, device_data)
        sent, received, losses = {}, [], []
        for k in np.asarray(report.participants).tolist():
            x, y = plain.private(data, k)
            teacher = teachers(last, k)
            received.append(len(teacher))
            untaught += bool(last) and not set(y.tolist()) <= set(teacher)
            absent += bool(last) and k not in last
            target = np.array([teacher.get(c, np.zeros(CLASSES)) for c in y]).reshape(-1, CLASSES)
            seen = []

            def slope(z, y=y, target=target, seen=seen):
                p = plain.softmax(z)
                seen.append(p)
                # The gradient of -sum t log p is p sum t - t, which is 0 without a teacher.
                return p - WHOLE[y] + GAMMA * (p * target.sum(1, keepdims=True) - target)

            models[k] = plain.trained(models[k], x, slope, plain.LR, plain.EPOCHS)
            seen = np.array(seen)
            sent[k] = {c: seen[:, y == c].mean((0, 1)) for c in set(y.tolist())}
            if len(y):
                losses.append(
                    -np.log(seen[-1][WHOLE[y] == 1]).mean() - GAMMA * (target * np.log(seen[-1])).sum(1).mean()
                )
            else:
                losses.append(0)
        last = sent
        plain.assert_models(state, models)
        np.testing.assert_allclose(report.fit_loss, losses, rtol=1e-4)
        holders = [[k for k in sent if c in sent[k]] for c in range(CLASSES)]
        assert np.asarray(state.method.holders).tolist() == list(map(len, holders))
        total = [sum(sent[k][c] for k in own) + np.zeros(CLASSES) for c, own in enumerate(holders)]
        np.testing.assert_allclose(state.method.total, total, rtol=1e-4, atol=1e-5)
        # C float32 for each class both ways, and its index; on the wire one bit for each of 4 classes, so one byte.
        held = [len(own) for own in sent.values()]
        assert report.classes.sent.tolist() == held and report.classes.received.tolist() == received
        billed = algorithm.bill(report)
        assert billed["reference"] == (sum(held) * 24, sum(received) * 24)
        assert billed["wire"] == tuple(sum(n * 16 + 1 for n in own if n) for own in (held, received))
    assert untaught, "a client has a class that no other sender has"
    assert absent, "a client is taught that did not send"


def test_a_class_of_one_sender_teaches_the_others_alone():
    method = fd(1.0)
    vectors = np.full((2, CLASSES, CLASSES), 1 / CLASSES, np.float32)
    known = np.array([[True, True, False, False], [True, False, False, True]])
    state = method.init(Sizes(2, CLASSES, CLASSES))
    assert not method.teach(state, 3).known.any(), "nobody has sent yet"
    state = method.aggregate(state, Sent(ClassVectors(vectors, known), known.astype(np.int32), np.array([3, 5])))
    assert method.teach(state, 3).known.tolist() == [True, False, False, True]
    assert method.teach(state, 5).known.tolist() == [True, True, False, False]
    for other in (0, 4, 9):
        assert method.teach(state, other).known.tolist() == [True, True, False, True]


def test_a_teacher_is_never_negative():
    """The sum without a client's own part may be rounded below 0."""
    rng = np.random.default_rng(0)
    vectors = rng.dirichlet(np.full(CLASSES, 0.05), (3, CLASSES)).astype(np.float32)
    known = np.ones((3, CLASSES), bool)
    sent = Sent(ClassVectors(vectors, known), known.astype(np.int32), np.arange(3))
    method = fd(1.0)
    state = method.aggregate(method.init(Sizes(3, CLASSES, CLASSES)), sent)
    for client in range(3):
        taught = np.asarray(method.teach(state, client).vector)
        others = np.delete(vectors, client, 0).astype(float).mean(0)
        assert (taught >= 0).all()
        np.testing.assert_allclose(taught, others, atol=1e-6)
