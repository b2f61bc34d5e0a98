"""Overlaps of the tracks of a video by category equal those of their pixels, with few calls of pycocotools."""
import numpy as np
import pytest

from mmdet.evaluation.functional import Track
from mmdet.evaluation.functional import overlaps as module
from mmdet.evaluation.functional.overlaps import overlaps
from mmdet.structures.masks import encode_masks

SIZE = (24, 30)


def track(masks, category):
    """Convert masks (T, h, w) to a track; empty frames have no mask."""
    areas = masks.sum((1, 2))
    rles = [dict(rle, counts=rle['counts'].decode()) if area else None
            for rle, area in zip(encode_masks(masks), areas)]
    return Track(1, category, rles, areas, None, areas)


def discs(rng, centre, radius, length):
    y, x = np.ogrid[:SIZE[0], :SIZE[1]]
    centres = centre + rng.normal(0, 1, (length, 2))
    masks = np.array([(y - cy) ** 2 + (x - cx) ** 2 < radius ** 2 for cy, cx in centres])
    return masks & (rng.random((length, 1, 1)) < 0.9)


def by_pixels(predictions, truths):
    both = [[(mine & theirs).sum() / max((mine | theirs).sum(), 1) for theirs in truths]
            for mine in predictions]
    return np.array(both).reshape(len(predictions), len(truths))


@pytest.fixture
def questions(monkeypatch):
    """Record the numbers of predictions and annotations of every call of pycocotools."""
    asked, ask = [], module.video_mask_iou

    def count(predictions, truths, *areas):
        asked.append((len(predictions), len(truths)))
        return ask(predictions, truths, *areas)

    monkeypatch.setattr(module, 'video_mask_iou', count)
    return asked


@pytest.mark.parametrize('seed', range(20))
def test_equal_the_overlaps_of_pixels_from_the_lowest_threshold_on(seed):
    rng = np.random.default_rng(seed)
    categories, expected = [], []
    for category in range(rng.integers(1, 9)):
        truths = [discs(rng, rng.uniform(0, SIZE), rng.uniform(2, 12), 4) for _ in range(rng.integers(0, 5))]
        predictions = [discs(rng, rng.uniform(0, SIZE), rng.uniform(2, 12), 4) for _ in range(rng.integers(0, 3))]
        predictions += [mask & (rng.random(mask.shape) < 0.9) for mask in truths if rng.random() < 0.7]
        categories.append(([track(mask, category) for mask in predictions], [track(mask, category) for mask in truths]))
        expected.append(by_pixels(predictions, truths))
    found = overlaps(categories, 'segm')
    assert [one.shape for one in found] == [one.shape for one in expected]
    for ours, theirs in zip(found, expected):
        assert (ours <= theirs).all()
        assert np.array_equal(ours[theirs >= 0.5], theirs[theirs >= 0.5])


def test_many_small_categories_share_calls(questions):
    rng = np.random.default_rng(0)
    tracks = [track(discs(rng, (12, 15), 8, 3), category) for category in range(20)]
    found = overlaps([([one], [one]) for one in tracks], 'segm')
    assert all(np.array_equal(one, [[1.]]) for one in found)
    assert len(questions) <= 3 and sum(one for one, _ in questions) == 20


def test_large_categories_are_not_mixed(questions):
    rng = np.random.default_rng(0)
    tracks = [track(discs(rng, (12, 15), 8, 3), 0) for _ in range(6)]
    overlaps([(tracks, tracks)] * 3, 'segm')
    assert questions == [(6, 6)] * 3


def test_masks_of_too_different_size_and_times_are_not_compared(questions):
    rng = np.random.default_rng(0)
    small, large = discs(rng, (12, 15), 3, 4), discs(rng, (12, 15), 9, 4)
    early, late = large.copy(), large.copy()
    early[2:], late[:2] = False, False
    nothing = np.zeros_like(small)
    for one, other in ((small, large), (early, late), (nothing, large), (nothing, nothing)):
        assert overlaps([([track(one, 0)], [track(other, 0)])], 'segm')[0] == 0
    assert questions == []
