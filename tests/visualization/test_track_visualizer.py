"""Objects drawn on a frame: changed pixels, colours, and unusual values."""
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils

from mmdet.errors import UserError
from mmdet.registry import VISUALIZERS
from mmdet.visualization import TrackVisualizer, color_of

NAMES = ('seal', 'giant panda', 'person', 'dolphin')


def union(instances: InstanceData) -> np.ndarray:
    return mask_utils.decode(mask_utils.merge(list(instances.masks))) > 0


@pytest.mark.parametrize('size', [(16, 9), (160, 90), (640, 360), (3840, 2160), (1, 1), (9, 160)])
def test_any_size(make_scene, size):
    image, instances = make_scene(*size)
    before = image.copy()
    drawn = TrackVisualizer(NAMES).draw(image, instances)
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    assert (drawn != image).any()


@pytest.mark.parametrize('instances', [
    InstanceData(),
    InstanceData(bboxes=np.zeros((0, 4)), scores=np.zeros(0), masks=[], labels=np.zeros(0), instances_id=np.zeros(0)),
    InstanceData(bboxes=np.array([[1., 1, 9, 9]]), scores=np.array([0.5])),
], ids=['nothing known', 'no objects', 'score not above the threshold'])
def test_nothing_to_draw_changes_nothing(make_scene, instances):
    image, _ = make_scene(64, 48)
    np.testing.assert_array_equal(TrackVisualizer(NAMES, 0.5).draw(image, instances), image)


def test_only_pixels_of_masks_are_changed(make_scene):
    image, instances = make_scene(320, 180)
    visualizer = TrackVisualizer(draw_boxes=False, draw_labels=False)
    drawn = visualizer.draw(image, instances)
    inside = union(instances)
    np.testing.assert_array_equal(drawn[~inside], image[~inside])
    assert (drawn != image).any(axis=-1)[inside].mean() > 0.9


def test_tint_and_contour_values():
    mask = np.zeros((40, 60), np.uint8)
    mask[:, 10:30] = 1
    instances = InstanceData(masks=mask[None], instances_id=np.array([4]))
    image = np.full((40, 60, 3), 100, np.uint8)
    drawn = TrackVisualizer(alpha=0.5, draw_boxes=False, draw_labels=False).draw(image, instances)
    color = np.array(color_of(4))
    np.testing.assert_allclose(drawn[20, 20], (100 + color) / 2, atol=1)
    np.testing.assert_array_equal(drawn[20, 10], color)  # the contour, inside the mask
    np.testing.assert_allclose(drawn[0, 20], (100 + color) / 2, atol=1)  # none at the border of the frame


def test_same_id_same_color(make_scene):
    visualizer = TrackVisualizer(draw_masks=False)
    for time in range(3):
        _, instances = make_scene(160, 90, time)
        order = np.random.default_rng(time).permutation(len(instances))
        instances.masks = [instances.masks[i] for i in order]
        for name in ('bboxes', 'scores', 'labels', 'instances_id', 'uncertainties'):
            instances.set_field(instances[name][order], name)
        objects = visualizer.prepare(instances)
        assert [obj.color for obj in objects] == [color_of(i) for i in order]


def test_fields_may_be_missing_or_tensors(make_scene):
    image, instances = make_scene(160, 90)
    dense = mask_utils.decode(list(instances.masks)).transpose(2, 0, 1)
    of_rle = TrackVisualizer(NAMES).draw(image, instances)
    instances.bboxes, instances.labels = torch.from_numpy(instances.bboxes), torch.from_numpy(instances.labels)
    instances.masks = torch.from_numpy(np.ascontiguousarray(dense))
    np.testing.assert_array_equal(TrackVisualizer(NAMES).draw(image, instances), of_rle)
    for name in ('bboxes', 'scores', 'labels', 'instances_id', 'uncertainties', 'masks'):
        fewer = instances.clone()
        fewer.pop(name)
        assert (TrackVisualizer(NAMES).draw(image, fewer) != image).any(), name


