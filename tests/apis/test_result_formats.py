"""Results as index masks, MOT, MOTS and JSON lines: from a video, from a test and from a result file, and back."""
import json
import runpy
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from mmengine.structures import InstanceData
from PIL import Image

from mmdet import apis
from mmdet.apis import VideoInferencer, export_result
from mmdet.datasets.packed_annotations import read_youtube_vis
from mmdet.errors import UserError
from mmdet.evaluation import write_results
from mmdet.evaluation.frame_results import FrameResult
from mmdet.structures import DetDataSample
from mmdet.structures.masks import decode_masks, encode_masks
from mmdet.structures.vis_json import Video
from mmdet.video.index_masks import IndexMaskWriter
from mmdet.video.track_text import MotsWriter, MotWriter
from tools import export_result as tool
from tools.analysis_tools.measures.stub_detector import StubDetector

CONVERTERS = Path(__file__).resolve().parents[2] / 'tools' / 'dataset_converters'
HEIGHT, WIDTH = 20, 30


def run(converter, *arguments):
    assert runpy.run_path(str(CONVERTERS / f'{converter}.py'))['main'](list(map(str, arguments))) == 0


def rectangle(x, y, w, h):
    mask = np.zeros((1, HEIGHT, WIDTH), np.uint8)
    mask[0, y:y + h, x:x + w] = 1
    return encode_masks(mask)[0]


def frame(number, *objects, **meta):
    """``objects``: id, label, score and x, y, w, h of a rectangle."""
    sample = DetDataSample(metainfo=dict(source_frame=number, ori_shape=(HEIGHT, WIDTH)) | meta)
    boxes = [[x, y, x + w - 1, y + h - 1] for *_, (x, y, w, h) in objects]
    ids, labels, scores = (np.array([row[place] for row in objects]) for place in range(3))
    sample.pred_track_instances = InstanceData(
        bboxes=np.array(boxes, np.float32).reshape(-1, 4), scores=scores.astype(np.float32), labels=labels.astype(int),
        instances_id=ids.astype(int), masks=[rectangle(*row[3]) for row in objects])
    return sample


def written(writer, *frames):
    for sample in frames:
        writer.add(None, sample)
    writer.close()
    writer.close()


def test_index_masks_show_the_higher_score_in_front(tmp_path):
    written(IndexMaskWriter(tmp_path / 'v', ('cat', 'dog')),
            frame(0, (0, 1, 0.9, (0, 0, 8, 8)), (4, 0, 0.5, (4, 4, 8, 8))), frame(2),
            frame(3, (300, 0, 0.5, (4, 4, 8, 8)), img_path='x/frame7.jpg'))
    with Image.open(tmp_path / 'v' / '00000.png') as image:
        assert image.mode == 'P' and image.getpalette()[:3] == [0, 0, 0]
        index = np.array(image)
    expected = np.zeros((HEIGHT, WIDTH), int)
    expected[4:12, 4:12], expected[:8, :8] = 5, 1
    assert np.array_equal(index, expected)
    assert not np.array(Image.open(tmp_path / 'v' / '00002.png')).any()
    with Image.open(tmp_path / 'v' / 'frame7.png') as image:
        assert image.mode == 'I;16' and np.array(image).max() == 301
    assert json.loads((tmp_path / 'v' / 'meta.json').read_text()) == {'videos': {'v': {'objects': {
        '1': {'category': 'dog'}, '5': {'category': 'cat'}, '301': {'category': 'cat'}}}}}


def test_ids_beyond_16_bits_are_one_line(tmp_path):
    with pytest.raises(UserError, match='object 65536 does not fit into 16 bits'):
        written(IndexMaskWriter(tmp_path / 'v'), frame(0, (65535, 0, 0.5, (0, 0, 2, 2))))


