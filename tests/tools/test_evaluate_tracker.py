"""Trackers on noisy annotations: id switches and association accuracy in closed form, the noise, the table."""
import json

import numpy as np
import pytest
import torch
import torchvision
from mmengine.structures import InstanceData

from mmdet.apis import load_config
from mmdet.models.backbones import TorchvisionBackbone
from tools.analysis_tools.evaluate_tracker import COMMON, VARIANTS, FoundVideo, association, main, spread
from tools.analysis_tools.measures.noisy_detections import LayeredFrame, Noise, NoisyDetector


class GivenIds:
    """A tracker that gives the ids it was told, frame by frame."""

    def __init__(self, *ids):
        self.ids = ids

    def new_state(self):
        return iter(self.ids)

    def track(self, instances, state):
        instances.instances_id = torch.tensor(next(state), dtype=torch.long)
        return instances


def video_of(*owners) -> FoundVideo:
    return FoundVideo(1, [(InstanceData(scores=torch.ones(len(frame))), list(frame)) for frame in owners])


@pytest.mark.parametrize(('row', 'config'), [
    ('overlap + class + appearance', 'maskrcnn_r50_fpn_coco'), ('as published for MemCNP', 'memcnp_toy_textured'),
    ('overlap + class + mean appearance + motion', 'memcnp_toy_shapes')])
def test_a_row_has_the_constants_of_the_config_that_it_stands_for(row, config):
    tracker = dict(load_config(config).model.tracker)
    assert tracker.pop('type') == 'AssociationTracker'
    assert dict(assignment='claims', new_logit=0.0) | tracker == COMMON | VARIANTS[row]


@pytest.mark.parametrize(('owners', 'ids', 'switches', 'accuracy', 'why'), [
    ([[0, 1], [0, 1]], [[5, 6], [5, 6]], 0, 1, 'perfect'),
    ([[0], [0], [0], [0]], [[1], [1], [2], [2]], 1, 0.5, 'half of the object with each id'),
    ([[0, 1], [0, 1]], [[1, 2], [2, 1]], 2, 1 / 3, 'exchanged: 1 of 3 detections of object or id agree'),
    ([[0], [], [0]], [[1], [], [1]], 0, 1, 'found again'),
    ([[0], [1]], [[1], [1]], 0, 0.5, 'two objects with one id are no switch'),
    ([[0, -1], [0]], [[1, 2], [1]], 0, 1, 'the second detection of an object with an id of its own'),
    # id 2: one of the object's two detections; id 1: one right, one of the second detection, one missed
    ([[0, -1], [0]], [[2, 1], [1]], 1, (1 / 2 + 1 / 3) / 2, 'the id stays with the second detection')])
def test_switches_and_accuracy_in_closed_form(owners, ids, switches, accuracy, why):
    found, assa = association([video_of(*owners)], GivenIds(*ids))
    assert assa == pytest.approx(accuracy), why
    assert found == switches


def detector(noise: Noise) -> NoisyDetector:
    backbone = TorchvisionBackbone('mobilenet_v2', out_indices=(1, 2, 3))
    return NoisyDetector(backbone, *backbone.normalization, num_classes=3, noise=noise)


def frame() -> LayeredFrame:
    masks = np.zeros((2, 64, 96), np.uint8)
    masks[0, 5:40, 5:30] = masks[1, 20:60, 50:90] = 1
    return LayeredFrame(np.zeros((64, 96, 3), np.uint8), [3, 7], np.array([0, 2]), masks)


def test_without_noise_detections_are_the_annotations():
    quiet = detector(Noise(jitter=0, drop=0, gap=0, double=0, wrong_label=0))
    (found, owners), = quiet([frame()], np.random.default_rng(0))
    order = [owners.index(3), owners.index(7)]
    assert found.bboxes[order].tolist() == [[5, 5, 30, 40], [50, 20, 90, 60]]
    assert found.labels[order].tolist() == [0, 2]
    assert found.embeddings.shape == (2, 32 + 96 + 1280)
    torch.testing.assert_close(found.embeddings.norm(dim=1), torch.full((2,), 3 ** 0.5))
    assert (found.scores.diff() <= 0).all()


def test_noise_drops_and_doubles():
    drops = detector(Noise(drop=1))
    assert [len(found) for found, _ in drops([frame()] * 2, np.random.default_rng(0))] == [0, 0]
    doubles = detector(Noise(jitter=0.3, drop=0, gap=0, double=1, wrong_label=0))
    owners = [owner for _, owners in doubles([frame()] * 20, np.random.default_rng(0)) for owner in owners]
    assert owners.count(3) + owners.count(-4) > 20  # some doubles survive the suppression, not all
    assert owners.count(-4) < 20


def test_table_of_a_set(toy_root, tmp_path, capsys):
    torch.save(torchvision.models.mobilenet_v2().state_dict(), tmp_path / 'random.pth')
    assert main([str(toy_root), '--ann_file', 'annotations/instances_valid.json', '--img_path', 'valid_images',
                 '--weights', str(tmp_path / 'random.pth'), '--layers', '2', '--seeds', '0', '1', '--out',
                 str(tmp_path / 'numbers.json')]) == 0
    said = capsys.readouterr().out
    assert '| tracker | id switches | AssA of detections | AP |' in said
    numbers = json.loads((tmp_path / 'numbers.json').read_text())
    assert len(numbers) >= 4 and all(len(runs) == 2 for runs in numbers.values())
    for name, runs in numbers.items():
        assert f'| {name} | {spread([run["id switches"] for run in runs])} |' in said


def test_intervals():
    assert spread([2.0]) == '2.0'
    assert spread([1.0, 2.0, 3.0]) == '2.0 ± 2.5'  # 4.30 · 1 / √3
