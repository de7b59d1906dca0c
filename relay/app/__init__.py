"""The composition root: settings in, wired parts out, everything opened in one place and closed in turn.

standing   what a process stands on: database, broker, master keys, and where webhooks may go
serving    the HTTP side, and what people do, on a database
working    a worker: leases, runners, consumer, and what goes on beside them
"""
