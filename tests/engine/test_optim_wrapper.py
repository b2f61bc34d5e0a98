"""bfloat16 training: the forward pass runs in it, weights and gradients stay float32."""
import torch
from torch import nn

from mmdet.registry import OPTIM_WRAPPERS


def test_forward_in_bfloat16_weights_in_float32():
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    wrapper = OPTIM_WRAPPERS.build({'type': 'BFloat16OptimWrapper', 'optimizer': optimizer})
    before = model.weight.clone()
    with wrapper.optim_context(model):
        out = model(torch.ones(2, 4))
        assert torch.is_autocast_enabled('cpu') and out.dtype == torch.bfloat16
    assert not torch.is_autocast_enabled('cpu')
    wrapper.update_params(out.float().sum())
    assert model.weight.dtype == torch.float32 and not torch.equal(model.weight, before)
