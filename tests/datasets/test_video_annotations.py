"""The reader of YouTube-VIS JSON: all supported forms of annotations, and a one-line error for all others."""
import copy
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_utils

from mmdet.datasets.packed_annotations import read_youtube_vis
from mmdet.errors import UserError
from mmdet.structures.masks import decode_masks

HEIGHT, WIDTH, LENGTH = 6, 8, 3


def mask(y1: int, x1: int, y2: int, x2: int) -> np.ndarray:
    full = np.zeros((HEIGHT, WIDTH), np.uint8)
    full[y1:y2, x1:x2] = 1
    return full


def packed(array: np.ndarray) -> dict:
    rle = mask_utils.encode(np.asfortranarray(array))
    return {'size': list(array.shape), 'counts': rle['counts'].decode()}


def listed(array: np.ndarray) -> dict:
    """Return an uncompressed RLE: column-major run lengths, zeros first."""
    flat = array.T.ravel()
    ends = np.flatnonzero(np.diff(flat, prepend=0, append=2))
    return {'size': list(array.shape), 'counts': np.diff(ends, prepend=0).tolist()}


BLOCK = mask(1, 2, 4, 7)


def content(**changes) -> dict:
    """Return a file with one object of category 'cat' in frames 0 and 2, whose annotation has the given changes."""
    annotation = {'id': 11, 'video_id': 5, 'category_id': 30, 'iscrowd': 0,
                  'segmentations': [packed(BLOCK), None, packed(BLOCK)],
                  'bboxes': [[2., 1., 5., 3.], None, [2., 1., 5., 3.]], 'areas': [15, None, 15]}
    annotation.update(changes)
    for key in [key for key, value in annotation.items() if value is KeyError]:
        del annotation[key]
    return {'videos': [{'id': 5, 'height': HEIGHT, 'width': WIDTH, 'length': LENGTH,
                        'file_names': [f'v/{frame}.jpg' for frame in range(LENGTH)]}],
            'categories': [{'id': 20, 'name': 'dog'}, {'id': 30, 'name': 'cat'}], 'annotations': [annotation]}


def read(tmp_path, data):
    path = tmp_path / 'instances.json'
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return read_youtube_vis(path)


def test_plain_file(tmp_path):
    annotations = read(tmp_path, content())
    assert annotations.classes == ('dog', 'cat') and annotations.cat_ids == (20, 30)
    assert annotations.video_ids.tolist() == [5] and annotations.sizes.tolist() == [[HEIGHT, WIDTH]]
    assert annotations.video_length(0) == LENGTH
    assert [annotations.file_name(0, frame) for frame in range(LENGTH)] == ['v/0.jpg', 'v/1.jpg', 'v/2.jpg']
    assert annotations.annotated_frames(0).tolist() == [0, 2]
    objects = annotations.objects(0, 2)
    assert objects.bboxes.tolist() == [[2, 1, 6, 3]]  # x + w - 1, y + h - 1
    assert objects.labels.tolist() == [1] and objects.instances_id.tolist() == [11]
    assert (decode_masks(objects.rles)[0] == BLOCK).all()
    assert len(annotations.objects(0, 1).labels) == 0


POLYGON = [[2, 1, 7, 1, 7, 4, 2, 4]]


@pytest.mark.parametrize('segmentation', [packed(BLOCK), listed(BLOCK), POLYGON], ids=['string', 'list', 'polygon'])
@pytest.mark.parametrize('missing', [(), ('bboxes',), ('areas',), ('bboxes', 'areas'), ('iscrowd',)])
def test_forms_of_masks_and_missing_fields(tmp_path, segmentation, missing):
    data = content(segmentations=[segmentation, None, None], **dict.fromkeys(missing, KeyError))
    annotations = read(tmp_path, data)
    assert annotations.annotated_frames(0).tolist() == [0]
    objects = annotations.objects(0, 0)
    assert objects.bboxes.tolist() == [[2, 1, 6, 3]]
    assert (decode_masks(objects.rles)[0] == BLOCK).all()


