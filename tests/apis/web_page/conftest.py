"""Fixtures of the tests of the page: a model, a video, and a running page with its folder of uploads."""
import numpy as np
import pytest
import torch

from mmdet.apis import VideoInferencer, init_model
from mmdet.apis.web_demo import Models, build_page, launch_page
from mmdet.visualization import Mp4Writer
from tests.helpers.web_page import CLASSES, FRAMES


@pytest.fixture(scope='module')
def inferencer(toy_config):
    torch.manual_seed(0)
    model = init_model(toy_config, device='cpu')
    torch.nn.init.constant_(model.bbox_head.fcos_cls.bias, -1.0)
    model.dataset_meta = dict(classes=CLASSES)
    return VideoInferencer(model, max_size=96)


@pytest.fixture(scope='module')
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp('film') / 'film.mp4'
    base, drift = np.random.default_rng(0).integers(0, 200, (2, 9, 16, 3))
    with Mp4Writer(path, 10) as writer:
        for frame in range(FRAMES):
            image = np.clip(base + frame * 0.05 * (drift - base), 0, 255).astype(np.uint8)
            writer.write(image.repeat(8, 0).repeat(8, 1))
    return path


@pytest.fixture(scope='module')
def uploads(tmp_path_factory):
    """Folder of the files that are uploaded to the page."""
    folder = tmp_path_factory.mktemp('uploads')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('GRADIO_TEMP_DIR', str(folder))
        yield folder


@pytest.fixture(scope='module')
def page(inferencer, uploads):
    """Address of a page with one model."""
    page = build_page(Models({'toy': ((), CLASSES)}, lambda: inferencer), thresh=0.01, max_frames=FRAMES)
    try:
        yield launch_page(page, wait=False)
    finally:
        page.close()
