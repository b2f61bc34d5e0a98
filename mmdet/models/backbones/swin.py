"""Swin transformer as a feature extractor, with the parameter names of the original's detection code.

Built from a config by name; called by the detectors in training and testing. ``mmdet.checkpoint`` converts weights by
:meth:`SwinTransformer.convert_weights`, so that files of the original and of timm can be loaded.
"""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseModule
from timm.layers import PatchEmbed, resize_rel_pos_bias_table
from timm.models.swin_transformer import PatchMerging
from torch import Tensor, nn

from mmdet.errors import UserError, counted
from mmdet.models.layers.swin_blocks import SwinStage, init_linear
from mmdet.registry import MODELS

_TABLE = 'relative_position_bias_table'
# buffers stored in old files; this implementation computes them
_STORED_CONSTANTS = ('relative_position_index', 'attn_mask')


@MODELS.register_module()
class SwinTransformer(BaseModule):
    """Swin-T/S/B/L with outputs after its stages, at strides 4, 8, 16 and 32, each after its own layer norm.

    | | embed_dims | depths | num_heads |
    |---|---|---|---|
    | T | 96 | 2, 2, 6, 2 | 3, 6, 12, 24 |
    | S | 96 | 2, 2, 18, 2 | 3, 6, 12, 24 |
    | B | 128 | 2, 2, 18, 2 | 4, 8, 16, 32 |
    | L | 192 | 2, 2, 18, 2 | 6, 12, 24, 48 |

    Args:
        embed_dims: channels of the first stage; each further one has twice as many.
        depths: blocks of each stage.
        num_heads: attention heads of each stage.
        window_size: side of a window in tokens: 7, or 12 for weights trained at 384×384.
        mlp_ratio: hidden channels of a block's MLP over its channels.
        drop_path_rate: stochastic depth: the drop probability grows linearly from 0 in the first block to this value
            in the last.
        out_indices: stages whose outputs are returned, 0..3.
        frozen_stages: −1 trains everything, 0 freezes the patch embedding, k also the first k stages.
        with_cp: recompute block activations in the backward pass instead of keeping them (less memory, more time).
        init_cfg: mmengine's; ``dict(type='Pretrained', checkpoint=...)`` loads the original's or timm's file.
    """

    def __init__(self, embed_dims: int = 96, depths: Sequence[int] = (2, 2, 6, 2),
                 num_heads: Sequence[int] = (3, 6, 12, 24), window_size: int = 7, mlp_ratio: float = 4.0,
                 drop_path_rate: float = 0.2, out_indices: Sequence[int] = (0, 1, 2, 3), frozen_stages: int = -1,
                 with_cp: bool = False, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if len(depths) != len(num_heads):
            raise UserError(f'SwinTransformer has {counted(len(depths), "depth")} and {len(num_heads)} num_heads; set '
                            'one value of each per stage')
        if not out_indices or not all(0 <= index < len(depths) for index in out_indices):
            raise UserError(f'SwinTransformer out_indices={tuple(out_indices)} must be from 0 to {len(depths) - 1}')
        if not -1 <= frozen_stages <= len(depths):
            raise UserError(f'SwinTransformer frozen_stages={frozen_stages} must be from -1 to {len(depths)}')
        self.out_indices = tuple(sorted(out_indices))
        self.out_channels = tuple(embed_dims * 2 ** index for index in self.out_indices)
        self.out_strides = tuple(4 * 2 ** index for index in self.out_indices)
        self.frozen_stages = frozen_stages
        self.patch_embed = PatchEmbed(None, 4, 3, embed_dims, norm_layer=nn.LayerNorm, output_fmt='NHWC',
                                      strict_img_size=False, dynamic_img_pad=True)
        rates = torch.linspace(0, drop_path_rate, sum(depths), device='cpu').split(list(depths))
        self.layers = nn.ModuleList()
        for index, (heads, stage_rates) in enumerate(zip(num_heads, rates)):
            channels = embed_dims * 2 ** index
            if channels % heads:
                raise UserError(f'SwinTransformer stage {index}: {channels} channels are not a multiple of the number '
                                f'of heads, {heads}; choose other num_heads')
            stage = SwinStage(channels, heads, window_size, stage_rates.tolist(), mlp_ratio, with_cp)
            if index + 1 < len(depths):
                stage.downsample = PatchMerging(channels)
            self.layers.append(stage)
            if index in self.out_indices:
                self.add_module(f'norm{index}', nn.LayerNorm(channels))
        init_linear(self)
        for module in self._frozen():
            module.requires_grad_(False)

    def _frozen(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        norms = [getattr(self, f'norm{index}') for index in self.out_indices if index < self.frozen_stages]
        return [self.patch_embed, *self.layers[:self.frozen_stages], *norms]

    def train(self, mode: bool = True) -> SwinTransformer:
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        """Compute maps (B, C·2^i, ⌈H/(4·2^i)⌉, ⌈W/(4·2^i)⌉) of images (B, 3, H, W) for i in ``out_indices``."""
        x = self.patch_embed(x)
        outputs = []
        for index, stage in enumerate(self.layers[:self.out_indices[-1] + 1]):
            assert isinstance(stage, SwinStage)
            x = stage(x)
            if index in self.out_indices:
                outputs.append(getattr(self, f'norm{index}')(x).permute(0, 3, 1, 2).contiguous())
            if index < self.out_indices[-1]:
                x = stage.downsample(x)
        return tuple(outputs)

    def convert_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert weights of this backbone from the original's or timm's names to its own.

        Stored buffers are dropped. timm's patch merging moves from the start of a stage to the end of the previous one.
        The final norm of an ImageNet model is dropped, and this model's output norms, which such files lack, keep their
        values. Relative position biases of another window size are resized.
        """
        timm_order = not any(name.startswith('layers.0.downsample.') for name in weights)
        own = self.state_dict()
        converted = {}
        for name, value in weights.items():
            if name.endswith(_STORED_CONSTANTS) or name in ('norm.weight', 'norm.bias'):
                continue
            if timm_order:
                name = re.sub(r'^layers\.(\d+)\.down', lambda found: f'layers.{int(found[1]) - 1}.down', name)
            if name.endswith(_TABLE) and name in own and value.shape != own[name].shape:
                window = self.get_submodule(name.removesuffix(f'.{_TABLE}')).window_size
                value = resize_rel_pos_bias_table(value, window, own[name].shape)
            converted[name] = value
        if 'norm.weight' in weights:
            converted |= {name: value.clone() for name, value in own.items()
                          if re.match(r'norm\d+\.', name) and name not in converted}
        return converted
