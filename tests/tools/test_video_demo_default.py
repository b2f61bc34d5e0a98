"""video_demo.py without config and checkpoint: torchvision's Mask R-CNN, its weights from the table of public weights.

The published file cannot be had where the tests run: a file of the same names and shapes, with random values, is served
on the loopback device in its place.
"""
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmdet.apis import init_model, load_config
from mmdet.models.detectors.torchvision_tracker import coco_categories
from mmdet.trained_models import DEFAULT, MODELS
from mmdet.zoo import WEIGHTS
from tests.helpers.file_server import FileServer, serve
from tools.video_demo import main, parse

FEW = ('model.net_args.rpn_post_nms_top_n_test=15', 'model.net_args.box_detections_per_img=10')


@pytest.fixture
def published(tmp_path, monkeypatch) -> Iterator[FileServer]:
    """The server, which the table of public weights names with the digest of the file."""
    torch.manual_seed(0)
    model = init_model(load_config(MODELS[DEFAULT].config), device='cpu')
    # probabilities of the classes far enough from equal that some are above the threshold
    torch.nn.init.normal_(model.net.roi_heads.box_predictor.cls_score.bias, std=2.0)
    buffer = io.BytesIO()
    torch.save(model.net.state_dict(), buffer)
    content = buffer.getvalue()
    entry = WEIGHTS[MODELS[DEFAULT].weights]
    assert abs(len(content) / 2 ** 20 - entry.size) < 1  # MiB: the same shapes
    monkeypatch.setenv('MEMCNP_HOME', str(tmp_path / 'home'))
    monkeypatch.chdir(tmp_path)
    with serve({f'/{entry.file}': content}) as server:
        monkeypatch.setitem(WEIGHTS, entry.name, replace(entry, address=f'{server.address}/{entry.file}',
                                                         sha256=hashlib.sha256(content).hexdigest()))
        yield server


def test_a_video_alone_is_enough(published, toy_root, tmp_path, capsys):
    frames = sorted((toy_root / 'valid_images').iterdir())[0]
    for _ in range(2):
        status = main([str(frames), '--end', '2', '--thresh', '0.06', '--device', 'cpu', '--max-size', '64',
                       '--outputs', 'json', '--cfg-options', *FEW])
        assert status == 0
    said = capsys.readouterr().out
    assert (f'Neither CONFIG CHECKPOINT nor --model is given: --model {DEFAULT} with the weights '
            f"{MODELS[DEFAULT].weights} finds COCO's 80 categories; others: --help\n") in said
    assert len(published.downloads) == 1  # the second time the file is in the cache
    lines = (tmp_path / 'demo_output' / f'{frames.name}.jsonl').read_text().splitlines()
    objects = [item for line in lines for item in json.loads(line)['objects']]
    ids, names = coco_categories()
    assert objects and all(names[ids.index(item['category_id'])] == item['category'] for item in objects)


def test_without_network_one_line_says_what_to_do(published, toy_root, monkeypatch):
    entry = WEIGHTS[MODELS[DEFAULT].weights]
    monkeypatch.setitem(WEIGHTS, entry.name, replace(entry, address='http://127.0.0.1:9/nothing.pth'))
    frames = sorted((toy_root / 'valid_images').iterdir())[0]
    with pytest.raises(Exception, match=r'http://127\.0\.0\.1:9/nothing\.pth'):
        main([str(frames), '--device', 'cpu'])


def test_the_default_is_the_better_of_both():
    args = parse(['a.mp4'])
    assert (args.videos, Path(args.config).name, args.checkpoint, str(args.out)) == (
        ['a.mp4'], 'maskrcnn_r50_fpn_v2_coco.py', 'maskrcnn_resnet50_fpn_v2_coco', 'demo_output')
    assert load_config(args.config).model.name == 'maskrcnn_resnet50_fpn_v2'
    assert load_config(MODELS['maskrcnn-r50-coco'].config).model.name == 'maskrcnn_resnet50_fpn'


def test_configs_name_coco_s_categories():
    for name in (DEFAULT, 'maskrcnn-r50-coco'):
        metainfo = load_config(MODELS[name].config).test_dataloader.dataset.metainfo
        assert (list(metainfo.cat_ids), list(metainfo.classes)) == coco_categories()
