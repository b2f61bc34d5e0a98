#!/usr/bin/env python
"""Find and track the objects of videos: python tools/video_demo.py VIDEO [VIDEO ...] [CONFIG CHECKPOINT]."""
from __future__ import annotations

import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmdet.apis.cli import CommandParser, checkpoint_source, config_file, one_line, run_command
from mmdet.errors import EXIT_USER_ERROR, UserError, counted
from mmdet.shipped import is_config_name
from mmdet.trained_models import DEFAULT, MODELS
from mmdet.video.video_options import OUTPUTS, check_video_options
from mmdet.zoo import WEIGHTS

if TYPE_CHECKING:
    from mmdet.apis import VideoInferencer
    from mmdet.engine.stop_signal import StopSignal
    from mmdet.video.source import VideoSource

_WEIGHTS = ('.pth', '.pt', '.safetensors', '.pt2', '.onnx')


def build_parser() -> CommandParser:
    parser = CommandParser(
        prog='tools/video_demo.py',
        usage='%(prog)s VIDEO [VIDEO ...] [CONFIG CHECKPOINT | --model NAME] [--out DIR] [flags]',
        description=(
            'Finds and tracks the objects of videos, frame by frame, and writes drawn frames and results as soon as '
            'they are computed. Ctrl-C ends it; all files are valid up to that frame.'))
    parser.add_argument('words', nargs='+', metavar='VIDEO ... CONFIG CHECKPOINT', help=(
        'videos: files, folders or globs of frames or of videos, addresses (rtsp://...), numbers of cameras; the '
        'config file; trained weights: path, address (https://, hf://) or name (tools/weights.py list)'))
    parser.add_argument('--model', choices=MODELS, metavar='NAME', help=(
        'a trained model instead of CONFIG CHECKPOINT, whose weights are downloaded once: '
        f'{", ".join(MODELS)} (default: {DEFAULT})'))
    parser.add_argument('--out', type=Path, default=Path('demo_output'), metavar='DIR',
                        help='output folder (default: demo_output)')
    parser.add_argument('--outputs', nargs='+', choices=OUTPUTS, default=['mp4', 'json'],
                        help='what to write (default: mp4 json)')
    parser.add_argument('--start', type=int, default=0, metavar='N', help='index of the first frame, counted from 0')
    parser.add_argument('--end', type=int, metavar='N', help='index of the frame to stop before')
    parser.add_argument('--stride', type=int, default=1, metavar='N', help='process every Nth frame')
    parser.add_argument('--max_size', type=int, metavar='PIXELS',
                        help='maximum longer side of the network input; drawn frames keep their size')
    parser.add_argument('--thresh', type=float, default=0.5,
                        help='draw and write objects with a score above this (default: 0.5)')
    parser.add_argument('--classes', nargs='+', default=[], metavar='NAME',
                        help='draw and write only these classes (default: all)')
    parser.add_argument('--batch', type=int, default=1, metavar='N',
                        help='number of frames in a batch of the network (default: 1)')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    parser.add_boolean('--amp', help='use mixed precision')
    parser.add_boolean('--full_float32', help='use float32 instead of TF32 for convolutions on a GPU (slower)')
    parser.add_argument('--fps', type=float, help='frame rate of MP4 and GIF (default: the timestamps of the video)')
    parser.add_argument('--trails', type=int, default=0, metavar='N',
                        help='draw the paths of the objects over the last N frames')
    parser.add_argument('--on_bad_frame', choices=('error', 'skip'), default='error',
                        help='skip: leave out image files that cannot be read (default: error)')
    parser.add_boolean('--every_frame', help=(
        'process every frame of cameras and network streams, even if the results fall behind; by default the newest '
        'one, and frames that arrive meanwhile are dropped'))
    parser.add_argument('--reconnect', type=int, default=3, metavar='N',
                        help='attempts in a row to reconnect to a camera or network stream (default: 3)')
    parser.add_boolean('--uncertainty', help='draw the uncertainty of boxes as ellipses at their corners')
    parser.add_config_options()
    return parser


