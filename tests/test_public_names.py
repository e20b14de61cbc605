"""What ``import kdpl_utils as kd`` offers: every name resolves, editors know the same names, and torch can wait."""

import ast
import subprocess
import sys
from pathlib import Path

import kdpl_utils as kd


def test_every_public_name_resolves_to_something_of_that_name():
    for name in kd.__all__:
        assert getattr(getattr(kd, name), "__name__", name) == name


def test_editors_see_the_same_names():
    stub = ast.parse(Path(kd.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    homes = {a.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for a in node.names}
    assert homes == kd._MODULE_OF


def test_importing_the_package_imports_no_torch():
    code = "import sys, kdpl_utils as kd; assert 'torch' not in sys.modules; kd.fit; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
