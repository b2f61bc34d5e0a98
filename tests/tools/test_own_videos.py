"""The tutorial docs/own_videos.md works as written: its bash blocks run in order on toy videos in DAVIS's layout."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmdet.datasets.packed_annotations import read_youtube_vis
from mmdet.datasets.toy import ToyVIS, make_toy_vis
from mmdet.structures.masks import decode_masks
from tests.helpers.processes import with_search_path

ROOT = Path(__file__).resolve().parents[2]


def make_own_data(folder, scratch):
    """Frames, index masks and meta.json of 5 toy videos."""
    spec = ToyVIS(videos=5, val_videos=0, frames=3, classes=3, easy=True)
    toy = read_youtube_vis(make_toy_vis(scratch, spec, progress=False)['train'])
    (scratch / 'train_images').rename(folder / 'frames')
    meta = {}
    for video in range(len(toy.video_ids)):
        for frame in range(toy.video_length(video)):
            path = folder / 'masks' / Path(toy.file_name(video, frame)).with_suffix('.png')
            path.parent.mkdir(parents=True, exist_ok=True)
            objects, index = toy.objects(video, frame), np.zeros(toy.sizes[video], np.uint8)
            for ident, rle in zip(objects.instances_id, objects.rles):
                index[decode_masks([rle])[0] > 0] = ident
            Image.fromarray(index).save(path)
            for ident, label in zip(objects.instances_id.tolist(), objects.labels.tolist()):
                numbers = meta.setdefault(path.parent.name, dict(objects={}))['objects']
                numbers[str(ident)] = dict(category=toy.classes[label])
    (folder / 'meta.json').write_text(json.dumps(dict(videos=meta)))


@pytest.mark.slow
def test_tutorial(tmp_path):
    for name in ('tools', 'mmdet', 'train.py', 'test_video.py'):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / 'configs').mkdir()
    for path in (ROOT / 'configs').iterdir():
        (tmp_path / 'configs' / path.name).symlink_to(path)
    (tmp_path / 'data' / 'mine').mkdir(parents=True)
    make_own_data(tmp_path / 'data' / 'mine', tmp_path / 'scratch')
    blocks = re.findall(r'^```bash\n(.*?)^```', (ROOT / 'docs' / 'own_videos.md').read_text(), re.M | re.S)
    script = 'set -e\n' + ''.join(blocks).replace('python ', f'{sys.executable} ')
    environment = os.environ | dict(OMP_NUM_THREADS='1', PYTHONPATH=with_search_path(tmp_path), CUDA_VISIBLE_DEVICES='')
    run = subprocess.run(['bash', '-c', script], cwd=tmp_path, env=environment, capture_output=True, text=True,
                         timeout=500)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert 'no faults in 5 videos' in run.stdout
    assert 'instances_valid.json: 1 video,' in run.stdout and 'AP' in run.stdout + run.stderr
    assert len(list((tmp_path / 'work_dirs' / 'mine' / 'seen').iterdir())) == 10
    result = json.loads((tmp_path / 'work_dirs' / 'mine' / 'result.pkl.json').read_text())
    valid = json.loads((tmp_path / 'data' / 'mine' / 'annotations' / 'instances_valid.json').read_text())
    assert {track['video_id'] for track in result} <= {video['id'] for video in valid['videos']}
