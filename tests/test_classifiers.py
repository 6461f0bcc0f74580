"""Classifiers of several findings: what is trained on an unknown label, and what every one of them
promises about its outputs.
"""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import onnxruntime
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

torch = pytest.importorskip("torch")

from hilum import plugins  # noqa: E402
from hilum.errors import BadData, BadRecipe, NotFound, TooFew  # noqa: E402
from hilum.training import classification, efficientnet_backbone, onnx_export, training_loop  # noqa: E402
from hilum.training.device_augmentation import DeviceAugmentation  # noqa: E402
from hilum.training.models import densenet121, efficientnet_lite0, linear_probe  # noqa: E402

SIZE, COUNT = 64, 64
CONCEPTS = ("blob", "stripe")
SETTINGS = {
    # Of images as small as these, bfloat16 takes more than twice as long, and half a batch is too
    # little to normalise by.
    "efficientnet_lite0": {
        "epochs": 2,
        "least_steps": 24,
        "frozen": 4,
        "dropout": 0.0,
        "precision": "float32",
        "accumulate": 1,
    },
    "densenet121": {"epochs": 1, "least_steps": 2},
    "linear_probe": {},
}
MODELS = sorted(SETTINGS)
QUICK_LEARNERS = (
    "efficientnet_lite0",
    "linear_probe",
)  # from random weights DenseNet-121 learns nothing in a few batches


def radiographs(count=COUNT, seed=0):
    """Grey noise, some with a bright blob, some with a dark stripe; targets (count, 2), every third
    cell of each column unknown.
    """
    rng = np.random.default_rng(seed)
    targets = (rng.random((count, 2)) < 0.5).astype(np.float32)
    images = rng.normal(110, 12, (count, SIZE, SIZE))
    for image, (blob, stripe) in zip(images, targets, strict=True):
        row, column = rng.integers(8, SIZE - 24, 2)
        image[row : row + 14, column : column + 14] += 90 * blob
        image[:, column : column + 4] -= 80 * stripe
    targets[0::3, 0], targets[1::3, 1] = np.nan, np.nan
    return images.clip(0, 255).astype(np.uint8), targets


def module_of(name):
    return plugins.load("models", name)


def fitted(name, images, targets, rows, concepts=CONCEPTS, seed=0, **training):
    module = module_of(name)
    return module.fit(
        images,
        targets,
        rows,
        module.Settings(**SETTINGS[name]),
        concepts=concepts,
        seed=seed,
        **training,
    )


def ask(network, images):
    with torch.no_grad():
        return [output.numpy() for output in network(torch.from_numpy(images))]


@cache
def network_of(name):
    images, targets = radiographs()
    return fitted(name, images, targets, np.arange(COUNT))


# ----------------------------------------------------------------------------------------- learning


def test_every_model_of_findings_is_tested_here():
    assert [
        name
        for name in plugins.names("models")
        if plugins.defaults("models", name, "Settings") and module_of(name).TASK == "finding"
    ] == MODELS


def test_the_gradient_of_an_unknown_cell_is_zero_and_of_a_known_one_is_not():
    logits = torch.randn((5, 3), generator=torch.Generator().manual_seed(0), requires_grad=True)
    truth = torch.tensor(
        [
            [1, float("nan"), 0],
            [float("nan")] * 3,
            [0, 1, float("nan")],
            [0.7, 0, 1],
            [float("nan"), 0, 1],
        ]
    )
    classification.loss(logits, truth, torch.tensor([1.0, 5.0, 0.2])).backward()
    assert torch.equal(logits.grad == 0, truth.isnan()) and logits.grad.isfinite().all()


