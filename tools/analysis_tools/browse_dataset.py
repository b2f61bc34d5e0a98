#!/usr/bin/env python
"""Draw items of a data set after all transforms: python tools/analysis_tools/browse_dataset.py CONFIG --out DIR."""
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.cli import CommandParser, config_file, run_command


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/analysis_tools/browse_dataset.py', description=(
        'Draws items of a config\'s data set after all transforms and writes PNG files: training pairs (key frame on '
        'the left, reference frame on the right) or test clips, with masks, boxes, categories and ids if the pipeline '
        'loads them. An object has the same colour in all frames.'))
    parser.add_argument('config', type=config_file, help='config file')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='output folder')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train',
                        help='data set of the config (default: train)')
    parser.add_argument('--number', type=int, default=20, help='number of items (default: 20)')
    parser.add_argument('--seed', type=int, default=0,
                        help='seed for the choice of items and for their transforms (default: 0)')
    parser.add_boolean('--in_order', help='draw the first items instead of random ones')
    parser.add_config_options()
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    import cv2
    import numpy as np
    from mmengine.registry import init_default_scope
    from tqdm import tqdm

    from mmdet.apis.config import load_config
    from mmdet.datasets import SeededIndex
    from mmdet.errors import UserError, counted
    from mmdet.registry import DATASETS
    from mmdet.visualization import TrackVisualizer
    from mmdet.visualization.clip_picture import picture_of_clip

    if args.number < 1:
        raise UserError(f'--number {args.number} must be at least 1')
    if args.seed < 0:
        raise UserError(f'--seed {args.seed} must not be negative')
    cfg = load_config(args.config, args.cfg_options)
    loader = cfg.get(f'{args.split}_dataloader')
    if loader is None:
        raise UserError(f'{args.config} has no {args.split}_dataloader; choose another --split')
    init_default_scope('mmdet')
    dataset = DATASETS.build(loader.dataset)
    number = min(args.number, len(dataset))
    rng = np.random.default_rng(args.seed)
    chosen = range(number) if args.in_order else sorted(rng.choice(len(dataset), number, replace=False).tolist())
    visualizer = TrackVisualizer(dataset.metainfo['classes'])
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'cannot make the folder {args.out}: {error.strerror}; choose another one') from None
    for place, index in enumerate(tqdm(chosen, unit=' items')):
        item = dataset[SeededIndex(index, (args.seed, 0, place, 1))]
        path = args.out / f'{index:06d}.png'
        if not cv2.imwrite(str(path), picture_of_clip(item['inputs'], item['data_samples'], visualizer)):
            raise UserError(f'{path}: cannot be written; free space or choose another folder')
    print(f'{args.out}: {number} of {counted(len(dataset), "item")} of the {args.split} data set')
    return 0


if __name__ == '__main__':
    run_command(main)
