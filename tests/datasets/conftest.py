"""A toy data set shared by the tests of this folder, which must not change it."""
import json

import pytest

from mmdet.datasets.toy import ToyVIS, make_toy_vis


@pytest.fixture(scope='session')
def toy_set(tmp_path_factory):
    """Folder of a set of 3 training videos of 8 frames and 2 validation videos, 64×48, category ids 4, 5, 6."""
    out = tmp_path_factory.mktemp('toy')
    make_toy_vis(out, ToyVIS(videos=3, val_videos=2, frames=8, size=(64, 48), classes=3, first_category_id=4),
                 progress=False)
    return out


@pytest.fixture
def edited_set(toy_set, tmp_path):
    """Return a function that copies the training annotations with a change, and links the images."""
    def edit(change):
        data = json.loads((toy_set / 'annotations/instances_train.json').read_text())
        change(data)
        (tmp_path / 'annotations').mkdir()
        (tmp_path / 'annotations/instances_train.json').write_text(json.dumps(data))
        (tmp_path / 'train_images').symlink_to(toy_set / 'train_images')
        return tmp_path
    return edit
