"""Convert video annotations to COCO annotations of frames, the inverse of ``coco_frames``; called by yvis2coco.py."""
from __future__ import annotations

from pycocotools import mask as coco_mask

from mmdet.datasets.packed_annotations import VideoAnnotations


def vis_frames_to_coco(videos: VideoAnnotations) -> dict:
    """Return the content of a COCO file with an image for every frame.

    Images have ``video_id`` and ``frame_id`` (0-based), and annotations the object id as ``instance_id``, so that
    cocoframes2yvis.py can restore the videos. Crowds, which the reader leaves out and counts, are missing.
    """
    images: list[dict] = []
    annotations: list[dict] = []
    for video, video_id in enumerate(videos.video_ids.tolist()):
        height, width = videos.sizes[video].tolist()
        for frame in range(videos.video_length(video)):
            images.append({'id': len(images) + 1, 'file_name': videos.file_name(video, frame), 'height': height,
                           'width': width, 'video_id': video_id, 'frame_id': frame})
            objects = videos.objects(video, frame)
            boxes = objects.bboxes.astype(float)
            boxes[:, 2:] += 1 - boxes[:, :2]  # x1, y1, x2, y2 → x, y, w, h
            for box, label, ident, rle in zip(boxes.tolist(), objects.labels.tolist(), objects.instances_id.tolist(),
                                              objects.rles):
                annotations.append({
                    'id': len(annotations) + 1, 'image_id': len(images), 'category_id': videos.cat_ids[label],
                    'bbox': box, 'area': int(coco_mask.area(rle)), 'iscrowd': 0, 'instance_id': ident,
                    'segmentation': {'size': rle['size'], 'counts': rle['counts'].decode()}})
    categories = [{'id': ident, 'name': name} for ident, name in zip(videos.cat_ids, videos.classes)]
    return {'images': images, 'annotations': annotations, 'categories': categories}
