"""One training step of MemCNP and SipMask against the published implementation: losses, gradients, memory."""
import pytest

from tests.helpers.dense import golden_sipmask
from tests.helpers.golden import fill_golden, golden_npz, golden_pairs, relative_error
from tests.helpers.models import build_memcnp

MODELS = {'memcnp': (lambda: fill_golden(build_memcnp(track_jitter=0.0)), 11), 'sipmask': (golden_sipmask, 31)}


@pytest.fixture(params=MODELS)
def step(request, device):
    """The golden model after one forward and backward pass, its losses, and the golden numbers."""
    build, seed = MODELS[request.param]
    model = build().train().to(device)
    losses = model(*golden_pairs(seed=seed, device=device), mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    return model, losses, golden_npz(f'{request.param}_vit_small_train.npz')


def test_losses_gradient_norms_and_memory_after_the_step(step):
    model, losses, golden = step
    expected = {name[5:]: float(value) for name, value in golden.items() if name.startswith('loss/')}
    expected.pop('total')
    assert {name: float(value.detach()) for name, value in losses.items()} == pytest.approx(expected, rel=1e-4)

    norms = {name: -1.0 if parameter.grad is None else float(parameter.grad.norm())
             for name, parameter in model.named_parameters()}
    expected = {name[9:]: float(value) for name, value in golden.items() if name.startswith('gradnorm/')}
    assert norms == pytest.approx(expected, rel=5e-3)

    if hasattr(model.bbox_head, 'mem'):
        assert relative_error(model.bbox_head.mem.feat_units.weight, golden['memory_after']) < 1e-4