def test_mot_counts_frames_ids_and_pixels_from_1(tmp_path):
    written(MotWriter(tmp_path / 'mot' / 'v.txt'), frame(0, (0, 0, 0.75, (2, 3, 5, 4))), frame(1),
            frame(2, (7, 0, 0.5, (0, 0, 1, 1))))
    assert (tmp_path / 'mot' / 'v.txt').read_text() == (
        '1,1,3.00,4.00,5.00,4.00,0.75000,-1,-1,-1\n3,8,1.00,1.00,1.00,1.00,0.50000,-1,-1,-1\n')


def test_mots_numbers_tracks_by_class_without_overlaps(tmp_path):
    first = frame(0, (5, 0, 0.9, (0, 0, 8, 8)), (6, 1, 0.5, (4, 4, 8, 8)), img_path='a/000012.jpg')
    second = frame(1, (9, 1, 0.9, (0, 0, 8, 8)), (5, 1, 0.5, (9, 9, 2, 2)))
    written(MotsWriter(tmp_path / 'v.txt', (1, 2)), first, second)
    rows = [line.split() for line in (tmp_path / 'v.txt').read_text().splitlines()]
    assert [row[:5] for row in rows] == [['12', '1001', '1', '20', '30'], ['12', '2001', '2', '20', '30'],
                                         ['1', '1001', '1', '20', '30'], ['1', '2002', '2', '20', '30']]
    masks = decode_masks([dict(size=[HEIGHT, WIDTH], counts=row[5]) for row in rows])
    assert masks[0].sum() == 64 and masks[1].sum() == 64 - 16 and not (masks[0] & masks[1]).any()


