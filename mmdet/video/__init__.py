"""Videos as streams: frames of any source, results and pictures written as they come. Import from its modules."""
