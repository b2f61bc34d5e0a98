"""The families of the toy videos have nothing in common; shapes, textures and backgrounds of the family 'organic'."""
import json
import shlex
from itertools import combinations, product
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_utils

from mmdet.apis.config import load_config
from mmdet.datasets.toy import ToyVIS, make_toy_vis
from mmdet.datasets.toy.organic_shapes import SHAPES, TEXTURES, background, paint
from mmdet.datasets.toy.toy_families import FAMILIES
from mmdet.datasets.toy.value_noise import fractal_noise, value_noise
from tools.make_toy_vis import build_parser

GRID = np.linspace(-1.2, 1.2, 193)
V, U = np.meshgrid(GRID, GRID, indexing='ij')
SPEC = ToyVIS(videos=3, val_videos=1, frames=8, size=(96, 64), classes=8, seed=5, family='organic')


def make(folder: Path, **changes) -> dict[str, bytes]:
    """Make a set; return the content of its files by name."""
    make_toy_vis(folder, ToyVIS(**{**vars(SPEC), **changes}), progress=False)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


def test_families_share_no_class_and_no_texture():
    for one, other in combinations(FAMILIES.values(), 2):
        assert not set(one.shapes) & set(other.shapes) and not set(one.textures) & set(other.textures)
    assert len(SHAPES) >= 8 and len(TEXTURES) >= 5


def test_any_two_shapes_of_all_families_differ_however_they_are_turned_and_scaled():
    shapes = {name: shape for family in FAMILIES.values() for name, shape in family.shapes.items()}
    areas = {name: shape(U, V).sum() for name, shape in shapes.items()}
    u, v = U[::4, ::4], V[::4, ::4]
    for name, other in product(SHAPES, shapes):
        if name == other:
            continue
        # the larger of the two is shrunk to the area of the smaller one
        ratio = np.sqrt(areas[name] / areas[other])
        zoom, other_zoom = max(ratio, 1), max(1 / ratio, 1)
        one = SHAPES[name](zoom * u, zoom * v)
        for angle in np.linspace(0, 2 * np.pi, 24, endpoint=False):
            x, y = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
            two = shapes[other](other_zoom * x, other_zoom * y)
            assert (one & two).sum() / (one | two).sum() < .9, (name, other)


def test_command_line_offers_the_families():
    action, = [action for action in build_parser()._actions if action.dest == 'family']
    assert tuple(action.choices) == tuple(FAMILIES) and action.default == ToyVIS().family == 'geometric'


@pytest.mark.parametrize(('name', 'area'), [
    # two right triangles of sides 1.35 (hypotenuse) and .6, and the rest of the disc
    ('drop', .6 * np.sqrt(1.35 ** 2 - .36) + .18 * (np.pi + 2 * np.arcsin(.6 / 1.35))),
    ('clover', np.pi * (.65 ** 2 + .35 ** 2 / 2)), ('spiral', np.pi / 2), ('pretzel', np.pi * (1 / 1.4 - 2 * .28 ** 2)),
    ('mushroom', np.pi / 2 * .95 ** 2 + .56 * .85), ('flower', np.pi * (.8 ** 2 + .2 ** 2 / 2 - .09)),
    ('hook', np.pi / 2 * (.6 ** 2 - .25 ** 2) + .35 * 1.16), ('wave', 1.6 * .4),
    ('peanut', np.pi * (.65 ** 2 + .35 ** 2 / 2))])
def test_shape_area(name, area):
    assert SHAPES[name](U, V).sum() * (GRID[1] - GRID[0]) ** 2 == pytest.approx(area, rel=.03)


@pytest.mark.parametrize('name', SHAPES)
def test_shape_lies_in_the_unit_circle_and_is_connected(name):
    inside = SHAPES[name](U, V)
    assert inside.mean() > .05 and (np.hypot(U, V)[inside] <= 1.001).all()
    assert cv2.connectedComponents(inside.astype(np.uint8))[0] == 2  # the surroundings and the shape


@pytest.mark.parametrize(('name', 'holes'), [('pretzel', 2), ('flower', 1), ('drop', 0), ('spiral', 0), ('hook', 0)])
def test_shape_has_holes(name, holes):
    outside = ~SHAPES[name](U, V)
    assert cv2.connectedComponents(outside.astype(np.uint8), connectivity=4)[0] == 2 + holes


