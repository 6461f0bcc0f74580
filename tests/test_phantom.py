"""The made-up radiographs keep their promises: determinism, exact masks, a chest's appearance,
disease to learn.
"""

import cv2
import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from hilum import errors
from hilum.imaging import synthetic


def _draw(seed, *, height=128, width=128, disease=None, child=False, marker=True):
    body = synthetic.anatomy(np.random.default_rng(seed), child=child)
    rng = np.random.default_rng([seed, 1])
    return synthetic.draw(body, rng, height=height, width=width, disease=disease, marker=marker)


@pytest.mark.parametrize("disease", (None, *synthetic.DISEASES))
def test_same_arguments_and_seeds_give_the_same_bytes(disease):
    one, two = (_draw(3, disease=disease) for _ in range(2))
    for name in ("pixels", "right_lung", "left_lung"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()
    assert one.pixels.tobytes() != _draw(4, disease=disease).pixels.tobytes()


@pytest.mark.parametrize("shape", [(64, 64), (64, 200), (333, 64), (97, 131), (192, 160)])
@pytest.mark.parametrize("disease", (None, *synthetic.DISEASES))
def test_masks_are_two_whole_disjoint_lungs_at_any_shape(shape, disease):
    for seed in range(5):
        got = _draw(seed, height=shape[0], width=shape[1], disease=disease, child=seed == 4)
        assert got.pixels.shape == got.right_lung.shape == got.left_lung.shape == shape
        assert (
            got.pixels.dtype == np.uint8 and got.right_lung.dtype == got.left_lung.dtype == np.bool_
        )
        assert not (got.right_lung & got.left_lung).any()
        assert 0.15 <= (got.right_lung | got.left_lung).mean() <= 0.45
        assert ndimage.label(got.right_lung)[1] == ndimage.label(got.left_lung)[1] == 1
        assert ndimage.center_of_mass(got.right_lung)[1] < ndimage.center_of_mass(got.left_lung)[1]


def test_masks_lie_on_the_lungs_of_the_image():
    for seed in range(8):
        got = _draw(seed, height=256, width=256)
        for lung in (got.right_lung, got.left_lung):
            depth, away = (
                ndimage.distance_transform_edt(lung),
                ndimage.distance_transform_edt(~lung),
            )
            inside, outside = (
                got.pixels[depth > 4].mean(),
                got.pixels[(away > 2) & (away < 7)].mean(),
            )
            assert inside + 25 < outside  # air is dark, the chest around it is not


def test_bright_is_dense_and_the_heart_lies_to_the_patients_left():
    right = left = 0
    for seed in range(20):
        got = _draw(seed)
        lungs = got.right_lung | got.left_lung
        spine = got.pixels[40:100, 58:70].mean()
        assert got.pixels[lungs].mean() + 30 < spine
        assert got.pixels[60:110, 8:].min() < 30  # air beside the trunk
        right, left = right + got.right_lung.sum(), left + got.left_lung.sum()
    assert left < right


def test_one_body_twice_is_one_patient_on_two_days():
    def similarity(first, second):
        flat = [cv2.resize(p.pixels, (48, 48)).ravel().astype(float) for p in (first, second)]
        return np.corrcoef(*flat)[0, 1]

    def exposures(seed):
        body = synthetic.anatomy(np.random.default_rng(seed))
        return [
            synthetic.draw(body, np.random.default_rng([seed, day]), height=96, width=96)
            for day in range(2)
        ]

    people = [exposures(seed) for seed in range(12)]
    assert all((first.pixels != second.pixels).any() for first, second in people)
    same = np.mean([similarity(*days) for days in people])
    other = np.mean([similarity(people[i][0], people[i - 1][1]) for i in range(12)])
    assert same > other


@pytest.mark.parametrize("disease", synthetic.DISEASES)
def test_disease_makes_the_lungs_denser_and_leaves_the_rest_alone(disease):
    for seed in range(6):
        well, ill = _draw(seed), _draw(seed, disease=disease)
        lungs = well.right_lung | well.left_lung
        change = ill.pixels.astype(int) - well.pixels
        far = cv2.dilate(lungs.astype(np.uint8), np.ones((9, 9))) == 0
        assert not change[far].any()
        assert change[lungs].mean() > 0.05  # subtle ones among them


def test_tuberculosis_lies_high_and_pneumonia_and_effusion_low():
    def height_of_disease(disease, seed):
        well, ill = _draw(seed), _draw(seed, disease=disease)
        rows = np.nonzero(well.right_lung | well.left_lung)[0]
        change = np.abs(ill.pixels.astype(int) - well.pixels).sum(1)
        return (np.average(np.arange(128), weights=change) - rows.min()) / (rows.max() - rows.min())

    high = [height_of_disease("tuberculosis", seed) for seed in range(12)]
    middle = [height_of_disease("pneumonia", seed) for seed in range(12)]
    low = [height_of_disease("effusion", seed) for seed in range(12)]
    assert np.mean(high) < 0.45 < np.mean(middle) < np.mean(low)
    assert min(low) > 0.7


def test_only_an_effusion_is_cut_out_of_the_masks():
    for seed in range(6):
        well = _draw(seed, height=256, width=256)
        for disease in synthetic.DISEASES:
            ill = _draw(seed, height=256, width=256, disease=disease)
            lost = (well.right_lung & ~ill.right_lung) | (well.left_lung & ~ill.left_lung)
            gained = (ill.right_lung & ~well.right_lung) | (ill.left_lung & ~well.left_lung)
            assert not gained.any()
            assert lost.any() == (disease == "effusion")


def test_mean_brightness_does_not_separate_tuberculosis_from_health():
    means = [_draw(seed, height=64, width=64).pixels.mean() for seed in range(60)]
    means += [
        _draw(seed, height=64, width=64, disease="tuberculosis").pixels.mean()
        for seed in range(100, 160)
    ]
    assert 0.3 <= roc_auc_score([0] * 60 + [1] * 60, means) <= 0.7


def test_upper_lung_roughness_separates_some_of_tuberculosis_but_not_all():
    def upper_spread(got):
        lungs = got.right_lung | got.left_lung
        rows = np.nonzero(lungs)[0]
        zone = lungs.copy()
        zone[int(rows.min() + 0.5 * np.ptp(rows)) :] = False
        fine = got.pixels - cv2.GaussianBlur(got.pixels.astype(np.float32), (0, 0), 6)
        return fine[zone].std() / got.pixels[lungs].std()

    scores = [upper_spread(_draw(seed)) for seed in range(60)]
    scores += [upper_spread(_draw(seed, disease="tuberculosis")) for seed in range(100, 160)]
    assert 0.5 < roc_auc_score([0] * 60 + [1] * 60, scores) < 0.98


def test_marker_is_bright_stands_outside_the_lungs_and_can_be_left_out():
    for seed in range(6):
        with_marker, without = (
            _draw(seed, height=256, width=256),
            _draw(seed, height=256, width=256, marker=False),
        )
        drawn = with_marker.pixels.astype(int) - without.pixels > 60
        assert drawn.any() and np.nonzero(drawn)[0].max() < 64
        assert not (drawn & (with_marker.right_lung | with_marker.left_lung)).any()
        assert (with_marker.right_lung == without.right_lung).all()


def test_size_changes_the_grid_not_the_patient():
    small, large = (_draw(5, height=n, width=n, disease="pneumonia") for n in (128, 512))
    for name in ("right_lung", "left_lung"):
        coarse = (
            cv2.resize(
                getattr(large, name).astype(np.float32), (128, 128), interpolation=cv2.INTER_AREA
            )
            > 0.5
        )
        fine = getattr(small, name)
        assert 2 * (coarse & fine).sum() / (coarse.sum() + fine.sum()) > 0.97


def test_wrong_arguments_are_refused_with_a_remedy():
    with pytest.raises(errors.NotFound, match="did you mean 'pneumonia'"):
        _draw(0, disease="pnuemonia")
    with pytest.raises(errors.BadRecipe, match="63x100.*64"):
        _draw(0, height=63, width=100)
