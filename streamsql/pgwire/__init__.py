"""The Postgres wire protocol without a socket: messages and their order, values, COPY."""
