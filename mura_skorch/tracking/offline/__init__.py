"""Records that a tracking server has not received yet: on disk, sent in the background or later."""
