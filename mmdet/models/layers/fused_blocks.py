"""Transformer blocks of a plain ViT for inference under autocast, with fused residual additions and layer norms.

Called by the plain ViT instead of its blocks one by one; the weights are those of the blocks.

Symbols: B images, N patches, C channels.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from mmdet.ops.residual_norm import add_layer_norm, layer_norm, uses_kernel


def can_fuse(blocks: Iterable[nn.Module], x: Tensor) -> bool:
    """Return whether :func:`fused_stages` applies to tokens (B, N, C).

    That is without gradients, under autocast to half precision on a GPU, for blocks that add the outputs of attention
    and MLP unchanged and whose modules have no hooks, which would not be called.
    """
    return (torch.is_autocast_enabled('cuda') and uses_kernel(x, torch.get_autocast_dtype('cuda'))
            and all(_adds_unchanged(block) for block in blocks))


def _adds_unchanged(block: nn.Module) -> bool:
    return (isinstance(block, Block) and all(isinstance(norm, nn.LayerNorm) for norm in (block.norm1, block.norm2))
            and all(isinstance(part, nn.Identity) for part in (block.ls1, block.ls2))
            and (not block.training or all(isinstance(part, nn.Identity)
                                           for part in (block.drop_path1, block.drop_path2)))
            and not any(part._forward_hooks or part._forward_pre_hooks for part in (block, block.norm1, block.norm2)))


def fused_stages(blocks: Sequence[Any], x: Tensor, cls_token: Tensor, stage_depth: int,
                 dtype: torch.dtype) -> list[Tensor]:
    """Apply the blocks, before each stage of which the class token is reset.

    Args:
        blocks: all blocks of the ViT, timm's.
        x: patch tokens (B, N, C), float32, as are all residuals.
        cls_token: (C,), the initial class token.
        stage_depth: number of blocks of a stage.
        dtype: of the inputs of the linear layers, that of autocast.

    Returns:
        The patch tokens (B, N, C) after each stage but the first, converted to ``dtype``. Before, they are those of
        the blocks applied one by one, up to the last digit of the norms.
    """
    x = torch.cat([cls_token.to(x.dtype).expand(len(x), 1, -1), x], dim=1)  # (B, 1 + N, C)
    normed = layer_norm(x, blocks[0].norm1, dtype)
    stages = []
    for index, block in enumerate(blocks):
        x, normed = add_layer_norm(x, block.attn(normed), block.norm2)
        branch = block.mlp(normed)
        if index + 1 == len(blocks):  # only the converted patches are used
            out = torch.empty_like(branch[:, 1:], dtype=dtype)
            stages.append(torch.add(x[:, 1:], branch[:, 1:], out=out))
            break
        ends_stage = (index + 1) % stage_depth == 0
        x, normed = add_layer_norm(x, branch, blocks[index + 1].norm1, cls_token if ends_stage else None)
        if ends_stage and index >= stage_depth:
            stages.append(x[:, 1:].to(dtype))
    return stages
