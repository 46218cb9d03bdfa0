"""PostgreSQL as an origin of changes and as a sink: `source` and `sink`, over one small client of our own (`connection`)."""
