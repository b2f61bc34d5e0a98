"""Video streams: read frames of any source, write results and pictures frame by frame. Import from its modules."""
