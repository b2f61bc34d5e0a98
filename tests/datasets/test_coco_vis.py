"""COCO pseudo-videos: conversion, mapping of ids, augmentation of the reference frame, joint training."""
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmdet.datasets import COCOVIS, SeededIndex, WeightedConcatDataset, YVISDataset
from mmdet.datasets.coco_categories import OVIS, TARGETS, YOUTUBE_VIS_2019, YOUTUBE_VIS_2021
from mmdet.datasets.coco_file import check_coco
from mmdet.datasets.converters.coco_images import coco_images_to_vis
from mmdet.datasets.toy import ToyVIS, make_toy_vis
from mmdet.datasets.transforms import AffineColourReference
from mmdet.errors import UserError

STILL = dict(brightness=0, contrast=0, saturation=0, hue=0, rotation=0, translation=(), blur_prob=0)
CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
LOAD = [dict(type='LoadTrackFrames'), dict(type='LoadTrackAnnotations')]


def square(x, y, side):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def coco_content():
    """Three 40x30 images: a cat, a tie (in no video set), a crowd and a speck; a dog; nothing."""
    return dict(
        images=[dict(id=9, file_name='a.jpg', width=40, height=30), dict(id=3, file_name='b.jpg', width=40, height=30),
                dict(id=5, file_name='c.jpg', width=40, height=30)],
        categories=[dict(id=17, name='cat'), dict(id=18, name='dog'), dict(id=32, name='tie')],
        annotations=[dict(id=1, image_id=9, category_id=32, iscrowd=0, segmentation=square(1, 1, 8)),
                     dict(id=2, image_id=9, category_id=17, iscrowd=1,
                          segmentation=dict(size=[30, 40], counts=[0, 600, 600])),
                     dict(id=3, image_id=9, category_id=17, iscrowd=0, segmentation=square(5, 4, 10)),
                     dict(id=4, image_id=9, category_id=17, iscrowd=0, segmentation=square(30, 20, 3)),
                     dict(id=5, image_id=3, category_id=18, iscrowd=0, segmentation=square(10, 10, 12))])


@pytest.fixture
def coco_set(tmp_path):
    (tmp_path / 'images').mkdir()
    for index, name in enumerate('abc'):
        image = np.random.default_rng(index).integers(0, 255, (30, 40, 3), np.uint8)
        cv2.imwrite(str(tmp_path / 'images' / f'{name}.jpg'), image)
    (tmp_path / 'coco.json').write_text(json.dumps(coco_content()))
    return dict(ann_file='coco.json', data_root=str(tmp_path), data_prefix=dict(img_path='images'))


def test_conversion_keeps_labels_with_masks():
    """Tie, crowd, speck and images without objects are removed; the mask of a 10x10 square has 100 pixels."""
    content = coco_images_to_vis(check_coco(coco_content(), 'coco.json'), 'yvis2019').content
    assert [video['file_names'] for video in content['videos']] == [['a.jpg'], ['b.jpg']]
    assert [(a['video_id'], a['category_id'], a['areas'], a['bboxes']) for a in content['annotations']] == [
        (1, 14, [100], [[5., 4., 10., 10.]]), (2, 8, [144], [[10., 10., 12., 12.]])]
    assert content['categories'][13] == dict(id=14, name='cat')
    own = coco_images_to_vis(check_coco(coco_content(), 'coco.json')).content
    assert [a['category_id'] for a in own['annotations']] == [32, 17, 18] and len(own['categories']) == 3


@pytest.mark.parametrize('target, pairs', [
    (YOUTUBE_VIS_2019, {1: 'person', 3: 'sedan', 4: 'motorbike', 25: 'giraffe', 43: 'tennis_racket'}),
    (YOUTUBE_VIS_2021, {1: 'person', 3: 'car', 16: 'bird', 34: 'flying_disc', 43: 'tennis_racket'}),
    (OVIS, {1: 'Person', 2: 'Bicycle', 5: 'Airplane', 17: 'Cat', 25: 'Giraffe'})])
def test_mapped_ids_have_names_of_the_same_meaning(target, pairs):
    assert {ident: target.names[target.from_coco[ident] - 1] for ident in pairs} == pairs
    assert len(set(target.names)) == len(target.names) and set(target.from_coco.values()) <= set(
        range(1, len(target.names) + 1))


def test_class_counts_are_those_of_the_sets():
    assert {name: len(target.names) for name, target in TARGETS.items()} == dict(yvis2019=40, yvis2021=40, ovis=25)


