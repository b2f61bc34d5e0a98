"""COCO images as clips of one frame; conversion of video frames to COCO and back."""
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmdet.datasets import CocoDataset, YVISDataset
from mmdet.datasets.coco_file import check_coco
from mmdet.datasets.converters.coco_frames import coco_frames_to_vis
from mmdet.datasets.converters.vis_frames import vis_frames_to_coco
from mmdet.datasets.packed_annotations import read_youtube_vis
from mmdet.errors import UserError
from mmdet.files import load_json

ROOT = Path(__file__).resolve().parents[2]
yvis2coco = runpy.run_path(str(ROOT / 'tools/dataset_converters/yvis2coco.py'))['main']
PIPELINE = [dict(type='LoadTrackFrames'), dict(type='LoadTrackAnnotations'), dict(type='ResizeClip', scale=(64, 48)),
            dict(type='PackTrackInputs')]


@pytest.fixture(scope='module')
def coco_set(toy_set, tmp_path_factory):
    """Folder with the toy set's training frames as COCO images."""
    root = tmp_path_factory.mktemp('coco')
    content = vis_frames_to_coco(read_youtube_vis(toy_set / 'annotations/instances_train.json'))
    content['images'].append(content['images'][0] | {'id': 1000})  # an image without objects
    (root / 'coco.json').write_text(json.dumps(content))
    (root / 'images').symlink_to(toy_set / 'train_images')
    return root


def build(root, test_mode=False, file='coco.json'):
    return CocoDataset(file, data_root=str(root), data_prefix=dict(img_path='images'), test_mode=test_mode,
                       pipeline=PIPELINE)


def edited(root, tmp_path, change):
    """Return a copy of the data set with changed annotations."""
    data = load_json(root / 'coco.json')
    change(data)
    (tmp_path / 'coco.json').write_text(json.dumps(data))
    (tmp_path / 'images').symlink_to((root / 'images').resolve())
    return tmp_path


def test_training_items_are_the_frames_that_the_videos_have(coco_set, toy_set):
    images = build(coco_set)
    videos = YVISDataset('annotations/instances_train.json', data_root=str(toy_set),
                         data_prefix=dict(img_path='train_images'), pipeline=PIPELINE)
    assert len(images) == len(videos)
    assert images.metainfo['cat_ids'] == (4, 5, 6)
    for index in range(len(images)):
        image, pair = images[index], videos[index]
        assert image['inputs'].shape[0] == len(image['data_samples']) == 1
        assert (image['inputs'][0] == pair['inputs'][0]).all()
        ours, theirs = image['data_samples'][0].gt_instances, pair['data_samples'][0].gt_instances
        for field in ('bboxes', 'labels', 'masks'):
            np.testing.assert_array_equal(np.asarray(ours[field]), np.asarray(theirs[field]))


def test_testing_items_are_all_images_in_the_order_of_the_file(coco_set):
    dataset = build(coco_set, test_mode=True)
    frames = [dataset[index]['data_samples'][0] for index in range(len(dataset))]
    assert [frame.video_id for frame in frames] == [*range(1, 25), 1000]
    assert {(frame.frame_id, frame.video_length) for frame in frames} == {(0, 1)}
    assert len(frames[-1].gt_instances) == 0


def test_a_box_without_segmentation_is_its_own_mask(coco_set, tmp_path):
    def change(data):
        for annotation in data['annotations']:
            del annotation['segmentation']
            annotation.update(bbox=[8, 4, 20, 12])
    frame = build(edited(coco_set, tmp_path, change))[0]['data_samples'][0]
    mask = np.asarray(frame.gt_instances.masks[0])
    assert frame.gt_instances.bboxes[0].tolist() == [8, 4, 27, 15]
    assert mask.sum() == mask[4:16, 8:28].sum() == 20 * 12


def test_crowds_are_left_out(coco_set, tmp_path):
    def change(data):
        for annotation in data['annotations'][1:]:
            annotation['iscrowd'] = 1
    assert len(build(edited(coco_set, tmp_path, change))) == 1


def test_test_sets_have_no_annotations(coco_set, tmp_path):
    root = edited(coco_set, tmp_path, lambda data: data.pop('annotations'))
    assert len(build(root, test_mode=True)) == 25
    with pytest.raises(UserError, match='no frame with an object'):
        build(root)


@pytest.mark.parametrize(('change', 'message'), [
    (lambda data: data.pop('images'), "needs a list 'images'"),
    (lambda data: data['annotations'][0].update(bbox=[1, 2, 'x', 4]), 'annotation 1'),
    (lambda data: data['annotations'][0].update(bbox=[1, 2]), 'annotation 1'),
    (lambda data: data['annotations'][0].update(category_id=99), 'category_id 99'),
    (lambda data: data['annotations'][0].update(image_id=99), 'image_id 99'),
    (lambda data: data['images'][1].update(id=1), 'same id 1'),
    (lambda data: data['images'][1].update(file_name='../x.png'), 'leads out')])
def test_damaged_files_are_named(coco_set, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        build(edited(coco_set, tmp_path, change))


def test_conversion_to_coco_and_back_restores_the_videos(toy_set, tmp_path, capsys):
    path = toy_set / 'annotations/instances_train.json'
    out = tmp_path / 'coco.json'
    assert yvis2coco([str(path), '--out', str(out)]) == 0
    assert ': 24 images, ' in capsys.readouterr().out
    again = tmp_path / 'again.json'
    again.write_text(json.dumps(coco_frames_to_vis(check_coco(load_json(out), out)).content))
    before, after = read_youtube_vis(path), read_youtube_vis(again)
    assert (after.classes, after.cat_ids) == (before.classes, before.cat_ids)
    assert np.array_equal(after.first_frame, before.first_frame)
    for video in range(len(before.video_ids)):
        for frame in range(before.video_length(video)):
            one, other = before.objects(video, frame), after.objects(video, frame)
            assert sorted(one.labels.tolist()) == sorted(other.labels.tolist())
            areas = [sorted(coco_mask.area(rle) for rle in objects.rles) for objects in (one, other)]
            assert areas[0] == areas[1]


def test_crowds_are_counted_by_the_conversion_to_coco(toy_set, tmp_path, capsys):
    content = load_json(toy_set / 'annotations/instances_train.json')
    for annotation in content['annotations'][:2]:
        annotation['iscrowd'] = 1
    path, out = tmp_path / 'vis.json', tmp_path / 'coco.json'
    path.write_text(json.dumps(content))
    assert yvis2coco([str(path), '--out', str(out)]) == 0
    assert 'note: left out: 2 crowds (objects with iscrowd 1)\n' in capsys.readouterr().out
    crowds = {annotation['id'] for annotation in content['annotations'][:2]}
    assert crowds.isdisjoint(annotation['instance_id'] for annotation in load_json(out)['annotations'])
