"""tools/analysis_tools/compare.py: reading variants, running them side by side, the table."""
import json
import shlex
import subprocess
import sys
import time
from functools import reduce
from pathlib import Path

import pytest

from mmdet.apis import load_config
from mmdet.errors import EXIT_PREEMPTED, UserError
from tools import make_toy_vis
from tools.analysis_tools import compare
from tools.analysis_tools.compare import format_table, main
from tools.analysis_tools.measures import variants as listed
from tools.analysis_tools.measures.variants import Variant, read_variants

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIG = 'configs/memcnp_toy.py'


def scores(value: float) -> dict[str, float]:
    return dict.fromkeys(compare.COLUMNS, value) | {'APho': -1.0}


def value(cfg, key):
    """The value of a dotted key, None if there is none."""
    return reduce(lambda node, name: node and (node[int(name)] if isinstance(node, list) else node.get(name)),
                  key.split('.'), cfg)


@pytest.mark.parametrize('path', sorted((ROOT / 'configs/comparisons').glob('*.json')), ids=lambda path: path.stem)
def test_every_option_of_the_shipped_comparisons_changes_its_config(path):
    for variant in read_variants(str(path), None):
        options = [tuple(option.split('=', 1)) for option in variant.cfg_options]
        before, after = load_config(variant.config), load_config(variant.config, options)
        for key, _ in options:
            assert value(after, key) is not None and value(after, key) != value(before, key), (variant.name, key)


def test_variants_are_chosen_by_name(tmp_path):
    path = tmp_path / 'variants.json'
    path.write_text(json.dumps([dict(name='a', config=CONFIG), dict(name='b', config=CONFIG)]))
    assert [variant.name for variant in read_variants(str(path), ['b'])] == ['b']
    with pytest.raises(UserError, match=r'--only c: .* has a, b'):
        read_variants(str(path), ['c'])


def entry(**changes):
    return json.dumps([dict(name='a', config=CONFIG) | changes])


@pytest.mark.parametrize(('text', 'said'), [
    ('{', 'is not JSON'), ('{"a": 1}', 'is not a list of variants'), ('[]', 'is not a list of variants'),
    ('["a"]', "variant 1: 'a' is not an object"), ('[{"name": "a"}]', 'variant 1: its config is None; give a string'),
    ('[{"name": "a", "config": "no.py"}]', r"variant 'a' names the config no\.py, which is not there"),
    (entry(cfg_option=[]), "variant 1: has the unknown key 'cfg_option'; did you mean cfg_options"),
    (entry(seeds=[]), "has the unknown key 'seeds'; there are name, config"),
    (entry(name=3), 'its name is 3; give a string'),
    (entry(name='a/b'), "its name 'a/b' cannot be the name of a folder"),
    (entry(title=4), 'its title is 4'), (entry(config=''), "its config is ''"),
    (entry(cfg_options='a.b=1'), "its cfg_options are 'a.b=1'; give a list of"),
    (entry(cfg_options={'a.b': 1}), 'give a list of'), (entry(cfg_options=['a.b']), 'give a list of'),
    (entry(weights_of='b'), "variant 'a' has weights_of='b'; name a variant of this file .*: there is none"),
    (entry(weights_of=3), 'its weights_of is 3'), (json.dumps([dict(name='a', config=CONFIG)] * 2), 'same name')])
def test_faults_of_the_file_are_named(tmp_path, text, said):
    path = tmp_path / 'variants.json'
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_variants(str(path), None)


def test_table_gives_mean_and_deviation():
    results = {('a', 0): scores(.1), ('a', 1): scores(.3), ('b', 0): scores(.5)}
    variants = [Variant('a', CONFIG, 'A'), Variant('b', CONFIG), Variant('c', CONFIG, cfg_options=('x.y=1',))]
    del results['b', 0]['APso']  # no OVIS
    table = format_table(variants, results, amp=True).splitlines()
    assert table[2] == '| A | 2 | 20.0 ± 14.1 | 20.0 ± 14.1 | 20.0 ± 14.1 | 20.0 ± 14.1 | 20.0 ± 14.1 | - |'
    assert table[3] == '| b | 1 | 50.0 | 50.0 | 50.0 | - | 50.0 | - |'
    assert table[4].startswith('| c | 0 | - |')
    assert any(line.startswith(f'python train.py {CONFIG} ') and line.endswith('--amp --cfg_options x.y=1 &&')
               for line in table)


