"""The paper's experiments as runs that can be killed: ``plan`` lists them, ``lab`` does one, ``run`` does many."""
