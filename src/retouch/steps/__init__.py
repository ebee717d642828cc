"""What each function does, without AWS: one module for each, named like it, taking its ports."""
