"""Other annotation formats to YouTube-VIS JSON and back. Called by tools/dataset_converters."""
