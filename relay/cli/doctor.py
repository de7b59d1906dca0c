"""`relay doctor`: how everything is, and what to do about what is not well."""

from typing import Annotated

import typer

from relay.cli.options import AsJson, Data
from relay.cli.running import with_relay
from relay.cli.shown import document, line, table


def doctor(
    *,
    every: Annotated[bool, typer.Option("--all", help="Show what is well, too.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> int:
    """Look at database, tables, workers, clock, broker, keys, waiting work, and each connection and endpoint.

    Nothing is changed, no ERP is asked and no webhook sent. Ends with 1 when something is in trouble.
    """
    from relay.cli.program import Code
    from relay.control.findings import Verdict

    found = with_relay(data, lambda relay: relay.examine())
    if as_json:
        document(found)
    else:
        shown = [each for each in found.findings if every or each.verdict is not Verdict.WELL]
        rows = [(each.verdict, each.subject, each.says, each.advice) for each in shown]
        table(("", "subject", "found", "what to do"), rows, empty="everything is well")
        if well := len(found.findings) - len(shown):
            line(f"{well} more {'is' if well == 1 else 'are'} well: --all shows them")
    return Code.FAILED if found.verdict is Verdict.TROUBLE else Code.DONE
