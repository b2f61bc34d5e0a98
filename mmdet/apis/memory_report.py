"""Statistics and figures of the reads of a MemCNP memory. Called by tools/analysis_tools/memory_report.py."""
from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from tqdm import tqdm

from mmdet.apis.config import require
from mmdet.apis.inference import init_model
from mmdet.errors import UserError
from mmdet.files import atomic_open
from mmdet.models.memory import CNPMemory, ReadStatistics, unit_sets
from mmdet.registry import DATASETS
from mmdet.visualization.memory_pictures import picture_of_maps, picture_of_units


@dataclass
class MemoryReport:
    """Result of :func:`report_memory`.

    Attributes:
        strides: strides of the levels in pixels.
        units: M, the number of units that a level reads.
        norms: (sets, M) norms of the units' feature parts, for the set that all levels share or the set of each level;
            units that win no location decay towards 0, unless the memory's ``decay`` is ``'counted'``.
        reads: statistics of each level, and maps of the first frames.
        images: inputs of the network for these frames, (h, w, 3) uint8 RGB.
    """

    strides: tuple[int, ...]
    units: int
    norms: np.ndarray
    reads: ReadStatistics
    images: list[np.ndarray]

    def to_json(self) -> dict:
        """Return all numbers: for each level the summary, and wins and weights of the units per location.

        The norms of shared units are at the top level, those of the units of a level in its entry.
        """
        levels = [dict(stride=stride, locations=level.locations, **level.summary(),
                       wins=(level.wins / level.locations).tolist(), weights=(level.weights / level.locations).tolist())
                  for stride, level in zip(self.strides, self.reads.levels)]
        if len(self.norms) == 1:
            return dict(units=self.units, norms=self.norms[0].tolist(), levels=levels)
        for level, norms in zip(levels, self.norms):
            level['norms'] = norms.tolist()
        return dict(units=self.units, levels=levels)


def report_memory(cfg: Config, checkpoint: str | os.PathLike, frames: int = 32, maps: int = 4,
                  device: str | None = None) -> MemoryReport:
    """Run the network on frames of the config's test set and record the reads of the memory.

    Args:
        cfg: result of :func:`mmdet.apis.load_config`; its ``bbox_head`` must have a memory.
        checkpoint: trained weights.
        frames: maximum number of frames, which are evenly spaced over the test set.
        maps: number of frames whose maps are kept, the first ones.
        device: device of the model; None: the GPU if there is one.

    Raises:
        UserError: the model has no memory, or the config, the checkpoint or the data are invalid.
    """
    require(cfg, 'test_dataloader')
    model: Any = init_model(cfg, checkpoint, device)
    head: Any = getattr(model, 'bbox_head', None)
    memory = getattr(head, 'mem', None)
    if not isinstance(memory, CNPMemory):
        raise UserError(f'{cfg.filename}: its model has no memory; give a config of MemCNP with num_units above 0')
    dataset = DATASETS.build({**cfg.test_dataloader.dataset, 'clip_len': 1})
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(frames, len(dataset))).astype(int))
    reads = ReadStatistics(keep_maps=maps)
    images: list[np.ndarray] = []
    handle = memory.register_forward_hook(reads)
    try:
        for index in tqdm(chosen.tolist(), unit=' frames'):
            item = dataset[index]
            batch = model.data_preprocessor(pseudo_collate([item]), False)
            with torch.no_grad():
                model(batch['inputs'], mode='tensor')
            if len(images) < maps:
                images.append(item['inputs'][0].permute(1, 2, 0).flip(-1).numpy())
    finally:
        handle.remove()
    norms = unit_sets(memory).detach()[..., :-4].norm(dim=-1).cpu().numpy()
    return MemoryReport(head.strides, memory.num_units, norms, reads, images)


def write_memory_report(report: MemoryReport, out: Path) -> list[Path]:
    """Write ``memory.json``, ``units.png`` and ``maps.png`` to a folder; return their paths."""
    paths = [out / name for name in ('memory.json', 'units.png', 'maps.png')]
    numbers = report.to_json()
    with atomic_open(paths[0], 'w') as file:
        json.dump(numbers, file, indent=1)
    figures = [picture_of_units([(f'stride {level["stride"]}', np.array(level['wins']), np.array(level['weights']))
                                 for level in numbers['levels']])]
    if report.images:
        figures.append(picture_of_maps(report.images, [maps[0] for maps in report.reads.maps], report.units))
    for path, figure in zip(paths[1:], figures):
        with atomic_open(path) as file:
            figure.savefig(file, format='png', dpi=120)
    return paths[:1 + len(figures)]
