"""Results of a stream: lines, list of tracks, errors."""
import json

import numpy as np
import pytest
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from mmdet.errors import UserError
from mmdet.structures import DetDataSample
from mmdet.video.result_writer import VideoResultWriter


def rle(seed: int) -> dict:
    return coco_mask.encode(np.asfortranarray(np.random.default_rng(seed).integers(0, 2, (6, 8), dtype=np.uint8)))


def frame(source_frame: int, *objects: tuple[int, int, float]) -> DetDataSample:
    """``objects``: id, label, score."""
    sample = DetDataSample(metainfo=dict(source_frame=source_frame))
    ids, labels, scores = zip(*objects) if objects else ((), (), ())
    sample.pred_track_instances = InstanceData(
        bboxes=np.array([[1, 2, 4.25, 6]] * len(ids), np.float32).reshape(-1, 4), scores=np.array(scores, np.float32),
        labels=np.array(labels, int), instances_id=np.array(ids, int), masks=[rle(number) for number in ids])
    return sample


def text(number: int) -> dict:
    mask = rle(number)
    return dict(size=mask['size'], counts=mask['counts'].decode())


@pytest.fixture
def written(tmp_path):
    """Three frames: object 5 in the first and the last, as another class there; object 2 in the middle one."""
    with VideoResultWriter(tmp_path / 'deep' / 'film', (11, 12), ('cat', 'dög')) as writer:
        writer.add(None, frame(10, (5, 0, 0.5)))
        writer.add(None, frame(12, (2, 1, 0.25)))
        writer.add(None, frame(14, (2, 1, 0.75), (5, 0, 0.75)))
    return tmp_path / 'deep'


def test_lines(written):
    lines = [json.loads(line) for line in (written / 'film.jsonl').read_text().splitlines()]
    assert [(line['frame_id'], line['source_frame'], len(line['objects'])) for line in lines] == [
        (0, 10, 1), (1, 12, 1), (2, 14, 2)]
    assert lines[1]['objects'] == [dict(id=2, category_id=12, category='dög', score=0.25, bbox=[1, 2, 4.25, 5],
                                        segmentation=text(2))]


def test_tracks(written):
    assert json.loads((written / 'film.json').read_text()) == [
        dict(video_id=1, category_id=12, score=0.5, segmentations=[None, text(2), text(2)]),
        dict(video_id=1, category_id=11, score=0.625, segmentations=[text(5), None, text(5)])]


def test_most_frequent_class_and_ids_without_a_data_set(tmp_path):
    with VideoResultWriter(tmp_path / 'film') as writer:
        for label in (0, 3, 3):
            writer.add(None, frame(0, (1, label, 0.5)))
    entry, = json.loads((tmp_path / 'film.json').read_text())
    assert entry['category_id'] == 4
    assert 'category' not in json.loads((tmp_path / 'film.jsonl').read_text().splitlines()[0])['objects'][0]


def test_frames_without_objects(tmp_path):
    writer = VideoResultWriter(tmp_path / 'film')
    writer.add(None, frame(0))
    assert json.loads((tmp_path / 'film.jsonl').read_text()) == dict(frame_id=0, source_frame=0, objects=[])
    writer.close()
    writer.close()
    assert json.loads((tmp_path / 'film.json').read_text()) == []


def test_a_folder_that_cannot_be_created(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match=r'film\.jsonl cannot be written'):
        VideoResultWriter(tmp_path / 'file' / 'film')


def test_times_are_kept(tmp_path):
    timed = frame(3, (1, 0, 0.5))
    timed.set_metainfo({'time': 0.1234567})
    with VideoResultWriter(tmp_path / 'film') as writer:
        writer.add(None, timed)
        writer.add(None, frame(4))
    first, second = (json.loads(line) for line in (tmp_path / 'film.jsonl').read_text().splitlines())
    assert list(first) == ['frame_id', 'source_frame', 'time', 'objects'] and first['time'] == 0.123457
    assert 'time' not in second
    assert json.loads((tmp_path / 'film.json').read_text())[0]['segmentations'] == [text(1), None]


def test_nothing_is_written_without_frames(tmp_path):
    with VideoResultWriter(tmp_path / 'new' / 'film'):
        pass
    assert list(tmp_path.iterdir()) == []
