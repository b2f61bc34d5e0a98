"""tools/vis_eval.py: output, result files and errors."""
import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mmdet.errors import UserError
from mmdet.evaluation.functional import evaluate_vis

ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / 'tests' / 'data' / 'golden' / 'vis_eval_21.json').read_text())


@pytest.fixture
def main():
    spec = importlib.util.spec_from_file_location('vis_eval_command', ROOT / 'tools' / 'vis_eval.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def files(tmp_path):
    for name, content in (('gt', GOLDEN['ground_truth']), ('result', GOLDEN['predictions'])):
        (tmp_path / f'{name}.json').write_text(json.dumps(content))
    return str(tmp_path / 'result.json'), str(tmp_path / 'gt.json')


def test_tables_and_numbers(main, files, tmp_path, capsys):
    assert main([*files, '--metric', 'segm', 'bbox', '--out', str(tmp_path / 'stats.json')]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == 'segm, video AP and AR (%)'
    assert printed[1].split() == ['AP', 'IoU', '.50:.95', '14.16']
    assert any(line.split() == ['class_1', '1', '32.60'] for line in printed)
    assert len({len(line) for line in printed[1:19]}) == 1  # aligned
    numbers = json.loads((tmp_path / 'stats.json').read_text())
    assert list(numbers['segm']['statistics'].values()) == pytest.approx(GOLDEN['ovis'], abs=1e-9)
    assert numbers['segm']['per_category_AP'] == pytest.approx(GOLDEN['ytvis_per_category_ap'], abs=1e-9)
    assert numbers['bbox']['statistics'] == evaluate_vis(*reversed(files), 'bbox').statistics


def test_class_agnostic_scores_one_category(main, files, tmp_path, capsys):
    assert main([*files, '--class_agnostic', '--out', str(tmp_path / 'stats.json')]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith('segm, class-agnostic, video AP and AR (%)') and 'class_1' not in printed
    merged = [[entry | dict(category_id=1) for entry in entries]
              for entries in (GOLDEN['ground_truth']['annotations'], GOLDEN['predictions'])]
    expected = evaluate_vis(GOLDEN['ground_truth'] | dict(annotations=merged[0]), merged[1])
    numbers = json.loads((tmp_path / 'stats.json').read_text())['segm']
    assert numbers == dict(statistics=expected.statistics, per_category_AP={'1': expected.statistics['AP']})


def test_archive(main, files, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / 'result.zip', 'w') as archive:
        archive.write(files[0], 'results.json')
    main(list(files))
    of_json = capsys.readouterr().out
    main([str(tmp_path / 'result.zip'), files[1]])
    assert capsys.readouterr().out == of_json


def test_files_in_the_wrong_order(main, files):
    with pytest.raises(UserError, match=r'result\.json: is a list, not YouTube-VIS annotations'):
        main(list(reversed(files)))


@pytest.mark.parametrize(('content', 'words'), [
    ('gt.json', r'is a string, not a YouTube-VIS result \(a list of tracks\); check the path'),
    (dict(images=[], annotations=[]), 'is an object, .*; it holds annotations; give the result file')])
def test_results_that_are_no_lists(main, files, monkeypatch, content, words):
    monkeypatch.chdir(Path(files[0]).parent)  # a string is not the path of a result
    Path(files[0]).write_text(json.dumps(content))
    for arguments in ([], ['--common-videos']):
        with pytest.raises(UserError, match=rf'result\.json: {words}'):
            main([*files, *arguments])


@pytest.mark.slow
def test_a_bad_file_is_one_line_and_status_2(files):
    Path(files[0]).write_text('[{"video_id": 1}]')
    command = [sys.executable, 'tools/vis_eval.py', *files]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.count('\n') == 1
    assert f'{files[0]}: entry 0: category_id None must be an integer' in run.stderr
