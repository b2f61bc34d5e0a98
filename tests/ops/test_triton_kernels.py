"""The Triton kernels in the interpreter on any machine and compiled on a GPU, and their fallbacks on other devices."""
import importlib.util
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
    def test_group_norm(self, device, dtype, relu):
        x = torch.randn(2, 64, 7, 45, device=device) + 2
        weight, bias = torch.randn(64, device=device), torch.randn(64, device=device)
        expected = F.group_norm(x, 32, weight, bias)
        with torch.no_grad():
            result = group_norm(x.to(dtype), 32, weight.to(dtype), bias.to(dtype), relu=relu)
        assert result.dtype == dtype
        error = relative_error(result, expected.relu() if relu else expected)
        assert error < (1e-4 if dtype == torch.float32 else 1e-2)

    @pytest.mark.parametrize('factor', [2, 4])
    def test_mask_logits(self, device, dtype, factor):
        coarse, coefficients = torch.randn(2, 96, 6, 11, device=device), torch.randn(2, 10, 96, device=device)
        fine = F.interpolate(coarse, scale_factor=float(factor), mode='bilinear').relu()
        result = mask_logits(coarse.to(dtype), coefficients, factor)
        assert relative_error(result, (coefficients @ fine.flatten(2)).view_as(result)) < (
            1e-4 if dtype == torch.float32 else 1e-2)


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
