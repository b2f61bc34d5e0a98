"""Results of the spatial correlation against closed forms, golden data, and the plain PyTorch implementation."""
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdet.errors import UserError
from mmdet.ops import SpatialCorrelationSampler, spatial_correlation_sample
from mmdet.ops.correlation import correlation_reference

NAMES = tuple(inspect.signature(spatial_correlation_sample).parameters)[2:]
GOLDEN = Path(__file__).parents[1] / 'data/golden/correlation.npz'
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def random_inputs(shape, dtype=torch.float64, device='cpu', seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype).requires_grad_()
            for _ in range(2)]


def assert_close(actual, expected):
    """Assert that the largest difference is within the dtype's tolerance, relative to the largest value."""
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    difference = (actual.double().cpu() - expected.double().cpu()).abs().max()
    assert difference <= TOLERANCE[actual.dtype] * expected.double().abs().max().cpu().clamp(min=1)


def test_identity_patch_is_the_channel_sum(device):
    a, b = random_inputs((2, 4, 3, 5), device=device)
    assert_close(spatial_correlation_sample(a, b)[:, 0, 0], (a * b).sum(1))


@pytest.mark.parametrize(('patch', 'dilation_patch', 'shifts'), [
    (3, 1, [-1, 0, 1]),
    (2, 3, [0, 3]),
    (4, 2, [-2, 0, 2, 4]),
    (16, 2, list(range(-14, 17, 2))),
])
def test_shift_is_the_same_forward_and_backward(device, patch, dilation_patch, shifts):
    """With one non-zero pixel in each input, only the patch cell of their shift and their gradients are non-zero."""
    size = 40
    for cell, shift in enumerate(shifts):
        a, b = (torch.zeros(1, 1, size, size, device=device) for _ in range(2))
        a[0, 0, 20, 20], b[0, 0, 20 + shift, 20 + shift] = 2, 3
        a.requires_grad_(), b.requires_grad_()
        out = spatial_correlation_sample(a, b, patch_size=patch, dilation_patch=dilation_patch)
        assert out.nonzero().tolist() == [[0, cell, cell, 20, 20]] and out.sum() == 6
        out[0, cell, cell, 20, 20].backward()
        assert a.grad.nonzero().tolist() == [[0, 0, 20, 20]] and a.grad.sum() == 3
        assert b.grad.nonzero().tolist() == [[0, 0, 20 + shift, 20 + shift]] and b.grad.sum() == 2


