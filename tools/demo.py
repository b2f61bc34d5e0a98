#!/usr/bin/env python
"""All steps on toy videos, on the CPU: data, training, test, AP table, drawn results. Called by ``make demo``."""
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmdet.apis.cli import CommandParser

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = Path('demo_output')
SHIPPED_CONFIG, SHIPPED = 'configs/memcnp_toy_shapes.py', 'checkpoints/memcnp_toy_shapes.pth'
CONFIG = 'configs/memcnp_toy.py'
TEXTURED, EASY = 'data/toy_demo', 'data/toy_demo_easy'  # not data/toy, which may contain videos of the user


def run(title: str, *words: str, shown: bool = False) -> str:
    """Run a command of the project, write its output to a log and, if ``shown``, print it.

    If the command fails, the demo exits with the same status.

    Returns:
        The output of the command.
    """
    print(f'\n== {title}\n$ python {" ".join(words)}', flush=True)
    lines = []
    log = OUTPUT / f'{Path(words[0]).stem}.log'
    with subprocess.Popen([sys.executable, '-u', *words], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process, \
            (ROOT / log).open('w') as file:
        for line in process.stdout:
            lines.append(line)
            file.write(line)
            if shown:
                print(line, end='', flush=True)
    if process.returncode:
        print(f'error: {words[0]} ended with status {process.returncode}; its output is in {log}', file=sys.stderr)
        sys.exit(process.returncode)
    return ''.join(lines)


def make_videos(title: str, folder: str, *options: str) -> None:
    """Make toy videos unless they exist."""
    if not list((ROOT / folder / 'annotations').glob('*_valid.json')):
        run(title, 'tools/make_toy_vis.py', folder, *options)


def test(title: str, config: str, checkpoint: str, folder: Path, thresh: str, *options: str) -> None:
    """Test a model, draw the results into ``folder`` and print the table of scores."""
    shutil.rmtree(ROOT / folder, ignore_errors=True)
    text = run(title, 'test_video.py', config, checkpoint, '--gpus', '0', '--work_dir', f'{folder}/logs',
               '--out', f'{folder}/result.pkl', '--eval', 'segm', '--show', '--save_vis_path', f'{folder}/pictures',
               '--thresh', thresh, *options)
    print(text[text.index('segm, video AP'):text.rindex('Pictures of')].rsplit('\n', 1)[0])


def main() -> None:
    CommandParser(prog='tools/demo.py', description=(
        'Tests the shipped model on toy videos, then trains and tests a small model, and draws the results. Everything '
        'is written to demo_output/. This takes some minutes on the CPU.')).parse_args()
    start = time.monotonic()
    (ROOT / OUTPUT).mkdir(exist_ok=True)

    make_videos('Eight textured toy videos', TEXTURED, '--format', 'ovis', '--videos', '0', '--val_videos', '8',
                '--frames', '12', '--size', '480x270')
    test('The shipped model on them (it was trained on others)', SHIPPED_CONFIG, SHIPPED, OUTPUT / 'shipped', '0.4',
         '--cfg_options', f'test_dataloader.dataset.data_root={TEXTURED}/', 'test_dataloader.num_workers=1',
         f'test_evaluator.ann_file={TEXTURED}/annotations/annotations_valid.json')
    print(f'After {time.monotonic() - start:.0f} s: {OUTPUT}/shipped/pictures/*.gif', flush=True)

    make_videos('Toy videos: 48 to train on, 8 others to test on', EASY, '--easy', '--videos', '48',
                '--val_videos', '8', '--frames', '10')
    shutil.rmtree(ROOT / OUTPUT / 'train', ignore_errors=True)
    run('Training', 'train.py', CONFIG, '--gpus', '0', '--work_dir', f'{OUTPUT}/train',
        '--cfg_options', f'train_dataloader.dataset.data_root={EASY}/', shown=True)
    checkpoint = Path((ROOT / OUTPUT / 'train/last_checkpoint').read_text()).relative_to(ROOT)
    test('Test on the videos that training never saw', CONFIG, str(checkpoint), OUTPUT / 'test', '0.15',
         '--cfg_options', f'test_dataloader.dataset.data_root={EASY}/',
         f'test_evaluator.ann_file={EASY}/annotations/instances_valid.json')
    print(f'Done in {time.monotonic() - start:.0f} s. In {OUTPUT}/:\n'
          '  shipped/, test/   results of the shipped and of the newly trained model:\n'
          '    pictures/*.gif    an animation of each video; its frames are pictures/<video>/*.png\n'
          '    result.pkl.json   the result file for YouTube-VIS servers; result.pkl has the results of each frame\n'
          '  train/            checkpoints and logs')


if __name__ == '__main__':
    main()