def test_annotations_have_no_score_and_are_all_drawn(make_scene):
    _, instances = make_scene(160, 90)
    instances.pop('scores')
    objects = TrackVisualizer(NAMES, score_thr=0.9).prepare(instances)
    assert len(objects) == len(instances)
    assert objects[0].texts[0] == f'#0 {NAMES[instances.labels[0]]}'


@pytest.mark.parametrize('box', [
    [np.nan, 0, 5, 5], [0, 0, np.inf, 5], [-1e30, -1e30, 1e30, 1e30], [50, 50, 10, 10], [900, 900, 990, 990],
    [5, 5, 5, 5]])
@pytest.mark.parametrize('uncertainty', [0., 1., 1e9, np.nan])
def test_boxes_that_are_not_finite_or_huge(box, uncertainty):
    instances = InstanceData(
        bboxes=np.array([box]), scores=np.array([0.9]), labels=np.array([77]), instances_id=np.array([10**12]),
        uncertainties=np.full((1, 4), uncertainty), masks=[mask_utils.encode(np.zeros((60, 80), np.uint8, order='F'))])
    visualizer = TrackVisualizer(NAMES, draw_uncertainty=True, trail_length=3)
    drawn = visualizer.draw(np.zeros((60, 80, 3), np.uint8), instances)
    assert drawn.shape == (60, 80, 3)


def test_uncertainty_ellipses_sit_on_both_corners():
    instances = InstanceData(
        bboxes=np.array([[50., 40, 150, 90]]), instances_id=np.array([0]),
        uncertainties=np.array([[0.1, 0.2, 0.05, 0.1]]))
    image = np.zeros((120, 200, 3), np.uint8)
    visualizer = TrackVisualizer(draw_boxes=False, draw_labels=False, draw_uncertainty=True)
    drawn = visualizer.draw(image, instances).any(axis=-1)
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    # centres (50, 40) and (150, 90); radii 0.1·100, 0.2·50 and 0.05·100, 0.1·50
    np.testing.assert_allclose([columns[0], columns[-1], rows[0], rows[-1]], [40, 155, 30, 95], atol=1)  # soft edges
    assert not drawn[:, 62:144].any()
    assert not drawn[40, 50] and not drawn[90, 150]  # outlines: they hide no object
    assert not TrackVisualizer(draw_boxes=False, draw_labels=False).draw(image, instances).any()  # only if asked for


def test_trails_follow_objects_and_end():
    def at(x: float, track_id: int = 1) -> InstanceData:
        return InstanceData(bboxes=np.array([[x, 10., x + 10, 20]]), instances_id=np.array([track_id]))

    visualizer = TrackVisualizer(trail_length=3)
    for x in range(5):
        trail = visualizer.prepare(at(x))[0].trail
    np.testing.assert_array_equal(trail, [[7, 15], [8, 15], [9, 15]])
    for track_id in range(2, 60):
        visualizer.prepare(at(0, track_id))
    assert len(visualizer._trails) <= 3  # ids that have left are not in memory
    visualizer.reset()
    assert len(visualizer.prepare(at(0))[0].trail) == 1


def test_smaller_picture_of_the_same_objects(make_scene):
    _, instances = make_scene(640, 360)
    visualizer = TrackVisualizer(draw_boxes=False, draw_labels=False)
    small = np.zeros((90, 160, 3), np.uint8)
    tinted = visualizer.draw(small, instances, scale=0.25).any(axis=-1)
    expected = union(instances)[2::4, 2::4]
    assert (tinted != expected).mean() < 0.02


@pytest.mark.parametrize('image', [
    np.zeros((9, 9, 3)), np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), None])
def test_wrong_image(image):
    with pytest.raises(UserError, match='uint8 BGR'):
        TrackVisualizer().draw(image, InstanceData())


def test_registered():
    assert VISUALIZERS.build(dict(type='TrackVisualizer', score_thr=0.3)).score_thr == 0.3
