"""Converters from CVAT's COCO export and its XML of videos: generated files, pieces and rectangles, damaged input."""
import json

import numpy as np
import pytest

from mmdet.datasets.packed_annotations import read_youtube_vis
from tests.helpers.conversion import HEIGHT, WIDTH, area, convert, masks_of, refuse, save_images

# COCO export of CVAT


def cvat_coco():
    """Frames without folders; object 1 is in two pieces in frame 0 and a box in frame 1; 2 is painted (a crowd)."""
    def note(number, image, track, **fields):
        return dict(id=number, image_id=image, category_id=1, iscrowd=0, **fields,
                    attributes=dict(track_id=track, keyframe=True))

    def polygon(x, y, side):
        return [[x, y, x + side, y, x + side, y + side, x, y + side]]

    painted = dict(size=[HEIGHT, WIDTH], counts=[0, 5, HEIGHT * WIDTH - 5])
    return dict(
        images=[dict(id=number, file_name=f'frame_{number:06d}.PNG', width=WIDTH, height=HEIGHT) for number in (1, 2)],
        categories=[dict(id=1, name='cat')],
        annotations=[note(1, 1, 1, segmentation=polygon(0, 0, 4)), note(2, 1, 1, segmentation=polygon(10, 10, 4)),
                     note(3, 2, 1, segmentation=[], bbox=[2, 3, 5, 4]),
                     note(4, 1, 2, segmentation=painted) | dict(iscrowd=1)])


def convert_coco(tmp_path, content, *options):
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    return convert(tmp_path, 'cocoframes2yvis', tmp_path / 'coco.json', *options)


def test_coco_export_of_cvat_has_its_ids_in_the_attributes(tmp_path, capsys):
    content = convert_coco(tmp_path, cvat_coco())
    assert [video['file_names'] for video in content['videos']] == [['frame_000001.PNG', 'frame_000002.PNG']]
    first, second = masks_of(content['annotations'][0])
    assert np.array_equal(first, area(0, 0, 4, 4) | area(10, 10, 4, 4)) and np.array_equal(second, area(2, 3, 5, 4))
    assert [annotation['iscrowd'] for annotation in content['annotations']] == [0, 1]
    printed = capsys.readouterr().out
    assert 'note: 1 annotation with a box and no mask' in printed and 'add --crowds-as-objects' in printed


def test_painted_masks_of_cvat_can_be_objects(tmp_path, capsys):
    content = convert_coco(tmp_path, cvat_coco(), '--crowds-as-objects')
    assert [annotation['iscrowd'] for annotation in content['annotations']] == [0, 0]
    assert 'crowds' not in capsys.readouterr().out


def test_shapes_of_cvat_without_tracks_are_one_line(tmp_path):
    content = cvat_coco()
    del content['annotations'][2]['attributes']['track_id']
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    refuse(tmp_path, 'annotation 3 has no track_id; make it part of a track', 'cocoframes2yvis', tmp_path / 'coco.json')
    for annotation in content['annotations']:
        annotation['attributes'] = {}
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    refuse(tmp_path, 'annotation 1 has none of instance_id, track_id, object_id, nor have its attributes',
           'cocoframes2yvis', tmp_path / 'coco.json')


# XML of CVAT

