"""Access to the published implementation's numbers in ``tests/data/golden``, for the tests."""
from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import nn

from mmdet.structures import DetDataSample, TrackDataSample

GOLDEN = Path(__file__).resolve().parents[1] / 'data' / 'golden'


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f'golden_{name}', GOLDEN / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def golden_json(name: str) -> dict | list:
    """The content of a golden JSON file."""
    return json.loads((GOLDEN / name).read_text())


def golden_npz(name: str) -> dict[str, np.ndarray]:
    """The arrays of a golden npz file."""
    with np.load(GOLDEN / name) as data:
        return dict(data)


def fill_golden(model: nn.Module) -> nn.Module:
    """Give a model the golden weights, a function of each tensor's name and shape."""
    return _module('weights').fill(model)


def golden_tensor(name: str, shape: tuple[int, ...], salt: int = 0) -> np.ndarray:
    """The golden values of the tensor of that name."""
    return _module('weights').golden_tensor(name, shape, salt)


def relative_error(value: torch.Tensor, expected: np.ndarray) -> float:
    """Norm of the difference over the norm of what is expected."""
    expected = torch.as_tensor(expected).double()
    return float((value.detach().cpu().double() - expected).norm() / expected.norm())


def golden_pairs(seed: int, height: int = 192, width: int = 320, batch: int = 2, num_classes: int = 6,
                 device: str = 'cpu') -> tuple[torch.Tensor, list[TrackDataSample]]:
    """The golden training scene as the model takes it: inputs (batch, 2, 3, height, width), clips with ground truth."""
    scene = _module('scene').scene(seed, height, width, batch, num_classes)
    clips = []
    for i, positions in enumerate(scene['gt_instance_ids']):
        num_ref = len(scene['ref_bboxes'][i])
        # objects of the reference have ids 1, 2, ...; those only in the key frame ids above 100
        ids = [int(position) or 100 + row for row, position in enumerate(positions)]
        key = InstanceData(bboxes=torch.tensor(scene['gt_bboxes'][i]), labels=torch.tensor(scene['gt_labels'][i]) - 1,
                           masks=torch.tensor(scene['gt_masks'][i]), instances_id=torch.tensor(ids))
        reference = InstanceData(bboxes=torch.tensor(scene['ref_bboxes'][i]),
                                 labels=torch.zeros(num_ref, dtype=torch.long),
                                 masks=torch.zeros(num_ref, height, width, dtype=torch.uint8),
                                 instances_id=torch.arange(1, num_ref + 1))
        clips.append(clip_of([DetDataSample(gt_instances=frame.to(device)) for frame in (key, reference)]))
    return torch.stack([torch.tensor(scene['img']), torch.tensor(scene['ref_img'])], dim=1).to(device), clips


def golden_video(rng: np.random.Generator, length: int = 5,
                 device: str = 'cpu') -> tuple[torch.Tensor, TrackDataSample]:
    """The next golden video: inputs (1, length, 3, 192, 320) and its clip; original size 288×480, scale 2/3."""
    base, drift = (rng.standard_normal((1, 3, 192, 320)).astype(np.float32) for _ in range(2))
    frames = np.concatenate([base + .35 * index * drift for index in range(length)])
    samples = [DetDataSample(metainfo=dict(frame_id=index, scale_factor=2 / 3, ori_shape=(288, 480),
                                           img_shape=(192, 320)))
               for index in range(length)]
    return torch.tensor(frames, device=device)[None], clip_of(samples)


def clip_of(frames: list[DetDataSample]) -> TrackDataSample:
    """A clip of the frames given."""
    clip = TrackDataSample()
    clip.video_data_samples = frames
    return clip
