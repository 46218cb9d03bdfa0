"""Relations without rows: foreign data: there is none."""

from __future__ import annotations

from streamsql.catalog.relation import table, view

RELATIONS = (
    table(
        2328,
        "pg_foreign_data_wrapper",
        """oid oid, fdwname name, fdwowner oid, fdwhandler oid, fdwvalidator oid, fdwacl aclitem[], fdwoptions text[]""",
    ),
    table(
        1417,
        "pg_foreign_server",
        """oid oid, srvname name, srvowner oid, srvfdw oid, srvtype text, srvversion text, srvacl aclitem[], srvoptions
    text[]""",
    ),
    table(
        3118,
        "pg_foreign_table",
        """ftrelid oid, ftserver oid, ftoptions text[]""",
    ),
    table(
        1418,
        "pg_user_mapping",
        """oid oid, umuser oid, umserver oid, umoptions text[]""",
    ),
    view(
        12327,
        "pg_user_mappings",
        """umid oid, srvid oid, srvname name, umuser oid, usename name, umoptions text[]""",
    ),
)