def test_options_count_where_the_annotations_are():
    chosen = Variant('a', CONFIG, cfg_options=('test_evaluator.ann_file=other.json',))
    assert listed.load_variant(chosen).test_evaluator.ann_file == 'other.json'
    with pytest.raises(UserError, match=r"variant 'b': .* no key 'model\.bbox_head\.units'"):
        listed.load_variant(Variant('b', CONFIG, cfg_options=('model.bbox_head.units=3',)))


def test_missing_data_shows_before_the_first_run(tmp_path, monkeypatch, toy_config):
    path, out = tmp_path / 'variants.json', tmp_path / 'out'
    command = [str(path), '--out', str(out), '--gpus', '0', '--seeds', '0']
    path.write_text(json.dumps([dict(name='a', config=CONFIG)]))
    monkeypatch.setattr(compare, 'ROOT', tmp_path)
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    with pytest.raises(UserError, match=r"^variant 'a': annotation file .*data/toy/annotations/instances_train\.json "
                                        r'does not exist; first run python tools/make_toy_vis\.py data/toy --easy '):
        main(command)
    assert not out.exists()
    for key in ('test_dataloader.dataset.ann_file', 'test_evaluator.ann_file'):
        path.write_text(json.dumps([dict(name='b', config=str(toy_config), cfg_options=[f'{key}=other.json'])]))
        with pytest.raises(UserError, match=r"variant 'b': annotation file .*other\.json does not exist; link"):
            main(command)


@pytest.mark.parametrize('path', sorted((ROOT / 'configs/comparisons').glob('*.json')), ids=lambda path: path.stem)
def test_the_command_for_missing_toy_videos_makes_those_of_the_variant(path, monkeypatch):
    def find(root, name):
        if Path(root, name).is_relative_to(ROOT / missing):
            raise UserError(f'annotation file {Path(root, name)} does not exist; link it')

    monkeypatch.setattr('mmdet.datasets.layout.find_annotations', find)
    for variant in read_variants(str(path), None):
        cfg = listed.load_variant(variant)
        for folder in {dataset.get('data_root') or '' for loader in (cfg.train_dataloader, cfg.test_dataloader)
                       for dataset in listed._datasets(loader.dataset)}:
            if folder.startswith('data/toy'):
                missing = folder
                with pytest.raises(UserError) as error:
                    listed.check_data(variant)
                words = shlex.split(str(error.value).partition('first run python ')[2])
                assert words[0] == 'tools/make_toy_vis.py'
                made = make_toy_vis.build_parser().parse_args(words[1:])
                assert Path(made.out) == Path(folder)
                for ending, count in (('_240/', 240), ('_60/', 60)):
                    assert (made.videos, made.val_videos, made.seed) == (0, count, 99) or not folder.endswith(ending)


def test_negative_seeds_are_refused(tmp_path):
    with pytest.raises(UserError, match='--seeds -1: must be 0 or more'):
        main(['configs/comparisons/toy_textured.json', '--out', str(tmp_path), '--gpus', '0', '--seeds', '0', '-1'])


def test_data_of_several_sets_is_looked_for():
    joint = listed.load_variant(Variant('a', 'configs/vitmae_cnp_joint_ms_1x.py')).train_dataloader.dataset
    assert len(list(listed._datasets(joint))) == 3


def test_a_run_that_fails_does_not_stop_the_others(tmp_path, monkeypatch, capsys, toy_config):
    def run_job(variant, seed, out, gpu, amp):
        if variant.name == 'b':
            raise UserError('train.py ended with status 2: error: no data')
        return scores(seed / 10)

    monkeypatch.setattr(compare, 'run_job', run_job)
    path = tmp_path / 'variants.json'
    path.write_text(json.dumps([dict(name=name, config=str(toy_config)) for name in 'abc']))
    assert main([str(path), '--out', str(tmp_path / 'out'), '--gpus', '0', '--seeds', '1', '2']) == 1
    written = json.loads((tmp_path / 'out/scores.json').read_text())
    assert {name: sorted(runs) for name, runs in written.items()} == {'a': ['1', '2'], 'b': [], 'c': ['1', '2']}
    assert 'b, seed 1: train.py ended with status 2: error: no data' in capsys.readouterr().err


def test_finished_runs_are_not_run_again(tmp_path):
    folder = compare.run_folder(tmp_path, Variant('a', 'missing.py'), 0)
    folder.mkdir(parents=True)
    (folder / 'scores.json').write_text(json.dumps(dict(segm=dict(statistics=scores(.4)))))
    assert compare.run_job(Variant('a', 'missing.py'), 0, tmp_path, None, False)['AP'] == .4


