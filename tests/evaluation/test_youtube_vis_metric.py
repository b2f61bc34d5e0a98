"""The metric as mmengine uses it: files, scores, several processes, interrupts."""
import json
import os
import tracemalloc
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData

from mmdet.errors import UserError
from mmdet.evaluation import YouTubeVISMetric, evaluate_vis
from mmdet.registry import METRICS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.masks import encode_masks

HEIGHT, WIDTH, CATEGORY_IDS = 24, 32, (40, 2, 31)
# ids neither sorted nor from 1 on; the last video has a single frame
LENGTHS = {7: 4, 3: 3, 11: 5, 5: 1}


def objects_of(video_id, frame_id):
    """Return masks (n, h, w), labels and ids of two objects; the second is absent in every third frame."""
    masks = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    masks[0, 2:12, 2 + frame_id:10 + frame_id] = 1
    masks[1, 12:20, 20 - frame_id:28 - frame_id] = 1
    count = 1 if frame_id % 3 == 2 else 2
    return masks[:count], [video_id % 3, 1][:count], [0, 4][:count]


def annotation_file(path, annotated=True):
    videos = [dict(id=i, height=HEIGHT, width=WIDTH, file_names=[f'{i}/{f}.jpg' for f in range(n)])
              for i, n in LENGTHS.items()]
    content = dict(videos=videos, categories=[dict(id=i, name=f'class {i}') for i in CATEGORY_IDS])
    if annotated:
        content['annotations'] = []
        for video_id, length in LENGTHS.items():
            for place in range(2):
                frames = [objects_of(video_id, frame) for frame in range(length)]
                masks = [encode_masks(masks[place:place + 1])[0] if place < len(masks) else None
                         for masks, _, _ in frames]
                content['annotations'].append(dict(
                    id=len(content['annotations']) + 1, video_id=video_id,
                    category_id=CATEGORY_IDS[frames[0][1][place]], iscrowd=0,
                    segmentations=[mask and dict(size=mask['size'], counts=mask['counts'].decode()) for mask in masks],
                    bboxes=[[2 + f, 2, 8, 10] if place == 0 else [20 - f, 12, 8, 8] if masks[f] else None
                            for f in range(length)]))
    path.write_text(json.dumps(content))
    return str(path)


def frame_sample(video_id, frame_id, shape=(HEIGHT, WIDTH)):
    masks, labels, ids = objects_of(video_id, frame_id)
    rng = np.random.default_rng(video_id * 100 + frame_id)
    boxes = torch.tensor([[2 + frame_id, 2, 9 + frame_id, 11], [20 - frame_id, 12, 27 - frame_id, 19]]).float()
    sample = DetDataSample(metainfo=dict(video_id=video_id, frame_id=frame_id, video_length=LENGTHS.get(video_id, 1),
                                         ori_shape=shape, img_path=f'{video_id}/{frame_id}.jpg'))
    sample.pred_track_instances = InstanceData(
        bboxes=boxes[:len(ids)], scores=torch.from_numpy(rng.random(len(ids)).astype(np.float32)),
        labels=torch.tensor(labels), instances_id=torch.tensor(ids), masks=encode_masks(masks),
        uncertainties=torch.rand(len(ids), 4, generator=torch.Generator().manual_seed(frame_id)),
        centerness=torch.full((len(ids),), .5))
    return sample


def clips(video_id, clip_len=2):
    for first in range(0, LENGTHS[video_id], clip_len):
        frames = range(first, min(first + clip_len, LENGTHS[video_id]))
        yield TrackDataSample(video_data_samples=[frame_sample(video_id, frame) for frame in frames])


def run(metric, video_ids=LENGTHS, clip_len=2):
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = dict(classes=tuple(f'class {i}' for i in CATEGORY_IDS))
    size = 0
    for video_id in video_ids:
        for clip in clips(video_id, clip_len):
            evaluator.process([clip])
            size += 1
    return evaluator.evaluate(size)


@pytest.fixture
def ann_file(tmp_path):
    return annotation_file(tmp_path / 'annotations.json')


@pytest.fixture
def messages(monkeypatch):
    """What the metric logs."""
    logged = []
    monkeypatch.setattr('mmdet.evaluation.metrics.youtube_vis_metric.print_log', lambda text, **_: logged.append(text))
    return logged


def test_perfect_tracks_score_1_and_files_are_written(tmp_path, ann_file):
    out = tmp_path / 'results' / 'x.pkl'
    metric = METRICS.build(dict(type='YouTubeVISMetric', ann_file=ann_file, metric=['segm', 'bbox'], out=str(out),
                                dump_bbox=True, zip=True))
    statistics = run(metric)
    assert len(statistics) == 24
    for name in ('segm_AP', 'segm_AP50', 'segm_AR100', 'bbox_AP', 'bbox_AP75'):
        assert statistics[name] == pytest.approx(1)
    assert sorted(os.listdir(out.parent)) == ['x.pkl', 'x.pkl.json', 'x.pkl.zip']
    for metric in ('segm', 'bbox'):
        assert evaluate_vis(ann_file, f'{out}.json', metric).statistics['AP'] == statistics[f'{metric}_AP']


