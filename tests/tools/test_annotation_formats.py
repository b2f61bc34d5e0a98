"""Converters from labelme, MOTS and BURST: generated files, pieces and rectangles, damaged input."""
import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from mmdet.errors import UserError
from tests.helpers.conversion import HEIGHT, WIDTH, area, convert, masks_of, refuse, rle_text, save_images

# labelme


def shape(label, points, kind='polygon', group=None, **fields):
    return dict(label=label, points=points, group_id=group, shape_type=kind, **fields)


def labelme(tmp_path, *frames, images=None):
    """Write a JSON file for each list of shapes."""
    save_images(tmp_path / 'images' / 'v', len(frames) if images is None else images)
    (tmp_path / 'labels' / 'v').mkdir(parents=True)
    for number, shapes in enumerate(frames):
        (tmp_path / 'labels' / 'v' / f'{number:05d}.json').write_text(json.dumps(dict(
            version='5.5.0', shapes=shapes, imagePath='x.jpg', imageHeight=HEIGHT, imageWidth=WIDTH, imageData=None)))
    return 'labelme2yvis', tmp_path / 'images', tmp_path / 'labels'


def corners(x, y, side):
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side]]


def test_labelme_joins_shapes_of_one_label_and_group(tmp_path, capsys):
    first = [shape('cat', corners(0, 0, 4), group=1), shape('cat', [[14, 14], [10, 10]], 'rectangle', group=1),
             shape('dog', corners(20, 0, 4), group=1), shape('sky', [[1, 1]], 'point')]
    second = [shape('cat', corners(2, 2, 4), group=1), shape('tree', corners(9, 9, 5))]
    content = convert(tmp_path, *labelme(tmp_path, first, second, images=3))
    assert [category['name'] for category in content['categories']] == ['cat', 'dog', 'tree']
    assert content['videos'][0]['file_names'] == ['v/00000.jpg', 'v/00001.jpg']
    cat, dog, tree = content['annotations']
    assert np.array_equal(masks_of(cat)[0], area(0, 0, 4, 4) | area(10, 10, 4, 4))
    assert cat['bboxes'][1] == [2, 2, 4, 4] and dog['bboxes'] == [[20, 0, 4, 4], None] and tree['category_id'] == 3
    out = capsys.readouterr().out
    assert 'left out: 1 image without a JSON file' in out and 'shapes without area are left out: 1 point' in out


def test_circles_and_painted_masks_of_labelme(tmp_path):
    file = io.BytesIO()
    Image.fromarray(np.array([[255, 0], [255, 255]], np.uint8)).save(file, 'PNG')
    painted = shape('cat', [[3, 5], [4, 6]], 'mask', 2, mask=base64.b64encode(file.getvalue()).decode())
    content = convert(tmp_path, *labelme(tmp_path, [shape('cat', [[15, 10], [15, 16]], 'circle', 1), painted]))
    circle, mask = content['annotations']
    assert circle['areas'][0] == pytest.approx(36 * np.pi, rel=0.05)
    assert mask['bboxes'] == [[3, 5, 2, 2]] and mask['areas'] == [3]


@pytest.mark.parametrize(('shapes', 'words'), [
    ([shape('cat', corners(0, 0, 4))] * 2, r"shapes\[1\] is a second 'cat' without group_id"),
    ([shape('', corners(0, 0, 4))], r"shapes\[0\] has the label ''"),
    ([shape('cat', corners(0, 0, 4), group=1.5)], 'group_id 1.5 is neither a number nor a text'),
    ([shape('cat', [[1, 2], [3]])], r'points \[\[1, 2\], \[3\]\] must be a list of \[x, y\]'),
    ([shape('cat', corners(0, 0, 4), 'spline')], 'a spline of 4 points is not known'),
    ([shape('cat', [[0, 0], [3, 3]], 'mask', mask='no')], 'the mask is not a PNG file in base64'),
    ([], 'holds no object with an area'), ('none', 'is not a file of labelme')])
