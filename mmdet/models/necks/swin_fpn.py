"""Feature pyramid whose top-down path consists of Swin blocks; called by the detectors between backbone and head.

The published implementation passes maps of strides 4 to 64 to a head that assumes strides 8 to 128. This one starts at
stride 8 and computes its last level by ``extra_conv``, which the published one has but never calls.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserError, counted
from mmdet.models.layers.swin_blocks import SwinStage, init_linear
from mmdet.registry import MODELS


class PatchExpanding(nn.Module):
    """The inverse of patch merging: double the size of a map, halve its channels: (B, h, w, C) → (B, 2h, 2w, C/2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels // 4)
        self.expansion = nn.Linear(channels // 4, channels // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pixel_shuffle(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
        return self.expansion(self.norm(x))


@MODELS.register_module()
class SwinFPN(BaseModule):
    """Swin stages from the coarsest input to the finest, each upsampled and added to the next; 1×1 output convolutions.

    Inputs of strides 4, 8, 16, 32 and ``start_level=1`` give five levels of strides 8, 16, 32, 64, 128: one per used
    input, then the coarsest input at half its size, then a stride-2 convolution.

    Args:
        in_channels: channels of each backbone output, each twice the previous one.
        out_channels: channels of every output.
        start_level: first backbone output used.
        depths: blocks of each used level, coarsest first.
        num_heads: attention heads of each used level, coarsest first.
        window_size: side of a window in tokens.
        drop_path_rate: stochastic depth: drop probability of every block.
        with_cp: recompute block activations in the backward pass instead of keeping them.
        init_cfg: mmengine's.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int = 256, start_level: int = 1,
                 depths: Sequence[int] = (2, 2, 2), num_heads: Sequence[int] = (24, 12, 6), window_size: int = 7,
                 drop_path_rate: float = 0.0, with_cp: bool = False, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        used = list(in_channels)[start_level:][::-1]
        if not len(used) == len(depths) == len(num_heads):
            raise UserError(f'SwinFPN uses {counted(len(used), "input")} (start_level={start_level}) but has '
                            f'{counted(len(depths), "depth")} and {len(num_heads)} num_heads; set one value '
                            'of each per used input')
        for channels, heads, finer in zip(used, num_heads, [*used[1:], used[-1] // 2]):
            if channels != 2 * finer or channels % 4 or channels % heads:
                raise UserError(f'SwinFPN in_channels={list(in_channels)}: each must be twice the previous one, a '
                                f'multiple of 4 and of its num_heads ({heads} for {channels})')
        self.start_level = start_level
        self.layers = nn.ModuleList(SwinStage(channels, heads, window_size, [drop_path_rate] * depth, with_cp=with_cp)
                                    for channels, heads, depth in zip(used, num_heads, depths))
        for stage, channels in zip(self.layers[:-1], used):
            stage.upsample = PatchExpanding(channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for channels in used)
        self.laterals = nn.ModuleList(nn.Conv2d(channels, out_channels, 1) for channels in [used[0], *used])
        self.extra_conv = nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1)
        init_linear(self)
        for conv in [*self.laterals, self.extra_conv]:
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, feats: Sequence[Tensor]) -> Sequence[Tensor]:
        """Compute maps (B, out_channels, ...) of backbone maps (B, C_i, h_i, w_i), both finest first.

        One map has the size of each used input; two more follow, each with half the size of the previous one.
        """
        used = feats[self.start_level:][::-1]
        coarser = self.laterals[0](used[0][..., ::2, ::2])
        outputs = [self.extra_conv(coarser), coarser]
        x = used[0].permute(0, 2, 3, 1)
        for index, stage in enumerate(self.layers):
            assert isinstance(stage, SwinStage)
            x = stage(x)
            outputs.append(self.laterals[index + 1](self.norms[index](x).permute(0, 3, 1, 2)))
            if index + 1 < len(used):
                finer = used[index + 1]
                expanded = stage.upsample(x).permute(0, 3, 1, 2)
                if expanded.shape[-2:] != finer.shape[-2:]:
                    expanded = F.interpolate(expanded, finer.shape[-2:], mode='bilinear', align_corners=False)
                x = (finer + expanded).permute(0, 2, 3, 1)
        return tuple(outputs[::-1])