XML = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>7</id><name>street.mp4</name><size>{size}</size>
<mode>interpolation</mode><start_frame>{start}</start_frame><frame_filter>{filter}</frame_filter>
<labels><label><name>cat</name></label><label><name>dog</name></label></labels>
<original_size><width>30</width><height>20</height></original_size></task></meta>{tracks}</annotations>"""


def box(frame, x, y, w, h, **fields):
    more = ''.join(f' {key}="{value}"' for key, value in fields.items())
    return f'<box frame="{frame}" keyframe="1" xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}"{more}/>'


def track(number, shapes, label='cat', group=0):
    return f'<track id="{number}" label="{label}" group_id="{group}">{"".join(shapes)}</track>'


def cvat(tmp_path, *tracks, size=5, images=None, start=0, step='', name='street'):
    save_images(tmp_path / 'images' / 'street', size if images is None else images)
    path = tmp_path / f'{name}.xml'
    path.write_text(XML.format(size=size, start=start, filter=step, tracks=''.join(tracks)))
    return 'cvat2yvis', tmp_path / 'images', path


def test_boxes_of_cvat_are_interpolated_between_keyframes_until_outside(tmp_path):
    shapes = [box(0, 0, 0, 4, 4, outside=0), box(2, 8, 4, 4, 4), box(3, 8, 4, 4, 4, outside=1),
              box(4, 20, 4, 4, 4, outside=0)]
    content = convert(tmp_path, *cvat(tmp_path, track(0, shapes), track(1, [box(3, 1, 1, 2, 2)], 'dog')))
    assert [category['name'] for category in content['categories']] == ['cat', 'dog']
    cat, dog = content['annotations']
    assert cat['bboxes'] == [[0, 0, 4, 4], [4, 2, 4, 4], [8, 4, 4, 4], None, [20, 4, 4, 4]]
    assert dog['category_id'] == 2 and dog['bboxes'] == [None, None, None, [1, 1, 2, 2], [1, 1, 2, 2]]
    assert read_youtube_vis(tmp_path / 'out' / 'vis.json').file_name(0, 4) == 'street/00004.jpg'


def test_polygons_ellipses_masks_and_rotations_of_cvat(tmp_path):
    polygons = ['<polygon frame="0" outside="0" points="0,0;8,0;8,8;0,8"/>',
                '<polygon frame="2" outside="0" points="4.0,2.0;12.0,2.0;12.0,10.0;4.0,10.0"/>',
                '<polygon frame="3" outside="0" points="0,0;6,0;6,6"/>']
    mask = '<mask frame="{}" outside="{}" rle="1, 2, 1, 2" left="3" top="5" width="3" height="2"/>'
    masks = [mask.format(0, 0), mask.format(2, 1)]
    turned = [box(0, 10, 5, 10, 4, rotation=90)]
    round_ = ['<ellipse frame="1" outside="0" cx="15" cy="10" rx="6" ry="6"/>']
    content = convert(tmp_path, *cvat(tmp_path, *(track(*pair) for pair in enumerate(
        (polygons, masks, turned, round_)))))
    polygon, painted, rectangle, disc = content['annotations']
    assert polygon['bboxes'][:3] == [[0, 0, 8, 8], [2, 1, 8, 8], [4, 2, 8, 8]] and polygon['areas'][3] < 36
    runs = np.array([[0, 1, 1], [0, 1, 1]], bool)
    shown = masks_of(painted)
    assert np.array_equal(shown[1][5:7, 3:6], runs) and shown[1].sum() == 4 and shown[2:] == [None] * 3
    assert rectangle['bboxes'][0] == [13, 2, 4, 10]
    assert disc['segmentations'][0] is None and disc['areas'][1] == pytest.approx(36 * np.pi, rel=0.05)


def test_groups_of_cvat_are_the_pieces_of_an_object(tmp_path):
    pieces = [track(0, [box(0, 0, 0, 4, 4)], group=3), track(1, [box(0, 10, 0, 4, 4)], group=3),
              track(2, [box(0, 20, 0, 4, 4)], 'dog', group=3)]
    content = convert(tmp_path, *cvat(tmp_path, *pieces, size=1))
    assert len(content['annotations']) == 2
    assert np.array_equal(masks_of(content['annotations'][0])[0], area(0, 0, 4, 4) | area(10, 0, 4, 4))


def test_frames_of_cvat_with_a_start_and_a_step(tmp_path):
    shapes = [box(10, 0, 0, 4, 4), box(16, 6, 0, 4, 4), box(19, 6, 0, 4, 4, outside=1)]
    content = convert(tmp_path, *cvat(tmp_path, track(0, shapes), size=3, start=10, step='step=3'))
    assert content['annotations'][0]['bboxes'] == [[0, 0, 4, 4], [3, 0, 4, 4], [6, 0, 4, 4]]


def test_a_job_of_cvat_begins_with_its_segment(tmp_path):
    tool, images, path = cvat(tmp_path, track(0, [box(10, 0, 0, 4, 4), box(12, 4, 0, 4, 4)]), size=3)
    segments = '<segments><segment><id>4</id><start>10</start><stop>12</stop></segment></segments>'
    path.write_text(path.read_text().replace('task>', 'job>').replace('<mode>', f'{segments}<mode>'))
    content = convert(tmp_path, tool, images, path)
    assert content['annotations'][0]['bboxes'] == [[0, 0, 4, 4], [2, 0, 4, 4], [4, 0, 4, 4]]


def test_a_project_of_cvat_has_several_videos(tmp_path, capsys):
    for name in ('one', 'two'):
        save_images(tmp_path / 'images' / name, 2)
    tasks = ''.join(f'<task><id>{number}</id><name>{name}.mp4</name><size>2</size></task>'
                    for number, name in ((4, 'one'), (5, 'two')))
    tracks = track(0, [box(0, 0, 0, 4, 4), '<points frame="0" points="1,1"/>']).replace('<track', '<track task_id="5"')
    (tmp_path / 'annotations.xml').write_text(
        f'<annotations><meta><project><tasks>{tasks}</tasks><labels><label><name>cat</name></label></labels></project>'
        f'</meta>{tracks}</annotations>')
    content = convert(tmp_path, 'cvat2yvis', tmp_path / 'images', tmp_path / 'annotations.xml')
    assert [video['file_names'][0] for video in content['videos']] == ['one/00000.jpg', 'two/00000.jpg']
    assert [annotation['video_id'] for annotation in content['annotations']] == [2]
    assert 'note: ' in (out := capsys.readouterr().out) and 'shapes without area are left out: points' in out


def test_the_images_of_one_video_need_no_folder_of_its_name(tmp_path):
    tool, images, path = cvat(tmp_path, track(0, [box(0, 0, 0, 4, 4)]), name='annotations')
    content = convert(tmp_path, tool, images / 'street', path)
    assert content['videos'][0]['file_names'][0] == '00000.jpg'


@pytest.mark.parametrize(('shapes', 'words'), [
    ([box(0, 0, 0, 4, 4).replace('xtl', 'x')], 'track 0, frame 0: the box has no xtl'),
    ([box(0, 0, 0, 4, 4, rotation='1,2')], "track 0, frame 0: '1,2' is not a number"),
    ([box(0, 0, 0, 4, 4).replace('"4"', '"4,4"', 1)], "track 0, frame 0: xbr: '4,4' is not a number"),
    ([box('x', 0, 0, 4, 4)], "track 0: a box has the frame 'x'"),
    ([box(0, 0, 0, 4, 4), box(0, 0, 0, 4, 4)], 'track 0: has two shapes in frame 0'),
    ([box(9, 0, 0, 4, 4)], 'track 0: frame 9 is not one of the frames 0 to 4'),
    (['<polygon frame="0" points="1,1;nan,3;4,4"/>'], 'track 0, frame 0: points: .* is not a list of numbers'),
    (['<polygon frame="0" points="1,1;3,3"/>'], 'track 0, frame 0.* a polygon is a list of at least three points'),
    (['<mask frame="0" rle="1,2" left="0" top="0" width="2" height="2"/>'], 'the runs of the mask add up to 3'),
    (['<mask frame="0" rle="0,4" left="29" top="0" width="2" height="2"/>'], 'is not inside the 30x20 image')])
def test_damaged_shapes_of_cvat_are_one_line(tmp_path, shapes, words):
    refuse(tmp_path, words, *cvat(tmp_path, track(0, shapes)))


@pytest.mark.parametrize(('content', 'words'), [
    ('<annotations><track', 'is not XML'), ('<html/>', 'holds <html>, not <track>'),
    ('<annotations><image id="0"/></annotations>', 'CVAT for images", which has no tracks'),
    (XML.format(size=5, start='x', filter='', tracks=''), 'start_frame x'),
    (XML.format(size=5, start=0, filter='', tracks=track(0, [], 'bird')), "label 'bird' is not among the categories"),
    (XML.format(size=5, start=0, filter='', tracks=''), 'has no track with a visible box'),
    (XML.format(size=7, start=0, filter='', tracks=''), 'the video has 7 frames, .*street 5 images'),
    (XML.format(size=5, start=0, filter='', tracks='').replace('<width>30', '<width>31'), 'has 31x20 pixels')])
def test_damaged_files_of_cvat_are_one_line(tmp_path, content, words):
    tool, images, path = cvat(tmp_path)
    path.write_text(content)
    refuse(tmp_path, words, tool, images, path)


def test_missing_images_of_cvat_are_one_line(tmp_path):
    tool, _, path = cvat(tmp_path)
    refuse(tmp_path, r'its images are missing: .*street', tool, tmp_path / 'nothing', path)
