"""tools/analysis_tools/error_analysis.py: what it prints and writes, which files it takes, and how it refuses."""
import json
import re

import numpy as np
import pytest

from mmdet.errors import UserError
from mmdet.evaluation.frame_results import FrameResult, track_entries
from mmdet.evaluation.result_files import write_results
from mmdet.structures.masks import encode_masks
from mmdet.structures.vis_json import Video
from tools.analysis_tools.error_analysis import main

SIZE = 40


def square(x):
    mask = np.zeros((1, SIZE, SIZE), np.uint8)
    mask[0, :10, x:x + 10] = 1
    return encode_masks(mask)[0]['counts'].decode()


def frame(ids, places, labels, uncertain):
    """A frame of a result: squares at x = ``places``, boxes exact."""
    rows = np.array([[x, 0, x + 9, 9, .8, *([.1] * 4 + [.5] if uncertain else [])] for x in places], np.float32)
    return FrameResult(list(ids), list(labels), rows, [square(x) for x in places])


@pytest.fixture
def files(tmp_path):
    """Annotations of two videos of one object each; a result, in all its forms, with a wrong class for the second."""
    videos = [Video(number, SIZE, SIZE, 3) for number in (1, 2)]
    segmentation = dict(size=[SIZE, SIZE], counts=square(0))
    truth = dict(videos=[dict(id=video.id, height=SIZE, width=SIZE, length=3) for video in videos],
                 categories=[dict(id=7, name='cat'), dict(id=8, name='dog')],
                 annotations=[dict(id=video.id, video_id=video.id, category_id=7, iscrowd=0,
                                   segmentations=[segmentation] * 3) for video in videos])
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    for name, uncertain in (('out', True), ('certain', False)):
        frames = [[frame([4], [0], [label], uncertain)] * 3 for label in (0, 1)]
        write_results(str(tmp_path / f'{name}.pkl'), [
            (video, of_video, track_entries(video, of_video, (7, 8))) for video, of_video in zip(videos, frames)],
            archive=True)
    return tmp_path


@pytest.fixture
def analyse(files, capsys):
    def run(result='out.pkl.json', *arguments):
        assert main([str(files / result), str(files / 'truth.json'), '--out', str(files / 'errors.json'), '--resamples',
                     '20', *arguments]) == 0
        return capsys.readouterr().out, json.loads((files / 'errors.json').read_text())
    return run


def test_tables_and_numbers(analyse):
    printed, numbers = analyse()
    assert printed.startswith('2 videos, 2 objects, 2 tracks; 20 resamples of the videos')
    assert re.search(r'^  AP +50\.5 ', printed, re.MULTILINE) and 'Tracks at IoU .50: 1 matched, 1 class' in printed
    assert re.search(r'^  class +1 +100\.0 +\+49\.5 ', printed, re.MULTILINE)
    assert 'expected calibration error 30.0 %' in printed  # score .8, half of them match
    assert 'Box uncertainties' not in printed and numbers['uncertainties'] is None
    assert numbers['statistics']['AP']['value'] == pytest.approx(51 / 101)
    assert numbers['gains']['class']['mended'] == pytest.approx(1) and numbers['gains']['masks']['gain']['value'] == 0
    assert numbers['scores']['precisions'][0] is None and numbers['against'] is None


@pytest.mark.parametrize('result', ['out.pkl', 'out.pkl.zip', 'certain.pkl'])
def test_every_form_of_a_result_gives_the_same_analysis(analyse, result):
    expected, found = analyse()[1], analyse(result)[1]
    assert (found['uncertainties'] is None) == (result != 'out.pkl')
    assert found | dict(uncertainties=None) == expected


def test_a_pickle_has_uncertainties(analyse):
    printed, numbers = analyse('out.pkl')
    assert 'Box uncertainties as standard deviations, 6 boxes: mean 10.0 % of the image' in printed
    assert numbers['uncertainties']['rms_error'] == 0 and numbers['uncertainties']['rank_correlation'] is None


def test_class_agnostic(analyse):
    printed, numbers = analyse('out.pkl.json', '--class-agnostic')
    assert numbers['statistics']['AP']['value'] == pytest.approx(1) and numbers['kinds']['class'] == 0
    assert 'Tracks at IoU .50: 2 matched\n' in printed