def test_the_loss_is_the_weighted_cross_entropy_of_the_known_cells():
    rng = np.random.default_rng(0)
    logits, truth, balance = rng.normal(size=(9, 2)), rng.random((9, 2)), np.array([3.0, 0.5])
    truth[rng.random((9, 2)) < 0.3] = np.nan
    likely = 1 / (1 + np.exp(-logits))
    cells = -(balance * truth * np.log(likely) + (1 - truth) * np.log(1 - likely))
    found = classification.loss(*(torch.from_numpy(array) for array in (logits, truth, balance)))
    assert float(found) == pytest.approx(np.nanmean(cells))
    nothing = torch.full((4, 2), float("nan"), dtype=torch.float64)
    assert (
        float(classification.loss(torch.zeros((4, 2), dtype=torch.float64), nothing, torch.ones(2)))
        == 0
    )


def test_a_rare_finding_weighs_as_much_as_its_absence_but_within_bounds():
    targets = np.full((1000, 3), np.nan, np.float32)
    targets[:100, 0], targets[:, 1], targets[:, 2] = 0, 0, 1
    targets[:25, 0], targets[0, 1], targets[0, 2] = 1, 1, 0
    assert classification.balanced(targets).tolist() == pytest.approx(
        [3, classification.BALANCE, 1 / classification.BALANCE]
    )


@pytest.mark.parametrize("name", QUICK_LEARNERS)
def test_every_finding_is_learned_although_a_third_of_its_cells_is_unknown(name):
    images, _ = radiographs(90, seed=1)
    score, *_ = ask(network_of(name), images)
    rng = np.random.default_rng(1)
    truth = rng.random((90, 2)) < 0.5  # the first draw of `images`, without its unknown cells
    assert all(roc_auc_score(truth[:, column], score[:, column]) > 0.9 for column in (0, 1))