def test_order_of_videos_and_length_of_clips_change_nothing(tmp_path, ann_file):
    contents = []
    for name, order, clip_len in (('a', [7, 3, 11, 5], 1), ('b', [5, 11, 3, 7], 2), ('c', [3, 5, 7, 11], 100)):
        out = tmp_path / f'{name}.pkl'
        statistics = run(YouTubeVISMetric(ann_file, out=str(out)), order, clip_len)
        contents.append((out.read_bytes(), (tmp_path / f'{name}.pkl.json').read_bytes(), statistics))
    assert contents[0] == contents[1] == contents[2]


def test_clips_of_several_videos_in_one_batch(tmp_path, ann_file):
    metric = YouTubeVISMetric(ann_file)
    for pair in zip(clips(7), clips(3)):
        metric.process(None, [clip.to_dict() for clip in pair])
    for video_id in (11, 5):
        metric.process(None, [clip.to_dict() for clip in clips(video_id)])
    assert metric.evaluate(0)['segm_AP'] == pytest.approx(1)


def test_without_ground_truth_the_result_is_written_all_the_same(tmp_path, messages):
    unannotated = annotation_file(tmp_path / 'test.json', annotated=False)
    assert run(YouTubeVISMetric(unannotated, out=str(tmp_path / 'x.pkl'))) == {}
    assert len(json.loads((tmp_path / 'x.pkl.json').read_text())) == 8
    assert 'has no annotations, so nothing is scored' in messages[-1]


def test_a_metric_is_used_epoch_after_epoch(ann_file):
    metric = YouTubeVISMetric(ann_file, prefix='val')
    assert run(metric, clip_len=1) == run(metric, clip_len=1)
    assert run(metric)['val/segm_AP'] == pytest.approx(1)


def test_untested_videos_count_as_empty(tmp_path, ann_file, messages):
    statistics = run(YouTubeVISMetric(ann_file, out=str(tmp_path / 'x.pkl')), [7, 3, 5])
    assert messages[0].startswith('not tested, counted as empty: 1 of 4 videos')
    assert 0 < statistics['segm_AP'] < 1
    assert YouTubeVISMetric(ann_file).score_file(str(tmp_path / 'x.pkl')) == statistics


def test_nothing_found_scores_0(ann_file):
    assert YouTubeVISMetric(ann_file).evaluate(0)['segm_AP'] == 0


def test_a_result_is_scored_again(tmp_path, ann_file):
    first, again = tmp_path / 'x.pkl', tmp_path / 'y.pkl'
    statistics = run(YouTubeVISMetric(ann_file, ['segm', 'bbox'], out=str(first)))
    assert YouTubeVISMetric(ann_file, ['segm', 'bbox'], out=str(again)).score_file(str(first)) == statistics
    assert first.read_bytes() == again.read_bytes()
    with pytest.raises(UserError, match='holds 13 frames'):
        other = tmp_path / 'other.json'
        content = json.loads(Path(ann_file).read_text())
        content['videos'].append(dict(id=99, height=5, width=5, length=2))
        other.write_text(json.dumps(content))
        YouTubeVISMetric(str(other)).score_file(str(first))


def test_an_interrupt_keeps_the_finished_videos(tmp_path, ann_file, messages):
    metric = YouTubeVISMetric(ann_file, out=str(tmp_path / 'x.pkl'))
    for clip in (*clips(3), *clips(7), next(clips(11))):
        metric.process(None, [clip.to_dict()])
    written = metric.write_partial()
    assert written == [str(tmp_path / 'x.partial.pkl'), str(tmp_path / 'x.partial.pkl.json')]
    entries = json.loads((tmp_path / 'x.partial.pkl.json').read_text())
    assert [entry['video_id'] for entry in entries] == [7, 7, 3, 3]
    assert 'Interrupted after 2 of 4 videos' in messages[-1]
    assert not (tmp_path / 'x.pkl').exists()
    # a process killed while writing leaves an incomplete line
    with open(tmp_path / 'x.pkl.parts' / 'rank_0.jsonl', 'a') as part:
        part.write('11 4 [[0],[1')
    assert metric.write_partial() == written
    # the next run starts anew and removes the parts
    assert run(YouTubeVISMetric(ann_file, out=str(tmp_path / 'x.pkl')))['segm_AP'] == pytest.approx(1)
    assert not (tmp_path / 'x.pkl.parts').exists()


def test_write_partial_before_anything_was_tested(ann_file):
    assert YouTubeVISMetric(ann_file, out='x.pkl').write_partial() == []


