"""What the converters leave out or change is counted; names and outputs that do not fit are refused before the work."""
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmdet.errors import UserError
from mmdet.files import load_json

TOOLS = Path(__file__).resolve().parents[2] / 'tools' / 'dataset_converters'
HEIGHT, WIDTH = 17, 23
VIDEO = 'Bär 1.2'


def main_of(tool):
    return runpy.run_path(str(TOOLS / f'{tool}.py'))['main']


def convert(root, tool, *arguments):
    out = root / 'neu' / 'a b.json'
    assert main_of(tool)([*map(str, arguments), '--out', str(out)]) == 0
    return json.loads(out.read_text())


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / 'Bilder' / VIDEO
    folder.mkdir(parents=True)
    for number in range(2):
        Image.new('RGB', (WIDTH, HEIGHT)).save(folder / f'{number:06d}.JPG', 'JPEG')
    return folder.parent


def test_cvat_counts_boxes_and_tracks_that_are_never_visible(tmp_path, images, capsys):
    text = f'''<annotations><meta><task><name>{VIDEO}</name><size>2</size><labels><label><name>Käfer</name></label>
        </labels></task></meta>
        <track id="0" label="Käfer"><box frame="0" outside="0" xtl="2" ytl="3" xbr="9" ybr="8"/></track>
        <track id="1" label="Käfer"><polygon frame="0" outside="1" points="2,3;8,3;8,9"/></track>
        <track id="2" label="Käfer"><polygon frame="0" outside="0" points="90,90;95,90;95,99"/></track></annotations>'''
    path = tmp_path / 'annotations.xml'
    path.write_bytes(text.replace('\n', '\r\n').encode())
    content = convert(tmp_path, 'cvat2yvis', images, path)
    assert [annotation['areas'] for annotation in content['annotations']] == [[35, 35]]
    assert content['videos'][0]['file_names'][0] == f'{VIDEO}/000000.JPG'
    out = capsys.readouterr().out
    assert 'note: 2 annotations with a box and no mask' in out and 'note: left out: 2 objects' in out


def test_cvat_names_the_folder_that_it_expects(tmp_path, images):
    path = tmp_path / 'annotations.xml'
    path.write_text('<annotations><meta><task><name>other.mp4</name></task></meta><track id="0" label="a"/>'
                    '</annotations>')
    with pytest.raises(UserError, match="has no images, nor a folder 'other'"):
        convert(tmp_path, 'cvat2yvis', images, path)


def test_labelme_counts_rectangles_and_objects_outside_the_image(tmp_path, images, capsys):
    shapes = [dict(label='a', group_id=1, shape_type='rectangle', points=[[9, 8], [2, 3]]),
              dict(label='a', group_id=2, points=[[90, 90], [95, 90], [95, 99]])]
    labels = tmp_path / 'labels' / VIDEO
    labels.mkdir(parents=True)
    (labels / '000001.json').write_text(json.dumps(dict(shapes=shapes)))
    content = convert(tmp_path, 'labelme2yvis', images, labels.parent)
    assert [annotation['areas'] for annotation in content['annotations']] == [[35]]
    out = capsys.readouterr().out
    for words in ('left out: 1 image without a JSON file', '1 annotation with a box', 'left out: 1 object'):
        assert f'note: {words}' in out


@pytest.fixture
def mots(tmp_path, images):
    """Return the arguments of a video with masks of two classes for one of its two images."""
    folder = tmp_path / 'masks' / VIDEO
    folder.mkdir(parents=True)
    index = np.zeros((HEIGHT, WIDTH), np.uint16)
    index[2:5, 3:9], index[8:12, 3:9] = 1001, 2001
    Image.fromarray(index).save(folder / '000001.png')
    return 'mots2yvis', images, folder.parent


def test_mots_counts_images_without_a_mask(tmp_path, mots, capsys):
    assert len(convert(tmp_path, *mots)['videos'][0]['file_names']) == 1
    assert 'note: left out: 1 image without a mask' in capsys.readouterr().out