def test_mots_classes_by_name_and_at_most_999_tracks_of_a_class(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('mmdet.video.track_text.print_log', lambda text, **_: said.append(text))
    objects = [(number, number % 2, 0.5, (number % 30, 0, 1, 1)) for number in range(2004)]
    frames = [frame(place, *objects[place * 20:place * 20 + 20]) for place in range(101)]
    written(MotsWriter(tmp_path / 'v.txt', (7, 8), {'person': 2}, ('dog', 'person')), *frames)
    numbers = {int(line.split()[1]) for line in (tmp_path / 'v.txt').read_text().splitlines()}
    assert min(numbers) == 2001 and max(numbers) <= 2999
    assert len(said) == 1 and 'class 2 has more than 999 tracks' in said[0]


def clip(frames=4):
    return list(np.random.default_rng(0).integers(0, 256, (frames, 72, 128, 3), dtype=np.uint8))


def test_video_as_masks_mot_mots_and_back(tmp_path):
    """The index masks are the objects of the frames, and masks2yvis.py restores the tracks and their categories."""
    inferencer = VideoInferencer(StubDetector())
    frames = [frame for part in inferencer(clip(), out=tmp_path, outputs=['masks', 'mot', 'mots', 'png'], thresh=0.3)
              for frame in part]
    (tmp_path / 'images').mkdir()
    (tmp_path / 'video').rename(tmp_path / 'images' / 'video')
    run('masks2yvis', tmp_path / 'images', tmp_path / 'masks', '--out', tmp_path / 'vis.json', '--meta',
        tmp_path / 'masks')
    read = read_youtube_vis(tmp_path / 'vis.json')
    assert set(read.classes) <= set(inferencer.class_names) and read.video_length(0) == 4
    for number, sample in enumerate(frames):
        expected = sample.pred_track_instances
        objects = read.objects(0, number)
        assert [read.classes[label] for label in objects.labels] == [
            inferencer.class_names[label] for label in expected.labels.tolist()]
        assert np.array_equal(decode_masks(objects.rles), decode_masks(expected.masks))
    assert len((tmp_path / 'mot' / 'video.txt').read_text().splitlines()) == sum(
        len(sample.pred_track_instances) for sample in frames)
    run('mots2yvis', tmp_path / 'images', tmp_path / 'mots', '--out', tmp_path / 'mots.json', '--classes',
        *(f'{number}=class_{number}' for number in inferencer.category_ids))
    again = read_youtube_vis(tmp_path / 'mots.json')
    assert np.array_equal(decode_masks(again.objects(0, 3).rles), decode_masks(read.objects(0, 3).rles))


def test_frames_of_an_image_stack_have_masks_of_their_own(tmp_path):
    pages = [Image.fromarray(image) for image in clip(3)]
    pages[0].save(tmp_path / 'stack.tif', save_all=True, append_images=pages[1:])
    for _ in VideoInferencer(StubDetector())(tmp_path / 'stack.tif', out=tmp_path, outputs=['masks']):
        pass
    assert sorted(path.name for path in (tmp_path / 'masks' / 'stack').glob('*.png')) == [
        f'{number:05d}.png' for number in range(3)]


def test_masks_of_an_earlier_run_are_refused(tmp_path):
    (tmp_path / 'masks' / 'video').mkdir(parents=True)
    (tmp_path / 'masks' / 'video' / '00000.png').touch()
    with pytest.raises(UserError, match='masks/video holds 1 PNG files already'):
        VideoInferencer(StubDetector())(clip(1), out=tmp_path, outputs=['masks'])


def test_json_lines_have_seconds_of_a_given_rate(tmp_path):
    for _ in VideoInferencer(StubDetector())(clip(3), out=tmp_path, outputs=['json'], fps=4):
        pass
    lines = [json.loads(line) for line in (tmp_path / 'video.jsonl').read_text().splitlines()]
    assert [line['time'] for line in lines] == [0, 0.25, 0.5]


def test_frames_as_json_numpy_and_detections():
    inferencer = VideoInferencer(StubDetector())
    part, = inferencer(clip(1), thresh=0.3)
    part[0].set_metainfo(dict(time=1 / 3, dropped=2))
    content = json.loads(json.dumps(inferencer.to_json(part[0])))
    assert content['time'] == 0.333333 and content['dropped'] == 2
    found = part[0].pred_track_instances
    assert json.loads(json.dumps(found.masks)) == [entry['segmentation'] for entry in content['objects']]
    assert content['frame_id'] == 0 and [entry['id'] for entry in content['objects']] == found.instances_id.tolist()
    masks = inferencer.to_masks(part[0])
    assert masks.dtype == bool and masks.shape == (len(found), 72, 128)
    assert np.array_equal(masks, decode_masks(found.masks))
    supervision = pytest.importorskip('supervision')
    detections = inferencer.to_supervision(part[0])
    assert isinstance(detections, supervision.Detections) and len(detections) == len(found)
    assert detections.tracker_id.tolist() == found.instances_id.tolist()
    assert detections['class_name'].tolist() == [inferencer.class_names[label] for label in found.labels.tolist()]
    assert np.array_equal(detections.mask, masks)
    assert np.allclose(detections.xyxy[:, 2:] - detections.xyxy[:, :2], found.bboxes[:, 2:] - found.bboxes[:, :2] + 1)


def test_frames_without_objects_convert_too():
    inferencer = VideoInferencer(StubDetector(objects=0))
    part, = inferencer(clip(1))
    assert json.dumps(inferencer.to_json(part[0])) and inferencer.to_masks(part[0]).shape == (0, 72, 128)
    pytest.importorskip('supervision')
    assert len(inferencer.to_supervision(part[0])) == 0


def test_without_supervision_one_line_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'supervision', None)
    inferencer = VideoInferencer(StubDetector())
    part, = inferencer(clip(1))
    with pytest.raises(UserError, match=r'to_supervision needs the package supervision, .*pip install supervision=='):
        inferencer.to_supervision(part[0])


