"""Files → data set → model → scores on odd videos of every kind: training gives finite gradients, testing a score."""
import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.dataset import pseudo_collate
from PIL import Image
from pycocotools import mask as mask_utils

from mmdet.datasets import SeededIndex, YVISDataset
from mmdet.errors import UserError
from mmdet.evaluation.metrics import YouTubeVISMetric
from mmdet.models.data_preprocessors import TrackDataPreprocessor
from mmdet.structures import VideoStreams
from tests.helpers.dense import build_sipmask
from tests.helpers.models import build_memcnp
from tests.helpers.two_stage import build_two_stage

LOAD = [{'type': 'LoadTrackFrames'}, {'type': 'LoadTrackAnnotations'}]
RESIZE = {'type': 'ResizeClip', 'scale': (96, 64)}
TRAIN = [*LOAD, RESIZE, {'type': 'RandomFlipClip'}, {'type': 'PackTrackInputs'}]
TEST = [LOAD[0], RESIZE, {'type': 'PackTrackInputs'}]
KINDS = ('rgb', 'grey', 'rgba', '16 bit', 'palette', 'turned by EXIF', 'mirrored by EXIF')
SMALL = dict(embed_dims=32, channels=64, num_classes=2)
MODELS = {'MemCNP': lambda: build_memcnp(**SMALL), 'SipMask': lambda: build_sipmask(**SMALL),
          'CMaskTrack R-CNN': lambda: build_two_stage(calibrated=True, num_classes=2)}


def write_image(path, kind, height, width, seed) -> None:
    """An image of a kind that shows as height × width pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), np.uint8)
    exif = Image.Exif()
    if kind == 'turned by EXIF':
        exif[0x0112], pixels = 6, np.rot90(pixels)
    elif kind == 'mirrored by EXIF':
        exif[0x0112] = 2
    if kind in ('grey', 'palette'):
        image = Image.fromarray(pixels[..., 0]).convert('P' if kind == 'palette' else 'L')
    elif kind == '16 bit':
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(np.ascontiguousarray(pixels if kind == 'rgba' else pixels[..., :3]))
    image.save(path, exif=exif)


SIDES = st.one_of(st.just(1), st.integers(1, 40))


@st.composite
def videos(draw):
    """Size, kinds of the frames, objects: category, and per frame box (x, y, w, h) and mask (its four sides)."""
    height, width = draw(SIDES), draw(SIDES)
    frames = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
    # half of the boxes partly outside the image, some beyond it; masks may be empty
    number, size = st.floats(-10, 40, width=16), st.floats(0, 60, width=16)
    y, x = st.integers(0, height - 1), st.integers(0, width - 1)
    seen = st.tuples(st.one_of(st.none(), st.tuples(number, number, size, size)), st.tuples(y, x, y, x))
    objects = st.tuples(st.integers(1, 2), st.sampled_from([False, False, True]),
                        st.lists(st.one_of(seen, seen, st.none()), min_size=len(frames), max_size=len(frames)))
    return height, width, frames, draw(st.lists(objects, max_size=3))


def write_set(root, height, width, kinds, objects) -> None:
    (root / 'train_images').mkdir(parents=True, exist_ok=True)
    for number, kind in enumerate(kinds):
        write_image(root / f'train_images/{number}.png', kind, height, width, number)
    annotations = []
    for ident, (category, with_boxes, track) in enumerate(objects):
        rles, boxes = [], []
        for seen in track:
            mask = np.zeros((height, width), np.uint8, order='F')
            if seen:
                box, (top, left, bottom, right) = seen
                mask[top:bottom + 1, left:right + 1] = 1  # nothing, one pixel, much
                rle = mask_utils.encode(mask)
                rles.append({'size': rle['size'], 'counts': rle['counts'].decode()})
            else:
                box = None
                rles.append(None)
            boxes.append(box)
        annotations.append({'id': ident, 'video_id': 1, 'category_id': category, 'segmentations': rles, 'iscrowd': 0,
                            'areas': [rle and float(mask_utils.area(rle)) for rle in rles],
                            **({'bboxes': boxes} if with_boxes else {})})
    (root / 'train.json').write_text(json.dumps({
        'videos': [{'id': 1, 'height': height, 'width': width, 'length': len(kinds),
                    'file_names': [f'{number}.png' for number in range(len(kinds))]}],
        'categories': [{'id': 1, 'name': 'a'}, {'id': 2, 'name': 'b'}], 'annotations': annotations}))


def read_set(root, pipeline, **kwargs):
    return YVISDataset('train.json', str(root), {'img_path': 'train_images'}, pipeline, **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize('name', MODELS)
def test_any_video_trains_and_tests(name, tmp_path):
    torch.manual_seed(0)
    model, prepare = MODELS[name](), TrackDataPreprocessor()
    trained = []

    @settings(max_examples=8, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))
    @given(videos())
    def check(video):
        write_set(tmp_path, *video)
        trained.append(train_once(model, prepare, tmp_path))
        test_once(model, prepare, tmp_path)

    check()
    assert {True, False} <= set(trained)  # with and without anything to learn


def train_once(model, prepare, root) -> bool:
    try:
        dataset = read_set(root, TRAIN)
    except UserError as error:
        assert 'no frame with an object to learn from' in str(error)
        return False
    items = [dataset[SeededIndex(item % len(dataset), (item,))] for item in (0, 1)]
    model.train().zero_grad()
    losses = model(**prepare(pseudo_collate(items)), mode='loss')
    sum(torch.as_tensor(value).sum() for name, value in losses.items() if 'loss' in name).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
        assert parameter.isfinite().all(), name  # the memory is written in the forward pass
    return True


def test_once(model, prepare, root) -> None:
    dataset = read_set(root, TEST, test_mode=True, clip_len=2)
    metric = YouTubeVISMetric(str(root / 'train.json'), 'segm')
    metric.dataset_meta = dataset.metainfo
    model.eval()
    streams = VideoStreams(model.new_stream)
    with torch.no_grad():
        for item in range(len(dataset)):
            batch = prepare(pseudo_collate([dataset[item]]))
            samples = model(**batch, mode='predict', streams=streams.of(batch['data_samples']))
            metric.process(None, [sample.to_dict() for sample in samples])
    statistics = metric.evaluate(len(dataset))
    assert all(value == -1 or 0 <= value <= 1 for value in statistics.values())


test_once.__test__ = False
