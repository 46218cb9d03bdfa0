"""Window functions in append mode: running aggregates, moving frames, lag and lead, ranks of all rows.

::

    SELECT ts, k, sum(x) OVER (PARTITION BY k ORDER BY ts) FROM s EMIT APPEND
    SELECT ts, k, avg(x) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '5 min' PRECEDING AND CURRENT ROW) ...

The functions are taken out of the query, which then reads an origin (`plan.origins.Over`) that has their values as columns.
That reads the query without them: its keys, orders and arguments are columns of it.

    taking.py     the query's tree taken apart
    windowed.py   the origin that it reads then
    calls.py      what one call is made of
    frames.py     frames, and how far they reach
    stages.py     the plan's SQL
"""
