"""Worlds: pictures, class names and splits. ``load`` finds one by its name, ``world`` says what it is."""
