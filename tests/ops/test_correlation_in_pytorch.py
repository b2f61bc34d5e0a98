"""The spatial correlation as a PyTorch operator: opcheck, torch.compile, autocast, double backward, streams, sizes."""
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmdet.ops import spatial_correlation_sample
from mmdet.ops.correlation import build_summary, compiled_library, correlation_reference

ROOT = Path(__file__).parents[2]
PARAMETERS = ((1, 3), (4, 3), (2, 1), (0, 1), (1, 2), (1, 2))
needs_cuda = pytest.mark.skipif(not compiled_library.has_cuda(), reason='the operator is built without CUDA')


def inputs(shape=(2, 3, 7, 9), dtype=torch.float32, device='cpu', requires_grad=True):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(device, dtype).requires_grad_(requires_grad) for _ in range(2)]


def test_opcheck_forward(device):
    for requires_grad in (False, True):
        torch.library.opcheck(torch.ops.memcnp.spatial_correlation.default,
                              (*inputs(device=device, requires_grad=requires_grad), *PARAMETERS))


@pytest.mark.parametrize('name', ['spatial_correlation_grad_input1', 'spatial_correlation_grad_input2'])
def test_opcheck_backward(device, name):
    a, b = inputs(device=device, requires_grad=False)
    grad = torch.ones_like(correlation_reference.correlation(a, b, *PARAMETERS))
    torch.library.opcheck(getattr(torch.ops.memcnp, name).default, (grad, b, *PARAMETERS))


@pytest.mark.skipif(bool(compiled_library.UNAVAILABLE), reason='checks of the compiled operator; run compile.sh')
@pytest.mark.parametrize(('shape', 'parameters', 'message'), [
    ((2, 3, 7, 10), PARAMETERS, 'differ in shape'),
    ((2, 3, 7, 9), ((1, 0), *PARAMETERS[1:]), 'at least 1'),
    ((2, 3, 7, 9), ((8, 1), *PARAMETERS[1:]), 'smaller than the dilated kernel'),
])
def test_compiled_operator_checks_its_arguments(device, shape, parameters, message):
    with pytest.raises(ValueError, match=message):
        torch.ops.memcnp.spatial_correlation(inputs(device=device)[0], inputs(shape, device=device)[1], *parameters)


def test_double_backward_raises_an_error(device):
    a, b = inputs(device=device)
    grad, = torch.autograd.grad(spatial_correlation_sample(a, b, patch_size=3).square().sum(), a, create_graph=True)
    with pytest.raises(NotImplementedError, match='differentiable once'):
        grad.sum().backward()


def test_compile_whole_graph(device):
    """Run forward and backward under torch.compile, for two input sizes."""
    def loss(a, b):
        return torch.nn.functional.leaky_relu(spatial_correlation_sample(a, b, patch_size=4, dilation_patch=2)).sum()

    compiled = torch.compile(loss, fullgraph=True, backend='inductor' if device == 'cuda' else 'aot_eager')
    for shape in ((2, 3, 8, 9), (1, 5, 12, 7)):
        a, b = inputs(shape, device=device)
        expected = loss(a, b)
        torch.testing.assert_close(compiled(a, b), expected)
        for actual, wanted in zip(torch.autograd.grad(compiled(a, b), (a, b)), torch.autograd.grad(expected, (a, b))):
            torch.testing.assert_close(actual, wanted)


@pytest.mark.parametrize('types', [(torch.bfloat16, torch.bfloat16), (torch.bfloat16, torch.float32)])
def test_autocast_runs_in_float32(device, types):
    a, b = inputs(device=device)
    a, b = a.detach().to(types[0]).requires_grad_(), b.detach().to(types[1]).requires_grad_()
    with torch.autocast(device, torch.bfloat16):
        out = spatial_correlation_sample(a, b, patch_size=3)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, spatial_correlation_sample(a.float(), b.float(), patch_size=3))
    out.sum().backward()
    assert (a.grad.dtype, b.grad.dtype) == types


def test_half_sums_in_float32(device):
    """A float16 sum that has reached 1 would round away each of the 4096 products 1 · 2^-12."""
    a = torch.ones(1, 4097, 4, 4, dtype=torch.float16, device=device)
    b = torch.full_like(a, 2.0 ** -12)
    b[:, 0] = 1
    assert (spatial_correlation_sample(a, b) == 2).all()
    assert (spatial_correlation_sample(a, b, patch_size=5)[:, 2, 2] == 2).all()


