"""Detail of the image at stride 4, which sharpens the mask map of the MemCNP head; not part of the published model.

A plain transformer has features of stride 16, and the published mask map is upsampled from stride 8, which blurs
outlines by several pixels. Few convolutions of the image supply the edges, as in ViTMatte (Yao et al., 2024).
:class:`ImageDetail` is called by the detectors, :class:`DetailFusion` by the head.

Symbols: B images, H×W padded input, C channels of the mask map, D channels of the detail.
"""
from __future__ import annotations

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet.models.layers.conv_tower import FusedGroupNorm
from mmdet.ops.resize import resize

_NUM_GROUPS = 8


def _conv(before: int, after: int, stride: int = 1) -> ConvModule:
    return ConvModule(before, after, 3, stride=stride, padding=1, bias=False, act_cfg=None,
                      norm_cfg=dict(type=FusedGroupNorm, num_groups=_NUM_GROUPS, relu=True))


class ImageDetail(nn.Sequential):
    """3×3 convolutions of strides 2, 2 and 1, each with group norm and ReLU.

    Args:
        channels: D, a multiple of 16.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(_conv(3, channels // 2, stride=2), _conv(channels // 2, channels, stride=2),
                         _conv(channels, channels))

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images (B, 3, H, W), H and W multiples of 4: (B, D, H/4, W/4)."""
        return super().forward(images)


class DetailFusion(nn.Module):
    """Add detail to a mask map: M₄ = up(M₈) + conv(conv(ReLU(up(W·ReLU(M₈)) + detail))), up: bilinear, ×2.

    Args:
        channels: C.
        detail_channels: D, a multiple of 8.
    """

    def __init__(self, channels: int, detail_channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, detail_channels, 1)
        self.fuse = _conv(detail_channels, detail_channels)
        self.expand = nn.Conv2d(detail_channels, channels, 3, padding=1)
        # at first, the map is the upsampled one
        nn.init.normal_(self.expand.weight, std=0.01)
        nn.init.zeros_(self.expand.bias)

    def forward(self, mask_map: Tensor, detail: Tensor) -> Tensor:
        """Fuse a map (B, C, H/8, W/8) with detail (B, D, H/4, W/4): (B, C, H/4, W/4)."""
        semantics = resize(self.reduce(mask_map.relu()), 2)
        return resize(mask_map, 2) + self.expand(self.fuse((semantics + detail).relu()))
