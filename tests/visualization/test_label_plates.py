"""Text plates: placement, text, and painting of any name."""
import numpy as np
import pytest

from mmdet.visualization.labels import label_texts, paint_plate, place_plates, plate_size


def overlaps(a: tuple, b: tuple) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


@pytest.mark.parametrize(('width', 'height', 'objects'), [(1280, 720, 10), (640, 360, 40), (160, 90, 30), (16, 9, 5)])
def test_plates_inside_and_apart(width, height, objects):
    rng = np.random.default_rng(objects)
    corners = rng.uniform(-0.2, 1.2, (objects, 2, 2)) * (width, height)
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    sizes = [[plate_size(text, 10) for text in label_texts(i, 'giraffe', 0.5)] for i in range(objects)]
    places = place_plates(boxes, sizes, (height, width))
    plates = [(x, y, *sizes[i][choice]) for i, (choice, x, y) in ((i, p) for i, p in enumerate(places) if p)]
    assert len(places) == objects
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in plates)
    assert not any(overlaps(a, b) for i, a in enumerate(plates) for b in plates[:i])
    assert len(plates) == objects if (width, objects) == (1280, 10) else len(plates) >= min(5, height // 12)


def test_plate_prefers_the_top_of_its_box():
    assert place_plates([(50, 40, 90, 80)], [[(30, 10)]], (100, 200)) == [(0, 50, 30)]


def test_second_plate_is_placed_elsewhere():
    first, second = place_plates([(50, 40, 90, 80)] * 2, [[(30, 10)]] * 2, (100, 200))
    assert first == (0, 50, 30) and second == (0, 50, 80)


def test_many_objects_get_shorter_texts():
    boxes = [(10 + 60 * i, 40, 50 + 60 * i, 80) for i in range(9)]
    sizes = [[(50, 20), (20, 20)]] * 9
    assert {place[0] for place in place_plates(boxes, sizes, (100, 600))} == {0}
    assert {place[0] for place in place_plates(boxes, sizes, (90, 560))} == {1}


def test_texts_from_long_to_short():
    assert label_texts(3, 'seal', 0.871, 0.12) == ['#3 seal 0.87 u0.12', '#3 seal 0.87', '#3 seal', '#3']
    assert label_texts(3, 'seal', None) == ['#3 seal', '#3']
    assert label_texts(None, None, None) == []


@pytest.mark.parametrize('name', ['海豚', 'ما هذا', '👨‍👩‍👧', 'a\nb\tc\x00', '\ud800', 'x' * 500, ' ', '%s{}\\'])
def test_any_name_can_be_painted(name):
    text = label_texts(1, name, 0.5)[0]
    width, height = plate_size(text, 12)
    image = np.full((height + 2, width + 2, 3), 100, np.uint8)
    paint_plate(image, text, 1, 1, 12, (0, 159, 230))
    assert '\n' not in text and len(text) < 40
    assert (image[1:-1, 1:-1] != 100).any()
    assert (image[[0, -1]] == 100).all() and (image[:, [0, -1]] == 100).all()
