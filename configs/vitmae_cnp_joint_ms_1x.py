# The default model trained on YouTube-VIS 2021 and COCO's pseudo-videos together. 8 pairs on each of 4 GPUs.
# For YouTube-VIS 2019 set target='yvis2019', for OVIS 'ovis'. The COCO files may be converted once to read them
# faster:
# python tools/dataset_converters/coco2yvis.py data/coco/annotations/instances_train2017.json --target yvis2021
#     --out FILE
_base_ = [
    './_base_/models/memcnp_vit.py', './_base_/datasets/yvis_ms_640x360.py', './_base_/schedules/sgd_1x.py',
    './_base_/default_runtime.py'
]
model = dict(
    graph_training='auto',
    data_preprocessor=dict(pad_buckets=[(736, 416), (800, 448), (864, 480), (960, 480)]),
    bbox_head=dict(test_cfg=dict(score_thr=0.03)))
default_hooks = dict(activation_memory=dict(type='ActivationMemoryHook', gib_per_item=5))
coco_root = 'data/coco/'
coco_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='LoadTrackAnnotations'),
    dict(type='AffineColourReference'),
    dict(type='RandomResizeClip', scales=[(640, 360), (960, 480)]),
    dict(type='RandomFlipClip', prob=0.5),
    dict(type='PackTrackInputs')
]
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        _delete_=True,
        type='WeightedConcatDataset',
        weights=[1.0, 1.0, 1.0],
        datasets=[
            dict(
                type='YVISDataset',
                data_root=_base_.data_root,
                ann_file='annotations/instances_train.json',
                data_prefix=dict(img_path='train_images'),
                pipeline=_base_.train_pipeline),
            dict(
                type='COCOVIS',
                target='yvis2021',
                data_root=coco_root,
                ann_file='annotations/instances_train2017.json',
                data_prefix=dict(img_path='train2017'),
                pipeline=coco_pipeline),
            dict(
                type='COCOVIS',
                target='yvis2021',
                data_root=coco_root,
                ann_file='annotations/instances_val2017.json',
                data_prefix=dict(img_path='val2017'),
                pipeline=coco_pipeline),
        ]))
optim_wrapper = dict(optimizer=dict(lr=0.005))
auto_scale_lr = dict(base_batch_size=32)
