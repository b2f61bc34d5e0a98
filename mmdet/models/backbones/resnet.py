"""torchvision's ResNet-50/101 as a feature extractor, with torchvision's parameter names, as in published weights.

Built from a config by name; called by the detectors in training and testing.
"""
from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import resnet50, resnet101
from torchvision.models.resnet import Bottleneck

from mmdet.errors import UserError
from mmdet.registry import MODELS

_BUILDERS = {50: resnet50, 101: resnet101}


@MODELS.register_module()
class ResNet(BaseModule):
    """ResNet with outputs after its stages, at strides 4, 8, 16 and 32.

    Args:
        depth: 50 or 101.
        style: convolution of a bottleneck that has stride 2: ``'pytorch'`` the 3×3, ``'caffe'`` the first 1×1.
        out_indices: stages whose outputs are returned, 0..3.
        frozen_stages: −1 trains everything, 0 freezes the stem, k also ``layer1`` … ``layerk``.
        norm_eval: keep every batch norm in eval mode (running statistics), also in training.
        norm_requires_grad: train the affine parameters of the batch norms.
        with_cp: recompute stage activations in the backward pass instead of keeping them.
        init_cfg: mmengine's; ``dict(type='Pretrained', checkpoint=...)`` loads torchvision's or timm's file.
    """

    def __init__(self, depth: int = 50, style: str = 'pytorch', out_indices: Sequence[int] = (0, 1, 2, 3),
                 frozen_stages: int = 1, norm_eval: bool = True, norm_requires_grad: bool = True, with_cp: bool = False,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if depth not in _BUILDERS:
            raise UserError(f'ResNet depth={depth} is unknown; use one of {sorted(_BUILDERS)}')
        if style not in ('pytorch', 'caffe'):
            raise UserError(f"ResNet style={style!r} is unknown; use 'pytorch' or 'caffe'")
        net = _BUILDERS[depth](weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        if style == 'caffe':
            for module in self.modules():
                if isinstance(module, Bottleneck):
                    module.conv1.stride, module.conv2.stride = module.conv2.stride, (1, 1)
        self.out_indices = tuple(out_indices)
        self.out_channels = tuple(256 * 2 ** index for index in self.out_indices)
        self.out_strides = tuple(4 * 2 ** index for index in self.out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        if not norm_requires_grad:
            for norm in self._norms():
                norm.requires_grad_(False)
        for module in self._frozen():
            module.requires_grad_(False)

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]

    def _frozen(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        return [self.conv1, self.bn1] + [getattr(self, f'layer{i}') for i in range(1, self.frozen_stages + 1)]

    def train(self, mode: bool = True) -> ResNet:
        super().train(mode)
        for module in self._frozen() + (self._norms() if self.norm_eval else []):
            module.eval()
        return self

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        """Compute maps (B, 256·2^i, H/(4·2^i), W/(4·2^i)) of images (B, 3, H, W) for i in ``out_indices``."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        outputs = []
        for index, stage in enumerate((self.layer1, self.layer2, self.layer3, self.layer4)):
            x = checkpoint(stage, x, use_reentrant=False) if self.with_cp and self.training else stage(x)
            if index in self.out_indices:
                outputs.append(x)
        return tuple(outputs)