@pytest.mark.parametrize(('text', 'said'), [
    ('{', 'is not JSON'), ('[]', 'holds no statistics of segm; remove it'), ('{"segm": {}}', 'holds no statistics'),
    ('{"segm": {"statistics": {"AP": null}}}', 'holds no statistics')])
def test_damaged_scores_of_a_finished_run_show_before_the_first_run(tmp_path, toy_config, text, said):
    path = tmp_path / 'variants.json'
    path.write_text(json.dumps([dict(name='a', config=str(toy_config))]))
    (tmp_path / 'out/a/seed_1').mkdir(parents=True)
    (tmp_path / 'out/a/seed_1/scores.json').write_text(text)
    with pytest.raises(UserError, match=rf'out/a/seed_1/scores\.json: {said}'):
        main([str(path), '--out', str(tmp_path / 'out'), '--gpus', '0', '--seeds', '0', '1'])
    assert not (tmp_path / 'out/a/seed_0').exists()


def test_missing_tracks_of_a_finished_run_show_before_the_first_run(tmp_path, toy_config):
    path = tmp_path / 'variants.json'
    path.write_text(json.dumps([dict(name=name, config=str(toy_config)) for name in 'ab']))
    (tmp_path / 'out/b/seed_0').mkdir(parents=True)
    (tmp_path / 'out/b/seed_0/scores.json').write_text(json.dumps(dict(segm=dict(statistics=scores(.4)))))
    with pytest.raises(UserError, match=r'b/seed_0/result\.pkl\.json: is missing, but --baseline a compares it; remove '
                                        r'.*/scores\.json'):
        main([str(path), '--out', str(tmp_path / 'out'), '--gpus', '0', '--seeds', '0', '--baseline', 'a'])
    assert not (tmp_path / 'out/a').exists()


def test_runs_with_other_settings_are_not_mixed(tmp_path, monkeypatch, toy_config):
    path, out = tmp_path / 'variants.json', tmp_path / 'out'
    fails = True

    def run_job(variant, seed, folder, *_):
        if fails:
            raise UserError('no such option')
        place = compare.run_folder(folder, variant, seed) / 'last_checkpoint'
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text('epoch_1.pth')
        return scores(.3)

    def run(*arguments, **changes):
        path.write_text(json.dumps([dict(name='a', config=str(toy_config)) | changes]))
        return main([str(path), '--out', str(out), '--gpus', '0', '--seeds', '0', *arguments])

    monkeypatch.setattr(compare, 'run_job', run_job)
    assert run(cfg_options=['train_cfg.max_epochs=3']) == 1
    fails = False
    assert run() == run(title='another title') == 0  # nothing was kept of the run that failed
    for arguments, changes, words in ((('--amp',), {}, 'amp=False'),
                                      ((), dict(cfg_options=['train_cfg.max_epochs=3']), r'cfg_options=\[\]')):
        with pytest.raises(UserError, match=f"out/a: holds runs of variant 'a' with {words}; choose another --out"):
            run(*arguments, **changes)
    assert run(name='b', cfg_options=['train_cfg.max_epochs=3']) == 0
    (out / 'a/settings.json').unlink()  # runs of an earlier version, whose settings are not known
    assert run('--amp') == 0 and not (out / 'a/settings.json').exists()


def test_a_column_has_the_difference_to_the_baseline(tmp_path, monkeypatch, capsys):
    square = dict(size=[2, 2], counts='04')
    (tmp_path / 'ann.json').write_text(json.dumps(dict(
        videos=[dict(id=i, width=2, height=2, length=1, file_names=[f'{i}.jpg']) for i in (1, 2)],
        categories=[dict(id=1, name='a')],
        annotations=[dict(id=i, video_id=i, category_id=1, iscrowd=0, segmentations=[square], bboxes=[[0, 0, 2, 2]],
                          areas=[4]) for i in (1, 2)])))

    def run_job(variant, seed, out, gpu, amp):
        folder = compare.run_folder(out, variant, seed)
        folder.mkdir(parents=True)
        found = {'a': [], 'b': [1, 2], 'c': [1, 2] if seed else []}[variant.name]
        (folder / 'result.pkl.json').write_text(json.dumps([
            dict(video_id=video, score=.5, category_id=1, segmentations=[square]) for video in found]))
        return scores(.5)

    monkeypatch.setattr(compare, 'run_job', run_job)
    monkeypatch.setattr(compare, 'check_data', lambda variant: None)
    monkeypatch.setattr(compare, 'annotation_file', lambda variant: str(tmp_path / 'ann.json'))
    path, command = tmp_path / 'variants.json', ['--gpus', '0', '--seeds', '0', '1', '--baseline']
    path.write_text(json.dumps([dict(name=name, config=CONFIG) for name in 'abc']))
    with pytest.raises(UserError, match='--baseline d: is not among the variants that are run: a, b, c'):
        main([str(path), '--out', str(tmp_path / 'out'), *command, 'd'])
    assert main([str(path), '--out', str(tmp_path / 'out'), *command, 'a']) == 0
    table = (tmp_path / 'out/table.md').read_text().splitlines()
    assert table[0].endswith('| APho | AP minus a (95 %) |') and table[2].endswith('| - | - |')
    assert table[3].endswith('| +100.0 (+100.0 to +100.0) |') and table[4].endswith('| +50.0 (+50.0 to +50.0) |')


