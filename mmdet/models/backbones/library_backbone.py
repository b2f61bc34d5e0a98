"""Base class of the backbones of timm and torchvision: pre-trained weights, frozen stages, batch norms in eval mode.

The subclasses :class:`~mmdet.models.backbones.TimmBackbone` and
:class:`~mmdet.models.backbones.TorchvisionBackbone` build and run the network.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet.checkpoint import load_backbone_weights
from mmdet.errors import UserError

STAGE_STRIDES = (4, 8, 16, 32)
COARSEST = STAGE_STRIDES[-1]
_PREFIX = 'net.'  # prefix of this module's parameter names; the library's own files do not have it


class LibraryBackbone(BaseModule, ABC):
    """A classification network of a library, without its classifier, as a feature extractor.

    Subclasses set ``net`` and call :meth:`_finish`. Public attributes:

    - ``out_channels``, ``out_strides``: of the returned maps;
    - ``normalization``: mean and standard deviation of RGB values (0–255) that the published weights expect.

    Args:
        name: name of the network in the library.
        pretrained: ``True`` loads the library's published weights, which are downloaded into its cache when weights
            are initialised (not when a trained checkpoint is tested). A string is equivalent to
            ``init_cfg=dict(type='Pretrained', checkpoint=...)``.
        frozen_stages: −1 trains everything, 0 freezes the stem, k also stages 1 to k.
        norm_eval: keep every batch norm in eval mode (running statistics), also in training.
        with_cp: recompute activations in the backward pass instead of keeping them (less memory, more time).
        init_cfg: mmengine's.

    Raises:
        UserError: if both ``pretrained`` and ``init_cfg`` are given, or ``frozen_stages`` is out of range.
    """

    is_init: bool  # mmengine's
    net: nn.Module
    out_channels: tuple[int, ...]
    out_strides: tuple[int, ...]
    normalization: tuple[tuple[float, ...], tuple[float, ...]]

    def __init__(self, name: str, pretrained: bool | str, frozen_stages: int, norm_eval: bool, with_cp: bool,
                 init_cfg: dict | None) -> None:
        if pretrained and init_cfg:
            raise UserError(f'{type(self).__name__} {name}: pretrained={pretrained!r} and init_cfg both specify '
                            'initial weights; set one of them')
        if isinstance(pretrained, str):
            init_cfg = dict(type='Pretrained', checkpoint=pretrained)
        if not -1 <= frozen_stages <= len(STAGE_STRIDES):
            raise UserError(f'{type(self).__name__} {name}: frozen_stages={frozen_stages} must be from -1 to '
                            f'{len(STAGE_STRIDES)}')
        super().__init__(init_cfg)
        self.name, self.pretrained = name, pretrained
        self.frozen_stages, self.norm_eval, self.with_cp = frozen_stages, norm_eval, with_cp
        self._unused: frozenset[str] = frozenset()

    def _finish(self, complete: Mapping[str, Tensor], stage_of: Callable[[str], int]) -> None:
        """Freeze stages, and record which weights of the library's files this network does not use.

        Args:
            complete: state dict of the network before the classifier was removed.
            stage_of: returns the stage of a parameter of ``net`` by name: 1 to 4, or 0 for the stem.
        """
        self._unused = frozenset(complete) - frozenset(self.net.state_dict())
        for name, parameter in self.net.named_parameters():
            if stage_of(name) <= self.frozen_stages:
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> LibraryBackbone:
        """Keep frozen parts, and with ``norm_eval`` all batch norms, in eval mode."""
        super().train(mode)
        for module in self.net.modules():
            parameters = list(module.parameters())
            frozen = bool(parameters) and self.frozen_stages >= 0 and not any(p.requires_grad for p in parameters)
            if frozen or (self.norm_eval and isinstance(module, _BatchNorm)):
                module.eval()
        return self

    def init_weights(self) -> None:
        """Load the weights given by ``pretrained`` or ``init_cfg``; without either, keep random weights."""
        if self.pretrained is not True:
            super().init_weights()
        elif not self.is_init:
            try:
                weights = self.published_weights()
            except (OSError, RuntimeError, ValueError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0][:150]
                raise UserError(f'{type(self).__name__} {self.name}: its published weights could not be downloaded '
                                f'({reason}); set a file (model.backbone.pretrained=FILE) or start from random '
                                'weights (model.backbone.pretrained=False)') from None
            load_backbone_weights(self, weights, f'the published weights of {self.name}')
            self.is_init = True

    @abstractmethod
    def published_weights(self) -> dict[str, Tensor]:
        """Return the library's own weights for the complete network, through the library's cache."""

    def convert_library_names(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert weights of a file not written by this project to the library's current names."""
        return weights

    def convert_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert the library's names to this module's (see :func:`mmdet.checkpoint.load_weights`).

        Weights of the classifier and of unused stages are dropped.
        """
        own = {name: value for name, value in weights.items() if name.startswith(_PREFIX)}
        theirs = {name: value for name, value in weights.items() if name not in own}
        if not theirs:
            return own
        return own | {_PREFIX + name: value for name, value in self.convert_library_names(theirs).items()
                      if name not in self._unused}

    def pad(self, x: Tensor, patch_size: int = 1) -> Tensor:
        """Pad with zeros at the bottom and the right to a multiple of 32, then to a multiple of the patch size."""
        height, width = (-(-(-(-side // COARSEST) * COARSEST) // patch_size) * patch_size for side in x.shape[-2:])
        return F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]))

    def cropped(self, maps: Sequence[Tensor], size: Sequence[int]) -> tuple[Tensor, ...]:
        """Crop maps of the padded image to the unpadded ``size`` (H, W): (B, C_i, ⌈H/s_i⌉, ⌈W/s_i⌉)."""
        heights, widths = ([-(-side // stride) for stride in self.out_strides] for side in size)
        return tuple(feat[..., :height, :width].contiguous() for feat, height, width in zip(maps, heights, widths))

    def _check_indices(self, out_indices: Sequence[int], available: Sequence[int]) -> tuple[int, ...]:
        """Return ``out_indices`` in ascending order; raise a UserError unless the network has maps of those stages."""
        chosen = tuple(sorted(out_indices))
        if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(available):
            strides = ', '.join(f'{index} (stride {STAGE_STRIDES[index]})' for index in available) or 'none'
            raise UserError(f'{type(self).__name__} {self.name}: out_indices={tuple(out_indices)}, but the network has '
                            f'only these maps: {strides}')
        return chosen
