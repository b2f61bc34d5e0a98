#!/usr/bin/env python
"""Train and test variants of a model with several seeds, and write a table of their scores.

    python tools/analysis_tools/compare.py configs/comparisons/toy_textured.json --out DIR --gpus 4 --jobs_per_gpu 5

Run again, the same command continues the unfinished runs. Other settings need another folder or other names.
"""
from __future__ import annotations

import json
import math
import os
import queue
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from mmdet.apis.cli import CommandParser, existing_file, positive_int, run_command
from mmdet.errors import EXIT_PREEMPTED, UserError
from mmdet.files import atomic_open, check_writable, load_json
from tools.analysis_tools.measures.variants import (
    ROOT,
    Variant,
    annotation_file,
    check_data,
    load_variant,
    read_variants,
)

if TYPE_CHECKING:
    from mmdet.evaluation.error_analysis import Estimate

SCORES = 'scores.json'  # written to a run's folder when the run is complete
TRACKS = 'result.pkl.json'  # result of the test in a run's folder
SETTINGS = 'settings.json'  # written to a variant's folder before its first run
COLUMNS = ('AP', 'AP50', 'AP75', 'APso', 'APmo', 'APho')

_running: set[subprocess.Popen] = set()  # running commands
_stopped = threading.Event()
_lock = threading.Lock()  # held while a command is started, so that none starts after _stopped is set
_training: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)  # of each folder of a training, held by it


def run_folder(out: Path, variant: Variant, seed: int) -> Path:
    """Return the output folder of a run."""
    return out / variant.name / f'seed_{seed}'


def keep_settings(variants: Sequence[Variant], out: Path, amp: bool) -> None:
    """Record what is run in each variant's folder; raise UserError if it holds runs with other settings."""
    new: dict[Path, dict[str, Any]] = {}
    for variant in variants:
        path = out / variant.name / SETTINGS
        settings = dict(config=variant.config, cfg_options=list(variant.cfg_options), amp=amp,
                        weights_of=variant.weights_of and variant.weights_of.name)
        kept = [*path.parent.glob(f'seed_*/{SCORES}'), *path.parent.glob('seed_*/last_checkpoint')]
        earlier = load_json(path) if kept and path.is_file() else settings  # no file: runs of an earlier version
        if changed := [f'{key}={earlier.get(key)!r}' for key in settings if settings[key] != earlier.get(key)]:
            raise UserError(f'{path.parent}: holds runs of variant {variant.name!r} with {", ".join(changed)}; choose '
                            'another --out or another name, or remove this folder')
        if not kept:
            new[path] = settings
    for path, settings in new.items():
        with atomic_open(path, 'w') as file:
            json.dump(settings, file, indent=1)


def run_job(variant: Variant, seed: int, out: Path, gpu: str | None, amp: bool) -> dict[str, float]:
    """Train, test and evaluate one variant with one seed unless its scores exist; write the output below ``out``.

    Returns:
        The statistics of segm, in [0, 1], or −1 if undefined.

    Raises:
        UserError: a command failed.
    """
    folder, trained = run_folder(out, variant, seed), run_folder(out, variant.trained, seed)
    scores = folder / SCORES
    if not scores.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        trained.mkdir(parents=True, exist_ok=True)
        env = os.environ | ({} if gpu is None else {'CUDA_VISIBLE_DEVICES': gpu})
        device = ['--gpus', '0' if gpu is None else '1']
        with _training[trained]:  # two variants may wait for one training; a finished one is resumed, so ends at once
            if not (trained / SCORES).is_file():
                _call([*variant.trained.train_command(trained, seed, amp), *device], trained / 'train.txt', env)
        checkpoint = (trained / 'last_checkpoint').read_text().strip()
        _call([*variant.test_command(folder, checkpoint, amp), *device], folder / 'test.txt', env)
        _call(['tools/vis_eval.py', str(folder / TRACKS), annotation_file(variant), '--out', str(scores)],
              folder / 'scores.txt', env)
    return read_scores(scores)


def read_scores(path: Path) -> dict[str, float]:
    """Return the statistics of segm from a file of ``vis_eval.py``; raise UserError if it has none."""
    content = load_json(path)
    for key in ('segm', 'statistics'):
        content = content.get(key) if isinstance(content, dict) else None
    if not isinstance(content, dict) or 'AP' not in content \
            or not all(isinstance(value, int | float) for value in content.values()):
        raise UserError(f'{path}: holds no statistics of segm; remove it, so that the run is tested and scored again')
    return content


def check_finished(jobs: Sequence[tuple[Variant, int]], out: Path, baseline: str | None) -> list[Variant]:
    """Return the variants that have unfinished runs.

    Raises:
        UserError: the scores of a finished run are damaged, or the tracks that are compared with a baseline are
            missing.
    """
    unfinished = []
    for variant, seed in jobs:
        folder = run_folder(out, variant, seed)
        if not (folder / SCORES).is_file():
            unfinished.append(variant)
            continue
        read_scores(folder / SCORES)
        if baseline and not (folder / TRACKS).is_file():
            raise UserError(f'{folder / TRACKS}: is missing, but --baseline {baseline} compares it; remove '
                            f'{folder / SCORES}, so that the run is tested and scored again')
    return list(dict.fromkeys(unfinished))


