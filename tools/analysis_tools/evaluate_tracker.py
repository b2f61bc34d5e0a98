#!/usr/bin/env python
"""Evaluate trackers on noisy ground truth: with box overlap, class and appearance as association cues; see --help.

    python tools/analysis_tools/evaluate_tracker.py data/davis_240p --split valid --weights mobilenet_v2

The detections are annotations with noise, and the embeddings are those of an ImageNet network, so that the table
compares methods of association and not detectors. --tune searches for the constants with the highest association
accuracy; use another split for it than for the table.
"""
from __future__ import annotations

import itertools
import json
import statistics
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from mmdet.apis.cli import CommandParser, positive_int, run_command

if TYPE_CHECKING:
    from mmengine.structures import InstanceData

    from mmdet.datasets.vis_file import VISFile
    from mmdet.models.trackers import AssociationTracker

COMMON: dict[str, Any] = dict(similarity='cosine', assignment='greedy', max_tracks=500)
NO_APPEARANCE = 1e9  # a temperature that makes all similarities 0
# rows of the table: arguments of AssociationTracker in addition to COMMON
VARIANTS: dict[str, dict[str, Any]] = {
    'overlap': dict(match_coeff=(1., 20., 0.), new_logit=2., temperature=NO_APPEARANCE),
    'overlap + class': dict(match_coeff=(1., 10., 3.), new_logit=0.5, temperature=NO_APPEARANCE),
    # of the configs of TorchvisionTracker
    'overlap + class + appearance': dict(match_coeff=(1., 20., 10.), new_logit=6., temperature=0.1),
    'the same, new objects less likely': dict(match_coeff=(1., 20., 10.), new_logit=2., temperature=0.1),
    'overlap + class, rivals dropped': dict(
        match_coeff=(1., 10., 3.), new_logit=0.5, temperature=NO_APPEARANCE, assignment='claims'),
    'overlap + class + appearance, rivals dropped': dict(
        match_coeff=(1., 5., 3.), new_logit=2., temperature=0.2, assignment='claims'),
    'as published for MemCNP': dict(match_coeff=(1., 2., 10.), new_logit=0., temperature=0.1, assignment='claims'),
    # of configs/memcnp_toy_shapes.py
    'overlap + class + mean appearance + motion': dict(match_coeff=(1., 10., 10.), new_logit=4., temperature=0.1,
                                                       embedding_momentum=0.5, motion=True),
}
# values that --tune tries
WEIGHTS_IOU, WEIGHTS_LABEL = (2., 5., 10., 20.), (0., 1., 3., 10.)
TEMPERATURES, NEW_LOGITS = (0.05, 0.1, 0.2), (0.5, 1., 2., 4., 6., 8., 12.)
# number of runs n → 97.5 % quantile of Student's t distribution with n − 1 degrees of freedom
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}


@dataclass
class FoundVideo:
    """The detections of one video and, for each frame, the object numbers of the detections."""

    video_id: int
    frames: list[tuple[InstanceData, list[int]]] = field(default_factory=list)


def simulate(args: Namespace, seed: int) -> tuple[list[FoundVideo], VISFile]:
    """Simulate detections for all videos of the data set; return them with their ground truth."""
    import numpy as np

    from mmdet.datasets.layout import find_annotations, find_images
    from mmdet.datasets.vis_file import VISFile
    from mmdet.files import load_json
    from mmdet.structures.masks import encode_masks
    from mmdet.structures.vis_json import Category, Track, Video, checked, read_annotation_entries
    from tools.analysis_tools.measures.noisy_detections import Noise, NoisyDetector, layered_videos

    path = find_annotations(args.data_root, args.ann_file or f'{args.split}.json')
    folder = find_images(args.data_root, args.img_path or f'{args.split}/JPEGImages')
    entries = list(checked(read_annotation_entries(load_json(path)), str(path)))
    categories = [entry for entry in entries if isinstance(entry, Category)]
    videos = [entry for entry in entries if isinstance(entry, Video)][:args.videos]
    tracks = [entry for entry in entries if isinstance(entry, Track)]
    label_of = {category.id: label for label, category in enumerate(categories)}
    truth = VISFile([dict(id=label + 1, name=category.name) for label, category in enumerate(categories)], str(path))
    backbone = _backbone(args.weights)
    mean, std = backbone.normalization
    detector = NoisyDetector(backbone, mean, std, len(categories), Noise())
    rng = np.random.default_rng(seed)
    simulated = []
    for frames in layered_videos(videos, tracks, label_of, Path(folder), args.layers, args.stride, rng):
        height, width = frames[0].image.shape[:2]
        video_id = truth.add_video([f'{time}.jpg' for time in range(len(frames))], height, width)
        label: dict[int, int] = {}
        rles: dict[int, list] = {}
        for time, frame in enumerate(frames):
            for number, kind, rle in zip(frame.objects, frame.labels.tolist(), encode_masks(frame.masks)):
                label[number] = kind
                rles.setdefault(number, [None] * len(frames))[time] = rle
        for number in sorted(rles):
            truth.add_track(label[number] + 1, rles[number])
        simulated.append(FoundVideo(video_id, list(detector(frames, rng))))
    return simulated, truth


