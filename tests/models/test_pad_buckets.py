"""A few padded sizes cover an epoch of multi-scale training, so that CUDA graphs of the steps pay."""
import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from recorded_graph import use_recorded_graphs

from mmdet.apis import load_config
from mmdet.engine.hooks import ActivationMemoryHook
from mmdet.errors import UserError
from mmdet.models.cuda_graphs import TrainingGraphs
from mmdet.models.data_preprocessors import TrackDataPreprocessor
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures import DetDataSample, TrackDataSample
from tests.helpers.models import build_memcnp, memcnp_config

MULTI_SCALE = [f'configs/vitmae_cnp_{name}.py' for name in ('contrast_ms_1x', 'contrast_ms_1x_ovis', 'joint_ms_1x')]
BUCKETS = [(96, 64), (160, 96)]


def clip(height: int, width: int, objects: int = 2, references: int = 2) -> tuple[torch.Tensor, TrackDataSample]:
    """A key/reference pair of one size with random pixels and square objects."""
    sample = TrackDataSample()
    sample.video_data_samples = []
    for number in (objects, references):
        masks = np.zeros((number, height, width), np.uint8)
        masks[:, 8:40, 8:40] = 1
        frame = DetDataSample(metainfo=dict(img_shape=(height, width)))
        frame.gt_instances = InstanceData(
            bboxes=np.full((number, 4), (8, 8, 39, 39), np.float32), labels=np.zeros(number, np.int64),
            instances_id=np.arange(1, number + 1), masks=masks)
        sample.video_data_samples.append(frame)
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8), sample


def batch(*clips) -> dict:
    return dict(inputs=[images for images, _ in clips], data_samples=[sample for _, sample in clips])


@pytest.mark.parametrize(('sizes', 'padded'), [
    ([(40, 70)], (64, 96)), ([(64, 96)], (64, 96)), ([(40, 97)], (96, 160)), ([(65, 70)], (96, 160)),
    ([(70, 40)], (96, 64)), ([(60, 70), (90, 20)], (96, 160)), ([(40, 161)], (64, 192)), ([(100, 100)], (128, 128))])
def test_a_batch_gets_the_smallest_size_it_fits_within(sizes, padded):
    data = batch(*(clip(*size) for size in sizes))
    result = TrackDataPreprocessor(pad_buckets=BUCKETS[::-1])(data, training=True)
    assert result['inputs'].shape[-2:] == padded
    for sample in result['data_samples']:
        for frame in sample:
            assert frame.gt_instances.masks.shape[1:] == padded == frame.batch_input_shape


def test_testing_does_not_use_the_buckets():
    data = batch(clip(40, 97))
    assert TrackDataPreprocessor(pad_buckets=BUCKETS)(data, training=False)['inputs'].shape[-2:] == (64, 128)


@pytest.mark.parametrize('bucket', [(100, 64), (96,), (96, 0), 96, (96.0, 64.0)])
def test_impossible_sizes_are_one_line(bucket):
    with pytest.raises(UserError, match=r'pad_buckets has .* multiples of pad_size_divisor=32'):
        TrackDataPreprocessor(pad_buckets=[bucket])


def epoch_of_shapes(config: str, buckets: bool) -> list[tuple[int, int]]:
    """The padded sizes of the batches of an epoch of videos with usual aspect ratios, most of them 16:9."""
    cfg = load_config(config)
    resize, = (TRANSFORMS.build(step) for step in cfg.train_pipeline if step.type == 'RandomResizeClip')
    settings = dict(cfg.model.data_preprocessor)
    preprocessor = MODELS.build(settings if buckets else settings | dict(pad_buckets=[]))
    rng, shapes = np.random.default_rng(0), []
    wide = [(180, 320)] * 7 + [(240, 320), (200, 320), (210, 320)]
    for number in range(300):
        clips = []
        for size in rng.choice([(320, 180), (240, 240)] if number % 20 == 0 else wide, cfg.train_dataloader.batch_size):
            frame = dict(img=np.zeros(size, np.uint8), scale_factor=1.0)
            height, width = resize.transform(dict(frames=[frame], rng=rng))['frames'][0]['img_shape']
            clips.append(torch.empty(2, 3, height, width, device='meta'))
        shapes.append(preprocessor._padded_size(clips, preprocessor.pad_buckets))
    return shapes


@pytest.mark.parametrize('config', MULTI_SCALE)
def test_a_handful_of_sizes_covers_an_epoch_of_the_multi_scale_configs(config):
    shapes, before = epoch_of_shapes(config, True), epoch_of_shapes(config, False)
    area = [sum(height * width for height, width in sizes) for sizes in (shapes, before)]
    assert len(set(shapes)) <= 8  # with portrait videos; as many graphs as a part of the network may have
    assert len(set(before)) > 2 * len(set(shapes))
    assert area[0] < 1.08 * area[1]


