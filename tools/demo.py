#!/usr/bin/env python
"""The whole way on toy videos, on the CPU: data, training, test, AP table, pictures. Called by ``make demo``."""
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmdet.apis.cli import CommandParser

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = Path('demo_output')
CONFIG = 'configs/memcnp_toy.py'
SHOWN = re.compile(r'Epoch\(train\)|^error:')


def run(title: str, *words: str, shown: re.Pattern | None = None) -> str:
    """Runs a command of the project, keeps its output in a log and prints the lines that match.

    Returns:
        The output. A command that fails ends the demo with its status.
    """
    print(f'\n== {title}\n$ python {" ".join(words)}', flush=True)
    lines = []
    log = OUTPUT / f'{Path(words[0]).stem}.log'
    with subprocess.Popen([sys.executable, '-u', *words], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process, \
            (ROOT / log).open('w') as file:
        for line in process.stdout:
            lines.append(line)
            file.write(line)
            if shown and shown.search(line):
                print(re.sub(r'^.* - INFO - | +data_time: [\d.]+| +grad_norm: [\d.]+', '', line), end='', flush=True)
    if process.returncode:
        print(f'error: {words[0]} ended with status {process.returncode}; its output is in {log}', file=sys.stderr)
        sys.exit(process.returncode)
    return ''.join(lines)


def main() -> None:
    CommandParser(prog='tools/demo.py', description=(
        'Makes toy videos in data/toy, trains a small model on them, tests it and draws its results in demo_output/; '
        'on the CPU, some minutes.')).parse_args()
    start = time.monotonic()
    (ROOT / OUTPUT).mkdir(exist_ok=True)
    for name in ('train', 'pictures'):
        shutil.rmtree(ROOT / OUTPUT / name, ignore_errors=True)
    if not (ROOT / 'data/toy/annotations/instances_valid.json').is_file():
        run('Toy videos: 48 to train on, 8 others to test on', 'tools/make_toy_vis.py', 'data/toy', '--easy',
            '--videos', '48', '--val-videos', '8', '--frames', '10')
    run('Training', 'train.py', CONFIG, '--gpus', '0', '--work_dir', f'{OUTPUT}/train', shown=SHOWN)
    checkpoint = (ROOT / OUTPUT / 'train/last_checkpoint').read_text()
    text = run('Test on the videos that training never saw', 'test_video.py', CONFIG,
               str(Path(checkpoint).relative_to(ROOT)), '--gpus', '0', '--work_dir', f'{OUTPUT}/test',
               '--out', f'{OUTPUT}/result.pkl', '--eval', 'segm',
               '--show', '--save_vis_path', f'{OUTPUT}/pictures', '--thresh', '0.15')
    print(text[text.index('segm, video AP'):text.rindex('Pictures of')].rsplit('\n', 1)[0])
    print(f'Done in {time.monotonic() - start:.0f} s. In {OUTPUT}/:\n'
          '  pictures/*.gif    one film per video, pictures/<video>/*.png its frames\n'
          '  result.pkl.json   the result file of YouTube-VIS servers, result.pkl the same per frame\n'
          '  train/, test/     checkpoints and logs')


if __name__ == '__main__':
    main()
