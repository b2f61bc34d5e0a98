"""Speed of a process of ``test_video.py`` on JPEG files: start to first result, steady rate, whole run.

Called by the suite of tools/analysis_tools/benchmark.py.
"""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config

from mmdet.errors import UserError
from tools.analysis_tools.measures.random_weights import build_model
from tools.analysis_tools.measures.speed import LEAST_REPEATS, Bench

ROOT = Path(__file__).resolve().parents[3]
# the parts of the start, and what the process prints at their ends; the last is the progress bar after a result
_START = {'imports and config': re.compile('Settings and log: '),
          'workers, model and checkpoint': re.compile(r'Loaded .*\.pth'),
          'first clip': re.compile(r'test: .*\| *[1-9]\d*/\d+ ')}


class ProcessTimes(NamedTuple):
    """Times of a process.

    Attributes:
        start: seconds of each part of the start, up to the first result; their sum is the time to the first result.
        whole: seconds from the start of the process to its end.
        steady: frames per second in the second half of the clips, without the start and the writing of the files; None
            if there are too few clips.
    """

    start: dict[str, float]
    whole: float
    steady: float | None


def repeat_videos(ann_file: Path, times: int) -> int:
    """Make the videos of an annotation file longer: show their frames ``times`` times; return the number of frames."""
    content = json.loads(ann_file.read_text())
    lengths = {video['id']: video['length'] for video in content['videos']}
    for video in content['videos']:
        video.update(length=video['length'] * times, file_names=video['file_names'] * times)
    for track in content['annotations']:
        track.update({key: value * times for key, value in track.items()
                      if isinstance(value, list) and len(value) == lengths[track['video_id']]})
    ann_file.write_text(json.dumps(content))
    return times * sum(lengths.values())


def run_test(arguments: Sequence[str], work_dir: Path, gpu: bool) -> ProcessTimes:
    """Run ``test_video.py`` with these arguments and measure it from outside; without ``gpu``, on the CPU.

    Raises:
        UserError: with the last line that it printed, if it fails.
    """
    start, printed, reached = time.perf_counter(), '', [0.0]
    command = [sys.executable, str(ROOT / 'test_video.py'), *arguments, '--work_dir', str(work_dir)]
    env = os.environ if gpu else os.environ | {'CUDA_VISIBLE_DEVICES': ''}
    ends = list(_START.values())
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT, env=env) as process:
        assert process.stdout is not None
        while chunk := process.stdout.read1(4096):
            printed = printed[-4096:] + chunk.decode(errors='replace')
            while len(reached) <= len(ends) and ends[len(reached) - 1].search(printed):
                reached.append(time.perf_counter() - start)
    whole = time.perf_counter() - start
    if process.returncode or len(reached) <= len(ends):
        raise UserError(f'test_video.py ended with {process.returncode}: {printed.strip().splitlines()[-1:]}')
    record = json.loads(max(work_dir.glob('*/*.json')).read_text())
    parts = dict(zip(_START, (after - before for before, after in pairwise(reached)), strict=True))
    return ProcessTimes(parts, whole, record.get('frames_per_second'))


def bench_test_process(bench: Bench, cfg: Config, config: Path, folder: Path, times: int, workers: int,
                       precision: str) -> None:
    """Measure ``test_video.py`` with random weights, RLE masks and result files, in at most three processes.

    Args:
        bench: collects the rows.
        cfg: loaded config, with the number of classes of the data.
        config: its file.
        folder: data set in the layout of YouTube-VIS, whose validation videos are tested.
        times: how often each video is shown.
        workers: processes for loading.
        precision: ``'amp'`` or other.
    """
    ann_file = folder / 'annotations/instances_valid.json'
    frames = repeat_videos(ann_file, times)
    weights = folder / 'random.pth'
    torch.save(dict(state_dict=build_model(cfg, torch.device('cpu')).state_dict(), meta={}), weights)
    options = {'model.bbox_head.num_classes': cfg.model.bbox_head.num_classes,
               'test_dataloader.dataset.data_root': f'{folder}/',
               'test_dataloader.dataset.ann_file': 'annotations/instances_valid.json',
               'test_dataloader.num_workers': workers, 'test_dataloader.persistent_workers': workers > 0,
               'test_evaluator.ann_file': ann_file}
    arguments = [str(config), str(weights), '--out', str(folder / 'out/x.pkl'), *['--amp'] * (precision == 'amp'),
                 '--cfg-options', *(f'{key}={value}' for key, value in options.items())]
    found = [run_test(arguments, folder / f'work_dir_{number}', bench.device.type == 'cuda')
             for number in range(min(bench.repeats, LEAST_REPEATS))]
    columns = dict(frames=frames, workers=workers, clip=cfg.test_dataloader.dataset.clip_len, precision=precision,
                   original='x'.join(map(str, bench.original)))
    bench.add([1000 * sum(run.start.values()) for run in found], 'test_video.py, start to first result', **columns)
    for part in _START:
        bench.add([1000 * run.start[part] for run in found], f'test_video.py, start: {part}', **columns)
    if steady := [1000 / run.steady for run in found if run.steady]:
        bench.add(steady, 'test_video.py, a frame, steady', **columns)
    bench.add([1000 * run.whole for run in found], 'test_video.py, whole run', frames, **columns)
