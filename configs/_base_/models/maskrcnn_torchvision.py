# torchvision's Mask R-CNN with a tracker. How the tracker's constants were chosen: docs/results.md.
model = dict(
    type='TorchvisionTracker',
    name='maskrcnn_resnet50_fpn',
    num_classes=80,
    min_size=800,
    max_size=1333,
    net_args=dict(
        rpn_post_nms_top_n_test=1000, box_score_thresh=0.05, box_nms_thresh=0.5, box_detections_per_img=100),
    data_preprocessor=dict(
        type='TrackDataPreprocessor', mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True, pad_size_divisor=1),
    tracker=dict(
        type='AssociationTracker',
        similarity='cosine',
        temperature=0.1,
        new_logit=6.0,
        match_coeff=(1.0, 20.0, 10.0),
        assignment='greedy',
        max_tracks=500))
