"""Errors that an executed notebook hides in its widgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def widget_errors(notebook: Mapping) -> list[str]:
    """Errors that an executed notebook hides: in the state of its widgets, and in outputs that look harmless.

    Args:
        notebook: as nbformat or json reads it.

    Returns:
        A line for each: "cell 3 (03-02): ValueError: …"; widgets without a cell by their model id.
    """
    found = []
    for number, cell in enumerate(notebook.get("cells", [])):
        for line in _errors(cell.get("outputs", [])):
            found.append(f"cell {number} ({cell.get('id', 'no id')}): {line}")
    states = notebook.get("metadata", {}).get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    for model, entry in states.get("state", {}).items():
        state = entry.get("state", {})
        found += [f"widget {model}: {line}" for line in _errors(state.get("outputs") or [])]
        if 'role="alert"' in str(state.get("value", "")):
            found.append(f"widget {model}: {state['value']}")
    return found


def _errors(outputs: Sequence[Mapping]) -> list[str]:
    return [f"{o.get('ename')}: {o.get('evalue')}" for o in outputs if o.get("output_type") == "error"]
