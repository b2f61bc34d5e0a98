"""The toy data set and its default family: determinism, layout, and the occurrence of every documented difficulty."""
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_utils

from mmdet.datasets.toy import ToyVIS, make_toy_vis
from mmdet.datasets.toy.toy_shapes import SHAPES, TEXTURES, paint
from mmdet.errors import UserError

SPEC = ToyVIS(videos=3, val_videos=1, frames=12, size=(96, 64), classes=4, seed=5, format='ovis', first_category_id=7)
GRID = np.linspace(-1.2, 1.2, 97)
V, U = np.meshgrid(GRID, GRID, indexing='ij')


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


def test_number_of_workers_changes_no_byte(tmp_path):
    make_toy_vis(tmp_path / 'one', SPEC, workers=1, progress=False)
    make_toy_vis(tmp_path / 'two', SPEC, workers=2, progress=False)
    one = folder_bytes(tmp_path / 'one')
    assert one == folder_bytes(tmp_path / 'two')
    assert len(one) == 4 * 12 + 2


def test_default_family_has_the_videos_that_it_had_before_there_were_others(tmp_path):
    paths = make_toy_vis(tmp_path, SPEC, progress=False)
    assert hashlib.sha256(paths['train'].read_bytes()).hexdigest() == (
        '884c01bf756e98a57f1768b8b7623edad622c28b2fab7ff5148bc9eb47324121')
    # the bytes of the frames depend on the JPEG encoder; their means hardly do
    means = [cv2.imread(str(path)).mean() for path in sorted(tmp_path.glob('train_images/*/00005.jpg'))]
    assert means == pytest.approx([129.626, 122.895, 138.968], abs=.05)


def test_seed_changes_the_annotations(tmp_path):
    files = [make_toy_vis(tmp_path / str(seed), ToyVIS(videos=1, val_videos=0, frames=2, size=(48, 32), seed=seed),
                          progress=False)['train'].read_bytes() for seed in (0, 1)]
    assert files[0] != files[1]


def test_annotations_fit_the_images(tmp_path):
    paths = make_toy_vis(tmp_path, SPEC, progress=False)
    assert paths['train'] == tmp_path / 'annotations' / 'annotations_train.json'
    data = json.loads(paths['train'].read_text())
    assert [c['id'] for c in data['categories']] == [7, 8, 9, 10]
    assert [c['name'] for c in data['categories']] == ['disc', 'square', 'triangle', 'star']
    videos = {video['id']: video for video in data['videos']}
    assert len({a['id'] for a in data['annotations']}) == len(data['annotations'])
    for video in videos.values():
        assert video['length'] == len(video['file_names']) == 12
        assert all(cv2.imread(str(tmp_path / 'train_images' / name)).shape == (64, 96, 3)
                   for name in video['file_names'])
    for annotation in data['annotations']:
        rows = zip(*(annotation[key] for key in ('segmentations', 'bboxes', 'areas', 'occlusion')), strict=True)
        for rle, box, area, word in rows:
            if rle is None:
                assert box is None and area is None and word is None
                continue
            mask = mask_utils.decode(rle)
            y, x = np.nonzero(mask)
            assert mask.shape == (64, 96) and mask.sum() == area
            assert box == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
            assert word in ('no_occlusion', 'slight_occlusion', 'severe_occlusion')


def test_masks_of_a_frame_are_disjoint(tmp_path):
    data = json.loads(make_toy_vis(tmp_path, SPEC, progress=False)['train'].read_text())
    for video in data['videos']:
        tracks = [a['segmentations'] for a in data['annotations'] if a['video_id'] == video['id']]
        for frame in zip(*tracks):
            assert sum(mask_utils.decode(rle) for rle in frame if rle).max() <= 1


def test_objects_leave_return_and_occlude_each_other(tmp_path):
    spec = ToyVIS(videos=6, val_videos=0, frames=40, size=(64, 48), seed=1, format='ovis')
    data = json.loads(make_toy_vis(tmp_path, spec, progress=False)['train'].read_text())
    words = {word for a in data['annotations'] for word in a['occlusion']}
    assert words == {'no_occlusion', 'slight_occlusion', 'severe_occlusion', None}
    gaps = [''.join('.x'[rle is not None] for rle in a['segmentations']).strip('.') for a in data['annotations']]
    assert any('.' in gap for gap in gaps)


def test_easy_set_has_one_colour_per_class(tmp_path):
    spec = ToyVIS(videos=8, val_videos=0, frames=1, size=(96, 64), classes=3, easy=True)
    data = json.loads(make_toy_vis(tmp_path, spec, progress=False)['train'].read_text())
    strongest = {1: 2, 2: 1, 3: 0}  # category: BGR channel
    for annotation in data['annotations']:
        name = data['videos'][annotation['video_id'] - 1]['file_names'][0]
        image = cv2.imread(str(tmp_path / 'train_images' / name))
        color = np.median(image[mask_utils.decode(annotation['segmentations'][0]) > 0], axis=0)
        assert color.argmax() == strongest[annotation['category_id']]
    assert len({a['category_id'] for a in data['annotations']}) == 3


@pytest.mark.parametrize('name, area', [('disc', np.pi), ('square', 4 * .71 ** 2), ('triangle', 3 * 3 ** .5 / 4),
                                        ('star', 5 * .4 * np.sin(np.pi / 5)), ('ring', .7 * np.pi),
                                        ('cross', 2 * 1.8 * .6 - .6 ** 2),
                                        ('bar', 4 * .97 * .24), ('ellipse', np.pi / 2)])
def test_shape_area(name, area):
    assert SHAPES[name](U, V).sum() * (GRID[1] - GRID[0]) ** 2 == pytest.approx(area, rel=.05)


@pytest.mark.parametrize('name', SHAPES)
def test_shape_lies_in_the_unit_circle(name):
    inside = SHAPES[name](U, V)
    assert inside.any() and (np.hypot(U, V)[inside] <= 1.001).all()


@pytest.mark.parametrize('texture', TEXTURES)
def test_texture_lies_between_its_colours(texture):
    colors = np.array([(0, 50, 200), (100, 250, 100)], dtype=float)
    pixels = paint(texture, U.ravel(), V.ravel(), colors, np.random.default_rng(0).random((8, 8)))
    assert pixels.shape == (U.size, 3)
    assert (pixels >= colors.min(0)).all() and (pixels <= colors.max(0)).all()
    assert (len(np.unique(pixels, axis=0)) > 1) == (texture != 'solid')


@pytest.mark.parametrize('changes', [{'classes': 0}, {'classes': 11}, {'format': 'coco'}, {'frames': 0},
                                     {'size': (8, 64)}, {'seed': -1}, {'family': 'cubist'},
                                     {'family': 'organic', 'classes': 11}])
def test_impossible_set_is_refused(changes):
    with pytest.raises(UserError):
        ToyVIS(**changes)


def test_unwritable_folder_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='file'):
        make_toy_vis(tmp_path / 'file', SPEC, progress=False)


def test_command_line(tmp_path):
    script = Path(__file__).parents[2] / 'tools' / 'make_toy_vis.py'
    flags = ['--videos', '1', '--val-videos', '1', '--frames', '2', '--size', '48x32', '--easy', '--workers', '1']
    command = [sys.executable, script, tmp_path / 'set', *flags]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert len(json.loads((tmp_path / 'set/annotations/instances_valid.json').read_text())['categories']) == 3
