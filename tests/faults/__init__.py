"""A test for every fault in the catalogue, each injecting that very fault."""
