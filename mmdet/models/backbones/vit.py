"""Plain vision transformer with MAE's parameter names, as a three-level feature extractor (paper section 3.1).

Built from a config by name; called by the detectors in training and testing.

Symbols: B images, H×W padded input, P patch size, C embedding channels, N = H/P · W/P patches.
"""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from timm.layers import PatchEmbed, resample_abs_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdet.errors import UserError
from mmdet.models.layers.conv_stem import ConvStem
from mmdet.models.layers.fused_blocks import can_fuse, fused_stages
from mmdet.models.layers.patch_product import embed_patches
from mmdet.ops.resize import resize
from mmdet.registry import MODELS

_PRETRAIN_SIZE = 224  # MAE pre-trains on 224×224 images; stored position embeddings have the grid of that size


def sincos_position_embedding(channels: int, grid: tuple[int, int]) -> Tensor:
    """Compute MAE's fixed 2-D sine-cosine embedding (1 + h·w, channels); the first row, the class token's, is zero.

    The first half of the channels encodes x, the second y; within a half, sines come before cosines.
    """
    omega = 1.0 / 10000 ** (torch.arange(channels // 4, dtype=torch.float64) / (channels // 4))
    y, x = torch.meshgrid(torch.arange(grid[0], dtype=torch.float64), torch.arange(grid[1], dtype=torch.float64),
                          indexing='ij')
    angles = [position.reshape(-1, 1) * omega for position in (x, y)]
    table = torch.cat([half for angle in angles for half in (angle.sin(), angle.cos())], dim=1)
    return torch.cat([table.new_zeros(1, channels), table]).float()


def blocks_after(name: str, depth: int) -> int:
    """Return the number of blocks after a parameter of a transformer, for layer-wise learning rate decay.

    depth − 1 − i for block i, 0 for the final norm, depth − 1 for parameters before the blocks.

    Args:
        name: as in ``named_parameters()`` of the transformer.
        depth: its number of blocks.
    """
    parts = name.split('.')
    if parts[0] == 'blocks':
        return depth - 1 - int(parts[1])
    return 0 if parts[0] == 'norm' else depth - 1


@MODELS.register_module()
class ViT(BaseModule):
    """ViT-B/L/H with outputs at strides 8, 16 and 32.

    After every quarter of the blocks the class token is reset to its initial embedding, as in the training of the
    published weights. The patch tokens after the second quarter are upsampled ×2, after the third they keep their size,
    after the fourth they are downsampled ×½.

    Args:
        embed_dims: channels of a token, a multiple of 4 and of ``num_heads``. ViT-B 768, L 1024, H 1280.
        depth: number of blocks, a multiple of 4. ViT-B 12, L 24, H 32.
        num_heads: attention heads. ViT-B 12, L 16, H 16.
        mlp_ratio: hidden channels of a block's MLP over ``embed_dims``.
        patch_size: side of a patch in pixels. The strides above are those of 16; for 14, as in MAE's published ViT-H,
            they are 7, 14 and 28.
        with_cp: recompute block activations in the backward pass instead of keeping them (less memory, more time).
        stem: how patches are embedded. ``'patch'``: linearly, as published. ``'conv'``: by convolutions, whose finer
            map is added to the output of the smallest stride, see :class:`~mmdet.models.layers.conv_stem.ConvStem`;
            learns faster from random weights, but cannot load MAE's.
        init_cfg: mmengine's; ``dict(type='Pretrained', checkpoint=...)`` loads MAE's file or a state dict.

    Raises:
        UserError: if ``stem`` is unknown, or if depth, channels and heads are inconsistent.
    """

    def __init__(self, embed_dims: int = 768, depth: int = 12, num_heads: int = 12, mlp_ratio: float = 4.0,
                 patch_size: int = 16, with_cp: bool = False, stem: str = 'patch',
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if stem not in ('patch', 'conv'):
            raise UserError(f"ViT stem={stem!r} is unknown; use 'patch' or 'conv'")
        if depth < 4 or depth % 4:
            raise UserError(f'ViT depth={depth} does not divide into four stages; use a multiple of 4, such as 12')
        if embed_dims % 4 or embed_dims % num_heads:
            raise UserError(f'ViT embed_dims={embed_dims}, num_heads={num_heads}: embed_dims must be a multiple of 4 '
                            'and of num_heads; use values such as 768 and 12')
        self.with_cp = with_cp
        self.stage_depth = depth // 4
        self.out_channels = (embed_dims,) * 3
        self.out_strides = (patch_size // 2, patch_size, patch_size * 2)
        self.grid = _PRETRAIN_SIZE // patch_size
        self.patch_embed: PatchEmbed | ConvStem
        if stem == 'conv':
            self.patch_embed = ConvStem(embed_dims, patch_size)
        else:
            self.patch_embed = PatchEmbed(_PRETRAIN_SIZE, patch_size, 3, embed_dims, strict_img_size=False,
                                          flatten=False)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
        table = sincos_position_embedding(embed_dims, (self.grid, self.grid))
        self.pos_embed = nn.Parameter(table[None], requires_grad=False)
        self.blocks = nn.ModuleList(Block(embed_dims, num_heads, mlp_ratio, qkv_bias=True, norm_layer=nn.LayerNorm)
                                    for _ in range(depth))
        # MAE's last norm is part of the checkpoint but not used, so it has no gradient
        self.norm = nn.LayerNorm(embed_dims).requires_grad_(False)
        self._reset_parameters()
        self._positions: dict[tuple, Tensor] = {}

    def _reset_parameters(self) -> None:
        weight = self.patch_embed.proj.weight
        nn.init.xavier_uniform_(weight.view(weight.shape[0], -1))
        nn.init.normal_(self.cls_token, std=0.02)
        for block in self.blocks:
            for module in block.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
                    nn.init.zeros_(module.bias)

    def adapt_pretrained(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Adapt pre-trained weights to this model; called when weights are loaded into the backbone alone.

        Position embeddings of another grid are resized. If they are missing, MAE's fixed ones are used. If the last
        norm is missing (MAE's fine-tuned files have ``fc_norm`` instead), this model's own is kept, which is unused.

        Returns:
            The weights, and a remark for each change that affects the features.
        """
        weights, remarks = dict(weights), []
        own = self.state_dict()
        weights |= {name: own[name] for name in ('norm.weight', 'norm.bias') if name not in weights}
        if 'pos_embed' not in weights:
            weights['pos_embed'] = own['pos_embed']
            remarks.append('it has no pos_embed: the sine-cosine embedding is used')
        table = weights['pos_embed']
        side = math.isqrt(max(table.shape[1] - 1, 0)) if table.ndim == 3 else 0
        if side != self.grid and side > 0 and table.shape == (1, 1 + side ** 2, own['pos_embed'].shape[2]):
            weights['pos_embed'] = resample_abs_pos_embed(table, [self.grid, self.grid])
            remarks.append(f'pos_embed is resized from {side}×{side} to {self.grid}×{self.grid} positions')
        return weights, remarks

    def lr_depth(self, name: str) -> int:
        """Return the depth of a parameter for layer-wise learning rate decay, see :func:`blocks_after`."""
        return blocks_after(name, len(self.blocks))

    def train(self, mode: bool = True) -> ViT:
        self._positions.clear()
        return super().train(mode)

    def _position(self, height: int, width: int) -> Tensor:
        """Resize the position embeddings of the patches to a grid: (1, C, height, width); cached per size.

        Not cached while a training step is captured as a CUDA graph, which could outlive the cached tensor, and in an
        export, where the size may be symbolic.
        """
        if torch.compiler.is_exporting():
            return self._resized_position(height, width)
        if self.training and self.pos_embed.is_cuda and torch.cuda.is_current_stream_capturing():
            return self._resized_position(height, width)
        key = (height, width, self.pos_embed.device, self.pos_embed.dtype, self.pos_embed._version)
        if key not in self._positions:
            self._positions[key] = self._resized_position(height, width)
        return self._positions[key]

    def _resized_position(self, height: int, width: int) -> Tensor:
        table = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (self.grid, self.grid))
        return F.interpolate(table, (height, width), mode='bicubic', align_corners=False)

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        """Compute three maps, for P = 16 of strides 8, 16 and 32.

        Args:
            x: images (B, 3, H, W), H and W multiples of 2·P.

        Returns:
            (B, C, H/8, W/8), (B, C, H/16, W/16) and (B, C, H/32, W/32).
        """
        stem = self.patch_embed
        x, skip = stem(x) if isinstance(stem, ConvStem) else (embed_patches(stem, x), None)
        height, width = x.shape[-2:]
        x = (x + self._position(height, width)).flatten(2).transpose(1, 2)  # (B, N, C)
        cls_token = self.cls_token + self.pos_embed[:, :1]  # (1, 1, C)
        if can_fuse(self.blocks, x):
            stages = fused_stages(list(self.blocks), x, cls_token.flatten(), self.stage_depth,
                                  torch.get_autocast_dtype('cuda'))
        else:
            stages = self._stages(x, cls_token)
        half, third, last = (stage.transpose(1, 2).unflatten(2, (height, width)) for stage in stages)
        finest, coarsest = resize(half, 2), resize(last, 0.5)
        if not x.is_cuda:  # on the CPU, group norm is fifty times slower on channels-last maps, which these are
            finest, third, coarsest = finest.contiguous(), third.contiguous(), coarsest.contiguous()
        return finest if skip is None else finest + skip, third, coarsest

    def _stages(self, x: Tensor, cls_token: Tensor) -> list[Tensor]:
        """Apply the blocks to patch tokens (B, N, C); return those after each stage but the first.

        :func:`~mmdet.models.layers.fused_blocks.fused_stages` computes the same faster where no gradient is needed.
        """
        stages = []
        for index, block in enumerate(self.blocks):
            if index % self.stage_depth == 0:
                x = torch.cat([cls_token.to(x.dtype).expand(len(x), -1, -1), x], dim=1)  # (B, 1 + N, C)
            x = checkpoint(block, x, use_reentrant=False) if self.with_cp and self.training else block(x)
            if (index + 1) % self.stage_depth == 0:
                x = x[:, 1:]
                stages.append(x)
        return stages[1:]
