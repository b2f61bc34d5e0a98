"""Convolutional stem of a vision transformer (Xiao et al., "Early Convolutions Help Transformers See Better", 2021).

Used by :class:`~mmdet.models.backbones.ViT` in place of the patch embedding.
"""
from __future__ import annotations

from itertools import pairwise

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet.errors import UserError
from mmdet.models.layers.conv_tower import FusedGroupNorm

_NUM_GROUPS = 8


class ConvStem(nn.Module):
    """3×3 convolutions of stride 2 with group norm and ReLU, channels doubling, then a 1×1 convolution.

    The map before the last stride is projected, too, as a skip connection for outputs that are finer than the patches.
    Group norm instead of the reference's batch norm: small batches, and no statistics of a training step to keep.

    Args:
        embed_dims: C, channels of a token.
        patch_size: P, side of a patch in pixels.

    Raises:
        UserError: if P is not a power of 2 of at least 4, or C not a multiple of 4·P.
    """

    def __init__(self, embed_dims: int, patch_size: int) -> None:
        super().__init__()
        depth = patch_size.bit_length() - 1
        if patch_size != 2 ** depth or depth < 2 or embed_dims % (_NUM_GROUPS << (depth - 1)):
            raise UserError(f"ViT stem='conv': patch_size={patch_size} must be a power of 2 of at least 4, and "
                            f'embed_dims={embed_dims} a multiple of {_NUM_GROUPS << max(depth - 1, 0)}')
        widths = [3, *(embed_dims >> shift for shift in range(depth - 1, -1, -1))]  # 3, C/2^(depth − 1), …, C/2, C
        self.convs = nn.ModuleList(
            ConvModule(before, after, 3, stride=2, padding=1, bias=False, act_cfg=None,
                       norm_cfg=dict(type=FusedGroupNorm, num_groups=_NUM_GROUPS, relu=True))
            for before, after in pairwise(widths))
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)
        self.skip = nn.Conv2d(embed_dims // 2, embed_dims, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embed images (B, 3, H, W): the patches (B, C, H/P, W/P) and the skip map (B, C, 2·H/P, 2·W/P)."""
        for conv in self.convs[:-1]:
            x = conv(x)
        return self.proj(self.convs[-1](x)), self.skip(x)