def _backbone(weights: str) -> Any:
    from mmdet.checkpoint import StrictPretrainedInit
    from mmdet.models.backbones import TorchvisionBackbone
    backbone = TorchvisionBackbone('mobilenet_v2', out_indices=(1, 2, 3))
    StrictPretrainedInit(weights)(backbone)
    return backbone


def track(videos: Sequence[FoundVideo], tracker: AssociationTracker) -> Iterator[tuple[FoundVideo, list[Any]]]:
    """Yield each video with the tracked detections of its frames and their object numbers."""
    import torch
    for video in videos:
        state = tracker.new_state()
        results = []
        for found, owners in video.frames:
            given = found.new()
            given.index = torch.arange(len(found))
            kept = tracker.track(given, state)
            results.append((kept, [owners[index] for index in kept.index.tolist()] if len(kept) else []))
        yield video, results


def association(videos: Sequence[FoundVideo], tracker: AssociationTracker) -> tuple[int, float]:
    """Return the number of id switches and the association accuracy, from the known object of each detection.

    An id switch is counted if an object has another id than at its previous detection. The accuracy is AssA of HOTA
    (Luiten et al. 2021): TPA / (TPA + FPA + FNA) of object and id, averaged over the detections.
    """
    switches = 0
    shares: list[float] = []
    for video, results in track(videos, tracker):
        last: dict[int, int] = {}
        pairs: Counter[tuple[int, int]] = Counter()
        ids: Counter[int] = Counter()
        for kept, owners in results:
            for owner, ident in zip(owners, kept.instances_id.tolist()):
                ids[ident] += 1
                if owner >= 0:
                    switches += last.get(owner, ident) != ident
                    last[owner] = ident
                    pairs[owner, ident] += 1
        found = Counter(owner for _, owners in video.frames for owner in owners if owner >= 0)
        for (owner, ident), count in pairs.items():
            shares += [count / (ids[ident] + found[owner] - count)] * count
    return switches, statistics.mean(shares) if shares else 0.


def evaluate(videos: Sequence[FoundVideo], truth: VISFile, tracker: AssociationTracker,
             hota: bool) -> dict[str, float]:
    """Return the id switches, association accuracy, AP and, if ``hota``, HOTA of one tracker."""
    from mmdet.evaluation.functional import evaluate_vis, read_ground_truth, read_predictions
    predictions = []
    for video, results in track(videos, tracker):
        found: dict[int, dict[str, Any]] = {}
        for time, (kept, _) in enumerate(results):
            for row in range(len(kept)):
                entry = found.setdefault(int(kept.instances_id[row]), dict(
                    scores=[], labels=Counter(), segmentations=[None] * len(results)))
                entry['scores'].append(float(kept.scores[row]))
                entry['labels'][int(kept.labels[row])] += 1
                rle = kept.masks[row]
                entry['segmentations'][time] = dict(size=rle['size'], counts=rle['counts'].decode())
        predictions += [dict(video_id=video.video_id, score=statistics.mean(entry['scores']),
                             category_id=entry['labels'].most_common(1)[0][0] + 1,
                             segmentations=entry['segmentations']) for entry in found.values()]
    checked_truth = read_ground_truth(truth.content)
    switches, accuracy = association(videos, tracker)
    numbers = {'id switches': float(switches), 'AssA of detections': 100 * accuracy,
               'AP': 100 * evaluate_vis(checked_truth, predictions).statistics['AP']}
    if hota:
        from mmdet.evaluation.hota import evaluate_hota
        scores = evaluate_hota(checked_truth, read_predictions(predictions, checked_truth))
        numbers['HOTA'] = 100 * scores['HOTA']
    return numbers


