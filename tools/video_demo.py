#!/usr/bin/env python
"""Find and track the objects of any video: python tools/video_demo.py VIDEO CONFIG CHECKPOINT --out DIR; see --help."""
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmdet.apis.cli import CommandParser, checkpoint_source, existing_file, run_command
from mmdet.video.video_options import OUTPUTS, check_video_options


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/video_demo.py', description=(
        'Finds and tracks the objects of a video, frame by frame, and writes pictures and results as they come. '
        'Ctrl-C ends it; what is written by then is complete.'))
    parser.add_argument('video', help='video file, folder or glob of frames, address (rtsp://...), number of a camera')
    parser.add_argument('config', type=existing_file, help='config file')
    parser.add_argument('checkpoint', type=checkpoint_source,
                        help='trained weights: path, address (https://, hf://) or name (tools/weights.py list)')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder for what is written')
    parser.add_argument('--outputs', nargs='+', choices=OUTPUTS, default=['mp4', 'json'],
                        help='what to write (default: mp4 json)')
    parser.add_argument('--start', type=int, default=0, metavar='N', help='first frame, from 0')
    parser.add_argument('--end', type=int, metavar='N', help='the frame before which to stop')
    parser.add_argument('--stride', type=int, default=1, metavar='N', help='take every Nth frame')
    parser.add_argument('--max_size', type=int, metavar='PIXELS',
                        help='longest side of what the network sees, if the config has more; pictures keep their size')
    parser.add_argument('--thresh', type=float, default=0.5,
                        help='objects with a score above this are drawn and written (default: 0.5)')
    parser.add_argument('--classes', nargs='+', default=[], metavar='NAME', help='only these (default: all)')
    parser.add_argument('--batch', type=int, default=1, metavar='N',
                        help='frames the network sees at once (default: 1)')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    parser.add_boolean('--amp', help='mixed precision')
    parser.add_argument('--fps', type=float, help='frames a second of MP4 and GIF (default: as the video)')
    parser.add_argument('--trails', type=int, default=0, metavar='N',
                        help='draw where objects were in the last N frames')
    parser.add_boolean('--uncertainty', help='draw how sure the detector is of a box, as ellipses at its corners')
    parser.add_config_options()
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    check_video_options(start=args.start, end=args.end, stride=args.stride, thresh=args.thresh, fps=args.fps,
                        trails=args.trails, batch=args.batch, max_size=args.max_size)
    from tqdm import tqdm

    from mmdet.apis import VideoInferencer, load_config
    from mmdet.engine.stop_signal import StopSignal
    from mmdet.files import check_writable
    from mmdet.video.source import open_video

    source = open_video(args.video, args.start, args.end, args.stride)  # a wrong name shows before the model loads
    check_writable(args.out.expanduser() / source.name / 'results', f'--out {args.out}')
    inferencer = VideoInferencer(load_config(args.config, args.cfg_options), args.checkpoint, device=args.device,
                                 batch=args.batch, max_size=args.max_size, amp=args.amp)
    frames = objects = 0
    clips = inferencer(source, out=args.out, outputs=args.outputs, thresh=args.thresh, classes=args.classes,
                       fps=args.fps, trails=args.trails, uncertainty=args.uncertainty)
    with StopSignal() as stop, tqdm(total=source.length, unit=' frames') as progress:
        for clip in clips:
            frames += len(clip)
            objects += sum(len(frame.pred_track_instances) for frame in clip)
            progress.update(len(clip))
            if stop.received:
                break
        clips.close()
    print(f'{args.out}: {source.name}, {frames} frames, {objects} masks of objects above {args.thresh}'
          + (', stopped before the end' if stop.received else ''))
    if not objects:
        print(f'Nothing was found above --thresh {args.thresh}; try a lower one.')
    return stop.exit_status if stop.received else 0


if __name__ == '__main__':
    run_command(main)
