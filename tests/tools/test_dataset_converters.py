"""Converters to YouTube-VIS JSON: what they write is what was there, and every fault is one line."""
import json
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet.datasets.annotations import read_youtube_vis
from mmdet.errors import UserError
from mmdet.structures.masks import decode_masks

TOOLS = Path(__file__).resolve().parents[2] / 'tools' / 'dataset_converters'


def run(tool, *arguments):
    return runpy.run_path(str(TOOLS / f'{tool}.py'))['main']([str(argument) for argument in arguments])


def index_mask(objects, size=(20, 30)):
    """(h, w) uint8: rectangles number → x, y, w, h."""
    mask = np.zeros(size, np.uint8)
    for number, (x, y, w, h) in objects.items():
        mask[y:y + h, x:x + w] = number
    return mask


@pytest.fixture
def folders(tmp_path):
    """Two videos: 'cats' of three frames (the third without mask) with objects 1 and 5, 'dogs' of one with object 2."""
    frames = {'cats': [{1: (2, 3, 5, 4), 5: (10, 10, 6, 6)}, {5: (11, 10, 6, 6)}], 'dogs': [{2: (0, 0, 30, 20)}]}
    for video, masks in frames.items():
        for kind in ('images', 'masks'):
            (tmp_path / kind / video).mkdir(parents=True)
        for frame in range(len(masks) + (video == 'cats')):
            cv2.imwrite(str(tmp_path / 'images' / video / f'{frame:05d}.jpg'), np.zeros((20, 30, 3), np.uint8))
        for frame, objects in enumerate(masks):
            image = Image.fromarray(index_mask(objects)).convert('P')
            image.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10] + [77] * 759)  # colours must not matter
            image.save(tmp_path / 'masks' / video / f'{frame:05d}.png')
    return tmp_path


def convert_masks(folders, *options):
    out = folders / 'out' / 'vis.json'
    assert run('masks2yvis', folders / 'images', folders / 'masks', '--out', out, *options) == 0
    return out


def test_masks_become_tracks(folders, capsys):
    out = convert_masks(folders)
    assert '2 videos, 3 frames, 3 objects, 1 categories; 1 images without a mask' in capsys.readouterr().out
    read = read_youtube_vis(out)
    assert read.classes == ('object',) and read.file_name(0, 1) == 'cats/00001.jpg' and read.video_length(0) == 2
    first, second = read.objects(0, 0), read.objects(0, 1)
    assert first.bboxes.tolist() == [[2, 3, 6, 6], [10, 10, 15, 15]]
    assert second.instances_id.tolist() == first.instances_id[1:].tolist()
    expected = index_mask({1: (2, 3, 5, 4), 5: (10, 10, 6, 6)})
    assert np.array_equal(decode_masks(first.rles), [expected == 1, expected == 5])
    content = json.loads(out.read_text())
    assert content['annotations'][0]['segmentations'][1] is None and content['annotations'][0]['areas'] == [20, None]


def test_categories_from_meta_and_list(folders):
    (folders / 'meta.json').write_text(json.dumps(dict(videos=dict(
        cats=dict(objects={'1': dict(category='cat'), '5': dict(category='cat')}),
        dogs=dict(objects={'2': dict(category='dog')})))))
    (folders / 'names.txt').write_text('bird\ndog\ncat\n')
    read = read_youtube_vis(convert_masks(folders, '--meta', folders / 'meta.json'))
    assert read.classes == ('cat', 'dog') and read.object_labels.tolist() == [0, 0, 1]
    read = read_youtube_vis(convert_masks(folders, '--meta', folders / 'meta.json', '--categories',
                                          folders / 'names.txt'))
    assert read.classes == ('bird', 'dog', 'cat') and read.object_labels.tolist() == [2, 2, 1]


def test_ignored_number_is_no_object(folders):
    read = read_youtube_vis(convert_masks(folders, '--ignore', 5))
    assert [len(read.objects(*at).rles) for at in ((0, 0), (0, 1), (1, 0))] == [1, 0, 1]


def remove_image(root):
    (root / 'images' / 'cats' / '00001.jpg').unlink()


def remove_video(root):
    (root / 'images' / 'cats').rename(root / 'images' / 'lions')


def shrink_image(root):
    cv2.imwrite(str(root / 'images' / 'cats' / '00001.jpg'), np.zeros((10, 30, 3), np.uint8))


def shrink_mask(root):
    Image.fromarray(np.zeros((10, 30), np.uint8)).save(root / 'masks' / 'dogs' / '00000.png')


def colour_mask(root):
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(root / 'masks' / 'dogs' / '00000.png')


def cut_mask(root):
    path = root / 'masks' / 'dogs' / '00000.png'
    noise = np.random.default_rng(0).integers(0, 9, (20, 30)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:120])


def no_masks(root):
    for path in (root / 'masks').glob('*/*.png'):
        path.unlink()


def empty_masks(root):
    for path in (root / 'masks').glob('*/*.png'):
        Image.fromarray(np.zeros((20, 30), np.uint8)).save(path)


@pytest.mark.parametrize('damage, words', [
    (remove_image, r'00001\.png has no image'), (remove_video, r'images/cats does not exist'),
    (shrink_image, r'00001\.jpg has 30x10 pixels'), (shrink_mask, r'00000\.png has 30x10 pixels, its image 30x20'),
    (colour_mask, r'00000\.png has 3 numbers a pixel'), (cut_mask, r'00000\.png is damaged'),
    (no_masks, r'masks has no folders with PNG'), (empty_masks, r'no object')])