def test_classes_of_mots_may_have_one_name_but_not_two(tmp_path, mots):
    content = convert(tmp_path, *mots, '--classes', '1=car', '2=car')
    assert [category['name'] for category in content['categories']] == ['car']
    assert [annotation['category_id'] for annotation in content['annotations']] == [1, 1]
    with pytest.raises(UserError, match='--classes: 1 is given twice'):
        convert(tmp_path, *mots, '--classes', '1=car', '1=bus')


@pytest.mark.parametrize(('text', 'words'), [('a\r\nb\r\na\r\n', "the category 'a' twice"), ('\n', 'no category name')])
def test_a_list_of_categories_is_checked(tmp_path, images, text, words):
    names = tmp_path / 'names.txt'
    names.write_bytes(text.encode())
    with pytest.raises(UserError, match=words):
        convert(tmp_path, 'labelme2yvis', images, images, '--categories', names)


@pytest.mark.parametrize('path', sorted(TOOLS.glob('*.py')), ids=lambda path: path.stem)
def test_an_output_that_cannot_be_written_is_refused_before_the_conversion(path, tmp_path, capsys):
    (tmp_path / 'input.json').write_text('{}')
    sources = {'masks2yvis': ['x', 'y'], 'labelme2yvis': ['x', 'y'], 'mots2yvis': ['x', 'y'],
               'cvat2yvis': ['x', str(tmp_path / 'input.json')]}
    with pytest.raises(SystemExit, match='2'):
        main_of(path.stem)([*sources.get(path.stem, [str(tmp_path / 'input.json')]), '--out', str(tmp_path)])
    assert f'error: argument --out: {tmp_path} cannot be written' in capsys.readouterr().err


def test_compressed_json_is_one_line(tmp_path):
    (tmp_path / 'a.json').write_bytes(b'\x1f\x8b\x08')
    with pytest.raises(UserError, match='compressed by gzip; unpack it'):
        load_json(tmp_path / 'a.json')


def coco_of(tracks, **image):
    """Return COCO JSON of two frames with a polygon for each track id, the last of them outside the image."""
    shapes = [[2, 3, 9, 3, 9, 8, 2, 8]] * (len(tracks) - 1) + [[90, 90, 95, 90, 95, 99]]
    return dict(
        images=[dict(id=number, file_name=f'{VIDEO}/{number}.jpg', height=HEIGHT, width=WIDTH) | image
                for number in (0, 1)],
        annotations=[dict(id=number, image_id=min(number, 1), category_id=0, segmentation=[shape],
                          attributes={} if track is None else dict(track_id=track))
                     for number, (track, shape) in enumerate(zip(tracks, shapes))],
        categories=[dict(id=0, name='Käfer')])


def test_ids_from_0_and_floats_and_masks_outside_the_image(tmp_path, capsys):
    (tmp_path / 'coco.json').write_text(json.dumps(coco_of([0.0, 0])), encoding='utf-8-sig')
    content = convert(tmp_path, 'cocoframes2yvis', tmp_path / 'coco.json')
    assert [(entry['category_id'], entry['areas']) for entry in content['annotations']] == [(0, [35, None])]
    assert 'note: left out: 1 mask of other objects' in capsys.readouterr().out


@pytest.mark.parametrize(('content', 'words'), [
    (coco_of([3, None]), 'annotation 1 has no track_id; make it part of a track'),
    (coco_of([0.5, 1]), r'annotation 0: track_id is 0\.5, neither an integer nor a string'),
    (coco_of([1, 1], video_id=4, file_name='v\\1.jpg'), 'of image 0 has backslashes; write slashes')])
def test_annotations_without_a_track_and_windows_paths_are_one_line(tmp_path, content, words):
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    with pytest.raises(UserError, match=words):
        convert(tmp_path, 'cocoframes2yvis', tmp_path / 'coco.json')
