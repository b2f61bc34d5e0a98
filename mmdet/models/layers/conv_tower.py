"""Towers of convolutions with group norm below the outputs of the dense heads (FCOS, SipMask, MemCNP)."""
from __future__ import annotations

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet.errors import UserError
from mmdet.ops.group_norm import group_norm


class FusedGroupNorm(nn.GroupNorm):
    """``nn.GroupNorm``, with the same parameters, followed by ReLU if ``relu``.

    Args:
        num_channels, num_groups, eps: as of ``nn.GroupNorm``.
        relu: apply ReLU to the result.

    Raises:
        UserError: if the number of channels is not a multiple of the number of groups.
    """

    def __init__(self, num_channels: int, num_groups: int = 32, eps: float = 1e-5, relu: bool = False) -> None:
        if num_channels % num_groups:
            raise UserError(f'group norm: {num_channels} channels are not divisible by {num_groups} groups; set the '
                            f"head's in_channels and the neck's out_channels to a multiple of {num_groups}")
        super().__init__(num_groups, num_channels, eps)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a map (B, C, h, w)."""
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps, self.relu)


def conv_tower(channels: int, depth: int, last_relu: bool = True, num_groups: int = 32) -> nn.Sequential:
    """Build 3×3 convolutions without bias, each followed by group norm and ReLU.

    Args:
        channels: of input and output; a multiple of ``num_groups``.
        depth: number of convolutions.
        last_relu: whether ReLU follows the last convolution, too.
        num_groups: of the norm.
    """
    return nn.Sequential(*(
        ConvModule(channels, channels, 3, padding=1, bias=False, act_cfg=None,
                   norm_cfg=dict(type=FusedGroupNorm, num_groups=num_groups, relu=last_relu or i < depth - 1))
        for i in range(depth)))
