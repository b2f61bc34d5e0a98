"""Objects of another video pasted onto a clip: the same geometry in all frames, visible masks, unique ids."""
import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_utils

from mmdet.datasets import OVISDataset, SeededIndex, WeightedConcatDataset, YVISDataset
from mmdet.datasets.transforms import (
    CopyPasteClip,
    LoadTrackAnnotations,
    LoadTrackFrames,
    PackTrackInputs,
    copy_paste,
)
from mmdet.errors import UserError
from tests.datasets.transforms.clips import check_frame, equal_frames, rectangle_clip

SIZE = (60, 80)  # height and width
PLAIN = dict(max_objects=1, scale=(1, 1), flip_prob=0, prob=1)
LOAD = [LoadTrackFrames(), LoadTrackAnnotations()]
# category, then x, y, width, height in the first frame, and pixels to the right in each further frame
VIDEOS = [[(1, 30, 20, 20, 24, 0)], [(2, 10, 10, 16, 12, 3)]]


def write_set(folder, videos=VIDEOS, frames=4, occlusion=False):
    """Write a set whose objects are white rectangles on black, the later ones in front."""
    content = dict(videos=[], annotations=[], categories=[dict(id=1, name='one'), dict(id=2, name='two')])
    for number, objects in enumerate(videos, 1):
        masks = np.zeros((len(objects), frames, *SIZE), np.uint8)
        for mask, (_, x, y, width, height, speed) in zip(masks, objects):
            for time in range(frames):
                mask[time, y:y + height, x + speed * time:x + speed * time + width] = 1
        names = [f'{number}/{time}.png' for time in range(frames)]
        (folder / str(number)).mkdir(parents=True)
        for time, name in enumerate(names):
            shown = masks[:, time].any(0)[..., None].repeat(3, axis=2)
            cv2.imwrite(str(folder / name), shown.astype(np.uint8) * 255)
        content['videos'].append(dict(id=number, width=SIZE[1], height=SIZE[0], length=frames, file_names=names))
        for place, (category, *_) in enumerate(objects):
            visible = masks[place] & ~masks[place + 1:].any(0)
            rles = [mask_utils.encode(np.asfortranarray(mask)) for mask in visible]
            content['annotations'].append(dict(
                id=len(content['annotations']) + 1, video_id=number, category_id=category, iscrowd=0,
                bboxes=[mask_utils.toBbox(rle).tolist() for rle in rles],
                areas=[int(mask_utils.area(rle)) for rle in rles],
                segmentations=[dict(size=list(SIZE), counts=rle['counts'].decode()) for rle in rles],
                **(dict(occlusion=['no_occlusion'] * frames) if occlusion else {})))
    (folder / 'annotations.json').write_text(json.dumps(content))
    return folder


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp('two'))


def dataset_of(root, *steps, kind=YVISDataset, **kwargs):
    return kind('annotations.json', str(root), pipeline=[*LOAD, *steps], **kwargs)


def frames_of(dataset, index, seed):
    return dataset[SeededIndex(index, (seed,))]['frames']


def test_probability_zero_changes_nothing(root):
    plain, never = dataset_of(root), dataset_of(root, CopyPasteClip(prob=0))
    assert all(map(equal_frames, frames_of(plain, 0, 3), frames_of(never, 0, 3)))


def test_the_object_of_the_other_video_with_a_new_id(root):
    """Away from the borders and at scale 1, it has the pixels that it has in its own video."""
    dataset, whole = dataset_of(root, CopyPasteClip(**PLAIN)), 0
    for seed in range(30):
        for frame in frames_of(dataset, 0, seed):
            check_frame(frame)
            labels = dict(zip(frame['gt_instances_id'].tolist(), frame['gt_labels'].tolist()))
            assert labels.items() <= {1: 0, 2: 1}.items()  # its own id there is 2; the largest here is 1
            area = frame['gt_masks'][frame['gt_instances_id'] == 2].sum()
            assert area <= 16 * 12
            whole += area == 16 * 12
    assert whole > 20


