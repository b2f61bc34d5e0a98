# memcnp_mobilenetv2_davis.py with larger inputs, a finer mask map, augmentation, more positive locations and a sharper
# read of the memory. The same 860 steps of 8 pairs.
_base_ = [
    './_base_/models/memcnp_mobilenetv2.py', './_base_/datasets/davis_240p_improved.py',
    './_base_/schedules/adamw_small_real.py', './_base_/default_runtime.py'
]
model = dict(
    bbox_head=dict(
        num_classes=8,
        assigner=dict(top_k=9),
        memory=dict(read_temperature=0.1),
        mask_upsample='subpixel',
        dice_weight=1.0))
default_hooks = dict(checkpoint=dict(interval=10, max_keep_ckpts=1))