def test_faulty_folders(folders, damage, words):
    damage(folders)
    with pytest.raises(UserError, match=words) as error:
        convert_masks(folders)
    assert '\n' not in str(error.value) and not (folders / 'out').exists()


def test_object_that_meta_lacks(folders):
    (folders / 'meta.json').write_text('{"videos": {"cats": {"objects": {"1": {"category": "cat"}}}}}')
    with pytest.raises(UserError, match=r'meta\.json has no videos\.cats\.objects\.5\.category'):
        convert_masks(folders, '--meta', folders / 'meta.json')


def square(x, y, side):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def coco_frames():
    """Two videos; frames of the first in the wrong order; object 7 exists in both videos."""
    return dict(
        images=[dict(id=2, file_name='v/b.jpg', width=30, height=20, video_id=1, frame_id=10),
                dict(id=1, file_name='v/a.jpg', width=30, height=20, video_id=1, frame_id=2),
                dict(id=3, file_name='w/a.jpg', width=40, height=20, video_id='w', frame_id=0)],
        categories=[dict(id=4, name='cat', supercategory='animal'), dict(id=9, name='dog')],
        annotations=[dict(id=1, image_id=1, category_id=9, instance_id=7, segmentation=square(2, 2, 6)),
                     dict(id=2, image_id=2, category_id=9, instance_id=7, segmentation=square(3, 2, 6)),
                     dict(id=3, image_id=2, category_id=4, instance_id=8, segmentation=square(20, 2, 6), iscrowd=1),
                     dict(id=4, image_id=3, category_id=4, instance_id=7, segmentation=square(9, 9, 5))])


def convert_frames(tmp_path, content, *options):
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    assert run('cocoframes2yvis', tmp_path / 'coco.json', '--out', tmp_path / 'vis.json', *options) == 0
    return json.loads((tmp_path / 'vis.json').read_text())


def test_frames_become_tracks(tmp_path):
    content = convert_frames(tmp_path, coco_frames())
    assert [video['file_names'] for video in content['videos']] == [['v/a.jpg', 'v/b.jpg'], ['w/a.jpg']]
    assert [(a['video_id'], a['category_id'], a['iscrowd'], a['bboxes']) for a in content['annotations']] == [
        (1, 9, 0, [[2, 2, 6, 6], [3, 2, 6, 6]]), (1, 4, 1, [None, [20, 2, 6, 6]]), (2, 4, 0, [[9, 9, 5, 5]])]
    assert read_youtube_vis(tmp_path / 'vis.json').cat_ids == (4, 9)


def test_frames_without_ids_go_by_folder_and_name(tmp_path):
    content = coco_frames()
    for image in content['images']:
        del image['video_id'], image['frame_id']
    for annotation in content['annotations']:
        annotation['thing'] = str(annotation.pop('instance_id'))
    converted = convert_frames(tmp_path, content, '--track-key', 'thing')
    assert [video['file_names'] for video in converted['videos']] == [['v/a.jpg', 'v/b.jpg'], ['w/a.jpg']]
    assert len(converted['annotations']) == 3


def change(*path, value):
    def apply(content):
        node = content
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
    return apply


@pytest.mark.parametrize('damage, words', [
    (change('annotations', 1, 'instance_id', value=None), 'annotation 2: instance_id is None'),
    (change('annotations', 1, 'category_id', value=4), 'annotation 2 gives its object the category 4, annotation 1 9'),
    (change('annotations', 2, 'instance_id', value=7), 'annotation 3 gives its object'),
    (change('annotations', 1, 'image_id', value=1), 'annotation 2 is a second one of object 7 in image 1'),
    (change('annotations', 1, 'image_id', value=99), 'annotation 2: image_id 99'),
    (change('annotations', 1, 'category_id', value=99), 'annotation 2: category_id 99'),
    (change('annotations', 1, 'segmentation', value=None), 'annotation 2 has no segmentation'),
    (change('annotations', 1, 'segmentation', value=[[1, 2]]), r'image 2, its annotations\[0\]: a polygon'),
    (change('images', 0, 'frame_id', value=2), 'video 1: frame_id'),
    (change('images', 0, 'frame_id', value='x'), 'image 2: frame_id'),
    (change('images', 0, 'height', value=21), 'image 2 has 30x21 pixels'),
    (change('images', 0, 'height', value='20'), 'image 2: image size'),
    (change('images', 0, 'file_name', value=None), 'image 2 has no file_name'),
    (change('images', 1, 'id', value=2), r'images\[1\] and \[0\] have the same id 2'),
    (change('categories', 0, 'name', value=3), 'category 4 has no name'),
    (change('annotations', value=[]), 'no annotations'),
    (change('images', value={}), "needs a list 'images'")])
def test_faulty_frames(tmp_path, damage, words):
    content = coco_frames()
    damage(content)
    with pytest.raises(UserError, match=words) as error:
        convert_frames(tmp_path, content)
    assert '\n' not in str(error.value) and 'coco.json' in str(error.value)


def test_coco_images(tmp_path, capsys):
    content = coco_frames()
    content['categories'] = [dict(id=17, name='cat'), dict(id=18, name='dog')]
    for annotation in content['annotations']:
        annotation['category_id'] = 18
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    assert run('coco2yvis', tmp_path / 'coco.json', '--target', 'yvis2021', '--out', tmp_path / 'vis.json') == 0
    assert '3 videos, 3 frames, 3 objects, 40 categories' in capsys.readouterr().out
    read = read_youtube_vis(tmp_path / 'vis.json')
    assert {read.classes[label] for label in read.object_labels} == {'dog'}
