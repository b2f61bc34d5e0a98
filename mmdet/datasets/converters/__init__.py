"""Conversion of other annotation formats to YouTube-VIS JSON and back; called by tools/dataset_converters."""