def test_losses_are_those_of_a_batch_padded_as_published():
    """A bucket pads as a larger clip of the same batch does, with zeros in images and masks."""
    torch.manual_seed(0)
    model = build_memcnp(embed_dims=32, channels=32, track_jitter=0.0).train()
    small = clip(40, 70)
    bucketed = TrackDataPreprocessor(pad_buckets=[(128, 96)])(batch(small), training=True)
    with_larger = TrackDataPreprocessor()(batch(small, clip(96, 128)), training=True)
    assert torch.equal(bucketed['inputs'][0], with_larger['inputs'][0])
    by_hand = TrackDataPreprocessor()(batch(small), training=True)  # 64×96
    by_hand['inputs'] = F.pad(by_hand['inputs'], (0, 32, 0, 32))
    for frame in by_hand['data_samples'][0]:
        frame.gt_instances.masks = F.pad(frame.gt_instances.masks, (0, 32, 0, 32), mode='constant')
    units = model.bbox_head.mem.feat_units.weight.detach().clone()
    losses = model(**bucketed, mode='loss')
    model.bbox_head.mem.feat_units.weight.data.copy_(units)
    for name, value in model(**by_hand, mode='loss').items():
        assert torch.equal(losses[name], value), name


@pytest.fixture
def recorded(monkeypatch):
    use_recorded_graphs(monkeypatch)


def graphed(**backbone) -> torch.nn.Module:
    torch.manual_seed(0)
    config = memcnp_config(embed_dims=32, channels=32, track_jitter=0.0) | dict(graph_training='auto')
    config['data_preprocessor'].update(pad_buckets=[(128, 96)])
    config['backbone'].update(backbone)
    model = MODELS.build(config).train()
    model._training_graphs = TrainingGraphs(first_calls=0)
    return model


def test_batches_of_one_bucket_share_a_graph_with_the_losses_of_plain_steps(recorded):
    """Sizes, and the numbers of objects of key and reference frames, vary; neither changes the losses."""
    model = graphed()
    plain = copy.deepcopy(model)
    plain.graph_training = False
    for step, (size, objects, references) in enumerate([((40, 70), 1, 3), ((64, 128), 4, 1), ((33, 99), 2, 4)]):
        data = model.data_preprocessor(batch(clip(*size, objects, references)), True)
        losses, expected = (one(**copy.deepcopy(data), mode='loss') for one in (model, plain))
        for name, value in expected.items():
            if name != 'match_acc':  # counts; equal objects are equally alike but for rounding
                assert torch.allclose(losses[name], value, rtol=1e-4, atol=1e-5), (step, name)
        for values in (losses, expected):
            sum(value for name, value in values.items() if 'loss' in name).backward()
    assert {name: len(method.graphs) for name, method in model._training_graphs._methods.items()} == {
        'SingleStageDetector.extract_feat': 1, 'CNPContrastHead.loss': 1}
    data = model.data_preprocessor(batch(clip(40, 70, 2, 5)), True)  # five objects are padded to eight
    model(**data, mode='loss')
    assert len(model._training_graphs._methods['CNPContrastHead.loss'].graphs) == 2


def test_auto_means_no_graphs_with_checkpointing(recorded):
    model = graphed(with_cp=True)
    model(**model.data_preprocessor(batch(clip(40, 70)), True), mode='loss')
    assert not model._training_graphs._methods


def test_unknown_values_of_graph_training_are_one_line():
    with pytest.raises(UserError, match="graph_training='always' is neither True, False nor 'auto'"):
        MODELS.build(memcnp_config() | dict(graph_training='always'))


@pytest.mark.parametrize('config', MULTI_SCALE)
def test_multi_scale_configs_train_as_graphs_and_without_checkpointing(config):
    cfg = load_config(config)
    assert cfg.model.graph_training == 'auto' and not cfg.model.backbone.with_cp
    assert load_config(config, [('model.backbone.with_cp', 'True')]).model.backbone.with_cp
    assert cfg.default_hooks.activation_memory.type == 'ActivationMemoryHook'


class _Runner:
    """As much of a runner as the hook uses, with a model on a GPU of 24 GiB or on the CPU."""

    def __init__(self, monkeypatch, device: str, batch_size: int) -> None:
        monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda _: SimpleNamespace(total_memory=24 * 2 ** 30))
        self.block = SimpleNamespace(with_cp=False)
        self.model = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(device=torch.device(device))]),
                                     modules=lambda: [SimpleNamespace(), self.block])
        self.train_dataloader = SimpleNamespace(batch_sampler=SimpleNamespace(batch_size=batch_size))
        self.lines: list[str] = []
        self.logger = SimpleNamespace(info=self.lines.append)


@pytest.mark.parametrize(('device', 'batch_size', 'on'), [
    ('cuda', 4, False), ('cuda', 5, True), ('cpu', 5, False)])
def test_checkpointing_is_on_where_the_card_is_too_small(monkeypatch, device, batch_size, on):
    runner = _Runner(monkeypatch, device, batch_size)
    ActivationMemoryHook(gib_per_item=5).before_train(runner)
    assert runner.block.with_cp is on and len(runner.lines) == on
    if on:
        assert '5 items a step need about 25 GiB' in runner.lines[0] and 'has 24 GiB' in runner.lines[0]
