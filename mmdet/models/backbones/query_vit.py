"""Plain vision transformer with registers whose last blocks also process query tokens.

EoMT (arXiv 2503.19108) and VidEoMT (arXiv 2602.17807, section 3). Built from a config by name; called by the detector
``VidEoMT``.

Symbols: B images, H×W padded input, P patch size, h×w = H/P × W/P patches, D embedding channels, R registers,
L blocks, N query blocks, G side of the trained grid of positions, Q queries.
"""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmdet.errors import UserError
from mmdet.models.backbones.vit import blocks_after
from mmdet.registry import MODELS


@MODELS.register_module()
class QueryViT(BaseModule):
    """timm's ViT in DINOv2's variant (class token, registers, LayerScale; patches alone have positions), in two parts.

    :meth:`encode` runs the first L − N blocks, each frame on its own; :meth:`query_block` runs one of the last N, whose
    tokens are ``[queries, class token, registers, patches]``. Position embeddings are resized to the size of the input
    (bicubic, antialiased).

    Args:
        embed_dims: D. ViT-S 384, B 768, L 1024.
        depth: L. ViT-S and B 12, L 24.
        num_heads: attention heads; D / 64 in the published models.
        query_blocks: N. ViT-S and B 3, L 4.
        num_registers: R.
        patch_size: P, in pixels.
        image_size: side of the square image whose grid the position table has, P·G, in pixels.
        layer_scale: initial value of LayerScale; 1e-5 for DINOv2's weights, 0.1 or 1 for training from random weights.
        with_cp: recompute block activations in the backward pass instead of keeping them (less memory, more time).
        init_cfg: mmengine's; ``dict(type='Pretrained', checkpoint=...)`` loads a DINOv2 file of timm with four
            registers. Its patch kernel and position embeddings are resized to this model's.

    Raises:
        UserError: if the sizes are inconsistent.
    """

    def __init__(self, embed_dims: int = 384, depth: int = 12, num_heads: int = 6, query_blocks: int = 3,
                 num_registers: int = 4, patch_size: int = 16, image_size: int = 640, layer_scale: float = 1e-5,
                 with_cp: bool = False, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if embed_dims % num_heads:
            raise UserError(f'QueryViT embed_dims={embed_dims} is not a multiple of num_heads={num_heads}; use values '
                            'such as 384 and 6')
        if not 1 <= query_blocks < depth:
            raise UserError(f'QueryViT query_blocks={query_blocks} must be at least 1 and below depth={depth}')
        if image_size % patch_size:
            raise UserError(f'QueryViT image_size={image_size} is not a multiple of patch_size={patch_size}')
        self.embed_dims = embed_dims
        self.query_blocks = query_blocks
        self.patch_size = patch_size
        self.num_prefix = 1 + num_registers
        self.with_cp = with_cp
        self.vit = VisionTransformer(
            img_size=image_size, patch_size=patch_size, num_classes=0, global_pool='', embed_dim=embed_dims,
            depth=depth, num_heads=num_heads, init_values=layer_scale, reg_tokens=num_registers, no_embed_class=True,
            dynamic_img_size=True)

    def encode(self, images: Tensor) -> Tensor:
        """Compute the tokens (B, 1 + R + h·w, D) before the first query block.

        Args:
            images: (B, 3, H, W), H and W multiples of P.
        """
        vit, batch = self.vit, len(images)
        patches = vit.patch_embed(images)  # (B, h, w, D)
        prefix = [token.expand(batch, -1, -1) for token in (vit.cls_token, vit.reg_token) if token is not None]
        tokens = torch.cat([*prefix, patches.flatten(1, 2) + self.positions(patches.shape[1:3])], dim=1)
        for block in list(vit.blocks.children())[:-self.query_blocks]:
            tokens = self._run(block, tokens)
        return tokens

    def positions(self, grid: Sequence[int]) -> Tensor:
        """Resize the position embeddings to a grid (h, w), bicubic and antialiased: (1, h·w, D).

        Computed as two matrix products, since the gradient of PyTorch's resize is not deterministic on a GPU.
        """
        table, trained = cast(Tensor, self.vit.pos_embed), self.vit.patch_embed.grid_size
        if not torch.compiler.is_exporting() and tuple(grid) == tuple(trained):  # symbolic sizes may be equal or not
            return table
        with torch.autocast(table.device.type, enabled=False):
            matrix = _cubic_matrix if torch.compiler.is_exporting() else _resize_matrix
            rows, columns = (matrix(old, new, table.device) for old, new in zip(trained, grid))
            # two einsums of two operands: one of three chooses its order by the sizes if opt_einsum is installed, which
            # fixes symbolic sizes at those of the example
            resized = torch.einsum('yg,gkd->ykd', rows, table[0].unflatten(0, trained).float())
            resized = torch.einsum('xk,ykd->yxd', columns, resized)
        return resized.flatten(0, 1)[None].to(table.dtype)

    def query_block(self, index: int, tokens: Tensor) -> Tensor:
        """Apply query block ``index`` (0 to N − 1) to tokens (B, Q + 1 + R + h·w, D)."""
        return self._run(self.vit.blocks[len(self.vit.blocks) - self.query_blocks + index], tokens)

    def norm(self, tokens: Tensor) -> Tensor:
        """Apply the final LayerNorm."""
        return self.vit.norm(tokens)

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Return (h, w) of images (..., H, W)."""
        return images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size

    def lr_depth(self, name: str) -> int:
        """Return the depth of a parameter for layer-wise learning rate decay, see :func:`blocks_after`."""
        return blocks_after(name.removeprefix('vit.'), len(self.vit.blocks))

    def _run(self, block: torch.nn.Module, tokens: Tensor) -> Tensor:
        if self.with_cp and self.training:
            return checkpoint(block, tokens, use_reentrant=False)
        return block(tokens)

    def adapt_pretrained(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Convert weights of timm's DINOv2 (``vit_*_patch14_reg4_dinov2``) to this module's names and sizes.

        The patch kernel is resized by the pseudo-inverse of the bicubic resize (FlexiViT, arXiv 2212.08013), position
        embeddings bicubically, both antialiased.

        Returns:
            The weights, and one remark for each resized tensor.
        """
        if 'cls_token' not in weights:  # already this module's names
            return dict(weights), []
        weights, remarks = {f'vit.{name}': value for name, value in weights.items()}, []
        kernel, table = 'vit.patch_embed.proj.weight', 'vit.pos_embed'
        if kernel in weights and weights[kernel].shape[-1] != self.patch_size:
            remarks.append(f'the patch kernel is resized from {weights[kernel].shape[-1]} to {self.patch_size} pixels')
            weights[kernel] = resample_patch_embed(weights[kernel], [self.patch_size] * 2)
        grid = self.vit.patch_embed.grid_size
        number = weights[table].shape[1] if table in weights else 0
        if number not in (0, grid[0] * grid[1]) and math.isqrt(number) ** 2 == number:
            remarks.append(f'{number} positions are resized to {grid[0]}x{grid[1]}')
            weights[table] = resample_abs_pos_embed(weights[table], grid, num_prefix_tokens=0)
        return weights, remarks


@torch.no_grad()
def _resize_matrix(old: int, new: int, device: torch.device) -> Tensor:
    """Return the matrix (new, old), float32, of the bicubic antialiased resize along one axis."""
    rows = torch.eye(old, device=device)[None, None]  # an image whose rows are the unit vectors of the axis
    return F.interpolate(rows, (old, new), mode='bicubic', antialias=True, align_corners=False)[0, 0].T


def _cubic_matrix(old: int, new: int, device: torch.device) -> Tensor:
    """Return the same matrix by its formula, for exports, where ``new`` may be symbolic.

    Keys' cubic with a = −1/2, widened by old/new where the grid shrinks; the weights of a row are divided by their sum.
    """
    scale = torch.full((1, 1), float(old), device=device) / new
    wide = scale.clamp(min=1)
    centre = (torch.arange(new, device=device, dtype=torch.float32)[:, None] + 0.5) * scale
    x = ((torch.arange(old, device=device, dtype=torch.float32) + 0.5 - centre) / wide).abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    return weights / weights.sum(1, keepdim=True)