def test_against_another_result(analyse, files):
    entries = json.loads((files / 'out.pkl.json').read_text())
    (files / 'better.json').write_text(json.dumps([entry | dict(category_id=7) for entry in entries]))
    printed, numbers = analyse('out.pkl.json', '--against', str(files / 'better.json'))
    assert f'{files}/better.json minus this result, the same resampled videos (%)' in printed
    header = r'^  corrected +changed +AP +gain +interval +difference of gains +interval$'
    assert re.search(header, printed, re.MULTILINE)
    assert numbers['against']['AP']['value'] == pytest.approx(50 / 101)
    assert numbers['gains']['class']['against']['value'] == pytest.approx(-50 / 101)


def test_videos_without_tracks_are_counted(analyse, files):
    entries = json.loads((files / 'out.pkl.json').read_text())
    (files / 'part.json').write_text(json.dumps(entries[:1]))
    printed = analyse('out.pkl.json', '--against', str(files / 'part.json'))[0]
    assert printed.startswith(f'{files}/part.json: has no tracks in 1 of 2 videos\n2 videos, 2 objects, 2 tracks;')


@pytest.mark.parametrize(('arguments', 'words'), [
    (['--seed', '-1'], r'--seed -1'), (['--resamples', '20001'], r'--resamples 20001: must be at most 20000')])
def test_faults(files, arguments, words):
    with pytest.raises(UserError, match=words):
        main([str(files / 'out.pkl.json'), str(files / 'truth.json'), *arguments])


@pytest.mark.parametrize(('out', 'words'), [
    ('/proc/errors.json', r'--out: /proc/errors\.json cannot be written'),
    ('out.pkl.json', 'would overwrite the file that is read as result'),
    ('truth.json', 'would overwrite the file that is read as annotations'),
    ('out.pkl', 'would overwrite the file that is read as --against')])
def test_the_output_is_refused_before_the_analysis(files, capsys, out, words):
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    with pytest.raises(SystemExit, match='2'):
        main([str(files / 'out.pkl.json'), str(files / 'truth.json'), '--against', str(files / 'out.pkl'), '--out',
              str(files / out)])
    error = capsys.readouterr().err
    assert re.search(words, error) and error.count('\n') == 1
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before


@pytest.mark.parametrize(('result', 'annotations', 'words'), [
    ('truth.json', 'out.pkl.json', r'out\.pkl\.json: .*; results are such lists; give the annotation file'),
    ('truth.json', 'out.pkl', r'out\.pkl: is not JSON but a binary file; check the path'),
    ('truth.json', 'truth.json', r'truth\.json: .*; it holds annotations; give the result file')])
def test_results_and_annotations_in_the_wrong_places(files, result, annotations, words):
    with pytest.raises(UserError, match=words):
        main([str(files / result), str(files / annotations)])


def test_swapped_results_give_opposite_differences(analyse, files):
    entries = json.loads((files / 'out.pkl.json').read_text())
    (files / 'better.json').write_text(json.dumps([entry | dict(category_id=7) for entry in entries]))

    def differences(result, other):
        numbers = analyse(result, '--against', str(files / other))[1]
        return [*numbers['against'].values(), *(gain['against'] for gain in numbers['gains'].values())]

    pairs = zip(differences('out.pkl.json', 'better.json'), differences('better.json', 'out.pkl.json'))
    for found, swapped in pairs:
        assert [found['value'], found['low'], found['high']] == pytest.approx(
            [-swapped['value'], -swapped['high'], -swapped['low']])
    assert {value for entry in differences('out.pkl', 'out.pkl') for value in entry.values()} == {0}


def test_infinite_numbers_are_null_in_json(files, analyse):
    videos = [Video(number, SIZE, SIZE, 3) for number in (1, 2)]
    sure = frame([4], [1], [0], uncertain=True)
    sure.rows[:, 0], sure.rows[:, 5:9] = 0, 0  # an error of one pixel whose uncertainty is 0
    write_results(str(files / 'sure.pkl'), [
        (video, [sure] * 3, track_entries(video, [sure] * 3, (7, 8))) for video in videos])
    printed, numbers = analyse('sure.pkl')
    assert 'error / uncertainty inf' in printed and numbers['uncertainties']['rms_z'] is None


def test_annotations_without_ground_truth(files):
    truth = json.loads((files / 'truth.json').read_text())
    (files / 'truth.json').write_text(json.dumps(truth | dict(annotations=[])))
    with pytest.raises(UserError, match=r'truth\.json: has no annotations'):
        main([str(files / 'out.pkl.json'), str(files / 'truth.json')])


def test_a_track_given_twice(files):
    entries = json.loads((files / 'out.pkl.json').read_text())
    (files / 'twice.json').write_text(json.dumps([*entries, entries[0]]))
    with pytest.raises(UserError, match=r'twice\.json: entry 2 repeats entry 0'):
        main([str(files / 'twice.json'), str(files / 'truth.json')])