@pytest.mark.parametrize(
    "name, settings",
    [("efficientnet_lite0", {"epochs": 1, "least_steps": 1}), ("linear_probe", {})],
)
def test_only_its_rows_are_trained_on(name, settings):
    images, targets = radiographs(32)
    changed, other = images.copy(), targets.copy()
    changed[20:], other[20:] = 0, 1 - other[20:]
    module = module_of(name)
    first, second = (
        module.fit(*pair, np.arange(20), module.Settings(**settings), concepts=CONCEPTS, seed=0)
        for pair in ((images, targets), (changed, other))
    )
    assert all(
        torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items()
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_finding_that_is_all_unknown_or_one_sided_is_refused_by_name(name):
    images, targets = radiographs(12)
    targets[:, 0], targets[:, 1] = np.nan, 1
    with pytest.raises(
        TooFew,
        match=(
            r"blob: 0 image\(s\) with the finding and 0 without; stripe: 12 image\(s\) with the "
            r"finding and 0 without"
        ),
    ):
        fitted(name, images, targets, np.arange(12))


def test_a_training_that_was_interrupted_reaches_the_same_weights_with_tune_images_watched(
    tmp_path,
):
    images, targets = radiographs(64)
    checkpoint = tmp_path / "checkpoint"
    rows, tune = np.arange(24), np.arange(24, 64)
    settings = efficientnet_lite0.Settings(
        epochs=3,
        least_steps=1,
        batch_size=8,
        precision="float32",
        frozen=5,
        watch="auroc",
        patience=0.0,
    )

    def fit(heard, **options):
        return efficientnet_lite0.fit(
            images,
            targets,
            rows,
            settings,
            concepts=CONCEPTS,
            seed=0,
            tune=tune,
            on_epoch=heard.append,
            **options,
        )

    def stop_in_the_last_epoch(done, of):
        if done == of:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit([], checkpoint=checkpoint, progress=stop_in_the_last_epoch)
    heard, undisturbed = [], []
    resumed, whole = fit(heard, checkpoint=checkpoint), fit(undisturbed)
    assert heard == undisturbed and any(epoch.tune is not None for epoch in heard)
    assert all(
        torch.equal(value, whole.state_dict()[key]) for key, value in resumed.state_dict().items()
    )


def test_a_checkpoint_of_other_labels_is_not_gone_on_from(tmp_path):
    images, targets = radiographs(16)
    settings = efficientnet_lite0.Settings(epochs=2, least_steps=1, frozen=6)

    def stop_in_the_last_epoch(done, of):
        if done == of:
            raise KeyboardInterrupt

    def fit(truth, **options):
        return efficientnet_lite0.fit(
            images,
            truth,
            np.arange(16),
            settings,
            concepts=CONCEPTS,
            seed=0,
            checkpoint=tmp_path / "checkpoint",
            **options,
        )

    with pytest.raises(KeyboardInterrupt):
        fit(targets, progress=stop_in_the_last_epoch)
    corrected, heard = targets.copy(), []
    corrected[15, 0] = 1 - np.nan_to_num(corrected[15, 0])
    fit(corrected, progress=lambda done, of: heard.append(done))
    assert heard[0] == 1


# ----------------------------------------------------------------------------------------- watching


def watching(settings, targets, tune):
    return classification._watch(
        settings,
        np.zeros((len(targets), 2, 2), np.uint8),
        targets,
        tune,
        torch.ones(targets.shape[1]),
    )


def test_the_tune_part_is_watched_only_for_findings_of_which_it_holds_enough():
    rng = np.random.default_rng(0)
    targets = np.stack(
        [
            np.arange(60) % 2,
            np.arange(60) < 3,
            np.where(np.arange(60) < 40, np.nan, np.arange(60) % 2),
        ],
        1,
    ).astype(np.float32)
    assert classification.watchable(targets).tolist() == [0, 2]
    logits = torch.from_numpy(rng.normal(size=(60, 3)))
    given = iter(torch.split(logits, classification.TOGETHER))
    watch = watching(efficientnet_lite0.Settings(watch="auroc"), targets, np.arange(60))
    expected = [
        roc_auc_score(targets[known, column], logits[known, column])
        for column, known in ((0, slice(60)), (2, slice(40, 60)))
    ]
    assert watch.score(lambda images: next(given)) == pytest.approx(np.mean(expected))
    assert (
        watching(efficientnet_lite0.Settings(watch="auroc"), targets[:, 1:2], np.arange(60)) is None
    )
    assert (
        watching(efficientnet_lite0.Settings(watch="none"), targets, np.arange(60)) is None
        and watching(efficientnet_lite0.Settings(watch="auroc"), targets, None) is None
    )


def test_watching_the_loss_is_higher_for_better_and_an_unknown_way_of_watching_is_refused():
    targets = (np.arange(40)[:, None] % 2).astype(np.float32)
    watch = watching(efficientnet_lite0.Settings(watch="loss"), targets, np.arange(40))
    scores = [
        watch.score(
            lambda images, sure=sure: torch.from_numpy(
                sure * np.tile([[-1.0], [1.0]], (len(images) // 2, 1))
            )
        )
        for sure in (0, 1, 3)
    ]
    assert scores == sorted(scores) and scores[0] == pytest.approx(-np.log(2))
    with pytest.raises(BadRecipe, match="watch is 'accuracy'; expected one of auroc, loss, none"):
        watching(efficientnet_lite0.Settings(watch="accuracy"), targets, np.arange(40))


# ------------------------------------------------------------------------------------------ outputs


@pytest.mark.parametrize("name", MODELS)
def test_scores_lie_between_0_and_1_and_the_maps_mean_gives_the_logit(name):
    network = network_of(name)
    images, _ = radiographs(6, seed=2)
    score, where, _ = ask(network, images)
    assert (
        score.dtype == where.dtype == np.float32
        and score.shape == (6, 2)
        and (score > 0).all()
        and (score < 1).all()
    )
    assert where.shape[:2] == (6, 2) and where.shape[2] == where.shape[3] == SIZE // (
        linear_probe.GRID if name == "linear_probe" else 32
    )
    bias = (
        (network.network.bias if name == "linear_probe" else network.network.last.bias)
        .detach()
        .numpy()
    )
    np.testing.assert_allclose(
        np.log(score / (1 - score)),
        np.clip(where.mean((2, 3)) + bias, -classification.SURE, classification.SURE),
        atol=2e-3,
        rtol=1e-3,
    )


def test_no_logit_is_so_large_that_a_score_is_0_or_1():
    class Sure(classification.MappingClassifier):
        def outputs(self, x):
            return torch.tensor([[1e4, -1e4]]), x, x[:, 0, 0]

    score, *_ = ask(classification.ExportableClassifier(Sure()), np.zeros((1, 8, 8), np.uint8))
    assert 0 < score.min() < score.max() < 1


@pytest.mark.parametrize("name", MODELS)
def test_batch_equals_one_by_one_and_onnx_equals_torch(name, tmp_path):
    network = network_of(name)
    images, _ = radiographs(5, seed=3)
    images[0] = 0  # an empty image has no spread to divide by
    together, alone = ask(network, images), [ask(network, image[None]) for image in images]
    outputs = module_of(name).OUTPUTS
    assert outputs == ("score", "map", "features")
    onnx_export.to_onnx(
        network,
        tmp_path / "model.onnx",
        size=SIZE,
        outputs=outputs,
        metadata={"concepts": json.dumps(CONCEPTS)},
    )
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    for place, found in enumerate(session.run(list(outputs), {onnx_export.INPUT: images})):
        largest = max(1, np.abs(together[place]).max())
        np.testing.assert_allclose(
            np.concatenate([one[place] for one in alone]), together[place], atol=1e-5 * largest
        )
        # The logarithm of a faint channel's deviation magnifies rounding.
        within = 1e-3 if outputs[place] == "features" else 1e-4
        np.testing.assert_allclose(found, together[place], atol=within * largest)


# ---------------------------------------------------------------------------------------- the probe


def test_the_probe_is_the_logistic_regression_that_scikit_learn_finds():
    images, targets = radiographs(48, seed=4)
    strength = 0.05
    network = linear_probe.fit(
        images,
        targets,
        np.arange(48),
        linear_probe.Settings(strength=strength),
        concepts=CONCEPTS,
        seed=0,
    ).network
    with torch.no_grad():
        seen = linear_probe._features(images, np.arange(48), training_loop.ignore)
    seen = ((seen - network.mean) / network.deviation).numpy()
    balance = classification.balanced(targets).numpy()
    for column in (0, 1):
        known = ~np.isnan(targets[:, column])
        weight = {0: 1.0, 1: float(balance[column])}
        theirs = LogisticRegression(
            C=1 / (strength * known.sum()), class_weight=weight, tol=1e-10, max_iter=10_000
        ).fit(seen[known], targets[known, column])
        np.testing.assert_allclose(network.weights[column].numpy(), theirs.coef_[0], atol=1e-4)
        assert float(network.bias[column]) == pytest.approx(float(theirs.intercept_[0]), abs=1e-3)


def test_the_probe_chooses_its_strength_on_the_tune_part_where_that_is_large_enough(monkeypatch):
    monkeypatch.setattr(linear_probe, "STRENGTHS", (1.0, 0.1, 0.001))
    images, targets = radiographs(100, seed=5)
    targets = np.where(np.isnan(targets), 0, targets)
    rows, tune = np.arange(40), np.arange(40, 100)
    chosen = fitted("linear_probe", images, targets, rows, tune=tune)

    def error(network):
        score, truth = ask(network, images[tune])[0], targets[tune]
        balance = classification.balanced(targets[rows]).numpy()
        return -(balance * truth * np.log(score) + (1 - truth) * np.log(1 - score)).mean()

    others = [
        linear_probe.fit(
            images,
            targets,
            rows,
            linear_probe.Settings(strength=strength),
            concepts=CONCEPTS,
            seed=0,
        )
        for strength in linear_probe.STRENGTHS
    ]
    assert error(chosen) == pytest.approx(min(map(error, others)), rel=1e-3)
    few, without = (
        fitted("linear_probe", images, targets, rows, tune=part) for part in (tune[:5], None)
    )
    assert torch.equal(few.network.weights, without.network.weights)


# -------------------------------------------------------------------------- weights of a user's own


def torchvision_named(channels, old=False):
    """A made-up state dict of a DenseNet-121 with torchvision's names, of MONAI's own random
    weights; `old` has CheXNet's.
    """
    with training_loop.seeded(3):
        body = densenet121.features(None).body
    names = {
        name.replace(".layers", ""): value.clone() for name, value in body.state_dict().items()
    }
    generator = torch.Generator().manual_seed(channels)
    names = {
        name: torch.rand(value.shape, generator=generator) + 0.5 if "running" in name else value
        for name, value in names.items()
    }
    names["conv0.weight"] = torch.randn((64, channels, 7, 7), generator=generator)
    reported = {f"features.{name}": value for name, value in names.items()}
    if old:
        split = {part: f"{part[:-1]}.{part[-1]}" for part in ("norm1", "norm2", "conv1", "conv2")}
        reported = {
            f"module.densenet121.{'.'.join(split.get(part, part) if 'denselayer' in name else part for part in name.split('.'))}": value
            for name, value in reported.items()
        }
        reported = {
            name: value
            for name, value in reported.items()
            if not name.endswith("num_batches_tracked")
        }
        return {
            "state_dict": {
                **reported,
                "module.densenet121.classifier.0.weight": torch.zeros(14, 1024),
            },
            "epoch": 3,
        }, names
    return {
        **reported,
        "classifier.weight": torch.zeros(18, 1024),
        "op_threshs": torch.zeros(18),
    }, names


@pytest.mark.parametrize("channels, old", [(1, False), (3, False), (3, True)])
def test_weights_with_torchvisions_names_come_to_their_place_with_their_own_scale(
    channels, old, tmp_path
):
    reported, names = torchvision_named(channels, old)
    torch.save(reported, tmp_path / "weights.pt")
    found = densenet121.features(densenet121.read_weights(tmp_path / "weights.pt")).eval()
    for name, value in found.body.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(
            value, names[name.replace(".layers", "")]
        ), name
    grey = torch.rand((2, 1, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    if channels == 1:
        scaled = (2 * grey - 1) * 1024  # as torchxrayvision.datasets.normalize scales an image
    else:
        mean, spread = (
            torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1),
            torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1),
        )
        scaled = (grey.expand(-1, 3, -1, -1) - mean) / spread
    with torch.no_grad():
        torch.testing.assert_close(
            found(grey), torch.relu(found.body(scaled)), rtol=1e-3, atol=1e-3
        )


def test_weights_of_another_network_and_files_that_are_none_are_refused_with_what_is_wrong(
    tmp_path,
):
    reported, _ = torchvision_named(1)
    path = tmp_path / "weights.pt"
    for change, words in (
        (
            {"features.layer4.weight": torch.zeros(1), "head.weight": torch.zeros(1)},
            r"layer4.weight\n  head.weight",
        ),
        (
            {"features.denseblock5.denselayer1.norm1.weight": torch.zeros(1)},
            "denseblock5.denselayer1.layers.norm1.weight is unknown",
        ),
        (
            {"features.norm5.weight": torch.zeros(7)},
            r"norm5.weight has shape \(7,\), expected \(1024,\)",
        ),
        ({"features.conv0.weight": torch.zeros(64, 2, 7, 7)}, "of 1 or 3 channels"),
    ):
        torch.save({**reported, **change}, path)
        with pytest.raises(BadData, match=words):
            densenet121.features(densenet121.read_weights(path))
    torch.save({name: value for name, value in reported.items() if "norm0" not in name}, path)
    with pytest.raises(BadData, match="norm0.weight is missing"):
        densenet121.features(densenet121.read_weights(path))
    with pytest.raises(NotFound, match="there is no file"):
        densenet121.read_weights(tmp_path / "none.pt")
    torch.save([1, 2], path)
    with pytest.raises(BadData, match="holds list, not a state dict"):
        densenet121.read_weights(path)


def test_a_model_saved_whole_is_refused_with_the_way_to_a_state_dict(tmp_path):
    torch.save(torch.nn.Conv2d(1, 1, 3), tmp_path / "whole.pt")
    with pytest.raises(
        BadData,
        match=r"saved whole, as TorchXRayVision's releases are.*weights_only=False\).state_dict\(\)",
    ):
        densenet121.read_weights(tmp_path / "whole.pt")


def test_frozen_blocks_keep_the_files_weights_and_statistics_and_the_others_learn(tmp_path):
    reported, names = torchvision_named(1)
    torch.save(reported, tmp_path / "weights.pt")
    images, targets = radiographs(8)
    settings = densenet121.Settings(
        weights=str(tmp_path / "weights.pt"),
        frozen=3,
        epochs=1,
        least_steps=1,
        batch_size=4,
        precision="float32",
    )
    network = densenet121.fit(
        images, np.nan_to_num(targets[:, :1]), np.arange(8), settings, concepts=CONCEPTS[:1], seed=0
    )
    state = network.network.features.body.state_dict()
    same = {
        name: torch.equal(value, names[name.replace(".layers", "")])
        for name, value in state.items()
        if not name.endswith("tracked")
    }
    frozen = {
        name
        for name in same
        if name.startswith(
            (
                "conv0",
                "norm0",
                "denseblock1",
                "denseblock2",
                "denseblock3",
                "transition1",
                "transition2",
            )
        )
    }
    assert all(same[name] for name in frozen) and not any(
        same[name] for name in same if name.endswith("conv2.weight") and "denseblock4" in name
    )
    with pytest.raises(BadRecipe, match="DenseNet-121 takes squares"):
        efficientnet_backbone.check_size(70, 70, network="DenseNet-121")


def test_sources_are_balanced_and_images_changed_on_the_device_where_the_settings_say_so(
    monkeypatch,
):
    handed = []

    def note(network, examples, *_, **more) -> None:
        handed.append(examples)

    monkeypatch.setattr(classification.training_loop, "fit", note)
    images, targets = np.zeros((6, SIZE, SIZE), np.uint8), np.tile([[0, 1], [1, 0]], (3, 1))
    sources = np.array(["large", "large", "small", "large", "large", "small"])

    def fit(**changed):
        settings = replace(efficientnet_lite0.Settings(pretrained=False), **changed)
        return efficientnet_lite0.fit(
            images, targets, np.arange(6), settings, seed=0, concepts=CONCEPTS, sources=sources
        )

    fit(sampling="balanced", augment_on="device")
    assert handed[-1].groups.tolist() == [0, 0, 1, 0, 0, 1]
    assert isinstance(handed[-1].finish, DeviceAugmentation)
    fit()
    assert handed[-1].groups is None and handed[-1].finish is training_loop.as_fractions
    for wrong in ({"sampling": "even"}, {"augment_on": "gpu"}):
        with pytest.raises(BadRecipe, match="expected"):
            fit(**wrong)


def test_relu6_of_bfloat16_has_the_values_and_gradients_of_pytorchs():
    odd = torch.tensor([-torch.inf, -0.0, 0.0, 6.0, torch.inf])
    given = torch.cat([torch.linspace(-8, 9, 401), odd]).to(torch.bfloat16).requires_grad_()
    slopes = torch.linspace(-1, 1, len(given)).to(torch.bfloat16)
    expected = torch.nn.functional.relu6(given)
    found = efficientnet_backbone.relu6(given * 1)
    assert torch.equal(found, expected)
    (wanted,) = torch.autograd.grad(expected, given, slopes)
    (had,) = torch.autograd.grad(found, given, slopes)
    assert torch.equal(had, wanted)


@pytest.mark.filterwarnings("ignore")
def test_weights_that_are_no_numbers_reach_all_gradients_in_bfloat16():
    images = torch.rand(4, 1, 64, 64)
    backbone = efficientnet_backbone.Backbone().train()
    with torch.no_grad():
        backbone.stages[3][0].layers[2].convolution.weight[0] = torch.nan
    with torch.autocast("cpu", torch.bfloat16):
        loss = backbone(images).float().sum()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(backbone.parameters(), 5.0)
    assert norm.isnan() and backbone.head.convolution.weight.grad.isnan().all()
