"""Flags of train.py and test_video.py: both spellings, booleans, the user's own command lines, faults as one line."""
import re
import signal
import subprocess
import sys

import pytest

import test_video
import train
from mmdet.apis import load_config
from mmdet.apis.cli import one_line
from mmdet.errors import UserError

CONFIG = 'configs/vitmae_cnp_contrast_ms_1x.py'


def parse(script, text):
    return script.build_parser().parse_args(text.split())


def test_training_command_of_the_readme():
    args = parse(train, f'{CONFIG} --work_dir ./workdir/vit-b_memcnp_yvis --gpus 4')
    assert (args.config, args.work_dir, args.gpus) == (CONFIG, './workdir/vit-b_memcnp_yvis', 4)
    assert (args.seed, args.launcher, args.validate, args.amp, args.resume_from) == (None, 'none', False, False, None)
    assert load_config(CONFIG).randomness == {'seed': 42, 'deterministic': False}


def test_test_commands_of_the_readme():
    args = parse(test_video, f'{CONFIG} MODEL --out OUT.pkl --eval segm')
    assert (args.checkpoint, args.out, args.eval, args.show) == ('MODEL', 'OUT.pkl', ['segm'], False)
    args = parse(test_video, f'{CONFIG} MODEL --eval segm --show True --save_vis_path DIR --thresh 0.2')
    assert (args.eval, args.show, args.save_vis_path, args.thresh) == (['segm'], True, 'DIR', 0.2)


@pytest.mark.parametrize(('script', 'flag', 'value'), [
    (train, 'work_dir', 'w'), (train, 'load_from', CONFIG), (train, 'resume_from', 'r'), (train, 'seed', 7),
    (train, 'launcher', 'slurm'), (train, 'gpus', 2), (test_video, 'out', 'o.pkl'), (test_video, 'save_vis_path', 'v'),
    (test_video, 'thresh', 0.25), (test_video, 'load_result', 'x.pkl'), (test_video, 'launcher', 'mpi')])
def test_valued_flags_in_both_spellings(script, flag, value):
    for spelling in (flag, flag.replace('_', '-')):
        assert getattr(parse(script, f'{CONFIG} --{spelling} {value}'), flag) == value


@pytest.mark.parametrize(('script', 'flag'), [
    (train, 'validate'), (train, 'amp'), (train, 'deterministic'), (train, 'new_schedule'), (train, 'full_float32'),
    (test_video, 'show'), (test_video, 'dump_bbox'), (test_video, 'amp'), (test_video, 'zip'),
    (test_video, 'full_float32')])
@pytest.mark.parametrize(('text', 'value'), [
    ('', True), (' True', True), (' False', False), ('=false', False), ('=1', True)])
def test_booleans_stand_alone_or_take_a_value(script, flag, text, value):
    for spelling in (flag, flag.replace('_', '-')):
        assert getattr(parse(script, f'{CONFIG} --{spelling}{text}'), flag) is value


def test_a_boolean_leaves_the_next_word_alone():
    args = parse(test_video, f'--show {CONFIG} MODEL --dump-bbox --out a.pkl')
    assert (args.show, args.config, args.checkpoint, args.dump_bbox, args.out) == (True, CONFIG, 'MODEL', True, 'a.pkl')


def test_config_options_in_both_spellings_and_several_times():
    args = parse(train, f'{CONFIG} --cfg-options a=1 b.c=[1,2] --cfg_options d=x=y')
    assert args.cfg_options == [('a', '1'), ('b.c', '[1,2]'), ('d', 'x=y')]


@pytest.mark.parametrize('text', ['', ' --resume_from', ' --resume-from', ' --resume'])
def test_resuming_without_a_path(text):
    assert parse(train, CONFIG + text).resume_from == ('auto' if text else None)


@pytest.mark.parametrize(('script', 'text', 'word'), [
    (train, '', 'config'), (train, 'configs/nowhere.py', 'no such file: configs/nowhere.py'),
    (train, f'{CONFIG} --seed x', "'x'"), (train, f'{CONFIG} --lancher none', '--lancher'),
    (train, f'{CONFIG} --cfg-options novalue', "'novalue'"), (train, f'{CONFIG} --amp=maybe', "'maybe'"),
    (test_video, f'{CONFIG} M --eval mask', "'mask'"), (train, f'{CONFIG} --load_from none.pth', 'none.pth')])
def test_wrong_flags_are_one_line_and_status_2(script, text, word, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(script, text)
    message = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message.startswith('error: ') and message.count('\n') == 1 and word in message


def test_an_error_out_of_a_worker_is_cut_to_its_line():
    wrapped = ('Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n'
               '  File "x.py", line 1\nmmdet.errors.UserError: a.jpg is cut off; restore the file\n')
    assert one_line(UserError(wrapped)) == 'a.jpg is cut off; restore the file'
    assert one_line(UserError('b.jpg is missing')) == 'b.jpg is missing'
    assert one_line(UserError('c.pkl is no result:\n cut off')) == 'c.pkl is no result: cut off'


def test_a_mistyped_flag_is_told_the_right_one(capsys):
    with pytest.raises(SystemExit):
        parse(train, f'{CONFIG} --wrok-dir x')
    assert 'unrecognized arguments: --wrok-dir x; did you mean --work-dir?' in capsys.readouterr().err


@pytest.mark.parametrize('text', [f'--resume_from {CONFIG}', f'--seed 3 --resume-from {CONFIG} --amp'])
def test_a_flag_that_took_the_config_is_told(text, capsys):
    with pytest.raises(SystemExit):
        parse(train, text)
    assert re.search(r'required: config; give the config before --resume[_-]from \(', capsys.readouterr().err)


def test_reader_of_the_output_that_has_enough_is_no_fault():
    script = 'from mmdet.apis.cli import run_command; run_command(lambda _: [print(n) for n in range(99999)] and 0)'
    with subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b'0\n'
        process.stdout.close()
        assert process.stderr.read() == b''
    assert process.returncode == 128 + signal.SIGPIPE
