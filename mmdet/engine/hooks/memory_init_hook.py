"""Initialise the units of a memory from features before training. Registered by :class:`mmdet.engine.VideoRunner`."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor
from tqdm import tqdm

from mmdet.arguments import checked_count
from mmdet.datasets.samplers import SeededIndex
from mmdet.models.memory.unit_clusters import initialize_units
from mmdet.registry import HOOKS


@HOOKS.register_module()
class MemoryInitHook(Hook):
    """Sets the units of a memory with ``init_units='kmeans'`` to clusters of what the first images would write to it.

    Runs the network once, before the first step, over random items of the training set, which the processes share. No
    random number of the training is used. A memory whose units were trained, in a resumed or a loaded checkpoint, is
    left as it is.

    Args:
        images: number of images of all processes together; at least one per process is used.
        samples: maximum number of locations of an image and level, chosen at random.

    Raises:
        UserError: a number is not a whole number of at least 1.
    """

    def __init__(self, images: int = 64, samples: int = 256) -> None:
        self.images = checked_count('MemoryInitHook images', images, least=1)
        self.samples = checked_count('MemoryInitHook samples', samples, least=1)

    def before_train(self, runner: Runner) -> None:
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        memory = getattr(getattr(model, 'bbox_head', None), 'mem', None)
        if memory is None or not memory.needs_values:
            return
        levels = self._values(model, runner.train_dataloader, runner.seed)
        initialize_units(memory, levels, runner.seed)
        runner.logger.info(f'The units of the memory are clusters of {sum(map(len, levels))} locations of this process')

    @torch.no_grad()
    def _values(self, model: Any, loader: Any, seed: int) -> list[Tensor]:
        """Return the finite values (n_l, C + 4) of each level that this process's images would write."""
        rank, processes = get_dist_info()
        rng = np.random.default_rng((seed, rank))
        order = np.random.default_rng(seed).permutation(len(loader.dataset))[rank:self.images:processes]
        order = order if len(order) else np.array([0])  # fewer images than processes
        found: list[list[Tensor]] = []
        training = model.training
        model.eval()
        try:
            for index in tqdm(order.tolist(), desc='memory', unit=' images', leave=False, disable=rank > 0):
                data = loader.collate_fn([loader.dataset[SeededIndex(index, (seed, index))]])
                batch = model.data_preprocessor(data, False)
                feats = model.extract_feat(batch['inputs'][:, 0])
                levels = model.bbox_head.written_values(feats, [clip[0].gt_instances for clip in batch['data_samples']])
                # with weights that are not finite, the check of the losses stops the training
                levels = [level[level.isfinite().all(dim=1)] for level in levels]
                found.append([level[torch.from_numpy(rng.permutation(len(level))[:self.samples]).to(level.device)]
                              for level in levels])
        finally:
            model.train(training)
        return [torch.cat(level) for level in zip(*found)]
