"""streamsql: a SQL streaming server that speaks the Postgres wire protocol."""

__version__ = "0.1.0"