FALLBACK = """
import logging, sysconfig, torch
logging.basicConfig(format='%(message)s')
sysconfig.get_config_vars()['EXT_SUFFIX'] = '.not-built'
from mmdet.ops import spatial_correlation_sample
from mmdet.ops.correlation import build_summary, correlation_reference
assert 'is not built; run compile.sh' in build_summary()
a, b = torch.randn(2, 1, 3, 6, 7, dtype=torch.float64).requires_grad_().unbind()
function = torch.compile(spatial_correlation_sample, fullgraph=True, backend='aot_eager')
expected = correlation_reference.correlation(a, b, (1, 1), (4, 4), (1, 1), (0, 0), (1, 1), (2, 2))
for call in (spatial_correlation_sample, function):
    out = call(a, b, patch_size=4, dilation_patch=2)
    torch.testing.assert_close(out, expected)
    wanted = torch.autograd.grad(expected.sum(), (a, b), retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(out.sum(), (a, b)), wanted)
torch.library.opcheck(torch.ops.memcnp.spatial_correlation.default,
                      (a.detach(), b.detach(), (1, 1), (4, 4), (1, 1), (0, 0), (1, 1), (2, 2)))
"""


@pytest.mark.slow
def test_without_compiled_library_plain_pytorch_runs_and_is_logged_once():
    done = subprocess.run([sys.executable, '-c', FALLBACK], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count('uses plain PyTorch') == 1


def test_build_summary_is_one_line():
    assert '\n' not in build_summary() and build_summary().startswith('spatial correlation: ')


@pytest.mark.cuda
@needs_cuda
def test_runs_on_the_current_stream():
    """A side stream finishes the input late, so an operator launched on another stream would read it too early."""
    stream = torch.cuda.Stream()
    for dtype, patch in ((torch.float32, 16), (torch.float64, 3)):
        a, b = inputs((2, 64, 48, 64), dtype, 'cuda', requires_grad=False)
        expected = spatial_correlation_sample(a, b, patch_size=patch)
        late = torch.zeros_like(a)
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(50_000_000)
            late.copy_(a)
            out = spatial_correlation_sample(late, b, patch_size=patch)
        assert not stream.query(), 'the stream finished too early for this test to detect an error'
        stream.synchronize()
        assert torch.equal(out, expected)


@pytest.mark.cuda(2)
@needs_cuda
def test_runs_on_the_device_of_its_inputs():
    a, b = inputs(device='cuda:1', requires_grad=False)
    out = spatial_correlation_sample(a, b, patch_size=3)
    assert out.device == a.device
    torch.testing.assert_close(out.cpu(), spatial_correlation_sample(a.cpu(), b.cpu(), patch_size=3))


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize('kernel_size', [1, 3], ids=['tiled', 'general'])
def test_more_output_elements_than_32_bits_can_index(kernel_size):
    """The last rows and patch cells, and the gradient computed from them, equal those of a small input."""
    size, patch = 2912, 16
    if torch.cuda.mem_get_info()[0] < 20 * 2 ** 30:
        pytest.skip('needs 20 GiB of GPU memory')
    a, b = inputs((1, 1, size, size), torch.float16, 'cuda', requires_grad=False)
    parameters = {'kernel_size': kernel_size, 'patch_size': patch, 'padding': kernel_size // 2}
    out = spatial_correlation_sample(a, b, **parameters)
    assert out.numel() > 2 ** 31
    # the lower right corner of the output depends on no other part of the image, except for a margin of the patch size
    corner = [x[..., -64:, -64:].contiguous() for x in (a, b)]
    expected = spatial_correlation_sample(*corner, **parameters)
    assert torch.equal(out[..., -40:, -40:], expected[..., -40:, -40:])
    grad = torch.zeros_like(out)
    grad[..., -40:, -40:] = 1
    corner_grad = torch.zeros_like(expected)
    corner_grad[..., -40:, -40:] = 1
    pair = (1, 1)
    arguments = ((kernel_size,) * 2, (patch,) * 2, pair, (kernel_size // 2,) * 2, pair, pair)
    result = torch.ops.memcnp.spatial_correlation_grad_input1(grad, b, *arguments)
    wanted = torch.ops.memcnp.spatial_correlation_grad_input1(corner_grad, corner[1], *arguments)
    assert torch.equal(result[..., -64:, -64:], wanted)