def test_damaged_shapes_of_labelme_are_one_line(tmp_path, shapes, words):
    refuse(tmp_path, words, *labelme(tmp_path, shapes))


def test_other_images_than_those_of_labelme_are_one_line(tmp_path):
    arguments = labelme(tmp_path, [shape('cat', corners(0, 0, 4))], [])
    Image.new('RGB', (WIDTH, HEIGHT + 1)).save(tmp_path / 'images' / 'v' / '00000.jpg')
    refuse(tmp_path, r'states 30x20 pixels, its image 00000\.jpg has 30x21', *arguments)
    (tmp_path / 'images' / 'v' / '00000.jpg').unlink()
    refuse(tmp_path, r'00000\.json has no image of the same name', *arguments)
    (tmp_path / 'labels' / 'v' / '00000.json').write_text('{')
    Image.new('RGB', (WIDTH, HEIGHT)).save(tmp_path / 'images' / 'v' / '00000.jpg')
    refuse(tmp_path, r'00000\.json: is not JSON', *arguments)


# MOTS


def test_mots_png_has_classes_and_regions_to_ignore(tmp_path):
    save_images(tmp_path / 'images' / '0002', 2, pattern='{:06d}.png')
    (tmp_path / 'masks' / '0002').mkdir(parents=True)
    for number in range(2):
        index = np.zeros((HEIGHT, WIDTH), np.uint16)
        index[area(2 + number, 2, 5, 5)], index[area(15, 2, 5, 5)] = 1003, 2001
        index[area(0, 15, 30, 5)] = 10000
        Image.fromarray(index).save(tmp_path / 'masks' / '0002' / f'{number:06d}.png')
    content = convert(tmp_path, 'mots2yvis', tmp_path / 'images', tmp_path / 'masks')
    assert [category['name'] for category in content['categories']] == ['car', 'pedestrian']
    assert [(annotation['category_id'], annotation['bboxes']) for annotation in content['annotations']] == [
        (1, [[2, 2, 5, 5], [3, 2, 5, 5]]), (2, [[15, 2, 5, 5]] * 2)]
    refused = ('mots2yvis', tmp_path / 'images', tmp_path / 'masks', '--classes', '1=car')
    with pytest.raises(UserError, match='object 2001 is of class 2, which has no name'):
        convert(tmp_path, *refused)


def mots_text(tmp_path, *lines):
    """MOTSChallenge's folders: frames are counted from 1."""
    save_images(tmp_path / 'train' / 'MOTS20-02' / 'img1', 3, first=1, pattern='{:06d}.jpg')
    (tmp_path / 'train' / 'MOTS20-02' / 'gt').mkdir()
    (tmp_path / 'train' / 'MOTS20-02' / 'gt' / 'gt.txt').write_text('\n'.join(lines) + '\n')
    return 'mots2yvis', tmp_path / 'train', tmp_path / 'train'


def test_mots_text_keeps_frames_without_objects(tmp_path):
    mask = rle_text(area(2, 2, 5, 5))
    lines = [f'1 2005 2 20 30 {mask}', f'3 2005 2 20 30 {mask}', f'3 2005 2 20 30 {rle_text(area(20, 2, 5, 5))}',
             f'1 10000 10 20 30 {rle_text(area(0, 10, 30, 10))}']
    content = convert(tmp_path, *mots_text(tmp_path, *lines), '--classes', '2=pedestrian')
    assert content['videos'][0]['file_names'] == [f'MOTS20-02/img1/{number:06d}.jpg' for number in (1, 2, 3)]
    annotation, = content['annotations']
    first, none, last = masks_of(annotation)
    assert none is None and np.array_equal(first, area(2, 2, 5, 5))
    assert np.array_equal(last, area(2, 2, 5, 5) | area(20, 2, 5, 5))  # an object in two pieces