@pytest.fixture
def masks_of_a_data_set(tmp_path):
    """Folders of images and index masks of two videos."""
    for name, number in (('cats', 1), ('dogs', 3)):
        for kind in ('images', 'masks'):
            (tmp_path / kind / name).mkdir(parents=True)
        for place in range(2):
            index = np.zeros((HEIGHT, WIDTH), np.uint8)
            index[2:8, place:place + 9], index[10:14, 3:9] = number, number + 1
            Image.fromarray(index).save(tmp_path / 'masks' / name / f'{place:05d}.png')
            Image.fromarray(index).convert('RGB').save(tmp_path / 'images' / name / f'{place:05d}.png')
    run('masks2yvis', tmp_path / 'images', tmp_path / 'masks', '--out', tmp_path / 'truth.json')
    truth = json.loads((tmp_path / 'truth.json').read_text())
    result = [dict(entry, score=0.9) for entry in truth['annotations']]
    (tmp_path / 'result.json').write_text(json.dumps(result))
    return tmp_path


def test_a_result_file_as_masks_is_the_inverse_of_masks2yvis(masks_of_a_data_set, capsys):
    root = masks_of_a_data_set
    files = [str(root / 'result.json'), str(root / 'truth.json'), '--out', str(root / 'out')]
    assert tool.main([*files, '--formats', 'masks', 'mot', 'mots', 'jsonl', '--fps', '5']) == 0
    for path in (root / 'masks').glob('*/*.png'):
        before, after = (np.array(Image.open(folder / path.parent.name / path.name))
                         for folder in (root / 'masks', root / 'out' / 'masks'))
        # the tool numbers the objects of a video from 1
        assert np.array_equal(np.unique(before, return_inverse=True)[1].reshape(before.shape), after)
    run('masks2yvis', root / 'images', root / 'out' / 'masks', '--out', root / 'again.json', '--meta',
        root / 'out' / 'masks')
    before, after = (json.loads((root / name).read_text()) for name in ('truth.json', 'again.json'))
    assert after == before
    lines = [json.loads(line) for line in (root / 'out' / 'jsonl' / 'dogs.jsonl').read_text().splitlines()]
    assert [line['time'] for line in lines] == [0, 0.2] and len(lines[0]['objects']) == 2
    assert (root / 'out' / 'mot' / 'cats.txt').read_text().splitlines()[0].startswith('1,1,1.00,3.00,9.00,6.00,0.9')
    assert len((root / 'out' / 'mots' / 'cats.txt').read_text().splitlines()) == 4
    with pytest.raises(UserError, match=r'out/masks: holds files already'):
        tool.main([*files, '--formats', 'masks'])


@pytest.mark.parametrize(('arguments', 'words'), [
    (['--thresh', '2'], '--thresh 2'), (['--fps', '0', '--formats', 'jsonl'], '--fps 0'),
    (['--mots_classes', 'bird=1', '--formats', 'mots'], r'bird: .* has no such category')])
def test_wrong_arguments_of_the_tool(masks_of_a_data_set, arguments, words):
    root = masks_of_a_data_set
    with pytest.raises(UserError, match=words):
        tool.main([str(root / 'result.json'), str(root / 'truth.json'), '--out', str(root / 'out'), *arguments])
    assert not (root / 'out').exists()