def test_reads_coco_and_its_conversion_alike(coco_set, tmp_path):
    direct = COCOVIS(**coco_set, target='ovis', pipeline=LOAD)
    (tmp_path / 'converted.json').write_text(json.dumps(
        coco_images_to_vis(check_coco(coco_content(), ''), 'ovis').content))
    converted = COCOVIS(**(coco_set | dict(ann_file='converted.json')), target='ovis', pipeline=LOAD)
    assert len(direct) == len(converted) == 2 and direct.metainfo['classes'] == OVIS.names
    for ours, theirs in zip(direct[0]['frames'], converted[0]['frames']):
        assert ours['gt_labels'].tolist() == theirs['gt_labels'].tolist() == [2]
        assert ours['gt_bboxes'].tolist() == theirs['gt_bboxes'].tolist() == [[5, 4, 14, 13]]
        assert np.array_equal(ours['gt_masks'], theirs['gt_masks'])
    with pytest.raises(UserError, match=r'converted\.json was not converted .* yvis2021'):
        COCOVIS(**(coco_set | dict(ann_file='converted.json')), target='yvis2021')


def test_categories_of_another_set_are_mapped_by_name(coco_set):
    """Ids are positions; COCO names that are not mapped are left out."""
    dataset = COCOVIS(**coco_set, target={'nothing': [], 'animal': ['cat', 'dog']}, pipeline=LOAD)
    assert dataset.metainfo['classes'] == ('nothing', 'animal')
    labels = [frame['gt_labels'].tolist() for index in range(len(dataset)) for frame in dataset[index]['frames']]
    assert labels == [[1]] * 4  # the cat's image and the dog's, key and reference


@pytest.mark.parametrize('target, words', [
    ({'animal': ['unicorn']}, r"target 'animal': .* has no category 'unicorn'; it has "),
    ({'a': ['cat'], 'b': ['cat']}, r"target 'b': 'cat' is already mapped to 'a'; name it once")])
def test_wrong_names_of_categories(coco_set, target, words):
    with pytest.raises(UserError, match=words):
        COCOVIS(**coco_set, target=target)


@pytest.mark.parametrize('change, words', [
    (dict(target='yvis2020'), 'yvis2020'), (dict(test_mode=True), 'test_mode'), (dict(num_classes=7), '25 categories')])
def test_wrong_settings(coco_set, change, words):
    with pytest.raises(UserError, match=words):
        COCOVIS(**(coco_set | dict(target='ovis') | change))


def clip(rng_seed=0, size=(60, 80)):
    """Key and reference with the same image and two objects: one in the middle, one of 10 pixels in the corner."""
    masks = np.zeros((2, *size), np.uint8)
    masks[0, 20:40, 30:50] = 1
    masks[1, :2, :5] = 1
    image = np.random.default_rng(5).integers(0, 255, (*size, 3), np.uint8)
    frame = dict(img=image, img_shape=size, gt_masks=masks, gt_labels=np.array([3, 4]),
                 gt_instances_id=np.array([7, 8]), gt_bboxes=np.array([[30, 20, 49, 39], [0, 0, 4, 1]], np.float32))
    return dict(frames=[dict(frame), dict(frame)], rng=np.random.default_rng(rng_seed))


def test_zero_strengths_change_nothing():
    before, after = clip()['frames'][1], AffineColourReference(**STILL)(clip())['frames'][1]
    for name in ('img', 'gt_masks', 'gt_bboxes', 'gt_labels', 'gt_instances_id'):
        assert np.array_equal(before[name], after[name])


def test_translation_scales_x_by_width():
    """A share of .1 may move 8 pixels right and 6 down, and does in 200 draws reach past 6 right."""
    moves = []
    for seed in range(200):
        frame = AffineColourReference(**(STILL | dict(translation=(.1,))))(clip(seed))['frames'][1]
        moves.append(frame['gt_bboxes'][0, :2] - (30, 20))
    largest = np.abs(moves).max(0)
    assert 6.5 < largest[0] <= 8 and 5 <= largest[1] <= 6


def test_rotation_turns_image_and_masks_alike():
    """The image shows the object white: mask and bright pixels agree but for the interpolated edge."""
    results = clip(3)
    for frame in results['frames']:
        frame['img'] = np.repeat(frame['gt_masks'][0, ..., None] * 255, 3, axis=2).astype(np.uint8)
    frame = AffineColourReference(**(STILL | dict(rotation=20, translation=(.08, .1))))(results)['frames'][1]
    bright = frame['img'][..., 0] > 127
    mask = frame['gt_masks'][0].astype(bool)
    assert (bright ^ mask).sum() < 12 and 380 < mask.sum() < 420
    ys, xs = np.nonzero(mask)
    assert frame['gt_bboxes'][0].tolist() == [xs.min(), ys.min(), xs.max(), ys.max()]


