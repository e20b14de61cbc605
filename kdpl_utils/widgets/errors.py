"""Errors that an executed notebook hides in its widgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def widget_errors(notebook: Mapping) -> list[str]:
    """List the errors of a notebook, as nbformat or json reads it: in outputs and in the state of its widgets.

    Returns:
        A line for each: "cell 3 (03-02): ValueError: …"; widgets without a cell by their model id.
    """
    lines = []
    for number, cell in enumerate(notebook.get("cells", [])):
        where = f"cell {number} ({cell.get('id', 'no id')})"
        lines += [f"{where}: {error}" for error in _errors(cell.get("outputs", []))]
    states = notebook.get("metadata", {}).get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    for model, entry in states.get("state", {}).items():
        state = entry.get("state", {})
        lines += [f"widget {model}: {error}" for error in _errors(state.get("outputs") or [])]
        if 'role="alert"' in str(state.get("value", "")):
            lines.append(f"widget {model}: {state['value']}")
    return lines


def _errors(outputs: Sequence[Mapping]) -> list[str]:
    return [f"{o.get('ename')}: {o.get('evalue')}" for o in outputs if o.get("output_type") == "error"]