def tune(runs: Sequence[Sequence[FoundVideo]]) -> None:
    """Print the constants with the highest association accuracy for each set of cues and each type of assignment."""
    from mmdet.models.trackers import AssociationTracker
    kinds = (('overlap', (0.,), (NO_APPEARANCE,)), ('overlap + class', WEIGHTS_LABEL, (NO_APPEARANCE,)),
             ('overlap + class + appearance', WEIGHTS_LABEL, TEMPERATURES))
    for (name, labels, temperatures), assignment in itertools.product(kinds, ('greedy', 'claims')):
        outcomes = []
        for iou, label, temperature, new in itertools.product(WEIGHTS_IOU, labels, temperatures, NEW_LOGITS):
            arguments = dict(match_coeff=(1., iou, label), new_logit=new, temperature=temperature,
                             assignment=assignment)
            numbers = [association(videos, AssociationTracker(**COMMON | arguments)) for videos in runs]
            outcomes.append((statistics.mean(accuracy for _, accuracy in numbers),
                             statistics.mean(switches for switches, _ in numbers), arguments))
        for accuracy, switches, arguments in sorted(outcomes, key=lambda outcome: -outcome[0])[:3]:
            print(f'{name}: AssA {100 * accuracy:.1f}, {switches:.1f} id switches, {arguments}', flush=True)


def spread(values: Sequence[float]) -> str:
    """Format the mean and half the width of its 95 % confidence interval."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f'{mean:.1f}'
    return f'{mean:.1f} ± {T_95.get(len(values), 2.0) * statistics.stdev(values) / len(values) ** 0.5:.1f}'


def format_table(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Return a Markdown table with mean and 95 % confidence interval over the seeds of each tracker."""
    columns = list(next(iter(rows.values()))[0])
    lines = [f'| tracker | {" | ".join(columns)} |', '|---|' + '---|' * len(columns)]
    lines += [f'| {name} | ' + ' | '.join(spread([run[column] for run in runs]) for column in columns) + ' |'
              for name, runs in rows.items()]
    return '\n'.join(lines)


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/analysis_tools/evaluate_tracker.py', description=(
        'Evaluates methods of association on annotations with noise (jittered, missing and duplicate boxes, wrong '
        'classes), with embeddings of MobileNetV2 trained on ImageNet.'))
    parser.add_argument('data_root', help='folder of a data set in YouTube-VIS format')
    parser.add_argument('--split', default='valid', help='read SPLIT.json and SPLIT/JPEGImages (default: valid)')
    parser.add_argument('--ann_file', help='annotation file, relative to data_root (default: SPLIT.json)')
    parser.add_argument('--img_path', help='folder of the frames, relative to data_root (default: SPLIT/JPEGImages)')
    parser.add_argument('--weights', default='mobilenet_v2', help='weights of MobileNetV2 (default: mobilenet_v2)')
    parser.add_argument('--videos', type=positive_int, metavar='N', help='use only the first N videos')
    parser.add_argument('--layers', type=positive_int, default=3, metavar='N',
                        help='number of videos whose objects are overlaid; 1: no overlay (default: 3)')
    parser.add_argument('--stride', type=positive_int, default=1, metavar='N', help='use every Nth frame')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4], metavar='N',
                        help='seeds of the noise, with one run for each (default: 0 1 2 3 4)')
    parser.add_boolean('--hota', help='also compute HOTA with TrackEval (pip install trackeval==1.3.0)')
    parser.add_boolean('--tune', help='search for the best constants instead')
    parser.add_argument('--out', metavar='FILE', help='also write the numbers of each seed as JSON')
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    if args.hota:
        from mmdet.evaluation.hota import check_installed
        check_installed()
    from mmdet.errors import counted
    from mmdet.files import atomic_open, check_writable
    from mmdet.models.trackers import AssociationTracker
    if args.out:
        check_writable(Path(args.out), f'--out {args.out}')
    if args.tune:
        tune([simulate(args, seed)[0] for seed in args.seeds])
        return 0
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for seed in args.seeds:
        videos, truth = simulate(args, seed)
        for name, arguments in VARIANTS.items():
            rows[name].append(evaluate(videos, truth, AssociationTracker(**COMMON | arguments), args.hota))
        print(f'seed {seed}: ' + ', '.join(f'{name} {runs[-1]["id switches"]:.0f}' for name, runs in rows.items())
              + ' id switches', flush=True)
    seeds = counted(len(args.seeds), 'seed')
    print(f'\n{truth.summary()}; mean and 95 % interval over {seeds}\n\n{format_table(rows)}')
    if args.out:
        with atomic_open(Path(args.out), 'w') as file:
            json.dump(rows, file, indent=1)
    return 0


if __name__ == '__main__':
    run_command(main)
