"""Which rows of a result an epoch can change: queries that are kept by running them again for the touched keys only."""