def test_visible_masks_partition_the_union_of_both(root):
    """The pasted rectangle is whole; the one behind it has lost exactly their common pixels."""
    dataset = dataset_of(root, CopyPasteClip(**PLAIN, min_share=0, min_area=1))
    behind, overlaps = frames_of(dataset_of(root), 0, 0)[0]['gt_masks'][0], 0
    for seed in range(40):
        for frame in frames_of(dataset, 0, seed):
            masks = dict(zip(frame['gt_instances_id'].tolist(), frame['gt_masks']))
            if len(masks) == 2:
                x1, y1, x2, y2 = frame['gt_bboxes'][frame['gt_instances_id'] == 2][0].astype(int)
                assert masks[2].sum() == (x2 - x1 + 1) * (y2 - y1 + 1)
                assert np.array_equal(masks[1], behind & (1 - masks[2]))
                overlaps += masks[1].sum() < behind.sum()
    assert overlaps > 5


@pytest.mark.parametrize('motion', [0, .2])
def test_the_geometry_is_the_same_in_all_frames(root, motion):
    """The object moves by 3 pixels a frame times its scale, with the motion evenly on top of it, mirrored by a flip."""
    dataset = dataset_of(root, CopyPasteClip(max_objects=1, scale=(1, 1), prob=1, motion=motion, min_share=0),
                         train_clip_len=4)
    speeds = set()
    for seed in range(60):
        boxes = [frame['gt_bboxes'][frame['gt_instances_id'] == 2] for frame in frames_of(dataset, 0, seed)]
        if not all(map(len, boxes)):
            continue
        boxes = np.concatenate(boxes)
        if (boxes[:, :2] > 0).all() and (boxes[:, 2:] < (SIZE[1] - 1, SIZE[0] - 1)).all():
            steps = np.diff(boxes[:, :2], axis=0)
            assert np.ptp(steps, axis=0).max() <= (1 if motion else 0)
            speeds.add(tuple(steps[0]))
    assert speeds == {(3, 0), (-3, 0)} if not motion else len(speeds) > 4


def test_the_scale_is_within_its_range(root):
    dataset, widths = dataset_of(root, CopyPasteClip(max_objects=1, scale=(.5, 2), prob=1)), []
    for seed in range(60):
        frame = frames_of(dataset, 0, seed)[0]
        for x1, y1, x2, y2 in frame['gt_bboxes'][frame['gt_instances_id'] == 2]:
            if x1 > 0 and x2 < SIZE[1] - 1 and y1 > 0 and y2 < SIZE[0] - 1:
                widths.append(x2 - x1 + 1)
                assert (y2 - y1 + 1) == pytest.approx(widths[-1] * 12 / 16, abs=1)
    assert min(widths) >= 7 and max(widths) <= 33 and min(widths) < 14 and max(widths) > 24


def test_an_object_of_a_clip_of_another_shape_is_scaled_as_its_clip_fits(root):
    """60×80 fits into 120×40 at a factor of 2/3: of 16×12 pixels, 10.7×8 remain."""
    dataset = dataset_of(root)
    for size in ((40, 120), (120, 40)):
        sizes = set()
        for seed in range(20):
            clip = rectangle_clip(size=size, seed=seed)
            clip['draw_clip'] = lambda rng: [dataset._frame(1, frame) for frame in range(2)]
            frame = CopyPasteClip(**PLAIN)(clip)['frames'][0]
            check_frame(frame)
            sizes |= {(box[2] - box[0] + 1, box[3] - box[1] + 1) for box in frame['gt_bboxes']}
        factor = min(max(size) / 80, min(size) / 60)
        assert max(width for width, _ in sizes) == pytest.approx(16 * factor, abs=1)
        assert max(height for _, height in sizes) == pytest.approx(12 * factor, abs=1)


def test_objects_with_too_little_left_are_removed(root):
    """A large object covers the other one, which is then not annotated."""
    dataset = dataset_of(root, CopyPasteClip(max_objects=1, scale=(3, 3), prob=1, min_share=.5))
    kept = set()
    for seed in range(40):
        frame = frames_of(dataset, 0, seed)[0]
        remaining = frame['gt_masks'][frame['gt_instances_id'] == 1]
        kept.add(len(remaining))
        assert all(mask.sum() >= 240 for mask in remaining)
    assert kept == {0, 1}


def test_an_object_that_the_border_of_its_image_cuts_keeps_its_colour(tmp_path):
    """The image is white and of one object: enlarged, its edge is not blended with what is outside the image."""
    root, areas = write_set(tmp_path, [VIDEOS[0], [(2, 0, 0, SIZE[1], SIZE[0], 0)]]), []
    dataset = dataset_of(root, CopyPasteClip(max_objects=1, scale=(1.3, 1.7), prob=1))
    for seed in range(10):
        for frame in frames_of(dataset, 0, seed):
            for mask in frame['gt_masks'][frame['gt_instances_id'] == 2]:
                assert frame['img'][mask == 1].min() == 255
                areas.append(mask.mean())
    assert min(areas) < .9  # its edges are within the image


