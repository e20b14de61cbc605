"""The two towers of a CLIP, opened: learned vectors go in, and nothing is computed twice."""
