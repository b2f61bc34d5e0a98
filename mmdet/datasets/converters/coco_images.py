"""Convert COCO images to videos of one frame in YouTube-VIS form; called by ``COCOVIS`` and coco2yvis.py."""
from __future__ import annotations

from pycocotools import mask as coco_mask

from mmdet.datasets.coco_categories import Target, find_target
from mmdet.datasets.coco_file import CocoFile
from mmdet.datasets.vis_file import VISFile
from mmdet.errors import UserError

MIN_AREA = 10  # pixels; the published code keeps masks of more than 9


def coco_images_to_vis(coco: CocoFile, target: Target = None) -> VISFile:
    """Convert each image with at least one usable object to a video of one frame.

    Crowds, objects whose category is not mapped to one of the target, masks of less than :data:`MIN_AREA` pixels, and
    images without remaining objects are left out.

    Args:
        coco: the file, see :func:`~mmdet.datasets.coco_file.check_coco`.
        target: video data set whose categories are used, see :func:`~mmdet.datasets.coco_categories.find_target`; None:
            the categories of the file.

    Raises:
        UserError: the target is unknown or does not fit the file, a mask is damaged, or no object remains.
    """
    video_set = find_target(target, coco.categories, coco.path)
    if video_set is None:
        categories = [{'id': category['id'], 'name': category['name']} for category in coco.categories]
        category_of = {category['id']: category['id'] for category in categories}
    else:
        categories = [{'id': index, 'name': name} for index, name in enumerate(video_set.names, 1)]
        category_of = video_set.from_coco
    described = target if isinstance(target, str) else ', '.join(target or ()) or coco.path
    file = VISFile(categories, f'converted from COCO images, categories of {described}')
    for ident, image in coco.images.items():
        wanted = [not annotation.get('iscrowd') and annotation['category_id'] in category_of
                  for annotation in coco.annotations[ident]]
        if not any(wanted):
            continue
        objects = [(category_of[annotation['category_id']], rle)
                   for annotation, rle, use in zip(coco.annotations[ident], coco.masks(ident), wanted)
                   if use and rle and coco_mask.area(rle) >= MIN_AREA]
        if objects:
            file.add_video([image['file_name']], image['height'], image['width'])
            for category_id, rle in objects:
                file.add_track(category_id, [rle])
    if not file.content['videos']:
        raise UserError(f'{coco.path} has no object of a category of {described}; check target')
    return file