@pytest.mark.parametrize('case', range(5))
def test_golden(device, case):
    data = {k.split('/')[1]: v for k, v in np.load(GOLDEN).items() if k.startswith(f'{case}/')}
    a, b, grad = (torch.from_numpy(data[n]).to(device) for n in ('input1', 'input2', 'grad_output'))
    a.requires_grad_(), b.requires_grad_()
    out = spatial_correlation_sample(a, b, **{n: data[n].tolist() for n in NAMES})
    out.backward(grad)
    for actual, name in ((out, 'output'), (a.grad, 'grad_input1'), (b.grad, 'grad_input2')):
        np.testing.assert_allclose(actual.detach().cpu(), data[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize('dtype', TOLERANCE)
def test_agrees_with_plain_pytorch(device, setting, dtype):
    """Compare the output and both gradients with the plain implementation, differentiated by autograd."""
    shape, parameters = setting
    a, b = random_inputs(shape, dtype, device)
    out = spatial_correlation_sample(a, b, **parameters)
    expected = correlation_reference.correlation(a, b, *parameters.values())
    assert_close(out, expected)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    for actual, wanted in zip(torch.autograd.grad(out, (a, b), grad), torch.autograd.grad(expected, (a, b), grad)):
        assert_close(actual, wanted)


def test_plain_gradients_agree_with_autograd(setting):
    """Check the hand-written gradients of the plain implementation, the fallback without compiled kernels."""
    shape, parameters = setting
    a, b = random_inputs(shape)
    out = correlation_reference.correlation(a, b, *parameters.values())
    grad = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    grad1, grad2 = torch.autograd.grad(out, (a, b), grad)
    assert_close(correlation_reference.correlation_grad_input1(grad, b.detach(), *parameters.values()), grad1)
    assert_close(correlation_reference.correlation_grad_input2(grad, a.detach(), *parameters.values()), grad2)


@pytest.mark.parametrize('parameters', [
    {'patch_size': 4},
    {'kernel_size': (1, 2), 'patch_size': (2, 3), 'stride': (2, 1), 'padding': 1, 'dilation': 2, 'dilation_patch': 2},
], ids=['even-patch', 'every-parameter'])
def test_gradcheck(device, parameters):
    a, b = random_inputs((1, 2, 5, 4), device=device)
    assert torch.autograd.gradcheck(lambda a, b: spatial_correlation_sample(a, b, **parameters), (a, b),
                                    nondet_tol=0.0)


@pytest.mark.parametrize('wanted', [0, 1])
def test_gradient_of_one_input_alone(device, wanted):
    inputs = random_inputs((1, 3, 6, 6), device=device)
    both = torch.autograd.grad(spatial_correlation_sample(*inputs, patch_size=3).sum(), inputs)
    inputs[1 - wanted] = inputs[1 - wanted].detach()
    spatial_correlation_sample(*inputs, patch_size=3).sum().backward()
    assert torch.equal(inputs[wanted].grad, both[wanted]) and inputs[1 - wanted].grad is None


@pytest.mark.parametrize('patch', [3, 16])
def test_non_contiguous_inputs_and_gradient(device, patch):
    a, b = random_inputs((2, 6, 11, 18), torch.float32, device)
    expected = spatial_correlation_sample(a, b, patch_size=patch)
    views = a.detach().to(memory_format=torch.channels_last), b.detach().flip(3).clone().flip(3).mT.contiguous().mT
    views = [v.requires_grad_() for v in views]
    out = spatial_correlation_sample(*views, patch_size=patch)
    assert not views[0].is_contiguous() and not views[1].is_contiguous()
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    weight = torch.randn(out.transpose(1, 4).shape, generator=torch.Generator().manual_seed(1)).to(device)
    (out.transpose(1, 4) * weight).sum().backward()
    (expected.transpose(1, 4) * weight).sum().backward()
    for view, tensor in zip(views, (a, b)):
        torch.testing.assert_close(view.grad, tensor.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('shape', [(0, 3, 6, 7), (2, 0, 6, 7)], ids=['no-batch', 'no-channels'])
def test_empty(device, shape):
    a, b = random_inputs(shape, torch.float32, device)
    out = spatial_correlation_sample(a, b, patch_size=(4, 5))
    assert out.shape == (shape[0], 4, 5, 6, 7) and not out.any()
    out.sum().backward()
    assert a.grad.shape == b.grad.shape == shape


def test_module_equals_the_function(device):
    a, b = random_inputs((1, 3, 6, 7), device=device)
    module = SpatialCorrelationSampler(kernel_size=3, patch_size=(2, 5), padding=1, dilation_patch=2)
    expected = spatial_correlation_sample(a, b, 3, (2, 5), 1, 1, 1, 2)
    assert torch.equal(module(a, b), expected) and 'patch_size=(2, 5)' in repr(module)


@pytest.mark.parametrize(('shapes', 'parameters', 'message'), [
    (((2, 3, 4), (2, 3, 4)), {}, 'must be \\(N, C, h, w\\)'),
    (((1, 2, 4, 4), (1, 2, 4, 5)), {}, 'differ in shape'),
    (((1, 2, 4, 4),) * 2, {'patch_size': 0}, 'at least 1'),
    (((1, 2, 4, 4),) * 2, {'padding': (0, -1)}, 'padding at least 0'),
    (((1, 2, 4, 4),) * 2, {'kernel_size': 3, 'dilation': 2}, 'input height 4 .* smaller than the kernel'),
    (((1, 2, 4, 4),) * 2, {'stride': (1, 2, 3)}, 'stride must be an int or a pair'),
    (((1, 2, 4, 4),) * 2, {'stride': 1.5}, 'stride must be an int or a pair'),
])
def test_wrong_arguments(shapes, parameters, message):
    with pytest.raises(UserError, match=message) as error:
        spatial_correlation_sample(torch.zeros(shapes[0]), torch.zeros(shapes[1]), **parameters)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(('types', 'message'), [
    ((torch.float32, torch.float16), 'convert one of them'),
    ((torch.int64, torch.int64), 'must be float64'),
    ((torch.float8_e4m3fn, torch.float8_e4m3fn), 'must be float64'),
])
def test_wrong_dtypes(types, message):
    with pytest.raises(UserError, match=message):
        spatial_correlation_sample(*(torch.zeros(1, 1, 2, 2, dtype=t) for t in types))
