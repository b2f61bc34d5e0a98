"""Self-attention within windows on maps of any size; blocks of the Swin backbone and the Swin feature pyramid.

Attention, MLP and patch merging are timm's. Padding, shifting and masking are implemented here because timm's blocks
shift before they pad, so that opposite edges of a map attend to each other if its size is not a multiple of the
window's.

Symbols: B images, H×W map, C channels, w side of a window, T = w² tokens of a window, L number of windows. Maps are
channels-last: (B, H, W, C).
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp, trunc_normal_
from timm.models.swin_transformer import WindowAttention, window_partition, window_reverse
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_MASKED = -100.0  # added to the attention logits of two tokens from different regions; the original's value


def shift_mask(height: int, width: int, window: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Compute the attention mask (L, T, T), 0 or −100, of a map that is shifted by half a window.

    Args:
        height, width: size of the map, multiples of ``window``.
    """
    row, column = (_bands(side, window, device) for side in (height, width))
    region = (3 * row[:, None] + column).reshape(1, height, width, 1)
    region = window_partition(region, (window, window)).flatten(1)  # (L, T)
    apart = region[:, :, None] != region[:, None, :]
    return torch.zeros(apart.shape, device=device, dtype=dtype).masked_fill_(apart, _MASKED)


def _bands(side: int, window: int, device: torch.device) -> Tensor:
    """Return the region of each position (side,): 0 before the last window, 1 in it, 2 for cyclically shifted ones."""
    position = torch.arange(side, device=device)
    return (position >= side - window).long() + (position >= side - window // 2).long()


class SwinBlock(nn.Module):
    """Attention within windows, then an MLP, both residual.

    Args:
        channels: C.
        num_heads: attention heads, a divisor of C.
        window: side of a window in tokens.
        shifted: shift the windows down and right by half a window.
        mlp_ratio: hidden channels of the MLP over C.
        drop_path: stochastic depth: drop probability of a residual branch, per image.
    """

    def __init__(self, channels: int, num_heads: int, window: int, shifted: bool, mlp_ratio: float = 4.0,
                 drop_path: float = 0.0) -> None:
        super().__init__()
        self.window, self.shifted = window, shifted
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, num_heads, window_size=window)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, int(channels * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Transform a map (B, H, W, C); a shifted block uses the ``mask`` of the padded map, see :func:`shift_mask`."""
        x = x + self.drop_path(self._attend(self.norm1(x), mask))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        height, width, channels = x.shape[1:]
        x = F.pad(x, (0, 0, 0, -width % self.window, 0, -height % self.window))
        padded = x.shape[1:3]
        shift = self.window // 2
        if self.shifted:
            x = x.roll((-shift, -shift), (1, 2))
        windows = window_partition(x, (self.window, self.window)).flatten(1, 2)  # (B·L, T, C)
        windows = self.attn(windows, mask if self.shifted else None)
        x = window_reverse(windows.reshape(-1, self.window, self.window, channels), (self.window, self.window), *padded)
        if self.shifted:
            x = x.roll((shift, shift), (1, 2))
        return x[:, :height, :width]


class SwinStage(nn.Module):
    """Blocks of one resolution, every second one shifted.

    Args:
        channels, num_heads, window, mlp_ratio: see :class:`SwinBlock`.
        drop_path: drop probability of each block; its length is the number of blocks.
        with_cp: recompute block activations in the backward pass instead of keeping them.
    """

    # set by the backbone or neck if the resolution changes after this stage
    downsample: nn.Module
    upsample: nn.Module

    def __init__(self, channels: int, num_heads: int, window: int, drop_path: Sequence[float], mlp_ratio: float = 4.0,
                 with_cp: bool = False) -> None:
        super().__init__()
        self.window, self.with_cp = window, with_cp
        self.blocks = nn.ModuleList(SwinBlock(channels, num_heads, window, index % 2 == 1, mlp_ratio, rate)
                                    for index, rate in enumerate(drop_path))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the blocks to a map (B, H, W, C), without down- or upsampling."""
        height, width = (side + -side % self.window for side in x.shape[1:3])
        mask = shift_mask(height, width, self.window, x.device, x.dtype)
        for block in self.blocks:
            x = checkpoint(block, x, mask, use_reentrant=False) if self.with_cp and self.training else block(x, mask)
        return x


def init_linear(module: nn.Module) -> None:
    """Initialise linear layers as the original: weights from a truncated normal distribution of std 0.02, biases 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