@pytest.mark.parametrize('changes, frames', [
    ({'bboxes': [None, None, [2, 1, 5, 3]]}, [2]),
    ({'bboxes': [[], None, [2, 1, 5, 3]]}, [2]),
    ({'segmentations': [None, None, packed(BLOCK)]}, [2]),
    ({'segmentations': [[], None, packed(BLOCK)]}, [2]),
    ({'areas': [0, None, 15]}, [2]),
    ({'bboxes': [[2, 1, .9, 3], None, [2, 1, 5, 3]]}, [2]),
    ({'bboxes': [[2, 1, 5, .9], None, [2, 1, 5, 3]]}, [2]),
    ({'bboxes': [[2, 1, 1, 1], None, [2, 1, 5, 3]]}, [0, 2]),
    ({'bboxes': [[8, 1, 5, 3], None, [2, 1, 5, 3]]}, [2]),
    ({'bboxes': [[-5, 1, 5, 3], None, [-4, 1, 5, 3]]}, [2]),
    ({'iscrowd': 1}, []),
], ids=['no box', 'empty box', 'no mask', 'empty mask', 'no area', 'thin', 'flat', 'one pixel', 'right of the image',
        'left of the image', 'crowd'])
def test_frames_in_which_an_object_is_present(tmp_path, changes, frames):
    assert read(tmp_path, content(**changes)).annotated_frames(0).tolist() == frames


def test_crowds_are_left_out(tmp_path):
    data = content()
    crowd = {**data['annotations'][0], 'id': 12, 'iscrowd': 1, 'segmentations': [packed(1 - BLOCK)] * 3}
    data['annotations'].insert(0, crowd)
    objects = read(tmp_path, data).objects(0, 0)
    assert objects.instances_id.tolist() == [11]
    assert (decode_masks(objects.rles) == BLOCK).all()


def test_objects_of_several_videos_are_not_mixed(tmp_path):
    data = content()
    data['videos'].insert(0, {'id': 9, 'height': HEIGHT, 'width': WIDTH, 'file_names': ['w/0.jpg', 'w/1.jpg']})
    first = data['annotations'][0]
    for ident, category, cover in ((3, 20, mask(0, 0, 2, 2)), (2, 30, mask(3, 3, 6, 6))):
        data['annotations'].append({'id': ident, 'video_id': 9, 'category_id': category,
                                    'segmentations': [packed(cover), packed(cover) if ident == 2 else None]})
    annotations = read(tmp_path, data)
    assert first['id'] == 11 and annotations.objects(1, 0).instances_id.tolist() == [11]
    both = annotations.objects(0, 0)
    assert both.instances_id.tolist() == [3, 2] and both.labels.tolist() == [0, 1]
    assert both.bboxes.tolist() == [[0, 0, 1, 1], [3, 3, 5, 5]]
    assert annotations.objects(0, 1).instances_id.tolist() == [2]


@pytest.mark.parametrize('annotations', [KeyError, None, []])
def test_test_set_without_annotations(tmp_path, annotations):
    data = content()
    del data['annotations']
    if annotations is not KeyError:
        data['annotations'] = annotations
    assert read(tmp_path, data).annotated_frames(0).tolist() == []


def broken(change) -> dict:
    data = content()
    change(data)
    return data


def set_in(*keys_and_value):
    *keys, last, value = keys_and_value

    def change(data):
        for key in keys:
            data = data[key]
        data[last] = value
    return change


