#!/usr/bin/env python
"""Measure memory and speed for long videos: tools/analysis_tools/benchmark_video.py [--frames 20000]; see --help."""
import itertools
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from mmdet.apis.cli import CommandParser, checkpoint_source, config_file, positive_int, run_command

WIDTH, HEIGHT, FPS = 640, 360, 30
WARM_UP = 1000  # frames


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/analysis_tools/benchmark_video.py', description=(
        f'Processes a {WIDTH}x{HEIGHT} toy video with VideoInferencer twice, without and with output files, and prints '
        f'the frames per second and the growth of resident memory after the first {WARM_UP} frames.'))
    parser.add_argument('config', nargs='?', type=config_file,
                        help='config file (default: a stub detector that only waits)')
    parser.add_argument('checkpoint', nargs='?', type=checkpoint_source, help='trained weights')
    parser.add_argument('--frames', type=positive_int, default=20000, metavar='N',
                        help='number of frames with output files (default: 20000)')
    parser.add_argument('--plain_frames', type=positive_int, default=2000, metavar='N',
                        help='number of frames without output files, for comparison (default: 2000)')
    parser.add_argument('--outputs', nargs='+', choices=('mp4', 'gif', 'png', 'json'), default=['mp4', 'json'],
                        help='what to write (default: mp4 json)')
    parser.add_argument('--milliseconds', type=float, default=10,
                        help='time that the stub detector waits for each frame (default: 10)')
    parser.add_argument('--objects', type=positive_int, default=5, metavar='N',
                        help='number of objects that the stub detector finds in each frame (default: 5)')
    parser.add_argument('--max_size', type=int, metavar='PIXELS', help='maximum longer side of the network input')
    parser.add_argument('--batch', type=int, default=1, metavar='N',
                        help='number of frames in a batch of the network (default: 1)')
    parser.add_argument('--thresh', type=float, default=0.1,
                        help='draw objects with a score above this (default: 0.1)')
    parser.add_argument('--device', help='cpu, cuda, ... (default: a GPU if there is one)')
    parser.add_boolean('--amp', help='use mixed precision')
    return parser


def toy_scene() -> list[np.ndarray]:
    """Return two seconds of a textured toy video as (360, 640, 3) uint8 frames."""
    from mmdet.datasets.toy import ToyVIS, make_toy_vis
    from mmdet.datasets.transforms.frame_loading import read_frame
    with tempfile.TemporaryDirectory() as folder:
        make_toy_vis(folder, ToyVIS(videos=0, val_videos=1, frames=2 * FPS, size=(WIDTH, HEIGHT)), progress=False)
        return [read_frame(str(path)) for path in sorted(Path(folder, 'valid_images').glob('*/*.jpg'))]


def endless(scene: list[np.ndarray], number: int) -> Iterator[np.ndarray]:
    """Yield ``number`` frames, with the scene played forwards and backwards alternately."""
    return itertools.islice(itertools.cycle([*scene, *scene[-2:0:-1]]), number)


def resident_mb() -> float:
    """Return the resident memory of this process and its children in MB (Linux only); shared memory counts twice."""
    pids = ['self', *(str(child.pid) for child in multiprocessing.active_children())]
    lines = [line for pid in pids for line in Path('/proc', pid, 'status').read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith('VmRSS')) / 1024


def measure(clips: Iterator) -> tuple[float, float, float]:
    """Return the frames per second from the second clip on, and the memory in MB after the warm-up and at its peak."""
    first, start, done, warm, peak = 0, 0.0, 0, 0.0, 0.0
    for clip in clips:
        done += len(clip)
        if not first:
            first, start = done, time.perf_counter()
        if done >= WARM_UP and done % 100 < len(clip):
            warm = warm or resident_mb()
            peak = max(peak, resident_mb())
    speed = (done - first) / (time.perf_counter() - start)  # includes closing the files
    return speed, warm, max(peak, resident_mb())


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from mmdet.apis import VideoInferencer
    from mmdet.errors import UserError
    from tools.analysis_tools.measures.stub_detector import StubDetector
    if args.frames <= WARM_UP or args.plain_frames < 200:
        raise UserError(f'--frames must be more than the {WARM_UP} of the warm-up, --plain-frames at least 200')
    if args.milliseconds < 0:
        raise UserError(f'--milliseconds {args.milliseconds} must not be negative')
    model = args.config or StubDetector(args.objects, seconds=args.milliseconds / 1000)
    inferencer = VideoInferencer(model, args.checkpoint, device=args.device, batch=args.batch, max_size=args.max_size,
                                 amp=args.amp)
    scene = toy_scene()
    plain, *_ = measure(inferencer(endless(scene, args.plain_frames), thresh=args.thresh))
    with tempfile.TemporaryDirectory() as folder:
        drawn, warm, peak = measure(inferencer(endless(scene, args.frames), out=folder, outputs=args.outputs,
                                               thresh=args.thresh, fps=FPS))
    print(f'without files {plain:.1f} frames/s, with {" ".join(args.outputs)} {drawn:.1f} '
          f'({100 * (1 - drawn / plain):.1f} % less)')
    print(f'{args.frames} frames: {warm:.0f} MB after {WARM_UP}, {peak - warm:+.1f} MB at most after that')
    return 0


if __name__ == '__main__':
    run_command(main)
