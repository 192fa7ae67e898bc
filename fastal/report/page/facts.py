"""What is known of the runs that made the picks, as a table."""

from collections.abc import Sequence

from fastal.report.page.named_picks import NamedPicks
from fastal.report.page.svg import number, plain_text

_ARGUMENTS = ("by", "kind", "temperature", "noise", "seed", "ties", "per_group")  # of interest


def facts(given: Sequence[NamedPicks]) -> str:
    """A table with a column for each file of picks. What is not known is left out."""
    known = [_known(of) for of in given]
    names = list(dict.fromkeys(name for of in known for name in of))
    head = "".join(f'<th scope="col">{plain_text(of.name)}</th>' for of in given)
    body = "".join(
        f'<tr><th scope="row">{name}</th>'
        + "".join(f"<td>{plain_text(of.get(name, ''))}</td>" for of in known)
        + "</tr>"
        for name in names
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Facts of the run"><table>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _known(of: NamedPicks) -> dict[str, str]:
    """What is known of picks, as text by name."""
    found = {"picks": f"{len(of.picks):,}"}
    if of.strategy is not None:
        found["strategy"] = of.strategy
    if len(of.scores):
        found["scores"] = f"{number(float(of.scores.min()))} to {number(float(of.scores.max()))}"
    if of.invalid or of.record:
        found["invalid rows left out"] = f"{of.invalid:,}"
    record = of.record
    if "rows" in record:
        found["rows read"] = f"{record['rows']:,}"
    arguments = record.get("arguments", {})
    if isinstance(by := arguments.get("by"), dict):  # a score with its own arguments
        arguments = {**by, **arguments}
    given = [
        f"{name} {arguments[name]}"
        for name in _ARGUMENTS
        if name in arguments and not isinstance(arguments[name], (dict, list))
    ]
    if given:
        found["arguments"] = ", ".join(given)
    if record.get("pool"):
        files = [str(file["file"]) for file in record["pool"]]
        more = f" and {len(files) - 3:,} more" if len(files) > 3 else ""
        found["pool"] = ", ".join(files[:3]) + more
    if record.get("backend"):
        found["backend"] = str(record["backend"])
    if "versions" in record:
        found["fastal"] = str(record["versions"].get("fastal"))
    return found
