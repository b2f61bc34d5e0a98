"""The Triton kernels in the interpreter on any machine and compiled on a GPU, and their fallbacks on other devices."""
import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import deform_conv2d

from mmdet.ops.deform_conv import deform_conv3x3
from mmdet.ops.group_norm import group_norm
from mmdet.ops.mask_logits import mask_logits
from mmdet.ops.mask_resize import mask_resize
from mmdet.ops.prior_overlap import prior_overlap
from mmdet.ops.residual_norm import add_layer_norm, layer_norm
from mmdet.structures import pairwise_iou
from tests.helpers.processes import with_search_path

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec('triton') is None, reason='no Triton on this platform')
def test_kernels_in_the_interpreter():
    run = subprocess.run([sys.executable, Path(__file__).with_name('interpret_triton.py')], capture_output=True,
                         text=True, env=os.environ | {'TRITON_INTERPRET': '1', 'PYTHONPATH': with_search_path(ROOT)})
    assert run.stdout.strip() == 'all kernels agree', run.stderr


def relative_error(value: torch.Tensor, expected: torch.Tensor) -> float:
    return float((value.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
class TestAgainstFloat32:
    """Each operator in float32 and bfloat16 on each device; on the CPU this tests the fallbacks in plain PyTorch."""

    @pytest.fixture(autouse=True)
    def _seed(self):
        torch.manual_seed(0)

    @pytest.mark.parametrize(('channels', 'groups'), [(64, 4), (48, 1), (256, 4)])
    def test_deform_conv(self, device, dtype, channels, groups):
        x = torch.randn(2, channels, 9, 14, device=device)
        offset = 3 * torch.randn(2, 18 * groups, 9, 14, device=device)
        weight = torch.randn(32, channels, 3, 3, device=device) / (9 * channels) ** 0.5
        expected = deform_conv2d(x, offset, weight, padding=1)
        result = deform_conv3x3(x.to(dtype), offset, weight)
        assert result.dtype == dtype
        assert relative_error(result, expected) < (1e-4 if dtype == torch.float32 else 1e-2)

    def test_deform_conv_gradients(self, device, dtype):
        x = torch.randn(1, 64, 9, 14, device=device, requires_grad=True)
        offset = (3 * torch.randn(1, 72, 9, 14, device=device)).requires_grad_()
        weight = (torch.randn(32, 64, 3, 3, device=device) / 24).requires_grad_()
        grad = torch.randn(1, 32, 9, 14, device=device)
        expected = torch.autograd.grad(deform_conv2d(x, offset, weight, padding=1), (x, offset, weight), grad)
        result = torch.autograd.grad(deform_conv3x3(x.to(dtype), offset, weight).float(), (x, offset, weight), grad)
        for ours, theirs in zip(result, expected):
            assert relative_error(ours, theirs) < (1e-4 if dtype == torch.float32 else 2e-2)

    @pytest.mark.parametrize('relu', [False, True])
    @pytest.mark.parametrize('shape', [(2, 64, 7, 45), (1, 256, 60, 108), (3, 256, 47, 45), (1, 1024, 9, 20)])
    def test_group_norm(self, device, dtype, relu, shape):
        x = torch.randn(*shape, device=device) + 2
        weight, bias = torch.randn(shape[1], device=device), torch.randn(shape[1], device=device)
        expected = F.group_norm(x, 32, weight, bias)
        with torch.no_grad():
            result = group_norm(x.to(dtype), 32, weight.to(dtype), bias.to(dtype), relu=relu)
        assert result.dtype == dtype
        error = relative_error(result, expected.relu() if relu else expected)
        assert error < (1e-4 if dtype == torch.float32 else 1e-2)

    @pytest.mark.parametrize('factor', [2, 3, 4])
    def test_mask_logits(self, device, dtype, factor):
        coarse, coefficients = torch.randn(2, 96, 6, 11, device=device), torch.randn(2, 10, 96, device=device)
        fine = F.interpolate(coarse, scale_factor=float(factor), mode='bilinear').relu()
        result = mask_logits(coarse.to(dtype), coefficients, factor)
        assert relative_error(result, (coefficients @ fine.flatten(2)).view_as(result)) < (
            1e-4 if dtype == torch.float32 else 1e-2)


def random_norm(channels: int, device: str) -> torch.nn.LayerNorm:
    norm = torch.nn.LayerNorm(channels, device=device).requires_grad_(False)
    torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    return norm


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(('tokens', 'channels'), [(1, 1), (5, 96), (7, 384), (1621, 768), (3, 1024), (2, 1280)])
class TestResidualNorm:
    """Residual addition and layer norm against PyTorch's, with outputs of a branch in each dtype."""

    def test_the_sum_is_exact_and_the_norm_is_that_of_float32_rounded_once(self, device, dtype, tokens, channels):
        torch.manual_seed(0)
        residual = 5 * torch.randn(2, tokens, channels, device=device) + 20
        branch = torch.randn(2, tokens, channels, device=device).to(dtype)
        first, norm = torch.randn(channels, device=device), random_norm(channels, device)
        with torch.no_grad():
            total, normed = add_layer_norm(residual, branch, norm)
            expected = residual + branch
            assert torch.equal(total, expected) and normed.dtype == dtype
            assert_rounded_once(normed, norm(expected))
            total, normed = add_layer_norm(residual, branch, norm, first)
            expected[:, 0] = first
            assert torch.equal(total, expected)
            assert_rounded_once(normed, norm(expected))
            normed = layer_norm(expected, norm, dtype)
            assert normed.dtype == dtype
            assert_rounded_once(normed, norm(expected))

    def test_slices_of_larger_tensors(self, device, dtype, tokens, channels):
        residual = torch.randn(2, tokens + 1, 2 * channels, device=device)[:, 1:, :channels]
        branch = torch.randn(2, tokens + 1, 2 * channels, device=device).to(dtype)[:, :-1, channels:]
        norm = random_norm(channels, device)
        with torch.no_grad():
            total, normed = add_layer_norm(residual, branch, norm)
            assert torch.equal(total, residual + branch)
            assert_rounded_once(normed, norm(residual + branch))


def assert_rounded_once(value: torch.Tensor, expected: torch.Tensor) -> None:
    # half a unit in the last place, and a little for the order of float32's sums
    torch.testing.assert_close(value.float(), expected, rtol=0.52 * torch.finfo(value.dtype).eps, atol=1e-5)


def test_layer_norm_of_a_residual_in_closed_form(device):
    norm = torch.nn.LayerNorm(4, eps=0.0, device=device).requires_grad_(False)
    residual, branch = torch.tensor([[[0.0, 4, 0, 4]]], device=device), torch.ones(1, 1, 4, device=device).bfloat16()
    with torch.no_grad():
        total, normed = add_layer_norm(residual, branch, norm)
    assert total.tolist() == [[[1, 5, 1, 5]]] and normed.tolist() == [[[-1, 1, -1, 1]]]


def test_gradients_flow_through_the_addition_and_the_norm(device):
    norm = torch.nn.LayerNorm(8, device=device)
    residual, branch = (torch.randn(1, 3, 8, device=device, requires_grad=True) for _ in range(2))
    first = torch.randn(8, device=device, requires_grad=True)
    total, normed = add_layer_norm(residual, branch, norm, first)
    (total.sum() + (normed * torch.randn_like(normed)).sum()).backward()
    assert branch.grad[:, 0].eq(0).all() and branch.grad[:, 1:].ne(0).any()
    assert first.grad.ne(0).any() and norm.weight.grad.ne(0).any()


@pytest.mark.parametrize('shape', [(1, 1), (3, 7), (4, 10, 200), (2, 1, 500)])
def test_overlap_with_earlier_boxes_is_that_of_all_pairs_to_the_bit(device, shape):
    torch.manual_seed(0)
    boxes = torch.cat([100 * torch.rand(*shape, 2), 100 + 50 * torch.rand(*shape, 2)], dim=-1).to(device)
    boxes[boxes[..., 0] > 90] = 7.0  # empty boxes, whose IoU is NaN
    with torch.no_grad():
        found = prior_overlap(boxes)
    expected = pairwise_iou(boxes).triu(diagonal=1).amax(dim=-2)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_overlap_with_earlier_boxes_in_closed_form(device):
    boxes = torch.tensor([[[0.0, 0, 2, 2], [0, 0, 2, 1], [0, 0, 4, 2], [9, 9, 9, 9], [5, 5, 5, 5]]], device=device)
    with torch.no_grad():
        found = prior_overlap(boxes)[0].tolist()
    assert found[:4] == [0, 0.5, 0.5, 0] and math.isnan(found[4])


@pytest.mark.parametrize('factor', [2 / 0.675, 2.0, 0.6])
@pytest.mark.parametrize('fit', [-9, 0, 13], ids=['cropped', 'as resized', 'padded'])
def test_masks_are_resized_then_cropped_or_padded(device, factor, fit):
    torch.manual_seed(0)
    masks = F.interpolate(torch.rand(3, 1, 6, 7, device=device), (216, 150), mode='bicubic')[:, 0].clamp(0, 1)
    size = int(216 * factor), int(150 * factor)
    expected = F.pad(F.interpolate(masks[:, None].double(), scale_factor=factor, mode='bilinear')[:, 0],
                     (0, fit, 0, fit))
    with torch.no_grad():
        found = mask_resize(masks, factor, (size[0] + fit, size[1] + fit))
    assert found.shape == expected.shape and found.dtype == torch.bool
    decided = (expected - 0.5).abs() > 1e-4  # float32 may round across the threshold
    assert torch.equal(found[decided], expected[decided] > 0.5) and decided.float().mean() > 0.99


def test_a_mask_is_resized_in_closed_form(device):
    mask = torch.tensor([[[1.0, 0], [0, 0]]], device=device)
    with torch.no_grad():
        found = mask_resize(mask, 2, (4, 5))[0].int().tolist()
    # along an axis, weights of the first pixel are 1, 3/4, 1/4, 0
    assert found == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]


@pytest.mark.cuda
def test_residual_norm_in_a_cuda_graph():
    residual, branch = (torch.randn(2, 7, 96, device='cuda') for _ in range(2))
    branch, norm = branch.bfloat16(), random_norm(96, 'cuda')
    with torch.no_grad():
        add_layer_norm(residual, branch, norm)  # compile
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = add_layer_norm(residual, branch, norm)
        residual.normal_()
        graph.replay()
        for output, expected in zip(outputs, add_layer_norm(residual, branch, norm)):
            assert torch.equal(output, expected)


@pytest.mark.cuda
def test_cuda_graphs_and_clip_length_do_not_change_results():
    """Ids and masks are the same with and without CUDA graphs; ids are also the same for one clip and single frames."""
    from tests.helpers.models import build_memcnp
    from tools.analysis_tools.measures.synthetic import synthetic_clips
    model = build_memcnp(test_cfg=dict(score_thr=0.0)).cuda().eval()
    results = []
    for graphs, clip_len in ((False, 6), (True, 6), (False, 1), (True, 1)):
        model.cuda_graphs = graphs
        for _ in range(3 if graphs else 1):  # eager, capture, replay
            inputs, clips = synthetic_clips(1, 6, (192, 320), device='cuda')
            streams = [model.new_stream()]
            for start in range(0, 6, clip_len):
                part = clips[0].new()
                part.video_data_samples = clips[0].video_data_samples[start:start + clip_len]
                model(inputs[:, start:start + clip_len], [part], mode='predict', streams=streams)
        results.append([(frame.pred_track_instances.instances_id.tolist(), frame.pred_track_instances.masks)
                        for frame in clips[0]])
    assert results[0] == results[1] and results[2] == results[3]
    ids = [[found[0] for found in result] for result in results]
    assert ids[0] == ids[2]