def test_several_objects_occlude_each_other_and_have_ids_of_their_own(tmp_path):
    root = write_set(tmp_path, [VIDEOS[0], [(1, 10, 10, 20, 12, 0), (2, 20, 12, 20, 12, 0), (2, 50, 30, 16, 16, 1)]])
    dataset = dataset_of(root, CopyPasteClip(max_objects=3, prob=1), CopyPasteClip(max_objects=2, prob=1))
    counts = set()
    for seed in range(30):
        for frame in frames_of(dataset, 0, seed):
            check_frame(frame)
            counts.add(len(frame['gt_labels']))
            assert 1 not in frame['gt_instances_id'] or frame['gt_labels'][frame['gt_instances_id'] == 1] == 0
    assert max(counts) >= 4


def test_only_the_place_of_an_object_is_computed(root, monkeypatch):
    """It contains the whole object: the result is that of the whole image. Objects may leave it altogether."""
    dataset = dataset_of(root, CopyPasteClip(max_objects=1, scale=(.3, 3), motion=1, prob=1, min_area=1, min_share=0),
                         train_clip_len=3)
    clips = [frame for index in range(2) for seed in range(40) for frame in frames_of(dataset, index, seed)]
    assert any(len(frame['gt_labels']) == 1 for frame in clips)
    monkeypatch.setattr(copy_paste, '_place', lambda masks, matrix, size: (slice(0, size[0]), slice(0, size[1])))
    whole = [frame for index in range(2) for seed in range(40) for frame in frames_of(dataset, index, seed)]
    for found, expected in zip(clips, whole, strict=True):
        # OpenCV rounds coordinates to a fraction of a pixel, which may differ by one
        assert np.abs(found['img'].astype(int) - expected['img']).max() <= 16
        assert equal_frames({**found, 'img': 0}, {**expected, 'img': 0})


def test_the_same_seed_pastes_the_same(root):
    dataset = dataset_of(root, CopyPasteClip(prob=1, motion=.1))
    assert all(map(equal_frames, frames_of(dataset, 1, 8), frames_of(dataset, 1, 8)))
    assert not equal_frames(frames_of(dataset, 1, 8)[0], frames_of(dataset, 1, 9)[0])


def test_a_set_of_one_video_pastes_its_own_objects(tmp_path):
    dataset = dataset_of(write_set(tmp_path, VIDEOS[:1]), CopyPasteClip(**PLAIN, min_share=0))
    assert max(len(frames_of(dataset, 0, seed)[0]['gt_labels']) for seed in range(10)) == 2


def test_ovis_and_joint_sets(root, tmp_path):
    """OVIS's levels of occlusion are not in training samples, pasted or not; a joint set pastes from its own member."""
    ovis = dataset_of(write_set(tmp_path, occlusion=True), CopyPasteClip(**PLAIN), PackTrackInputs(), kind=OVISDataset)
    joint = WeightedConcatDataset([ovis, dataset_of(root, CopyPasteClip(**PLAIN), PackTrackInputs())])
    for index in (0, len(joint) - 1):
        for frame in joint[SeededIndex(index, (1, 1))]['data_samples']:
            assert set(frame.gt_instances.all_keys()) == {'bboxes', 'labels', 'instances_id', 'masks'}


def test_needs_masks_and_a_training_set(root):
    with pytest.raises(UserError, match='LoadTrackAnnotations before it'):
        YVISDataset('annotations.json', str(root), pipeline=[LOAD[0], CopyPasteClip()])[0]
    with pytest.raises(UserError, match='training pipelines'):
        dataset_of(root, CopyPasteClip(), test_mode=True)[0]


@pytest.mark.parametrize('wrong', [dict(max_objects=0), dict(scale=(0, 1)), dict(motion=2), dict(flip_prob=-1),
                                   dict(min_area=1.5), dict(min_share=2), dict(prob=None)])
def test_wrong_arguments(wrong):
    with pytest.raises(UserError, match=f'CopyPasteClip.{next(iter(wrong))}'):
        CopyPasteClip(**wrong)