@pytest.mark.parametrize('only', [None, ['b', 'a'], ['b']])
def test_a_variant_may_test_the_weights_of_another(tmp_path, monkeypatch, toy_config, only):
    calls = []

    def call(words, log, env):
        calls.append([Path(words[0]).stem, log.parent.parent.name])
        if words[0] == 'train.py':
            (log.parent / 'last_checkpoint').write_text(f'{log.parent}/epoch_1.pth\n')
        elif words[0] == 'test_video.py':
            calls[-1] += [str(Path(words[2]).relative_to(tmp_path / 'out')), words[words.index('--cfg_options') + 1]]
        else:
            (log.parent / 'scores.json').write_text(json.dumps(dict(segm=dict(statistics=scores(.4)))))

    monkeypatch.setattr(compare, '_call', call)
    path, config = tmp_path / 'variants.json', str(toy_config)
    path.write_text(json.dumps([
        dict(name='a', config=config, cfg_options=['train_cfg.val_interval=5']),
        dict(name='b', config=config, weights_of='a', cfg_options=['model.bbox_head.test_cfg.score_thr=0.2'])]))
    assert main([str(path), '--out', str(tmp_path / 'out'), '--gpus', '0', '--seeds', '0', '1',
                 *(['--only', *only] if only else [])]) == 0
    tests = [call[2:] for call in calls if call[:2] == ['test_video', 'b']]
    assert tests == [[f'a/seed_{seed}/epoch_1.pth', 'model.bbox_head.test_cfg.score_thr=0.2'] for seed in (0, 1)]
    assert [call for call in calls if call[0] == 'train'] == [['train', 'a']] * 2
    assert '--cfg_options train_cfg.val_interval=5' in (tmp_path / 'out/table.md').read_text().split('# b')[1]


def test_gpus_have_the_names_that_the_environment_gives_them(monkeypatch):
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    assert (compare.visible_gpus(0), compare.visible_gpus(2)) == ([None], ['0', '1'])
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,5')
    assert compare.visible_gpus(2) == ['3', '5']
    assert compare.visible_gpus(None) == ['3']
    with pytest.raises(UserError, match='--gpus 3: there are 2 GPUs'):
        compare.visible_gpus(3)
    monkeypatch.setattr('torch.cuda.device_count', lambda: 0)
    assert compare.visible_gpus(None) == [None]


def test_a_file_as_folder_is_one_line(tmp_path):
    (tmp_path / 'table').write_text('')
    with pytest.raises(UserError, match=r'--out .*table.* cannot be written'):
        main(['configs/comparisons/toy_textured.json', '--out', str(tmp_path / 'table'), '--gpus', '0', '--only',
              'memcnp', '--amp', 'True'])


@pytest.mark.slow
def test_sigterm_ends_the_runs_too(tmp_path, toy_config):
    variants = tmp_path / 'variants.json'
    variants.write_text(json.dumps([dict(name='long', config=str(toy_config),
                                         cfg_options=['train_cfg.max_epochs=1000'])]))
    command = [sys.executable, 'tools/analysis_tools/compare.py', str(variants), '--out', str(tmp_path / 'out'),
               '--gpus', '0', '--seeds', '0']
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as run:
        log = tmp_path / 'out/long/seed_0/train.txt'
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline and not (log.is_file() and 'Epoch(train)' in log.read_text()):
            time.sleep(0.1)
        run.terminate()
        said = run.stderr.read()
    assert run.returncode == EXIT_PREEMPTED and 'continues from here' in said
    assert len(list(log.parent.glob('iter_*.pth'))) == 1  # complete: the training was waited for
    assert not (tmp_path / 'out/table.md').exists()