def test_key_frame_keeps_its_image_and_loses_specks():
    results = AffineColourReference(min_area=11)(clip(1))
    key = results['frames'][0]
    assert np.array_equal(key['img'], clip()['frames'][0]['img'])
    assert key['gt_instances_id'].tolist() == [7] and key['gt_labels'].tolist() == [3] and len(key['gt_masks']) == 1


def test_lost_objects_are_removed_with_label_and_id():
    """The corner object leaves the frame in some draws; the remaining objects keep id and label."""
    seen = set()
    for seed in range(40):
        key, frame = AffineColourReference()(clip(seed))['frames']
        ids = frame['gt_instances_id'].tolist()
        seen.add(tuple(ids))
        assert frame['gt_labels'].tolist() == [{7: 3, 8: 4}[ident] for ident in ids]
        assert len(frame['gt_masks']) == len(frame['gt_bboxes']) == len(ids)
        assert key['gt_instances_id'].tolist() == [7, 8]
    assert seen == {(7,), (7, 8)}


def test_no_common_object_leaves_unmatched_boxes():
    """Only the corner object, which always leaves the frame: boxes of the key frame, ids that match no object."""
    results = clip()
    for frame in results['frames']:
        for name in ('gt_masks', 'gt_labels', 'gt_instances_id', 'gt_bboxes'):
            frame[name] = frame[name][1:]
    transform = AffineColourReference(**STILL)
    transform._matrix = lambda *_: np.array([[1., 0, -50], [0, 1, 0]])
    key, frame = transform(results)['frames']
    assert np.array_equal(frame['gt_bboxes'], key['gt_bboxes']) and len(frame['gt_masks']) == 1
    assert frame['gt_labels'].tolist() == [4] and frame['gt_instances_id'].tolist() == [-1]


def test_colours_move_as_in_bgr():
    """Less saturation mixes in grey, .299 R + .587 G + .114 B: pure red (0, 0, 200) has grey 60, were it blue 23."""
    seed = next(seed for seed in range(99) if np.random.default_rng(seed).uniform(-1, 1, 4)[2] < -.5)
    less = -np.random.default_rng(seed).uniform(-1, 1, 4)[2]
    results = clip(seed)
    results['frames'][1]['img'] = np.full((60, 80, 3), (0, 0, 200), np.uint8)
    frame = AffineColourReference(**(STILL | dict(saturation=1)))(results)['frames'][1]
    expected = np.array([60, 60, 60]) * less + np.array([0, 0, 200]) * (1 - less)
    assert np.abs(frame['img'][30, 40] - expected).max() <= 1


@pytest.mark.parametrize('wrong', [dict(hue=.6), dict(brightness=-1), dict(rotation=181), dict(blur_prob=2)])
def test_wrong_strengths(wrong):
    with pytest.raises(UserError, match=f'AffineColourReference.{next(iter(wrong))}'):
        AffineColourReference(**wrong)


@pytest.fixture(scope='module')
def toy_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('toy')
    make_toy_vis(root, ToyVIS(videos=3, val_videos=1, frames=4, size=(64, 48), classes=3, easy=True), progress=False)
    return root


def toy(root, split='train', **kwargs):
    return YVISDataset(ann_file=f'annotations/instances_{split}.json', data_root=str(root),
                       data_prefix=dict(img_path=f'{split}_images'), **kwargs)


def test_weights_set_the_number_of_indices(toy_root):
    """12 and 4 items with weights 1.5 and .5 have 18 and 2 indices; half of the first items occur twice."""
    first, second = toy(toy_root), toy(toy_root, 'valid')
    joint = WeightedConcatDataset([first, second], weights=[1.5, .5])
    assert len(joint) == 20
    names = [joint[SeededIndex(place, (0, 0, place, 1))]['frames'][0]['img_path'] for place in range(20)]
    all_first = [first[i]['frames'][0]['img_path'] for i in range(12)]
    assert sorted(names[:12]) == sorted(all_first) and set(names[12:18]) <= set(all_first)
    assert len(set(names[12:18])) == 6 and all('valid_images' in name for name in names[18:])


def test_all_items_of_a_subsampled_set_occur_over_many_epochs(toy_root):
    joint = WeightedConcatDataset([toy(toy_root)], weights=[.25])
    seen = {joint[SeededIndex(place, (0, epoch, place, 1))]['frames'][0]['img_path']
            for epoch in range(30) for place in range(len(joint))}
    assert len(joint) == 3 and len(seen) == 12


def test_seed_passes_through(toy_root):
    joint = WeightedConcatDataset([toy(toy_root), toy(toy_root)])
    index = SeededIndex(15, (3, 1, 4, 1))
    alone = toy(toy_root)[SeededIndex(3, index.seed)]
    paths = [[frame['img_path'] for frame in item['frames']] for item in (joint[index], joint[index], alone)]
    assert paths[0] == paths[1] == paths[2]
    assert joint.get_data_info(15) == toy(toy_root).get_data_info(3)


