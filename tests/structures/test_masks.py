"""Run-length encodings from files: accepted forms, their canonical form, and error messages."""
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmdet.errors import UserError
from mmdet.structures.masks import (
    decode_masks,
    encode_index_mask,
    encode_masks,
    parse_segmentations,
    rle_boxes,
    unpack_counts,
)

HEIGHT, WIDTH = 37, 53


def random_masks(count, seed=0):
    """Return blobs and noise, including an empty and a full mask."""
    rng = np.random.default_rng(seed)
    masks = (rng.random((count, HEIGHT, WIDTH)) < rng.random((count, 1, 1))).astype(np.uint8)
    masks[0], masks[1] = 0, 1
    masks[2] = 0
    masks[2, 5:9, 10:30] = 1
    return masks


def as_json(masks):
    return [dict(size=list(rle['size']), counts=rle['counts'].decode()) for rle in encode_masks(masks)]


def test_encode_decode_round_trip():
    masks = random_masks(6)
    assert (decode_masks(encode_masks(masks)) == masks).all()
    assert encode_masks(np.zeros((0, HEIGHT, WIDTH), np.uint8)) == []


def test_boxes_of_masks():
    boxes = rle_boxes(encode_masks(random_masks(3)))
    np.testing.assert_array_equal(boxes, [[0, 0, 0, 0], [0, 0, WIDTH, HEIGHT], [10, 5, 20, 4]])
    assert rle_boxes([]).shape == (0, 4)


def test_unpacked_runs_are_those_of_the_mask():
    masks = random_masks(20)
    runs, first = unpack_counts([rle['counts'] for rle in as_json(masks)], 'masks', range(20))
    for mask, begin, end in zip(masks, first, [*first[1:], len(runs)]):
        pixels = mask.T.reshape(-1)
        edges = np.flatnonzero(np.diff(pixels, prepend=0))
        expected = np.diff(np.concatenate([[0], edges, [pixels.size]]))
        found = runs[begin:end].reshape(-1)
        np.testing.assert_array_equal(found[:len(expected)], expected)
        assert not found[len(expected):].any()


def test_forms_of_a_segmentation_agree():
    """Polygon, list of runs and string of one rectangle; null and the empty list mean absent."""
    mask = np.zeros((1, HEIGHT, WIDTH), np.uint8)
    mask[0, 5:9, 10:30] = 1
    packed = as_json(mask)[0]
    runs = unpack_counts([packed['counts']], '', [0])[0].reshape(-1).tolist()
    polygon = [10, 5, 30, 5, 30, 9, 10, 9]
    rles, areas = parse_segmentations([[polygon], dict(size=[HEIGHT, WIDTH], counts=runs), packed, None, []],
                                      HEIGHT, WIDTH, 'x')
    assert rles == [packed, packed, packed, None, None]
    np.testing.assert_array_equal(areas, [80, 80, 80, 0, 0])


def test_two_polygons_are_one_object():
    squares = [[0, 0, 4, 0, 4, 4, 0, 4], [10, 0, 14, 0, 14, 4, 10, 4]]
    assert parse_segmentations([squares], HEIGHT, WIDTH, 'x')[1].tolist() == [32]


@pytest.mark.parametrize('as_text', [True, False])
def test_empty_runs_inside_do_not_change_the_mask(as_text):
    """pycocotools' overlap stops early at them; the canonical form has none."""
    runs = [3, 4, 0, 5, 2, 0, 1, HEIGHT * WIDTH - 15]
    counts = coco_mask.frPyObjects(dict(size=[HEIGHT, WIDTH], counts=runs), HEIGHT, WIDTH)['counts'].decode()
    given = dict(size=[HEIGHT, WIDTH], counts=counts if as_text else runs)
    (rle,), areas = parse_segmentations([given], HEIGHT, WIDTH, 'x')
    expected = np.zeros(HEIGHT * WIDTH, np.uint8)
    expected[3:12] = expected[15:] = 1
    np.testing.assert_array_equal(decode_masks([rle])[0].T.reshape(-1), expected)
    assert areas[0] == expected.sum()
    assert rle == as_json(expected.reshape(1, WIDTH, HEIGHT).transpose(0, 2, 1))[0]


def test_a_string_that_starts_with_empty_runs():
    runs = [0, 0, 7, HEIGHT * WIDTH - 7]
    (rle,), areas = parse_segmentations([dict(size=[HEIGHT, WIDTH], counts=runs)], HEIGHT, WIDTH, 'x')
    assert areas[0] == HEIGHT * WIDTH - 7 == coco_mask.area(rle)


def pack(runs):
    """Encode the first three runs of a COCO string; any values are possible."""
    text = ''
    for value in runs:
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
    return text


def test_pack_writes_coco_strings():
    runs = [10, 50, HEIGHT * WIDTH - 60]
    expected = coco_mask.frPyObjects(dict(size=[HEIGHT, WIDTH], counts=runs), HEIGHT, WIDTH)
    assert pack(runs) == expected['counts'].decode()