def test_a_frame_without_predictions_is_empty(tmp_path, ann_file):
    metric = YouTubeVISMetric(ann_file, out=str(tmp_path / 'x.pkl'))
    sample = frame_sample(5, 0)
    del sample.pred_track_instances
    metric.process(None, [dict(video_data_samples=[sample])])
    metric.evaluate(1)
    assert json.loads((tmp_path / 'x.pkl.json').read_text()) == []


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(metric='masks'), "metric 'masks' is none of segm, bbox"), (dict(out='x.json'), r'x\.json: must end in \.pkl'),
    (dict(ann_file='none.json'), r'none\.json: cannot be read'),
])
def test_bad_arguments(ann_file, arguments, message):
    with pytest.raises(UserError, match=message):
        YouTubeVISMetric(**dict(ann_file=ann_file) | arguments)


def test_videos_and_categories_of_another_data_set(ann_file):
    metric = YouTubeVISMetric(ann_file)
    with pytest.raises(UserError, match='categories are not the data set'):
        metric.dataset_meta = dict(classes=('a', 'b', 'c'))
    for sample in (frame_sample(99, 0), frame_sample(5, 0, shape=(10, 10))):
        with pytest.raises(UserError, match=r'0\.jpg: video \d+ of size'):
            metric.process(None, [dict(video_data_samples=[sample])])


def test_memory_does_not_grow_with_the_frames(tmp_path):
    """3,000 frames: only their positions in the part file are in memory, which are much smaller than results."""
    length = 3_000
    path = tmp_path / 'long.json'
    path.write_text(json.dumps(dict(videos=[dict(id=5, height=HEIGHT, width=WIDTH, length=length)],
                                    categories=[dict(id=i, name=str(i)) for i in CATEGORY_IDS])))
    metric, sample = YouTubeVISMetric(str(path)), frame_sample(5, 0)
    tracemalloc.start()
    for frame_id in range(length):
        sample.set_metainfo(dict(frame_id=frame_id))
        metric.process(None, [dict(video_data_samples=[sample])])
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 2e5


def _one_rank(rank, world_size, port, ann_file, out, results):
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(world_size),
                      LOCAL_RANK=str(rank))
    dist.init_process_group('gloo', rank=rank, world_size=world_size, timeout=timedelta(seconds=60))
    mine = {0: [11], 1: [7, 5, 3], 2: []}[rank]
    results[rank] = run(YouTubeVISMetric(ann_file, out=out), mine)
    try:
        YouTubeVISMetric(ann_file, ['bbox'], out=f'{ann_file}/impossible.pkl').evaluate(0)
    except UserError as error:
        results[f'error {rank}'] = str(error)
    dist.destroy_process_group()


def test_three_processes_give_the_same_bytes_as_one(tmp_path, ann_file):
    """One of them without any video; an error of the first reaches all."""
    alone = run(YouTubeVISMetric(ann_file, out=str(tmp_path / 'one.pkl')))
    with mp.get_context('spawn').Manager() as manager:
        results = manager.dict()
        port = 20000 + os.getpid() % 20000
        mp.spawn(_one_rank, (3, port, ann_file, str(tmp_path / 'three.pkl'), results), nprocs=3)
        results = dict(results)
    assert results[0] == results[1] == results[2] == alone
    for ending in ('', '.json'):
        assert (tmp_path / f'one.pkl{ending}').read_bytes() == (tmp_path / f'three.pkl{ending}').read_bytes()
    assert not (tmp_path / 'three.pkl.parts').exists()
    assert 'impossible.pkl' in results['error 0'] == results['error 1'] == results['error 2']


@pytest.mark.parametrize(('bad', 'words'), [(4, r'no frame of .*annotations\.json could be read \(4 '), (3, None)])
def test_a_test_without_one_readable_frame_is_an_error(tmp_path, caplog, bad, words):
    """``on_bad_frame='skip'`` continues without unreadable frames; an AP of 0 would suggest a bad model."""
    metric = YouTubeVISMetric(annotation_file(tmp_path / 'annotations.json'))
    samples = [frame_sample(7, frame) for frame in range(4)]
    for sample in samples[:bad]:
        sample.set_metainfo(dict(bad_frame=True))
    metric.process(None, [dict(video_data_samples=samples)])
    if words:
        with pytest.raises(UserError, match=words):
            metric.evaluate(1)
    else:
        assert metric.evaluate(1)['segm_AP'] > 0


def test_the_metric_scores_tracks_by_their_length_on_request(tmp_path):
    """The second object of each video is absent in every third frame."""
    path = annotation_file(tmp_path / 'truth.json')
    entries = {}
    for exponent in (0.0, 0.5):
        out = tmp_path / f'{exponent}.pkl'
        run(YouTubeVISMetric(path, out=str(out), length_exponent=exponent))
        entries[exponent] = json.loads(out.with_name(f'{out.name}.json').read_text())
    shares = []
    for plain, scaled in zip(entries[0.0], entries[0.5], strict=True):
        present = [mask is not None for mask in plain['segmentations']]
        shares.append(sum(present) / len(present))
        assert scaled['score'] == pytest.approx(plain['score'] * shares[-1] ** 0.5)
        assert scaled['segmentations'] == plain['segmentations']
    assert min(shares) < 1
    with pytest.raises(UserError, match='length_exponent must be a number of at least 0, not -1'):
        YouTubeVISMetric(path, length_exponent=-1)
