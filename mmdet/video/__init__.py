"""Videos as streams: frames from any source, results and pictures on disk as they come. Import from its modules."""
