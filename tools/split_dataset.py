#!/usr/bin/env python
"""Split an annotation file into training and validation videos: tools/split_dataset.py ANNOTATIONS.json --out DIR."""
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmdet.apis.cli import CommandParser, existing_file, run_command


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/split_dataset.py', description=(
        'Splits an annotation file by video, stratified by category, into DIR/instances_train.json and '
        'DIR/instances_valid.json. Ids and file names do not change; both files use the image folder.'))
    parser.add_argument('annotations', type=existing_file, help='YouTube-VIS annotation file with ground truth')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder for the two files')
    parser.add_argument('--share', type=float, default=.2, help='fraction of validation videos (default: 0.2)')
    parser.add_argument('--seed', type=int, default=0,
                        help='seed for the choice among videos with the same categories (default: 0)')
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from mmdet.datasets.packed_annotations import read_youtube_vis
    from mmdet.datasets.splits import stratified_split
    from mmdet.errors import UserError, counted
    from mmdet.files import atomic_open, load_json

    if not 0 < args.share < 1:
        raise UserError(f'--share {args.share} must lie between 0 and 1, exclusive')
    if args.seed < 0:
        raise UserError(f'--seed {args.seed} must not be negative')
    paths = {name: args.out / f'instances_{name}.json' for name in ('train', 'valid')}
    if Path(args.annotations).resolve() in [path.resolve() for path in paths.values()]:
        raise UserError(f'--out {args.out}: {args.annotations} itself would be overwritten; choose another folder')
    read_youtube_vis(args.annotations)  # raises UserError for a damaged file before anything is written
    data = load_json(args.annotations)
    videos, annotations = data['videos'], data.get('annotations') or []
    if len(videos) < 2:
        raise UserError(f'{args.annotations} has fewer than two videos and cannot be split')
    counts: dict[int, Counter] = {video['id']: Counter() for video in videos}
    for annotation in annotations:
        counts[annotation['video_id']][annotation['category_id']] += 1
    chosen = stratified_split([counts[video['id']] for video in videos], args.share, args.seed)
    validation = {video['id'] for video, second in zip(videos, chosen) if second}
    names = {category['id']: category['name'] for category in data['categories']}
    table = []
    for name, path in paths.items():
        part = {**data, 'videos': [video for video in videos if (video['id'] in validation) == (name == 'valid')],
                'annotations': [a for a in annotations if (a['video_id'] in validation) == (name == 'valid')]}
        with atomic_open(str(path), 'w') as file:
            json.dump(part, file, separators=(',', ':'))
        print(f'{path}: {counted(len(part["videos"]), "video")}, {counted(len(part["annotations"]), "object")}')
        table.append(Counter(annotation['category_id'] for annotation in part['annotations']))
    for ident, name in names.items():
        print(f'  {name}: {counted(table[0][ident], "object")} in training, {table[1][ident]} in validation')
    return 0


if __name__ == '__main__':
    run_command(main)
