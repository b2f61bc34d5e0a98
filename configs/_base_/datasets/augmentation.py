# Augmentation of training clips, docs/augmentation.md. A data set inserts it before the last two steps of its pipeline
# (RandomFlipClip, PackTrackInputs). Each probability is a switch: --cfg-options copy_paste=0 removes the transform.
scale_jitter, scale_range, crop_size = 1.0, (0.5, 1.5), None  # None: the size of the clips
copy_paste, pasted_objects = 0.5, 3
motion = 0.0
photometric, channel_swap = 0.5, 0.0
augmentation = [
    *([dict(type='RandomScaleCropClip', size=crop_size, scale=scale_range, prob=scale_jitter)] if scale_jitter else []),
    *([dict(type='CopyPasteClip', max_objects=pasted_objects, prob=copy_paste)] if copy_paste else []),
    *([dict(type='AffineMotionClip', prob=motion)] if motion else []),
    *([dict(type='PhotometricDistortClip', prob=photometric, channel_prob=channel_swap)]
      if photometric or channel_swap else []),
]
# smallest and largest distance in frames between key and reference frame
ref_range = (1, 5)