@pytest.mark.parametrize('data, words', [
    ('{"videos": [', ['is not JSON']),
    ('[' * 100000, ['is not JSON']),
    ('[]', ['not YouTube-VIS', 'videos']),
    ('{"images": [], "annotations": []}', ['not YouTube-VIS', 'videos']),
    (broken(lambda d: d.pop('categories')), ['categories']),
    (broken(set_in('annotations', {})), ['annotations', 'list']),
    (broken(set_in('categories', 1, 'id', 20)), ['categories[1]', 'same id 20']),
    (broken(set_in('categories', 0, 'name', None)), ['categories[0]', 'name']),
    (broken(set_in('videos', 0, 'id', '5')), ['videos[0]', 'id']),
    (broken(set_in('videos', 0, 'id', 2 ** 70)), ['videos[0]', 'id']),
    (broken(set_in('videos', 0, 'height', 0)), ['video 5', 'size']),
    (broken(set_in('videos', 0, 'height', 10 ** 9)), ['video 5', 'size']),
    (broken(set_in('videos', 0, 'file_names', [])), ['video 5', 'file_names']),
    (broken(set_in('videos', 0, 'file_names', 1, 7)), ['video 5', '7']),
    (broken(set_in('videos', 0, 'file_names', 1, '/etc/passwd')), ['/etc/passwd', 'out of']),
    (broken(set_in('videos', 0, 'file_names', 1, 'v/../../secret.jpg')), ['../../secret', 'out of']),
    (broken(set_in('videos', 0, 'file_names', 1, 'v/\0.jpg')), ['video 5', 'not a path']),
    (broken(set_in('annotations', 0, 'id', None)), ['annotations[0]', 'id']),
    (broken(set_in('annotations', 0, 'video_id', 6)), ['annotation 11', 'video_id 6']),
    (broken(set_in('annotations', 0, 'category_id', True)), ['annotation 11', 'category_id']),
    (broken(set_in('annotations', 0, 'segmentations', None)), ['annotation 11', 'segmentations']),
    (broken(set_in('annotations', 0, 'bboxes', [None])), ['annotation 11', 'bboxes', '1 entry', '3 frames']),
    (broken(set_in('annotations', 0, 'bboxes', 0, [1, 2, 3])), ['annotation 11', 'bboxes[0]']),
    (broken(set_in('annotations', 0, 'bboxes', 0, [1, 2, 3, '4'])), ['annotation 11', 'bboxes', "'4'"]),
    (broken(set_in('annotations', 0, 'bboxes', 0, [1, 2, 3, float('nan')])), ['annotation 11', 'finite']),
    (broken(set_in('annotations', 0, 'areas', 0, 10 ** 400)), ['annotation 11', 'finite']),
    (broken(set_in('annotations', 0, 'segmentations', 0, 'size', [3, 3])), ['annotation 11', 'segmentations[0]']),
    (broken(set_in('annotations', 0, 'segmentations', 0, 'counts', 'o')), ['annotation 11', 'segmentations[0]']),
    (broken(set_in('annotations', 0, 'segmentations', 0, 'counts', [1, 2])), ['annotation 11', 'segmentations[0]']),
    (broken(set_in('annotations', 0, 'segmentations', 0, [[0, 0, 1e9, 0, 5, 5]])), ['annotation 11']),
    (broken(set_in('annotations', 0, 'segmentations', 0, 3)), ['annotation 11', 'segmentations[0]']),
])
def test_one_line_names_what_is_wrong(tmp_path, data, words):
    with pytest.raises(UserError) as error:
        read(tmp_path, data)
    message = str(error.value)
    assert '\n' not in message and 'instances.json' in message
    assert all(word in message for word in words), message


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r'nothing\.json.*No such file'):
        read_youtube_vis(tmp_path / 'nothing.json')


JUNK = st.one_of(st.none(), st.booleans(), st.integers(-3, 2 ** 65), st.floats(), st.text(max_size=4),
                 st.lists(st.integers(-1, 60), max_size=5), st.dictionaries(st.just('id'), st.none()))


def places(node, path=()):
    """Yield the path to every value in a JSON document."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield from places(child, (*path, key))


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from([p for p in places(content()) if p]), junk=JUNK)
def test_any_value_anywhere_is_read_or_refused(tmp_path, place, junk):
    data = copy.deepcopy(content())
    set_in(*place, junk)(data)
    try:
        annotations = read(tmp_path, data)
    except UserError as error:
        assert '\n' not in str(error)
        return
    for frame in annotations.annotated_frames(0):
        objects = annotations.objects(0, frame)
        assert np.isfinite(objects.bboxes).all() and len(objects.bboxes) == len(objects.labels) == len(objects.rles)
        assert decode_masks(objects.rles).max() <= 1
