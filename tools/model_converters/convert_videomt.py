#!/usr/bin/env python
"""Convert weights of VidEoMT: python tools/model_converters/convert_videomt.py SOURCE TARGET --to FORMAT.

FORMAT is ``project`` (a checkpoint of this project), ``authors`` (a .pth file of github tue-mps/videomt) or
``transformers`` (a .safetensors file). SOURCE may have any of these formats. This project loads all of them directly.
"""
import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.cli import CommandParser, checkpoint_source, positive_int, run_command

FORMATS = {'project': '.pth', 'authors': '.pth', 'transformers': '.safetensors'}


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/model_converters/convert_videomt.py', description=__doc__,
                           formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=checkpoint_source, help='weights: path, address or name (tools/weights.py)')
    parser.add_argument('target', type=Path, help='output file')
    parser.add_argument('--to', choices=FORMATS, default='project', help='format to write (default: project)')
    parser.add_argument('--classes', choices=('yvis2019', 'yvis2021', 'ovis'),
                        help='data set whose class names are stored in a checkpoint of this project')
    parser.add_argument('--query_blocks', type=positive_int, metavar='N',
                        help='number of blocks with queries, if the source does not contain it (default: 3; 4 of 24)')
    return parser


def convert(source: str, target: Path, to: str, classes: str | None = None, query_blocks: int | None = None) -> str:
    """Write the weights; return a description of the network's sizes for a message."""
    import torch
    from safetensors.torch import save

    from mmdet.checkpoint import find_checkpoint, read_checkpoint, weights_of
    from mmdet.datasets.coco_categories import TARGETS
    from mmdet.errors import UserError, counted
    from mmdet.files import atomic_open
    from mmdet.models.detectors.videomt_weights import from_published, to_authors, to_transformers, videomt_sizes

    if target.suffix != FORMATS[to]:
        raise UserError(f'{target}: a file for {to} ends in {FORMATS[to]}')
    if target.resolve() == find_checkpoint(source).resolve():
        raise UserError(f'{target} itself would be overwritten; name another file to write')
    checkpoint = read_checkpoint(source)
    weights = weights_of(checkpoint, source)
    sizes = videomt_sizes(weights, source)
    if classes and len(TARGETS[classes].names) != sizes.num_classes:
        raise UserError(f'--classes {classes}: has {len(TARGETS[classes].names)} classes, {source} {sizes.num_classes}')
    own = from_published(weights)
    blocks = query_blocks or sizes.query_blocks or (4 if sizes.depth == 24 else 3)
    with atomic_open(target) as file:
        if to == 'transformers':
            file.write(save({name: value.contiguous() for name, value in to_transformers(own, blocks).items()}))
        elif to == 'authors':
            torch.save({'model': to_authors(own, blocks)}, file)
        else:
            meta = checkpoint.get('meta', {}).get('dataset_meta', {})
            if classes:
                names = TARGETS[classes].names
                meta = {'classes': names, 'cat_ids': tuple(range(1, len(names) + 1))}
            torch.save({'meta': {'dataset_meta': meta}, 'state_dict': own}, file)
    return (f'{sizes.depth} blocks of {sizes.embed_dims} channels, {blocks} of them with {sizes.num_queries} queries; '
            f'{counted(sizes.num_classes, "class")}; positions {sizes.grid}x{sizes.grid}')


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    print(f'{args.target}: {convert(args.source, args.target, args.to, args.classes, args.query_blocks)}')
    return 0


if __name__ == '__main__':
    run_command(main)
