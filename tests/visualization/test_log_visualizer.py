"""The runner's visualizer creates its figure for the first image, and then draws as mmengine's."""
import numpy as np
from mmengine.visualization import Visualizer

from mmdet.registry import VISUALIZERS
from mmdet.visualization import LogVisualizer


def test_images_are_those_of_mmengine():
    image, boxes = np.full((24, 32, 3), 60, np.uint8), np.array([[4, 5, 20, 15]])
    plain, ours = Visualizer(), LogVisualizer()
    assert ours.fig_save_canvas is None
    for visualizer in (plain, ours):
        visualizer.set_image(image)
        visualizer.draw_bboxes(boxes, edge_colors='r')
    found = ours.get_image()
    assert np.array_equal(found, plain.get_image()) and not np.array_equal(found, image)


def test_configs_of_runs_name_it_as_mmengines(tmp_path):
    visualizer = VISUALIZERS.build(dict(type='Visualizer', name='log', save_dir=str(tmp_path),
                                        vis_backends=[dict(type='LocalVisBackend')]))
    assert isinstance(visualizer, LogVisualizer) and Visualizer.get_current_instance() is visualizer
    visualizer.add_scalar('loss', 0.5, 1)
    assert '"loss": 0.5' in (tmp_path / 'vis_data/scalars.json').read_text()
    assert visualizer.fig_save_canvas is None