def _call(words: list[str], log: Path, env: dict[str, str]) -> None:
    with log.open('w') as file:
        with _lock:
            if _stopped.is_set():
                raise UserError('not started')
            process = subprocess.Popen([sys.executable, '-u', *words], cwd=ROOT, env=env, stdout=file,
                                       stderr=subprocess.STDOUT)
            _running.add(process)
        status = process.wait()
        _running.discard(process)
    if status:
        last = next((line for line in reversed(log.read_text().splitlines()) if line.strip()), '')
        raise UserError(f'{words[0]} ended with status {status}: {last.strip()} (all of it: {log})')


def stop_runs() -> None:
    """Stop the running commands, which save their state, and prevent further ones from starting."""
    with _lock:
        _stopped.set()
    for process in list(_running):
        process.terminate()
    for process in list(_running):
        process.wait()


def run_all(jobs: Sequence[tuple[Variant, int]], out: Path, slots: Sequence[str | None], amp: bool,
            ) -> tuple[dict[tuple[str, int], dict[str, float]], list[str]]:
    """Run the jobs in parallel, one in each slot (a GPU; None: the CPU), and print the outcome of each.

    Returns:
        The statistics by name of the variant and seed, and a line for each failed job.
    """
    variants = list(dict.fromkeys(variant for variant, _ in jobs))
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    results: dict[tuple[str, int], dict[str, float]] = {}
    faults: list[str] = []
    start = time.monotonic()
    lock = threading.Lock()

    def work(gpu: str | None) -> None:
        while True:
            try:
                variant, seed = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                scores = run_job(variant, seed, out, gpu, amp)
            except (UserError, OSError) as error:
                if _stopped.is_set():
                    return
                faults.append(f'{variant.name}, seed {seed}: {error}')
                outcome = 'failed'
            else:
                with lock:
                    results[variant.name, seed] = scores
                    write_results(out, variants, results, amp)
                outcome = f'AP {100 * scores["AP"]:.1f}'
            print(f'[{len(results) + len(faults)}/{len(jobs)}, {time.monotonic() - start:.0f} s] '
                  f'{variant.name}, seed {seed}: {outcome}', flush=True)

    threads = [threading.Thread(target=work, args=(gpu,), daemon=True) for gpu in slots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results, faults


def compare_with(baseline: str, out: Path, variants: Sequence[Variant],
                 results: dict[tuple[str, int], dict[str, float]]) -> dict[str, Estimate]:
    """Estimate the difference in AP of each completed variant to the baseline, both as means over their seeds.

    Variants that are scored against other annotations than the baseline are left out.
    """
    from mmdet.evaluation.error_analysis import mean_difference
    from mmdet.evaluation.functional import read_ground_truth
    from mmdet.evaluation.result_files import load_tracks
    files = {variant: [run_folder(out, variant, seed) / TRACKS
                       for name, seed in sorted(results) if name == variant.name] for variant in variants}
    base = next(variant for variant in variants if variant.name == baseline)
    others = [variant for variant in variants if variant != base and files[variant] and files[base]
              and annotation_file(variant) == annotation_file(base)]
    if not others:
        return {}
    truth = read_ground_truth(annotation_file(base))
    tracks = {variant: [load_tracks(str(path), truth)[0] for path in files[variant]] for variant in [base, *others]}
    estimates = mean_difference(truth, tracks[base], [tracks[variant] for variant in others])
    return {variant.name: estimate for variant, estimate in zip(others, estimates)}


def format_table(variants: Sequence[Variant], results: dict[tuple[str, int], dict[str, float]], amp: bool,
                 baseline: str = '', differences: dict[str, Estimate] | None = None) -> str:
    """Return a Markdown table of mean ± standard deviation over the seeds, in percent, and the commands.

    With ``differences`` of :func:`compare_with`, a column has the difference in AP to the baseline and its interval.
    """
    columns = [*COLUMNS, *([f'AP minus {baseline} (95 %)'] if differences else [])]
    lines = [f'| variant | seeds | {" | ".join(columns)} |', '|---|---|' + '---|' * len(columns)]
    for variant in variants:
        runs = [scores for (name, _), scores in sorted(results.items()) if name == variant.name]
        cells = [_spread([run.get(column, -1.) for run in runs]) for column in COLUMNS]  # occlusion: OVIS only
        if differences:
            found = differences.get(variant.name)
            cells.append(_difference(found) if found else '-')
        lines.append(f'| {variant.title or variant.name} | {len(runs)} | {" | ".join(cells)} |')
    lines += ['', 'Commands of each row, with SEED and DIR:', '', '```']
    for variant in variants:
        train = shlex.join(['python', *variant.trained.train_command('DIR', 'SEED', amp)])
        test = shlex.join(['python', *variant.test_command('DIR', 'LAST', amp), '--eval', 'segm'])
        lines += [f'# {variant.title or variant.name}', f'{train} &&',
                  f'  {test.replace(" LAST ", " $(cat DIR/last_checkpoint) ")}']
    return '\n'.join([*lines, '```', ''])


def write_results(out: Path, variants: Sequence[Variant], results: dict[tuple[str, int], dict[str, float]],
                  amp: bool) -> None:
    """Write ``table.md`` and ``scores.json`` (statistics by variant and seed) of the completed runs."""
    with atomic_open(out / 'table.md', 'w') as file:
        file.write(format_table(variants, results, amp))
    with atomic_open(out / 'scores.json', 'w') as file:
        json.dump({variant.name: {str(seed): numbers for (name, seed), numbers in sorted(results.items())
                                  if name == variant.name} for variant in variants}, file, indent=1)


def _spread(values: Sequence[float]) -> str:
    """Format mean ± standard deviation in percent; ``-`` without runs or if the statistic is undefined (−1)."""
    if not values or min(values) < 0:
        return '-'
    mean = f'{100 * statistics.mean(values):.1f}'
    return f'{mean} ± {100 * statistics.stdev(values):.1f}' if len(values) > 1 else mean


def _difference(found: Estimate) -> str:
    """Format a difference and its interval in percent; one video has no interval, and crowds alone no AP."""
    if math.isnan(found.value):
        return '-'
    interval = '' if math.isnan(found.low) else f' ({100 * found.low:+.1f} to {100 * found.high:+.1f})'
    return f'{100 * found.value:+.1f}{interval}'


def visible_gpus(count: int | None) -> list[str | None]:
    """Return the first ``count`` (None: at most 1) GPUs by their names in CUDA_VISIBLE_DEVICES; ``[None]``: the CPU."""
    import torch
    available = torch.cuda.device_count()
    count = min(1, available) if count is None else count
    if not 0 <= count <= available:
        raise UserError(f'--gpus {count}: there are {available} GPUs; ask for at most that many, 0 is the CPU')
    names = os.environ.get('CUDA_VISIBLE_DEVICES')
    gpus: list[str | None] = [*names.split(',')] if names else [str(number) for number in range(count)]
    return gpus[:count] or [None]


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/analysis_tools/compare.py',
                           description='Trains and tests variants with several seeds and writes a table.')
    parser.add_argument('variants', type=existing_file, help='JSON list of objects with name, config and, optionally, '
                        'title, cfg_options, weights_of; for example configs/comparisons/toy_textured.json')
    parser.add_argument('--out', required=True, metavar='DIR', help='output folder')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], metavar='N',
                        help='seeds of the runs of each variant (default: 0 1 2)')
    parser.add_argument('--only', nargs='+', metavar='NAME', help='run only these variants')
    parser.add_argument('--baseline', metavar='NAME', help='variant to which the others are compared, in a column: '
                        'difference of the means over the seeds, with a bootstrap interval over the videos')
    parser.add_argument('--gpus', type=int, metavar='N',
                        help='number of GPUs for the runs; 0: use the CPU (default: one GPU if there is one)')
    parser.add_argument('--jobs_per_gpu', type=positive_int, default=1, metavar='N',
                        help='number of simultaneous runs on each GPU (default: 1)')
    parser.add_boolean('--amp', help='use mixed precision')
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    variants = read_variants(args.variants, args.only)
    names = [variant.name for variant in variants]
    if args.baseline and args.baseline not in names:
        raise UserError(f'--baseline {args.baseline}: is not among the variants that are run: {", ".join(names)}')
    if min(args.seeds) < 0:
        raise UserError(f'--seeds {min(args.seeds)}: must be 0 or more')
    involved = list(dict.fromkeys([*variants, *(variant.trained for variant in variants)]))
    for variant in involved:
        load_variant(variant)  # report wrong options before the first training
    slots = visible_gpus(args.gpus) * args.jobs_per_gpu
    out = Path(args.out).expanduser()
    check_writable(out / 'table.md', f'--out {args.out}')
    jobs = [(variant, seed) for variant in variants for seed in dict.fromkeys(args.seeds)]
    unfinished = check_finished(jobs, out, args.baseline)
    for variant in dict.fromkeys([*unfinished, *(variant.trained for variant in unfinished)]):
        check_data(variant)
    keep_settings(involved, out, args.amp)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_PREEMPTED))
    try:
        results, faults = run_all(jobs, out, slots, args.amp)
    except BaseException:
        stop_runs()
        print('stopped; the same command continues from here', file=sys.stderr)
        raise
    if results:
        differences = compare_with(args.baseline, out, variants, results) if args.baseline else None
        table = format_table(variants, results, args.amp, args.baseline, differences)
        with atomic_open(out / 'table.md', 'w') as file:
            file.write(table)
        print(f'\n{table}\nIn {out}: a folder for each run, table.md, scores.json')
    for fault in faults:
        print(f'error: {fault}', file=sys.stderr)
    return 1 if faults else 0


if __name__ == '__main__':
    run_command(main)