@pytest.mark.parametrize('texture', TEXTURES)
def test_texture_lies_between_its_colours_and_uses_most_of_the_range(texture):
    colors = np.array([(0, 50, 200), (100, 250, 100)], dtype=float)
    inside = np.hypot(U, V) <= 1
    pixels = paint(texture, U[inside], V[inside], colors, np.random.default_rng(0).random((8, 8)))
    assert pixels.shape == (inside.sum(), 3)
    assert (pixels >= colors.min(0)).all() and (pixels <= colors.max(0)).all()
    assert (np.ptp(pixels, axis=0) > .8 * np.ptp(colors, axis=0)).all()


def test_value_noise_has_the_lattice_values_and_their_mean_halfway_and_is_periodic():
    values = np.random.default_rng(0).random((3, 4))
    x, y = np.arange(-4, 9), np.arange(-3, 6)[:, None]
    assert np.allclose(value_noise(values, x, y), np.tile(values, (3, 4))[:9, :13])
    assert np.allclose(value_noise(values, x + .5, y), np.tile((values + np.roll(values, -1, 1)) / 2, (3, 4))[:9, :13])


def test_fractal_noise_of_constant_octaves_is_their_weighted_mean():
    octaves = [np.full((2, 2), 1.), np.full((4, 4), 2.), np.full((8, 8), 4.)]
    assert fractal_noise(octaves, np.array([.3]), np.array([.7])) == pytest.approx((1 + 2 / 2 + 4 / 4) / 1.75)


def test_background_continues_across_its_edges():
    image = background((80, 48), False, np.random.default_rng(0))
    assert image.shape == (48, 80, 3) and image.dtype == np.float32
    for axis in (0, 1):
        steps = np.abs(np.diff(image, axis=axis)).max()
        assert np.abs(image.take(0, axis) - image.take(-1, axis)).max() < 1.5 * steps


def test_easy_background_has_less_contrast():
    plain, busy = (background((80, 48), easy, np.random.default_rng(0)).std((0, 1)) for easy in (True, False))
    assert (plain < busy / 2).all()


def test_seed_alone_decides_the_files(tmp_path):
    assert make(tmp_path / 'one') == make(tmp_path / 'two')
    assert make(tmp_path / 'three', seed=6) != make(tmp_path / 'one')


@pytest.mark.parametrize('form', ['yvis', 'ovis'])
def test_annotations_have_the_form_of_those_of_the_default_family(tmp_path, form):
    files = {family: make(tmp_path / family, family=family, format=form) for family in FAMILIES}
    assert files['organic'].keys() == files['geometric'].keys()
    data, = [json.loads(content) for name, content in files['organic'].items() if name.endswith('train.json')]
    other, = [json.loads(content) for name, content in files['geometric'].items() if name.endswith('train.json')]
    assert [category['name'] for category in data['categories']] == list(SHAPES)[:8]
    assert data.keys() == other.keys() and data['annotations'][0].keys() == other['annotations'][0].keys()
    for video in data['videos']:
        tracks = [a['segmentations'] for a in data['annotations'] if a['video_id'] == video['id']]
        for frame in zip(*tracks, strict=True):
            assert sum(mask_utils.decode(rle) for rle in frame if rle).max() == 1


def test_easy_set_has_flat_objects(tmp_path):
    make(tmp_path, easy=True, videos=4)
    data = json.loads((tmp_path / 'annotations/instances_train.json').read_text())
    deviations = []
    for annotation in data['annotations']:
        name = data['videos'][annotation['video_id'] - 1]['file_names'][0]
        core = cv2.erode(mask_utils.decode(annotation['segmentations'][0]), np.ones((5, 5)), borderValue=0) > 0
        if core.any():
            deviations.append(cv2.imread(str(tmp_path / 'train_images' / name))[core].std(axis=0).max())
    assert deviations and max(deviations) < 10


@pytest.mark.parametrize('name', ['memcnp_toy_organic', 'sipmask_toy_organic'])
def test_config_fits_the_set_that_the_command_in_its_base_makes(name):
    cfg = load_config(f'configs/{name}.py')
    head = Path('configs/_base_/datasets/toy_organic.py').read_text().split('_base_')[0]
    words = shlex.split(head[head.index('python tools'):].replace('\\\n#', ' '))
    args = build_parser().parse_args(words[2:])
    assert cfg.model.bbox_head.num_classes == args.classes and args.out + '/' == cfg.train_dataloader.dataset.data_root
    scales = {tuple(step.scale) for loader in (cfg.train_dataloader, cfg.test_dataloader)
              for step in loader.dataset.pipeline if 'scale' in step}
    assert scales == {args.size} and args.family == 'organic' and args.format == 'ovis'
    assert cfg.train_cfg.max_epochs * args.videos * args.frames / cfg.train_dataloader.batch_size == 2400