def parse(argv: Sequence[str] | None) -> Namespace:
    """Parse the command line; ``videos``, ``config`` and ``checkpoint`` may be given between flags."""
    parser = build_parser()
    args = parser.parse_intermixed_args(argv)
    if args.model:
        if config := next((word for word in args.words if is_config_name(word)), None):
            parser.error(f'--model {args.model} brings its own config: leave {config} and the checkpoint out')
        args.videos = args.words
        args.config, args.checkpoint = MODELS[args.model].config, MODELS[args.model].weights
        return args
    place = next((place for place, word in enumerate(args.words) if is_config_name(word)), None)
    if place is None:
        weights = next((word for word in args.words if word.endswith(_WEIGHTS)
                        or (word in WEIGHTS and not Path(word).exists())), None)
        if weights is not None:
            parser.error(f'CONFIG is missing before {weights}, a file that ends in .py')
        args.videos, model = args.words, MODELS[DEFAULT]
        args.config, args.checkpoint = model.config, model.weights
        print(f'Neither CONFIG CHECKPOINT nor --model is given: --model {DEFAULT} with the weights {model.weights} '
              "finds COCO's 80 categories; others: --help")
        return args
    args.videos, config, behind = args.words[:place], args.words[place], args.words[place + 1:]
    if not args.videos:
        parser.error(f'VIDEO is missing before {config}')
    if len(behind) != 1:
        parser.error(f'one CHECKPOINT is expected after {config}' + (f', not {" ".join(behind)}' if behind else ''))
    try:
        args.config, args.checkpoint = config_file(config), checkpoint_source(behind[0])
    except ArgumentTypeError as error:
        parser.error(str(error))
    return args


def main(argv: Sequence[str] | None) -> int:
    args = parse(argv)
    check_video_options(start=args.start, end=args.end, stride=args.stride, thresh=args.thresh, fps=args.fps,
                        trails=args.trails, batch=args.batch, max_size=args.max_size, reconnect=args.reconnect)
    from mmdet.apis import VideoInferencer, load_config
    from mmdet.apis.config_options import UNREAD_BY_INFERENCE, report_unread
    from mmdet.console import shorten_console
    from mmdet.engine import use_full_float32
    from mmdet.engine.stop_signal import StopSignal
    from mmdet.files import check_writable
    from mmdet.video.video_list import check_outputs, list_videos

    # report wrong names before the model is loaded
    videos, out = list_videos(args.videos), args.out.expanduser()
    chosen = (args.start, args.end, args.stride, args.on_bad_frame, args.every_frame, args.reconnect)
    first = videos[0].open(*chosen)
    for video in videos[1:]:
        if video.path is not None:  # cameras and addresses may allow only one reader
            video.open(*chosen).close()
    check_outputs([video.name for video in videos], [video.path for video in videos], out, args.outputs)
    for video in videos:
        check_writable(out / video.name / 'results', f'--out {args.out}')
    report_unread(args.cfg_options, UNREAD_BY_INFERENCE, 'video_demo.py')
    shorten_console()
    if args.full_float32:
        use_full_float32()
    inferencer = VideoInferencer(load_config(args.config, args.cfg_options), args.checkpoint, device=args.device,
                                 batch=args.batch, max_size=args.max_size, amp=args.amp)
    status = 0
    with StopSignal() as stop:
        for video in videos:
            try:
                run(inferencer, first if video is videos[0] else video.open(*chosen), args, stop, len(videos) > 1)
            except UserError as error:
                if len(videos) == 1:
                    raise
                status = EXIT_USER_ERROR  # continue with the other videos
                print(f'error: {one_line(error)}', file=sys.stderr, flush=True)
            if stop.received:
                return stop.exit_status
    return status


def run(inferencer: VideoInferencer, source: VideoSource, args: Namespace, stop: StopSignal, several: bool) -> None:
    """Process one video and print one line about it."""
    from tqdm import tqdm

    from mmdet.paths import shown

    frames = objects = 0
    clips = inferencer(source, out=args.out, outputs=args.outputs, thresh=args.thresh, classes=args.classes,
                       fps=args.fps, trails=args.trails, uncertainty=args.uncertainty)
    stop.then = source.stop  # ends a wait for the next frame of a stream
    with closing(clips), tqdm(total=source.expected, unit=' frames', desc=source.name if several else None) as progress:
        for clip in clips:
            frames += len(clip)
            objects += sum(len(frame.pred_track_instances) for frame in clip)
            progress.update(len(clip))
            if stop.received:
                break
    print(f'{shown(args.out)}: {source.name}, {counted(frames, "frame")}, '
          f'{counted(objects, "mask")} of objects above {args.thresh}'
          + (f', {source.live.statistics}' if source.live is not None else '')
          + (', stopped before the end' if stop.received else ''), flush=True)
    if not objects:
        print(f'Nothing was found above --thresh {args.thresh}; try a lower one.')


if __name__ == '__main__':
    run_command(main)
