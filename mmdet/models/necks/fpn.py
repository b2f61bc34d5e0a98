"""Feature pyramid network; called by the detectors between backbone and head."""
from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserError
from mmdet.registry import MODELS


@MODELS.register_module()
class FPN(BaseModule):
    """Lateral 1×1 convolutions, top-down sums with nearest upsampling, 3×3 output convolutions, then extra levels.

    Args:
        in_channels: channels of each backbone output; may be None or missing in a detector's config, see
            :func:`~mmdet.models.necks.build_neck`.
        out_channels: channels of every output.
        num_outs: number of output levels, at least the number of inputs used.
        start_level: first backbone output used.
        extra_levels: how the levels after those of the inputs are computed: ``'conv'`` by stride-2 3×3 convolutions,
            the first of the last output, later ones of the ReLU of the previous level; ``'pool'`` by subsampling (1×1
            max-pool with stride 2).
        init_cfg: mmengine's; Xavier-uniform by default.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int = 256, num_outs: int = 4, start_level: int = 0,
                 extra_levels: str = 'conv', init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg or dict(type='Xavier', layer='Conv2d', distribution='uniform'))
        if extra_levels not in ('conv', 'pool'):
            raise UserError(f"FPN extra_levels={extra_levels!r} is unknown; use 'conv' or 'pool'")
        used = list(in_channels)[start_level:]
        if num_outs < len(used):
            raise UserError(f'FPN num_outs={num_outs} is less than the {len(used)} inputs used; raise it or '
                            'start_level')
        self.start_level, self.extra_levels = start_level, extra_levels
        self.num_extra = num_outs - len(used)
        self.lateral_convs = nn.ModuleList(ConvModule(channels, out_channels, 1, act_cfg=None) for channels in used)
        self.fpn_convs = nn.ModuleList(ConvModule(out_channels, out_channels, 3, padding=1, act_cfg=None) for _ in used)
        if extra_levels == 'conv':
            self.fpn_convs.extend(ConvModule(out_channels, out_channels, 3, stride=2, padding=1, act_cfg=None)
                                  for _ in range(self.num_extra))

    def forward(self, feats: Sequence[Tensor]) -> Sequence[Tensor]:
        """Compute ``num_outs`` maps (B, out_channels, h_i, w_i) of backbone maps (B, C_i, h_i, w_i).

        Each extra level has half the size of the previous one.
        """
        laterals = [conv(feat) for conv, feat in zip(self.lateral_convs, feats[self.start_level:])]
        for i in range(len(laterals) - 1, 0, -1):
            laterals[i - 1] = laterals[i - 1] + F.interpolate(laterals[i], laterals[i - 1].shape[-2:], mode='nearest')
        outs = [conv(lateral) for conv, lateral in zip(self.fpn_convs, laterals)]
        for i in range(self.num_extra):
            if self.extra_levels == 'pool':
                outs.append(outs[-1][..., ::2, ::2])
            else:
                outs.append(self.fpn_convs[len(laterals) + i](outs[-1] if i == 0 else outs[-1].relu()))
        return tuple(outs)
