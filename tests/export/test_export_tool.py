"""tools/export.py, and videos processed with the files that it writes: the same results as with the model."""
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdet import apis
from mmdet.apis import VideoInferencer, init_model, load_config
from mmdet.errors import UserError
from mmdet.export import export_network, open_exported
from mmdet.export.networks import FrameNetwork
from tools.export import main

ROOT = Path(__file__).resolve().parents[2]
needs_onnx = pytest.mark.skipif(any(importlib.util.find_spec(name) is None
                                    for name in ('onnx', 'onnxscript', 'onnxruntime')),
                                reason='needs onnx, onnxscript and onnxruntime')


@pytest.fixture(scope='module')
def memcnp(toy_config, tmp_path_factory):
    """Config and checkpoint of a MemCNP with few layers and random weights that find something."""
    folder = tmp_path_factory.mktemp('memcnp')
    config = folder / 'small.py'
    config.write_text(f"""
_base_ = '{toy_config}'
model = dict(neck=dict(num_outs=3), bbox_head=dict(stacked_convs=2, strides=(8, 16, 32), test_cfg=dict(nms_pre=50)))
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadTrackFrames'), dict(type='ResizeClip', scale=(160, 96)), dict(type='PackTrackInputs')]))
""")
    return config, saved(config, folder)


@pytest.fixture(scope='module')
def videomt(tmp_path_factory):
    """The same of VidEoMT."""
    folder = tmp_path_factory.mktemp('videomt')
    config = folder / 'small.py'
    config.write_text(f"""
_base_ = '{ROOT}/configs/videomt_toy.py'
model = dict(backbone=dict(embed_dims=32, depth=2, num_heads=2, query_blocks=1, image_size=64),
             head=dict(num_queries=8))
""")
    return config, saved(config, folder)


def saved(config, folder):
    torch.manual_seed(0)
    model = init_model(config, device='cpu')
    if hasattr(model, 'bbox_head'):
        torch.nn.init.constant_(model.bbox_head.fcos_cls.bias, -1.0)
        torch.nn.init.normal_(model.bbox_head.fcos_cls.weight, std=0.05)
    else:
        torch.nn.init.normal_(model.head.class_predictor.weight, std=0.5)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=('a', 'b', 'c')))),
               folder / 'weights.pth')
    return folder / 'weights.pth'


def results(config, weights, toy_root):
    folder = sorted((toy_root / 'valid_images').iterdir())[0]
    inferencer = VideoInferencer(config, weights, device='cpu')
    assert inferencer.class_names == ('a', 'b', 'c')
    return [frame.pred_track_instances for clip in inferencer(folder, thresh=0.01) for frame in clip]


def assert_equal_results(expected, found):
    assert len(expected) == len(found) and sum(map(len, expected))
    for ours, theirs in zip(expected, found):
        assert ours.instances_id.tolist() == theirs.instances_id.tolist()
        assert ours.labels.tolist() == theirs.labels.tolist()
        np.testing.assert_allclose(theirs.scores, ours.scores, atol=1e-4)
        np.testing.assert_allclose(theirs.bboxes, ours.bboxes, atol=1.0)  # a pixel at the border of a mask


@pytest.mark.slow
def test_memcnp_by_torch_for_one_size(memcnp, toy_root, tmp_path, capsys):
    out = tmp_path / 'memcnp.pt2'
    assert main([*map(str, memcnp), '--format', 'torch', '--out', str(out), '--fixed_size']) == 0
    said = capsys.readouterr().out
    assert 'inputs images; outputs rows, masks\n' in said and 'Largest differences to the model' in said
    assert_equal_results(results(*memcnp, toy_root), results(memcnp[0], out, toy_root))
    exported = open_exported(out, 'cpu')
    assert exported.metadata['size'] == [96, 160] and exported.metadata['bgr_to_rgb']
    with pytest.raises(UserError, match=r'for inputs of 160x96 pixels, and the video needs 64x96; export with --size'):
        exported(torch.zeros(1, 3, 96, 64))


