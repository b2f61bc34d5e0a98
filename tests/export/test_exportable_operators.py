"""What replaces operators in an export computes the same: every replacement is compared with the usual code."""
from contextlib import contextmanager

import pytest
import torch

from mmdet.errors import UserError
from mmdet.export import compare, detector_name, frame_network
from mmdet.export.comparison import Difference
from mmdet.models.backbones.query_vit import _cubic_matrix, _resize_matrix
from mmdet.models.task_modules.points import drop_padding, topk_per_level
from mmdet.ops.deform_conv.deform_conv_cpu import deform_conv3x3_cpu, deform_conv3x3_export
from mmdet.ops.device import device_constant
from mmdet.registry import MODELS
from tests.helpers.dense import build_fcos, build_sipmask
from tests.helpers.models import build_memcnp
from tests.helpers.videomt import golden_videomt

SMALL = dict(embed_dims=32, channels=32, num_classes=3)


@contextmanager
def exporting():
    """Run the code of exports without tracing it.

    An einsum of three operands fails: with the package opt_einsum it reads the sizes, which become constants.
    """
    def einsum(equation, *operands):
        assert len(operands) <= 2, f'einsum {equation!r} of {len(operands)} operands'
        return compute(equation, *operands)

    compute = torch.einsum
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, 'is_exporting', lambda: True)
        patch.setattr(torch, 'einsum', einsum)
        yield


def smooth(height, width):
    small = torch.randn(1, 3, height // 8, width // 8)
    return torch.nn.functional.interpolate(small, (height, width), mode='bicubic')


@pytest.mark.parametrize(('old', 'new'), [(8, 8), (8, 5), (8, 13), (40, 12), (5, 64)])
def test_positions_are_resized_by_the_formula(old, new):
    device = torch.device('cpu')
    torch.testing.assert_close(_cubic_matrix(old, new, device), _resize_matrix(old, new, device), atol=1e-6, rtol=0)


def test_deformable_convolution():
    torch.manual_seed(0)
    x, offset, weight = torch.randn(2, 8, 6, 9), 3 * torch.randn(2, 36, 6, 9), torch.randn(5, 8, 3, 3)
    torch.testing.assert_close(deform_conv3x3_export(x, offset, weight), deform_conv3x3_cpu(x, offset, weight),
                               atol=1e-5, rtol=1e-5)


def test_levels_with_fewer_locations_are_padded_and_the_padding_is_dropped():
    scores, sizes = torch.tensor([[0.1, 0.9, 0.5, 0.7, 0.3]]), [(2, 2), (1, 1)]
    usual = topk_per_level(scores, sizes, 3)
    assert usual.tolist() == [[1, 3, 2, 4]]
    with exporting():
        padded = topk_per_level(scores, sizes, 3)
        kept = drop_padding(scores.gather(1, padded)[..., None], sizes, 3)
    assert padded[:, :4].equal(usual) and padded[0, 4:].tolist() == [4, 4]
    assert kept[0, :, 0].tolist() == pytest.approx([0.9, 0.7, 0.5, 0.3, 0, 0])
    assert drop_padding(scores[..., None], sizes, 3)[..., 0].equal(scores)


def test_constants_are_not_cached_in_an_export():
    with exporting():
        assert device_constant((3, 4.5), torch.device('cpu')).tolist() == [3, 4.5]


@pytest.mark.parametrize('build', [
    lambda: build_memcnp(**SMALL), lambda: build_sipmask(**SMALL), build_fcos, golden_videomt,
    lambda: build_memcnp(**SMALL, test_cfg=dict(nms='agnostic', quality_exponent=1.0))],
    ids=['MemCNP', 'SipMask', 'FCOS', 'VidEoMT', 'options'])
def test_networks_compute_the_same_as_for_an_export(build):
    torch.manual_seed(0)
    model = build().eval()
    if hasattr(model, 'bbox_head'):
        torch.nn.init.constant_(model.bbox_head.fcos_cls.bias, -1.0)
        torch.nn.init.normal_(model.bbox_head.fcos_cls.weight, std=0.05)
        model.bbox_head.fcos_reg.bias.data += 2
    network = frame_network(model)
    inputs = network.example(smooth(96, 160))
    with torch.no_grad():
        expected = network(*inputs)
        with exporting():
            found = network(*inputs)
    difference = compare(network, expected, found)
    assert difference.number and difference.within(1e-5), str(difference)


def test_first_flag_replaces_the_queries_of_videomt():
    model = golden_videomt().eval()
    network = frame_network(model)
    images, queries, _ = network.example(smooth(64, 64))
    with torch.no_grad():
        first, again = (network(images, value, torch.ones(1)) for value in (queries, torch.zeros_like(queries)))
        outputs = model.run_clips(images[:, None])
        later = network(images, outputs.queries, torch.zeros(1))
        both = model.run_clips(torch.stack([images, images], dim=1))
    assert all(a.equal(b) for a, b in zip(first, again))
    torch.testing.assert_close(first[0], outputs.class_logits[:, 0])
    torch.testing.assert_close(later[1], both.mask_logits[:, 1], atol=1e-4, rtol=1e-4)


def test_detections_in_another_order_are_compared_with_the_nearest():
    model = build_memcnp(**SMALL)
    network = frame_network(model)
    rows = torch.zeros(1, 10, 20)
    rows[0, :2, 4] = 0.5
    rows[0, 1, :4] = 50.
    masks = torch.rand(1, 10, 4, 4)
    order = [1, 0, *range(2, 10)]
    moved = rows[:, order], masks[:, order]
    assert compare(network, (rows, masks), moved) == Difference({'rows': 0.0, 'masks': 0.0}, 2)
    moved[0][0, 0, 3] += 0.5
    assert compare(network, (rows, masks), moved).largest['rows'] == pytest.approx(0.01)
    moved[0][0, 0, 4] = 0  # a detection is missing
    assert not compare(network, (rows, masks), moved).within()


def test_names_of_detectors_tell_heads_apart():
    names = [detector_name(build()) for build in (lambda: build_memcnp(**SMALL), lambda: build_sipmask(**SMALL))]
    assert names == ['SipMaskMem with CNPContrastHead', 'SipMaskMem with SipMaskHead']
    assert detector_name(golden_videomt()) == 'VidEoMT'


def test_other_detectors_are_refused():
    with pytest.raises(UserError, match='Linear cannot be exported; choose a config of MemCNP'):
        frame_network(torch.nn.Linear(1, 1))
    for settings in (dict(memory=dict(online_memory=dict(momentum=0.9))), dict(video_memory={})):
        with pytest.raises(UserError, match='a memory with units of each video cannot be exported'):
            frame_network(build_memcnp(**SMALL, **settings))
    assert 'SipMaskMem' in MODELS
