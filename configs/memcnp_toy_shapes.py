# The shipped model, checkpoints/memcnp_toy_shapes.pth: memcnp_toy_textured_improved.py with a finer mask map, trained
# longer, 5,400 steps of 16 pairs, before the recipe got the memory's other options. How the tracker's constants were
# chosen: docs/results.md. checkpoints/README.md has the commands.
_base_ = './memcnp_toy_textured_improved.py'
model = dict(
    bbox_head=dict(
        mask_upsample='subpixel',
        mask_margin=0.1,
        dice_weight=1.0,
        memory=dict(init_units='normal', decay='all', per_level=False),
        # videos have up to six objects, each of which may be detected under several classes
        test_cfg=dict(max_per_img=20, quality_exponent=1.0)),
    tracker=dict(
        match_coeff=(1.0, 10.0, 10.0),
        new_logit=4.0,
        assignment='greedy',
        embedding_momentum=0.5,
        motion=True))
train_dataloader = dict(batch_size=16)
optim_wrapper = dict(optimizer=dict(lr=12e-4))
train_cfg = dict(max_epochs=9, val_interval=9)
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 80, by_epoch=False, begin=0, end=201),
    dict(
        type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=True, begin=0, end=9, T_max=9,
        convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=16)