@pytest.mark.parametrize(('line', 'words'), [
    ('1 2005 2 20 30', 'line 1: .* is not "frame number class height width RLE"'),
    ('9 2005 2 20 30 x', 'line 1: frame 9 has no image'), ('1 2005 1 20 30 x', 'line 1: object 2005 is not of class 1'),
    ('1 2005 2 40 30 x', 'line 1: the mask has 30x40 pixels, the images 30x20'),
    ('1 2005 2 20 30 !!', 'line 1'), ('', 'the masks hold no object')])
def test_damaged_mots_text_is_one_line(tmp_path, line, words):
    refuse(tmp_path, words, *mots_text(tmp_path, line))


def test_missing_folders_of_mots_are_one_line(tmp_path):
    refuse(tmp_path, 'is not a folder', 'mots2yvis', tmp_path / 'images', tmp_path)
    (tmp_path / 'images').mkdir()
    refuse(tmp_path, 'has no annotations of MOTS', 'mots2yvis', tmp_path / 'images', tmp_path)
    (tmp_path / '0001.txt').write_text('')
    refuse(tmp_path, '0001 does not exist, but there are annotations of that name', 'mots2yvis', tmp_path / 'images',
           tmp_path)


# BURST


def burst():
    return dict(split='train', categories=[dict(id=805, name='person'), dict(id=3, name='dog')], sequences=[dict(
        dataset='YFCC100M', seq_name='v_1', width=WIDTH, height=HEIGHT, annotated_image_paths=['a.jpg', 'b.jpg'],
        all_image_paths=['a.jpg', 'x.jpg', 'b.jpg'], track_category_ids={'1': 805, '7': 3},
        segmentations=[{'1': dict(rle=rle_text(area(2, 2, 5, 5)), is_gt=True)},
                       {'1': dict(rle=rle_text(area(3, 2, 5, 5)), is_gt=True), '7': dict(bbox=[10, 10, 4, 5])}])])


def test_burst(tmp_path, capsys):
    (tmp_path / 'burst.json').write_text(json.dumps(burst()))
    content = convert(tmp_path, 'burst2yvis', tmp_path / 'burst.json')
    assert content['videos'][0]['file_names'] == ['YFCC100M/v_1/a.jpg', 'YFCC100M/v_1/b.jpg']
    assert [(annotation['category_id'], annotation['bboxes']) for annotation in content['annotations']] == [
        (805, [[2, 2, 5, 5], [3, 2, 5, 5]]), (3, [None, [10, 10, 4, 5]])]
    assert '1 annotation with a box and no mask' in capsys.readouterr().out


@pytest.mark.parametrize(('path', 'value', 'words'), [
    (('categories',), [], "needs a non-empty list 'categories'"),
    (('sequences', 0, 'annotated_image_paths'), None, r'sequences\[0\] has no list of annotated_image_paths'),
    (('sequences', 0, 'segmentations'), [{}], 'one for each annotated image \\(2\\)'),
    (('sequences', 0, 'track_category_ids', '7'), 4, 'track 7 has the category 4, which the file lacks'),
    (('sequences', 0, 'track_category_ids', '7'), [3], r'track 7 has the category \[3\]'),
    (('sequences', 0, 'width'), 'x', 'image size'),
    (('sequences', 0, 'segmentations', 0, '1', 'rle'), 'X', r'\(v_1\), frame 0, track 1'),
    (('sequences', 0, 'segmentations', 1, '7', 'bbox'), [1], 'frame 1, track 7 has no mask, and its bbox'),
    (('sequences', 0, 'track_category_ids'), None, 'has no track_category_ids')])
def test_damaged_burst_is_one_line(tmp_path, path, value, words):
    content = burst()
    node = content
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    (tmp_path / 'burst.json').write_text(json.dumps(content))
    refuse(tmp_path, words, 'burst2yvis', tmp_path / 'burst.json')