def test_shared_seeds_pass_through(toy_root):
    joint = WeightedConcatDataset([toy(toy_root), toy(toy_root)])
    items = [joint[SeededIndex(item, (3, 1, item, 1), (3, 1, 0, 2), (3, 1, 0, 3))] for item in (2, 15)]
    for name, stream in (('step_rng', 2), ('place_rng', 3)):
        assert {item[name].random() for item in items} == {np.random.default_rng((3, 1, 0, stream)).random()}
    without = joint[SeededIndex(2, (3, 1, 2, 1))]
    assert without['step_rng'] is without['place_rng'] is without['rng']


def test_different_classes_are_refused(toy_root, coco_set):
    with pytest.raises(UserError, match='same categories'):
        WeightedConcatDataset([toy(toy_root), COCOVIS(**coco_set, target='ovis')])


@pytest.mark.parametrize('weights', [[1], [1, 0], [1, -1], [1, float('nan')], [1, float('inf')]])
def test_wrong_weights(toy_root, weights):
    with pytest.raises(UserError, match='weight'):
        WeightedConcatDataset([toy(toy_root), toy(toy_root)], weights=weights)


def test_joint_training_batches(toy_root, tmp_path):
    """Videos and stills with the same categories, through the joint config's pipelines, sampler and collate."""
    content = json.loads((toy_root / 'annotations' / 'instances_train.json').read_text())
    images = [dict(id=10 * video['id'] + frame, file_name=name, width=64, height=48)
              for video in content['videos'] for frame, name in enumerate(video['file_names'])]
    annotations = [dict(id=len(images) * a['id'] + frame, image_id=10 * a['video_id'] + frame, segmentation=rle,
                        category_id=a['category_id'], iscrowd=0)
                   for a in content['annotations'] for frame, rle in enumerate(a['segmentations']) if rle]
    (tmp_path / 'stills.json').write_text(json.dumps(
        dict(images=images, annotations=annotations, categories=content['categories'])))
    cfg = Config.fromfile(CONFIGS / 'vitmae_cnp_joint_ms_1x.py')
    videos, stills, _ = cfg.train_dataloader.dataset.datasets
    videos.update(data_root=str(toy_root))
    stills.update(data_root='', ann_file=str(tmp_path / 'stills.json'), target=None,
                  data_prefix=dict(img_path=str(toy_root / 'train_images')))
    for step in videos.pipeline + stills.pipeline:
        if step['type'] == 'RandomResizeClip':
            step['scales'] = [(64, 48), (96, 64)]
    loader = dict(cfg.train_dataloader) | dict(
        batch_size=4, num_workers=0, persistent_workers=False, pin_memory=False, collate_fn=dict(type='pseudo_collate'),
        dataset=dict(type='WeightedConcatDataset', weights=[1, .5], datasets=[videos, stills]))
    with DefaultScope.overwrite_default_scope('mmdet'):
        batches = list(Runner.build_dataloader(loader, seed=0))
    clips = [clip for batch in batches for clip in batch['data_samples']]
    assert len(clips) == 20  # 12 + 6 indices, padded to whole batches
    still = [clip for clip in clips if clip[0].video_length == 1]
    assert len(still) >= 6 and all(clip[0].img_path == clip[1].img_path for clip in still)
    shared = [set(clip[0].gt_instances.instances_id.tolist()) & set(clip[1].gt_instances.instances_id.tolist())
              for clip in still]
    assert any(shared)
    for clip in clips:
        for frame in clip:
            boxes, masks = frame.gt_instances.bboxes, frame.gt_instances.masks
            assert len(boxes) == len(masks) == len(frame.gt_instances.labels) > 0
            assert masks.shape[1:] == frame.img_shape and (boxes[:, 2:] > boxes[:, :2]).all()


@pytest.mark.parametrize('motion', ['RotateStillClip', 'AffineMotionClip'])
def test_clips_of_any_length(coco_set, motion):
    pipeline = [*LOAD, dict(type=motion)]
    dataset = COCOVIS(**coco_set, target='yvis2019', train_clip_len=5, pipeline=pipeline)
    assert len(dataset) == 2
    frames = dataset[SeededIndex(0, (0, 0, 0))]['frames']
    assert len(frames) == 5 and {frame['frame_id'] for frame in frames} == {0}
    assert all(frame['gt_labels'].tolist() == [13] for frame in frames)
    assert len({frame['gt_masks'].tobytes() for frame in frames}) > 1
