"""The bench: the whole line on embedded parts, beside a bare HTTP client in the same run.

    plan -> stand (PostgreSQL, broker, receiver) -> rounds: yardstick, line, yardstick, line, ... -> report

Everything is real but the ERP. Compare ratios to the yardstick: rates alone say more about the machine than about
relay.
"""