def test_formats_of_a_stored_test(toy_config, toy_root, tmp_path):
    """``test_video.py --load_result X.pkl --formats`` writes the objects above the threshold with their ids."""
    truth = json.loads((toy_root / 'annotations/instances_valid.json').read_text())
    names = [Path(video['file_names'][0]).parent.name for video in truth['videos']]
    videos = [Video(video['id'], video['height'], video['width'], len(video['file_names']))
              for video in truth['videos']]
    rows = np.array([[0, 0, 4, 4, 0.9], [8, 8, 9, 9, 0.2]], np.float32)
    counts = [rle['counts'].decode() for rle in encode_masks(np.zeros((2, 96, 160), np.uint8))]
    frames = [FrameResult([3, 7], [0, 1], rows, counts)] * 4
    out = str(tmp_path / 'x.pkl')
    write_results(out, [(video, frames, []) for video in videos])
    cfg = apis.load_config(toy_config)
    assert apis.test(cfg, load_result=out, metrics=(), formats=['masks', 'mot', 'jsonl'], fps=8) == {}
    assert sorted(path.name for path in Path(f'{out}.masks').iterdir()) == sorted(names)
    for name in names:
        lines = (Path(f'{out}.mot') / f'{name}.txt').read_text().splitlines()
        assert lines == [f'{number},4,1.00,1.00,5.00,5.00,0.90000,-1,-1,-1' for number in range(1, 5)]
        seconds = [json.loads(line)['time'] for line in (Path(f'{out}.jsonl') / f'{name}.jsonl').open()]
        assert seconds == [0, 0.125, 0.25, 0.375]
    with pytest.raises(UserError, match=r'x\.pkl\.mot: holds files already'):
        apis.test(cfg, load_result=out, metrics=(), formats=['mot'])
    with pytest.raises(UserError, match='--formats has no effect without --out'):
        apis.test(cfg, 'weights.pth', formats=['mot'])


def test_formats_in_python(masks_of_a_data_set, monkeypatch):
    root, said = masks_of_a_data_set, []
    monkeypatch.setattr('mmdet.apis.exporting.print_log', lambda text, *_: said.append(text))
    folder, = export_result(root / 'truth.json', root / 'result.json', ['mot'], lambda kind: root / kind, thresh=0.95)
    assert [path.read_text() for path in folder.iterdir()] == ['', '']
    assert len(said) == 1 and 'no object has a score above 0.95' in said[0]


@pytest.mark.parametrize(('reader', 'split', 'writer'), [
    ('MotChallenge2DBox', 'MOT17-train', MotWriter),
    ('MOTSChallenge', 'MOTS-train', partial(MotsWriter, category_ids=(2,)))])
def test_trackeval_reads_the_text_files(tmp_path, reader, split, writer):
    """Files of MOTChallenge and MOTS, scored by the official code against themselves as annotations."""
    trackeval = pytest.importorskip('trackeval')
    found = tmp_path / 'found' / split / 'model' / 'data' / 'v.txt'
    written(writer(found), *(frame(number, (0, 0, 0.9, (2 + number, 3, 5, 4)), (4, 0, 0.8, (15, 6, 8, 8)),
                                   img_path=f'v/{number + 1:06d}.jpg') for number in range(4)))
    truth = tmp_path / 'truth' / split / 'v'
    (truth / 'gt').mkdir(parents=True)
    lines = found.read_text()
    if reader == 'MotChallenge2DBox':  # annotations have a flag, a class and a visibility
        lines = ''.join(f'{line.rsplit(",", 4)[0]},1,1,1\n' for line in lines.splitlines())
    (truth / 'gt' / 'gt.txt').write_text(lines)
    quiet = dict(PRINT_RESULTS=False, PRINT_CONFIG=False, TIME_PROGRESS=False, OUTPUT_SUMMARY=False,
                 OUTPUT_DETAILED=False, PLOT_CURVES=False, LOG_ON_ERROR=None)
    data = getattr(trackeval.datasets, reader)(dict(
        GT_FOLDER=str(tmp_path / 'truth'), TRACKERS_FOLDER=str(tmp_path / 'found'), SEQ_INFO={'v': 4},
        PRINT_CONFIG=False, SPLIT_TO_EVAL='train', **({} if reader == 'MOTSChallenge' else {'BENCHMARK': 'MOT17'})))
    scores, _ = trackeval.Evaluator(quiet).evaluate([data], [trackeval.metrics.CLEAR(dict(PRINT_CONFIG=False))])
    clear = scores[data.get_name()]['model']['COMBINED_SEQ']['pedestrian']['CLEAR']
    assert clear['MOTA'] == 1 and clear['CLR_TP'] == 8
