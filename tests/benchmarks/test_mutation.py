"""The changes that test the tests: each in one place, of what computes alone."""

import ast

from benchmarks.mutation import find_mutants

SOURCE = '''
def clip(value: int | None = 3) -> int:
    """Return 1."""
    if value < 0:
        raise ValueError("below 0", -1)
    return max(value, LEAST + 2)
'''


def test_every_change_is_another_program_with_one_place_changed():
    found = {(each.before, each.after) for each in find_mutants(SOURCE)}
    assert found == {
        ("3", "4"),
        ("value < 0", "value <= 0"),
        ("0", "1"),
        ("max", "min"),
        ("LEAST + 2", "LEAST - 2"),
        ("2", "3"),
    }
    original = ast.unparse(ast.parse(SOURCE))
    for each in find_mutants(SOURCE):
        changed = ast.unparse(ast.parse(each.source)).splitlines()
        different = [
            pair for pair in zip(changed, original.splitlines(), strict=True) if len(set(pair)) > 1
        ]
        assert len(different) == 1
