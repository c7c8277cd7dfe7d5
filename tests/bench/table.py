"""What a benchmark says: each figure beside its baseline, measured in the same run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. `good` is None where nothing was promised."""

    what: str
    ours: str
    baseline: str = ""
    bar: str = ""
    good: bool | None = None


def show(title: str, rows: list[Row]) -> None:
    """Print a table of rows."""
    print(f"\n## {title}\n")
    print(f"| {'figure':66} | {'Darkroom':>26} | {'baseline':>30} | {'bar':>16} | {'':4} |")
    print(f"|{'-' * 68}|{'-' * 28}|{'-' * 32}|{'-' * 18}|{'-' * 6}|")
    for row in rows:
        verdict = {None: "", True: "ok", False: "MISS"}[row.good]
        print(
            f"| {row.what:66} | {row.ours:>26} | {row.baseline:>30} | {row.bar:>16} "
            f"| {verdict:4} |",
            flush=True,
        )


def quantile(values: list[float], share: float) -> float:
    """Return the value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
