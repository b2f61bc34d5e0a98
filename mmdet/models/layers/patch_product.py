"""Patch embedding as a matrix product, for inference under autocast; called by the plain ViT.

On a GPU, a convolution with three input channels, whose stride is its kernel's size, is slow in half precision: neither
its input nor its kernel has a layout that fast convolutions use.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from torch import Tensor


def embed_patches(embed: PatchEmbed, images: Tensor) -> Tensor:
    """Return ``embed(images)``, (B, C, h, w), of images (B, 3, H, W), by :func:`patch_product` where that is faster."""
    if (images.is_cuda and torch.is_autocast_enabled('cuda') and not torch.is_grad_enabled()
            and not torch.compiler.is_exporting() and isinstance(embed.norm, torch.nn.Identity)):
        return patch_product(images, embed.proj.weight, embed.proj.bias, torch.get_autocast_dtype('cuda'))
    return embed(images)


def patch_product(images: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Compute a convolution whose stride is its kernel's size as a product of patches and weights.

    Args:
        images: (B, c, H, W), H and W multiples of the sides of the kernel.
        weight: (C, c, P, Q).
        bias: (C,).
        dtype: of the product.

    Returns:
        (B, C, H/P, W/Q) in ``dtype``, channels-last.
    """
    height, width = weight.shape[2:]
    patches = images.unflatten(3, (-1, width)).unflatten(2, (-1, height)).permute(0, 2, 4, 1, 3, 5)
    # (B, h, w, c, P, Q), converted and copied at once
    patches = patches.to(dtype, memory_format=torch.contiguous_format)
    product = F.linear(patches.flatten(3), weight.to(dtype).flatten(1), None if bias is None else bias.to(dtype))
    return product.permute(0, 3, 1, 2)