GOOD = as_json(random_masks(3))[2]['counts']
SIZE = [HEIGHT, WIDTH]
BAD = {
    'cut off inside a run': dict(size=SIZE, counts='P'),
    'cut off after odd runs': dict(size=SIZE, counts='1P'),
    'one run missing': dict(size=SIZE, counts=GOOD[:-2]),
    'too many runs': dict(size=SIZE, counts=GOOD + '3'),
    'character below the range': dict(size=SIZE, counts=GOOD + '\x00'),
    'character above the range': dict(size=SIZE, counts='~' + GOOD),
    'not ASCII': dict(size=SIZE, counts='ü' + GOOD),
    'endless run': dict(size=SIZE, counts='o' * 40 + '0'),
    'negative run': dict(size=SIZE, counts=pack([10, -5, HEIGHT * WIDTH - 5])),
    'negative last run': dict(size=SIZE, counts=pack([10, HEIGHT * WIDTH - 5, -5])),
    'a run that wraps 32 bits': dict(size=SIZE, counts=pack([2**32 + 10, HEIGHT * WIDTH - 10])),
    'empty string': dict(size=SIZE, counts=''),
    'other size': dict(size=[WIDTH, HEIGHT], counts=GOOD),
    'float size': dict(size=[float(HEIGHT), float(WIDTH)], counts=GOOD),
    'no size': dict(counts=GOOD),
    'no counts': dict(size=SIZE),
    'empty list': dict(size=SIZE, counts=[]),
    'list of floats': dict(size=SIZE, counts=[1.5, HEIGHT * WIDTH - 1.5]),
    'list of booleans': dict(size=SIZE, counts=[True, HEIGHT * WIDTH - 1]),
    'negative in list': dict(size=SIZE, counts=[-5, HEIGHT * WIDTH + 5]),
    'huge in list': dict(size=SIZE, counts=[2**70]),
    'list too short': dict(size=SIZE, counts=[5, 5]),
    'number': 7,
    'text': 'mask',
    'polygon of two points': [[0, 0, 5, 5]],
    'odd polygon': [[0, 0, 5, 5, 1, 1, 3]],
    'flat polygon': [0, 0, 5, 5, 0, 5],
    'polygon with null': [[0, 0, 5, None, 1, 1]],
    'polygon with NaN': [[0, 0, 5, float('nan'), 1, 1]],
    'polygon far away': [[0, 0, 1e12, 0, 1e12, 1e12]],
    'polygon with a huge integer': [[0, 0, 10**400, 0, 1, 1]],
    'endless outline': [[0, 0, 1_900_000, 0] * 3],
}


@pytest.mark.parametrize('segmentation', BAD.values(), ids=BAD)
def test_bad_segmentation_is_one_line_that_names_it(segmentation):
    with pytest.raises(UserError, match=r'file: entry 3: segmentations\[1\]') as caught:
        parse_segmentations([None, segmentation, dict(size=SIZE, counts=GOOD)], HEIGHT, WIDTH,
                            'file: entry 3: segmentations')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('size', [(0, 5), (-3, 5), (2.0, 5), (True, 5), (2**20, 2**20), (None, 5)])
def test_bad_image_size(size):
    with pytest.raises(UserError, match='image size'):
        parse_segmentations([], *size, 'x')


def test_damaged_strings_never_reach_c_code():
    """Random edits of a valid string give a mask of the right size or an error; the decoder never hangs."""
    rng = np.random.default_rng(4)
    good = as_json(random_masks(40, seed=1))
    refused = 0
    for trial in range(400):
        text = list(good[trial % 40]['counts'])
        for _ in range(rng.integers(1, 4)):
            text[rng.integers(len(text))] = chr(rng.integers(40, 120))
        try:
            (rle,), areas = parse_segmentations([dict(size=SIZE, counts=''.join(text))], HEIGHT, WIDTH, 'x')
        except UserError:
            refused += 1
        else:
            assert decode_masks([rle])[0].sum() == areas[0] == coco_mask.area(rle)
            assert coco_mask.iou([rle], [rle], [0])[0, 0] == (1 if areas[0] else 0)
    assert refused > 300


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int32])
def test_index_masks_are_encoded_as_their_single_masks(dtype):
    index = np.random.default_rng(3).integers(0, 6, (9, 11)).astype(dtype)
    index[:, 4] = 0
    rles = encode_index_mask(index)
    assert list(rles) == [1, 2, 3, 4, 5]
    for number, rle in rles.items():
        expected, = encode_masks(index[None] == number)
        assert rle == dict(size=[9, 11], counts=expected['counts'].decode())
    assert encode_index_mask(np.zeros((3, 4), dtype)) == {}
    assert decode_masks([encode_index_mask(np.full((3, 4), 7, dtype))[7]]).all()
