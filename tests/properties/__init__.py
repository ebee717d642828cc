"""Properties that hold for any input: files, images and answers come from strangers."""
