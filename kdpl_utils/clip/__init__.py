"""CLIP from the inside: its words, and its two towers with learned vectors in them."""