@pytest.mark.slow
def test_videomt_by_torch_for_all_sizes(videomt, toy_root, tmp_path):
    out = tmp_path / 'videomt.pt2'
    assert main([*map(str, videomt), '--format', 'torch', '--out', str(out), '--size', '64', '128']) == 0
    assert_equal_results(results(*videomt, toy_root), results(videomt[0], out, toy_root))
    guards, others = torch.export.load(out).module()._guards_fn, (torch.zeros(1, 8, 32), torch.zeros(1))
    for sides in ((64, 64), (64, 4096), (4096, 64), (96, 160), (1024, 1024)):  # no size was taken for a constant
        guards(torch.empty(1, 3, *sides, device='meta'), *others)
    with pytest.raises(UserError, match='takes heights and widths from 64 to 4096 pixels'):
        open_exported(out, 'cpu')(torch.zeros(1, 3, 32, 64))
    other = load_config(videomt[0], [('model.head.num_queries', '4')])
    with pytest.raises(UserError, match=r'videomt\.pt2: cannot run with these inputs \(.*\); give the config'):
        results(other, out, toy_root)


class OneHeight(FrameNetwork):
    """A network whose code depends on the height."""

    inputs, outputs, least = ('images',), ('means',), 64

    def forward(self, images):
        return (images.mean((2, 3)) if images.shape[2] // 16 == 4 else images.amax((2, 3)),)

    def example(self, images):
        return (images,)

    def entries(self, outputs):
        return [output[0] for output in outputs]


def test_a_program_of_one_height_is_reported_by_the_export(tmp_path):
    out, images = tmp_path / 'a.pt2', torch.rand(1, 3, 64, 128)
    with pytest.raises(UserError, match=r'a\.pt2: does not run with inputs of 64x128 pixels \(Guard failed: .*'
                                        r' // 16 == 4\); do not use it, and try --fixed_size'):
        export_network(OneHeight(), images, 'torch', out, {})
    assert export_network(OneHeight(), images, 'torch', out, {}, dynamic=False).within()


@pytest.mark.slow
@needs_onnx
def test_videomt_by_onnx(videomt, memcnp, toy_root, tmp_path):
    out = tmp_path / 'videomt.onnx'
    assert main([*map(str, videomt), '--out', str(out), '--fixed_size']) == 0
    assert_equal_results(results(*videomt, toy_root), results(videomt[0], out, toy_root))
    with pytest.raises(UserError, match="holds the network of VidEoMT, and the config's detector is SipMaskMem"):
        VideoInferencer(memcnp[0], out, device='cpu')


def test_wrong_arguments_are_reported_before_the_model_is_built(memcnp, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r'a file of --format torch ends in \.pt2'):
        main([*map(str, memcnp), '--format', 'torch', '--out', str(tmp_path / 'a.onnx')])
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *args: None if 'onnx' in name else find(name, *args))
    with pytest.raises(UserError, match='--format onnx needs onnx, onnxscript, onnxruntime: pip install'):
        main([*map(str, memcnp), '--out', str(tmp_path / 'a.onnx')])
    (tmp_path / 'b.pt2').write_text('no archive')
    with pytest.raises(UserError, match='--amp'):  # before the file is opened
        VideoInferencer(memcnp[0], tmp_path / 'b.pt2', amp=True, device='cpu')
    with pytest.raises(UserError, match=r'b\.pt2: is not a file of tools/export\.py, or is damaged'):
        open_exported(tmp_path / 'b.pt2', 'cpu')


@pytest.mark.parametrize('name', ['a.onnx', 'a.pt2'])
def test_a_test_needs_the_checkpoint(memcnp, tmp_path, name, monkeypatch):
    (tmp_path / name).write_bytes(b'network')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf'^{name}: is an exported network, .*; give the checkpoint'):
        apis.test(load_config(memcnp[0]), name)
